"""What an environment is made of: itself and every environment below it, to tell whether two share one."""

import sys
from collections.abc import Iterable, Iterator
from typing import Any

import gymnasium

from maze_core.envs.vector import Environment

_BELOW = ("env", "_env", "vector_env", "envs")
"""Attributes under which wrappers, here and in gymnasium and gym, keep what they wrap."""

MAKE_A_NEW_ONE = (
    "The function that makes environments must make a new one with each call: "
    "lambda: GymMazeEnv('CartPole-v1'), not lambda: env."
)


def envs_of(env: object) -> Iterator[object]:
    """An environment, a batch or a wrapper of some, and all environments below; each once."""
    seen: set[int] = set()
    waiting = [env]
    while waiting:
        layer = waiting.pop()
        if id(layer) in seen:
            continue
        seen.add(id(layer))
        yield layer
        below = (vars(layer).get(name) for name in _BELOW) if hasattr(layer, "__dict__") else ()
        for value in below:
            parts = value if isinstance(value, list) else [value]
            waiting += [part for part in parts if _is_env(part, below=layer)]


def shared_env(env: object, others: Iterable[object]) -> Any | None:
    """The environment that ``env`` has in common with one of the others; None where each has its own."""
    theirs = {id(layer) for other in others for layer in envs_of(other)}
    return next((layer for layer in envs_of(env) if id(layer) in theirs), None)


def _is_env(value: object, *, below: object) -> bool:
    """Whether this is an environment; what one plays with, such as a simulator, may be shared."""
    if getattr(below, "holds_any_env", False):  # old environments need no base class
        return value is not None
    legacy = getattr(sys.modules.get("gym"), "Env", None)
    return isinstance(value, (gymnasium.Env, Environment, *([legacy] if legacy else [])))
