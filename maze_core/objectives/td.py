"""Losses of algorithms that learn action values from replay: pure functions of arrays.

Each is answered together with its gradient by what learns. Weights ``[N]`` are those of prioritized replay, else 1.
"""

import numpy as np

from maze_core.types import FloatArray


def huber(
    values: FloatArray, targets: FloatArray, weights: FloatArray
) -> tuple[float, FloatArray, FloatArray]:
    """mean(w · h(Q - y)) with h(δ) = δ²/2 up to |δ| = 1 and |δ| - ½ beyond.

    Mnih et al. 2015 clip the error's gradient in the same way (Nature 518, methods).

    Args:
        values: Q(s, a), ``[N]``.
        targets: y, ``[N]``.
        weights: ``[N]``.

    Returns:
        The loss, its gradient by Q ``[N]``, and the errors δ ``[N]``.
    """
    errors = values - targets
    near = np.minimum(np.maximum(errors, -1.0), 1.0)
    loss = weights @ (near * (errors - 0.5 * near))
    return float(loss) / len(errors), weights * near / len(errors), errors


def quantile_huber(
    quantiles: FloatArray, targets: FloatArray, weights: FloatArray
) -> tuple[float, FloatArray, FloatArray]:
    """The quantile regression loss with κ = 1 (Dabney et al. 2017, arXiv:1710.10044, eq. 10), summed over quantiles.

    Args:
        quantiles: θ_i(s, a) at the levels (2 i + 1) / (2 n), ``[n, N]``.
        targets: samples of the return, each as likely, ``[m, N]``.
        weights: ``[N]``.

    Returns:
        The loss, its gradient by the quantiles ``[n, N]``, and the loss of each sample ``[N]`` before its weight.
    """
    n, n_samples = quantiles.shape
    levels = ((np.arange(n, dtype=quantiles.dtype) + 0.5) / n)[:, None, None]
    errors = targets[None] - quantiles[:, None]  # u_ij = y_j - θ_i, [n, m, N]
    near = np.clip(errors, -1.0, 1.0)
    tilt = np.abs(levels - (errors < 0))
    of_samples = (tilt * near * (errors - 0.5 * near)).mean(1).sum(0)
    gradient = -(tilt * near).mean(1) * weights / n_samples
    return float(weights @ of_samples) / n_samples, gradient, of_samples


def squared_td(values: FloatArray, targets: FloatArray) -> tuple[float, FloatArray]:
    """Σ over critics of mean((Q - y)²) / 2, and its gradient by Q, both ``[critics, N]``; the targets are ``[N]``."""
    errors = values - targets
    n = errors.shape[1]
    return 0.5 * float(np.vdot(errors, errors)) / n, errors / n


def polyak(target: FloatArray, online: FloatArray, tau: float) -> None:
    """θ' ← (1 - τ) θ' + τ θ, in place (Lillicrap et al. 2016, arXiv:1509.02971); τ = 1 copies."""
    if tau == 1.0:
        target[...] = online
    else:
        way = online - target
        way *= tau
        target += way
