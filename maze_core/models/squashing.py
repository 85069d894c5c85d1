"""What tanh takes from the entropy of a Gaussian before it: the mean logarithm of its slope, to 1e-5 for any spread.

E log(1 − tanh² u) for u = μ + σ x with a standard normal x. Where σ is small, a Gauss-Hermite sum over x does. Where it
is not, the corner that the function has from afar lies between the nodes; there log(1 − tanh² u) =
2 log 2 − 2 |u| − 2 log(1 + e^−2|u|) is taken apart: the mean of |u| is that of the folded normal, and the rest dies
out with |u| whatever σ is, so that a Gauss-Laguerre sum over |u| does.
"""

from math import log, pi
from typing import Final

import numpy as np

from maze_core.types import FloatArray

_WIDE: Final = -0.25
"""Log σ from which it is taken apart; here both ways are good to 1e-5, their derivatives too."""
_NODES, _WEIGHTS = (x.astype(np.float32)[:, None] for x in np.polynomial.hermite_e.hermegauss(16))
_WEIGHTS /= np.float32((2.0 * pi) ** 0.5)
_TWICE_SIZES, _OF_SIZES = np.polynomial.laguerre.laggauss(16)
_SIZES = (0.5 * _TWICE_SIZES).astype(np.float32)[:, None]
_REST = 0.5 * _OF_SIZES * np.exp(_TWICE_SIZES) * np.log1p(np.exp(-_TWICE_SIZES)) / (2.0 * pi) ** 0.5
_REST = _REST.astype(np.float32)[:, None]
"""What is left of the logarithm at each |u|, times the node's weight and the 1/√(2π) of the density."""
_ERF: Final = (0.254829592, -0.284496736, 1.421413741, -1.453152027, 1.061405429)


def mean_log_slope(mean: FloatArray, log_sigma: FloatArray) -> FloatArray:
    """The mean, and its derivatives by μ and log σ, ``[3, …]``.

    Args:
        mean: μ, ``[…]``.
        log_sigma: log σ, of the same shape.
    """
    found = np.empty((3, *mean.shape), mean.dtype)
    sigma, is_wide = np.exp(log_sigma), log_sigma >= _WIDE
    for chosen, rule in ((~is_wide, _narrow), (is_wide, _wide)):
        if chosen.any():
            found[:, chosen] = rule(mean[chosen], sigma[chosen])
    return found


def _narrow(mean: FloatArray, sigma: FloatArray) -> tuple[FloatArray, ...]:
    # ∂E/∂μ = E(−2 tanh u)      ∂E/∂log σ = E(−2 tanh u · σ x)
    spread = _NODES * sigma
    u = mean + spread
    size = np.abs(u)
    log_slope = 2.0 * (log(2.0) - size - np.log1p(np.exp(-2.0 * size)))
    d_u = -2.0 * _WEIGHTS * np.tanh(u)
    return (_WEIGHTS * log_slope).sum(0), d_u.sum(0), (d_u * spread).sum(0)


def _wide(mean: FloatArray, sigma: FloatArray) -> tuple[FloatArray, ...]:
    # E|u| = σ √(2/π) e^(−z²/2) + μ erf(z/√2) with z = μ/σ      ∂/∂μ = erf(z/√2)      ∂/∂log σ = σ √(2/π) e^(−z²/2)
    z = mean / sigma
    fold = (2.0 / pi) ** 0.5 * np.exp(-0.5 * z * z) * sigma
    sign = _erf(z / 2.0**0.5)
    # the rest by |u|, which has the densities φ(a)/σ and φ(b)/σ of u and −u
    a, b = (_SIZES - mean) / sigma, (_SIZES + mean) / sigma
    at_a, at_b = (_REST * np.exp(-0.5 * at * at) / sigma for at in (a, b))
    rest = (at_a + at_b).sum(0)
    d_mean = (at_a * a - at_b * b).sum(0) / sigma
    d_log_sigma = (at_a * (a * a - 1.0) + at_b * (b * b - 1.0)).sum(0)
    return (
        2.0 * log(2.0) - 2.0 * (fold + mean * sign + rest),
        -2.0 * (sign + d_mean),
        -2.0 * (fold + d_log_sigma),
    )


def _erf(x: FloatArray) -> FloatArray:
    """The error function to 1.5e-7 (Abramowitz and Stegun 1964, 7.1.26)."""
    t = 1.0 / (1.0 + 0.3275911 * np.abs(x))
    tail = np.exp(-x * x) * t * (_ERF[0] + t * (_ERF[1] + t * (_ERF[2] + t * (_ERF[3] + t * _ERF[4]))))
    result: FloatArray = np.copysign(1.0 - tail, x)
    return result
