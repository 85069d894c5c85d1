"""Settings of the blocks of torch networks, and of the templates and networks that are made of them; no torch.

``block_type`` names a block of :mod:`maze_core.models.blocks`, ``block_params`` are its settings: what its constructor
takes behind the keys and shapes. Blocks that take code (``FunctionalBlock``, ``TorchModelBlock``) have no name here.
"""

import dataclasses
from collections.abc import Mapping
from dataclasses import field
from typing import Annotated, Any, Final, Literal, TypeAlias

from pydantic import BeforeValidator, ConfigDict, Field
from pydantic.json_schema import JsonSchemaValue

from maze_core.config.nodes import shown
from maze_core.config.settings import dataclass
from maze_core.config.words import closest
from maze_core.errors import InvalidSpecificationError, Problem
from maze_core.models.activations import ActivationName, activation_name
from maze_core.models.size import check_widths

_STRICT = ConfigDict(extra="forbid")
_MOST_LAYERS = Field(max_length=8)

Activation = Annotated[ActivationName, BeforeValidator(activation_name)]
Width: TypeAlias = Annotated[int, Field(ge=1, le=4096)]
HiddenUnits = Annotated[tuple[Width, ...], _MOST_LAYERS]
"""Widths of dense layers; none at all makes the network linear."""
Widths: TypeAlias = Annotated[tuple[Width, ...], Field(min_length=1, max_length=8)]
_Size: TypeAlias = Annotated[int, Field(ge=1, le=64)]
_Padding: TypeAlias = Annotated[int, Field(ge=0, le=64)]
Sizes: TypeAlias = _Size | Annotated[tuple[_Size | tuple[_Size, ...], ...], _MOST_LAYERS]
"""A size for all layers, or one for each, which may be one for each axis."""
Paddings: TypeAlias = _Padding | Annotated[tuple[_Padding | tuple[_Padding, ...], ...], _MOST_LAYERS]
Gain = Annotated[float, Field(gt=0.0)]
Pooling: TypeAlias = Literal["max", "mean", "sum"]
_Count: TypeAlias = Annotated[int, Field(ge=1, le=64)]
_Share: TypeAlias = Annotated[float, Field(ge=0.0, lt=1.0)]


@dataclass(frozen=True, kw_only=True, config=_STRICT)
class LayersConfig:
    """Settings of dense layers."""

    hidden_units: HiddenUnits = (64, 64)
    """Width of each hidden layer."""
    non_lin: Activation = "tanh"
    """Activation after each hidden layer."""
    weight_init: Literal["orthogonal", "torch_default"] = "orthogonal"
    """First weights: orthogonal, by their gain, with biases 0; or all even within ±1/√inputs, as torch's."""
    hidden_gain: Gain = 2**0.5
    """Scale of the orthogonal weights of hidden layers; √2 suits ReLU."""

    def __post_init__(self) -> None:
        """Refuse more weights than a checkpoint can hold.

        Raises:
            InvalidSpecificationError: there are more.
        """
        check_widths(self.hidden_units, "hidden_units")


@dataclass(frozen=True, kw_only=True, config=_STRICT)
class DenseBlockParams(LayersConfig):
    """Settings of the dense layers of a block."""

    hidden_units: HiddenUnits = (128,)
    """Width of each layer."""


@dataclass(frozen=True, kw_only=True, config=_STRICT)
class NoParams:
    """A block without settings."""


@dataclass(frozen=True, kw_only=True, config=_STRICT)
class WeightsParams:
    """What blocks with weights and activations share."""

    non_lin: Activation = "relu"
    """Activation after each layer."""
    weight_init: Literal["orthogonal", "normc", "torch_default"] = "orthogonal"
    """First weights: orthogonal or ``normc`` (each unit's of one length) by their gain, biases 0; or as torch's."""
    hidden_gain: Gain = 2**0.5
    """Scale of the first weights; √2 suits ReLU."""


@dataclass(frozen=True, kw_only=True, config=_STRICT)
class StridedConvolutionParams(WeightsParams):
    """Settings of strided convolutions."""

    hidden_channels: Widths
    """Channels behind each layer."""
    hidden_kernels: Sizes
    """Size of the kernels: one for all layers, or one for each, which may be one for each axis."""
    hidden_strides: Sizes | None = None
    """Steps of the kernels; null is 1."""
    hidden_dilations: Sizes | None = None
    """Gaps within the kernels; null is 1, none."""
    hidden_padding: Paddings | None = None
    """What is added around; null is 0."""
    convolution_dimension: Literal[1, 2, 3] | None = None
    """Axes behind the channels; null takes those of the observation."""
    padding_mode: Literal["zeros", "reflect", "replicate", "circular"] = "zeros"
    """What is added."""


@dataclass(frozen=True, kw_only=True, config=_STRICT)
class VGGConvolutionParams(WeightsParams):
    """Settings of pairs of 3×3 convolutions with a maximum over 2×2."""

    hidden_channels: Widths
    """Channels of each pair."""
    use_batch_norm_conv: bool = False
    """Must be false here: it gathers no statistics in evaluation mode, in which networks act and learn."""

    def __post_init__(self) -> None:
        """Refuse what would not do what its name says.

        Raises:
            InvalidSpecificationError: batch norm is asked for.
        """
        if self.use_batch_norm_conv:
            raise _needs_training("use_batch_norm_conv", "gathers no statistics", "false")


@dataclass(frozen=True, kw_only=True, config=_STRICT)
class _DenseBehind:
    hidden_units: HiddenUnits = (128,)
    """Width of each dense layer behind the convolutions."""
    dense_non_lin: Activation = "tanh"
    """Activation after each of them."""


@dataclass(frozen=True, kw_only=True, config=_STRICT)
class StridedConvolutionDenseParams(_DenseBehind, StridedConvolutionParams):
    """Settings of strided convolutions and dense layers."""


@dataclass(frozen=True, kw_only=True, config=_STRICT)
class VGGConvolutionDenseParams(_DenseBehind, VGGConvolutionParams):
    """Settings of VGG convolutions and dense layers."""


@dataclass(frozen=True, kw_only=True, config=_STRICT)
class RecurrenceParams:
    """Settings of recurrent layers."""

    hidden_size: Annotated[int, Field(ge=1, le=2048)] = 128
    """Width of the layers."""
    num_layers: Annotated[int, Field(ge=1, le=4)] = 1
    """How many."""
    bidirectional: bool = False
    """Of ``lstm_last_step``: read backwards, too."""
    non_lin: Activation = "identity"
    """Of ``lstm_last_step``: activation behind it."""
    weight_init: Literal["orthogonal", "normc", "torch_default"] = "orthogonal"
    """First weights, gate by gate."""
    hidden_gain: Gain = 1.0
    """Their scale."""


@dataclass(frozen=True, kw_only=True, config=_STRICT)
class GraphConvParams:
    """Settings of graph convolutions."""

    hidden_features: Widths
    """Width of each layer."""
    bias: bool = True
    """Whether layers have one."""
    non_lins: Activation = "relu"
    """Activation after each layer."""
    node_self_importance: float = 1.0
    """How much a node counts among its neighbours."""
    trainable_node_self_importance: bool = False
    """Learn that."""
    preprocess_adj: bool = True
    """Add the node itself and divide by the roots of the degrees."""


@dataclass(frozen=True, kw_only=True, config=_STRICT)
class GraphAttentionParams:
    """Settings of graph attention."""

    hidden_features: Widths
    """Width of each layer."""
    n_heads: _Count = 1
    """Heads of each layer."""
    alpha: float = 0.2
    """Slope of scores below 0."""
    non_lins: Activation = "elu"
    """Activation after each layer."""


@dataclass(frozen=True, kw_only=True, config=_STRICT)
class GNNParams(WeightsParams):
    """Settings of messages along edges."""

    hidden_features: Widths
    """Width of each layer."""
    aggregate: Literal["sum", "mean", "max"] = "sum"
    """How the messages of a node become one."""


@dataclass(frozen=True, kw_only=True, config=_STRICT)
class MultiHeadAttentionParams:
    """Settings of attention."""

    num_heads: _Count
    """Heads, which divide the width of the queries."""
    dropout: _Share = 0.0
    """Must be 0 here: it does nothing in evaluation mode, in which networks act and learn."""
    bias: bool = True
    """Whether layers have one."""
    add_input_to_output: bool = False
    """Add the queries to what they find."""

    def __post_init__(self) -> None:
        """Refuse what would not do what its name says.

        Raises:
            InvalidSpecificationError: there is dropout.
        """
        if self.dropout:
            raise _needs_training("dropout", "does nothing", "0")


@dataclass(frozen=True, kw_only=True, config=_STRICT)
class SelfAttentionSeqParams(MultiHeadAttentionParams):
    """Settings of attention within a sequence."""

    num_heads: _Count = 1
    """Heads, which divide the width of the entries."""
    add_input_to_output: bool = True
    """Add the entries to what they find."""


@dataclass(frozen=True, kw_only=True, config=_STRICT)
class SelfAttentionConvParams:
    """Settings of attention within a picture."""

    embed_dim: Width
    """Width of queries and keys."""
    add_input_to_output: bool = True
    """Add the picture to what is found, scaled by a parameter that starts at 0."""
    bias: bool = True
    """Whether layers have one."""


@dataclass(frozen=True, kw_only=True, config=_STRICT)
class MaskedGlobalPoolingParams:
    """Settings of a pooling."""

    pooling: Pooling = "mean"
    """What is taken of the entries that are there."""


@dataclass(frozen=True, kw_only=True, config=_STRICT)
class PointNetFeatureParams(WeightsParams):
    """Settings of a set of points."""

    embedding_units: Widths = (64, 128)
    """Widths of the layers that each point goes through."""
    pooling: Pooling = "max"
    """What is taken of all points."""


@dataclass(frozen=True, kw_only=True, config=_STRICT)
class FlattenParams:
    """Settings of flattening."""

    num_flatten_dims: _Count | None = None
    """How many of the last axes become one; null takes all."""


@dataclass(frozen=True, kw_only=True, config=_STRICT)
class AxisParams:
    """Which axis: 1 is the first behind the batch, -1 the last."""

    axis: int = -1
    """1 is the first behind the batch, -1 the last."""


@dataclass(frozen=True, kw_only=True, config=_STRICT)
class RepeatToMatchParams:
    """Settings of a repetition."""

    axis: int = 1
    """The new axis, as long as that of the second input."""


@dataclass(frozen=True, kw_only=True, config=_STRICT)
class SliceParams(RepeatToMatchParams):
    """Settings of a slice."""

    slice_idx: int
    """Which entry; -1 is the last."""


@dataclass(frozen=True, kw_only=True, config=_STRICT)
class MultiIndexSlicingParams(AxisParams):
    """Settings of several slices."""

    select_idxs: Annotated[tuple[int, ...], Field(min_length=1, max_length=1024)]
    """Which entries, in this order."""


@dataclass(frozen=True, kw_only=True, config=_STRICT)
class CorrelationParams:
    """Settings of a product."""

    reduce: bool = False
    """Sum over the last axis."""


BLOCKS: Final[Mapping[str, type[Any]]] = {
    "dense": DenseBlockParams,
    "flatten_dense": DenseBlockParams,
    "strided_convolution": StridedConvolutionParams,
    "strided_convolution_dense": StridedConvolutionDenseParams,
    "vgg_convolution": VGGConvolutionParams,
    "vgg_convolution_dense": VGGConvolutionDenseParams,
    "vgg_convolution_gap": VGGConvolutionParams,
    "lstm": RecurrenceParams,
    "gru": RecurrenceParams,
    "lstm_last_step": RecurrenceParams,
    "graph_conv": GraphConvParams,
    "graph_attention": GraphAttentionParams,
    "gnn": GNNParams,
    "multi_head_attention": MultiHeadAttentionParams,
    "self_attention_seq": SelfAttentionSeqParams,
    "self_attention_conv": SelfAttentionConvParams,
    "point_net_feature": PointNetFeatureParams,
    "global_average_pooling": NoParams,
    "masked_global_pooling": MaskedGlobalPoolingParams,
    "flatten": FlattenParams,
    "concatenation": AxisParams,
    "correlation": CorrelationParams,
    "action_masking": NoParams,
    "slice": SliceParams,
    "multi_index_slicing": MultiIndexSlicingParams,
    "repeat_to_match": RepeatToMatchParams,
}
"""Type of block → its settings."""
STATEFUL: Final = ("lstm", "gru")
"""Blocks that carry a state from one observation of an episode to the next."""
RECURRENT: Final = (*STATEFUL, "lstm_last_step")


def _needs_training(name: str, failing: str, way_out: str) -> InvalidSpecificationError:
    message = (
        f"{failing} in evaluation mode, in which networks act and learn, so that they learn from what acted: set it to "
        f"{way_out}, or give a module of your own."
    )
    return InvalidSpecificationError([Problem(path=name, message=message, code="not_supported")])


def _block_type(value: Any) -> Any:
    """``maze.perception.blocks.DenseBlock``, ``DenseBlock`` or the class itself → ``dense``."""
    last = str(getattr(value, "__name__", value)).rpartition(".")[2].removesuffix("Block")
    plain = last.lower().replace("_", "")
    found = next((name for name in BLOCKS if name.replace("_", "") == plain), None)
    if found is None:
        near = closest(last.lower(), tuple(BLOCKS))
        message = f"{shown(value)} is no block that a configuration can name."
        raise InvalidSpecificationError(
            [Problem(path="", message=message, code="not_allowed", allowed=tuple(BLOCKS), did_you_mean=near)]
        )
    return found


class _Params:
    """Says in JSON Schema what the settings of a block may be."""

    def __get_pydantic_json_schema__(self, schema: Any, handler: Any) -> JsonSchemaValue:
        kinds = dict.fromkeys(BLOCKS.values())
        return {"anyOf": [handler(kind.__pydantic_core_schema__) for kind in kinds]}


def _as_dict(value: Any) -> Any:
    return {} if value is None else dataclasses.asdict(value) if dataclasses.is_dataclass(value) else value  # type: ignore[arg-type]


@dataclass(frozen=True, kw_only=True, config=_STRICT)
class BlockConfig:
    """A block of a network."""

    block_type: Annotated[Literal[tuple(BLOCKS)], BeforeValidator(_block_type)] = "dense"  # type: ignore[valid-type]
    """Kind of block."""
    block_params: Annotated[dict[str, Any], BeforeValidator(_as_dict), _Params()] = field(
        default_factory=dict
    )
    """Its settings."""

    def __post_init__(self) -> None:
        """Check the settings and fill in those that are not given.

        Raises:
            InvalidSpecificationError: they are not those of the block.
        """
        try:
            settings = BLOCKS[self.block_type](**self.block_params)
        except InvalidSpecificationError as error:
            kind = BLOCKS[self.block_type].__name__
            raise InvalidSpecificationError(
                [
                    dataclasses.replace(
                        p, path="block_params" if p.path == kind else f"block_params.{p.path}"
                    )
                    for p in error.problems
                ]
            ) from None
        if self.block_type in STATEFUL and (settings.bidirectional or settings.non_lin != "identity"):
            message = "bidirectional and non_lin are settings of lstm_last_step."
            raise InvalidSpecificationError(
                [Problem(path="block_params", message=message, code="contradiction")]
            )
        fields = [f.name for f in dataclasses.fields(settings)]
        object.__setattr__(self, "block_params", {name: _plain(getattr(settings, name)) for name in fields})

    @property
    def settings(self) -> Any:
        """The settings as an object."""
        return BLOCKS[self.block_type](**self.block_params)


def _plain(value: Any) -> Any:
    """A value as JSON has it."""
    return [*map(_plain, value)] if isinstance(value, tuple) else value
