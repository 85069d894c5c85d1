"""The whole of a trained stack as a list of small operations, which NumPy runs and ONNX is built from.

For each actor: inputs by name, operations in order, each from one slot (or several) to a new one, and the slots of the
actions. What they mean is what :mod:`maze_core.export.numpy_policy` does. What a wrapper does to observations and
actions is said by :func:`expressed`, class by class; one that nobody said how to express is refused by its name.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from functools import singledispatch
from typing import Any, Final

import numpy as np
from gymnasium import spaces

from maze_core.agent import Agent
from maze_core.data.flat_space import form_of
from maze_core.envs.preprocessors import (
    FlattenPreProcessor,
    OneHotPreProcessor,
    PreProcessor,
    ResizeImgPreProcessor,
    Rgb2GrayPreProcessor,
    TransposePreProcessor,
    UnSqueezePreProcessor,
    _weights,
)
from maze_core.envs.wrappers import (
    ActionClippingWrapper,
    ObservationClippingWrapper,
    ObservationNormalizationWrapper,
)
from maze_core.envs.wrappers.discretize_actions import DiscretizeActionsWrapper
from maze_core.envs.wrappers.preprocessing import PreProcessingWrapper
from maze_core.envs.wrappers.split_actions import SplitActionsWrapper
from maze_core.envs.wrappers.wrapper import Wrapper
from maze_core.errors import NotServableError
from maze_core.models.acting import ActorNetwork, StepPolicy
from maze_core.models.beta import LOGIT_RANGE
from maze_core.models.graph import ActionValues, Concat, Dense, Flatten, GraphNetwork, OneHot
from maze_core.models.heads import MEAN_LIMIT, BoxHead, Head, Part, StateNoiseHead
from maze_core.models.memory import STATE
from maze_core.types import JSON, Array, StepKey, Tree

FORMAT: Final = 1
NEXT_STATE: Final = "next_state"
_TANH = frozenset({"squashed_gaussian", "deterministic"})


@dataclass(kw_only=True)
class Stack:
    """What one actor computes."""

    step_key: StepKey
    agent_id: int | None
    """None where all agents of the sub-step share it."""
    inputs: dict[str, tuple[str, list[int]]]
    """Observation → dtype and shape, in the order of the space."""
    outputs: dict[str, str] = field(default_factory=dict)
    """Head → slot; the next state of a network that carries one is ``next_state``."""
    output_kinds: dict[str, tuple[str, list[int]]] = field(default_factory=dict)
    """Head → dtype and shape."""
    observation_form: JSON
    action_form: JSON
    ops: list[Tree] = field(default_factory=list)
    arrays: dict[str, Array] = field(default_factory=dict)
    module: Any = None
    """The torch network that the operation ``module`` stands for."""
    slots: dict[str, str] = field(default_factory=dict)
    """Observation or head → the slot that holds it now."""
    shapes: dict[str, tuple[int, ...]] = field(default_factory=dict)
    """Slot → shape of a row, of observations."""
    prefix: str = ""

    def add(self, op: str, x: str | None = None, **settings: Any) -> str:
        """Add an operation on a slot; arrays among the settings are kept by name. Returns the new slot."""
        to = f"{self.prefix}{len(self.ops)}"
        entry: Tree = {"op": op, "to": to} | ({} if x is None else {"x": x})
        for name, value in settings.items():
            if isinstance(value, np.ndarray | np.generic):
                self.arrays[f"{to}.{name}"] = np.asarray(value)
                value = f"{to}.{name}"
            entry[name] = value
        self.ops.append(entry)
        return to

    def to_json(self) -> Tree:
        """The actor as an object of ``policy.json``."""
        names = ("step_key", "agent_id", "inputs", "ops", "outputs", "observation_form", "action_form")
        return {name: getattr(self, name) for name in names}


def stacks_of(agent: Agent) -> list[Stack]:
    """What each actor of an agent computes.

    Raises:
        NotServableError: a part of it cannot be expressed; the message names it.
    """
    if not agent.servable:
        raise NotServableError(agent.not_servable_reason or "This checkpoint cannot act on raw observations.")
    found = []
    for i, (key, step) in enumerate(agent.policy.steps.items()):
        if not step.networks:
            raise _cannot("a policy without networks")
        for j, network in enumerate(step.networks):
            agent_id = None if len(step.networks) == 1 else j
            found.append(_stack(agent, key, step, network, agent_id, prefix=f"{i}.{j}."))
    return found


def _stack(
    agent: Agent, key: StepKey, step: StepPolicy, network: ActorNetwork, agent_id: int | None, *, prefix: str
) -> Stack:
    seen, done = agent.observation_spaces[key], agent.action_spaces[key]
    shapes = {name: tuple(leaf.shape or ()) for name, leaf in seen.items()}
    stack = Stack(
        step_key=key,
        agent_id=agent_id,
        inputs={name: (str(leaf.dtype), list(shapes[name])) for name, leaf in seen.items()},
        observation_form=form_of(seen),
        action_form=form_of(done),
        slots={name: name for name in seen},
        shapes=shapes,
        prefix=prefix,
    )
    for wrapper in agent.wrappers:
        if "observation" in wrapper.overridden:
            expressed(wrapper, stack)
    logits = _network(stack, network, step.heads)
    heads = {part.head.name: _decided(stack, part, logits) for part in step.parts}
    for head, slot in heads.items():
        stack.slots[head] = _fitted(stack, slot, agent.policy_action_spaces[key][head])
    for wrapper in reversed(agent.wrappers):
        if "action" in wrapper.overridden:
            expressed_actions(wrapper, stack)
    stack.outputs |= {head: stack.slots[head] for head in done}
    stack.output_kinds |= {head: (str(leaf.dtype), list(leaf.shape or ())) for head, leaf in done.items()}
    return stack


# ------------------------------------------------------------------ wrappers


@singledispatch
def expressed(wrapper: Wrapper, stack: Stack) -> None:
    """Say what a wrapper does to observations.

    Raises:
        NotServableError: nobody has said how.
    """
    raise _cannot(f"what {type(wrapper).__name__} does to observations")


@singledispatch
def expressed_actions(wrapper: Wrapper, stack: Stack) -> None:
    """Say what a wrapper does to the policy's actions; as :func:`expressed`."""
    raise _cannot(f"what {type(wrapper).__name__} does to actions")


@expressed_actions.register
def _(wrapper: ActionClippingWrapper, stack: Stack) -> None:
    """Actions lie within their bounds already."""


@expressed_actions.register
def _(wrapper: DiscretizeActionsWrapper, stack: Stack) -> None:
    for (key, head), (box, grid) in wrapper._grids.items():
        if key == stack.step_key:
            chosen = stack.add("reshape", stack.slots[head], shape=[len(grid)])
            columns = [stack.add("columns", chosen, start=i, stop=i + 1) for i in range(len(grid))]
            numbers = [stack.add("look_up", x, table=line) for x, line in zip(columns, grid, strict=True)]
            slot = stack.add("reshape", stack.add("concat", xs=numbers), shape=list(box.shape))
            stack.slots[head] = stack.add("cast", slot, dtype=str(box.dtype))


@expressed_actions.register
def _(wrapper: SplitActionsWrapper, stack: Stack) -> None:
    for head, leaf in wrapper._split[stack.step_key].items():
        parts = wrapper.split_config[head]
        slots = [
            stack.add(
                "reshape", stack.add("cast", stack.slots.pop(part), dtype=str(leaf.dtype)), shape=[len(of)]
            )
            for part, of in parts.items()
        ]
        order = np.argsort([i for of in parts.values() for i in of])
        stack.slots[head] = stack.add("pick", stack.add("concat", xs=slots), columns=order)


@expressed.register
def _(wrapper: SplitActionsWrapper, stack: Stack) -> None:
    for mask, parts in wrapper._masks[stack.step_key].items():
        whole = stack.add("reshape", stack.slots.pop(mask), shape=[sum(map(len, parts.values()))])
        for part, entries in parts.items():
            _now(stack, part, stack.add("pick", whole, columns=np.array(entries)), (len(entries),))


@expressed.register
def _(wrapper: ObservationNormalizationWrapper, stack: Stack) -> None:
    state = wrapper.state_dict()
    for name in [name for name in stack.slots if f"{name}/shift" in state]:
        if f"{name}/reference" in state:
            raise _cannot(f"the normalisation of {name!r}, whose whole numbers are beyond 2^53")
        shift, scale = state[f"{name}/shift"], state[f"{name}/scale"]
        slot = stack.add("scale", stack.slots[name], shift=shift, scale=scale)
        if wrapper.clip_range is not None:
            low, high = (np.array(end, shift.dtype) for end in wrapper.clip_range)
            slot = stack.add("clip", slot, low=low, high=high)
        _now(stack, name, stack.add("cast", slot, dtype="float32"), stack.shapes[stack.slots[name]])


@expressed.register
def _(wrapper: ObservationClippingWrapper, stack: Stack) -> None:
    for name in wrapper._names[stack.step_key]:
        dtype = np.dtype(stack.inputs[name][0]) if name in stack.inputs else np.dtype(np.float32)
        ends = (wrapper.values(name, np.array([end]).astype(dtype))[0] for end in _widest(dtype))
        low, high = (np.array(end, dtype) for end in ends)
        slot = stack.slots[name]
        _now(stack, name, stack.add("clip", slot, low=low, high=high), stack.shapes[slot])


@expressed.register
def _(wrapper: PreProcessingWrapper, stack: Stack) -> None:
    for processor in wrapper._at[stack.step_key]:
        name = processor.observation
        slot = stack.slots[name] if processor.keep_original else stack.slots.pop(name)
        new, shape = _preprocessed(processor, stack, slot)
        _now(stack, f"{name}-{processor.tag}", new, shape)


def _preprocessed(processor: PreProcessor, stack: Stack, slot: str) -> tuple[str, tuple[int, ...]]:
    shape = stack.shapes[slot]
    match processor:
        case FlattenPreProcessor() | UnSqueezePreProcessor():
            shape = processor.process(np.zeros((1, *shape), np.int8)).shape[1:]
            return stack.add("reshape", slot, shape=list(shape)), shape
        case TransposePreProcessor():
            axes = list(processor.axes)
            return stack.add("transpose", slot, axes=axes), tuple(shape[axis] for axis in axes)
        case OneHotPreProcessor():
            choices: Array = getattr(processor, "_choices")  # noqa: B009
            size = int(np.prod(shape, dtype=int))
            groups, values = np.repeat(np.arange(size), len(choices)), np.tile(choices, size)
            flat = stack.add("indicators", slot, groups=groups, values=values)
            return stack.add("reshape", flat, shape=[*shape, len(choices)]), (*shape, len(choices))
        case Rgb2GrayPreProcessor():
            axis = processor.rgb_dim % len(shape)
            dtype = _dtype(stack, slot)
            is_float = dtype.kind == "f"
            weights = np.array([0.299, 0.587, 0.114], dtype) if is_float else np.array([299, 587, 114])
            luma = stack.add("weigh", slot, axis=axis, weights=weights)
            return stack.add("cast", luma, dtype=str(dtype)), shape[:axis] + shape[axis + 1 :]
        case ResizeImgPreProcessor():
            return _resized(processor, stack, slot)
    raise _cannot(type(processor).__name__)


def _resized(processor: ResizeImgPreProcessor, stack: Stack, slot: str) -> tuple[str, tuple[int, ...]]:
    shape, dtype = stack.shapes[slot], _dtype(stack, slot)
    has_last = len(shape) == 3 and not processor.transpose
    if has_last:
        slot, shape = stack.add("transpose", slot, axes=[2, 0, 1]), (shape[2], *shape[:2])
    kind = np.float64 if dtype.itemsize > 4 else np.float32
    sizes = zip(shape[-2:], processor.target_size, strict=True)
    rows, columns = (_weights(size, to).astype(kind) for size, to in sizes)
    slot, shape = stack.add("resize", slot, rows=rows, columns=columns), (*shape[:-2], *processor.target_size)
    slot = slot if dtype.kind == "f" else stack.add("round", slot)
    slot = stack.add("cast", slot, dtype=str(dtype))
    if has_last:
        return stack.add("transpose", slot, axes=[1, 2, 0]), (*shape[1:], shape[0])
    return slot, shape


def _dtype(stack: Stack, slot: str) -> np.dtype[Any]:
    """Of an observation on its way: that of the last cast before it, or of the input."""
    by_slot = {op["to"]: op for op in stack.ops}
    while slot in by_slot:
        op = by_slot[slot]
        if op["op"] in ("cast", "indicators"):
            return np.dtype(op.get("dtype", "float32"))
        slot = op["x"]
    return np.dtype(stack.inputs[slot][0])


def _now(stack: Stack, name: str, slot: str, shape: tuple[int, ...]) -> None:
    stack.slots[name], stack.shapes[slot] = slot, shape


def _widest(dtype: np.dtype[Any]) -> tuple[Any, Any]:
    info: Any = np.finfo(dtype) if dtype.kind == "f" else np.iinfo(dtype)
    return info.min, info.max


# ------------------------------------------------------------------ network and heads


def _network(stack: Stack, network: ActorNetwork, heads: Sequence[Head]) -> str:
    """The slot of the logits."""
    logits = network.logits
    if not isinstance(logits, GraphNetwork):
        stack.module = logits
        if width := logits.state_width:
            _now(stack, STATE, STATE, (width,))
            stack.inputs[STATE] = ("float32", [width])
        names = list(stack.slots)
        slot = stack.add("module", names=names, xs=[stack.slots[name] for name in names])
        if width:
            n_logits = sum(head.logits_width for head in heads)
            stack.outputs[NEXT_STATE] = stack.add("columns", slot, start=n_logits, stop=n_logits + width)
            stack.output_kinds[NEXT_STATE] = ("float32", [width])
            slot = stack.add("columns", slot, start=0, stop=n_logits)
        return slot
    at: dict[str, str] = {}
    for op in logits.program.ops:
        at[op.target] = _graph_op(stack, op, at, logits.parameters)
    return at[logits.program.ops[-1].target]


def _graph_op(stack: Stack, op: Any, at: Mapping[str, str], parameters: Mapping[str, Array]) -> str:
    match op:
        case Flatten():
            slot = stack.slots[op.source]
            if _dtype(stack, slot) != np.float32:
                slot = stack.add("cast", slot, dtype="float32")
            return stack.add("reshape", slot, shape=[op.width])
        case OneHot():
            groups, values = op.columns()
            return stack.add("indicators", stack.slots[op.source], groups=groups, values=values)
        case Concat():
            return stack.add("concat", xs=[at[source] for source in op.sources])
        case Dense():
            weight, bias = (parameters[name].copy() for name in (op.weight, op.bias))
            return stack.add("dense", at[op.source], weight=weight, bias=bias, activation=op.activation)
        case ActionValues():
            settings = {"n": op.n, "n_quantiles": op.n_quantiles, "duelling": op.duelling}
            return stack.add("action_values", at[op.source], **settings)
    raise _cannot(f"the operation {type(op).__name__}")


def _decided(stack: Stack, part: Part, logits: str) -> str:
    """The slot of the likeliest action of one head, on the environment's scale."""
    head, kind = part.head, str(type(part.head).__struct_config__.tag)
    slot = logits
    if part.logits is not None:
        slot = stack.add("columns", slot, start=part.logits.start, stop=part.logits.stop)
    if part.mask is not None:
        slot = stack.add("mask", slot, mask=stack.slots[part.mask])
    match kind:
        case "categorical" | "action_values":
            return stack.add("best", slot, start=int(getattr(head, "start", 0)))
        case "multi_categorical":
            sizes, starts = getattr(head, "sizes", ()), getattr(head, "starts", ())
            edges = np.cumsum([0, *sizes]).tolist()
            choices = []
            for a, b, start in zip(edges[:-1], edges[1:], starts, strict=True):
                choices.append(stack.add("best", stack.add("columns", slot, start=a, stop=b), start=start))
            return _shaped(stack, stack.add("stack", xs=choices), head)
        case "bernoulli":
            return _shaped(stack, stack.add("bits", slot), head)
        case "beta":
            return _between(stack, slot, head)
        case "diagonal_gaussian" | "squashed_gaussian" | "deterministic" | "state_noise":
            return _number(stack, slot, head, kind)
    raise _cannot(f"the distribution {kind}")


def _between(stack: Stack, slot: str, head: Any) -> str:
    """The likeliest numbers of a Beta distribution, of which both concentrations are 1 + softplus of a logit."""
    n = int(np.prod(head.shape, dtype=int))
    low, high = (np.array(end) for end in LOGIT_RANGE)
    slot = stack.add("clip", stack.add("cast", slot, dtype="float64"), low=low, high=high)
    slot = stack.add("softplus", slot)
    above, below = (stack.add("columns", slot, start=at, stop=at + n) for at in (0, n))
    return _scaled(stack, stack.add("balance", xs=[above, below]), head)


def _number(stack: Stack, slot: str, head: Any, kind: str) -> str:
    assert isinstance(head, BoxHead)
    slot = stack.add("columns", slot, start=0, stop=int(np.prod(head.shape, dtype=int)))
    is_squashed = kind in _TANH
    if isinstance(head, StateNoiseHead) and head.squashed:
        low, high = (np.array(end, np.float32) for end in (-MEAN_LIMIT, MEAN_LIMIT))
        slot, is_squashed = stack.add("clip", slot, low=low, high=high), True
    if is_squashed:
        slot = stack.add("tanh", slot)
    return _scaled(stack, slot, head)


def _scaled(stack: Stack, slot: str, head: BoxHead) -> str:
    """On the environment's scale."""
    slot = _shaped(stack, slot, head)
    if head.center is None or head.half_range is None:
        return slot
    center, half_range = (np.reshape(part, head.shape) for part in (head.center, head.half_range))
    return stack.add("affine", stack.add("cast", slot, dtype="float64"), center=center, half_range=half_range)


def _shaped(stack: Stack, slot: str, head: Any) -> str:
    return stack.add("reshape", slot, shape=list(head.shape))


def _fitted(stack: Stack, slot: str, space: spaces.Space[Any]) -> str:
    """Within the space, in its dtype."""
    if isinstance(space, spaces.Box):
        slot = stack.add("cast", slot, dtype="float64")
        low, high = (np.asarray(bound, np.float64) for bound in (space.low, space.high))
        slot = stack.add("clip", slot, low=low, high=high)
        if space.dtype.kind != "f":
            slot = stack.add("round", slot)
    return stack.add("cast", slot, dtype=str(space.dtype))


def _cannot(what: str) -> NotServableError:
    return NotServableError(
        f"{what[0].upper()}{what[1:]} cannot be exported: let the checkpoint be served instead."
    )
