"""How likely actions with state-dependent noise are, and the gradients of that (gSDE).

Raffin et al. 2021, "Smooth Exploration for Robotic Reinforcement Learning", arXiv:2005.05719, eq. 5 to 9. Arrays stand
``[feature, batch]``: the network gives means μ ``[n, N]`` above features h ``[F, N]``; σ is ``[F, n]``, a parameter. An
action is μ + (σ ∘ ε)ᵀ h, so over all matrices ε it is Gaussian with variance v = (σ²)ᵀ h², ``[n, N]``.
"""

from collections.abc import Callable
from math import log, pi
from typing import Final

import numpy as np

from maze_core.models.heads import MEAN_LIMIT, StateNoiseHead, deviation
from maze_core.types import Array, FloatArray

_LEAST_VARIANCE: Final = 1e-6
"""Added to every variance, which is 0 where all features are."""
_HALF_LOG_2PI: Final = 0.5 * log(2.0 * pi)


def state_noise_scores(
    head: StateNoiseHead, output: FloatArray, action: Array, log_std: FloatArray, d_log_std: FloatArray
) -> tuple[FloatArray, FloatArray, Callable[[FloatArray, FloatArray | None], FloatArray]]:
    """Log-probabilities and entropies ``[N]``, and their pull; see :func:`maze_core.models.dense.scores`.

    The pull gives ∂L/∂μ alone: features are constants to the noise, and learn from the mean, as in Stable-Baselines3.
    Of a head behind tanh the action is what stands before it.

    Args:
        head: the head.
        output: of the network, ``[n + F, N]``.
        action: ``[n, N]``.
        log_std: ``[F · n]``.
        d_log_std: its gradient, to which the pull adds.
    """
    # log π(a) = -Σ ((a - μ)²/v + log v + log 2π)/2      H = Σ (log v + 1 + log 2π)/2
    # ∂/∂μ = (a - μ)/v      ∂log π/∂v = ((a - μ)²/v - 1)/2v      ∂H/∂v = 1/2v      ∂v/∂σ = 2σ h²
    n = head.n_numbers
    std, slope = deviation(log_std.reshape(-1, n), head.use_expln)
    squares = np.square(output[n:])
    variance = (std * std).T @ squares + np.float32(_LEAST_VARIANCE)
    inverse, log_sigma = 1 / variance, 0.5 * np.log(variance)
    mean = _mean(head, output[:n])
    error = action.astype(output.dtype, copy=False) - mean
    z_squared = error * error * inverse

    def pull(d_log_prob: FloatArray, d_entropy: FloatArray | None) -> FloatArray:
        d_variance = (z_squared - 1) * d_log_prob
        if d_entropy is not None:
            d_variance += d_entropy
        d_variance *= 0.5 * inverse
        d_log_std[...] += (2 * std * slope * (squares @ d_variance.T)).reshape(-1)
        d_mean: FloatArray = error * inverse * d_log_prob
        return d_mean * (mean == output[:n]) if head.squashed else d_mean

    log_prob = -np.add.reduce(0.5 * z_squared + log_sigma + _HALF_LOG_2PI, 0)
    return log_prob, np.add.reduce(log_sigma + (0.5 + _HALF_LOG_2PI), 0), pull


def squashed_state_noise(
    head: StateNoiseHead, output: FloatArray, noise: FloatArray, log_std: FloatArray, d_log_std: FloatArray
) -> tuple[FloatArray, FloatArray, Callable[[FloatArray, FloatArray], FloatArray]]:
    """Reparametrised samples behind tanh, their log-probabilities and their pull, features included.

    Args:
        head: the head.
        output: of the network, ``[n + F, N]``.
        noise: ε ``[F, n]``, of all rows.
        log_std: ``[F · n]``.
        d_log_std: its gradient, to which the pull adds.

    Returns:
        Actions ``[n, N]``; log-probabilities ``[N]``; and ∂L/∂action ``[n, N]`` and ∂L/∂log_prob ``[N]`` →
        ∂L/∂output ``[n + F, N]``.
    """
    # x = (σ ∘ ε)ᵀ h      u = μ + x      a = tanh u      log π = -Σ (x²/2v + log(v)/2 + log(2π)/2 + log(1 - a²))
    # log(1 - tanh² u) = 2 (log 2 - |u| - log(1 + e^-2|u|)), whose slope by u is -2 a
    n = head.n_numbers
    std, slope = deviation(log_std.reshape(-1, n), head.use_expln)
    features, matrix = output[n:], std * noise
    squares, std_squared = features * features, std * std
    variance = std_squared.T @ squares + np.float32(_LEAST_VARIANCE)
    inverse = 1 / variance
    mean, x = _mean(head, output[:n]), matrix.T @ features
    u = mean + x
    action, size = np.tanh(u), np.abs(u)
    log_slope = 2.0 * (log(2.0) - size - np.log1p(np.exp(-2.0 * size)))
    z_squared = x * x * inverse
    log_prob = -np.add.reduce(0.5 * (z_squared + np.log(variance)) + _HALF_LOG_2PI + log_slope, 0)

    def pull(d_action: FloatArray, d_log_prob: FloatArray) -> FloatArray:
        d_u = d_action * (1.0 - action * action) + 2.0 * action * d_log_prob
        d_x = d_u - x * inverse * d_log_prob
        d_variance = 0.5 * inverse * (z_squared - 1) * d_log_prob
        d_std = (features @ d_x.T) * noise + 2 * std * (squares @ d_variance.T)
        d_log_std[...] += (d_std * slope).reshape(-1)
        d_features = matrix @ d_x + 2 * features * (std_squared @ d_variance)
        return np.concatenate((d_u * (mean == output[:n]), d_features))

    return action, log_prob, pull


def _mean(head: StateNoiseHead, output: FloatArray) -> FloatArray:
    """Means that a limit holds, where tanh follows."""
    return output.clip(-MEAN_LIMIT, MEAN_LIMIT) if head.squashed else output
