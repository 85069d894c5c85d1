"""Fewer decisions than steps: an action lasts (Mnih et al. 2015, doi:10.1038/nature14236, four frames)."""

from typing import Annotated, Literal

import numpy as np
from gymnasium import spaces
from pydantic import Field

from maze_core.config.settings import dataclass
from maze_core.data.masks import is_allowed, masked_heads
from maze_core.envs.vector import Tick, VectorEnv
from maze_core.envs.wrappers.stepping import StepLayer
from maze_core.envs.wrappers.wrapper import STRICT, Actions, Wrapper
from maze_core.errors import EnvError
from maze_core.types import Array, BoolArray, mask_name


@dataclass(kw_only=True, eq=False, config=STRICT)
class StepSkipWrapper(Wrapper):
    """Take several steps per action and pay the sum of their rewards; an episode that ends, ends the action.

    So does a mask that forbids what would be done next: the policy acts anew.
    Whoever asks a policy for single actions takes as many steps with each.
    """

    n_steps: Annotated[int, Field(ge=1, le=1000)] = 2
    """Steps per action."""
    skip_mode: Literal["sticky", "noop"] = "sticky"
    """Repeat the action, or do nothing: action 0 of choices, 0 of numbers."""

    def stepping(self, env: VectorEnv) -> VectorEnv:
        """Several steps at once."""
        if len(env.action_spaces) > 1 or any(count != 1 for count in env.agent_counts.values()):
            raise EnvError("StepSkipWrapper repeats an action, which needs one sub-step and one agent.")
        return _Skipping(env, self)


class _Skipping(StepLayer):
    def __init__(self, env: VectorEnv, wrapper: StepSkipWrapper) -> None:
        super().__init__(env, type(wrapper).__name__)
        self._wrapper = wrapper
        self._masked = masked_heads(self.observation_spaces, self.action_spaces)
        self._noops = {
            key: {head: _noop(leaf, self.n_envs) for head, leaf in space.items()}
            for key, space in self.action_spaces.items()
        }

    def step(self, actions: Actions) -> Tick:
        return self.step_rows(actions, np.ones(self.n_envs, np.bool_))

    def step_rows(self, actions: Actions, rows: BoolArray) -> Tick:
        self._begin_step()
        inner = self.env.step_rows(actions, rows)
        self._add(inner, rows)
        later = self._noops if self._wrapper.skip_mode == "noop" else actions
        for _ in range(self._wrapper.n_steps - 1):
            rows = rows & ~inner.ended & self._is_allowed(inner, later)
            if not rows.any():
                break
            inner = self.env.step_rows(later, rows)
            self._add(inner, rows)
        self._show(inner)
        return self._tick

    def _is_allowed(self, inner: Tick, actions: Actions) -> BoolArray:
        """``[B]``: whether the masks that are shown allow these actions."""
        allowed = np.ones(self.n_envs, np.bool_)
        for key, heads in self._masked.items():
            for head in heads:
                mask = inner.observations[key][mask_name(head)]
                allowed &= is_allowed(self.action_spaces[key][head], mask, actions[key][head])
        return allowed


def _noop(space: "spaces.Space[object]", n_envs: int) -> Array:
    nothing = np.zeros((n_envs, *(space.shape or ())), space.dtype)
    if isinstance(space, spaces.Box):
        return np.clip(nothing, space.low, space.high)
    return nothing + getattr(space, "start", np.zeros((), space.dtype))
