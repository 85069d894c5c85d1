"""Quantiles of Student's t distribution, for confidence intervals of a few episodes.

The distribution function is a regularised incomplete beta function (Abramowitz & Stegun 1964, 26.7.1),
computed by its continued fraction (26.5.8) with the modified Lentz method. Quantiles are found by bisection.
"""

import math

_TINY = 1e-300


def t_quantile(probability: float, degrees: int) -> float:
    """The t with P(T ≤ t) = ``probability``.

    Args:
        probability: in [0.5, 1).
        degrees: degrees of freedom, ≥ 1.

    Raises:
        ValueError: an argument is out of range.
    """
    if not 0.5 <= probability < 1 or degrees < 1:
        raise ValueError(f"probability {probability} or degrees {degrees} is out of range")
    low, high = 0.0, 1.0
    while t_distribution(high, degrees) < probability:
        low, high = high, 2 * high
    for _ in range(100):
        middle = (low + high) / 2
        low, high = (middle, high) if t_distribution(middle, degrees) < probability else (low, middle)
    return (low + high) / 2


def t_distribution(t: float, degrees: int) -> float:
    """P(T ≤ t) for t ≥ 0 and ``degrees`` of freedom."""
    return 1 - _incomplete_beta(degrees / (degrees + t * t), degrees / 2, 0.5) / 2


def _incomplete_beta(x: float, a: float, b: float) -> float:
    """The regularised incomplete beta function I_x(a, b)."""
    if x in (0.0, 1.0):
        return x
    log_front = math.lgamma(a + b) - math.lgamma(a) - math.lgamma(b) + a * math.log(x) + b * math.log1p(-x)
    front = math.exp(log_front)
    if x < (a + 1) / (a + b + 2):  # where the fraction converges fast; elsewhere by symmetry
        return front * _fraction(x, a, b) / a
    return 1 - front * _fraction(1 - x, b, a) / b


def _fraction(x: float, a: float, b: float) -> float:
    value, c, d = 1.0, 1.0, 0.0
    for i in range(500):
        m = i // 2
        if i == 0:
            term = 1.0
        elif i % 2 == 0:
            term = m * (b - m) * x / ((a + 2 * m - 1) * (a + 2 * m))
        else:
            term = -(a + m) * (a + b + m) * x / ((a + 2 * m) * (a + 2 * m + 1))
        d = 1 / _nonzero(1 + term * d)
        c = _nonzero(1 + term / c)
        value *= c * d
        if abs(1 - c * d) < 1e-14:
            break
    return value - 1


def _nonzero(value: float) -> float:
    return value if abs(value) > _TINY else _TINY
