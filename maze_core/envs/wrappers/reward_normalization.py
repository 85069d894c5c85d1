"""Rewards on the scale of their returns, by statistics that follow training.

Each reward is divided by the standard deviation of the discounted return so far, R_t = γ R_{t-1} + r_t, which begins
at 0 with every episode and is counted before its reward is divided (Engstrom et al. 2020, arXiv:2005.12729, section
3). This is the reward half of Stable-Baselines3's ``VecNormalize``, prior included: where the statistics hold nothing
yet, a return of mean 0 and deviation 1 counts as a ten-thousandth of one.

An environment has one return, of all its sub-steps and agents, and γ passes with environment time: between sub-steps
it is 1. The statistics move in training alone; a checkpoint keeps them, and returns in metrics stay the environment's.
"""

import math
from typing import Annotated

import numpy as np
from pydantic import Field

from maze_core.config.settings import dataclass
from maze_core.envs.vector import Tick
from maze_core.envs.wrappers.wrapper import STRICT, Range, Wrapper
from maze_core.types import Array, BoolArray, FloatArray, NamedArrays

_PRIOR = 1e-4
"""How many returns the prior counts as."""
_EPSILON = 1e-8
"""Added to the variance, which may be 0."""


@dataclass(kw_only=True, eq=False, config=STRICT)
class RewardNormalizationWrapper(Wrapper):
    """Divide each reward by the running deviation of the return; episode returns stay those of the raw rewards."""

    gamma: Annotated[float, Field(ge=0.0, le=1.0)] = 0.99
    """Discount of the return whose deviation is taken, that of the algorithm as a rule."""
    clip_range: Range | None = (-10.0, 10.0)
    """``[low, high]`` applied after scaling; None does not clip."""

    def __post_init__(self) -> None:
        self._count, self._mean, self._squares = _PRIOR, 0.0, _PRIOR
        self._return: FloatArray = np.zeros(())
        self._discount: FloatArray = np.zeros(())
        self._flat_step: Array = np.zeros(())

    def see_reward(self, tick: Tick, begins: BoolArray) -> None:
        """Count the returns up to this reward."""
        before = np.where(begins, 0, self._flat_step)
        self._return = np.where(begins, 0.0, self._discount * self._return) + tick.reward
        self._discount = np.where(tick.flat_step == before, 1.0, self.gamma)
        self._flat_step = tick.flat_step.copy()
        # Chan et al. 1979, as FeatureMoments.merged, of numbers
        n = len(self._return)
        mean = self._return.sum() / n
        apart, total = self._return - mean, self._count + n
        shift = mean - self._mean
        self._squares += apart.dot(apart) + shift**2 * self._count * n / total
        self._mean += shift * n / total
        self._count = total

    def reward(self, tick: Tick) -> FloatArray:
        """``[B]`` over the deviation, clipped."""
        scaled: FloatArray = tick.reward / math.sqrt(self._squares / self._count + _EPSILON)
        if self.clip_range is not None:
            low, high = self.clip_range
            scaled = np.minimum(np.maximum(scaled, low), high)
        return scaled

    def state_dict(self) -> dict[str, Array]:
        """``count``, ``mean`` and ``squares``, the sum of squared deviations, of the returns."""
        return {
            "count": np.array(self._count),
            "mean": np.array(self._mean),
            "squares": np.array(self._squares),
        }

    def load_state_dict(self, arrays: NamedArrays) -> None:
        """Take back what ``state_dict`` gave; returns begin anew, with the environments."""
        self._count, self._mean, self._squares = (
            float(arrays[name]) for name in ("count", "mean", "squares")
        )
