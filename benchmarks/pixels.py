"""A small environment of pictures, that costs little beside its network."""

from typing import Any

import gymnasium
import numpy as np
from gymnasium import spaces

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


gymnasium.register("Squares-v0", entry_point=f"{__name__}:Squares", max_episode_steps=200)
