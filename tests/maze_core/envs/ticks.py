"""Comparing ticks, bit by bit."""

from typing import Any

import numpy as np

from maze_core.envs.tick_buffers import map_arrays
from maze_core.envs.vector import Tick, VectorEnv


def tick_bytes(tick: Tick) -> list[bytes]:
    """Every array of a tick, as bytes in one fixed order."""
    found: list[bytes] = []
    map_arrays(tick, lambda array: found.append(array.tobytes()))
    return found


def random_actions(env: VectorEnv, tick: Tick, rng: np.random.Generator) -> dict[Any, dict[str, Any]]:
    """Allowed random actions for Discrete heads: step key → head → ``[B]``."""
    actions: dict[Any, dict[str, Any]] = {}
    for key, space in env.action_spaces.items():
        scores = rng.random((env.n_envs, int(space["action"].n)))
        mask = tick.observations[key].get("action_mask")
        actions[key] = {"action": (scores * (1 if mask is None else mask)).argmax(axis=1)}
    return actions
