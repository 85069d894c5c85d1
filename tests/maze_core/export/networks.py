"""Torch networks of a user."""

from typing import Any

import torch
from torch import nn


class Pixels(nn.Module):
    def __init__(self, obs_shapes: Any, action_logits_shapes: Any) -> None:
        super().__init__()
        self.conv, self.action = nn.Conv2d(1, 4, 8, 4), nn.Linear(256, 2)

    def forward(self, x: dict[str, torch.Tensor]) -> dict[str, torch.Tensor]:
        picture = x["observation"].permute(0, 3, 1, 2) / 255
        return {"action": self.action(torch.relu(self.conv(picture)).flatten(1))}


class Remembers(nn.Module):
    state_width = 6

    def __init__(self, obs_shapes: Any, action_logits_shapes: Any) -> None:
        super().__init__()
        self.cell, self.action = nn.GRUCell(4, 6), nn.Linear(6, 2)

    def forward(self, x: dict[str, torch.Tensor]) -> dict[str, torch.Tensor]:
        state = self.cell(x["observation"], x["state"])
        return {"action": self.action(state), "state": state}
