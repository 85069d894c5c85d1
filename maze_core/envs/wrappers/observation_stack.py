"""The last observations of an episode side by side, for what a single one does not show, such as speed.

As ``VecFrameStack`` of Stable-Baselines3: along the last axis, oldest first, zeros before the episode began (Mnih et
al. 2015, doi:10.1038/nature14236, stack four). Put it last, above normalisation, which is to see no zeros. Each
environment has one past per sub-step; agents that take turns in a sub-step share it.
"""

from dataclasses import field
from typing import Annotated, ClassVar

import numpy as np
from gymnasium import spaces
from pydantic import Field

from maze_core.config.settings import dataclass
from maze_core.envs.wrappers.box_observations import BoxObservationWrapper
from maze_core.envs.wrappers.wrapper import STRICT, States
from maze_core.types import Array, Observation, StepKey


@dataclass(kw_only=True, eq=False, config=STRICT)
class ObservationStackWrapper(BoxObservationWrapper):
    """Show Box observations with those before them in the episode."""

    is_stateful: ClassVar[bool] = True

    n_stack: Annotated[int, Field(ge=2, le=64)] = 4
    """How many, that of now included."""
    exclude: list[str] = field(default_factory=list)
    """Names of observations that are shown alone."""

    def box(self, name: str, box: spaces.Box) -> spaces.Box:
        """As often along the last axis; 0 is within it."""
        low, high = (np.concatenate([np.atleast_1d(end)] * self.n_stack, -1) for end in (box.low, box.high))
        return spaces.Box(np.minimum(low, 0), np.maximum(high, 0), dtype=box.dtype.type)

    def values(self, name: str, values: Array) -> Array:
        """As an episode begins: zeros, then those of now."""
        now = values[:, None] if values.ndim == 1 else values
        return np.concatenate([np.zeros_like(now)] * (self.n_stack - 1) + [now], -1)

    def observation(
        self, step_key: StepKey, observations: Observation, state: States
    ) -> tuple[Observation, States]:
        """Put the past in front; the state of a row is its past, sub-step and name → array."""
        assert state is not None
        pasts = [dict(past or {}) for past in state]
        observations, _ = super().observation(step_key, observations, None)
        for name in self._names[step_key]:
            stacked = observations[name]
            width = stacked.shape[-1] // self.n_stack
            for row, past in enumerate(pasts):
                if (before := past.get((step_key, name))) is not None:
                    stacked[row, ..., :-width] = before
                past[step_key, name] = stacked[row, ..., width:]
        return observations, pasts
