"""The gradient step: all parameters in one flat buffer, one fused Adam, one norm.

Small networks spend their update in per-tensor overhead. Here every parameter and its gradient are views of two
flat tensors, so that zeroing, clipping and Adam each cost one call whatever the number of layers.
"""

from collections.abc import Iterable, Mapping

import torch
from torch import Tensor, nn

from maze_core.errors import DivergedError
from maze_core.types import Array


class GradientStep:
    """Zero, backward, clip, Adam. Re-points ``parameter.data`` into a flat buffer when it is made."""

    def __init__(self, modules: Iterable[nn.Module], *, lr: float, max_grad_norm: float | None) -> None:
        """Take over the parameters of ``modules``; shared ones count once.

        Args:
            modules: networks that learn together.
            lr: Adam's step size, > 0.
            max_grad_norm: L2 limit on the whole gradient; None does not clip.
        """
        parameters = list(dict.fromkeys(p for module in modules for p in module.parameters()))
        self._views: list[tuple[nn.Parameter, Tensor]] = []
        self._flat = torch.cat([p.detach().reshape(-1) for p in parameters])
        self._gradient = torch.zeros_like(self._flat)
        offset = 0
        for parameter in parameters:
            end = offset + parameter.numel()
            parameter.data = self._flat[offset:end].view_as(parameter)
            self._views.append((parameter, self._gradient[offset:end].view_as(parameter)))
            offset = end
        self.attach()
        self._flat.grad = self._gradient
        self._max_grad_norm = max_grad_norm
        # eps 1e-5: Andrychowicz et al. 2021, arXiv:2006.05990, choice C28; the PPO papers' own code has it too
        self._adam = torch.optim.Adam([self._flat], lr=lr, eps=1e-5, fused=True)

    def attach(self) -> None:
        """Point every parameter's gradient into the buffer again; ``module.zero_grad()`` takes it away."""
        for parameter, gradient in self._views:
            if parameter.grad is not gradient:
                parameter.grad = gradient

    def step(self, loss: Tensor) -> Tensor:
        """Take one step down the gradient of ``loss``.

        Returns:
            The gradient's L2 norm before clipping, a scalar.
        """
        self._gradient.zero_()
        loss.backward()
        norm: Tensor = self._gradient.norm()
        if self._max_grad_norm is not None:
            # 1e-6: as torch.nn.utils.clip_grad_norm_ has it, so that a zero gradient divides by something
            self._gradient.mul_((self._max_grad_norm / (norm + 1e-6)).clamp(max=1.0))
        self._adam.step()
        return norm

    def set_lr(self, lr: float) -> None:
        """Use another step size from now on."""
        self._adam.param_groups[0]["lr"] = lr

    def check_finite(self) -> None:
        """Raise :class:`DivergedError` when a weight is not finite."""
        if not bool(torch.isfinite(self._flat).all()):
            raise DivergedError(
                "The weights are not finite any more. Try a smaller algorithm.lr, gradient clipping "
                "(algorithm.max_grad_norm) or normalised observations (wrappers=vector_obs)."
            )

    def state_dict(self) -> dict[str, Array]:
        """Copies of Adam's moments and step count."""
        state = self._adam.state[self._flat]
        return {name: state[name].numpy().copy() for name in ("step", "exp_avg", "exp_avg_sq") if state}

    def load_state_dict(self, arrays: Mapping[str, Array]) -> None:
        """Go back to moments written by :meth:`state_dict`; none means before the first step."""
        self._adam.state.clear()
        if arrays:
            self._adam.state[self._flat] = {name: torch.from_numpy(a.copy()) for name, a in arrays.items()}
