"""A user's own torch network, in a module that a serving child can import."""

from typing import Any

import numpy as np
import torch
from torch import nn


class PolicyNet(nn.Module):
    """One hidden layer, and a multiplication that no dense program has."""

    def __init__(self, obs_shapes: dict[str, Any], action_logits_shapes: dict[str, Any]) -> None:
        super().__init__()
        self.body = nn.Linear(sum(int(np.prod(shape)) for shape in obs_shapes.values()), 8)
        self.heads = nn.ModuleDict(
            {head: nn.Linear(8, *shape) for head, shape in action_logits_shapes.items()}
        )

    def forward(self, observations: dict[str, torch.Tensor]) -> dict[str, torch.Tensor]:
        hidden = self.body(
            torch.cat([values.reshape(len(values), -1) for values in observations.values()], 1)
        )
        hidden = torch.tanh(hidden) * torch.sigmoid(hidden)
        return {head: layer(hidden) for head, layer in self.heads.items()}


class RecurrentNet(PolicyNet):
    """The same with a state: what was seen before, by halves; one beyond all measure grows further."""

    state_width = 8

    def forward(self, observations: dict[str, torch.Tensor]) -> dict[str, torch.Tensor]:
        seen = [values.reshape(len(values), -1) for name, values in observations.items() if name != "state"]
        hidden = torch.tanh(self.body(torch.cat(seen, 1)) + observations["state"])
        carried = hidden / 2 + observations["state"] ** 2 / 1e9
        return {**{head: layer(hidden) for head, layer in self.heads.items()}, "state": carried}
