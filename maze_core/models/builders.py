"""From spaces to the programs of networks: what is read and how, and the layers on top.

Numbers (Box, MultiBinary) are read as float32, categories (Discrete, MultiDiscrete) as indicators. Masks are
no input of a network; :func:`input_spaces` leaves them out.
"""

from collections.abc import Mapping
from itertools import pairwise
from math import prod, sqrt
from typing import Final

import numpy as np
from gymnasium import spaces

from maze_core.errors import InvalidSpecificationError, Problem
from maze_core.models.config import ConcatModelBuilderConfig, DenseBlockParams
from maze_core.models.graph import Concat, Dense, Flatten, OneHot, Op, Program
from maze_core.types import StepKey, mask_name

HIDDEN_GAIN: Final = sqrt(2.0)
POLICY_GAIN: Final = 0.01
VALUE_GAIN: Final = 1.0

_MASKABLE = (spaces.Discrete, spaces.MultiDiscrete, spaces.MultiBinary)
_READABLE = (spaces.Box, *_MASKABLE)


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
    inputs: Mapping[str, spaces.Space[object]], hidden: DenseBlockParams, n_out: int, out_gain: float
) -> Program:
    """All inputs side by side, the hidden layers, one linear output layer."""
    ops: list[Op] = [_reader(name, space, f"input_{i}") for i, (name, space) in enumerate(inputs.items())]
    source, width = _side_by_side(ops, [op.target for op in ops])
    return _finish(ops, source, width, hidden, n_out, out_gain)


def from_template(
    inputs: Mapping[str, spaces.Space[object]],
    template: ConcatModelBuilderConfig,
    n_out: int,
    out_gain: float,
) -> Program:
    """A feature block per input, all of them side by side, the hidden block, one linear output layer.

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
    ops: list[Op] = []
    features: list[str] = []
    for i, (name, space) in enumerate(read.items()):
        reader = _reader(name, space, f"input_{i}")
        ops.append(reader)
        block = template.modality_config.feature.block_params
        features.append(_layers(ops, f"feature_{i}", reader.target, reader.width, block)[0])
    source, width = _side_by_side(ops, features)
    return _finish(ops, source, width, template.modality_config.hidden.block_params, n_out, out_gain)


def space_of_shape(shape: tuple[int, ...]) -> spaces.Space[object]:
    """A Box for an observation of which only the shape is known."""
    return spaces.Box(-np.inf, np.inf, shape, np.float32)


def _reader(name: str, space: spaces.Space[object], target: str) -> Flatten | OneHot:
    if isinstance(space, spaces.Discrete):
        return OneHot(source=name, target=target, sizes=(int(space.n),), starts=(int(space.start),))
    if isinstance(space, spaces.MultiDiscrete):
        sizes = tuple(int(n) for n in space.nvec.flat)
        return OneHot(source=name, target=target, sizes=sizes, starts=tuple(int(n) for n in space.start.flat))
    return Flatten(source=name, target=target, width=prod(space.shape or ()))


def _side_by_side(ops: list[Op], slots: list[str]) -> tuple[str, int]:
    """The slot that holds all of ``slots``, and its width."""
    if len(slots) > 1:
        ops.append(Concat(sources=tuple(slots), target="concat"))
        slots = ["concat"]
    return slots[0], Program(tuple(ops)).widths()[slots[0]]


def _layers(ops: list[Op], name: str, source: str, width: int, block: DenseBlockParams) -> tuple[str, int]:
    for i, (n_in, n_out) in enumerate(pairwise((width, *block.hidden_units))):
        target = f"{name}_{i}"
        ops.append(
            Dense(
                source=source,
                target=target,
                n_in=n_in,
                n_out=n_out,
                activation=block.non_lin,
                gain=HIDDEN_GAIN,
            )
        )
        source, width = target, n_out
    return source, width


def _finish(
    ops: list[Op], source: str, width: int, hidden: DenseBlockParams, n_out: int, out_gain: float
) -> Program:
    source, width = _layers(ops, "hidden", source, width, hidden)
    ops.append(
        Dense(source=source, target="output", n_in=width, n_out=n_out, activation="identity", gain=out_gain)
    )
    return Program(tuple(ops))
