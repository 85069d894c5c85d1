"""Networks in torch: the programs of :mod:`maze_core.models.graph`, and torch modules of the user's.

Both kinds answer ``evaluate(observations)`` with one tensor ``[N, n_out]``; as modules they take a dict of
observations and give a dict of outputs.
"""

from collections.abc import Callable, Mapping
from typing import Any, Final

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from maze_core.models.activations import LEAKY_SLOPE
from maze_core.models.graph import BLOCK_ROWS, Concat, Dense, OneHot, Program
from maze_core.threads import one_torch_thread, plain_torch
from maze_core.types import FloatArray, Observation

TensorDict = Mapping[str, Tensor]

_ACTIVATIONS: Final[dict[str, Callable[[Tensor], Tensor] | None]] = {
    "tanh": torch.tanh,
    "relu": torch.relu,
    "elu": F.elu,
    "sigmoid": torch.sigmoid,
    "silu": F.silu,
    "leaky_relu": lambda x: F.leaky_relu(x, LEAKY_SLOPE),
    "identity": None,
}


class Network(nn.Module):
    """Observations to numbers: ``evaluate`` for the learner, ``forward`` for whoever calls it as a module."""

    def __init__(self, outputs: Mapping[str, int]) -> None:
        """``outputs``: name → width of the parts of the output, in order."""
        super().__init__()
        self.outputs = dict(outputs)

    def evaluate(self, observations: TensorDict) -> Tensor:
        """Output ``[N, n_out]`` for observations ``[N, ...]``."""
        raise NotImplementedError

    def forward(self, observations: TensorDict) -> dict[str, Tensor]:
        """Name → output ``[N, width]``."""
        parts = self.evaluate(observations).split(list(self.outputs.values()), dim=1)
        return dict(zip(self.outputs, parts, strict=True))


class GraphNetwork(Network):
    """Runs a :class:`~maze_core.models.graph.Program`.

    Weights start orthogonal (Saxe et al. 2014, arXiv:1312.6120) with the gain of their layer, biases at 0.
    """

    def __init__(
        self, program: Program, outputs: Mapping[str, int], generator: torch.Generator | None = None
    ) -> None:
        """Make the parameters.

        Args:
            program: the operations.
            outputs: name → width of the parts of the program's output, in order.
            generator: where the weights come from; None is torch's global one.
        """
        super().__init__(outputs)
        self.program = program
        for op in program.dense:
            weight = torch.empty(op.n_out, op.n_in, dtype=torch.float32)
            nn.init.orthogonal_(weight, op.gain, generator=generator)
            self.register_parameter(op.weight, nn.Parameter(weight))
            self.register_parameter(op.bias, nn.Parameter(torch.zeros(op.n_out, dtype=torch.float32)))

    def evaluate(self, observations: TensorDict) -> Tensor:
        """The program's output ``[N, n_out]`` for observations ``[N, ...]``."""
        parameters = self._parameters
        slots: dict[str, Tensor] = {}
        x = torch.empty(0, dtype=torch.float32)
        for op in self.program.ops:
            if isinstance(op, Dense):
                x = F.linear(slots[op.source], parameters[op.weight], parameters[op.bias])  # type: ignore[arg-type]
                activation = _ACTIVATIONS[op.activation]
                if activation is not None:
                    x = activation(x)
            elif isinstance(op, Concat):
                x = torch.cat([slots[source] for source in op.sources], dim=1)
            elif isinstance(op, OneHot):
                x = _one_hot(observations[op.source], op)
            else:
                x = as_float(observations[op.source]).reshape(-1, op.width)
            slots[op.target] = x
        return x


class ModuleNetwork(Network):
    """A torch module of the user's that takes and gives dicts."""

    def __init__(self, module: nn.Module, outputs: Mapping[str, int]) -> None:
        """Wrap ``module``; ``outputs`` names the parts of its output that are used, and their widths."""
        super().__init__(outputs)
        self.module = module

    def evaluate(self, observations: TensorDict) -> Tensor:
        """The module's outputs side by side, ``[N, n_out]``.

        Raises:
            ValueError: the module left out an output, or it has another width.
        """
        given: Any = self.module({name: as_float(values) for name, values in observations.items()})
        if isinstance(given, Tensor) and len(self.outputs) == 1:
            given = {name: given for name in self.outputs}
        parts = []
        for name, width in self.outputs.items():
            if name not in given:
                raise ValueError(
                    f"{type(self.module).__name__} should give {name!r}, it gave {sorted(given)}"
                )
            part = given[name]
            parts.append(as_float(part).reshape(len(part), -1))
            if parts[-1].shape[1] != width:
                found = parts[-1].shape[1]
                raise ValueError(
                    f"{type(self.module).__name__} should give {name!r} {width} wide, not {found}"
                )
        return parts[0] if len(parts) == 1 else torch.cat(parts, dim=1)


class ModuleForward:
    """Lets a torch module act, in blocks of 8 rows, padded: a row has the same bits whatever its batch."""

    def __init__(self, network: Network) -> None:
        """Act with ``network`` in evaluation mode, under ``inference_mode``."""
        self._network = network

    def __call__(self, observations: Observation) -> FloatArray:
        """Output ``[B, n_out]`` float32 for observations ``[B, ...]``."""
        n_rows = len(next(iter(observations.values())))
        n_padded = -(-n_rows // BLOCK_ROWS) * BLOCK_ROWS
        padded = {
            name: np.concatenate((values, np.zeros((n_padded - n_rows, *values.shape[1:]), values.dtype)))
            for name, values in observations.items()
        }
        was_training = self._network.training
        self._network.eval()
        try:
            with one_torch_thread(), plain_torch(), torch.inference_mode():
                blocks = [
                    self._network.evaluate(
                        {
                            name: torch.from_numpy(values[at : at + BLOCK_ROWS])
                            for name, values in padded.items()
                        }
                    ).numpy()
                    for at in range(0, n_padded, BLOCK_ROWS)
                ]
        finally:
            self._network.train(was_training)
        logits: FloatArray = np.concatenate(blocks)[:n_rows].astype(np.float32)
        return logits


def as_float(values: Tensor) -> Tensor:
    """``values`` as float32, themselves where they are."""
    return values if values.dtype == torch.float32 else values.to(torch.float32)


def _one_hot(values: Tensor, op: OneHot) -> Tensor:
    groups, categories = (torch.from_numpy(column).to(values.device) for column in op.columns())
    if not values.is_floating_point():
        values = values.to(torch.int64)  # torch compares no uint16, uint32 or uint64 with int64
    return (values.reshape(-1, len(op.sizes))[:, groups] == categories).to(torch.float32)
