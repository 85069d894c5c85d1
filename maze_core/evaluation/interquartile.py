"""Interquartile mean of a few runs and its bootstrap interval, which one lucky or broken seed does not decide.

Agarwal et al. 2021, arXiv:2108.13264, §4.3: of all runs together the middle half is averaged; the interval is that of
resamples in which every task keeps as many runs as it has, by their percentiles. It agrees with the authors' rliable.
"""

from collections.abc import Sequence
from functools import lru_cache

import numpy as np
import numpy.typing as npt

RESAMPLES = 2000
_SEED = 2108_13264
"""Own and fixed: the same runs have the same interval, whoever asks."""


def interquartile_mean(values: Sequence[float]) -> float:
    """Mean without the lowest and the highest quarter, each rounded down; NaN of none, and where one is not finite."""
    return (
        float(_middle_means(np.sort(values)[None])[0])
        if len(values) and np.isfinite(values).all()
        else np.nan
    )


def interquartile_interval(strata: Sequence[Sequence[float]]) -> tuple[float, float] | None:
    """95 % interval of the interquartile mean of all values.

    Args:
        strata: the values of each task.

    Returns:
        Its ends; None where no task has two values, or they are not finite.
    """
    ordered = sorted(sorted(values) for values in strata)  # so that the order of runs does not matter
    values = np.array([value for stratum in ordered for value in stratum])
    if max(map(len, ordered), default=0) < 2 or not np.isfinite(values).all():
        return None
    drawn = np.sort(values[_draws(tuple(map(len, ordered)))], axis=1)
    with np.errstate(invalid="ignore"):  # of means that are not finite
        low, high = np.quantile(_middle_means(drawn), (0.025, 0.975))
    return (float(low), float(high)) if np.isfinite([low, high]).all() else None


def _middle_means(ordered: npt.NDArray[np.float64]) -> npt.NDArray[np.float64]:
    """Interquartile mean of each row, ``[resample, value]`` in order."""
    cut = ordered.shape[1] // 4
    with np.errstate(over="ignore", invalid="ignore"):  # too large to be summed: not finite
        means: npt.NDArray[np.float64] = ordered[:, cut : ordered.shape[1] - cut].mean(axis=1)
    return means


@lru_cache(maxsize=32)
def _draws(sizes: tuple[int, ...]) -> npt.NDArray[np.intp]:
    """Places of what each resample takes, ``[resample, value]``: of each stratum as many as it has."""
    rng = np.random.default_rng(_SEED)
    begins = np.cumsum((0, *sizes))
    drawn = [
        begin + rng.integers(size, size=(RESAMPLES, size)) for begin, size in zip(begins, sizes, strict=False)
    ]
    return np.concatenate(drawn, axis=1)
