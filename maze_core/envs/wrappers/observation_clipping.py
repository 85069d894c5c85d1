"""Observations within fixed limits."""

import math
from dataclasses import field

import numpy as np
from gymnasium import spaces

from maze_core.config.settings import dataclass
from maze_core.data.values import value_range
from maze_core.envs.wrappers.box_observations import BoxObservationWrapper
from maze_core.envs.wrappers.wrapper import STRICT, Range
from maze_core.types import Array


@dataclass(kw_only=True, eq=False, config=STRICT)
class ObservationClippingWrapper(BoxObservationWrapper):
    """Clip Box observations to one range; masks are never touched."""

    clip_range: Range = (-10.0, 10.0)
    """``[low, high]`` for every element."""
    exclude: list[str] = field(default_factory=list)
    """Names of observations that stay as they are."""

    def box(self, name: str, box: spaces.Box) -> spaces.Box:
        """Narrowed to the range."""
        low, high = (self.values(name, bound) for bound in (box.low, box.high))
        return spaces.Box(low, high, box.shape, box.dtype.type)

    def values(self, name: str, values: Array) -> Array:
        """Each element within the range, in the dtype it came in."""
        if values.dtype.kind not in "iu":
            return np.clip(values, *self.clip_range).astype(values.dtype, copy=False)
        # in the dtype itself: floats hold no integers beyond 2^53
        least, most = value_range(values.dtype)
        low, high = (math.trunc(min(max(bound, least), most)) for bound in self.clip_range)
        clipped: Array = np.clip(values, low, high)
        return clipped
