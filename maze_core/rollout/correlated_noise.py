"""Noise on actions that remembers: an Ornstein-Uhlenbeck process per environment, from 0 in every episode."""

from math import sqrt
from typing import Final

import numpy as np

from maze_core.types import Array, BoolArray, FloatArray

_PULL: Final = np.float32(0.15 * 0.01)
"""θ dt: 0.15 as in Lillicrap et al. 2016 (arXiv:1509.02971), section 7; ticks of 0.01 as in Stable-Baselines3."""
_STEP: Final = np.float32(sqrt(0.01))
"""√dt."""


class OrnsteinUhlenbeck:
    """x ← (1 - θ dt) x + √dt ε with every tick; times σ it is the process around 0 with this σ."""

    def __init__(self) -> None:
        self._x: FloatArray = np.zeros((), np.float32)

    def __call__(self, noise: Array, begins: BoolArray) -> FloatArray:
        """The noise of a tick.

        Args:
            noise: standard normal ε, ``[B, n]``.
            begins: ``[B]``: the tick is the first of its episode.
        """
        before = np.where(begins[:, None], np.float32(0), self._x)
        self._x = before - _PULL * before + _STEP * noise
        return self._x
