"""A torch module of the user's as a network. Only here do the networks of a run enter torch.

It answers dicts with dicts, learns by autograd, and is in evaluation mode from the first on: the policy that learns is
the one that acted, also where it has dropout or batch norm.

A row's output depends on that row alone. So the rows of a large network are split in parts, whose number follows from
the network and the rows, and each part is computed on one thread: bits are the same however many threads there are.
"""

import copy
import inspect
import itertools
import threading
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from contextlib import contextmanager
from functools import partial
from typing import Any, Final

import numpy as np
import torch
from gymnasium import spaces
from torch import Tensor, nn
from torch.nn.modules.conv import _ConvNd

from maze_core.errors import USER_CODE_ERRORS, InvalidSpecificationError, Problem, reason_of
from maze_core.models.dense import NetsPull
from maze_core.models.graph import BLOCK_ROWS
from maze_core.models.memory import BEGINS, STATE, Sequences
from maze_core.threads import one_torch_thread, plain_torch, side_by_side
from maze_core.types import Array, FloatArray, NamedArrays, Observation

_LARGE: Final = 4_000_000
"""Multiply-adds for one row from which a network is large: blocks of rows that act are computed side by side."""
_PARTS: Final = 4
"""At most, of the rows of a gradient step."""
_PART_WORK: Final = 128_000_000
"""Multiply-adds of a part at least; with less, threads would wait for each other."""
_PIECE_WORK: Final = 600_000_000
"""Multiply-adds of a part where nothing is learnt: with more rows, they no longer stay in the processor's cache."""
_PIECE_SIZE: Final = 1 << 16
"""Numbers of a gradient that are added up at a time, and stay in the processor's cache meanwhile."""


class ModuleNetwork:
    """A torch module that takes and gives dicts; its parameters are the module's, on the same memory."""

    needs_torch = True

    def __init__(self, module: nn.Module, outputs: Mapping[str, int], *, work: int = 0) -> None:
        """Wrap ``module``.

        Args:
            module: reads observations by name. Where its ``forward`` has a parameter ``wanted``, it is told the names
                of the outputs that are used, and may leave out the rest. One with a ``state_width`` reads ``"state"``
                too, and gives the next one.
            outputs: the parts of its output that are used, and their widths.
            work: multiply-adds for one row, about; 0 never splits rows.
        """
        self.module = module.eval()
        self.state_width = int(getattr(module, "state_width", 0))
        limits = getattr(module, "state_limits", None)
        self.state_limits = None if limits is None else np.asarray(limits, np.float32)
        self.outputs = dict(outputs) | ({STATE: self.state_width} if self.state_width else {})
        self._told = (
            {"wanted": tuple(self.outputs)}
            if "wanted" in inspect.signature(module.forward).parameters
            else {}
        )
        self.work = work
        self.refers_to: ModuleNetwork | None = None
        """The network of a policy that has the same module, and its parameters; see :meth:`refer`."""
        self._mirror: _Mirror | None = None
        self._own_thread = threading.get_ident()
        self._here = threading.local()
        self._unused = _with_same_parameters(module) if work else module

    @property
    def parameters(self) -> dict[str, FloatArray]:
        """Name → array, where it lies: whoever changes it changes the module."""
        return {} if self.refers_to else {f"module.{name}": _view(p) for name, p in self._named()}

    @property
    def frozen(self) -> list[str]:
        """Names of the parameters that do not learn."""
        if self.refers_to:
            return []
        return [f"module.{name}" for name, p in self._named() if not p.requires_grad]

    def _named(self) -> list[tuple[str, nn.Parameter]]:
        return [*self.module.named_parameters()]

    def refer(self, other: "ModuleNetwork") -> bool:
        """Leave the parameters to another network, if it has the same module; whether it has.

        They are then named once in checkpoints and optimizers.
        """
        if self.module is other.module:
            self.refers_to = other
        return self.refers_to is other

    def with_outputs_of(self, other: "ModuleNetwork") -> "ModuleNetwork":
        """One network for what both give of one module, this one's outputs first."""
        return self._placed_alike(ModuleNetwork(self.module, self.outputs | other.outputs, work=self.work))

    def place(self, device: str) -> None:
        """Compute on another device of torch's from now on, by a mirror of the module; parameters stay here."""
        self._mirror = _Mirror(self._unused, torch.device(device))

    def _placed_alike(self, other: "ModuleNetwork") -> "ModuleNetwork":
        if self._mirror is not None:
            other.place(str(self._mirror.device))
        return other

    def bind(self, arrays: NamedArrays, prefix: str = "") -> None:
        """Have the arrays named ``prefix + parameter`` as parameters, in place of those before."""
        if not self.refers_to:
            for name, parameter in self._named():
                parameter.data = torch.from_numpy(arrays[f"{prefix}module.{name}"])

    def twin(self) -> "ModuleNetwork":
        """The same network with parameters of its own."""
        return self._placed_alike(ModuleNetwork(copy.deepcopy(self._unused), self.outputs, work=self.work))

    def state_dict(self) -> dict[str, Any]:
        """Parameters and buffers, where they lie."""
        if self.refers_to:
            return {}
        return {f"module.{name}": value for name, value in self.module.state_dict().items()}

    def __call__(self, observations: Observation) -> FloatArray:
        """Output ``[B, n_out]`` for observations ``[B, ...]``, in blocks of a fixed number of rows, padded.

        On another device all rows are one block, so that a row's last bits may depend on how many there are.
        """
        n_rows = len(next(iter(observations.values())))
        size = BLOCK_ROWS if self._mirror is None else n_rows
        n_padded = -(-n_rows // size) * size
        padded = {
            name: np.concatenate((values, np.zeros((n_padded - n_rows, *values.shape[1:]), values.dtype)))
            if n_padded > n_rows
            else values
            for name, values in observations.items()
        }
        parts = [partial(self._acted, padded, slice(at, at + size)) for at in range(0, n_padded, size)]
        with one_torch_thread(), plain_torch():
            self._refresh()
            blocks = side_by_side(parts) if self.work >= _LARGE else [part() for part in parts]
        logits: FloatArray = np.concatenate(blocks)[:n_rows].astype(np.float32)
        return logits

    def _acted(self, observations: Observation, rows: slice) -> FloatArray:
        with torch.inference_mode():
            given: FloatArray = self.evaluate({n: x[rows] for n, x in observations.items()}).cpu().numpy()
        return given

    def _refresh(self) -> None:
        if self._mirror is not None:
            self._mirror.refresh(self.module)

    def __reduce__(self) -> tuple[Any, ...]:
        """Pickle what it computes, on the CPU, and nothing of threads."""
        return partial(ModuleNetwork, work=self.work), (self._unused, self.outputs)

    def _module_here(self) -> nn.Module:
        """The mirror, or the module for this thread: what it keeps on itself as it computes must not meet another's."""
        if self._mirror is not None:
            return self._mirror.module
        if threading.get_ident() == self._own_thread or self._unused is self.module:
            return self.module
        if not hasattr(self._here, "module"):
            self._here.module = _with_same_parameters(self._unused)
        return self._here.module  # type: ignore[no-any-return]

    def evaluate(self, observations: Mapping[str, Array | Tensor]) -> Tensor:
        """The module's outputs side by side, ``[N, n_out]``.

        Raises:
            ValueError: the module left out an output, or it has another width.
        """
        kind = type(self.module).__name__
        module = self._module_here()
        given: Any = module(
            {name: _as_float(self._moved(values)) for name, values in observations.items()}, **self._told
        )
        if isinstance(given, Tensor) and len(self.outputs) == 1:
            given = {name: given for name in self.outputs}
        n_ticks = len(observations[BEGINS]) if BEGINS in observations else 0
        parts = []
        for name, width in self.outputs.items():
            if name not in given:
                raise ValueError(f"{kind} should give {name!r}, it gave {sorted(given)}")
            if n_ticks and name == STATE:  # that behind the last tick
                continue
            n_rows = n_ticks * len(given[name][0]) if n_ticks else len(given[name])
            parts.append(_as_float(given[name]).reshape(n_rows, -1))
            if parts[-1].shape[1] != width:
                raise ValueError(f"{kind} should give {name!r} {width} wide, not {parts[-1].shape[1]}")
        return parts[0] if len(parts) == 1 else torch.cat(parts, dim=1)

    def unread(self, observations: Observation) -> list[str]:
        """Names of the parameters on which none of its outputs depends, such as those of others of the module's."""
        self._refresh()
        named = dict(self._module_here().named_parameters())
        learning = [name for name, parameter in named.items() if parameter.requires_grad]
        output = self.evaluate(observations)
        if not output.requires_grad:
            return [f"module.{name}" for name in learning]
        found = torch.autograd.grad(output.sum(), [named[name] for name in learning], allow_unused=True)
        return [f"module.{name}" for name, d in zip(learning, found, strict=True) if d is None]

    def _moved(self, values: Array | Tensor) -> Tensor:
        """The values where the module computes; bytes travel as bytes."""
        tensor = torch.as_tensor(values)
        return tensor if self._mirror is None else tensor.to(self._mirror.device)

    def unroll(self, observations: NamedArrays, sequences: Sequences) -> Tensor:
        """Outputs ``[N, n_out]`` of rows ``[N, …]``, through whose states gradients flow; the first ones are given.

        A module that ``reads_sequences`` is given whole ones, ``[T, S, …]``, with the state before the first tick
        and with ``"begins"`` ``[T, S]``, where the state is zeros; another one is given tick by tick.
        """
        rows = np.maximum(sequences.rows, 0)
        seen = {name: torch.as_tensor(values[rows]) for name, values in observations.items()}
        state, begins = _as_float(self._moved(seen.pop(STATE)[0])), self._moved(sequences.begins)
        if getattr(self.module, "reads_sequences", False):
            output = self.evaluate({**seen, STATE: state, BEGINS: begins})
        else:
            parts = []
            for t, begin in enumerate(begins):
                now = {name: values[t] for name, values in seen.items()}
                given = self.evaluate({**now, STATE: state.masked_fill(begin[:, None], 0.0)})
                state = given[:, -self.state_width :]
                parts.append(given[:, : -self.state_width])
            output = torch.cat(parts)
        return output[torch.from_numpy(sequences.places())]

    def learner(
        self, gradients: NamedArrays | None, inputs: Collection[str] = ()
    ) -> Callable[..., tuple[Sequence[FloatArray], NetsPull]]:
        """How it learns: observations to its output ``[1][n_out, N]`` and the pull of that.

        What carries a state takes the sequences of the rows too; without them every row has its own state.

        Args:
            gradients: parameter → where its gradient is added up; None where it does not learn.
            inputs: observations whose gradients the pull gives, where the parameters do not learn.
        """
        learning = [
            (parameter, torch.from_numpy(gradients[f"module.{name}"]))
            for name, parameter in self._named()
            if gradients
        ]

        def learn(
            observations: NamedArrays, sequences: Sequences | None = None
        ) -> tuple[Sequence[FloatArray], NetsPull]:
            self._refresh()
            is_whole = sequences is not None or inputs or self.state_width or self._mirror
            parts = [] if is_whole else self._parts(len(next(iter(observations.values()))))
            if len(parts) > 1:
                return self._learn_in_parts(observations, parts, learning)
            asked = {name: torch.from_numpy(observations[name]).requires_grad_() for name in inputs}
            if sequences is not None:
                output = self.unroll(observations, sequences)
            else:
                output = self.evaluate({**observations, **asked})
                output = output[:, : -self.state_width] if self.state_width else output

            def pull(d_outputs: Sequence[FloatArray]) -> NamedArrays:
                if not output.requires_grad:  # all of the module is frozen, or nothing is to be learnt
                    return {}
                d_output = self._moved(d_outputs[0].T)
                if gradients is None:
                    found = torch.autograd.grad(output, list(asked.values()), d_output)
                    return {
                        name: _view(d.reshape(len(d), -1).T) for name, d in zip(asked, found, strict=True)
                    }
                if self._mirror is not None:
                    self._mirror.fetch(output, d_output, [gradient for _, gradient in learning])
                    return {}
                for parameter, gradient in learning:  # each time: an environment may take them away
                    parameter.grad = gradient
                torch.autograd.backward(output, d_output)
                return {}

            return [output.detach().cpu().numpy().T], pull

        return learn

    def _parts(self, n_rows: int) -> list[slice]:
        """The rows in parts, to be computed side by side; alike whatever the machine."""
        if torch.is_grad_enabled():
            n = next((n for n in (_PARTS, _PARTS // 2) if self.work * n_rows >= n * _PART_WORK), 1)
        else:
            n = -(-self.work * n_rows // _PIECE_WORK) or 1
        bounds = [n_rows * i // n for i in range(n + 1)]
        return [slice(a, b) for a, b in itertools.pairwise(bounds)]

    def _learn_in_parts(
        self,
        observations: NamedArrays,
        parts: Sequence[slice],
        learning: Sequence[tuple[nn.Parameter, Tensor]],
    ) -> tuple[Sequence[FloatArray], NetsPull]:
        """Output and pull of rows that are split; gradients are added up part by part, in their order."""
        keeps_gradients = torch.is_grad_enabled()

        def forward(rows: slice) -> Tensor:
            with torch.set_grad_enabled(keeps_gradients):
                return self.evaluate({name: values[rows] for name, values in observations.items()})

        outputs = side_by_side([partial(forward, rows) for rows in parts])
        learnt = [(parameter, gradient) for parameter, gradient in learning if parameter.requires_grad]

        def backward(output: Tensor, d_output: Tensor) -> Sequence[Tensor | None]:
            of = [parameter for parameter, _ in learnt]
            return torch.autograd.grad(output, of, d_output, allow_unused=True)

        def pull(d_outputs: Sequence[FloatArray]) -> NamedArrays:
            if not outputs[0].requires_grad:
                return {}
            d_output = torch.from_numpy(d_outputs[0].T)
            each = [partial(backward, y, d_output[rows]) for y, rows in zip(outputs, parts, strict=True)]
            found = zip(*side_by_side(each), strict=True)
            pieces = [
                partial(_add_up, of_piece)
                for (_, gradient), of_parts in zip(learnt, found, strict=True)
                for of_piece in _pieces(gradient, of_parts)
            ]
            side_by_side(pieces)
            return {}

        return [np.concatenate([output.detach().numpy() for output in outputs]).T], pull


class _Mirror:
    """A module on another device, as that of the host was when it was last refreshed."""

    def __init__(self, module: nn.Module, device: torch.device) -> None:
        self.device = device
        self.module = copy.deepcopy(module).to(device)

    def refresh(self, module: nn.Module) -> None:
        """Take over parameters and buffers."""
        with torch.no_grad():
            for mine, theirs in zip(_tensors(self.module), _tensors(module), strict=True):
                mine.copy_(theirs)

    def fetch(self, output: Tensor, d_output: Tensor, gradients: Sequence[Tensor]) -> None:
        """Add to the gradients of all parameters, which lie with the host, what the output's is."""
        learnt = [
            pair for pair in zip(self.module.parameters(), gradients, strict=True) if pair[0].requires_grad
        ]
        found = torch.autograd.grad(output, [own for own, _ in learnt], d_output, allow_unused=True)
        for (_, gradient), part in zip(learnt, found, strict=True):
            if part is not None:
                gradient += part.cpu()


def _tensors(module: nn.Module) -> list[Tensor]:
    return [*module.parameters(), *module.buffers()]


def _pieces(gradient: Tensor, of_parts: Sequence[Tensor | None]) -> list[tuple[Tensor, ...]]:
    """A gradient and what the parts found of it, cut alike."""
    found = [part for part in of_parts if part is not None]
    n = gradient.numel() // _PIECE_SIZE or 1
    return [*zip(*(x.chunk(n) for x in (gradient, *found)), strict=True)]


def _add_up(piece: Sequence[Tensor]) -> None:
    gradient, *found = piece
    for part in found:
        gradient += part


def module_network(
    entry: Any,
    space: spaces.Dict,
    outputs: Mapping[str, int],
    path: str,
    *,
    arguments: Sequence[str],
    copies: dict[int, Any],
) -> ModuleNetwork:
    """A network of the user's that was tried on these observations.

    Args:
        entry: a module, of which a copy is taken, or a class or function that makes one.
        space: the observations.
        outputs: what it is to give, and how wide.
        path: where the entry stands in the configuration.
        arguments: what a class or function is called with: shapes of observations, then of outputs.
        copies: memo of ``copy.deepcopy``.

    Raises:
        InvalidSpecificationError: the entry is no network, or does not fit the spaces.
    """
    if isinstance(entry, nn.Module):  # a copy: the caller's own and every other model stay as they are
        module = copy.deepcopy(entry, copies)
    else:
        module = _called(entry, space, outputs, path, arguments)
    return wrapped_module(module, space, outputs, path)


def wrapped_module(
    module: nn.Module, space: spaces.Dict, outputs: Mapping[str, int], path: str
) -> ModuleNetwork:
    """A network of this very module, tried on these observations; arguments as of :func:`module_network`.

    Raises:
        InvalidSpecificationError: the module does not fit the spaces.
    """
    other = next((name for name, p in module.named_parameters() if p.dtype != torch.float32), None)
    if other is not None:
        kind = str(module.get_parameter(other).dtype).removeprefix("torch.")
        raise _problem(
            path, f"has a parameter {other!r} of {kind}, it should be float32: call float() on it."
        )
    network = ModuleNetwork(module, outputs)
    zeros = {name: np.zeros((1, *(part.shape or ())), part.dtype) for name, part in space.spaces.items()}
    if network.state_width:
        if STATE in zeros or STATE in outputs:
            raise _problem(path, f"carries a state; the environment must not call anything {STATE!r} itself.")
        zeros[STATE] = np.zeros((1, network.state_width), np.float32)
    try:
        with torch.no_grad(), _counted(module) as work:
            network.evaluate(zeros)
    except USER_CODE_ERRORS as error:  # a module may raise anything
        raise _problem(path, f"does not run on these observations: {reason_of(error)}") from error
    return ModuleNetwork(module, outputs, work=sum(work))


@contextmanager
def _counted(module: nn.Module) -> Iterator[list[int]]:
    """What is computed meanwhile: multiply-adds of each convolution and dense layer, as they run."""
    work: list[int] = []

    def count(layer: Any, _: object, output: Any) -> None:
        work.append(output.numel() * layer.weight[0].numel())

    layers = [layer for layer in module.modules() if isinstance(layer, _ConvNd | nn.Linear)]
    hooks = [layer.register_forward_hook(count) for layer in layers]
    try:
        yield work
    finally:
        for hook in hooks:
            hook.remove()


def _called(
    entry: Callable[..., Any],
    space: spaces.Dict,
    outputs: Mapping[str, int],
    path: str,
    arguments: Sequence[str],
) -> nn.Module:
    """The module that a class or function of the user's makes."""
    seen = {name: tuple(part.shape or ()) for name, part in space.spaces.items()}
    logits = {head: (width,) for head, width in outputs.items()}
    shapes: dict[str, Any] = dict(zip(arguments, (seen, logits), strict=False))
    try:
        made = entry(**shapes)
    except USER_CODE_ERRORS as error:  # a constructor may raise anything
        given = " and ".join(shapes)
        raise _problem(path, f"cannot be made from {given}: {reason_of(error)}") from error
    if not isinstance(made, nn.Module):
        raise _problem(path, f"gave a {type(made).__name__}, not a torch.nn.Module.")
    return made


def _with_same_parameters(module: nn.Module) -> nn.Module:
    """A copy of all but parameters and buffers."""
    return copy.deepcopy(module, {id(x): x for x in (*module.parameters(), *module.buffers())})


def _as_float(values: Tensor) -> Tensor:
    return values if values.dtype == torch.float32 else values.to(torch.float32)


def _view(parameter: Tensor) -> Array:
    array: Array = parameter.detach().numpy()
    return array


def _problem(path: str, message: str) -> InvalidSpecificationError:
    return InvalidSpecificationError([Problem(path=path, message=message)])
