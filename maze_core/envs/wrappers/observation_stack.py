"""The last observations of an episode together, for what a single one does not show, such as speed.

As ``VecFrameStack`` of Stable-Baselines3: along the last axis, oldest first, zeros before the episode began (Mnih et
al. 2015, doi:10.1038/nature14236, stack four); or along a new first axis, which recurrent and convolutional layers
read as time. Where zeros are not to enter statistics, put it above normalisation. Each environment has one past per
sub-step; agents that take turns in a sub-step share it.
"""

from dataclasses import field
from typing import Annotated, ClassVar, TypeVar

import numpy as np
from gymnasium import spaces
from pydantic import Field

from maze_core.config.settings import dataclass
from maze_core.envs.wrappers.box_observations import BoxObservationWrapper
from maze_core.envs.wrappers.wrapper import STRICT, Spaces, States
from maze_core.errors import EnvError
from maze_core.types import Array, Observation, StepKey

_V = TypeVar("_V")


@dataclass(kw_only=True, eq=False, config=STRICT)
class ObservationStackWrapper(BoxObservationWrapper):
    """Show Box observations with those before them in the episode."""

    is_stateful: ClassVar[bool] = True

    n_stack: Annotated[int, Field(ge=2, le=64)] = 4
    """How many, that of now included."""
    observations: list[str] | None = None
    """Names of the observations that are stacked; null takes every Box but masks."""
    exclude: list[str] = field(default_factory=list)
    """Names of observations that are shown alone."""
    new_axis: bool = False
    """Stack along a new first axis, ``[n_stack, ...]``; else along the last one, side by side."""
    delta: bool = False
    """Show, in place of each observation before that of now, what changed until the next one."""
    keep_original: bool = False
    """Show the observation of now alone, too; the stack then needs a ``tag``."""
    tag: str | None = None
    """The stack is called ``<observation>-<tag>``; null leaves it the name."""

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.keep_original and not self.tag:
            raise ValueError("keep_original needs a tag, which tells the stack from the observation of now")

    def bind(self, observation_spaces: Spaces, action_spaces: Spaces) -> tuple[Spaces, Spaces]:
        """Find the observations to stack, and change their spaces and names."""
        stacked, _ = super().bind(observation_spaces, action_spaces)
        if missing := sorted({*(self.observations or ())}.difference(*self._names.values())):
            raise EnvError(f"ObservationStackWrapper stacks {missing}, and no such Box is observed.")
        renamed = {
            key: spaces.Dict([*self._named(key, observation_spaces[key].spaces, space.spaces).items()])
            for key, space in stacked.items()
        }
        return renamed, action_spaces

    def is_changed(self, name: str) -> bool:
        """Whether an observation is stacked."""
        return self.observations is None or name in self.observations

    def box(self, name: str, box: spaces.Box) -> spaces.Box:
        """As often along the axis; 0 is within it."""
        low, high = box.low, box.high
        dtype = np.promote_types(box.dtype, np.float32) if self.delta else box.dtype
        if self.delta:
            with np.errstate(over="ignore"):  # of bounds that are the limits of their dtype
                spread = high.astype(dtype) - low.astype(dtype)
            low, high = np.minimum(low, -spread), np.maximum(high, spread)
        low, high = (self._side_by_side([end] * self.n_stack) for end in (low, high))
        return spaces.Box(np.minimum(low, 0), np.maximum(high, 0), dtype=dtype.type)

    def values(self, name: str, values: Array) -> Array:
        """As an episode begins: zeros, then those of now; ``[B, n_stack, ...]``."""
        stack = np.zeros((len(values), self.n_stack, *values.shape[1:]), values.dtype)
        stack[:, -1] = values
        return stack

    def observation(
        self, step_key: StepKey, observations: Observation, state: States
    ) -> tuple[Observation, States]:
        """Put the past in front; a row's state is its past, sub-step and name → ``[n, ...]``, oldest first."""
        assert state is not None
        pasts = [dict(past or {}) for past in state]
        stacks, _ = super().observation(step_key, observations, None)
        for name in self._names[step_key]:
            stack, n_before = stacks[name], np.zeros(len(pasts), np.int64)
            for row, past in enumerate(pasts):
                if (before := past.get((step_key, name))) is not None:
                    n_before[row] = len(before)
                    stack[row, -1 - len(before) : -1] = before
                kept = min(int(n_before[row]) + 1, self.n_stack - 1)
                past[step_key, name] = stack[row, -kept:].copy()
            stacks[name] = self._finished(stack, n_before)
        return self._named(step_key, observations, stacks), pasts

    def _finished(self, stack: Array, n_before: Array) -> Array:
        """The stacks as they are shown, of which as many observations before that of now are there."""
        if self.delta:
            stack = stack.astype(np.promote_types(stack.dtype, np.float32), copy=False)
            is_there = np.arange(self.n_stack - 1) >= self.n_stack - 1 - n_before[:, None]
            change = np.diff(stack, axis=1) * is_there.reshape(*is_there.shape, *[1] * (stack.ndim - 2))
            stack = np.concatenate([change, stack[:, -1:]], axis=1)
        return stack if self.new_axis else self._side_by_side(list(stack.swapaxes(0, 1)), axes=1)

    def _side_by_side(self, parts: list[Array], axes: int = 0) -> Array:
        """Parts along the axis that is chosen; ``axes`` stand before those of an observation."""
        if self.new_axis:
            return np.stack(parts, axis=axes)
        return np.concatenate([part[..., None] if part.ndim == axes else part for part in parts], axis=-1)

    def _named(self, key: StepKey, alone: dict[str, _V], stacked: dict[str, _V]) -> dict[str, _V]:
        """By the names under which they are shown."""
        if not self.tag:
            return stacked
        names = self._names[key]
        kept = {name: value for name, value in alone.items() if self.keep_original or name not in names}
        return kept | {f"{name}-{self.tag}": stacked[name] for name in names}
