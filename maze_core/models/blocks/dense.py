"""Dense layers, and the linear layer in which networks end."""

from collections.abc import Sequence
from math import prod

import torch
from torch import Tensor, nn

from maze_core.models.blocks.block import Block, Keys, Shapes, WeightInit, activation, initialised


class DenseBlock(Block):
    """Dense layers, each with its activation: ``[n]`` → ``[hidden_units[-1]]``."""

    input_dims = ((1,),)

    def __init__(
        self,
        in_keys: Keys,
        out_keys: Keys,
        in_shapes: Shapes,
        hidden_units: Sequence[int] = (128,),
        non_lin: str | type[nn.Module] = "tanh",
        weight_init: WeightInit = "orthogonal",
        hidden_gain: float = 2**0.5,
    ) -> None:
        """Take widths, the activation behind every layer, and how first weights are drawn."""
        super().__init__(in_keys, out_keys, in_shapes)
        layers: list[nn.Module] = []
        width = self.in_shapes[0][0]
        for n_out in hidden_units:
            self.check_weights(width, n_out)
            layers += [initialised(nn.Linear(width, n_out), weight_init, hidden_gain), activation(non_lin)]
            width = n_out
        self.layers = nn.Sequential(*layers)

    def compute(self, *inputs: Tensor) -> Tensor:
        """``[N, n]`` → ``[N, n']``."""
        return self.layers(inputs[0])  # type: ignore[no-any-return]


class LinearOutputBlock(Block):
    """Flatten, then one linear layer without activation: ``[…]`` → ``[output_units]``."""

    def __init__(
        self,
        in_keys: Keys,
        out_keys: Keys,
        in_shapes: Shapes,
        output_units: int,
        weight_init: WeightInit = "orthogonal",
        output_gain: float = 0.01,
    ) -> None:
        """Take the width, and how first weights are drawn."""
        super().__init__(in_keys, out_keys, in_shapes)
        self.check_weights(width := prod(self.in_shapes[0]), output_units)
        layer = nn.Linear(width, output_units)
        self.layer = initialised(layer, weight_init, output_gain)

    def set_bias(self, bias: float) -> None:
        """Have all outputs begin around this number; :func:`compute_sigmoid_bias` makes one of a probability."""
        with torch.no_grad():
            self.layer.get_parameter("bias").fill_(bias)

    def compute(self, *inputs: Tensor) -> Tensor:
        """``[N, …]`` → ``[N, output_units]``."""
        return self.layer(inputs[0].flatten(1))  # type: ignore[no-any-return]


def compute_sigmoid_bias(probability: float) -> float:
    """The logit of a probability: with it as bias, a bit begins as likely as this."""
    return float(torch.logit(torch.tensor(probability, dtype=torch.float64)))
