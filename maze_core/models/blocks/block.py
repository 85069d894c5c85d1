"""What the blocks of torch networks share: keys, shapes, any number of leading dimensions, and first weights.

A block reads the tensors of its ``in_keys`` from a dict and gives a dict of its ``out_keys``. ``in_shapes`` are the
shapes of its inputs without leading dimensions; sizes in them are those of the spaces, and where a block says so an
axis may be longer or shorter (points of a set). Whatever stands before, such as ``[B]``, ``[T, B]`` or nothing, is
folded into one batch for :meth:`Block.compute` and put back afterwards.
"""

from collections.abc import Mapping, Sequence
from math import inf, prod
from typing import ClassVar, Final, Literal, TypeAlias, cast

import torch
from torch import Tensor, nn

from maze_core.models.activations import ActivationName, activation_name

Shape: TypeAlias = tuple[int, ...]
Keys: TypeAlias = str | Sequence[str]
Shapes: TypeAlias = Sequence[int] | Sequence[Sequence[int]]
Tensors: TypeAlias = Mapping[str, Tensor]
MOST_WEIGHTS: Final = 2**27
"""Of one layer: half a gigabyte."""
WeightInit: TypeAlias = Literal["orthogonal", "normc", "torch_default"]

_ACTIVATIONS: Mapping[ActivationName, type[nn.Module]] = {
    "tanh": nn.Tanh,
    "relu": nn.ReLU,
    "elu": nn.ELU,
    "sigmoid": nn.Sigmoid,
    "silu": nn.SiLU,
    "leaky_relu": nn.LeakyReLU,
    "gelu": nn.GELU,
    "selu": nn.SELU,
    "mish": nn.Mish,
    "softplus": nn.Softplus,
    "identity": nn.Identity,
}


class Block(nn.Module):
    """A part of a network. A block of its own gives ``compute``, and ``input_dims`` where it is particular."""

    input_dims: ClassVar[tuple[tuple[int, ...], ...]] = ()
    """Per input, how many dimensions it may have behind the batch; the last entry stands for all further ones."""

    def __init__(self, in_keys: Keys, out_keys: Keys, in_shapes: Shapes) -> None:
        """Take the names of inputs and outputs, and the shapes of the inputs without leading dimensions.

        Raises:
            ValueError: they do not fit each other, or the block.
        """
        super().__init__()
        self.in_keys, self.out_keys = _keys(in_keys), _keys(out_keys)
        self.in_shapes = _shapes(in_shapes)
        if len(self.in_keys) != len(self.in_shapes):
            raise ValueError(
                f"{self.kind} reads {list(self.in_keys)}, so it takes {len(self.in_keys)} in_shapes, "
                f"not {len(self.in_shapes)}."
            )
        for i, (key, shape) in enumerate(as_pairs(self.in_keys, self.in_shapes)):
            allowed = self.input_dims[min(i, len(self.input_dims) - 1)] if self.input_dims else (len(shape),)
            if len(shape) not in allowed:
                dims = " or ".join(map(str, allowed))
                raise ValueError(
                    f"{self.kind} reads {dims} dimensions, and {key!r} has the shape {list(shape)}."
                )

    @property
    def state_width(self) -> int:
        """Numbers that it carries from one observation of an episode to the next; see :mod:`.recurrent`."""
        return 0

    @property
    def state_limits(self) -> list[float]:
        """Of each of them, how far from 0 it may be."""
        return [inf] * self.state_width

    @property
    def kind(self) -> str:
        """The name of its class, for messages."""
        return type(self).__name__

    def compute(self, *inputs: Tensor) -> Tensor | tuple[Tensor, ...]:
        """Outputs ``[N, …]`` of inputs ``[N, …]``."""
        raise NotImplementedError

    def forward(self, tensors: Tensors) -> dict[str, Tensor]:
        """Outputs by name, with the leading dimensions of the inputs.

        Raises:
            ValueError: an input is missing or has too few dimensions.
        """
        inputs = [self.read(tensors, key) for key in self.in_keys]
        lead = inputs[0].shape[: inputs[0].ndim - len(self.in_shapes[0])]
        folded = [
            x.reshape(-1, *x.shape[x.ndim - len(shape) :])
            for x, shape in zip(inputs, self.in_shapes, strict=True)
        ]
        return self.named([y.reshape(*lead, *y.shape[1:]) for y in as_tuple(self.compute(*folded))])

    def read(self, tensors: Tensors, key: str) -> Tensor:
        """An input, with all of its dimensions."""
        if key not in tensors:
            raise ValueError(f"{self.kind} reads {key!r}, there is only {sorted(tensors)}.")
        shape = self.in_shapes[self.in_keys.index(key)]
        if tensors[key].ndim < len(shape):
            raise ValueError(
                f"{self.kind} reads {key!r} of shape [..., {', '.join(map(str, shape))}], "
                f"not {list(tensors[key].shape)}."
            )
        return tensors[key]

    def named(self, outputs: Sequence[Tensor]) -> dict[str, Tensor]:
        """Outputs by their names."""
        if len(outputs) != len(self.out_keys):
            raise ValueError(
                f"{self.kind} gives {len(outputs)} outputs, and out_keys are {list(self.out_keys)}."
            )
        return dict(zip(self.out_keys, outputs, strict=True))

    def check_weights(self, *sizes: int) -> None:
        """Refuse a layer of more weights than any network here needs, before memory is taken for it.

        Raises:
            ValueError: it has more.
        """
        if prod(sizes) > MOST_WEIGHTS:
            raise ValueError(
                f"{self.kind}: a layer of {' × '.join(map(str, sizes))} weights is more than {MOST_WEIGHTS:,}; make "
                f"{self.in_keys[0]!r} smaller (strides, pooling), or the layer."
            )

    def out_shapes(self) -> list[Shape]:
        """Shapes of the outputs without leading dimensions, by a forward pass of two rows of zeros."""
        was_training = self.training
        with torch.no_grad():
            given = self.eval().forward(
                {key: torch.zeros(2, *shape) for key, shape in as_pairs(self.in_keys, self.in_shapes)}
            )
        self.train(was_training)
        return [tuple(given[key].shape[1:]) for key in self.out_keys]


def as_tuple(given: Tensor | Sequence[Tensor]) -> tuple[Tensor, ...]:
    """One tensor or several, as several."""
    return (given,) if isinstance(given, Tensor) else tuple(given)


def as_pairs(keys: Sequence[str], shapes: Sequence[Shape]) -> list[tuple[str, Shape]]:
    """Each key with its shape."""
    return list(zip(keys, shapes, strict=True))


def activation(name: str | type[nn.Module]) -> nn.Module:
    """The layer of an activation: ``tanh``, ``torch.nn.Tanh`` as text, or its class.

    Raises:
        ValueError: there is no such activation.
    """
    if isinstance(name, type) and issubclass(name, nn.Module):
        return name()
    short = activation_name(name)
    if short not in _ACTIVATIONS:
        raise ValueError(f"There is no activation {name!r}: take one of {', '.join(_ACTIVATIONS)}.")
    return _ACTIVATIONS[cast("ActivationName", short)]()


def initialised(layer: nn.Module, weight_init: WeightInit = "orthogonal", gain: float = 2**0.5) -> nn.Module:
    """The layer, its weights drawn from torch's generator.

    Args:
        layer: a Linear, a convolution or a recurrent layer.
        weight_init: orthogonal (Saxe et al. 2014, arXiv:1312.6120), by ``gain``; ``normc``: normal, each unit's weights
            of length ``gain``; both with biases 0. ``torch_default`` leaves what torch drew.
        gain: scale of the weights.
    """
    if weight_init == "torch_default":
        return layer
    with torch.no_grad():
        for name, parameter in layer.named_parameters():
            if "bias" in name:
                parameter.zero_()
            elif isinstance(layer, nn.RNNBase):
                for gate in parameter.split(layer.hidden_size):
                    _draw(gate, weight_init, gain)
            else:
                _draw(parameter, weight_init, gain)
    return layer


def _draw(weight: Tensor, weight_init: WeightInit, gain: float) -> None:
    if weight_init == "orthogonal":
        nn.init.orthogonal_(weight, gain)
    else:
        nn.init.normal_(weight)
        weight *= gain / weight.flatten(1).norm(dim=1).clamp(min=1e-8).reshape(-1, *[1] * (weight.ndim - 1))


def _keys(keys: Keys) -> tuple[str, ...]:
    return (keys,) if isinstance(keys, str) else tuple(keys)


def _shapes(shapes: Shapes) -> tuple[Shape, ...]:
    if shapes and isinstance(shapes[0], int):
        return (tuple(cast("Sequence[int]", shapes)),)
    return tuple(tuple(shape) for shape in cast("Sequence[Sequence[int]]", shapes))
