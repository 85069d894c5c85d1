"""Episodes that begin in the middle: a few random actions after each reset, so that beginnings differ."""

import copy
from collections.abc import Sequence
from typing import Annotated, Any, TypeAlias

import numpy as np
from gymnasium import spaces
from pydantic import Field

from maze_core.config.settings import dataclass
from maze_core.envs.vector import Tick, VectorEnv
from maze_core.envs.wrappers.stepping import StepLayer, raw_reward
from maze_core.envs.wrappers.wrapper import STRICT, Actions, Spaces, Wrapper
from maze_core.events.declared import EpisodeValues
from maze_core.types import Array, BoolArray, mask_name

_Steps: TypeAlias = Annotated[int, Field(ge=0, le=10_000)]


@dataclass(kw_only=True, eq=False, config=STRICT)
class RandomResetWrapper(Wrapper):
    """Take random steps after each reset, as many as are drawn; they pay nothing and no time passes with them.

    No statistic counts them. The draws of an environment follow from its seed. An episode that ends meanwhile is
    followed by the next one.
    """

    min_initial_steps: _Steps = 0
    """Sub-steps to take at least."""
    max_initial_steps: _Steps = 8
    """Sub-steps to take at most."""

    def __post_init__(self) -> None:
        if self.min_initial_steps > self.max_initial_steps:
            raise ValueError("min_initial_steps must not be above max_initial_steps")

    def stepping(self, env: VectorEnv) -> VectorEnv:
        """Random steps first."""
        return _Shuffled(env, self)


class _Shuffled(StepLayer):
    def __init__(self, env: VectorEnv, wrapper: RandomResetWrapper) -> None:
        super().__init__(env, type(wrapper).__name__)
        self._wrapper = wrapper
        self._draws = [_Draws(self.action_spaces) for _ in range(self.n_envs)]
        self._before = np.zeros(self.n_envs), np.zeros(self.n_envs, np.int64)
        """What the random steps of each episode paid, and the time that passed with them."""
        self._ended: list[tuple[int, EpisodeValues]] = []

    def reset(self, seeds: Sequence[int | None], rows: BoolArray | None = None) -> Tick:
        for row, seed in enumerate(seeds):
            if seed is not None and (rows is None or rows[row]):
                self._draws[row].seed(seed)
        super().reset(seeds, rows)
        self._shuffle(np.ones(self.n_envs, np.bool_) if rows is None else rows)
        self._tick.flat_step = self._tick.flat_step - self._before[1]
        return self._tick

    def step(self, actions: Actions) -> Tick:
        return self._stepped(self.env.step(actions), np.ones(self.n_envs, np.bool_))

    def step_rows(self, actions: Actions, rows: BoolArray) -> Tick:
        return self._stepped(self.env.step_rows(actions, rows), rows)

    def take_ended(self) -> list[tuple[int, EpisodeValues]]:
        taken, self._ended = self._ended, []
        return taken + super().take_ended()

    def _stepped(self, inner: Tick, rows: BoolArray) -> Tick:
        tick, (paid, passed) = self._tick, self._before
        self._begin_step()
        self._add(inner, rows)
        self._show(inner)
        if (ended := tick.ended).any():
            tick.episode_return[ended] -= paid[ended]
            tick.episode_length[ended] -= passed[ended]
            self._shuffle(ended)
        tick.flat_step = tick.flat_step - passed
        return tick

    def _shuffle(self, rows: BoolArray) -> None:
        """Take the random steps of episodes that begin."""
        paid, passed = self._before
        paid[rows], passed[rows] = 0.0, 0
        self._ended += self.env.take_ended()
        low, high = self._wrapper.min_initial_steps, self._wrapper.max_initial_steps
        left = np.zeros(self.n_envs, np.int64)
        left[rows] = [self._draws[row].rng.integers(low, high + 1) for row in np.flatnonzero(rows)]
        while (running := left > 0).any():
            inner = self.env.step_rows(self._random_actions(running), running)
            paid[running] += raw_reward(self.env, inner)[running]
            paid[inner.ended & running] = 0.0
            passed[running] = inner.flat_step[running]
            left[running] -= 1
            self._show(inner)
        if self.event_interfaces:
            self.env.begin_statistics(rows)
            self.env.take_ended()  # episodes of random steps alone

    def _random_actions(self, rows: BoolArray) -> Actions:
        actions = {
            key: {
                head: np.zeros((self.n_envs, *(leaf.shape or ())), leaf.dtype) for head, leaf in space.items()
            }
            for key, space in self.action_spaces.items()
        }
        for key, active in self._tick.active.items():
            for row in np.flatnonzero(active & rows):
                for head, values in actions[key].items():
                    mask = self._tick.observations[key].get(mask_name(head))
                    values[row] = self._draws[row].one(key, head, None if mask is None else mask[row])
        return actions


class _Draws:
    """The random actions of one environment."""

    def __init__(self, action_spaces: Spaces) -> None:
        self.rng = np.random.default_rng()
        self._leaves: dict[Any, spaces.Space[Any]] = {
            (key, head): copy.deepcopy(leaf)
            for key, space in action_spaces.items()
            for head, leaf in space.items()
        }

    def seed(self, seed: int) -> None:
        """Begin anew."""
        self.rng = np.random.default_rng([int(seed), len(self._leaves)])
        for leaf in self._leaves.values():
            leaf.seed(int(self.rng.integers(2**32)))

    def one(self, key: Any, head: str, mask: Array | None) -> Any:
        """An action for one head."""
        leaf = self._leaves[key, head]
        if mask is None:
            return leaf.sample()
        allowed = (np.asarray(mask).ravel() != 0).astype(np.int8)
        if isinstance(leaf, spaces.Discrete):
            return leaf.sample(mask=allowed)
        if isinstance(leaf, spaces.MultiBinary):
            return leaf.sample() * allowed.reshape(leaf.shape)
        if isinstance(leaf, spaces.MultiDiscrete):
            parts = np.split(allowed, np.cumsum(leaf.nvec.ravel())[:-1])
            return leaf.sample(mask=tuple(parts))
        return leaf.sample()
