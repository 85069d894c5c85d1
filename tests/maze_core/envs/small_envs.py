"""Small gymnasium environments whose numbers say where they come from."""

import random
from typing import Any

import gymnasium
import numpy as np
from gymnasium import spaces


class EpisodeNumberEnv(gymnasium.Env[Any, Any]):
    """Observes ``[env, episode, step]``; the last reward of an episode is ``100·env + episode``, others are 0.

    Episode ``k`` takes ``2 + (env + k) % 3`` steps; even ones terminate, odd ones are truncated.
    """

    def __init__(self, number: int = 0) -> None:
        self.number = number
        self.observation_space = spaces.Box(-1e6, 1e6, (3,), np.float32)
        self.action_space = spaces.Discrete(2)
        self.episode = 0

    def reset(
        self, *, seed: int | None = None, options: dict[str, Any] | None = None
    ) -> tuple[Any, dict[str, Any]]:
        super().reset(seed=seed)
        self.episode += 1
        self.time = 0
        return self._see(), {}

    def step(self, action: Any) -> tuple[Any, float, bool, bool, dict[str, Any]]:
        self.time += 1
        is_over = self.time >= 2 + (self.number + self.episode) % 3
        is_even = self.episode % 2 == 0
        reward = 100.0 * self.number + self.episode if is_over else 0.0
        return self._see(), reward, is_over and is_even, is_over and not is_even, {"time": self.time}

    def _see(self) -> Any:
        return np.array([self.number, self.episode, self.time], dtype=np.float32)


class NestedEnv(gymnasium.Env[Any, Any]):
    """Nested Dict and Tuple spaces; remembers the last action it was given."""

    def __init__(self) -> None:
        self.observation_space = spaces.Dict(
            {
                "arm": spaces.Dict(
                    {"angle": spaces.Box(-4, 4, (2,), np.float64), "grip": spaces.Discrete(3)}
                ),
                "cells": spaces.MultiBinary(4),
            }
        )
        self.action_space = spaces.Tuple([spaces.Discrete(3), spaces.Box(-1, 1, (2,), np.float64)])
        self.last_action: Any = None

    def reset(
        self, *, seed: int | None = None, options: dict[str, Any] | None = None
    ) -> tuple[Any, dict[str, Any]]:
        super().reset(seed=seed)
        return self.observation_space.sample(), {}

    def step(self, action: Any) -> tuple[Any, float, bool, bool, dict[str, Any]]:
        self.last_action = action
        return self.observation_space.sample(), 1.0, False, False, {}


class BrokenEnv(gymnasium.Env[Any, Any]):
    """Breaks its contract at step ``at``: with NaN in the observation or reward, a wrong shape, or an exception."""

    def __init__(self, fault: str, at: int = 3) -> None:
        self.fault, self.at = fault, at
        self.observation_space = spaces.Box(-np.inf, np.inf, (2,), np.float32)
        self.action_space = spaces.Discrete(2)

    def reset(
        self, *, seed: int | None = None, options: dict[str, Any] | None = None
    ) -> tuple[Any, dict[str, Any]]:
        super().reset(seed=seed)
        self.time = 0
        return np.zeros(2, dtype=np.float32), {}

    def step(self, action: Any) -> tuple[Any, float, bool, bool, dict[str, Any]]:
        self.time += 1
        observation, reward, is_broken = np.zeros(2, dtype=np.float32), 0.0, self.time == self.at
        if is_broken and self.fault == "observation":
            observation[1] = np.nan
        if is_broken and self.fault == "final observation":
            return np.full(2, np.inf, dtype=np.float32), 0.0, True, False, {}
        if is_broken and self.fault == "reward":
            reward = float("inf")
        if is_broken and self.fault == "shape":
            observation = np.zeros(1, dtype=np.float32)
        if is_broken and self.fault == "exception":
            raise RuntimeError("the motor is on fire")
        return observation, reward, False, False, {}


class Old4TupleEnv:
    """An environment of the gym of 2021: no base class, ``seed()``, four values, a time limit in the info."""

    metadata: dict[str, Any] = {}  # noqa: RUF012

    def __init__(self, limit: int | None = None) -> None:
        self.observation_space = spaces.Box(0.0, 100.0, (1,), np.float32)
        self.action_space = spaces.Discrete(2)
        self.limit = limit
        self.seeds: list[int] = []

    def seed(self, seed: int) -> None:
        self.seeds.append(seed)

    def reset(self) -> Any:
        self.time = 0
        return np.zeros(1, dtype=np.float32)

    def step(self, action: Any) -> tuple[Any, Any, bool, dict[str, Any]]:
        self.time += 1
        info = {}
        if self.limit is not None and self.time >= self.limit:
            info["TimeLimit.truncated"] = True
        is_over = self.time >= 5 or bool(info)
        return np.array([self.time], dtype=np.float32), np.array([0.5]), is_over, info

    def close(self) -> None:
        pass


class DrawsFromTheProcess(gymnasium.Env[Any, Any]):
    """Takes all its chance, also when it is made, from the generators of the process."""

    observation_space = spaces.Box(-1e9, 1e9, (2,), np.float32)
    action_space = spaces.Discrete(2)

    def __init__(self):
        self.offset = random.random()

    def reset(self, *, seed=None, options=None):
        self.time = 0
        return np.array([np.random.uniform(), self.offset], np.float32), {}

    def step(self, action):
        self.time += 1
        seen = np.array([np.random.uniform(), random.random()], np.float32)
        return seen, float(np.random.uniform()), self.time == 9, False, {}


_THE_ONE = NestedEnv()


def give_the_one_env() -> NestedEnv:
    """The same environment with each call, which is a mistake."""
    return _THE_ONE
