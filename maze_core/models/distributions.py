"""Distributions over actions: log-probability and entropy as plain functions of logits, in torch.

Every log-probability and entropy is ``[N]``, *summed* over the dimensions of the action, so that the
exponential of a difference is the true joint probability ratio. No ``torch.distributions`` objects: building
them costs more than these small networks. How logits become actions is in :mod:`maze_core.models.heads`; the
layout of the logits is the same.
"""

from math import log, pi
from typing import Final, Protocol

import torch
from torch import Tensor

from maze_core.models.heads import (
    LOG_STD_RANGE,
    MASKED_LOGIT,
    BernoulliHead,
    CategoricalHead,
    GaussianHead,
    Head,
    MultiCategoricalHead,
)

__all__ = [
    "Bernoulli",
    "Categorical",
    "DiagonalGaussian",
    "Distribution",
    "MultiCategorical",
    "apply_mask",
    "distribution_of",
]

_HALF_LOG_2PI: Final = 0.5 * log(2.0 * pi)


class Distribution(Protocol):
    """A family of distributions; one member per row of logits."""

    def log_prob_and_entropy(self, logits: Tensor, action: Tensor) -> tuple[Tensor, Tensor]:
        """Log-probability of the actions and entropy, both ``[N]``, for logits ``[N, width]``."""
        ...

    def log_prob(self, logits: Tensor, action: Tensor) -> Tensor:
        """Log-probability (density) of the actions, ``[N]``."""
        ...

    def entropy(self, logits: Tensor) -> Tensor:
        """Entropy in nats, ``[N]``."""
        ...


class Categorical:
    """One of n actions, ``[N]``, numbered from ``start``; logits ``[N, n]``."""

    def __init__(self, start: int = 0) -> None:
        """``start`` is the smallest action."""
        self._start = start

    def log_prob_and_entropy(self, logits: Tensor, action: Tensor) -> tuple[Tensor, Tensor]:
        """Log-probability and entropy, both ``[N]``."""
        log_probs = torch.log_softmax(logits, dim=1)
        return self._pick(log_probs, action), _categorical_entropy(log_probs)

    def log_prob(self, logits: Tensor, action: Tensor) -> Tensor:
        """Log-probability of the actions, ``[N]``."""
        return self._pick(torch.log_softmax(logits, dim=1), action)

    def entropy(self, logits: Tensor) -> Tensor:
        """Entropy, ``[N]``."""
        return _categorical_entropy(torch.log_softmax(logits, dim=1))

    def _pick(self, log_probs: Tensor, action: Tensor) -> Tensor:
        index = action.reshape(-1, 1).to(torch.int64)
        return log_probs.gather(1, index - self._start if self._start else index).squeeze(1)


class MultiCategorical:
    """Independent choices ``[N, *shape]``; logits ``[N, sum(sizes)]``, choice by choice."""

    def __init__(self, sizes: tuple[int, ...], starts: tuple[int, ...]) -> None:
        """Choice i is one of ``sizes[i]``, numbered from ``starts[i]``."""
        self._sizes = list(sizes)
        self._choices = [Categorical(start) for start in starts]

    def log_prob_and_entropy(self, logits: Tensor, action: Tensor) -> tuple[Tensor, Tensor]:
        """Log-probability and entropy, both ``[N]``."""
        return self.log_prob(logits, action), self.entropy(logits)

    def log_prob(self, logits: Tensor, action: Tensor) -> Tensor:
        """Log-probability of the actions, ``[N]``."""
        columns = action.reshape(len(logits), -1)
        parts = zip(self._choices, logits.split(self._sizes, dim=1), strict=True)
        return torch.stack(
            [choice.log_prob(part, columns[:, i]) for i, (choice, part) in enumerate(parts)]
        ).sum(0)

    def entropy(self, logits: Tensor) -> Tensor:
        """Entropy, ``[N]``."""
        parts = zip(self._choices, logits.split(self._sizes, dim=1), strict=True)
        return torch.stack([choice.entropy(part) for choice, part in parts]).sum(0)


class Bernoulli:
    """Independent bits ``[N, *shape]``; one logit per bit."""

    def log_prob_and_entropy(self, logits: Tensor, action: Tensor) -> tuple[Tensor, Tensor]:
        """Log-probability and entropy, both ``[N]``."""
        return self.log_prob(logits, action), self.entropy(logits)

    def log_prob(self, logits: Tensor, action: Tensor) -> Tensor:
        """Log-probability of the actions, ``[N]``."""
        bits = action.reshape(logits.shape).to(logits.dtype)
        return -torch.nn.functional.binary_cross_entropy_with_logits(logits, bits, reduction="none").sum(1)

    def entropy(self, logits: Tensor) -> Tensor:
        """Entropy, ``[N]``."""
        # H = -Σ p log p over both values; σ(-x) = 1 - σ(x) keeps both logarithms exact in the tails.
        log_one, log_zero = torch.nn.functional.logsigmoid(logits), torch.nn.functional.logsigmoid(-logits)
        return -(log_one.exp() * log_one + log_zero.exp() * log_zero).sum(1)


class DiagonalGaussian:
    """Independent normal numbers ``[N, *shape]``; logits ``[N, 2 d]``: the means, then the log-stds."""

    def log_prob_and_entropy(self, logits: Tensor, action: Tensor) -> tuple[Tensor, Tensor]:
        """Log-density and entropy, both ``[N]``."""
        return self.log_prob(logits, action), self.entropy(logits)

    def log_prob(self, logits: Tensor, action: Tensor) -> Tensor:
        """Log-density of the actions, ``[N]``."""
        mean, log_std = logits.chunk(2, dim=1)
        z = (action.reshape(mean.shape) - mean) * torch.exp(-log_std)
        return -(0.5 * z.square() + log_std + _HALF_LOG_2PI).sum(1)

    def entropy(self, logits: Tensor) -> Tensor:
        """Differential entropy, ``[N]``."""
        return (logits.chunk(2, dim=1)[1] + (0.5 + _HALF_LOG_2PI)).sum(1)


def distribution_of(head: Head) -> Distribution:
    """The distribution whose samples the head draws."""
    if isinstance(head, CategoricalHead):
        return Categorical(head.start)
    if isinstance(head, MultiCategoricalHead):
        return MultiCategorical(head.sizes, head.starts)
    return Bernoulli() if isinstance(head, BernoulliHead) else DiagonalGaussian()


def apply_mask(logits: Tensor, mask: Tensor) -> Tensor:
    """Logits whose exponential is exactly 0 where the mask ``[N, n]`` is 0."""
    return logits.masked_fill(mask.reshape(logits.shape) == 0, MASKED_LOGIT)


def gaussian_logits(output: Tensor, log_std: Tensor | None, head: GaussianHead) -> Tensor:
    """Means and log-stds side by side, from a network's output and the log-std parameter, if there is one."""
    if log_std is not None:
        return torch.cat((output, log_std.expand_as(output)), dim=1)
    mean, raw = output.split(head.noise_width, dim=1)
    return torch.cat((mean, raw.clamp(*LOG_STD_RANGE)), dim=1)


def _categorical_entropy(log_probs: Tensor) -> Tensor:
    return -(log_probs.exp() * log_probs).sum(1)
