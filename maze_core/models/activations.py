"""Activation names, what each of them does to a numpy array in place, and its slope.

The names are a closed list: a configuration says ``tanh`` or ``torch.nn.Tanh`` and nothing is imported.
"""

import re
from collections.abc import Callable
from typing import Any, Final, Literal, TypeAlias

import numpy as np

from maze_core.types import FloatArray

ActivationName: TypeAlias = Literal["tanh", "relu", "elu", "sigmoid", "silu", "leaky_relu", "identity"]

LEAKY_SLOPE: Final = 0.01
"""Slope of ``leaky_relu`` below 0, torch's default."""

_PREFIX = re.compile(r"^(torch\.)?(nn\.)?(functional\.|modules\.activation\.)?")


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


def _relu(h: FloatArray) -> None:
    np.maximum(h, 0.0, out=h)


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


ACTIVATIONS: Final[dict[str, Callable[[FloatArray], None] | None]] = {
    "tanh": _tanh,
    "relu": _relu,
    "elu": _elu,
    "sigmoid": _sigmoid,
    "silu": _silu,
    "leaky_relu": _leaky_relu,
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


KEEPS_INPUT: Final = frozenset({"silu"})
"""Activations whose slope does not follow from their output."""

SLOPES: Final[dict[str, Callable[[FloatArray, FloatArray], None] | None]] = {
    "tanh": _tanh_slope,
    "relu": _relu_slope,
    "elu": _elu_slope,
    "sigmoid": _sigmoid_slope,
    "silu": _silu_slope,
    "leaky_relu": _leaky_relu_slope,
    "identity": None,
}
"""Name → multiplies the gradient by the slope, in place, given the output (``KEEPS_INPUT``: the input), which may be
overwritten; None is slope 1."""
