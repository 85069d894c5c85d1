"""Torch networks of blocks, from settings alone: those of a template, and those named block by block.

Observations of numbers are read as float32, categories as indicators, pictures (a Box of three axes) channels first
and, where its numbers are bounded integers, scaled to 0 to 1. First weights come from torch's generator.
"""

from collections.abc import Callable, Mapping, Sequence
from functools import partial
from math import prod
from typing import Any, Final

import torch
from gymnasium import spaces
from torch import Tensor, nn
from torch.overrides import TorchFunctionMode

from maze_core.errors import InvalidSpecificationError, Problem
from maze_core.models import blocks
from maze_core.models.block_config import STATEFUL, BlockConfig
from maze_core.models.blocks.block import Block, Keys, Shape, Tensors, WeightInit
from maze_core.models.builders import channels_first, modality, one_hot
from maze_core.models.graph import OneHot
from maze_core.models.memory import STATE
from maze_core.models.size import Size, check_given, check_tensor
from maze_core.models.template_config import BlockNetConfig, ConcatModelBuilderConfig, ModalityConfig

KINDS: Mapping[str, type[Block]] = {
    name.removesuffix("Block").lower(): getattr(blocks, name)
    for name in blocks.__all__
    if name.endswith("Block")
}
"""Type of block, in small letters alone → its class."""
Inputs = Mapping[str, spaces.Space[object]]
VALUE: Final = "value"
"""Name of what a critic gives."""


class OneHotBlock(Block):
    """Categories as indicators: ``[…]`` → ``[n]``; see :class:`~maze_core.models.graph.OneHot`."""

    def __init__(self, in_keys: Keys, out_keys: Keys, in_shapes: Sequence[Shape], op: OneHot) -> None:
        """Take how many categories there are, and where each starts."""
        super().__init__(in_keys, out_keys, in_shapes)
        groups, categories = op.columns()
        self.groups: Tensor
        self.register_buffer("groups", torch.from_numpy(groups), persistent=False)
        self.categories: Tensor
        self.register_buffer("categories", torch.from_numpy(categories), persistent=False)

    def compute(self, *inputs: Tensor) -> Tensor:
        """``[N, …]`` → ``[N, n]``."""
        flat = inputs[0].reshape(inputs[0].shape[0], -1)
        return torch.eq(flat[:, self.groups], self.categories).float()


class PictureBlock(Block):
    """A picture channels first: ``[H, W, C]`` or ``[C, H, W]`` → ``[C, H, W]``, scaled."""

    input_dims = ((3,),)

    def __init__(
        self,
        in_keys: Keys,
        out_keys: Keys,
        in_shapes: Sequence[Shape],
        is_first: bool,
        low: float,
        high: float,
    ) -> None:
        """Take where its channels are, and which numbers become 0 and 1."""
        super().__init__(in_keys, out_keys, in_shapes)
        self.is_first, self.low, self.scale = is_first, low, 1.0 / (high - low)

    def compute(self, *inputs: Tensor) -> Tensor:
        """``[N, H, W, C]`` → ``[N, C, H, W]``."""
        picture = inputs[0] if self.is_first else inputs[0].permute(0, 3, 1, 2)
        if self.low:
            picture = picture - self.low
        if self.scale != 1.0:
            picture = picture * self.scale
        # as [N, H, W, C] lies: with few channels, the gradient of a first convolution takes a third of the time then
        return picture.contiguous(memory_format=torch.channels_last)


class BlockNetwork(nn.Module):
    """An embedding of the observations, and a linear layer behind it for the outputs; one more for a value."""

    reads_sequences = True
    """With ``"begins"`` it is given whole sequences; see :mod:`maze_core.models.blocks.recurrent`."""

    def __init__(
        self,
        embedding: blocks.InferenceBlock,
        outputs: Mapping[str, int],
        gain: float,
        weight_init: WeightInit = "orthogonal",
    ) -> None:
        """Take the embedding, and the names and widths of the outputs."""
        super().__init__()
        self.embedding, self._weight_init = embedding, weight_init
        self._shapes = [embedding.shapes[key] for key in embedding.out_keys]
        self.heads = nn.ModuleDict()
        self._outputs: dict[str, dict[str, int]] = {}
        self._add("output", outputs, gain)

    def add_value(self, gain: float) -> None:
        """Have it give a value, too, by a layer of its own: a critic then shares the embedding."""
        self._add(VALUE, {VALUE: 1}, gain)

    def _add(self, name: str, outputs: Mapping[str, int], gain: float) -> None:
        width = sum(int(torch.Size(shape).numel()) for shape in self._shapes)
        self.heads[name] = blocks.LinearOutputBlock(
            "latent", name, (width,), sum(outputs.values()), self._weight_init, gain
        )
        self._outputs[name] = dict(outputs)

    @property
    def state_width(self) -> int:
        """Numbers that it carries from one observation of an episode to the next."""
        return self.embedding.state_width

    @property
    def state_limits(self) -> list[float]:
        """How far from 0 each of them may be."""
        return self.embedding.state_limits

    def forward(self, observations: Tensors, wanted: Sequence[str] = ()) -> dict[str, Tensor]:
        """Outputs by name, those that are wanted or all, and, where it carries one, the state."""
        given = self.embedding(observations)
        flat = [
            given[key].flatten(given[key].ndim - len(shape)) if shape else given[key][..., None]
            for key, shape in zip(self.embedding.out_keys, self._shapes, strict=True)
        ]
        latent = {"latent": torch.cat(flat, -1) if len(flat) > 1 else flat[0]}
        found = {STATE: given[STATE]} if self.state_width else {}
        for name, outputs in self._outputs.items():
            if not wanted or not outputs.keys().isdisjoint(wanted):
                parts = self.heads[name](latent)[name].split(list(outputs.values()), -1)
                found |= dict(zip(outputs, parts, strict=True))
        return found


class _Bounded(TorchFunctionMode):
    """Refuses tensors that no network here needs; of those that only have a shape it does so without memory."""

    def __init__(self, path: str) -> None:
        super().__init__()
        self._path = path

    def __torch_function__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        """What the function gives, where that is no larger than may be."""
        given = func(*args, **(kwargs or {}))
        if isinstance(given, Tensor) and given.is_meta:
            check_tensor(given.numel(), self._path)
        return given


class _Assembly:
    """Blocks, and the shapes of all that they give."""

    def __init__(self, inputs: Inputs, channels: str | None, path: str, size: Size) -> None:
        self.path, self._size, self._n_given = path, size, 0
        self.inputs = {name: tuple(space.shape or ()) for name, space in inputs.items()}
        self.shapes: dict[str, Shape] = dict(self.inputs)
        self.blocks: dict[str, Block] = {}
        self._channels = channels

    def add(self, kind: type[Block], in_keys: Keys, out_keys: Keys, n_lead: int = 0, **settings: Any) -> str:
        """Add a block that folds ``n_lead`` axes; gives the name of its first output."""
        reads, gives = ([keys] if isinstance(keys, str) else list(keys) for keys in (in_keys, out_keys))
        missing = [key for key in reads if key not in self.shapes]
        if missing:
            message = f"reads {missing[0]!r}, which is no observation, and no block before it gives it."
            raise _problem(self.path, message, tuple(self.shapes))
        lead = self.shapes[reads[0]][:n_lead]
        try:
            shapes = [self.shapes[key][n_lead:] for key in reads]
            if kind is not OneHotBlock:  # no weights, and what it gives is counted where it is added
                self._check_size(partial(kind, reads, gives, shapes, **settings), prod(lead))
            block = kind(reads, gives, shapes, **settings)
            shapes = block.out_shapes()
        except InvalidSpecificationError:
            raise
        except (ValueError, RuntimeError, IndexError) as error:
            reason = str(error).splitlines()[0].removeprefix(f"{kind.__name__}: ")
            raise _problem(self.path, f"{kind.__name__}: {reason}") from error
        self.blocks["_".join(gives)] = block
        self.shapes |= {key: (*lead, *shape) for key, shape in zip(gives, shapes, strict=True)}
        return gives[0]

    def _check_size(self, kind: Callable[[], Block], n_rows: int) -> None:
        """Refuse a block that is too large, or gives too much, before memory is taken for it."""
        with torch.device("meta"), _Bounded(self.path):
            block = kind()
            self.check_given(n_rows * sum(map(prod, block.out_shapes())))
        self._size.add(sum(parameter.numel() for parameter in block.parameters()), self.path)

    def check_given(self, n: int) -> None:
        """Count numbers that a block gives of one observation."""
        self._n_given += n
        check_given(self._n_given, self.path)

    def add_configured(self, config: BlockConfig, in_keys: Keys, out_keys: Keys, n_lead: int = 0) -> str:
        """Add the block of a configuration."""
        settings = dict(vars(config.settings))
        if config.block_type in STATEFUL:
            del settings["bidirectional"], settings["non_lin"]
        kind = KINDS[config.block_type.replace("_", "")]
        return self.add(kind, in_keys, out_keys, n_lead, **settings)

    def read(
        self, name: str, space: spaces.Space[object], target: str, *, n_lead: int = 0, flat: bool = False
    ) -> str:
        """Add what turns an observation into what blocks read; gives the key of that."""
        if (op := one_hot(name, space, target)) is not None:
            self.check_given(op.width)
            return self.add(OneHotBlock, name, target, op=op)
        shape = self.shapes[name][n_lead:]
        if isinstance(space, spaces.Box) and len(shape) == 3 and not flat:
            low, high = _range(space)
            is_first = channels_first(shape, self._channels)
            return self.add(PictureBlock, name, target, n_lead, is_first=is_first, low=low, high=high)
        if flat and len(shape) != 1:
            return self.add(blocks.FlattenBlock, name, target, n_lead)
        return name

    def network(self, latent: Keys) -> blocks.InferenceBlock:
        """All of it as one network."""
        try:
            return blocks.InferenceBlock([*self.inputs], latent, [*self.inputs.values()], self.blocks)
        except ValueError as error:
            raise _problem(self.path, str(error)) from error


def template_embedding(
    inputs: Inputs, template: ConcatModelBuilderConfig, size: Size
) -> blocks.InferenceBlock:
    """The embedding of a template: a block per observation, side by side, hidden layers, memory.

    Args:
        inputs: the observations that are read.
        template: the settings.
        size: counts the parameters of the model.

    Raises:
        InvalidSpecificationError: a block does not fit its observation.
    """
    config, path = template.modality_config, "model.model_builder.modality_config"
    # axes that stay in front until the recurrence takes them
    n_stack = int(config.recurrence is not None and config.recurrence.block_type == "lstm_last_step")
    made = _Assembly(inputs, template.channels, path, size)
    if n_stack:
        _check_stacks(made.shapes)
    parts = []
    for i, (name, space) in enumerate(inputs.items()):
        kind = str(modality(name, space, template))
        n_lead = n_stack or _n_pictures(kind, made.shapes[name], config)
        source = made.read(name, space, f"input_{i}", n_lead=n_lead, flat=kind == "feature")
        made.path = f"{path}.{kind}"
        block = getattr(config, kind) or _fitting(made.shapes[source][n_lead:])
        part = made.add_configured(block, source, f"{kind}_{i}", n_lead)
        if len(made.shapes[part]) > n_stack + 1:
            part = made.add(blocks.FlattenBlock, part, f"flat_{i}", n_stack)
        parts.append(part)
    latent = parts[0] if len(parts) == 1 else made.add(blocks.ConcatenationBlock, parts, "concat", n_stack)
    made.path = f"{path}.hidden"
    if config.hidden.block_params.get("hidden_units") != []:
        latent = made.add_configured(config.hidden, latent, "hidden", n_stack)
    if config.recurrence is not None:
        made.path = f"{path}.recurrence"
        latent = made.add_configured(config.recurrence, latent, "recurrence")
    return made.network(latent)


def named_embedding(inputs: Inputs, config: BlockNetConfig, path: str, size: Size) -> blocks.InferenceBlock:
    """The embedding of a network that is named block by block.

    Raises:
        InvalidSpecificationError: a block does not fit what it reads.
    """
    made = _Assembly(inputs, config.channels, path, size)
    read = {name: made.read(name, space, f"read_{i}") for i, (name, space) in enumerate(inputs.items())}
    for i, block in enumerate(config.blocks):
        made.path = f"{path}.blocks.{i}"
        _check_order(config, i, made)
        given = [key for key in block.out_keys if key in made.shapes]
        if given:
            raise _problem(made.path, f"gives {given[0]!r}, which is there already: rename it.")
        made.add_configured(block, [read.get(key, key) for key in block.in_keys], block.out_keys)
    made.path = path
    return made.network(config.latent or config.blocks[-1].out_keys)


def _check_order(config: BlockNetConfig, i: int, made: _Assembly) -> None:
    """Say where a block stands too early, or reads in a circle what it gives."""
    makers = {key: n for n, block in enumerate(config.blocks) for key in block.out_keys}
    missing = next((key for key in config.blocks[i].in_keys if key not in made.shapes), None)
    if missing is None or missing not in makers:
        return
    needed: set[int] = set()
    waiting = [i]
    while waiting:
        for key in config.blocks[waiting.pop()].in_keys:
            maker = makers.get(key)
            if maker is not None and key not in made.shapes and maker not in needed:
                needed.add(maker)
                waiting.append(maker)
    if i in needed:
        raise _problem(
            made.path, f"the blocks {sorted(needed)} read each other: one has to read what is there already."
        )
    raise _problem(made.path, f"reads {missing!r}; block {makers[missing]} gives it: put that one before.")


def _n_pictures(kind: str, shape: Shape, config: ModalityConfig) -> int:
    """1 for a stack of pictures, each of which is convolved; 0 for one picture, a volume and anything else."""
    dimensions = {} if config.image is None else config.image.block_params
    return int(kind == "image" and len(shape) == 4 and dimensions.get("convolution_dimension") != 3)


def _fitting(shape: Shape) -> BlockConfig:
    """Convolutions for pictures of this size: those of Mnih et al. 2015 (doi:10.1038/nature14236), or small ones."""
    if min(shape[1:]) >= 36:
        sizes: dict[str, Any] = {
            "hidden_channels": (32, 64, 64),
            "hidden_kernels": (8, 4, 3),
            "hidden_strides": (4, 2, 1),
        }
    else:  # Young and Tian 2019 (arXiv:1903.03176) for MinAtar's 10 × 10
        sizes = {"hidden_channels": (16,), "hidden_kernels": 3, "hidden_padding": int(min(shape[1:]) < 3)}
    return BlockConfig(block_type="strided_convolution", block_params=sizes)


def _check_stacks(shapes: Mapping[str, Shape]) -> None:
    lengths = {name: shape[0] if len(shape) > 1 else None for name, shape in shapes.items()}
    if None in lengths.values() or len(set(lengths.values())) > 1:
        shown = ", ".join(f"{name} {list(shape)}" for name, shape in shapes.items())
        raise _problem(
            "model.model_builder.modality_config.recurrence",
            f"lstm_last_step reads observations that are stacked along a first axis, these are: {shown}. Stack them by "
            "a wrapper (wrappers=vector_obs_rnn), or take block_type=lstm, which carries a state and needs no stack.",
        )


def _range(space: spaces.Space[object]) -> tuple[float, float]:
    """Which numbers become 0 and 1: the bounds of whole numbers, else 0 and 1 themselves."""
    if isinstance(space, spaces.Box) and space.dtype.kind in "iu":
        low, high = float(space.low.min()), float(space.high.max())
        if high > low:
            return low, high
    return 0.0, 1.0


def _problem(path: str, message: str, allowed: tuple[str, ...] = ()) -> InvalidSpecificationError:
    return InvalidSpecificationError([Problem(path=path, message=message, allowed=allowed)])
