"""A stack of operations as an ONNX model: dense networks node by node, torch modules by torch's own exporter.

Inputs are called as the observations are, outputs as the action heads (``<head>_action`` where an observation has that
name); everything between has names that begin with ``/``, so that none of a user's can collide with it. A module is
exported alone and put into its place with its names prefixed, weights among them: one name for an input and a
weight gives a file that loads and answers wrong numbers.
"""

import logging
import tempfile
import warnings
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, Final

import numpy as np

from maze_core.errors import NotServableError
from maze_core.export.stack import Stack
from maze_core.types import Array, Tree

OPSET: Final = 20
IR_VERSION: Final = 10


class _Graph:
    """Nodes and constants, in order."""

    def __init__(self, stack: Stack) -> None:
        from onnx import helper, numpy_helper

        self._helper, self._numpy = helper, numpy_helper
        self.stack = stack
        self.nodes: list[Any] = []
        self.constants: list[Any] = []
        self.opset = OPSET

    def node(self, kind: str, *inputs: str, **attributes: Any) -> str:
        """Add a node; returns the name of its output."""
        name = f"/{len(self.nodes)}"
        self.nodes.append(
            self._helper.make_node(kind, list(inputs), [name], name=f"/node{name}", **attributes)
        )
        return name

    def constant(self, value: Array) -> str:
        """Keep an array; returns its name."""
        name = f"/constant/{len(self.constants)}"
        self.constants.append(self._numpy.from_array(np.ascontiguousarray(value).reshape(value.shape), name))
        return name

    def array(self, op: Tree, name: str) -> str:
        """An array that an operation names."""
        return self.constant(self.stack.arrays[op[name]])

    def cast(self, x: str, dtype: Any) -> str:
        """Another dtype."""
        return self.node("Cast", x, to=self._helper.np_dtype_to_tensor_dtype(np.dtype(dtype)))

    def numbers(self, *values: int) -> str:
        """Whole numbers as an array."""
        return self.constant(np.array(values, np.int64))

    def reshaped(self, x: str, *shape: int) -> str:
        """Rows of another shape."""
        return self.node("Reshape", x, self.numbers(-1, *shape))


def onnx_model(stack: Stack, metadata: Mapping[str, str]) -> Any:
    """The model of one actor.

    Args:
        stack: what it computes.
        metadata: texts that the file carries.

    Raises:
        NotServableError: torch cannot express a module of it.
    """
    from onnx import checker, helper

    graph = _Graph(stack)
    at = {name: name for name in stack.inputs}
    for op in stack.ops:
        at[op["to"]] = _NODES[op["op"]](graph, op, at)
    tensor, types = helper.make_tensor_value_info, helper.np_dtype_to_tensor_dtype
    inputs = [
        tensor(name, types(np.dtype(dtype)), ["batch", *shape])
        for name, (dtype, shape) in stack.inputs.items()
    ]
    outputs = []
    for head, slot in stack.outputs.items():
        name = output_name(stack, head)
        graph.nodes.append(helper.make_node("Identity", [at[slot]], [name], name=f"/output/{head}"))
        dtype, shape = stack.output_kinds[head]
        outputs.append(tensor(name, types(np.dtype(dtype)), ["batch", *shape]))
    made = helper.make_graph(graph.nodes, "policy", inputs, outputs, graph.constants)
    model = helper.make_model(
        made, opset_imports=[helper.make_opsetid("", graph.opset)], ir_version=IR_VERSION
    )
    helper.set_model_props(model, dict(metadata))
    checker.check_model(model, full_check=True)
    return model


def output_name(stack: Stack, head: str) -> str:
    """What the output of a head is called."""
    return f"{head}_action" if head in stack.inputs else head


def _scale(g: _Graph, op: Tree, at: Mapping[str, str]) -> str:
    x = g.cast(at[op["x"]], g.stack.arrays[op["shift"]].dtype)
    return g.node("Div", g.node("Sub", x, g.array(op, "shift")), g.array(op, "scale"))


def _clip(g: _Graph, op: Tree, at: Mapping[str, str]) -> str:
    return g.node("Min", g.node("Max", at[op["x"]], g.array(op, "low")), g.array(op, "high"))


def _transpose(g: _Graph, op: Tree, at: Mapping[str, str]) -> str:
    return g.node("Transpose", at[op["x"]], perm=[0, *(axis + 1 for axis in op["axes"])])


def _indicators(g: _Graph, op: Tree, at: Mapping[str, str]) -> str:
    n = int(g.stack.arrays[op["groups"]].max()) + 1
    x = g.cast(g.reshaped(at[op["x"]], n), np.int64)
    values = g.constant(g.stack.arrays[op["values"]].astype(np.int64))
    return g.cast(g.node("Equal", g.node("Gather", x, g.array(op, "groups"), axis=1), values), np.float32)


def _weigh(g: _Graph, op: Tree, at: Mapping[str, str]) -> str:
    weights = g.stack.arrays[op["weights"]]
    parts = []
    for i, weight in enumerate(weights):
        part = g.node("Gather", at[op["x"]], g.constant(np.array(i)), axis=op["axis"] + 1)
        parts.append(g.node("Mul", g.cast(part, weights.dtype), g.constant(np.array(weight))))
    total = g.node("Add", g.node("Add", parts[0], parts[1]), parts[2])
    if weights.dtype.kind == "f":
        return total
    return g.node("Div", g.node("Add", total, g.numbers(500)), g.numbers(1000))


def _resize(g: _Graph, op: Tree, at: Mapping[str, str]) -> str:
    rows, columns = (g.stack.arrays[op[name]] for name in ("rows", "columns"))
    x = g.node("MatMul", g.constant(rows), g.cast(at[op["x"]], rows.dtype))
    return g.node("MatMul", x, g.constant(columns.T))


def _dense(g: _Graph, op: Tree, at: Mapping[str, str]) -> str:
    x = g.node("Gemm", at[op["x"]], g.array(op, "weight"), g.array(op, "bias"), transB=1)
    return _bent(g, x, op["activation"])


def _bent(g: _Graph, x: str, activation: str) -> str:
    match activation:
        case "identity":
            return x
        case "silu":
            return g.node("Mul", x, g.node("Sigmoid", x))
        case "leaky_relu":
            return g.node("LeakyRelu", x, alpha=0.01)
        case "gelu":
            return g.node("Gelu", x)
    plain = {"tanh": "Tanh", "relu": "Relu", "elu": "Elu", "sigmoid": "Sigmoid", "selu": "Selu"}
    return g.node({**plain, "mish": "Mish", "softplus": "Softplus"}[activation], x)


def _action_values(g: _Graph, op: Tree, at: Mapping[str, str]) -> str:
    parts = g.reshaped(at[op["x"]], op["n"] + bool(op["duelling"]), op["n_quantiles"])
    means = g.node("ReduceMean", parts, g.numbers(2), keepdims=0)
    if not op["duelling"]:
        return means
    value, rest = _sliced(g, means, 0, 1), _sliced(g, means, 1, op["n"] + 1)
    mean = g.node("ReduceMean", rest, g.numbers(1), keepdims=1)
    return g.node("Sub", g.node("Add", value, rest), mean)


def _sliced(g: _Graph, x: str, start: int, stop: int) -> str:
    return g.node("Slice", x, g.numbers(start), g.numbers(stop), g.numbers(1))


def _mask(g: _Graph, op: Tree, at: Mapping[str, str]) -> str:
    x = at[op["x"]]
    allowed = g.node("Reshape", g.cast(at[op["mask"]], np.bool_), g.node("Shape", x))
    return g.node("Where", allowed, x, g.constant(np.array(np.finfo(np.float32).min, np.float32)))


def _best(g: _Graph, op: Tree, at: Mapping[str, str]) -> str:
    found = g.node("ArgMax", at[op["x"]], axis=1, keepdims=0)
    return g.node("Add", found, g.constant(np.array(op["start"], np.int64)))


def _stack(g: _Graph, op: Tree, at: Mapping[str, str]) -> str:
    return g.node("Concat", *(g.reshaped(at[x], 1) for x in op["xs"]), axis=1)


def _affine(g: _Graph, op: Tree, at: Mapping[str, str]) -> str:
    return g.node("Add", g.array(op, "center"), g.node("Mul", g.array(op, "half_range"), at[op["x"]]))


def _softplus(g: _Graph, op: Tree, at: Mapping[str, str]) -> str:
    """In float64, for which onnxruntime has no Softplus: max(x, 0) + ln(1 + e^-|x|)."""
    x, zero, one = at[op["x"]], g.constant(np.array(0.0)), g.constant(np.array(1.0))
    rest = g.node("Log", g.node("Add", one, g.node("Exp", g.node("Neg", g.node("Abs", x)))))
    return g.node("Add", g.node("Max", x, zero), rest)


def _balance(g: _Graph, op: Tree, at: Mapping[str, str]) -> str:
    a, b = (at[x] for x in op["xs"])
    return g.node("Div", g.node("Sub", a, b), g.node("Add", a, b))


def _module(g: _Graph, op: Tree, at: Mapping[str, str]) -> str:
    """The nodes of a torch module, in the place of the operation."""
    from onnx import compose

    model = compose.add_prefix(_exported(g.stack, op), "/module/")
    g.opset = next(each.version for each in model.opset_import if each.domain == "")
    if len(model.opset_import) > 1 or model.functions:
        raise NotServableError("torch's exporter expresses this network by operations beyond ONNX's own.")
    for given, slot in zip(model.graph.input, op["xs"], strict=True):
        x = g.cast(at[slot], np.float32)
        g.nodes.append(g._helper.make_node("Identity", [x], [given.name], name=f"/given{given.name}"))
    g.constants += model.graph.initializer
    g.nodes += model.graph.node
    (output,) = model.graph.output
    return str(output.name)


def _exported(stack: Stack, op: Tree) -> Any:
    import onnx
    import torch

    network, names = stack.module, list(op["names"])

    class Flat(torch.nn.Module):
        """The network, which takes its observations one by one."""

        def __init__(self) -> None:
            super().__init__()
            self.network = network.module

        def forward(self, *values: torch.Tensor) -> torch.Tensor:
            """Logits ``[B, n]``, and the next state behind them; no length is asked for, which would fix it."""
            given = self.network(dict(zip(names, values, strict=True)))
            parts = given if isinstance(given, dict) else dict.fromkeys(network.outputs, given)
            return torch.cat([parts[name].float().flatten(1) for name in network.outputs], 1)

    rows = tuple(torch.zeros(2, *stack.shapes[slot]) for slot in op["xs"])
    batch = torch.export.Dim("batch")
    logger = logging.getLogger("torch.onnx")
    level = logger.level
    logger.setLevel(logging.ERROR)
    with tempfile.TemporaryDirectory() as folder, warnings.catch_warnings():
        warnings.simplefilter("ignore")  # of the exporter's own making
        path = Path(folder) / "module.onnx"
        try:
            program = torch.onnx.export(
                Flat().eval(),
                rows,
                dynamo=True,
                input_names=[f"x{i}" for i in range(len(rows))],
                output_names=["logits_out"],
                dynamic_shapes=(tuple({0: batch} for _ in rows),),
                opset_version=OPSET,
                external_data=False,
                verbose=False,
            )
            assert program is not None
            program.save(str(path), external_data=False)
        except Exception as error:  # whatever a module does, it does there
            reason = str(error).splitlines()[0] if str(error) else type(error).__name__
            raise NotServableError(f"torch cannot express this network as ONNX: {reason}") from error
        finally:
            logger.setLevel(level)
        return onnx.load(str(path))


_NODES: Mapping[str, Callable[[_Graph, Tree, Mapping[str, str]], str]] = {
    "cast": lambda g, op, at: g.cast(at[op["x"]], op["dtype"]),
    "scale": _scale,
    "clip": _clip,
    "reshape": lambda g, op, at: g.reshaped(at[op["x"]], *op["shape"]),
    "transpose": _transpose,
    "indicators": _indicators,
    "weigh": _weigh,
    "resize": _resize,
    "concat": lambda g, op, at: g.node("Concat", *(at[x] for x in op["xs"]), axis=1),
    "dense": _dense,
    "action_values": _action_values,
    "columns": lambda g, op, at: _sliced(g, at[op["x"]], op["start"], op["stop"]),
    "mask": _mask,
    "best": _best,
    "stack": _stack,
    "bits": lambda g, op, at: g.node("Greater", at[op["x"]], g.constant(np.array(0.0, np.float32))),
    "softplus": _softplus,
    "balance": _balance,
    "pick": lambda g, op, at: g.node("Gather", at[op["x"]], g.array(op, "columns"), axis=1),
    "look_up": lambda g, op, at: g.node("Gather", g.array(op, "table"), at[op["x"]], axis=0),
    "tanh": lambda g, op, at: g.node("Tanh", at[op["x"]]),
    "affine": _affine,
    "round": lambda g, op, at: g.node("Round", at[op["x"]]),
    "module": _module,
}
