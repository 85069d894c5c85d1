"""The environments that this process can build, described: what the worker publishes and the API lists."""

import importlib.util
import sys
from typing import Any

import gymnasium

from maze_core.config.environments import constructor_arguments, extra_of, open_kwargs, register_extras
from maze_core.data.spaces import space_to_json
from maze_core.envs.config import PettingZooEnvConfig
from maze_core.envs.env_spaces import describe_spaces
from maze_core.envs.gym_env import GymEnv, make_gym
from maze_core.envs.pettingzoo_env import arguments_of, install_of, registered
from maze_core.errors import USER_CODE_ERRORS, EnvError, SpaceMismatchError, reason_of
from maze_core.types import JSON, Tree

LEGACY_SOURCE = "gym"
PETTINGZOO_SOURCE = "pettingzoo"
SOURCE = "gymnasium"


def environments() -> list[Tree]:
    """Every registered environment without making any: id, source, limits, arguments, and what is missing.

    Returns:
        In order of ids: ``id``, ``source`` (``gymnasium``, ``pettingzoo`` or ``gym``), ``is_available``, ``reason`` and
        ``install`` where it is not, ``max_episode_steps``, ``reward_threshold``, ``kwargs`` (name → default) and
        ``open_kwargs``.
    """
    register_extras()
    # a copy: loading one environment's code may register others
    described = [_described(env_id) for env_id in sorted(gymnasium.registry)]
    known = {row["id"] for row in described}
    legacy = sys.modules.get("gym")  # imported by an operator's module that registers there
    if legacy is not None:
        ids = sorted(str(env_id) for env_id in [*legacy.envs.registration.registry])
        described += [_legacy(env_id) for env_id in ids if env_id not in known]
    if importlib.util.find_spec("pettingzoo") is not None:
        described += [_pettingzoo(env_id) for env_id in registered() if env_id not in known]
    return described


def spaces_of(env_id: str) -> Tree:
    """Make an environment once: its spaces, and whether a policy can be trained in it.

    Returns:
        ``observation_space`` and ``action_space`` as JSON, None where JSON cannot say them; of several agents
        ``sub_steps`` instead, as :func:`~maze_core.envs.env_spaces.describe_spaces` has them; ``is_trainable`` and,
        where it is not, ``reason``.
    """
    if env_id not in gymnasium.registry and importlib.util.find_spec("pettingzoo") is not None:
        return _sub_steps_of(env_id)
    try:
        env = make_gym(env_id)
    except EnvError as error:
        return {"is_trainable": False, "reason": str(error)}
    try:
        found: Tree = {
            "observation_space": _space(env.observation_space),
            "action_space": _space(env.action_space),
            "is_trainable": True,
        }
        try:
            GymEnv(env)
        except EnvError as error:
            found |= {"is_trainable": False, "reason": str(error)}
        return found
    finally:
        env.close()


def _sub_steps_of(env_id: str) -> Tree:
    try:
        env = PettingZooEnvConfig(name=env_id).make()
    except EnvError as error:
        return {"is_trainable": False, "reason": str(error)}
    try:
        return {"sub_steps": describe_spaces(env), "is_trainable": True}
    finally:
        env.close()


def _space(space: gymnasium.Space[Any]) -> JSON:
    try:
        return space_to_json(space)
    except SpaceMismatchError:
        return None


def _described(env_id: str) -> Tree:
    spec = gymnasium.registry[env_id]
    row = _row(
        env_id, SOURCE, max_episode_steps=spec.max_episode_steps, reward_threshold=spec.reward_threshold
    )
    try:
        kwargs = constructor_arguments(env_id)
        if getattr(spec.entry_point, "__name__", "").startswith("_raise_"):
            raise EnvError("gymnasium keeps this id only to say that it is gone")
    except USER_CODE_ERRORS as error:  # whatever an import may raise, most often a missing package
        extra = extra_of(env_id)
        first = (str(error).splitlines() or [""])[0]
        reason = f"{type(error).__name__}: {first}" if first else type(error).__name__
        return row | {"is_available": False, "reason": reason, "install": extra.install if extra else None}
    return row | {
        "kwargs": {name: _plain(value) for name, value in kwargs.items()},
        "open_kwargs": sorted(open_kwargs(env_id)),
    }


def _pettingzoo(env_id: str) -> Tree:
    row = _row(env_id, PETTINGZOO_SOURCE, max_episode_steps=None, reward_threshold=None)
    try:
        kwargs = {name: _plain(value) for name, value in arguments_of(env_id).items()}
        return row | {"kwargs": kwargs, "open_kwargs": sorted(open_kwargs(env_id))}
    except USER_CODE_ERRORS as error:  # whatever an import may raise, most often a missing package
        reason, install = reason_of(error).splitlines()[0], install_of(env_id)
        return row | {"is_available": False, "reason": reason, "install": install}


def _legacy(env_id: str) -> Tree:
    return _row(env_id, LEGACY_SOURCE, max_episode_steps=None, reward_threshold=None)


def _row(env_id: str, source: str, **limits: JSON) -> Tree:
    return {
        "id": env_id,
        "source": source,
        "is_available": True,
        "reason": None,
        "install": None,
        "kwargs": {},
        "open_kwargs": [],
        **limits,
    }


def _plain(value: Any) -> JSON:
    """A default as JSON; what JSON cannot say is written as text."""
    if value is None or isinstance(value, bool | int | float | str):
        return value
    if isinstance(value, list | tuple):
        return [_plain(item) for item in value]
    if isinstance(value, dict):
        return {str(key): _plain(item) for key, item in value.items()}
    return repr(value)[:100]
