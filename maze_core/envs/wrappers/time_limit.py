"""A limit on the length of episodes, for environments that have none or too long a one."""

from collections.abc import Sequence

import numpy as np

from maze_core.config.settings import OptionalPositiveInt, dataclass
from maze_core.envs.vector import Tick, VectorEnv
from maze_core.envs.wrappers.stepping import StepLayer
from maze_core.envs.wrappers.wrapper import STRICT, Actions, Wrapper
from maze_core.events.declared import EpisodeValues
from maze_core.types import BoolArray


@dataclass(kw_only=True, eq=False, config=STRICT)
class TimeLimitWrapper(Wrapper):
    """Truncate episodes at a number of flat steps: what would have come counts as V(last observation)."""

    max_episode_steps: OptionalPositiveInt = None
    """Flat steps after which an episode ends; null (or 0) is no limit. It may be changed at any time."""

    def stepping(self, env: VectorEnv) -> VectorEnv:
        """Steps up to the limit."""
        return _Limited(env, self)


class _Limited(StepLayer):
    def __init__(self, env: VectorEnv, wrapper: TimeLimitWrapper) -> None:
        super().__init__(env, type(wrapper).__name__)
        self._wrapper = wrapper
        self._returns = np.zeros(self.n_envs)
        self._cut: list[tuple[int, EpisodeValues]] = []

    def reset(self, seeds: Sequence[int | None], rows: BoolArray | None = None) -> Tick:
        self._returns[slice(None) if rows is None else rows] = 0.0
        return super().reset(seeds, rows)

    def step(self, actions: Actions) -> Tick:
        return self._limited(self.env.step(actions), np.ones(self.n_envs, np.bool_))

    def step_rows(self, actions: Actions, rows: BoolArray) -> Tick:
        return self._limited(self.env.step_rows(actions, rows), rows)

    def take_ended(self) -> list[tuple[int, EpisodeValues]]:
        taken, self._cut = self._cut, []
        return super().take_ended() + taken

    def _limited(self, inner: Tick, rows: BoolArray) -> Tick:
        tick, limit = self._tick, self._wrapper.max_episode_steps
        self._begin_step()
        self._add(inner, rows)
        self._returns += self.raw_reward
        self._returns[tick.ended] = 0.0
        if limit is not None and (over := rows & ~tick.ended & (inner.flat_step >= limit)).any():
            self._cut_off(inner, over)
            inner = self.env.reset([None] * self.n_envs, over)
        self._show(inner)
        return tick

    def _cut_off(self, inner: Tick, over: BoolArray) -> None:
        tick = self._tick
        tick.truncated |= over
        tick.episode_return[over], tick.episode_length[over] = self._returns[over], inner.flat_step[over]
        tick.final_agent_id[over] = inner.agent_id[over]
        self._returns[over] = 0.0
        for key, active in inner.active.items():
            at = active & over
            tick.final_active[key][at] = True
            for name, values in inner.observations[key].items():
                tick.final_observations[key][name][at] = values[at]
        if self.event_interfaces:
            self._cut += [(int(row), self.env.episode_values(int(row))) for row in np.flatnonzero(over)]
