"""Rewards times a constant."""

from typing import Annotated

from pydantic import Field

from maze_core.config.settings import dataclass
from maze_core.envs.vector import Tick
from maze_core.envs.wrappers.wrapper import STRICT, Wrapper
from maze_core.types import FloatArray


@dataclass(kw_only=True, eq=False, config=STRICT)
class RewardScalingWrapper(Wrapper):
    """Multiply each reward; episode returns stay those of the raw rewards."""

    scale: Annotated[float, Field(gt=0, allow_inf_nan=False)] = 1.0
    """The factor, > 0."""

    def reward(self, tick: Tick) -> FloatArray:
        """``[B]`` times the factor."""
        return tick.reward * self.scale
