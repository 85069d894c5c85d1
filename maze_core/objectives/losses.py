"""Losses of actor-critic algorithms: pure functions of tensors ``[N]``, each returning a scalar to minimise."""

from typing import Final

import torch
from torch import Tensor

ROUNDING: Final = 1e-6
"""Relative spread of float32 numbers that is no more than rounding: eight units in the last place."""


def policy_gradient(log_probs: Tensor, advantages: Tensor) -> Tensor:
    """-mean(log π(a|s) · A).

    Williams 1992; Mnih et al. 2016, arXiv:1602.01783, section 4.

    Args:
        log_probs: log π(a_n|s_n), ``[N]``, with gradient.
        advantages: A_n, ``[N]``, without gradient.
    """
    return -(log_probs * advantages).mean()


def clipped_surrogate(
    log_probs: Tensor, old_log_probs: Tensor, advantages: Tensor, clip_range: float
) -> tuple[Tensor, Tensor]:
    """PPO's pessimistic clipped objective, negated, and the log-ratio it was made of.

    Schulman et al. 2017, arXiv:1707.06347, eq. 7.

    Args:
        log_probs: log π(a_n|s_n) under the weights of now, ``[N]``, with gradient.
        old_log_probs: the same under the weights that acted, fixed for the whole update, ``[N]``.
        advantages: A_n, ``[N]``, without gradient.
        clip_range: ε > 0; the ratio's gain is cut outside [1 - ε, 1 + ε].

    Returns:
        The scalar loss, and log(new / old) ``[N]`` without gradient.
    """
    log_ratio = log_probs - old_log_probs
    ratio = log_ratio.exp()
    clipped = ratio.clamp(1.0 - clip_range, 1.0 + clip_range)
    return -torch.minimum(ratio * advantages, clipped * advantages).mean(), log_ratio.detach()


def squared_error(values: Tensor, returns: Tensor) -> Tensor:
    """mean((V(s) - R)²) / 2, both ``[N]``."""
    return 0.5 * (values - returns).square().mean()


def approximate_kl(log_ratio: Tensor) -> Tensor:
    """A low-variance, non-negative estimate of KL(old ‖ new) from log(new / old), ``[N]``.

    Schulman 2020, "Approximating KL divergence", estimator k3: mean(r - 1 - log r). The log-ratio is taken, not the
    ratio: where the ratio underflows to 0 its logarithm would be infinite.
    """
    return (log_ratio.expm1() - log_ratio).mean()


def clip_fraction(log_ratio: Tensor, clip_range: float) -> Tensor:
    """Share of the ratios outside [1 - ε, 1 + ε], from log(new / old) ``[N]``."""
    return (log_ratio.expm1().abs() > clip_range).float().mean()


def normalized(advantages: Tensor) -> Tensor:
    """Advantages ``[N]`` with mean 0 and standard deviation 1.

    Equal ones become 0, also where they are equal up to rounding only, which a division would blow up to ±1. A
    lone one has nothing to be compared with and stays as it is: as 0 it would teach nothing.
    """
    if len(advantages) < 2:
        return advantages
    mean = advantages.mean()
    centred = advantages - mean
    deviation = centred.std()
    return centred / (deviation + 1e-8) * (deviation > ROUNDING * mean.abs())
