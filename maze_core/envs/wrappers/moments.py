"""Mean, deviation and extremes of what comes in batches: of each feature, or of all numbers together."""

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Final

import numpy as np

from maze_core.metrics import Histogram
from maze_core.types import Array, FloatArray

_FOLD_EVERY = 512
"""Batches kept before they are folded into the sums, so that adding one costs a copy and no arithmetic."""
_LARGEST = 1e150
"""Numbers beyond it count as this in a histogram, whose range stays finite."""
_LAST_WHOLE = 2**53
"""Up to here float64 holds every whole number."""


@dataclass(frozen=True, slots=True, kw_only=True)
class FeatureMoments:
    """Count ``[1]``; mean, squared deviations and extremes per feature; all float64."""

    count: FloatArray
    mean: FloatArray
    squares: FloatArray
    low: FloatArray
    high: FloatArray

    @classmethod
    def of(cls, rows: Array, axes: tuple[int, ...] = (0,)) -> "FeatureMoments":
        """Of rows ``[n, ...]``, over ``axes``."""
        samples = rows.astype(np.float64)
        mean = samples.mean(axis=axes, keepdims=True)
        return cls(
            count=np.array([samples.size / mean.size]),
            mean=mean[0],
            squares=((samples - mean) ** 2).sum(axis=axes, keepdims=True)[0],
            low=samples.min(axis=axes, keepdims=True)[0],
            high=samples.max(axis=axes, keepdims=True)[0],
        )

    @property
    def std(self) -> FloatArray:
        """Standard deviation per feature."""
        deviation: FloatArray = np.sqrt(self.squares / self.count.item())
        return deviation

    def merged(self, other: "FeatureMoments | None") -> "FeatureMoments":
        """Of both together (Chan et al. 1979, the pairwise update of mean and squared deviations)."""
        if other is None:
            return self
        n, m = self.count.item(), other.count.item()
        shift = other.mean - self.mean
        return FeatureMoments(
            count=self.count + other.count,
            mean=self.mean + shift * (m / (n + m)),
            squares=self.squares + other.squares + shift**2 * (n * m / (n + m)),
            low=np.minimum(self.low, other.low),
            high=np.maximum(self.high, other.high),
        )


def far_reference(rows: Array, axes: tuple[int, ...] = (0,)) -> Array | None:
    """The first of integer rows ``[n, ...]``, over ``axes``, where float64 cannot tell neighbours among them apart."""
    if rows.dtype not in (np.int64, np.uint64) or not ((rows > _LAST_WHOLE) | (rows < -_LAST_WHOLE)).any():
        return None
    first: Array = rows[tuple(slice(1) if axis in axes else slice(None) for axis in range(rows.ndim))][0]
    return first


def difference(rows: Array, reference: Array | None) -> Array:
    """Rows less a reference of their dtype, exactly until the last rounding to float64; without one as they are."""
    if reference is None:
        return rows
    # wraps around where it is beyond int64, and means the same number as uint64
    distance = np.where(rows >= reference, rows - reference, reference - rows).astype(np.uint64)
    return np.where(rows >= reference, 1.0, -1.0) * distance


class Bins:
    """Counts numbers in bins of equal width, whose range doubles where it has to; memory and cost do not grow."""

    N: Final = 64

    def __init__(self) -> None:
        """Start with no range."""
        self._low = self._width = 0.0
        self._counts = np.zeros(self.N, np.int64)

    def add(self, values: FloatArray) -> None:
        """Count finite numbers, at least one."""
        values = values.clip(-_LARGEST, _LARGEST)
        least, most = float(values.min()), float(values.max())
        if not self._width:
            size = max(abs(least), abs(most))
            is_one = most - least <= 1e-9 * size or most - least < 1 / _LARGEST
            self._width = max(1.0, 1e-6 * size) if is_one else most - least
            self._low = (least + most - self._width) / 2
        while least < self._low or most > self._low + self._width:
            self._double(grows_down=least < self._low)
        places = ((values - self._low) * (self.N / self._width)).astype(np.int64)
        self._counts += np.bincount(places.clip(0, self.N - 1), minlength=self.N)

    def histogram(self) -> Histogram:
        """The counts so far."""
        return Histogram(low=self._low, high=self._low + self._width, counts=tuple(self._counts.tolist()))

    def _double(self, *, grows_down: bool) -> None:
        halves = self._counts.reshape(-1, 2).sum(1)
        rest = np.zeros_like(halves)
        self._counts = np.concatenate((rest, halves) if grows_down else (halves, rest))
        self._low -= self._width * grows_down
        self._width *= 2


class Moments:
    """Gathers numbers; cheap to add to, exact when read."""

    def __init__(self) -> None:
        """Start with no numbers."""
        self._batches: list[Array] = []
        self._folded: FeatureMoments | None = None
        self._bins = Bins()

    def add(self, values: Array) -> None:
        """Add every element; the array is copied."""
        self._batches.append(values.ravel().copy())
        if len(self._batches) >= _FOLD_EVERY:
            self._fold()

    def items(self) -> Iterator[tuple[str, float]]:
        """``count, mean, std, min, max``; nothing when nothing was added."""
        self._fold()
        if (found := self._folded) is not None:
            yield "count", found.count.item()
            yield "mean", float(found.mean)
            yield "std", float(found.std)
            yield "min", float(found.low)
            yield "max", float(found.high)

    def histogram(self) -> Histogram | None:
        """How the numbers are distributed; None when nothing was added."""
        self._fold()
        return self._bins.histogram() if self._folded is not None else None

    def _fold(self) -> None:
        batches, self._batches = [batch for batch in self._batches if batch.size], []
        if batches:
            joined = np.concatenate(batches)
            self._folded = FeatureMoments.of(joined).merged(self._folded)
            self._bins.add(joined.astype(np.float64))
