"""Settings of networks made of blocks: by a template from the spaces, or named block by block; no torch."""

from dataclasses import field
from typing import Annotated, Any, Literal, TypeAlias

from pydantic import BeforeValidator, ConfigDict, Field

from maze_core.config.settings import dataclass
from maze_core.errors import InvalidSpecificationError, Problem
from maze_core.models.block_config import RECURRENT, BlockConfig, Gain
from maze_core.types import StepKey

_STRICT = ConfigDict(extra="forbid")

Modality: TypeAlias = Literal["feature", "image", "sequence"]
Shared: TypeAlias = tuple[Literal["latent"], ...]


def _none_for_empty(value: Any) -> Any:
    return None if value == {} or value == [] else value


def _last_step() -> BlockConfig:
    return BlockConfig(block_type="lstm_last_step")


@dataclass(frozen=True, kw_only=True, config=_STRICT)
class ModalityConfig:
    """The blocks of a template network, in the order of the data."""

    feature: BlockConfig = field(default_factory=BlockConfig)
    """Applied to each flattened observation on its own, with weights of its own."""
    image: BlockConfig | None = None
    """Applied to each picture, channels first, numbers of a bounded integer space scaled to 0 to 1. Null takes
    convolutions that fit its size."""
    sequence: BlockConfig = field(default_factory=_last_step)
    """Applied to each observation of two axes that is mapped to it, such as the entries of a list."""
    hidden: BlockConfig = field(default_factory=BlockConfig)
    """Applied to the features of all observations side by side."""
    recurrence: Annotated[BlockConfig | None, BeforeValidator(_none_for_empty)] = None
    """Behind that: ``lstm`` or ``gru`` carry a state through the episode, ``lstm_last_step`` reads observations that a
    wrapper stacked along a new first axis; null (or {}) has no memory."""

    def __post_init__(self) -> None:
        """Refuse blocks where they do not belong."""
        other = self.recurrence is not None and self.recurrence.block_type not in RECURRENT
        if other:
            raise InvalidSpecificationError(
                [Problem(path="recurrence.block_type", message="is no recurrent block.", allowed=RECURRENT)]
            )


@dataclass(frozen=True, kw_only=True, config=_STRICT)
class ConcatModelBuilderConfig:
    """Template of networks: a block per observation, a hidden block over all of them, maybe a memory."""

    modality_config: ModalityConfig = field(default_factory=ModalityConfig)
    """The blocks."""
    observation_modality_mapping: dict[str, Modality | None] = field(default_factory=dict)
    """Observation → its block; null leaves the observation out. One that is not named gets ``image`` where it is a Box
    of three axes, or four for a stack of pictures, else ``feature``."""
    channels: Literal["first", "last"] | None = None
    """Which axis of pictures has the channels; null takes the shorter of the two, of equals the last."""
    shared_embedding_keys: Annotated[
        Shared | dict[StepKey, Shared] | None, BeforeValidator(_none_for_empty)
    ] = None
    """``[latent]``: policy and critic share all but their last layer; a dict says so per sub-step. Null: nothing."""

    def shares(self, key: StepKey) -> bool:
        """Whether policy and critic share their networks at a sub-step."""
        shared = self.shared_embedding_keys
        if isinstance(shared, dict):
            shared = next((part for name, part in shared.items() if str(name) == str(key)), None)
        return bool(shared)


def _keys(value: Any) -> Any:
    return (value,) if isinstance(value, str) else value


Keys = Annotated[tuple[str, ...], Field(min_length=1, max_length=16), BeforeValidator(_keys)]


@dataclass(frozen=True, kw_only=True, config=_STRICT)
class NamedBlockConfig(BlockConfig):
    """A block of a network that names what it reads and gives."""

    in_keys: Keys
    """Observations, or what blocks give."""
    out_keys: Keys
    """Names of what it gives."""


@dataclass(frozen=True, kw_only=True, config=_STRICT)
class BlockNetConfig:
    """A network of blocks, named one by one, with a linear layer behind them for the logits or the value.

    They read observations of numbers as they are, pictures channels first and scaled to 0 to 1, categories as
    indicators.
    """

    blocks: Annotated[tuple[NamedBlockConfig, ...], Field(min_length=1, max_length=64)]
    """The blocks, each behind those that it reads; those on which nothing depends are left out."""
    latent: Annotated[Keys | None, BeforeValidator(_none_for_empty)] = None
    """What the linear layer reads, flattened side by side; null is what the last block gives."""
    channels: Literal["first", "last"] | None = None
    """Which axis of pictures has the channels; null takes the shorter of the two, of equals the last."""
    output_gain: Gain | None = None
    """Scale of the orthogonal weights of the linear layer; null is 0.01 for a policy and 1 for a critic."""
