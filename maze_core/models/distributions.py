"""Distributions over actions: log-probability and entropy as plain functions of logits, in torch.

The torch twin of :mod:`maze_core.models.heads`, which says how logits become actions; the layout of the logits is the
same. Every log-probability and entropy is ``[N]``, *summed* over the dimensions of the action, so that the
exponential of a difference is the true joint probability ratio. No ``torch.distributions`` objects: building
them costs more than these small networks.
"""

from math import log, pi
from typing import Final

import torch
from torch import Tensor
from torch.nn.functional import binary_cross_entropy_with_logits, logsigmoid

from maze_core.models.heads import (
    LOG_STD_RANGE,
    MASKED_LOGIT,
    BernoulliHead,
    CategoricalHead,
    GaussianHead,
    Head,
    MultiCategoricalHead,
)

_HALF_LOG_2PI: Final = 0.5 * log(2.0 * pi)


def log_prob_and_entropy(head: Head, logits: Tensor, action: Tensor) -> tuple[Tensor, Tensor]:
    """How likely the actions were, and how undecided the head is.

    Args:
        head: says what the logits mean.
        logits: ``[N, width]``; of a Gaussian those of :func:`gaussian_logits`.
        action: ``[N, *shape]``, as the head samples them.

    Returns:
        Log-probabilities (log-densities) and entropies in nats, both ``[N]``.
    """
    if isinstance(head, CategoricalHead):
        log_probs = torch.log_softmax(logits, dim=1)
        return _chosen(log_probs, action, head.start), _entropy(log_probs)
    if isinstance(head, MultiCategoricalHead):
        columns = action.reshape(len(logits), -1)
        parts = logits.split(head.sizes, dim=1)
        chosen = [
            _chosen(torch.log_softmax(part, dim=1), columns[:, i], start)
            for i, (part, start) in enumerate(zip(parts, head.starts, strict=True))
        ]
        entropies = [_entropy(torch.log_softmax(part, dim=1)) for part in parts]
        return torch.stack(chosen).sum(0), torch.stack(entropies).sum(0)
    if isinstance(head, BernoulliHead):
        bits = action.reshape(logits.shape).to(logits.dtype)
        log_prob = -binary_cross_entropy_with_logits(logits, bits, reduction="none").sum(1)
        # H = -Σ p log p over both values; σ(-x) = 1 - σ(x) keeps both logarithms exact in the tails.
        log_one, log_zero = logsigmoid(logits), logsigmoid(-logits)
        return log_prob, -(log_one.exp() * log_one + log_zero.exp() * log_zero).sum(1)
    mean, log_std = logits.chunk(2, dim=1)
    z = (action.reshape(mean.shape) - mean) * torch.exp(-log_std)
    log_density = -(0.5 * z.square() + log_std + _HALF_LOG_2PI).sum(1)
    return log_density, (logits.chunk(2, dim=1)[1] + (0.5 + _HALF_LOG_2PI)).sum(1)


def apply_mask(logits: Tensor, mask: Tensor) -> Tensor:
    """Logits whose exponential is exactly 0 where the mask ``[N, n]`` is 0."""
    return logits.masked_fill(mask.reshape(logits.shape) == 0, MASKED_LOGIT)


def gaussian_logits(output: Tensor, log_std: Tensor | None, head: GaussianHead) -> Tensor:
    """Means and log-stds side by side, from a network's output and the log-std parameter, if there is one."""
    if log_std is not None:
        return torch.cat((output, log_std.expand_as(output)), dim=1)
    mean, raw = output.split(head.noise_width, dim=1)
    return torch.cat((mean, raw.clamp(*LOG_STD_RANGE)), dim=1)


def _chosen(log_probs: Tensor, action: Tensor, start: int) -> Tensor:
    """Of each row ``[N, n]`` the number of its action, counted from ``start``."""
    index = action.reshape(-1, 1).to(torch.int64)
    return log_probs.gather(1, index - start if start else index).squeeze(1)


def _entropy(log_probs: Tensor) -> Tensor:
    return -(log_probs.exp() * log_probs).sum(1)
