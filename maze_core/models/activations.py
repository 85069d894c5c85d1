"""Activation names, what each of them does to a numpy array in place, and its slope.

The names are a closed list: a configuration says ``tanh`` or ``torch.nn.Tanh`` and nothing is imported.
"""

import re
from collections.abc import Callable
from functools import lru_cache
from typing import Any, Final, Literal, TypeAlias

import numpy as np

from maze_core.types import FloatArray

ActivationName: TypeAlias = Literal[
    "tanh",
    "relu",
    "elu",
    "sigmoid",
    "silu",
    "leaky_relu",
    "gelu",
    "selu",
    "mish",
    "softplus",
    "identity",
]

LEAKY_SLOPE: Final = 0.01
"""Slope of ``leaky_relu`` below 0, torch's default."""

_SELU_SCALE: Final = 1.0507009873554805
"""Klambauer et al. 2017 (arXiv:1706.02515): λ of ``selu``, beside its α."""
_SELU_ALPHA: Final = 1.6732632423543772
_ERF: Final = (0.254829592, -0.284496736, 1.421413741, -1.453152027, 1.061405429)
"""Coefficients of Abramowitz and Stegun 1964, 7.1.26: erf to 1.5e-7, which is what float32 holds."""

_PREFIX = re.compile(r"^(torch\.)?(nn\.)?(functional\.|modules\.(activation|linear)\.)?")


def activation_name(value: Any) -> Any:
    """Short name of an activation written as ``torch.nn.Tanh``, ``nn.Tanh``, ``tanh`` or the class itself.

    Anything else is returned unchanged, for the validation of the field to refuse.
    """
    if isinstance(value, type):
        value = value.__name__
    if not isinstance(value, str):
        return value
    plain = _PREFIX.sub("", value).replace("_", "").lower()
    return next((name for name in ACTIVATIONS if name.replace("_", "") == plain), value)


def _tanh(h: FloatArray) -> None:
    np.tanh(h, h)


@lru_cache(64)
def _zeros(shape: tuple[int, ...]) -> FloatArray:
    return np.zeros(shape, np.float32)


def _relu(h: FloatArray) -> None:
    np.maximum(h, _zeros(h.shape), out=h)  # with the number 0, NumPy takes two to four times as long


def _elu(h: FloatArray) -> None:
    below = np.expm1(np.minimum(h, 0.0))
    np.maximum(h, 0.0, out=h)
    np.add(h, below, h)


def _sigmoid(h: FloatArray) -> None:
    # σ(x) = (1 + tanh(x/2)) / 2 cannot overflow, 1 / (1 + exp(-x)) can.
    np.multiply(h, 0.5, h)
    np.tanh(h, h)
    np.multiply(h, 0.5, h)
    np.add(h, 0.5, h)


def _silu(h: FloatArray) -> None:
    gate = h.copy()
    _sigmoid(gate)
    np.multiply(h, gate, h)


def _leaky_relu(h: FloatArray) -> None:
    np.maximum(h, LEAKY_SLOPE * h, out=h)


def _gelu(h: FloatArray) -> None:
    np.multiply(h, _normal_cdf(h), h)


def _normal_cdf(z: FloatArray) -> FloatArray:
    """Φ(z), by the tail beyond abs(z), which keeps its digits where Φ is small."""
    t = 1.0 / (1.0 + (0.3275911 * 0.5**0.5) * np.abs(z))
    tail = np.zeros_like(z)
    for coefficient in reversed(_ERF):
        tail += np.float32(coefficient)
        tail *= t
    tail *= 0.5 * np.exp(-0.5 * z * z)
    return np.where(z < 0.0, tail, 1.0 - tail)


def _selu(h: FloatArray) -> None:
    below = (_SELU_SCALE * _SELU_ALPHA) * np.expm1(np.minimum(h, 0.0))
    np.maximum(h, 0.0, out=h)
    np.multiply(h, _SELU_SCALE, h)
    np.add(h, below, h)


def _softplus(h: FloatArray) -> None:
    # log(1 + e^z) = max(z, 0) + log(1 + e^-|z|) cannot overflow
    rest = np.log1p(np.exp(-np.abs(h)))
    np.maximum(h, 0.0, out=h)
    np.add(h, rest, h)


def _mish(h: FloatArray) -> None:
    gate = h.copy()
    _softplus(gate)
    np.multiply(h, np.tanh(gate, gate), h)


ACTIVATIONS: Final[dict[str, Callable[[FloatArray], None] | None]] = {
    "tanh": _tanh,
    "relu": _relu,
    "elu": _elu,
    "sigmoid": _sigmoid,
    "silu": _silu,
    "leaky_relu": _leaky_relu,
    "gelu": _gelu,
    "selu": _selu,
    "mish": _mish,
    "softplus": _softplus,
    "identity": None,
}
"""Name → in-place function of a float32 array; None changes nothing."""


def _tanh_slope(d: FloatArray, h: FloatArray) -> None:
    np.multiply(h, h, h)
    np.subtract(1.0, h, h)
    np.multiply(d, h, d)


def _relu_slope(d: FloatArray, h: FloatArray) -> None:
    np.multiply(d, h > 0.0, d)


def _elu_slope(d: FloatArray, h: FloatArray) -> None:
    np.add(h, 1.0, h)  # e^z, where z < 0
    np.multiply(d, np.minimum(h, 1.0, out=h), d)


def _sigmoid_slope(d: FloatArray, h: FloatArray) -> None:
    np.multiply(d, h * (1.0 - h), d)


def _silu_slope(d: FloatArray, z: FloatArray) -> None:
    gate = z.copy()
    _sigmoid(gate)
    np.multiply(d, gate * (1.0 + z * (1.0 - gate)), d)


def _leaky_relu_slope(d: FloatArray, h: FloatArray) -> None:
    np.multiply(d, np.where(h > 0.0, np.float32(1.0), np.float32(LEAKY_SLOPE)), d)


def _gelu_slope(d: FloatArray, z: FloatArray) -> None:
    density = np.exp(-0.5 * z * z) * np.float32((2.0 * np.pi) ** -0.5)
    np.multiply(d, _normal_cdf(z) + z * density, d)


def _selu_slope(d: FloatArray, h: FloatArray) -> None:
    # below 0 the slope is λ α e^z = h + λ α
    of_below = h + np.float32(_SELU_SCALE * _SELU_ALPHA)
    np.multiply(d, np.where(h > 0.0, np.float32(_SELU_SCALE), of_below), d)


def _softplus_slope(d: FloatArray, h: FloatArray) -> None:
    np.multiply(d, -np.expm1(-h), d)  # σ(z) = 1 - e^-h


def _mish_slope(d: FloatArray, z: FloatArray) -> None:
    gate, sigmoid = z.copy(), z.copy()
    _softplus(gate)
    np.tanh(gate, gate)
    _sigmoid(sigmoid)
    np.multiply(d, gate + z * sigmoid * (1.0 - gate * gate), d)


KEEPS_INPUT: Final = frozenset({"silu", "gelu", "mish"})
"""Activations whose slope does not follow from their output."""

SLOPES: Final[dict[str, Callable[[FloatArray, FloatArray], None] | None]] = {
    "tanh": _tanh_slope,
    "relu": _relu_slope,
    "elu": _elu_slope,
    "sigmoid": _sigmoid_slope,
    "silu": _silu_slope,
    "leaky_relu": _leaky_relu_slope,
    "gelu": _gelu_slope,
    "selu": _selu_slope,
    "mish": _mish_slope,
    "softplus": _softplus_slope,
    "identity": None,
}
"""Name → multiplies the gradient by the slope, in place, given the output (``KEEPS_INPUT``: the input), which may be
overwritten; None is slope 1."""
