"""Beta distributions: numbers within bounds, with nothing beyond them that would have to be clipped.

Chou, Maturana and Scherer 2017, "Improving Stochastic Policy Gradients in Continuous Control with Deep Reinforcement
Learning using the Beta Distribution" (ICML). Both concentrations are 1 + softplus(logit), so there is one peak; a
sample lies between -1 and 1. Inside, everything is float64: ln Γ and its slopes are differences of large numbers.
"""

from math import log, pi
from typing import Final, NamedTuple

import numpy as np

from maze_core.types import Array, FloatArray

N_TRIES: Final = 12
"""Candidates per sample, each of two uniform numbers. One is refused with a chance of a quarter at most, so all of them
are with 1 in 10⁷; the last one then stands."""
LOGIT_RANGE: Final = (-10.0, 1e4)
"""Logits are clipped to this range: at its lower end a distribution is uniform to four digits."""
_SHIFT: Final = 8
"""Steps by which an argument of ln Γ is moved to where its series is exact."""
_TERMS: Final = (1 / 12, -1 / 360, 1 / 1260, -1 / 1680, 1 / 1188, -691 / 360360)
"""Of Stirling's series, of 1/x, 1/x³, 1/x⁵ and so on."""


class LogGamma(NamedTuple):
    """ln Γ(x) and its first two derivatives, ψ and ψ'."""

    value: FloatArray
    slope: FloatArray
    curvature: FloatArray


def log_gamma(x: FloatArray) -> LogGamma:
    """Of numbers ≥ 1, to 13 digits: Stirling's series at x + 8, and Γ(x + 1) = x Γ(x) back from there."""
    y = x + _SHIFT
    value = (y - 0.5) * np.log(y) - y + 0.5 * log(2 * pi)
    slope, curvature = np.log(y) - 0.5 / y, 1 / y + 0.5 / y**2
    for i, term in enumerate(_TERMS):
        power = 2 * i + 1
        value += term / y**power
        slope -= power * term / y ** (power + 1)
        curvature += power * (power + 1) * term / y ** (power + 2)
    steps = x + np.arange(_SHIFT).reshape(-1, *[1] * x.ndim)
    value -= np.log(steps).sum(0)
    slope -= (1 / steps).sum(0)
    curvature += (1 / steps**2).sum(0)
    return LogGamma(value, slope, curvature)


def concentrations(logits: FloatArray) -> FloatArray:
    """α above β, as the logits stand."""
    found: FloatArray = 1 + np.logaddexp(0.0, np.clip(logits.astype(np.float64), *LOGIT_RANGE))
    return found


def beta_mean_and_std(logits: FloatArray) -> tuple[FloatArray, FloatArray]:
    """Of samples between -1 and 1, ``[B, n]`` each, from logits ``[B, 2 n]``."""
    alpha, beta = np.split(concentrations(logits), 2, axis=1)
    total = alpha + beta
    return (alpha - beta) / total, 2 * np.sqrt(alpha * beta / (total + 1)) / total


def beta_mode(logits: FloatArray) -> FloatArray:
    """The likeliest numbers ``[B, n]`` between -1 and 1, from logits ``[B, 2 n]``."""
    above, below = np.split(concentrations(logits) - 1, 2, axis=1)
    mode: FloatArray = (above - below) / (above + below)
    return mode.astype(np.float32)


def beta_samples(logits: FloatArray, noise: FloatArray) -> FloatArray:
    """Numbers ``[B, n]`` between -1 and 1: of each, the first candidate that is taken.

    Cheng 1978, "Generating beta variates with nonintegral shape parameters", doi:10.1145/359460.359482, algorithm BB.

    Args:
        logits: ``[B, 2 n]``.
        noise: ``[B, 2 N_TRIES n]``, uniform in [0, 1).
    """
    alpha, beta = (part[..., None] for part in np.split(concentrations(logits), 2, axis=1))
    pairs = np.maximum(noise.reshape(*alpha.shape[:2], 2, N_TRIES), 2.0**-60)
    first, second = pairs[:, :, 0], pairs[:, :, 1]
    low, high, total = np.minimum(alpha, beta), np.maximum(alpha, beta), alpha + beta
    rate = np.sqrt((total - 2) / (2 * alpha * beta - total))
    v = rate * (np.log(first) - np.log1p(-first))
    w = low * np.exp(np.minimum(v, 600.0))
    score = (low + 1 / rate) * v - log(4) + total * np.log(total / (high + w))
    is_taken = score >= np.log(first * first * second)
    at = np.where(is_taken.any(-1), is_taken.argmax(-1), N_TRIES - 1)
    chosen = np.take_along_axis(w, at[..., None], -1)
    share = chosen / (high + chosen)
    drawn: FloatArray = np.where(alpha <= beta, share, 1 - share)[..., 0]
    return (2 * drawn - 1).astype(np.float32)


class BetaScores(NamedTuple):
    """Of actions between -1 and 1, all float64."""

    log_prob: FloatArray
    """``[N]``, summed over numbers."""
    entropy: FloatArray
    """``[N]``, the same."""
    d_log_prob: FloatArray
    """∂log π/∂logits, ``[2 n, N]``."""
    d_entropy: FloatArray
    """∂H/∂logits, ``[2 n, N]``."""


def beta_scores(logits: FloatArray, action: Array) -> BetaScores:
    """How likely actions ``[n, N]`` within (-1, 1) are, for logits ``[2 n, N]``."""
    # y = (a + 1)/2      log π(a) = Σ (α-1) log y + (β-1) log(1-y) - ln B(α, β) - log 2
    # ln B = ln Γ(α) + ln Γ(β) - ln Γ(α+β)          ∂log π/∂α = log y - ψ(α) + ψ(α+β)
    # H = Σ ln B - (α-1) ψ(α) - (β-1) ψ(β) + (α+β-2) ψ(α+β) + log 2
    #                                               ∂H/∂α = (α+β-2) ψ'(α+β) - (α-1) ψ'(α)
    n = len(action)
    both = concentrations(logits)
    y = 0.5 * action.astype(np.float64) + 0.5
    logs = np.concatenate((np.log(y), np.log1p(-y)))
    total = both[:n] + both[n:]
    each, together = log_gamma(both), log_gamma(total)
    log_norm = each.value[:n] + each.value[n:] - together.value
    log_prob = (both - 1) * logs
    weighted = (both - 1) * each.slope
    entropy = log_norm - weighted[:n] - weighted[n:] + (total - 2) * together.slope
    slope = np.exp(-np.logaddexp(0.0, -logits.astype(np.float64)))
    slope *= (logits >= LOGIT_RANGE[0]) & (logits <= LOGIT_RANGE[1])
    return BetaScores(
        (log_prob[:n] + log_prob[n:] - log_norm).sum(0) - n * log(2),
        entropy.sum(0) + n * log(2),
        (logs - each.slope + np.tile(together.slope, (2, 1))) * slope,
        (np.tile((total - 2) * together.curvature, (2, 1)) - (both - 1) * each.curvature) * slope,
    )
