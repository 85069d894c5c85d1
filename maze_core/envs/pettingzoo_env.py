"""PettingZoo environments as a :class:`StructuredEnv`: agents that act at once (parallel), or in turns (AEC).

Agents of equal spaces share a sub-step, in which they have a number each; agents of other spaces have a sub-step of
their own. Each is paid its own. Agents that act at once are asked one after the other, and the environment is stepped
when all who are there have answered: that is one flat step. In turns, a flat step ends when somebody is to act again.
Dead agents are never asked: in turns, the step that PettingZoo wants of them is taken here, and what it brings is
theirs.

An observation ``action_mask``, as PettingZoo's own have it, is the mask of the action's head.
"""

import importlib
import inspect
import math
import re
from abc import abstractmethod
from collections.abc import Mapping, Sequence
from numbers import Real
from typing import Any, Literal

import gymnasium
import numpy as np
from gymnasium import spaces

from maze_core.config.environments import DISTRIBUTION
from maze_core.config.words import closest
from maze_core.data.flat_space import FlatSpace, SpaceReader, action_layout, observation_layout, put_together
from maze_core.envs.contract import flag, making, number
from maze_core.envs.core_env import Outcome, StructuredEnv
from maze_core.errors import EnvError
from maze_core.types import Action, ActorID, Observation, StepKey, mask_name

Interface = Literal["auto", "parallel", "aec"]
MASK = "action_mask"
"""What PettingZoo's own environments call the mask of an action."""
_INSTALL = f"pip install '{DISTRIBUTION}[pettingzoo]'"


def make_pettingzoo(
    name: str, *, interface: Interface = "auto", kwargs: Mapping[str, Any] | None = None
) -> Any:
    """Make a PettingZoo environment.

    Args:
        name: id in PettingZoo's registry, such as ``classic/tictactoe_v3``; ``module:id`` imports the module first, and
            ``module:function`` calls what is in it, such as ``parallel_env``.
        interface: ``parallel``, ``aec``, or ``auto``, which is parallel where the id has that.
        kwargs: keyword arguments of the environment.

    Raises:
        EnvError: there is no such environment, a package is missing, or it refuses the arguments.
    """
    module, _, name_within = name.rpartition(":")
    with making(name, f" It needs a package: {install_of(name_within)}"):
        if module:
            try:
                made = getattr(importlib.import_module(module), name_within, None)
            except ImportError as error:
                raise EnvError(f"There is no environment {name!r}: {error}", is_made=False) from error
            if callable(made):
                return made(**(kwargs or {}))
        kind = _kind_of(name_within, interface)
        from pettingzoo.env_registry.registration import make

        return make(kind, name_within, **(kwargs or {}))


def registered() -> dict[str, tuple[str, ...]]:
    """Ids in PettingZoo's registry, in the form of its documentation, and the interfaces that each has."""
    from pettingzoo.env_registry.registration import aec_registry, parallel_registry

    ids = sorted({*aec_registry, *parallel_registry})
    kinds = {"parallel": parallel_registry, "aec": aec_registry}
    return {
        _documented(env_id): tuple(kind for kind, known in kinds.items() if env_id in known) for env_id in ids
    }


def arguments_of(env_id: str) -> dict[str, Any]:
    """Keyword arguments of a registered environment with their defaults, as far as its function names them.

    Raises:
        EnvError: there is no such environment.
        Exception: whatever importing its module raises, most often a missing package.
    """
    kind = _kind_of(env_id, "auto")
    from pettingzoo.env_registry.registration import spec

    entry_point = spec(kind, env_id).entry_point
    if isinstance(entry_point, str):
        module, _, function = entry_point.partition(":")
        entry_point = getattr(importlib.import_module(module), function)
    parameters = inspect.signature(entry_point).parameters.values()
    named = [p for p in parameters if p.kind is p.POSITIONAL_OR_KEYWORD and p.name != "render_mode"]
    return {p.name: None if p.default is p.empty else p.default for p in named}


def is_pettingzoo(env: object) -> bool:
    """Whether this is an environment of PettingZoo's kind; its package is not imported."""
    return all(
        hasattr(type(env), name) for name in ("observation_space", "action_space", "num_agents", "step")
    )


def pettingzoo_env(env: Any) -> "PettingZooEnv":
    """Adapt an environment of PettingZoo's kind, and take ownership of it.

    Raises:
        EnvError: its agents or their spaces are not known beforehand, or not supported.
    """
    return _TurnsEnv(env) if hasattr(type(env), "agent_iter") else _ParallelEnv(env)


def _kind_of(env_id: str, interface: Interface) -> Literal["parallel", "aec"]:
    try:
        known = registered()
    except ImportError as error:
        raise EnvError(f"PettingZoo is not installed: {_INSTALL}", is_made=False) from error
    kinds = known.get(_documented(env_id))
    if kinds is None:
        near = closest(env_id, list(known))
        hint = f" Did you mean {near!r}?" if near else ""
        raise EnvError(
            f"PettingZoo has no environment {env_id!r}.{hint} One of another package is named module:function, such as "
            "mpe2.simple_spread_v3:parallel_env.",
            is_made=False,
        )
    if interface != "auto" and interface not in kinds:
        raise EnvError(
            f"{env_id} has the interface {kinds[0]} alone; leave env.interface at auto.", is_made=False
        )
    return "parallel" if "parallel" in kinds and interface != "aec" else "aec"


def _documented(env_id: str) -> str:
    return re.sub(r"-v(?=\d+$)", "_v", env_id)


def install_of(env_id: str) -> str:
    """The command that installs what an environment of PettingZoo's own needs."""
    family = env_id.partition("/")[0]
    return f"pip install 'pettingzoo[{family}]'" if "/" in env_id else _INSTALL


class _Spaces:
    """What one kind of agent sees and does."""

    def __init__(self, seen: "spaces.Space[Any]", done: "spaces.Space[Any]") -> None:
        self.done = action_layout(done)
        self._masks = _mask_names(seen, self.done)
        self.seen = observation_layout(_renamed(seen, self._masks))
        self._reader = SpaceReader(self.seen, "observation")

    def take_apart(self, observation: Any) -> Observation:
        if self._masks and isinstance(observation, Mapping):
            given = dict(observation)
            mask = given.pop(MASK, None)
            each = mask if isinstance(mask, Mapping) else dict.fromkeys(self._masks, mask)
            observation = {**given, **{name: each.get(head) for head, name in self._masks.items()}}
        return self._reader.take_apart(observation)[0]

    def put_together(self, action: Action) -> Any:
        ready = {head: np.array(action[head], dtype=leaf.dtype)[()] for head, leaf in self.done.items()}
        return put_together(self.done.form, ready)


def _mask_names(seen: "spaces.Space[Any]", done: FlatSpace) -> dict[str, str]:
    """Head → name of its mask, where the mask has to be named anew."""
    if not isinstance(seen, spaces.Dict) or MASK not in seen.spaces:
        return {}
    mask, heads = seen[MASK], list(done)
    if isinstance(mask, spaces.Dict) and set(mask.spaces) <= set(heads):
        return {head: mask_name(head) for head in mask.spaces}
    if len(heads) == 1 and isinstance(mask, spaces.Box | spaces.MultiBinary):
        return {} if mask_name(heads[0]) == MASK else {heads[0]: mask_name(heads[0])}
    raise EnvError(
        f"Its {MASK} is {mask}; it must be a Box or MultiBinary for the one head of its actions, or a Dict of such for "
        f"its heads {heads}."
    )


def _renamed(seen: "spaces.Space[Any]", masks: Mapping[str, str]) -> "spaces.Space[Any]":
    if not masks or not isinstance(seen, spaces.Dict):
        return seen
    mask = seen[MASK]
    each = mask.spaces if isinstance(mask, spaces.Dict) else dict.fromkeys(masks, mask)
    others = {name: space for name, space in seen.spaces.items() if name != MASK}
    return spaces.Dict({**others, **{name: each[head] for head, name in masks.items()}})


class PettingZooEnv(StructuredEnv):
    """An environment of PettingZoo's kind; see the module."""

    rewards = "per_actor"

    def __init__(self, env: Any) -> None:
        """Take ownership of ``env``.

        Raises:
            EnvError: its agents or their spaces are not known beforehand, or not supported.
        """
        self.env = env
        names = getattr(env, "possible_agents", None)
        if not names:
            raise EnvError(
                f"{env} does not say who may act in it: give it possible_agents, which names all agents there may be."
            )
        self._spaces: dict[StepKey, _Spaces] = {}
        self.actor_of: dict[Any, ActorID] = {}
        """PettingZoo's name of an agent → its sub-step and number."""
        self._group(list(names))
        self.observation_spaces = {key: kind.seen for key, kind in self._spaces.items()}
        self.action_spaces = {key: kind.done for key, kind in self._spaces.items()}
        keys = [actor.step_key for actor in self.actor_of.values()]
        self.agent_counts = {key: keys.count(key) for key in self._spaces}
        self._agent: Any = names[0]
        """Who acts, or acted last in an episode that is over."""
        self._seen: Observation = {}
        """What is shown to it."""
        self._outcomes: list[Outcome] = []
        self._is_flat_step_done = True
        self.render_mode = getattr(env, "render_mode", None)
        fps = (getattr(env, "metadata", None) or {}).get("render_fps")
        if isinstance(fps, Real) and 0 < float(fps) < math.inf:
            self.render_fps = float(fps)

    def reset(self, *, seed: int | None = None) -> Observation:
        """Start an episode."""
        options, self.reset_options = self.reset_options, None
        given = {} if options is None else {"options": dict(options)}
        self._begin(self.env.reset(seed=seed, **given))
        return self._seen

    def step(self, action: Action) -> tuple[Observation, float, bool, bool, dict[str, Any]]:
        """Take the step of the agent whose turn it is; the reward is what all were paid with it."""
        kind = self._spaces[self.actor_id().step_key]
        self._outcomes = []
        is_over = self._act(kind.put_together(action))
        terminated = is_over and not any(outcome.truncated for outcome in self._outcomes)
        reward = math.fsum(outcome.reward for outcome in self._outcomes)
        return self._seen, reward, terminated, is_over and not terminated, self._info()

    def outcomes(self) -> Sequence[Outcome]:
        """What the last step brought whom."""
        return self._outcomes

    def actor_id(self) -> ActorID:
        """Whose turn it is."""
        return self.actor_of[self._agent]

    def is_flat_step_done(self) -> bool:
        """Whether all who are there have acted."""
        return self._is_flat_step_done

    def render(self) -> Any:
        """What the environment renders in its render mode."""
        return self.env.render()

    def close(self) -> None:
        """Close the environment."""
        self.env.close()

    @abstractmethod
    def _begin(self, given: Any) -> None:
        """An episode began; ``given`` is what ``reset()`` gave."""

    @abstractmethod
    def _act(self, action: Any) -> bool:
        """Take an action in the environment's form; whether the episode is over."""

    @abstractmethod
    def _info(self) -> dict[str, Any]:
        """What the environment says beside."""

    def _group(self, names: Sequence[Any]) -> None:
        """Give agents of equal spaces a sub-step."""
        kinds: list[tuple[Any, Any, list[Any]]] = []
        for name in names:
            seen, done = (_space_of(self.env, name, what) for what in ("observation_space", "action_space"))
            known = next((kind for kind in kinds if kind[0] == seen and kind[1] == done), None)
            if known is None:
                kinds.append((seen, done, known_names := []))
            else:
                known_names = known[2]
            known_names.append(name)
        stems = [re.sub(r"_\d+$", "", str(of_kind[0])) for *_, of_kind in kinds]
        for (seen, done, of_kind), stem in zip(kinds, stems, strict=True):
            key: StepKey = 0
            if len(kinds) > 1:
                key = stem if stems.count(stem) == 1 else str(of_kind[0])
            self._spaces[key] = _Spaces(seen, done)
            self.actor_of |= {name: ActorID(key, i) for i, name in enumerate(of_kind)}

    def _see(self, agent: Any, observation: Any) -> Observation:
        if agent not in self.actor_of:
            raise EnvError(f"the agent {agent!r} acts, and is not among possible_agents")
        return self._spaces[self.actor_of[agent].step_key].take_apart(observation)

    def _show(self, agent: Any, observation: Any) -> None:
        """It is the turn of this agent."""
        self._seen, self._agent = self._see(agent, observation), agent

    def _bring(self, agent: Any, reward: Any, terminated: bool, truncated: bool, observation: Any) -> None:
        """Note what a step brought an agent; what it saw last, where it was cut and there is something."""
        is_cut = truncated and not terminated
        seen = self._see(agent, observation) if is_cut and observation is not None else None
        self._outcomes.append(Outcome(self.actor_of[agent], number(reward), terminated, is_cut, seen))
        if agent == self._agent and (terminated or truncated) and observation is not None:
            self._seen = seen if seen is not None else self._see(agent, observation)


class _ParallelEnv(PettingZooEnv):
    """Agents that act at once."""

    def _begin(self, given: Any) -> None:
        observations, self._infos = _values(given, 2, "reset()", "observations, infos")
        self._is_flat_step_done = True
        self._round(observations, list(self.env.agents))
        if not self._waiting:
            raise EnvError("reset() left no agents")

    def _act(self, action: Any) -> bool:
        self._actions[self._agent] = action
        self._waiting.pop(0)
        if self._waiting:
            self._show(self._waiting[0], self._observations[self._waiting[0]])
            self._is_flat_step_done = False
            return False
        observations, rewards, terminations, truncations, self._infos = _values(
            self.env.step(self._actions),
            5,
            "step()",
            "observations, rewards, terminations, truncations, infos",
        )
        self._is_flat_step_done = True
        there = list(self.env.agents)
        over = set()
        for agent in self._actions:
            terminated = flag(terminations.get(agent, False), f"termination of {agent!r}")
            truncated = flag(truncations.get(agent, False), f"truncation of {agent!r}")
            truncated |= agent not in there and not terminated
            if terminated or truncated:
                over.add(agent)
            self._bring(agent, rewards.get(agent, 0.0), terminated, truncated, observations.get(agent))
        self._round(observations, [agent for agent in there if agent not in over])
        return not self._waiting

    def _info(self) -> dict[str, Any]:
        return dict(self._infos) if self._is_flat_step_done else {}

    def _round(self, observations: Mapping[Any, Any], agents: list[Any]) -> None:
        """All of these are to act on what they see."""
        if missing := [agent for agent in agents if agent not in observations]:
            raise EnvError(f"the agent {missing[0]!r} is among agents and was given no observation")
        self._observations, self._waiting = observations, agents
        self._actions: dict[Any, Any] = {}
        if agents:
            self._show(agents[0], observations[agents[0]])


class _TurnsEnv(PettingZooEnv):
    """Agents that act in turns."""

    def _begin(self, given: Any) -> None:
        self._acted: set[Any] = set()
        self._is_flat_step_done = True
        if self._go_on():
            raise EnvError("reset() left no agents that could act")
        self._outcomes = []

    def _act(self, action: Any) -> bool:
        self._acted.add(self._agent)
        self.env.step(action)
        is_over = self._go_on()
        self._is_flat_step_done = is_over or self._agent in self._acted
        if self._is_flat_step_done:
            self._acted.clear()
        return is_over

    def _info(self) -> dict[str, Any]:
        return dict(self._said)

    def _go_on(self) -> bool:
        """Up to the next agent that can act, past those that are dead; whether there is none."""
        self._said: Mapping[str, Any] = {}
        for _ in range(2 * len(self.actor_of) + 1):
            if not self.env.agents:
                return True
            agent = self.env.agent_selection
            observation, reward, terminated, truncated, self._said = self.env.last()
            terminated, truncated = flag(terminated, "terminated"), flag(truncated, "truncated")
            if not (terminated or truncated):
                self._show(agent, observation)
                self._bring(agent, reward, terminated, truncated, observation)
                return False
            self._bring(agent, reward, terminated, truncated, observation)
            self.env.step(None)
        raise EnvError(f"the agent {agent!r} is dead, and step(None) does not remove it from agents")


def _space_of(env: Any, agent: Any, what: str) -> "spaces.Space[Any]":
    found = getattr(env, what)(agent)
    if not isinstance(found, gymnasium.Space):
        raise EnvError(
            f"The {what} of the agent {agent!r} is {type(found).__name__}; it must be a space of gymnasium's."
        )
    return found


def _values(given: Any, n: int, what: str, names: str) -> Any:
    """What a method gave: this many dicts.

    Raises:
        EnvError: it is something else.
    """
    if (
        isinstance(given, tuple | list)
        and len(given) == n
        and all(isinstance(part, Mapping) for part in given)
    ):
        return given
    raise EnvError(f"{what} gave {_described(given)}; it must give {n} dicts by agent: {names}")


def _described(given: Any) -> str:
    """What was given, in a message."""
    if isinstance(given, tuple | list):
        return f"{len(given)} values ({', '.join(type(part).__name__ for part in given)})"
    return type(given).__name__
