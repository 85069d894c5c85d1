"""A network as data: a :class:`Program` of a few operations, and its parameters; numpy runs it where a policy acts.

How it learns is in :mod:`maze_core.models.dense`. A program has a JSON form, so a checkpoint carries its networks
without code.

Rows are computed in blocks of 8, padded: ``[B, k]`` becomes ``[ceil(B / 8), 8, k]`` and every block is one
matrix product of the same shape. A row then has the same bits whatever the batch it came in and wherever it
stood; with one product per batch the last bits differ. Weights are read where they lie (``[n_out, n_in]``,
as the backward pass has them), never copied, so they may be updated in place.
"""

import threading
from collections.abc import Callable, Mapping, Sequence
from functools import partial
from typing import Final, NamedTuple

import msgspec
import numpy as np

from maze_core.errors import CheckpointError
from maze_core.models.activations import ACTIVATIONS
from maze_core.types import Array, FloatArray, IntArray, NamedArrays, Observation

BLOCK_ROWS: Final = 8
_CACHED_PLANS: Final = 64
_CACHED_ROWS: Final = 4096


class _Op(msgspec.Struct, frozen=True, tag_field="op", forbid_unknown_fields=True):
    """An operation; its JSON form is its fields and its tag, ``op``."""


class Flatten(_Op, frozen=True, kw_only=True, tag="flatten"):
    """Read an observation of numbers as float32 ``[B, width]``."""

    source: str
    """Name of the observation."""
    target: str
    width: int


class OneHot(_Op, frozen=True, kw_only=True, tag="one_hot"):
    """Read an observation of categories as indicators ``[B, sum(sizes)]``, one group per category."""

    source: str
    """Name of the observation."""
    target: str
    sizes: tuple[int, ...]
    """Number of values of each category."""
    starts: tuple[int, ...]
    """Smallest value of each category."""

    @property
    def width(self) -> int:
        """Indicators in all."""
        return sum(self.sizes)

    def columns(self) -> tuple[IntArray, IntArray]:
        """Per indicator: its group, and the value that it stands for; any other value leaves the group at 0."""
        groups = np.repeat(np.arange(len(self.sizes)), self.sizes)
        categories = np.concatenate([np.arange(n) for n in self.sizes]) + np.asarray(self.starts)[groups]
        return groups, categories


class Concat(_Op, frozen=True, kw_only=True, tag="concat"):
    """Put slots side by side, in order."""

    sources: tuple[str, ...]
    target: str


class Dense(_Op, frozen=True, kw_only=True, tag="dense"):
    """``activation(x @ weight.T + bias)``; the parameters are ``<target>_weight`` and ``<target>_bias``."""

    source: str
    target: str
    n_in: int
    n_out: int
    activation: str
    gain: float | None
    """Scale of the orthogonal initialisation; None draws weights and biases as torch's Linear does. No part of the
    forward pass."""

    @property
    def weight(self) -> str:
        """Name of the weight, ``[n_out, n_in]``."""
        return f"{self.target}_weight"

    @property
    def bias(self) -> str:
        """Name of the bias, ``[n_out]``."""
        return f"{self.target}_bias"


class ActionValues(_Op, frozen=True, kw_only=True, tag="action_values"):
    """The values of ``n`` actions from quantiles, from a duel, or from both.

    Each action has ``n_quantiles`` numbers side by side, whose mean is its value (Dabney et al. 2017, 1710.10044). In a
    duel, those of the state come first and the others are advantages: Q = V + A - mean(A) (Wang et al. 2016,
    arXiv:1511.06581).
    """

    source: str
    target: str
    n: int
    n_quantiles: int = 1
    duelling: bool = False

    @property
    def n_in(self) -> int:
        """Numbers that are read."""
        return (self.n + self.duelling) * self.n_quantiles


Op = Flatten | OneHot | Concat | Dense | ActionValues


class Program(msgspec.Struct, frozen=True):
    """Operations in order; the last one's target is the output, ``[B, n_out]``."""

    ops: tuple[Op, ...]

    @property
    def n_out(self) -> int:
        """Width of the output."""
        return self.widths()[self.ops[-1].target]

    @property
    def inputs(self) -> tuple[str, ...]:
        """Names of the observations that are read, in order."""
        return tuple(op.source for op in self.ops if isinstance(op, (Flatten, OneHot)))

    @property
    def dense(self) -> tuple[Dense, ...]:
        """The operations that have parameters, in order."""
        return tuple([op for op in self.ops if isinstance(op, Dense)])

    def widths(self) -> dict[str, int]:
        """Slot → width.

        Raises:
            CheckpointError: an operation reads a slot that is not there or has another width.
        """
        widths: dict[str, int] = {}
        reads = False
        try:
            for op in self.ops:
                if isinstance(op, Concat):
                    widths[op.target] = sum(widths[source] for source in op.sources)
                elif isinstance(op, Dense):
                    if widths[op.source] != op.n_in or op.activation not in ACTIVATIONS:
                        raise CheckpointError(f"network: {op} does not fit its input {widths[op.source]}")
                    widths[op.target] = op.n_out
                elif isinstance(op, ActionValues):
                    if widths[op.source] != op.n_in:
                        raise CheckpointError(f"network: {op} does not fit its input {widths[op.source]}")
                    widths[op.target] = op.n
                else:
                    widths[op.target] = op.width
                    reads = True
        except KeyError as error:
            raise CheckpointError(f"network: slot {error} is read before it is written") from error
        if not reads:
            raise CheckpointError("network: it reads no observation")
        return widths


class GraphNetwork:
    """A program and its parameters. Safe to call from several threads: each has its own work space."""

    needs_torch = False
    state_width = 0
    state_limits = None
    frozen: Sequence[str] = ()

    def __init__(
        self, program: Program, arrays: NamedArrays, prefix: str = "", *, n_members: int | None = None
    ) -> None:
        """Bind ``program`` to its parameters; see :meth:`bind`.

        Args:
            program: the operations.
            arrays: the parameters, and maybe others.
            prefix: of their names.
            n_members: this many networks in one: arrays have them on a first axis, and row b of a batch of as many
                rows is answered by network b, with the bits that it has alone. None is one network.

        Raises:
            CheckpointError: the operations do not fit each other, or as with :meth:`bind`.
        """
        program.widths()
        self.program = program
        self._members = () if n_members is None else (n_members,)
        self._first_input = program.inputs[0]
        self.bind(arrays, prefix)

    def bind(self, arrays: NamedArrays, prefix: str = "") -> None:
        """Have the arrays named ``prefix + parameter`` as parameters; they are read where they lie, at each call.

        Raises:
            CheckpointError: an array is missing or has the wrong shape or type.
        """
        self.parameters: dict[str, FloatArray] = {
            name: _checked(arrays, prefix + name, (*self._members, *shape))
            for op in self.program.dense
            for name, shape in ((op.weight, (op.n_out, op.n_in)), (op.bias, (op.n_out,)))
        }
        self._local = threading.local()

    def twin(self) -> "GraphNetwork":
        """The same network with parameters of its own."""
        return GraphNetwork(self.program, {name: array.copy() for name, array in self.parameters.items()})

    def __reduce__(self) -> tuple[type["GraphNetwork"], tuple[Program, NamedArrays]]:
        """Pickle what it computes, and no work space."""
        return GraphNetwork, (self.program, self.parameters)

    def state_dict(self) -> dict[str, FloatArray]:
        """The parameters: a program has no other state."""
        return self.parameters

    def __call__(self, observations: Observation) -> FloatArray:
        """Output ``[B, n_out]`` float32 for observations ``[B, ...]``; the next call overwrites it."""
        n_rows = len(observations[self._first_input])
        try:
            plan: _Plan = self._local.plans[n_rows]
        except (AttributeError, KeyError):
            plan = self._new_plan(n_rows)
        for read in plan.reads:
            read(observations)
        for call in plan.calls:
            call()
        return plan.output

    def _new_plan(self, n_rows: int) -> "_Plan":
        plan = _plan(self.program, self.parameters, n_rows, has_members=bool(self._members))
        if n_rows <= _CACHED_ROWS:
            plans = self._local.__dict__.setdefault("plans", {})
            if len(plans) >= _CACHED_PLANS:
                plans.clear()
            plans[n_rows] = plan
        return plan


def _checked(arrays: NamedArrays, name: str, shape: tuple[int, ...]) -> Array:
    array = arrays.get(name)
    if array is None or array.shape != shape or array.dtype != np.float32:
        found = "nothing" if array is None else f"{array.dtype} {list(array.shape)}"
        raise CheckpointError(f"network: {name} should be float32 {list(shape)}, found {found}")
    return array


_Call = Callable[[], object]


class _Plan(NamedTuple):
    """Prepared calls for one batch size, and the array in which they leave the output."""

    reads: list[Callable[[Observation], None]]
    calls: list[_Call]
    output: FloatArray


def _plan(program: Program, parameters: Mapping[str, Array], n_rows: int, *, has_members: bool) -> _Plan:
    n_blocks = n_rows if has_members else -(-n_rows // BLOCK_ROWS)
    slots = {
        slot: np.zeros((n_blocks, BLOCK_ROWS, width), np.float32) for slot, width in program.widths().items()
    }
    reads: list[Callable[[Observation], None]] = []
    calls: list[_Call] = []
    rows = {
        # of members each has a block of its own
        slot: blocks[:, 0] if has_members else blocks.reshape(-1, blocks.shape[-1])[:n_rows]
        for slot, blocks in slots.items()
    }
    for op in program.ops:
        out = slots[op.target]
        if isinstance(op, Flatten | OneHot):
            reads.append(reading(op, rows[op.target]))
        elif isinstance(op, Concat):
            calls.append(partial(np.concatenate, [slots[source] for source in op.sources], 2, out))
        elif isinstance(op, ActionValues):
            calls.append(_action_values(op, slots[op.source], out))
        else:
            calls.append(_product(slots[op.source], parameters[op.weight], out))
            calls += _bend(rows[op.target], parameters[op.bias], ACTIVATIONS[op.activation])
    return _Plan(reads, calls, rows[program.ops[-1].target])


def reading(op: Flatten | OneHot, out: FloatArray) -> Callable[[Mapping[str, Array]], None]:
    """What writes an observation ``[B, …]`` as it is read into ``[B, width]``."""
    name = op.source
    if isinstance(op, Flatten):
        shape = out.shape

        def read(observations: Mapping[str, Array]) -> None:
            values = observations[name]
            out[...] = values if values.shape == shape else values.reshape(shape)

        return read
    grouped, (groups, categories) = (len(out), len(op.sizes)), op.columns()

    def read_one_hot(observations: Mapping[str, Array]) -> None:
        np.equal(observations[name].reshape(grouped)[:, groups], categories, out=out, casting="unsafe")

    return read_one_hot


def _action_values(op: ActionValues, x: FloatArray, out: FloatArray) -> _Call:
    parts = x.reshape(*x.shape[:2], -1, op.n_quantiles)

    def run() -> None:
        means = parts.mean(3)
        out[...] = (
            means[..., :1] + means[..., 1:] - means[..., 1:].mean(2, keepdims=True) if op.duelling else means
        )

    return run


def _product(x: FloatArray, weight: FloatArray, out: FloatArray) -> _Call:
    """``x @ weight.T``, block by block; ``x`` and ``out`` are blocks ``[n, 8, k]``, whose padding stays 0.

    The weight is ``[n_out, k]``, or one for each block.
    """
    transposed = weight.swapaxes(-2, -1)
    if weight.shape[-2] > 1:
        if len(x) > 1 or weight.ndim > 2:
            return partial(np.matmul, x, transposed, out)
        return partial(x[0].dot, transposed, out[0])  # the same product, called at less cost
    products, flat = np.empty_like(x), out[..., 0]

    def run() -> None:
        # For one output BLAS takes a matrix-vector product, whose bits depend on the row's position on
        # some CPUs; a sum over the row does not.
        np.multiply(x, weight, products)
        np.add.reduce(products, 2, out=flat)

    return run


def _bend(out: FloatArray, bias: FloatArray, activation: Callable[[FloatArray], None] | None) -> list[_Call]:
    """Add the bias, ``[k]`` or one for each row, and bend, in the rows ``[B, k]`` that are no padding."""
    shift = np.atleast_2d(bias)  # of one row, arrays of one shape, which NumPy adds in half the time
    added = partial(np.add, out, shift, out)
    return [added] if activation is None else [added, partial(activation, out)]
