"""A torch module of the user's as a network. Only here do the networks of a run enter torch.

It answers dicts with dicts, learns by autograd, and is in evaluation mode from the first on: the policy that learns is
the one that acted, also where it has dropout or batch norm.
"""

import copy
from collections.abc import Callable, Collection, Mapping, Sequence
from typing import Any

import numpy as np
import torch
from gymnasium import spaces
from torch import Tensor, nn

from maze_core.errors import USER_CODE_ERRORS, InvalidSpecificationError, Problem, reason_of
from maze_core.models.dense import NetsPull
from maze_core.models.graph import BLOCK_ROWS
from maze_core.models.memory import BEGINS, STATE, Sequences
from maze_core.threads import one_torch_thread, plain_torch
from maze_core.types import Array, FloatArray, NamedArrays, Observation


class ModuleNetwork:
    """A torch module that takes and gives dicts; its parameters are the module's, on the same memory."""

    needs_torch = True

    def __init__(self, module: nn.Module, outputs: Mapping[str, int]) -> None:
        """Wrap ``module``; ``outputs`` names the parts of its output that are used, and their widths.

        A module with a ``state_width`` reads ``"state"`` too, and gives the next one.
        """
        self.module = module.eval()
        self.state_width = int(getattr(module, "state_width", 0))
        self.outputs = dict(outputs) | ({STATE: self.state_width} if self.state_width else {})

    @property
    def parameters(self) -> dict[str, FloatArray]:
        """Name → array, where it lies: whoever changes it changes the module."""
        return {f"module.{name}": _view(p) for name, p in self.module.named_parameters()}

    @property
    def frozen(self) -> list[str]:
        """Names of the parameters that do not learn."""
        return [f"module.{name}" for name, p in self.module.named_parameters() if not p.requires_grad]

    def bind(self, arrays: NamedArrays, prefix: str = "") -> None:
        """Have the arrays named ``prefix + parameter`` as parameters, in place of those before."""
        for name, parameter in self.module.named_parameters():
            parameter.data = torch.from_numpy(arrays[f"{prefix}module.{name}"])

    def twin(self) -> "ModuleNetwork":
        """The same network with parameters of its own."""
        return ModuleNetwork(copy.deepcopy(self.module), self.outputs)

    def state_dict(self) -> dict[str, Any]:
        """Parameters and buffers, where they lie."""
        return {f"module.{name}": value for name, value in self.module.state_dict().items()}

    def __call__(self, observations: Observation) -> FloatArray:
        """Output ``[B, n_out]`` for observations ``[B, ...]``, in blocks of 8 rows, padded."""
        n_rows = len(next(iter(observations.values())))
        n_padded = -(-n_rows // BLOCK_ROWS) * BLOCK_ROWS
        padded = {
            name: np.concatenate((values, np.zeros((n_padded - n_rows, *values.shape[1:]), values.dtype)))
            for name, values in observations.items()
        }
        with one_torch_thread(), plain_torch(), torch.inference_mode():
            blocks = [
                self.evaluate({name: values[at : at + BLOCK_ROWS] for name, values in padded.items()}).numpy()
                for at in range(0, n_padded, BLOCK_ROWS)
            ]
        logits: FloatArray = np.concatenate(blocks)[:n_rows].astype(np.float32)
        return logits

    def evaluate(self, observations: Mapping[str, Array | Tensor]) -> Tensor:
        """The module's outputs side by side, ``[N, n_out]``.

        Raises:
            ValueError: the module left out an output, or it has another width.
        """
        kind = type(self.module).__name__
        given: Any = self.module(
            {name: _as_float(torch.as_tensor(values)) for name, values in observations.items()}
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

    def unroll(self, observations: NamedArrays, sequences: Sequences) -> Tensor:
        """Outputs ``[N, n_out]`` of rows ``[N, …]``, through whose states gradients flow; the first ones are given.

        A module that ``reads_sequences`` is given whole ones, ``[T, S, …]``, with the state before the first tick
        and with ``"begins"`` ``[T, S]``, where the state is zeros; another one is given tick by tick.
        """
        rows = np.maximum(sequences.rows, 0)
        seen = {name: torch.as_tensor(values[rows]) for name, values in observations.items()}
        state, begins = _as_float(seen.pop(STATE)[0]), torch.from_numpy(sequences.begins)
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
            for name, parameter in self.module.named_parameters()
            if gradients is not None
        ]

        def learn(
            observations: NamedArrays, sequences: Sequences | None = None
        ) -> tuple[Sequence[FloatArray], NetsPull]:
            asked = {name: torch.from_numpy(observations[name]).requires_grad_() for name in inputs}
            if sequences is not None:
                output = self.unroll(observations, sequences)
            else:
                output = self.evaluate({**observations, **asked})
                output = output[:, : -self.state_width] if self.state_width else output

            def pull(d_outputs: Sequence[FloatArray]) -> NamedArrays:
                if not output.requires_grad:  # all of the module is frozen, or nothing is to be learnt
                    return {}
                d_output = torch.from_numpy(d_outputs[0].T)
                if gradients is None:
                    found = torch.autograd.grad(output, list(asked.values()), d_output)
                    return {
                        name: _view(d.reshape(len(d), -1).T) for name, d in zip(asked, found, strict=True)
                    }
                for parameter, gradient in learning:  # each time: an environment may take them away
                    parameter.grad = gradient
                torch.autograd.backward(output, d_output)
                return {}

            return [output.detach().numpy().T], pull

        return learn


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
        with torch.no_grad():
            network.evaluate(zeros)
    except USER_CODE_ERRORS as error:  # a module may raise anything
        raise _problem(path, f"does not run on these observations: {reason_of(error)}") from error
    return network


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


def _as_float(values: Tensor) -> Tensor:
    return values if values.dtype == torch.float32 else values.to(torch.float32)


def _view(parameter: Tensor) -> Array:
    array: Array = parameter.detach().numpy()
    return array


def _problem(path: str, message: str) -> InvalidSpecificationError:
    return InvalidSpecificationError([Problem(path=path, message=message)])
