"""The gradient step: all parameters in one flat buffer, their gradient in another; clipping, Adam or RMSprop.

Small networks spend their update in per-tensor overhead. Here every parameter and its gradient are views of two
flat arrays, so that zeroing, clipping and stepping each cost a few calls whatever the number of layers.
"""

from collections.abc import Iterable, Mapping

import numpy as np

from maze_core.errors import DivergedError
from maze_core.models.networks import HasParameters
from maze_core.trainers.config import OptimizerConfig
from maze_core.types import Array, FloatArray


class FlatParameters:
    """The parameters of networks in one buffer."""

    def __init__(self, networks: Mapping[str, HasParameters]) -> None:
        """Copy the parameters into it, and have the networks take them from there.

        Args:
            networks: prefix → network; what lies at one place is one parameter.
        """
        own = {
            f"{prefix}/{name}": array
            for prefix, network in networks.items()
            for name, array in network.parameters.items()
        }
        self._places = {name: (x.__array_interface__["data"][0], x.shape) for name, x in own.items()}
        distinct = {self._places[name]: array for name, array in own.items()}
        ends = np.cumsum([array.size for array in distinct.values()])
        self._slices = {
            place: slice(end - x.size, end) for (place, x), end in zip(distinct.items(), ends, strict=True)
        }
        self.flat: FloatArray = np.concatenate([array.reshape(-1) for array in distinct.values()])
        self.parameters = self.views(self.flat)
        """``prefix/name`` → where the parameter lies from now on."""
        for prefix, network in networks.items():
            network.bind(self.parameters, f"{prefix}/")

    def views(self, flat: FloatArray) -> dict[str, FloatArray]:
        """``prefix/name`` → the part of an equal buffer, or of several ``[..., n]``, that belongs to the parameter."""
        return {
            name: flat[..., self._slices[place]].reshape(*flat.shape[:-1], *place[1])
            for name, place in self._places.items()
        }


class GradientStep(FlatParameters):
    """Zero, clip, and Adam (Kingma and Ba 2015, arXiv:1412.6980), RMSprop (Tieleman and Hinton 2012) or plain SGD."""

    def __init__(
        self,
        networks: Mapping[str, HasParameters],
        *,
        lr: float,
        max_grad_norm: float | None,
        optimizer: OptimizerConfig | None = None,
        rates: Mapping[str, float] | None = None,
    ) -> None:
        """Take over the parameters of networks that learn together.

        Args:
            networks: prefix → network; see :class:`FlatParameters`.
            lr: step size, > 0.
            max_grad_norm: L2 limit on the whole gradient; None does not clip.
            optimizer: how a gradient becomes a step; None is Adam.
            rates: prefix → its step size, as a multiple of ``lr``; None is 1 for all. What several networks share has
                that of the first.
        """
        super().__init__(networks)
        self.lr = self.initial_lr = lr
        self._max_grad_norm = max_grad_norm
        self._optimizer = optimizer or OptimizerConfig()
        self._prepare = {"adam": self._adam, "rmsprop": self._rmsprop, "sgd": self._sgd}[self._optimizer.kind]
        self.gradient = np.zeros_like(self.flat)
        """The gradient of all parameters, as they lie in ``flat``."""
        self.gradients = self.views(self.gradient)
        """``prefix/name`` → its gradient, where whoever learns adds to it."""
        self.learns = np.ones_like(self.flat)
        """1 where a parameter learns, and 0 where it is frozen, which weight decay would move."""
        for prefix, network in networks.items():
            for name in network.frozen:
                self.views(self.learns)[f"{prefix}/{name}"][...] = 0.0
        self._let: FloatArray | None = None
        """1 where a parameter may move; None lets all of them."""
        self._steps = 0
        self._mean = np.zeros_like(self.flat)
        self._mean_square = np.zeros_like(self.flat)
        self._scratch = np.empty_like(self.flat)
        self._rates: FloatArray | None = None
        if rates is not None:
            self._rates = np.ones_like(self.flat)
            for name, part in reversed(self.views(self._rates).items()):
                part[...] = rates.get(name.partition("/")[0], 1.0)

    def gradients_of(self, prefix: str) -> dict[str, FloatArray]:
        """Name → gradient, of the network or part of one with this prefix."""
        return {
            name.removeprefix(prefix): gradient
            for name, gradient in self.gradients.items()
            if name.startswith(prefix)
        }

    def hold(self, names: Iterable[str]) -> None:
        """Keep the parameters of these names, with their prefix, as they are from now on, and let all others move."""
        let = np.ones_like(self.flat)
        parts = self.views(let)
        for name in names:
            parts[name][...] = 0.0
        self._let = None if let.all() else let

    def zero(self) -> None:
        """Begin a new gradient."""
        self.gradient.fill(0.0)

    def step(self) -> float:
        """Take one step down the gradient; what it holds afterwards has no meaning.

        Returns:
            The gradient's L2 norm before clipping.
        """
        g, decay = self.gradient, self._optimizer.weight_decay
        if self._let is not None:
            g *= self._let
        norm = float(np.sqrt(g @ g))
        scale = 1.0
        if self._max_grad_norm is not None:
            # 1e-6: as torch.nn.utils.clip_grad_norm_ has it, so that a zero gradient divides by something
            scale = min(self._max_grad_norm / (norm + 1e-6), 1.0)
        if decay:
            g *= scale
            learns = self.learns if self._let is None else self.learns * self._let
            g += np.multiply(self.flat, decay * learns, out=self._scratch)
            scale = 1.0
        self._steps += 1
        self._prepare(scale)
        if self._rates is not None:
            self._scratch *= self._rates
        self.flat -= self._scratch
        return norm

    def _adam(self, scale: float) -> None:
        """Leave lr · m̂ / (√v̂ + ε) in the scratch, with m̂ = m / (1 - β₁ᵗ) and v̂ = v / (1 - β₂ᵗ)."""
        g, m, v, scratch = self.gradient, self._mean, self._mean_square, self._scratch
        beta1, beta2 = self._optimizer.beta1, self._optimizer.beta2
        # m ← β₁ m + (1 - β₁) g;  v ← β₂ v + (1 - β₂) g², with the clipped g
        m *= beta1
        m += np.multiply(g, (1.0 - beta1) * scale, out=scratch)
        v *= beta2
        g *= g
        g *= (1.0 - beta2) * scale**2
        v += g
        root = (1.0 - beta2**self._steps) ** 0.5
        np.sqrt(v, out=scratch)
        scratch += self._optimizer.eps * root
        np.divide(m, scratch, out=scratch)
        scratch *= self.lr * root / (1.0 - beta1**self._steps)

    def _rmsprop(self, scale: float) -> None:
        """Leave lr · g / (√v + ε) in the scratch, with v ← α v + (1 - α) g²."""
        g, v, scratch, alpha = self.gradient, self._mean_square, self._scratch, self._optimizer.alpha
        g *= scale
        v *= alpha
        np.multiply(g, g, out=scratch)
        scratch *= 1.0 - alpha
        v += scratch
        np.sqrt(v, out=scratch)
        scratch += self._optimizer.eps
        np.divide(g, scratch, out=scratch)
        scratch *= self.lr

    def _sgd(self, scale: float) -> None:
        """Leave lr · m in the scratch, with m ← momentum · m + g."""
        g, m = self.gradient, self._mean
        m *= self._optimizer.momentum
        m += np.multiply(g, scale, out=self._scratch)
        np.multiply(m, self.lr, out=self._scratch)

    def check_finite(self) -> None:
        """Raise :class:`DivergedError` when a weight is not finite."""
        if not np.isfinite(self.flat).all():
            raise DivergedError(
                "The weights are not finite any more. Try a smaller algorithm.lr, gradient clipping "
                "(algorithm.max_grad_norm) or normalised observations (wrappers=vector_obs)."
            )

    def state_dict(self) -> dict[str, Array]:
        """Copies of moments and step count; nothing before the first step."""
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
