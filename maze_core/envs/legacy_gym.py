"""Environments of the unmaintained ``gym`` package, seen as gymnasium environments.

Old environments return ``(observation, reward, done, info)``, newer ones five values. ``gym``'s step checker
fails on NumPy 2 (``np.bool8``) and its time limit on four values, so both stay off; gymnasium's time limit
takes its place. The package is optional (extra ``gym``) and not imported before an environment is made.
"""

import copy
import importlib
import inspect
import warnings
from collections.abc import Mapping
from types import ModuleType
from typing import Any

import gymnasium
import numpy as np
from gymnasium import Space, spaces
from gymnasium.wrappers import TimeLimit

from maze_core.envs.contract import five_values, flag, making, number
from maze_core.errors import EnvError


def make_legacy_gym(
    name: str, *, kwargs: Mapping[str, Any] | None = None, max_episode_steps: int | None = None
) -> gymnasium.Env[Any, Any]:
    """Make an environment of the ``gym`` registry.

    Raises:
        EnvError: ``gym`` is not installed, or it has no such environment.
    """
    gym = _import_gym()
    module, _, env_id = name.rpartition(":")
    with making(f"{name} of gym"):
        if module:
            importlib.import_module(module)
        spec = copy.deepcopy(gym.spec(env_id))
        limit = max_episode_steps or spec.max_episode_steps
        spec.max_episode_steps = None
        env = _make(gym, spec, dict(kwargs or {}))
    return env if limit is None else TimeLimit(env, limit)


class LegacyGymAdapter(gymnasium.Env[Any, Any]):
    """Any object with gym's ``reset`` and ``step``, old or new, as a gymnasium environment."""

    holds_any_env = True
    """What it adapts needs no base class to be an environment."""

    def __init__(self, env: Any, *, render_mode: str | None = None) -> None:
        """Take ownership of ``env``, which needs no base class.

        Args:
            env: what is adapted.
            render_mode: what an old environment, whose ``render`` takes a mode, is to render; newer ones were
                told when they were made.

        Raises:
            EnvError: one of its spaces has no counterpart.
        """
        self.env = env
        self.observation_space = to_gymnasium_space(env.observation_space)
        self.action_space = to_gymnasium_space(env.action_space)
        self.metadata = dict(getattr(env, "metadata", {}) or {})
        if "video.frames_per_second" in self.metadata:
            self.metadata.setdefault("render_fps", self.metadata["video.frames_per_second"])
        own_mode = getattr(env, "render_mode", None)
        self._mode_of_call = render_mode if own_mode is None and _takes(env, "render", "mode") else None
        self.render_mode = own_mode or self._mode_of_call
        self._takes_seed = _takes(env, "reset", "seed")
        self._is_warned = False

    def reset(
        self, *, seed: int | None = None, options: dict[str, Any] | None = None
    ) -> tuple[Any, dict[str, Any]]:
        """Start an episode; old environments are seeded by their ``seed`` method."""
        if seed is None:
            result = self.env.reset()
        elif self._takes_seed:
            result = self.env.reset(seed=seed)
        else:
            self._seed(seed)
            result = self.env.reset()
        # a tuple of an observation and a dict is the new form; an old one may be a tuple of numbers
        if isinstance(result, tuple) and len(result) == 2 and isinstance(result[1], dict):
            return result[0], result[1]
        return result, {}

    def step(self, action: Any) -> tuple[Any, float, bool, bool, dict[str, Any]]:
        """Take one step; in a 4-tuple, ``info["TimeLimit.truncated"]`` tells the two kinds of done apart."""
        result = self.env.step(action)
        if isinstance(result, (tuple, list)) and len(result) == 4 and isinstance(result[3], Mapping):
            observation, reward, done, info = result
            is_cut = flag(info.get("TimeLimit.truncated", False), "info['TimeLimit.truncated']")
            result = (observation, reward, flag(done, "done") and not is_cut, is_cut, info)
        observation, reward, terminated, truncated, info = five_values(result)
        ends = flag(terminated, "terminated"), flag(truncated, "truncated")
        return observation, number(reward), *ends, dict(info)

    def _seed(self, seed: int) -> None:
        if hasattr(self.env, "seed"):
            self.env.seed(seed)
        elif not self._is_warned:
            self._is_warned = True
            name = type(getattr(self.env, "unwrapped", self.env)).__name__
            warnings.warn(f"{name} has neither seed() nor reset(seed=…): nothing seeds it.", stacklevel=2)

    def render(self) -> Any:
        """What the environment renders."""
        return self.env.render() if self._mode_of_call is None else self.env.render(mode=self._mode_of_call)

    def close(self) -> None:
        """Close the environment."""
        if hasattr(self.env, "close"):
            self.env.close()


def to_gymnasium_space(space: Any) -> Space[Any]:
    """The gymnasium space equal to one of gym's, recognised by its class name.

    Raises:
        EnvError: there is none.
    """
    if isinstance(space, Space):
        return space
    match type(space).__name__:
        case "Box":
            box = spaces.Box(space.low, space.high, space.shape, space.dtype.type)
            for side in ("bounded_below", "bounded_above"):  # of integers the limits do not tell
                setattr(box, side, getattr(space, side, getattr(box, side)))
            return box
        case "Discrete":
            return spaces.Discrete(int(space.n), start=int(getattr(space, "start", 0)))
        case "MultiDiscrete":
            return spaces.MultiDiscrete(np.asarray(space.nvec))
        case "MultiBinary":
            return spaces.MultiBinary(space.n)
        case "Dict":
            return spaces.Dict([(name, to_gymnasium_space(inner)) for name, inner in space.spaces.items()])
        case "Tuple":
            return spaces.Tuple([to_gymnasium_space(inner) for inner in space.spaces])
    raise EnvError(f"gym's {type(space).__name__} space has no counterpart here.")


def _import_gym() -> ModuleType:
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            import gym
    except ImportError as error:
        raise EnvError(
            "Environments of the gym package need it installed: maze-service[gym].", is_made=False
        ) from error
    gym.logger.set_level(gym.logger.ERROR)  # it prints its warnings, and was told to be quiet nowhere else
    module: ModuleType = gym
    return module


def _make(gym: ModuleType, spec: Any, kwargs: dict[str, Any]) -> "LegacyGymAdapter":
    try:
        return LegacyGymAdapter(gym.make(spec, disable_env_checker=True, **kwargs))
    except TypeError as error:
        if "render_mode" not in kwargs or "render_mode" not in str(error):
            raise
    mode = kwargs.pop("render_mode")  # an old environment, told with each call instead
    return LegacyGymAdapter(gym.make(spec, disable_env_checker=True, **kwargs), render_mode=mode)


def _takes(env: Any, method: str, argument: str) -> bool:
    """Whether the innermost environment's method takes this argument; wrappers pass on whatever they get."""
    try:
        parameters = inspect.signature(getattr(getattr(env, "unwrapped", env), method)).parameters.values()
    except (AttributeError, TypeError, ValueError):
        return False
    return any(p.name == argument or p.kind is p.VAR_KEYWORD for p in parameters)
