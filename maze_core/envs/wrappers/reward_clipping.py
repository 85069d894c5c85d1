"""Rewards within fixed limits (Mnih et al. 2015, doi:10.1038/nature14236, clips to -1 and 1)."""

import numpy as np

from maze_core.config.settings import dataclass
from maze_core.envs.vector import Tick
from maze_core.envs.wrappers.wrapper import STRICT, Wrapper
from maze_core.types import FloatArray


@dataclass(kw_only=True, eq=False, config=STRICT)
class RewardClippingWrapper(Wrapper):
    """Clip each reward; episode returns stay those of the raw rewards."""

    min_val: float = -1.0
    """Smallest reward."""
    max_val: float = 1.0
    """Largest reward."""

    def __post_init__(self) -> None:
        if not self.min_val < self.max_val:
            raise ValueError(f"min_val must be below max_val, got {self.min_val} and {self.max_val}")

    def reward(self, tick: Tick) -> FloatArray:
        """``[B]`` within the limits."""
        return np.minimum(np.maximum(tick.reward, self.min_val), self.max_val)
