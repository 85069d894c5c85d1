"""An environment of one's own: a corridor with a goal at its right end. Importing this module registers it.

Any gymnasium environment is used in the same way; nothing here knows the library that trains on it.
"""

from typing import Any

import gymnasium
import numpy as np
from gymnasium import spaces
from numpy.typing import NDArray


class Corridor(gymnasium.Env[NDArray[np.float32], np.int64]):
    """Walk left (0) or right (1) from the middle of ``length`` cells to the last one.

    The observation is the position in [-1, 1], ``[1]`` float32. Every step costs 0.1 and the goal pays 1, so the
    best return is ``1 - 0.1 · (length - 1 - length // 2)``.
    """

    def __init__(self, length: int = 9) -> None:
        """Make a corridor of ``length`` cells, at least 3."""
        self.observation_space = spaces.Box(-1.0, 1.0, shape=(1,), dtype=np.float32)
        self.action_space = spaces.Discrete(2)
        self.length = length
        self.position = 0

    def reset(
        self, *, seed: int | None = None, options: dict[str, Any] | None = None
    ) -> tuple[NDArray[np.float32], dict[str, Any]]:
        """Stand in the middle."""
        super().reset(seed=seed)
        self.position = self.length // 2
        return self._observation(), {}

    def step(self, action: np.int64) -> tuple[NDArray[np.float32], float, bool, bool, dict[str, Any]]:
        """Take one step; the left end is a wall."""
        self.position = max(0, self.position + (1 if action == 1 else -1))
        at_goal = self.position == self.length - 1
        return self._observation(), 0.9 if at_goal else -0.1, at_goal, False, {}

    def _observation(self) -> NDArray[np.float32]:
        return np.array([2 * self.position / (self.length - 1) - 1], dtype=np.float32)


gymnasium.register(id="Corridor-v0", entry_point=f"{__name__}:Corridor", max_episode_steps=50)
