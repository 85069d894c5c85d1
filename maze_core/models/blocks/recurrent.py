"""Recurrent layers: some carry a state from one observation to the next, others read a stack of observations.

The state of a network is one more input, ``"state"``, ``[B, state_width]``, zeros where an episode begins; the block
gives it back as one more output of the same name. With an input ``"begins"``, ``[T, B]``, the others are whole
sequences ``[T, B, …]``: the state given is that before the first tick, zeroed wherever an episode begins, and the one
given back is that behind the last tick. A network of several such blocks gives each its own part of the state
(:class:`~maze_core.models.blocks.inference.InferenceBlock`).
"""

from collections.abc import Iterator
from itertools import pairwise
from typing import Any, Final

import torch
from torch import Tensor, nn

from maze_core.models.blocks.block import Block, Keys, Shapes, Tensors, WeightInit, activation, initialised
from maze_core.models.memory import BEGINS, STATE

_LARGEST_H: Final = 1.001
"""h is between -1 and 1, but for what rounding adds."""
_LARGEST_C: Final = 2.0**24
"""A step changes c by 1 at most, and a float32 of this size no longer at all."""


class StatefulBlock(Block):
    """Base of blocks that carry a state; it is no entry of ``in_keys``."""

    input_dims = ((1,),)

    @property
    def state_width(self) -> int:
        """Numbers of the state."""
        raise NotImplementedError

    def advance(self, sequence: Tensor, state: Tensor) -> tuple[Tensor, Tensor]:
        """Outputs ``[T, N, …]`` and the last state, of ``[T, N, …]`` within one episode and the state before."""
        raise NotImplementedError

    def forward(self, tensors: Tensors) -> dict[str, Tensor]:
        """The output and, behind it, the state; a missing state is one of zeros."""
        x, begins = self.read(tensors, self.in_keys[0]), tensors.get(BEGINS)
        sequence = x.reshape(1, -1, x.shape[-1]) if begins is None else x
        state = tensors.get(STATE)
        if state is None:
            state = sequence.new_zeros(sequence.shape[1], self.state_width)
        lead = state.shape[:-1]
        state = state.reshape(-1, self.state_width)
        parts = []
        for first, last, goes_on in _segments(begins, len(sequence)):
            state = state if goes_on is None else state * goes_on[:, None]
            part, state = self.advance(sequence[first:last], state)
            parts.append(part)
        output = torch.cat(parts) if len(parts) > 1 else parts[0]
        return {
            **self.named([output.reshape(*x.shape[:-1], -1)]),
            STATE: state.reshape(*lead, self.state_width),
        }


def _segments(begins: Tensor | None, n_ticks: int) -> Iterator[tuple[int, int, Tensor | None]]:
    """First tick and end of the stretches in which no episode begins but at the first; there, whose state goes on."""
    if begins is None:
        yield 0, n_ticks, None
        return
    is_cut = begins.reshape(n_ticks, -1).bool()
    cuts = [0, *(t for t in is_cut.any(1).nonzero()[:, 0].tolist() if t > 0), n_ticks]
    for first, last in pairwise(cuts):
        yield first, last, (~is_cut[first]).float()


class _Recurrent(StatefulBlock):
    """What LSTM and GRU share."""

    def __init__(
        self,
        in_keys: Keys,
        out_keys: Keys,
        in_shapes: Shapes,
        hidden_size: int,
        num_layers: int = 1,
        weight_init: WeightInit = "orthogonal",
        hidden_gain: float = 1.0,
    ) -> None:
        """Take the width and number of the layers; first weights are orthogonal gate by gate, biases 0."""
        super().__init__(in_keys, out_keys, in_shapes)
        self.check_weights(4, hidden_size, self.in_shapes[0][0] + hidden_size)
        kind: Any = nn.LSTM if isinstance(self, LSTMBlock) else nn.GRU
        layer = kind(self.in_shapes[0][0], hidden_size, num_layers)
        self.layer = initialised(layer, weight_init, hidden_gain)
        self.hidden_size, self.num_layers = hidden_size, num_layers

    def _layers(self, state: Tensor) -> Tensor:
        """A state ``[N, n]`` as torch has it, ``[layers, N, hidden]``."""
        layers: Tensor = state.unflatten(1, (-1, self.hidden_size)).transpose(0, 1).contiguous()
        return layers


class LSTMBlock(_Recurrent):
    """Long short-term memory (Hochreiter and Schmidhuber 1997): ``[n]`` → ``[hidden_size]``; h and c are its state."""

    @property
    def state_width(self) -> int:
        """Numbers of h of all layers, then c of all layers."""
        return 2 * self.num_layers * self.hidden_size

    @property
    def state_limits(self) -> list[float]:
        """Those of h, then those of c."""
        n = self.num_layers * self.hidden_size
        return [_LARGEST_H] * n + [_LARGEST_C] * n

    def advance(self, sequence: Tensor, state: Tensor) -> tuple[Tensor, Tensor]:
        """Outputs ``[T, N, hidden_size]`` and the last state."""
        h, c = self._layers(state).split(self.num_layers)
        output, last = self.layer(sequence, (h.contiguous(), c.contiguous()))
        return output, torch.cat(last).transpose(0, 1).flatten(1)


class GRUBlock(_Recurrent):
    """Gated recurrent unit (Cho et al. 2014, arXiv:1406.1078): ``[n]`` → ``[hidden_size]``; h is its state."""

    @property
    def state_width(self) -> int:
        """Numbers of h of all layers."""
        return self.num_layers * self.hidden_size

    @property
    def state_limits(self) -> list[float]:
        """Those of h."""
        return [_LARGEST_H] * self.state_width

    def advance(self, sequence: Tensor, state: Tensor) -> tuple[Tensor, Tensor]:
        """Outputs ``[T, N, hidden_size]`` and the last state."""
        output, last = self.layer(sequence, self._layers(state))
        return output, last.transpose(0, 1).flatten(1)


class LSTMLastStepBlock(Block):
    """An LSTM over stacked observations ``[S, n]``, oldest first, that begins at zero: its last output, ``[units]``.

    It carries nothing: memory reaches as far as the stack, which an ``ObservationStackWrapper`` makes.
    """

    input_dims = ((2,),)

    def __init__(
        self,
        in_keys: Keys,
        out_keys: Keys,
        in_shapes: Shapes,
        hidden_size: int,
        num_layers: int = 1,
        bidirectional: bool = False,
        non_lin: str | type[nn.Module] = "identity",
        weight_init: WeightInit = "orthogonal",
        hidden_gain: float = 1.0,
    ) -> None:
        """Take the width and number of the layers, whether they read backwards too, and the activation behind."""
        super().__init__(in_keys, out_keys, in_shapes)
        self.check_weights(4, hidden_size, self.in_shapes[0][1] + hidden_size)
        layer = nn.LSTM(
            self.in_shapes[0][1], hidden_size, num_layers, batch_first=True, bidirectional=bidirectional
        )
        self.layer = initialised(layer, weight_init, hidden_gain)
        self.non_lin = activation(non_lin)
        self.n_directions = 1 + bidirectional

    def compute(self, *inputs: Tensor) -> Tensor:
        """``[N, S, n]`` → ``[N, hidden_size]``, each direction after all of the stack, side by side."""
        _, (h, _) = self.layer(inputs[0])
        return self.non_lin(h[-self.n_directions :].transpose(0, 1).flatten(1))  # type: ignore[no-any-return]
