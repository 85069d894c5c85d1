"""An environment whose steps cost CPU time, for :mod:`benchmarks.slow_steps`."""

import time
from typing import Any

import gymnasium
import numpy as np
from gymnasium import spaces

from maze_core.types import Array


class Busy(gymnasium.Env[Array, np.int64]):
    """Every step computes for so many milliseconds of CPU time; episodes have 200 steps."""

    observation_space = spaces.Box(-1.0, 1.0, (8,), np.float32)
    action_space = spaces.Discrete(4)

    def __init__(self, ms: float) -> None:
        self._ms, self._n_steps = ms, 0

    def reset(
        self, *, seed: int | None = None, options: dict[str, Any] | None = None
    ) -> tuple[Array, dict[str, Any]]:
        """Begin an episode."""
        super().reset(seed=seed)
        self._n_steps = 0
        return np.zeros(8, np.float32), {}

    def step(self, action: np.int64) -> tuple[Array, float, bool, bool, dict[str, Any]]:
        """Compute, and pay nothing."""
        until = time.process_time() + self._ms / 1000
        while time.process_time() < until:
            pass
        self._n_steps += 1
        return np.zeros(8, np.float32), 0.0, False, self._n_steps >= 200, {}


gymnasium.register("Busy-v0", entry_point=f"{__name__}:Busy")
