"""The gradient step: all parameters in one flat buffer, their gradient in another, clipping and Adam on them.

Small networks spend their update in per-tensor overhead. Here every parameter and its gradient are views of two
flat arrays, so that zeroing, clipping and Adam each cost a few calls whatever the number of layers.
"""

from collections.abc import Iterable, Mapping
from typing import Final

import numpy as np
import torch
from torch import nn

from maze_core.errors import DivergedError
from maze_core.types import Array, FloatArray

_BETA1: Final = 0.9
_BETA2: Final = 0.999
_EPS: Final = 1e-5
"""Andrychowicz et al. 2021, arXiv:2006.05990, choice C28; the PPO papers' own code has it too."""


class GradientStep:
    """Zero, clip, Adam (Kingma and Ba 2015, arXiv:1412.6980). Re-points ``parameter.data`` when it is made."""

    def __init__(self, modules: Iterable[nn.Module], *, lr: float, max_grad_norm: float | None) -> None:
        """Take over the parameters of ``modules``; shared ones count once.

        Args:
            modules: networks that learn together.
            lr: Adam's step size, > 0.
            max_grad_norm: L2 limit on the whole gradient; None does not clip.
        """
        parameters = list(dict.fromkeys(p for module in modules for p in module.parameters()))
        self.lr = lr
        self._max_grad_norm = max_grad_norm
        self._flat: FloatArray = np.concatenate([p.detach().numpy().reshape(-1) for p in parameters])
        self._gradient = np.zeros_like(self._flat)
        self.gradients: dict[nn.Parameter, FloatArray] = {}
        """Parameter → its gradient, where whoever learns adds to it."""
        for parameter, end in zip(parameters, np.cumsum([p.numel() for p in parameters]), strict=True):
            mine = slice(end - parameter.numel(), end)
            self.gradients[parameter] = self._gradient[mine].reshape(parameter.shape)
            parameter.data = torch.from_numpy(self._flat[mine].reshape(parameter.shape))
        self._views = [(p, torch.from_numpy(gradient)) for p, gradient in self.gradients.items()]
        self.attach()
        self._steps = 0
        self._mean = np.zeros_like(self._flat)
        self._mean_square = np.zeros_like(self._flat)
        self._scratch = np.empty_like(self._flat)

    def attach(self) -> None:
        """Let autograd add to the same gradients, again after ``module.zero_grad()`` took them away."""
        for parameter, gradient in self._views:
            if parameter.grad is not gradient:
                parameter.grad = gradient

    def zero(self) -> None:
        """Begin a new gradient."""
        self._gradient.fill(0.0)

    def step(self) -> float:
        """Take one step down the gradient; what it holds afterwards has no meaning.

        Returns:
            The gradient's L2 norm before clipping.
        """
        g, m, v, scratch = self._gradient, self._mean, self._mean_square, self._scratch
        norm = float(np.sqrt(g @ g))
        scale = 1.0
        if self._max_grad_norm is not None:
            # 1e-6: as torch.nn.utils.clip_grad_norm_ has it, so that a zero gradient divides by something
            scale = min(self._max_grad_norm / (norm + 1e-6), 1.0)
        self._steps += 1
        # m ← β₁ m + (1 − β₁) g;  v ← β₂ v + (1 − β₂) g², with the clipped g
        m *= _BETA1
        m += np.multiply(g, (1.0 - _BETA1) * scale, out=scratch)
        v *= _BETA2
        g *= g
        g *= (1.0 - _BETA2) * scale**2
        v += g
        # w ← w − lr · m̂ / (√v̂ + ε), with m̂ = m / (1 − β₁ᵗ) and v̂ = v / (1 − β₂ᵗ)
        root = (1.0 - _BETA2**self._steps) ** 0.5
        np.sqrt(v, out=scratch)
        scratch += _EPS * root
        np.divide(m, scratch, out=scratch)
        scratch *= self.lr * root / (1.0 - _BETA1**self._steps)
        self._flat -= scratch
        return norm

    def check_finite(self) -> None:
        """Raise :class:`DivergedError` when a weight is not finite."""
        if not np.isfinite(self._flat).all():
            raise DivergedError(
                "The weights are not finite any more. Try a smaller algorithm.lr, gradient clipping "
                "(algorithm.max_grad_norm) or normalised observations (wrappers=vector_obs)."
            )

    def state_dict(self) -> dict[str, Array]:
        """Copies of Adam's moments and step count; nothing before the first step."""
        if not self._steps:
            return {}
        return {
            "step": np.array(self._steps, np.float32),
            "exp_avg": self._mean.copy(),
            "exp_avg_sq": self._mean_square.copy(),
        }

    def load_state_dict(self, arrays: Mapping[str, Array]) -> None:
        """Go back to moments written by :meth:`state_dict`; none means before the first step."""
        self._steps = int(arrays.get("step", 0))
        self._mean[...] = arrays.get("exp_avg", 0.0)
        self._mean_square[...] = arrays.get("exp_avg_sq", 0.0)
