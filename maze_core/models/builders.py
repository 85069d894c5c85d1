"""From spaces to the programs of networks: what is read and how, the layers on top, and their first weights.

Numbers (Box, MultiBinary) are read as float32, categories (Discrete, MultiDiscrete) as indicators. Masks are
no input of a network; :func:`input_spaces` leaves them out.
"""

from collections.abc import Mapping
from math import prod

import numpy as np
from gymnasium import spaces

from maze_core.errors import InvalidSpecificationError, Problem
from maze_core.models.config import ConcatModelBuilderConfig, DenseBlockParams, LayersConfig
from maze_core.models.graph import Concat, Dense, Flatten, OneHot, Op, Program
from maze_core.types import FloatArray, StepKey, mask_name

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
    inputs: Mapping[str, spaces.Space[object]], hidden: LayersConfig, n_out: int, out_gain: float
) -> Program:
    """All inputs side by side, hidden layers, one linear output layer, whose first weights are made as theirs."""
    return _program(inputs, DenseBlockParams(hidden_units=()), hidden, n_out, out_gain)


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
    mapping = template.observation_modality_mapping
    unknown = sorted(set(mapping) - set(inputs))
    read = {name: space for name, space in inputs.items() if mapping.get(name, "feature") is not None}
    if unknown or not read:
        message = f"there is no observation {unknown[0]!r}." if unknown else "no observation is left to read."
        path = "model.model_builder.observation_modality_mapping"
        raise InvalidSpecificationError([Problem(path=path, message=message, allowed=tuple(inputs))])
    blocks = template.modality_config
    return _program(read, blocks.feature.block_params, blocks.hidden.block_params, n_out, out_gain)


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
    gain = _gain(hidden, out_gain)
    ops.append(
        Dense(source=source, target="output", n_in=width, n_out=n_out, activation="identity", gain=gain)
    )
    return Program(tuple(ops))


def _reader(name: str, space: spaces.Space[object], target: str) -> Flatten | OneHot:
    if isinstance(space, spaces.Discrete):
        return OneHot(source=name, target=target, sizes=(int(space.n),), starts=(int(space.start),))
    if isinstance(space, spaces.MultiDiscrete):
        sizes = tuple(int(n) for n in space.nvec.flat)
        return OneHot(source=name, target=target, sizes=sizes, starts=tuple(int(n) for n in space.start.flat))
    return Flatten(source=name, target=target, width=prod(space.shape or ()))


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
