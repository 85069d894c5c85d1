"""Which trials of a search are given up before their end, by what they and others have reached so far.

A rule looks at learning curves and at nothing else, so that it says the same whoever asks, and when.
"""

import math
from collections.abc import Mapping, Sequence
from statistics import median

from maze_core.config.multirun import OptunaSearchConfig

Curve = Mapping[int, float]
"""Epoch → value of an evaluation; of a trial that was given up, up to that epoch."""

N_STARTUP = 4
"""Trials that the median is made of at least."""
REDUCTION = 3
"""Of so many trials one goes on at each rung; rungs lie so many times further apart."""
N_BRACKETS = 3
"""Brackets of Hyperband: a trial of the second and third is looked at later."""


def pruned_at(config: OptunaSearchConfig, number: int, curves: Mapping[int, Curve]) -> int | None:
    """The epoch at which a trial is given up; None while it goes on.

    Args:
        config: of the search.
        number: of the trial.
        curves: trial → curve, of all trials.
    """
    curves = {trial: {at: _number(value) for at, value in curve.items()} for trial, curve in curves.items()}
    others = {other: curve for other, curve in curves.items() if other != number}
    own = sorted(curves.get(number, {}).items())
    if config.pruner == "median":
        return _below_median(own, list(others.values()), config.min_epochs)
    if config.pruner == "none":
        return None
    bracket = number % N_BRACKETS if config.pruner == "hyperband" else 0
    competing = [
        curve
        for other, curve in others.items()
        if config.pruner != "hyperband" or other % N_BRACKETS == bracket
    ]
    return _not_promoted(own, competing, config.min_epochs * REDUCTION**bracket)


def _below_median(own: Sequence[tuple[int, float]], others: Sequence[Curve], least: int) -> int | None:
    """The best value so far is below the median of what others had reached by then (Golovin et al. 2017)."""
    best = -math.inf
    for epoch, value in own:
        best = max(best, value)
        reached = [_best_until(curve, epoch) for curve in others if curve and max(curve) >= epoch]
        if epoch >= least and len(reached) >= N_STARTUP and not best >= median(reached):
            return epoch
    return None


def _not_promoted(own: Sequence[tuple[int, float]], others: Sequence[Curve], rung: int) -> int | None:
    """It is not among the best third that has come to a rung (asynchronous successive halving, Li et al. 2020)."""
    for epoch, value in own:
        while epoch >= rung:
            reached = [found for curve in others if (found := _first_from(curve, rung)) is not None]
            n_better = sum(found > value for found in reached)
            if not math.isfinite(value) or n_better >= max(1, (len(reached) + 1) // REDUCTION):
                return epoch
            rung *= REDUCTION
    return None


def _number(value: float) -> float:
    """What is no number is worse than every number, with which no comparison would say so."""
    return -math.inf if math.isnan(value) else value


def _best_until(curve: Curve, epoch: int) -> float:
    return max((value for at, value in curve.items() if at <= epoch), default=-math.inf)


def _first_from(curve: Curve, rung: int) -> float | None:
    """What a trial had when it came to a rung."""
    return next((value for epoch, value in sorted(curve.items()) if epoch >= rung), None)
