"""Convolutions over lines, pictures and volumes; channels come first."""

from collections.abc import Mapping, Sequence
from typing import Any

from torch import Tensor, nn

from maze_core.models.blocks.block import Block, Keys, Shapes, WeightInit, activation, initialised

_CONVOLUTIONS: Mapping[int, Any] = {1: nn.Conv1d, 2: nn.Conv2d, 3: nn.Conv3d}
_Size = int | Sequence[int]


class StridedConvolutionBlock(Block):
    """A stack of convolutions, each with its activation: ``[C, …]`` → ``[C', …]``."""

    input_dims = ((2, 3, 4),)

    def __init__(
        self,
        in_keys: Keys,
        out_keys: Keys,
        in_shapes: Shapes,
        hidden_channels: Sequence[int],
        hidden_kernels: _Size | Sequence[_Size],
        hidden_strides: _Size | Sequence[_Size] | None = None,
        hidden_dilations: _Size | Sequence[_Size] | None = None,
        hidden_padding: _Size | Sequence[_Size] | None = None,
        convolution_dimension: int | None = None,
        padding_mode: str = "zeros",
        non_lin: str | type[nn.Module] = "relu",
        weight_init: WeightInit = "orthogonal",
        hidden_gain: float = 2**0.5,
    ) -> None:
        """Take the stack; kernels, strides, dilations and paddings are one for all layers, or one for each.

        Args:
            in_keys: of one input.
            out_keys: of one output.
            in_shapes: ``(C, L)``, ``(C, H, W)`` or ``(C, D, H, W)``.
            hidden_channels: channels behind each layer.
            hidden_kernels: size of the kernels; an entry may be a size per axis.
            hidden_strides: None is 1.
            hidden_dilations: None is 1.
            hidden_padding: None is 0.
            convolution_dimension: 1, 2 or 3; None follows from the shape.
            padding_mode: as torch's.
            non_lin: activation behind each layer.
            weight_init: first weights.
            hidden_gain: their scale.

        Raises:
            ValueError: a list has another length, or the input becomes empty on the way.
        """
        super().__init__(in_keys, out_keys, in_shapes)
        (channels, *size), n_layers = self.in_shapes[0], len(hidden_channels)
        if convolution_dimension not in (None, len(size)):
            raise ValueError(
                f"{self.kind} convolves {convolution_dimension} dimensions, and {self.in_keys[0]!r} has the shape "
                f"{list(self.in_shapes[0])}, channels first."
            )
        each = [
            _per_layer(given, n_layers, name)
            for given, name in (
                (hidden_kernels, "hidden_kernels"),
                (1 if hidden_strides is None else hidden_strides, "hidden_strides"),
                (0 if hidden_padding is None else hidden_padding, "hidden_padding"),
                (1 if hidden_dilations is None else hidden_dilations, "hidden_dilations"),
            )
        ]
        layers: list[nn.Module] = []
        for out, kernel, stride, padding, dilation in zip(hidden_channels, *each, strict=True):
            layer = _CONVOLUTIONS[len(size)](
                channels,
                out,
                _size(kernel),
                _size(stride),
                _size(padding),
                _size(dilation),
                padding_mode=padding_mode,
            )
            layers += [initialised(layer, weight_init, hidden_gain), activation(non_lin)]
            channels = out
        self.layers = nn.Sequential(*layers)
        check_size(self)

    def compute(self, *inputs: Tensor) -> Tensor:
        """``[N, C, …]`` → ``[N, C', …]``."""
        return self.layers(inputs[0])  # type: ignore[no-any-return]


def check_size(block: Block) -> None:
    """Refuse a stack that leaves nothing of its input.

    Raises:
        ValueError: a kernel is larger than what is left of the input.
    """
    try:
        block.out_shapes()
    except RuntimeError as error:
        raise ValueError(
            f"{block.kind}: the kernels are too large for {block.in_keys[0]!r} of shape {list(block.in_shapes[0])} "
            f"({str(error).splitlines()[0]}); take smaller kernels or strides, or padding."
        ) from error


def _per_layer(given: _Size | Sequence[_Size], n_layers: int, name: str) -> Sequence[_Size]:
    if isinstance(given, int):
        return [given] * n_layers
    if len(given) != n_layers:
        raise ValueError(f"{name} has {len(given)} entries for {n_layers} layers: give one, or one for each.")
    return given


def _size(given: _Size) -> int | tuple[int, ...]:
    return given if isinstance(given, int) else tuple(given)
