"""Convolutions over lines, pictures and volumes; channels come first."""

from collections.abc import Mapping, Sequence
from typing import Any, TypeAlias

from torch import Tensor, nn

from maze_core.models.blocks.block import Block, Keys, Shapes, WeightInit, activation, initialised

_CONVOLUTIONS: Mapping[int, Any] = {1: nn.Conv1d, 2: nn.Conv2d, 3: nn.Conv3d}
Size: TypeAlias = int | Sequence[int]


class StridedConvolutionBlock(Block):
    """A stack of convolutions, each with its activation: ``[C, …]`` → ``[C', …]``."""

    input_dims = ((2, 3, 4),)

    def __init__(
        self,
        in_keys: Keys,
        out_keys: Keys,
        in_shapes: Shapes,
        hidden_channels: Sequence[int],
        hidden_kernels: Size | Sequence[Size],
        hidden_strides: Size | Sequence[Size] | None = None,
        hidden_dilations: Size | Sequence[Size] | None = None,
        hidden_padding: Size | Sequence[Size] | None = None,
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
        each = {
            "kernel_size": _per_layer(hidden_kernels, n_layers, "hidden_kernels", 1),
            "stride": _per_layer(hidden_strides, n_layers, "hidden_strides", 1),
            "padding": _per_layer(hidden_padding, n_layers, "hidden_padding", 0),
            "dilation": _per_layer(hidden_dilations, n_layers, "hidden_dilations", 1),
        }
        layers: list[nn.Module] = []
        for i, n_out in enumerate(hidden_channels):
            settings = {name: sizes[i] for name, sizes in each.items()}
            kernel = settings["kernel_size"]
            self.check_weights(
                channels, n_out, *(kernel if isinstance(kernel, tuple) else [kernel] * len(size))
            )
            layer = _CONVOLUTIONS[len(size)](channels, n_out, padding_mode=padding_mode, **settings)
            layers += [initialised(layer, weight_init, hidden_gain), activation(non_lin)]
            channels = n_out
        self.layers = nn.Sequential(*layers)
        _check_size(self)

    def compute(self, *inputs: Tensor) -> Tensor:
        """``[N, C, …]`` → ``[N, C', …]``."""
        return self.layers(inputs[0])  # type: ignore[no-any-return]


class VGGConvolutionBlock(Block):
    """Pairs of 3×3 convolutions and a maximum over 2×2 (Simonyan and Zisserman 2014): ``[C, H, W]`` → ``[C', …]``.

    Batch norm (Ioffe and Szegedy 2015) is between convolution and activation. Networks act and learn in evaluation
    mode here, in which it scales and shifts, and gathers no statistics.
    """

    input_dims = ((3,),)

    def __init__(
        self,
        in_keys: Keys,
        out_keys: Keys,
        in_shapes: Shapes,
        hidden_channels: Sequence[int],
        non_lin: str | type[nn.Module] = "relu",
        use_batch_norm_conv: bool = False,
        weight_init: WeightInit = "orthogonal",
        hidden_gain: float = 2**0.5,
    ) -> None:
        """Take the channels of each pair.

        Raises:
            ValueError: the picture becomes empty on the way.
        """
        super().__init__(in_keys, out_keys, in_shapes)
        channels, layers = self.in_shapes[0][0], []
        for n_out in hidden_channels:
            for n_in in (channels, n_out):
                layer = nn.Conv2d(n_in, n_out, kernel_size=3, padding=1)
                layers += [initialised(layer, weight_init, hidden_gain)]
                layers += [nn.BatchNorm2d(n_out)] * use_batch_norm_conv
                layers += [activation(non_lin)]
            layers += [nn.MaxPool2d(2)]
            channels = n_out
        self.layers = nn.Sequential(*layers)
        _check_size(self)

    def compute(self, *inputs: Tensor) -> Tensor:
        """``[N, C, H, W]`` → ``[N, C', H / 2ⁿ, W / 2ⁿ]``."""
        return self.layers(inputs[0])  # type: ignore[no-any-return]


def _check_size(block: Block) -> None:
    try:
        block.out_shapes()
    except RuntimeError as error:
        raise ValueError(
            f"{block.kind}: the kernels are too large for {block.in_keys[0]!r} of shape {list(block.in_shapes[0])} "
            f"({str(error).splitlines()[0]}); take smaller kernels or strides, fewer layers, or padding; a template "
            "fits them to the picture with model.model_builder.modality_config.image=null."
        ) from error


def _per_layer(given: Size | Sequence[Size] | None, n_layers: int, name: str, default: int) -> list[Any]:
    if given is None or isinstance(given, int):
        return [default if given is None else given] * n_layers
    if len(given) != n_layers:
        raise ValueError(f"{name} has {len(given)} entries for {n_layers} layers: give one, or one for each.")
    return [size if isinstance(size, int) else tuple(size) for size in given]
