"""The gradient step: all parameters in one flat buffer, their gradient in another, clipping and Adam on them.

Small networks spend their update in per-tensor overhead. Here every parameter and its gradient are views of two
flat arrays, so that zeroing, clipping and Adam each cost a few calls whatever the number of layers.
"""

from collections.abc import Mapping
from typing import Final

import numpy as np

from maze_core.errors import DivergedError
from maze_core.types import Array, FloatArray, NamedArrays

_BETA1: Final = 0.9
_BETA2: Final = 0.999
_EPS: Final = 1e-5
"""Andrychowicz et al. 2021, arXiv:2006.05990, choice C28; the PPO papers' own code has it too."""


class GradientStep:
    """Zero, clip, Adam (Kingma and Ba 2015, arXiv:1412.6980)."""

    def __init__(self, parameters: NamedArrays, *, lr: float, max_grad_norm: float | None) -> None:
        """Copy the parameters into one buffer; networks are then to be bound to :attr:`parameters`.

        Args:
            parameters: of all networks that learn together; what lies at one place is one parameter.
            lr: Adam's step size, > 0.
            max_grad_norm: L2 limit on the whole gradient; None does not clip.
        """
        self.lr = lr
        self._max_grad_norm = max_grad_norm
        places = {name: (x.__array_interface__["data"][0], x.shape) for name, x in parameters.items()}
        distinct = {places[name]: array for name, array in parameters.items()}
        ends = np.cumsum([array.size for array in distinct.values()])
        slices = {
            place: slice(end - x.size, end) for (place, x), end in zip(distinct.items(), ends, strict=True)
        }
        self._flat: FloatArray = np.concatenate([array.reshape(-1) for array in distinct.values()])
        self._gradient = np.zeros_like(self._flat)
        self.parameters = {name: self._flat[slices[at]].reshape(at[1]) for name, at in places.items()}
        """Name → where the parameter lies from now on."""
        self.gradients = {name: self._gradient[slices[at]].reshape(at[1]) for name, at in places.items()}
        """Name → its gradient, where whoever learns adds to it."""
        self._steps = 0
        self._mean = np.zeros_like(self._flat)
        self._mean_square = np.zeros_like(self._flat)
        self._scratch = np.empty_like(self._flat)

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
