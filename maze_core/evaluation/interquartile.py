"""Interquartile mean of a few runs and its bootstrap interval, which one lucky or broken seed does not decide.

Agarwal et al. 2021, arXiv:2108.13264, §4.3: of all runs together the middle half is averaged; the interval is that of
resamples in which every task keeps as many runs as it has, by their percentiles. It agrees with the authors' rliable.
"""

import math
from collections.abc import Sequence
from functools import lru_cache

import numpy as np
import numpy.typing as npt

from maze_core.metrics import mean_of

RESAMPLES = 2000
_SEED = 2108_13264
"""Own and fixed: the same runs have the same interval, whoever asks."""


def interquartile_mean(values: Sequence[float]) -> float:
    """Mean without the lowest and the highest quarter, each rounded down; NaN of none, and where one is not finite."""
    if not all(map(math.isfinite, values)):
        return math.nan
    cut = len(values) // 4
    return mean_of(sorted(values)[cut : len(values) - cut])


def interquartile_interval(strata: Sequence[Sequence[float]]) -> tuple[float, float] | None:
    """95 % interval of the interquartile mean of all values.

    Args:
        strata: the values of each task.

    Returns:
        Its ends; None where no task has two values, or where that mean is not finite.
    """
    ordered = sorted(sorted(values) for values in strata)  # so that the order of runs does not matter
    values = [value for stratum in ordered for value in stratum]
    if max(map(len, ordered), default=0) < 2 or not math.isfinite(interquartile_mean(values)):
        return None
    places = sorted(range(len(values)), key=values.__getitem__)
    with np.errstate(over="ignore", invalid="ignore"):
        means = _weights(tuple(map(len, ordered)), tuple(places)) @ np.array(
            [values[place] for place in places]
        )
    return _middle(means) if np.isfinite(means).all() else None


def _middle(values: npt.NDArray[np.float64]) -> tuple[float, float]:
    """What 2.5 % and 97.5 % of the values lie below, interpolated as numpy does; faster, where it is asked often."""
    places = [share * (len(values) - 1) for share in (0.025, 0.975)]
    parts = np.partition(values, [near for place in places for near in (math.floor(place), math.ceil(place))])
    low, high = (
        float(parts[math.floor(place)] + (place % 1) * (parts[math.ceil(place)] - parts[math.floor(place)]))
        for place in places
    )
    return low, high


@lru_cache(maxsize=16)
def _weights(sizes: tuple[int, ...], places: tuple[int, ...]) -> npt.NDArray[np.float64]:
    """What each value counts in the interquartile mean of each resample, ``[resample, value]``.

    Args:
        sizes: of the strata; a resample takes as many values of each as it has.
        places: of the values from the lowest to the highest, where those of the strata lie one behind the other.
    """
    rng = np.random.default_rng(_SEED)
    taken = [rng.multinomial(size, np.full(size, 1 / size), size=RESAMPLES) for size in sizes if size]
    times = np.concatenate(taken, axis=1)[:, places]
    n_values, cut = len(places), len(places) // 4
    upto = np.cumsum(times, axis=1)  # of the resample in order, the value has the places from upto - times on
    kept = upto.clip(cut, n_values - cut) - (upto - times).clip(cut, n_values - cut)
    weights: npt.NDArray[np.float64] = kept / (n_values - 2 * cut)
    return weights
