"""A small environment whose action is two choices at once: walk a point to the middle of a square."""

from typing import Any

import gymnasium
import numpy as np
from gymnasium import spaces

from maze_core.types import Array

_STEP = 0.1


class PointGrid(gymnasium.Env[Array, Array]):
    """``MultiDiscrete([3, 3])``: back, stay or forth along each axis; the reward is minus the distance."""

    def __init__(self) -> None:
        self.observation_space = spaces.Box(-1.0, 1.0, (2,), np.float32)
        self.action_space = spaces.MultiDiscrete([3, 3])
        self._point = [0.0, 0.0]

    def reset(
        self, *, seed: int | None = None, options: dict[str, Any] | None = None
    ) -> tuple[Array, dict[str, Any]]:
        """Anywhere in the square."""
        super().reset(seed=seed)
        self._point = self.np_random.uniform(-1.0, 1.0, 2).tolist()
        return np.array(self._point, np.float32), {}

    def step(self, action: Array) -> tuple[Array, float, bool, bool, dict[str, Any]]:
        """Move, at most to the edge."""
        moved = zip(self._point, action.tolist(), strict=True)
        x, y = self._point = [min(max(place + _STEP * (way - 1), -1.0), 1.0) for place, way in moved]
        return np.array(self._point, np.float32), -((x * x + y * y) ** 0.5), False, False, {}


gymnasium.register("PointGrid-v0", entry_point=f"{__name__}:PointGrid", max_episode_steps=100)
