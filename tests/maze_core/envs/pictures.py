"""A small environment that shows pictures."""

from typing import Any, ClassVar

import gymnasium
import numpy as np
from gymnasium import spaces


class PictureEnv(gymnasium.Env[Any, Any]):
    """A bright square in one of two halves of a picture [12, 10, 3]; saying which half pays 1. Eight steps."""

    observation_space = spaces.Box(0, 255, (12, 10, 3), np.uint8)
    action_space = spaces.Discrete(2)
    metadata: ClassVar[dict[str, Any]] = {"render_modes": ["rgb_array"], "render_fps": 5}

    def __init__(self, render_mode: str | None = None) -> None:
        self.render_mode = render_mode

    def reset(
        self, *, seed: int | None = None, options: dict[str, Any] | None = None
    ) -> tuple[Any, dict[str, Any]]:
        super().reset(seed=seed)
        self.time = 0
        return self._see(), {}

    def step(self, action: Any) -> tuple[Any, float, bool, bool, dict[str, Any]]:
        reward, self.time = float(int(action) == self.half), self.time + 1
        return self._see(), reward, self.time >= 8, False, {}

    def render(self) -> Any:
        return self.picture

    def _see(self) -> Any:
        self.half = int(self.np_random.integers(2))
        self.picture = self.np_random.integers(0, 40, (12, 10, 3), dtype=np.uint8)
        self.picture[2:9, 5 * self.half : 5 * self.half + 5] += 200
        return self.picture.copy()
