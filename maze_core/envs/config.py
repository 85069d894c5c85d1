"""Typed descriptions of environments; ``make()`` gives one raw environment, ``vector()`` a batch.

The YAML twins are in ``conf/env``. Nothing here imports the environment before it is made.
"""

from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping
from dataclasses import field, replace
from functools import partial
from pathlib import Path
from typing import Annotated, Any, ClassVar, Literal

import gymnasium
from pydantic import BeforeValidator, ConfigDict

from maze_core.config.settings import Components, OptionalPositiveInt, dataclass
from maze_core.envs.classic import BATCHED_IDS, ClassicVectorEnv, has_batch
from maze_core.envs.contract import OLD_ENVIRONMENTS, making
from maze_core.envs.core_env import StructuredEnv
from maze_core.envs.gym_env import GymEnv, make_gym
from maze_core.envs.per_env import PerEnvVectorEnv
from maze_core.envs.vector import VectorEnv
from maze_core.errors import EnvError, InvalidSpecificationError
from maze_core.seeding import seed_process

Execution = Literal["dev", "local", "isolated"]
Vectorization = Literal["auto", "per_env", "builtin", "native"]

_NORMALIZERS = ("NormalizeObservation", "NormalizeReward")
_STRICT = ConfigDict(extra="forbid", arbitrary_types_allowed=True)


class EnvConfig(ABC):
    """What describes an environment well enough to make it, here or in another process."""

    vectorization: Vectorization = "per_env"

    @abstractmethod
    def make(self) -> StructuredEnv:
        """One raw environment.

        Raises:
            EnvError: it cannot be made.
        """

    def rendered(self) -> "EnvConfig":
        """The same environment, made so that ``render()`` gives pictures; itself where it is up to the user."""
        return self

    def vector(
        self,
        n_envs: int,
        *,
        execution: Execution = "dev",
        n_processes: int | None = None,
        has_own_episodes: bool = False,
        videos: Mapping[int, Path] | None = None,
        video_steps: int | None = None,
        seed: int = 0,
    ) -> VectorEnv:
        """A batch of raw environments.

        Args:
            n_envs: size of the batch, ≥ 1.
            execution: ``dev`` steps them in this process, ``local`` spreads them over processes, ``isolated`` gives
                each one of its own. The numbers are the same.
            n_processes: for ``local``; None takes one per usable core.
            has_own_episodes: every row must play the episode of its own seed, whatever the others do; an
                environment's native form is not used then.
            videos: seed → where the video of the episode goes that is reset with it; ``per_env`` only. Filming
                changes no number.
            video_steps: flat steps after which a video ends; None films whole episodes.
            seed: of the generators of processes that are ours, while environments are made in them.

        Raises:
            EnvError: an environment cannot be made this way.
        """
        seed_process(seed)
        vectorization = self.resolved_vectorization()
        if vectorization == "builtin" and execution == "dev" and not videos:
            return self._builtin(n_envs)
        if vectorization == "native" and not has_own_episodes:
            if videos:
                raise EnvError("Environments are filmed one by one; use env.vectorization=per_env.")
            return self._native(n_envs)
        factories: list[Callable[[], StructuredEnv]] = [self.make] * n_envs
        if videos:
            from maze_core.envs.video import make_video_env

            factories = [partial(make_video_env, self.rendered().make, videos, video_steps)] * n_envs
        if execution != "dev":
            from maze_core.envs.subproc import SubprocVectorEnv

            n_processes = n_envs if execution == "isolated" else n_processes
            return SubprocVectorEnv(factories, n_processes=n_processes, seed=seed)
        return PerEnvVectorEnv(factories)

    def resolved_vectorization(self) -> Vectorization:
        """What is used, where ``auto`` leaves the choice to us."""
        return self.vectorization

    def _builtin(self, n_envs: int) -> VectorEnv:
        raise EnvError(f"{type(self).__name__} has no builtin vectorization; use env.vectorization=per_env.")

    def _native(self, n_envs: int) -> VectorEnv:
        raise EnvError(f"{type(self).__name__} has no native vectorization; use env.vectorization=per_env.")


def _makers(value: Any) -> list[Any]:
    is_list = isinstance(value, list | tuple)
    for index, item in enumerate(value if is_list else [value]):
        path = str(index) if is_list else ""
        called = item.func if isinstance(item, partial) else item
        bases = getattr(called, "__mro__", type(called).__mro__)
        if any(base.__module__.startswith("maze_core.") for base in bases):
            message = (
                f"{bases[0].__name__} acts with the policy: give it as wrappers=, not inside the environment."
            )
            raise InvalidSpecificationError(message, path=path, code="wrong_kind")
        if any(base.__name__ in _NORMALIZERS and base.__module__.startswith("gym") for base in bases):
            message = (
                f"{bases[0].__name__} keeps statistics that no checkpoint holds and training cannot go on with; "
                "use wrappers=running_normalization."
            )
            raise InvalidSpecificationError(message, path=path)
    if not is_list or not all(map(callable, value)):
        raise ValueError(
            "give a list of wrappers of gymnasium's kind, [{'_target_': 'gymnasium.wrappers.…'}]; wrappers= takes ours"
        )
    return list(value)


@dataclass(frozen=True, kw_only=True, config=_STRICT)
class RegisteredEnvConfig(EnvConfig):
    """An environment that a registry makes by its id."""

    name: str
    """Registered id."""
    kwargs: dict[str, Any] = field(default_factory=dict)
    """Keyword arguments of the environment."""
    max_episode_steps: OptionalPositiveInt = None
    """Steps after which an episode is truncated; None keeps the limit the id is registered with."""
    wrappers: Annotated[list[Annotated[Any, Components()]], BeforeValidator(_makers)] = field(
        default_factory=list
    )
    """Wrappers of gymnasium's kind inside the environment, innermost first, by ``_target_`` and arguments; what they
    do to rewards counts in every return."""

    def _wrapped(self, env: gymnasium.Env[Any, Any]) -> gymnasium.Env[Any, Any]:
        with making(self.name):
            for wrap in self.wrappers:
                env = wrap(env)
        return env

    def rendered(self) -> EnvConfig:
        """The same environment, made with ``render_mode="rgb_array"``."""
        return replace(self, kwargs={**self.kwargs, "render_mode": "rgb_array"})


@dataclass(frozen=True, kw_only=True, config=_STRICT)
class GymEnvConfig(RegisteredEnvConfig):
    """A gymnasium environment by its id; the YAML twin is ``conf/env/gym_env.yaml``."""

    name: str = "CartPole-v0"
    """Registered id, such as ``CartPole-v1``; ``module:Env-v0`` imports the module first."""
    vectorization: Vectorization = "auto"
    """``per_env`` steps environments one by one; ``builtin`` steps all at once with the same bits
    (maze_core/envs/classic.py); ``auto`` is ``builtin`` where there is one, else ``per_env``; ``native`` uses the
    environment's own vector form."""
    _reads_texts: ClassVar[bool] = False

    def make(self) -> StructuredEnv:
        """One environment, without gymnasium's per-step checker."""
        made = make_gym(self.name, kwargs=self.kwargs, max_episode_steps=self.max_episode_steps)
        return GymEnv(self._wrapped(made), reads_texts=self._reads_texts)

    def resolved_vectorization(self) -> Vectorization:
        """``builtin`` or ``per_env`` in place of ``auto``.

        And of a ``builtin`` that was resolved where the id meant something else, or before settings were given.
        """
        is_open = self.vectorization == "builtin" and self.name in BATCHED_IDS
        if self.vectorization != "auto" and not is_open:
            return self.vectorization
        has_one = not self.wrappers and has_batch(self.name, self.kwargs)
        return "builtin" if has_one else "per_env"

    def _builtin(self, n_envs: int) -> VectorEnv:
        if self.kwargs or self.wrappers:
            raise EnvError(
                f"{self.name} has no builtin vectorization with kwargs or wrappers; use env.vectorization=per_env."
            )
        return ClassicVectorEnv(self.name, n_envs, max_episode_steps=self.max_episode_steps)

    def _native(self, n_envs: int) -> VectorEnv:
        from maze_core.envs.native import NativeVectorEnv

        if self.wrappers:
            raise EnvError("Environments are wrapped one by one; use env.vectorization=per_env.")
        if has_batch(self.name, self.kwargs):  # gymnasium's own of CartPole resets no single row
            return self._builtin(n_envs)
        return NativeVectorEnv(
            self.name, n_envs, kwargs=self.kwargs, max_episode_steps=self.max_episode_steps
        )


@dataclass(frozen=True, kw_only=True, config=_STRICT)
class GymTextEnvConfig(GymEnvConfig):
    """A gymnasium environment whose texts are observed, character by character; twin: ``gym_text_env.yaml``."""

    vectorization: Literal["per_env"] = "per_env"
    """``per_env`` steps environments one by one; there is no other way."""
    _reads_texts: ClassVar[bool] = True


@dataclass(frozen=True, kw_only=True, config=_STRICT)
class LegacyGymEnvConfig(RegisteredEnvConfig):
    """An environment of the unmaintained ``gym`` package; twin: ``conf/env/legacy_gym_env.yaml``."""

    name: str = "CartPole-v1"
    """Id in the registry of ``gym``, not of gymnasium."""

    def make(self) -> StructuredEnv:
        """One environment, without gym's checker, which fails on NumPy 2."""
        from maze_core.envs.legacy_gym import make_legacy_gym

        made = make_legacy_gym(self.name, kwargs=self.kwargs, max_episode_steps=self.max_episode_steps)
        return GymEnv(self._wrapped(made))


@dataclass(frozen=True, kw_only=True, config=_STRICT)
class PettingZooEnvConfig(EnvConfig):
    """An environment of PettingZoo's, with several agents; twin: ``conf/env/pettingzoo.yaml``."""

    name: str = "classic/tictactoe_v3"
    """Id in PettingZoo's registry; ``module:id`` imports the module first, ``module:function`` calls what is in it."""
    interface: Literal["auto", "parallel", "aec"] = "auto"
    """``parallel``: agents act at once; ``aec``: in turns; ``auto`` is parallel where the id has that."""
    kwargs: dict[str, Any] = field(default_factory=dict)
    """Keyword arguments of the environment."""

    def make(self) -> StructuredEnv:
        """One environment."""
        from maze_core.envs.pettingzoo_env import make_pettingzoo, pettingzoo_env

        return pettingzoo_env(make_pettingzoo(self.name, interface=self.interface, kwargs=self.kwargs))

    def rendered(self) -> EnvConfig:
        """The same environment, made with ``render_mode="rgb_array"``."""
        return replace(self, kwargs={**self.kwargs, "render_mode": "rgb_array"})


@dataclass(frozen=True, kw_only=True, config=_STRICT)
class CallableEnvConfig(EnvConfig):
    """An environment from a function of the caller, as in ``RunContext(env=lambda: GymMazeEnv(...))``."""

    factory: Callable[[], Any]
    """Makes a MazeEnv, a StructuredEnv, a gymnasium.Env or an environment of PettingZoo's, a new one with each call."""

    def make(self) -> StructuredEnv:
        """One environment, whatever the function gives."""
        with making("The environment"):
            made = self.factory()
        if isinstance(made, StructuredEnv):
            return made
        if isinstance(made, gymnasium.Env):
            return GymEnv(made)
        from maze_core.envs.maze_env import MazeEnv
        from maze_core.envs.pettingzoo_env import is_pettingzoo, pettingzoo_env

        if isinstance(made, MazeEnv):
            return made.structured()
        if is_pettingzoo(made):
            return pettingzoo_env(made)
        raise EnvError(
            f"The environment factory gave a {type(made).__name__}; it must give a MazeEnv, a StructuredEnv, a "
            f"gymnasium.Env or an environment of PettingZoo's; {OLD_ENVIRONMENTS}"
        )
