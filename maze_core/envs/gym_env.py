"""A gymnasium environment as a :class:`StructuredEnv` with the one step key 0, and as a :class:`MazeEnv`."""

import importlib
import math
from collections.abc import Callable, Mapping
from numbers import Real
from typing import Any

import gymnasium
import numpy as np
from gymnasium.envs.registration import EnvSpec, find_highest_version, get_env_id, parse_env_id

from maze_core.config.environments import extra_of, register_extra_of
from maze_core.data.flat_space import SpaceReader, action_layout, observation_layout, put_together
from maze_core.envs.contract import OLD_ENVIRONMENTS, first_observation, five_values, making
from maze_core.envs.core_env import StructuredEnv
from maze_core.envs.maze_env import MazeEnv
from maze_core.envs.per_env import PerEnvVectorEnv
from maze_core.errors import EnvError, reason_of
from maze_core.types import Action, ActorID, Observation, StepKey

GYM_STEP_KEY: StepKey = 0
"""The one step key of an environment without sub-steps."""

_FIRST_ACTOR = ActorID(GYM_STEP_KEY, 0)


def find_spec(name: str) -> EnvSpec:
    """The registered environment of this id; ``module:Env-v0`` imports the module first.

    Asking the registry, not ``gymnasium.make``, keeps ids that have a newer version, such as CartPole-v0,
    free of a warning.

    Raises:
        EnvError: no such environment; the message suggests the closest id.
    """
    module, _, env_id = name.rpartition(":")
    register_extra_of(env_id)
    try:
        if module:
            importlib.import_module(module)
        namespace, base, version = parse_env_id(env_id)
        if version is None and env_id not in gymnasium.registry:
            env_id = get_env_id(namespace, base, find_highest_version(namespace, base))
        return gymnasium.spec(env_id)
    except (gymnasium.error.Error, ImportError, SystemExit) as error:
        reason = reason_of(error) if isinstance(error, SystemExit) else error
        raise EnvError(
            f"There is no environment {name!r}: {reason}{_install_hint(env_id)}", is_made=False
        ) from error


def make_gym(
    name: str, *, kwargs: Mapping[str, Any] | None = None, max_episode_steps: int | None = None
) -> gymnasium.Env[Any, Any]:
    """Make a gymnasium environment by id, without its per-step checker but with its time limit.

    Raises:
        EnvError: there is no such environment, or it refuses the arguments.
    """
    spec = find_spec(name)
    with making(name, _install_hint(spec.id)):
        return gymnasium.make(
            spec, max_episode_steps=max_episode_steps, disable_env_checker=True, **(kwargs or {})
        )


def _install_hint(env_id: str) -> str:
    extra = extra_of(env_id)
    return "" if extra is None else f" It comes with the extra {extra.name!r}: {extra.install}"


def _space_of(env: gymnasium.Env[Any, Any], name: str) -> gymnasium.Space[Any]:
    space = getattr(env, name, None)
    if isinstance(space, gymnasium.Space):
        return space
    what = "missing" if space is None else f"a {type(space).__module__}.{type(space).__name__}"
    raise EnvError(
        f"The {name} of {type(env).__name__} is {what}; it must be a space of gymnasium's; {OLD_ENVIRONMENTS}"
    )


class GymEnv(StructuredEnv):
    """A gymnasium environment; bare spaces become ``{"observation": …}`` and ``{"action": …}``.

    Observations are taken apart, but read, into arrays of the space's dtype, only when a batch takes them.
    """

    def __init__(self, env: gymnasium.Env[Any, Any], *, reads_texts: bool = False) -> None:
        """Take ownership of ``env``.

        Args:
            env: what is adapted.
            reads_texts: its Text spaces are observed, character by character; else they are left out.

        Raises:
            EnvError: one of its spaces is missing or not supported.
        """
        self.env = env
        seen = observation_layout(_space_of(env, "observation_space"), reads_texts=reads_texts)
        done = action_layout(_space_of(env, "action_space"))
        self.observation_spaces = {GYM_STEP_KEY: seen}
        self.action_spaces = {GYM_STEP_KEY: done}
        self._reader = SpaceReader(seen, "observation")
        self._done = done
        self.agent_counts = {GYM_STEP_KEY: 1}
        self.render_mode = env.render_mode
        fps = (env.metadata or {}).get("render_fps")
        if isinstance(fps, Real) and 0 < float(fps) < math.inf:
            self.render_fps = float(fps)
        if seen.is_bare and done.is_bare:
            self.bare = env

    def reset(self, *, seed: int | None = None) -> Observation:
        """Start an episode."""
        options, self.reset_options = self.reset_options, None
        observation, self.reset_info = first_observation(self.env, seed, options)
        return self._reader.take_apart(observation)[0]

    def step(self, action: Action) -> tuple[Observation, float, bool, bool, dict[str, Any]]:
        """Take one step."""
        ready = {head: np.array(action[head], dtype=leaf.dtype)[()] for head, leaf in self._done.items()}
        observation, *rest = five_values(self.env.step(put_together(self._done.form, ready)))
        return self._reader.take_apart(observation)[0], *rest

    def actor_id(self) -> ActorID:
        """Always the one actor."""
        return _FIRST_ACTOR

    def is_flat_step_done(self) -> bool:
        """Every step is a flat step."""
        return True

    def render(self) -> Any:
        """What the gymnasium environment renders in its render mode."""
        return self.env.render()

    def close(self) -> None:
        """Close the gymnasium environment."""
        self.env.close()


class GymMazeEnv(MazeEnv):
    """A gymnasium environment as a MazeEnv: ``GymMazeEnv("CartPole-v1")``."""

    def __init__(
        self, env: str | gymnasium.Env[Any, Any] | Callable[[], gymnasium.Env[Any, Any]], **kwargs: Any
    ) -> None:
        """Make the environment by id, take a made one, or call a function that makes one.

        Args:
            env: registered id, environment or function.
            **kwargs: arguments of the environment, for an id; ``max_episode_steps`` limits its episodes.

        Raises:
            EnvError: there is no such environment, or arguments were given for a made one.
        """
        if isinstance(env, str):
            made = make_gym(env, max_episode_steps=kwargs.pop("max_episode_steps", None), kwargs=kwargs)
        elif kwargs:
            raise EnvError(f"{sorted(kwargs)} can only be given together with an environment id.")
        else:
            made = env if isinstance(env, gymnasium.Env) else env()
        super().__init__(PerEnvVectorEnv([lambda: GymEnv(made)]))
