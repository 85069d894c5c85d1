"""A small environment of pictures, and a network for it: the NatureCNN of Stable-Baselines3, with policy and critic.

Mnih et al. 2015, doi:10.1038/nature14236, "Methods".
"""

from collections.abc import Mapping
from typing import Any

import gymnasium
import numpy as np
import torch
from gymnasium import spaces
from torch import Tensor, nn

from maze_core.types import Array

_SIZE, _SQUARE = 84, 8


class Squares(gymnasium.Env[Array, np.int64]):
    """The last four pictures of a square that goes to the right, ``[84, 84, 4]`` bytes: keep it in the middle."""

    def __init__(self) -> None:
        self.observation_space = spaces.Box(0, 255, (_SIZE, _SIZE, 4), np.uint8)
        self.action_space = spaces.Discrete(4)
        self._seen = np.zeros((_SIZE, _SIZE, 4), np.uint8)
        self._row = self._n_steps = 0

    def reset(
        self, *, seed: int | None = None, options: dict[str, Any] | None = None
    ) -> tuple[Array, dict[str, Any]]:
        """In any row."""
        super().reset(seed=seed)
        self._seen = np.zeros((_SIZE, _SIZE, 4), np.uint8)
        self._row, self._n_steps = int(self.np_random.integers(_SIZE - _SQUARE)), 0
        return self._seen, {}

    def step(self, action: np.int64) -> tuple[Array, float, bool, bool, dict[str, Any]]:
        """Up, stay, or down by one or two."""
        self._n_steps += 1
        self._row = min(max(self._row + int(action) - 1, 0), _SIZE - _SQUARE)
        column = self._n_steps % (_SIZE - _SQUARE)
        seen = np.empty_like(self._seen)
        seen[..., :3], seen[..., 3] = self._seen[..., 1:], 0
        seen[self._row : self._row + _SQUARE, column : column + _SQUARE, 3] = 255
        self._seen = seen
        reward = 1.0 - abs(self._row - (_SIZE - _SQUARE) / 2) / _SIZE
        return seen, reward, False, False, {}


class NatureCNN(nn.Module):
    """Policy and critic on one trunk, for pictures ``[84, 84, 4]`` and four actions."""

    def __init__(self) -> None:
        super().__init__()
        self.first = nn.Conv2d(4, 32, 8, 4)
        self.trunk = nn.Sequential(
            *(nn.ReLU(inplace=True), nn.Conv2d(32, 64, 4, 2), nn.ReLU(inplace=True)),
            *(nn.Conv2d(64, 64, 3, 1), nn.ReLU(inplace=True)),
            *(nn.Flatten(), nn.Linear(64 * 7 * 7, 512), nn.ReLU(inplace=True)),
        )
        self.policy, self.value = nn.Linear(512, 4), nn.Linear(512, 1)

    def forward(self, observations: Mapping[str, Tensor]) -> dict[str, Tensor]:
        """Logits and value."""
        pictures = observations["observation"].permute(
            0, 3, 1, 2
        )  # as it lies: channels last are the faster ones
        weight = self.first.weight * (1 / 255)  # in the place of all pixels
        first = nn.functional.conv2d(pictures, weight, self.first.bias, self.first.stride)
        features = self.trunk(first)
        return {"action": self.policy(features), "value": self.value(features)}


def nature_cnn() -> NatureCNN:
    """The network with the first weights of Stable-Baselines3's: orthogonal, biases 0."""
    with torch.random.fork_rng(devices=[]):
        torch.default_generator.manual_seed(1)
        network = NatureCNN()
        for layer in network.modules():
            if isinstance(layer, nn.Conv2d | nn.Linear) and layer.bias is not None:
                gain = 0.01 if layer is network.policy else 1.0 if layer is network.value else 2**0.5
                nn.init.orthogonal_(layer.weight, gain)
                nn.init.zeros_(layer.bias)
    return network


gymnasium.register("Squares-v0", entry_point=f"{__name__}:Squares", max_episode_steps=200)
