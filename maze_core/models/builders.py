"""From spaces to the programs of networks: what is read and how, the layers on top, and their first weights.

Numbers (Box, MultiBinary) are read as float32, categories (Discrete, MultiDiscrete) as indicators. Masks are
no input of a network; :func:`input_spaces` leaves them out.
"""

from collections.abc import Collection, Mapping
from dataclasses import fields
from math import prod
from typing import Any, Final

import msgspec
import numpy as np
from gymnasium import spaces

from maze_core.errors import InvalidSpecificationError, Problem
from maze_core.models.block_config import DenseBlockParams, LayersConfig
from maze_core.models.config import (
    FlattenConcatSharedEmbeddingPolicyNetConfig,
    FlattenConcatSharedEmbeddingStateValueNetConfig,
)
from maze_core.models.graph import Concat, Dense, Flatten, OneHot, Op, Program
from maze_core.models.networks import action_input
from maze_core.models.template_config import ConcatModelBuilderConfig, Modality
from maze_core.types import FloatArray, StepKey, mask_name

_MASKABLE = (spaces.Discrete, spaces.MultiDiscrete, spaces.MultiBinary)
_READABLE = (spaces.Box, *_MASKABLE)
_OWN = ("output", "head")
SHARED: Final = "shared_"
"""Begins the names of a critic's layers that are the policy's."""


def mask_names(action_spaces: Mapping[StepKey, spaces.Dict]) -> frozenset[str]:
    """Names that a mask may have in these action spaces; a Box head has no mask."""
    return frozenset(
        mask_name(head)
        for space in action_spaces.values()
        for head, head_space in space.spaces.items()
        if isinstance(head_space, _MASKABLE)
    )


def input_spaces(space: spaces.Dict, masks: frozenset[str]) -> dict[str, spaces.Space[object]]:
    """The observations that a network reads, in order.

    Raises:
        InvalidSpecificationError: nothing is left to read, or a space cannot be read.
    """
    inputs = {name: part for name, part in space.spaces.items() if name not in masks}
    problems = [
        Problem(
            path="model",
            message=f"the observation {name!r} is a {type(part).__name__}, which no network reads. "
            "Turn it into Box, Discrete, MultiDiscrete or MultiBinary by a wrapper.",
            code="unsupported_space",
        )
        for name, part in inputs.items()
        if not isinstance(part, _READABLE)
    ]
    if not inputs:
        problems.append(
            Problem(path="model", message="the environment shows no observation that a network reads.")
        )
    if problems:
        raise InvalidSpecificationError(problems)
    return inputs


def flatten_concat(
    inputs: Mapping[str, spaces.Space[object]], hidden: LayersConfig, n_out: int, out_gain: float
) -> Program:
    """All inputs side by side, hidden layers, one linear output layer, whose first weights are made as theirs."""
    return _program(inputs, DenseBlockParams(hidden_units=()), hidden, n_out, out_gain)


def with_shared_embedding(
    inputs: Mapping[str, spaces.Space[object]],
    embedding: FlattenConcatSharedEmbeddingPolicyNetConfig,
    head: FlattenConcatSharedEmbeddingPolicyNetConfig | FlattenConcatSharedEmbeddingStateValueNetConfig,
    n_out: int,
) -> Program:
    """All inputs side by side, hidden layers that are shared, layers of one's own, one linear output layer."""
    shared = DenseBlockParams(**{f.name: getattr(embedding, f.name) for f in fields(DenseBlockParams)})
    own = DenseBlockParams(
        hidden_units=head.head_units,
        non_lin=head.non_lin,
        weight_init=head.weight_init,
        hidden_gain=head.hidden_gain,
    )
    return _program(inputs, DenseBlockParams(hidden_units=()), shared, n_out, head.output_gain, own)


def shared_with(program: Program) -> Program:
    """The same program whose layers, but for the last and those of one's own, are said to be another network's.

    Their names begin with ``shared_``, and are else those that they have there.
    """
    shared = {op.target for op in program.dense if not op.target.startswith(_OWN)}

    def renamed(op: Op) -> Op:
        changes: dict[str, Any] = {"target": _shared_name(op.target, shared)}
        if isinstance(op, Concat):
            changes["sources"] = tuple(_shared_name(source, shared) for source in op.sources)
        elif isinstance(op, Dense):
            changes["source"] = _shared_name(op.source, shared)
        return msgspec.structs.replace(op, **changes)

    return Program(tuple(map(renamed, program.ops)))


def _shared_name(slot: str, shared: Collection[str]) -> str:
    return f"{SHARED}{slot}" if slot in shared else slot


def from_template(
    inputs: Mapping[str, spaces.Space[object]],
    template: ConcatModelBuilderConfig,
    n_out: int,
    out_gain: float,
) -> Program:
    """A feature block per input, all of them side by side, the hidden block, one linear output layer.

    The first weights of the output layer are made as those of the hidden block.

    Raises:
        InvalidSpecificationError: the template leaves out every input, or names one that does not exist.
    """
    blocks, read = template.modality_config, template_inputs(inputs, template)
    return _program(read, blocks.feature.settings, blocks.hidden.settings, n_out, out_gain)


def template_inputs(
    inputs: Mapping[str, spaces.Space[object]], template: ConcatModelBuilderConfig
) -> dict[str, spaces.Space[object]]:
    """Those of the inputs that a template reads.

    Raises:
        InvalidSpecificationError: the template leaves out every input, or names one that does not exist.
    """
    mapping = template.observation_modality_mapping
    unknown = sorted(set(mapping) - set(inputs))
    read = {name: space for name, space in inputs.items() if mapping.get(name, "feature") is not None}
    if unknown or not read:
        message = f"there is no observation {unknown[0]!r}." if unknown else "no observation is left to read."
        path = "model.model_builder.observation_modality_mapping"
        raise InvalidSpecificationError([Problem(path=path, message=message, allowed=tuple(inputs))])
    return read


def modality(name: str, space: spaces.Space[object], template: ConcatModelBuilderConfig) -> Modality | None:
    """Which block of a template reads an observation, or an action that a critic reads beside them."""
    recurrence = template.modality_config.recurrence
    n_axes = (4,) if recurrence is not None and recurrence.block_type == "lstm_last_step" else (3, 4)
    is_picture = has_axes(space, n_axes) and not name.startswith(action_input(""))
    return template.observation_modality_mapping.get(name, "image" if is_picture else "feature")


def is_dense(inputs: Mapping[str, spaces.Space[object]], template: ConcatModelBuilderConfig) -> bool:
    """Whether a template makes a program of dense layers of these inputs; else it makes a torch module."""
    blocks = template.modality_config
    are_features = all(modality(name, space, template) in ("feature", None) for name, space in inputs.items())
    dense = all(
        block.block_type == "dense" and block.settings.weight_init != "normc"
        for block in (blocks.feature, blocks.hidden)
    )
    return are_features and dense and blocks.recurrence is None


def has_axes(space: spaces.Space[object], n_axes: tuple[int, ...]) -> bool:
    """Whether a space is a Box of so many axes: of pictures with 3, or of stacks of them with 4."""
    return isinstance(space, spaces.Box) and len(space.shape) in n_axes


def channels_first(shape: tuple[int, ...], channels: str | None) -> bool:
    """Whether a picture ``[a, b, c]`` has its channels first: where it is said, or that axis is the shorter one."""
    return channels == "first" if channels is not None else shape[0] < shape[-1]


def n_parameters(program: Program) -> int:
    """How many parameters it has of its own: those that it shares are the policy's."""
    return sum((op.n_in + 1) * op.n_out for op in program.dense if not op.weight.startswith(SHARED))


def initial_parameters(program: Program, rng: np.random.Generator) -> dict[str, FloatArray]:
    """Weights drawn from all orthogonal ones alike (Saxe et al. 2014, arXiv:1312.6120), by their gain; biases 0.

    Q of a Gaussian matrix is uniform where R has a positive diagonal (Mezzadri 2007, arXiv:math-ph/0609050). LAPACK on
    several threads gives other bits than on one. A layer without gain draws weights and biases evenly from within
    ±1/√n_in, as torch's Linear (LeCun et al. 1998, "Efficient BackProp", has √3 times that).
    """
    parameters: dict[str, FloatArray] = {}
    for op in program.dense:
        if op.gain is None:
            limit = op.n_in**-0.5
            for name, shape in ((op.weight, (op.n_out, op.n_in)), (op.bias, (op.n_out,))):
                parameters[name] = rng.uniform(-limit, limit, shape).astype(np.float32)
            continue
        long, short = max(op.n_out, op.n_in), min(op.n_out, op.n_in)
        q, r = np.linalg.qr(rng.standard_normal((long, short)))
        q *= np.copysign(op.gain, np.diagonal(r))
        parameters[op.weight] = np.ascontiguousarray(q if op.n_out == long else q.T, np.float32)
        parameters[op.bias] = np.zeros(op.n_out, np.float32)
    return parameters


def _program(
    inputs: Mapping[str, spaces.Space[object]],
    feature: LayersConfig,
    hidden: LayersConfig,
    n_out: int,
    out_gain: float,
    own: LayersConfig | None = None,
) -> Program:
    ops: list[Op] = []
    features: list[str] = []
    width = 0
    for i, (name, space) in enumerate(inputs.items()):
        reader = _reader(name, space, f"input_{i}")
        ops.append(reader)
        slot, slot_width = _add_layers(ops, f"feature_{i}", reader.target, reader.width, feature)
        features.append(slot)
        width += slot_width
    source = features[0]
    if len(features) > 1:
        source = "concat"
        ops.append(Concat(sources=tuple(features), target=source))
    source, width = _add_layers(ops, "hidden", source, width, hidden)
    if own is not None:
        source, width = _add_layers(ops, "head", source, width, own)
    gain = _gain(own or hidden, out_gain)
    ops.append(
        Dense(source=source, target="output", n_in=width, n_out=n_out, activation="identity", gain=gain)
    )
    return Program(tuple(ops))


def _reader(name: str, space: spaces.Space[object], target: str) -> Flatten | OneHot:
    found = one_hot(name, space, target)
    return found or Flatten(source=name, target=target, width=prod(space.shape or ()))


def one_hot(name: str, space: spaces.Space[object], target: str) -> OneHot | None:
    """How categories are read; None for a space of numbers."""
    if isinstance(space, spaces.Discrete):
        return OneHot(source=name, target=target, sizes=(int(space.n),), starts=(int(space.start),))
    if isinstance(space, spaces.MultiDiscrete):
        sizes = tuple(int(n) for n in space.nvec.flat)
        return OneHot(source=name, target=target, sizes=sizes, starts=tuple(int(n) for n in space.start.flat))
    return None


def _add_layers(ops: list[Op], name: str, source: str, width: int, layers: LayersConfig) -> tuple[str, int]:
    """The slot that holds the last layer's output, and its width."""
    for i, n_out in enumerate(layers.hidden_units):
        target = f"{name}_{i}"
        ops.append(
            Dense(
                source=source,
                target=target,
                n_in=width,
                n_out=n_out,
                activation=layers.non_lin,
                gain=_gain(layers, layers.hidden_gain),
            )
        )
        source, width = target, n_out
    return source, width


def _gain(layers: LayersConfig, gain: float) -> float | None:
    return gain if layers.weight_init == "orthogonal" else None
