"""Losses of actor-critic algorithms: pure functions of arrays ``[N]``, and what is told of an update.

A loss is answered together with its gradient ``[N]`` by the argument that learns.
"""

from typing import Final

import numpy as np

from maze_core.types import FloatArray

ROUNDING: Final = 1e-6
"""Relative spread of float32 numbers that is no more than rounding: eight units in the last place."""


def policy_gradient(log_probs: FloatArray, advantages: FloatArray) -> tuple[float, FloatArray]:
    """-mean(log π(a|s) · A), and its gradient by log π(a|s).

    Williams 1992; Mnih et al. 2016, arXiv:1602.01783, section 4.

    Args:
        log_probs: log π(a_n|s_n), ``[N]``.
        advantages: A_n, ``[N]``.
    """
    return -mean(log_probs * advantages), advantages / -len(advantages)


def clipped_surrogate(
    log_probs: FloatArray, old_log_probs: FloatArray, advantages: FloatArray, clip_range: float
) -> tuple[float, FloatArray, FloatArray]:
    """PPO's pessimistic clipped objective, negated.

    Schulman et al. 2017, arXiv:1707.06347, eq. 7. Where both terms of the minimum are equal, as everywhere within the
    range and on its edges, the gradient is that of the unclipped one.

    Args:
        log_probs: log π(a_n|s_n) under the weights of now, ``[N]``.
        old_log_probs: the same under the weights that acted, fixed for the whole update, ``[N]``.
        advantages: A_n, ``[N]``.
        clip_range: ε > 0; the ratio's gain is cut outside [1 - ε, 1 + ε].

    Returns:
        The loss, its gradient by ``log_probs`` ``[N]``, and the log-ratio it was made of, log(new / old) ``[N]``.
    """
    log_ratio = log_probs - old_log_probs
    ratio = np.exp(log_ratio)
    gain = ratio * advantages
    np.minimum(np.maximum(ratio, 1.0 - clip_range, out=ratio), 1.0 + clip_range, out=ratio)
    clipped = np.multiply(ratio, advantages, out=ratio)
    gradient = np.where(gain <= clipped, gain, gain.dtype.type(0)) / -len(gain)
    return -mean(np.minimum(gain, clipped, out=gain)), gradient, log_ratio


def squared_error(values: FloatArray, returns: FloatArray) -> tuple[float, FloatArray]:
    """mean((V(s) - R)²) / 2, both ``[N]``, and its gradient by V(s)."""
    error = values - returns
    return 0.5 * mean(error * error), error / len(error)


def clipped_squared_error(
    values: FloatArray, returns: FloatArray, old_values: FloatArray, clip_range: float, *, pessimistic: bool
) -> tuple[float, FloatArray]:
    """The squared error of values that were clipped around those before the update, and its gradient by V(s).

    Args:
        values: V(s) under the weights of now, ``[N]``.
        returns: R, ``[N]``.
        old_values: V(s) under the weights that acted, fixed for the whole update, ``[N]``.
        clip_range: > 0; values count as no further than this from the old ones.
        pessimistic: take the larger of this error and the unclipped one, row by row, as OpenAI's baselines do (Huang et
            al. 2022, "The 37 implementation details of PPO", detail 9); where both are equal, the gradient is that of
            the unclipped one. Else take the clipped one alone.
    """
    error = values - returns
    step = values - old_values
    clipped = old_values + step.clip(-clip_range, clip_range) - returns
    is_free = np.abs(step) <= clip_range
    if pessimistic:
        is_free |= error * error >= clipped * clipped
    used = np.where(is_free, error, clipped)
    return 0.5 * mean(used * used), np.where(is_free, error, error.dtype.type(0)) / len(error)


def divergence(log_ratio: FloatArray, clip_range: float) -> tuple[float, float]:
    """How far a policy went from the one that acted, from log(new / old), ``[N]``.

    The log-ratio is taken, not the ratio r: where that underflows to 0 its logarithm would be infinite.

    Returns:
        A low-variance, non-negative estimate of KL(old ‖ new), mean(r - 1 - log r) (Schulman 2020, "Approximating KL
        divergence", estimator k3), and the share of the ratios outside [1 - ε, 1 + ε].
    """
    excess = np.expm1(log_ratio)
    n_outside = np.count_nonzero(np.abs(excess) > clip_range)
    return mean(excess - log_ratio), n_outside / len(log_ratio)


def normalized(advantages: FloatArray) -> FloatArray:
    """Advantages ``[N]`` with mean 0 and standard deviation 1.

    Equal ones become 0, also where they are equal up to rounding only, which a division would blow up to ±1. A
    lone one has nothing to be compared with and stays as it is: as 0 it would teach nothing.
    """
    if len(advantages) < 2:
        return advantages
    middle = mean(advantages)
    centred: FloatArray = advantages - middle
    deviation = (float(centred @ centred) / (len(centred) - 1)) ** 0.5
    centred *= (not deviation <= ROUNDING * abs(middle)) / (deviation + 1e-8)
    return centred


def mean(numbers: FloatArray) -> float:
    """Of ``[N]``, in their own precision; NumPy's own takes five times as long."""
    return float(np.add.reduce(numbers)) / len(numbers)
