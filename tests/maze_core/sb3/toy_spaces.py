"""An environment of any spaces, for files that Stable-Baselines3 made and for those that read them."""

from typing import Any

import gymnasium
import numpy as np
from gymnasium import spaces


class ToySpaces(gymnasium.Env[Any, Any]):
    """Shows samples of its space; an episode has five steps."""

    def __init__(self, observation: spaces.Space[Any], action: spaces.Space[Any]) -> None:
        self.observation_space, self.action_space = observation, action
        self._t = 0

    def reset(self, *, seed: int | None = None, options: Any = None) -> tuple[Any, dict[str, Any]]:
        super().reset(seed=seed)
        if seed is not None:
            self.observation_space.seed(seed)
        self._t = 0
        return self.observation_space.sample(), {}

    def step(self, action: Any) -> tuple[Any, float, bool, bool, dict[str, Any]]:
        self._t += 1
        return self.observation_space.sample(), 1.0, False, self._t == 5, {}


def choices() -> ToySpaces:
    return ToySpaces(spaces.Box(-1, 1, (2, 2), np.float64), spaces.MultiDiscrete([2, 3]))


def bits() -> ToySpaces:
    return ToySpaces(spaces.MultiDiscrete([3, 2]), spaces.MultiBinary(3))


def parts() -> ToySpaces:
    seen = {"z": spaces.Box(-1, 1, (3,), np.float32), "a": spaces.Discrete(4), "b": spaces.MultiBinary(2)}
    return ToySpaces(spaces.Dict(seen), spaces.Box(np.array([-1, 0], "f"), np.array([1, 5], "f")))


def pixels() -> ToySpaces:
    return ToySpaces(spaces.Box(0, 255, (36, 36, 1), np.uint8), spaces.Discrete(2))


def colours() -> ToySpaces:
    return ToySpaces(spaces.Box(0, 255, (9, 12, 3), np.uint8), spaces.Discrete(3))


def named() -> ToySpaces:
    seen = {"observation": spaces.Box(-1, 1, (4,), np.float32)}
    return ToySpaces(spaces.Dict(seen), spaces.Discrete(2))


def ordered() -> ToySpaces:
    inner = spaces.Dict([("y", spaces.Discrete(3)), ("c", spaces.MultiBinary(2))])
    seen = spaces.Dict([("z", spaces.Box(-1, 1, (3,), np.float32)), ("a", inner), ("b", spaces.Discrete(4))])
    return ToySpaces(seen, spaces.Dict([("steer", spaces.Discrete(3)), ("brake", spaces.Discrete(2))]))


TOYS = {
    "ToyOrdered-v0": ordered,
    "ToyNamed-v0": named,
    "ToyChoices-v0": choices,
    "ToyBits-v0": bits,
    "ToyParts-v0": parts,
    "ToyPixels-v0": pixels,
    "ToyColours-v0": colours,
}


def register_toys() -> None:
    for name, made in TOYS.items():
        if name not in gymnasium.registry:
            gymnasium.register(name, made, disable_env_checker=True)
