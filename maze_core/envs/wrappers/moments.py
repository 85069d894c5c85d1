"""Mean, deviation and extremes of numbers that come in small batches."""

import math
from collections.abc import Iterator

import numpy as np

from maze_core.types import Array

_FOLD_EVERY = 512
"""Batches kept before they are folded into the sums, so that adding one costs a copy and no arithmetic."""


class Moments:
    """Gathers numbers; cheap to add to, exact when read."""

    def __init__(self) -> None:
        """Start with no numbers."""
        self._batches: list[Array] = []
        self._count = 0
        self._mean = 0.0
        self._squares = 0.0
        self._low, self._high = math.inf, -math.inf

    def add(self, values: Array) -> None:
        """Add every element; the array is copied."""
        self._batches.append(values.ravel().copy())
        if len(self._batches) >= _FOLD_EVERY:
            self._fold()

    def items(self) -> Iterator[tuple[str, float]]:
        """``count, mean, std, min, max``; nothing when nothing was added."""
        self._fold()
        if self._count:
            yield "count", float(self._count)
            yield "mean", self._mean
            yield "std", math.sqrt(self._squares / self._count)
            yield "min", self._low
            yield "max", self._high

    def _fold(self) -> None:
        """Merge the kept batches (Chan et al. 1979, the pairwise update of mean and squared deviations)."""
        values = np.concatenate(self._batches).astype(np.float64) if self._batches else np.zeros(0)
        self._batches.clear()
        if not values.size:
            return
        mean = float(values.mean())
        total = self._count + values.size
        shift = mean - self._mean
        self._squares += float(((values - mean) ** 2).sum()) + shift**2 * self._count * values.size / total
        self._mean += shift * values.size / total
        self._count = total
        self._low, self._high = min(self._low, float(values.min())), max(self._high, float(values.max()))
