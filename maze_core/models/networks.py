"""Networks as torch modules, which own the parameters: programs of :mod:`maze_core.models.graph`, and the user's own.

A program is computed by numpy, where a policy acts (:class:`~maze_core.models.graph.Forward`) and where it learns
(:mod:`maze_core.models.dense`). A torch module of the user's answers ``evaluate(observations)`` with one tensor.
"""

from collections.abc import Mapping
from typing import Any, TypeAlias

import numpy as np
import torch
from torch import Tensor, nn

from maze_core.models.graph import BLOCK_ROWS, Program
from maze_core.threads import one_torch_thread, plain_torch
from maze_core.types import FloatArray, Observation


class GraphNetwork(nn.Module):
    """The parameters of a :class:`~maze_core.models.graph.Program`.

    Weights start orthogonal (Saxe et al. 2014, arXiv:1312.6120) with the gain of their layer, biases at 0.
    """

    def __init__(self, program: Program, generator: torch.Generator | None = None) -> None:
        """Make them; ``generator`` is where the weights come from, None is torch's global one."""
        super().__init__()
        self.program = program
        for op in program.dense:
            weight = torch.empty(op.n_out, op.n_in, dtype=torch.float32)
            nn.init.orthogonal_(weight, op.gain, generator=generator)
            self.register_parameter(op.weight, nn.Parameter(weight))
            self.register_parameter(op.bias, nn.Parameter(torch.zeros(op.n_out, dtype=torch.float32)))


class ModuleNetwork(nn.Module):
    """A torch module of the user's that takes and gives dicts."""

    def __init__(self, module: nn.Module, outputs: Mapping[str, int]) -> None:
        """Wrap ``module``; ``outputs`` names the parts of its output that are used, and their widths."""
        super().__init__()
        self.module = module
        self.outputs = dict(outputs)

    def evaluate(self, observations: Mapping[str, Tensor]) -> Tensor:
        """The module's outputs side by side, ``[N, n_out]``.

        Raises:
            ValueError: the module left out an output, or it has another width.
        """
        given: Any = self.module({name: _as_float(values) for name, values in observations.items()})
        if isinstance(given, Tensor) and len(self.outputs) == 1:
            given = {name: given for name in self.outputs}
        parts = []
        for name, width in self.outputs.items():
            if name not in given:
                raise ValueError(
                    f"{type(self.module).__name__} should give {name!r}, it gave {sorted(given)}"
                )
            part = given[name]
            parts.append(_as_float(part).reshape(len(part), -1))
            if parts[-1].shape[1] != width:
                found = parts[-1].shape[1]
                raise ValueError(
                    f"{type(self.module).__name__} should give {name!r} {width} wide, not {found}"
                )
        return parts[0] if len(parts) == 1 else torch.cat(parts, dim=1)


Network: TypeAlias = GraphNetwork | ModuleNetwork


class ModuleForward:
    """Lets a torch module act, in blocks of 8 rows, padded: a row has the same bits whatever its batch."""

    def __init__(self, network: ModuleNetwork) -> None:
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


def _as_float(values: Tensor) -> Tensor:
    return values if values.dtype == torch.float32 else values.to(torch.float32)
