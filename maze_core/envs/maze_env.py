"""One environment to hold in your hand: the view on a vector environment of one.

``reset`` gives an observation and ``step`` gives observation, reward, done, info; the two kinds of end are
``info["terminated"]`` and ``info["TimeLimit.truncated"]``. :func:`to_gymnasium` gives the same environment
with gymnasium's interface.
"""

from collections.abc import Mapping
from typing import Any

import gymnasium
import numpy as np
from gymnasium import spaces

from maze_core.config.nodes import shown
from maze_core.data.flat_space import SpaceReader, is_flat
from maze_core.envs.converted_env import ConvertedEnv
from maze_core.envs.core_env import Outcome, StructuredEnv
from maze_core.envs.domain import ActionConversionInterface, CoreEnv, ObservationConversionInterface
from maze_core.envs.per_env import PerEnvVectorEnv
from maze_core.envs.vector import ActorOutcomes, Environment, Tick, VectorEnv
from maze_core.envs.wrappers.stepping import StepLayer
from maze_core.envs.wrappers.wrapper import ProcessedObservation, WrappedVectorEnv, Wrapper
from maze_core.errors import EnvError, SpaceMismatchError
from maze_core.events.built_in import KPI_LABEL
from maze_core.events.declared import EpisodeValues
from maze_core.types import Action, ActorID, Actors, Array, Observation, StepKey


class MazeEnv(Environment):
    """One environment, reset and stepped by hand. Not thread-safe; owns the vector environment it views."""

    def __init__(
        self,
        core_env: CoreEnv | VectorEnv,
        action_conversion_dict: Mapping[StepKey, ActionConversionInterface] | None = None,
        observation_conversion_dict: Mapping[StepKey, ObservationConversionInterface] | None = None,
    ) -> None:
        """Put domain logic and its conversions together, or view a vector environment of one.

        Args:
            core_env: domain logic; or a vector environment that holds one environment, then there are no conversions.
            action_conversion_dict: sub-step → what an action means.
            observation_conversion_dict: sub-step → what is seen; the first one begins a step of environment time.

        Raises:
            EnvError: the vector environment holds more, or the parts do not fit each other.
        """
        vector_env = _vector_env(core_env, action_conversion_dict, observation_conversion_dict)
        if vector_env.n_envs != 1:
            raise EnvError(
                f"A MazeEnv views one environment, this vector environment has {vector_env.n_envs}."
            )
        self.vector_env = vector_env
        self._view = _View(vector_env)
        self._next_seed: int | None = None

    @property
    def observation_spaces_dict(self) -> Mapping[StepKey, spaces.Dict]:
        """Observation space per sub-step."""
        return self.vector_env.observation_spaces

    @property
    def action_spaces_dict(self) -> Mapping[StepKey, spaces.Dict]:
        """Action space per sub-step."""
        return self.vector_env.action_spaces

    @property
    def observation_space(self) -> spaces.Dict:
        """Space of the current sub-step's observation."""
        return self.observation_spaces_dict[self.actor_id().step_key]

    @property
    def action_space(self) -> spaces.Dict:
        """Space of the current sub-step's action."""
        return self.action_spaces_dict[self.actor_id().step_key]

    @property
    def agent_counts_dict(self) -> Mapping[StepKey, int]:
        """Number of agents per sub-step."""
        return self.vector_env.agent_counts

    def actor_id(self) -> ActorID:
        """Who acts on the last observation; the first actor before the first reset."""
        return self._view.actor_id()

    @property
    def core_env(self) -> CoreEnv:
        """The domain logic.

        Raises:
            AttributeError: it is made of none, or lives in another process.
        """
        return self._converted().core_env

    def get_maze_state(self) -> Any:
        """The state of the domain that the last observation shows; AttributeError as :attr:`core_env`."""
        return self._converted().maze_state

    def get_maze_action(self) -> Any:
        """The action of the domain that led to it; None after a reset."""
        return self._converted().maze_action

    def get_kpis(self) -> dict[str, float]:
        """The indicators of the episode that ended last; empty before one did."""
        return {
            key.groups[0][1]: value
            for key, value in self._view.ended_values.items()
            if key.label == KPI_LABEL
        }

    def get_stats(self) -> dict[str, float]:
        """The statistics of the episode that ended last, by name; :mod:`maze_core.events`."""
        return {key.name: value for key, value in self._view.ended_values.items()}

    def clone_from(self, env: "MazeEnv") -> None:
        """Take over the state of another environment of the same domain logic."""
        self._converted().clone_from(env._converted())

    def seed(self, seed: int) -> None:
        """Start the environment's random stream anew with the next reset."""
        self._next_seed = seed

    @property
    def reset_info(self) -> Mapping[str, Any]:
        """What the last reset said beside its observation; empty where the environment is in another process."""
        return self._view.reset_info

    def reset(self, *, seed: int | None = None, options: Mapping[str, Any] | None = None) -> Observation:
        """Start an episode.

        Args:
            seed: starts the environment's random stream anew; None goes on with it.
            options: handed on to an environment of gymnasium.

        Returns:
            The first observation: name → array.

        Raises:
            EnvError: there are options and the environment takes none.
        """
        seed, self._next_seed = (self._next_seed if seed is None else seed), None
        self._view.reset_options = options
        return self._view.reset(seed=seed)

    def step(self, action: Action) -> tuple[Observation, float, bool, dict[str, Any]]:
        """Take one sub-step.

        Args:
            action: head → value, of ``action_space``; or in the form of the environment's own space, as
                ``compute_action`` gives it.

        Returns:
            Observation, reward, done and info. Where the episode ended, the observation is its last one. Where each
            actor is paid its own, ``info["actor_rewards"]`` says what each was paid, and reward is the sum.

        Raises:
            EnvError: there is no episode to step, so call ``reset()``; or the action lacks a head.
            SpaceMismatchError: the action is no dict of numbers, or has a head or a number that its space has not.
        """
        if self._view.is_over:
            raise EnvError("The episode is over or never began: call reset() before step().")
        step_key = self.actor_id().step_key
        space = self.action_spaces_dict[step_key]
        if not is_flat(space):
            action = SpaceReader(space, "action").take_apart(action)[0]
        observation, reward, terminated, truncated, info = self._view.step(_heads(action, space, step_key))
        ends = {"terminated": terminated, "TimeLimit.truncated": truncated and not terminated}
        return observation, reward, terminated or truncated, info | ends

    def render(self) -> Any:
        """What the environment renders in its render mode; None where it cannot be seen."""
        return self._view.render()

    def close(self) -> None:
        """Close the environment."""
        self.vector_env.close()

    def wrapped_by(self, wrapper: Wrapper) -> "MazeEnv":
        """The same environment seen through a wrapper; it takes this one's place."""
        return MazeEnv(WrappedVectorEnv(self.vector_env, [wrapper]))

    def structured(self) -> StructuredEnv:
        """The same environment with the sub-step contract; it takes this one's place."""
        return self.vector_env.envs[0] if isinstance(self.vector_env, PerEnvVectorEnv) else self._view

    def _converted(self) -> ConvertedEnv:
        env = self._view.inner
        if not isinstance(env, ConvertedEnv):
            raise AttributeError("This environment is not made of a CoreEnv, or it lives in another process.")
        return env


def _vector_env(core_env: CoreEnv | VectorEnv, actions: Any, observations: Any) -> VectorEnv:
    if isinstance(core_env, VectorEnv):
        return core_env
    if not isinstance(core_env, CoreEnv) or actions is None or observations is None:
        raise EnvError(
            "A MazeEnv is made of core_env, a CoreEnv, with action_conversion_dict and observation_conversion_dict; "
            "a gymnasium environment is taken by GymMazeEnv."
        )
    return PerEnvVectorEnv([lambda: ConvertedEnv(core_env, actions, observations)])


class _View(StructuredEnv):
    """A vector environment of one, wrappers and all, behind the sub-step contract."""

    def __init__(self, vector_env: VectorEnv) -> None:
        self.observation_spaces = vector_env.observation_spaces
        self.action_spaces = vector_env.action_spaces
        self.agent_counts, self.rewards = vector_env.agent_counts, vector_env.rewards
        self._actors = Actors(self.agent_counts).ids if self.rewards == "per_actor" else ()
        self._env = inner = vector_env
        while isinstance(inner, WrappedVectorEnv | StepLayer):
            inner = inner.env
        self._inner = inner if isinstance(inner, PerEnvVectorEnv) else None  # else in another process
        if self._inner is not None:
            self.render_mode = self._inner.envs[0].render_mode
            self.render_fps = self._inner.envs[0].render_fps
        self.inner = self._inner.envs[0] if self._inner is not None else None
        """The environment itself, where it lives in this process."""
        self.event_interfaces = vector_env.event_interfaces
        self.ended_values: EpisodeValues = {}
        """The statistics of the episode that ended last."""
        self._tick: Tick | None = None
        self._is_flat_step_done = False

    @property
    def is_over(self) -> bool:
        """No episode has begun that could be stepped."""
        return self._tick is None or bool(self._tick.ended[0])

    def reset(self, *, seed: int | None = None) -> Observation:
        options, self.reset_options = self.reset_options, None
        env = self._inner.envs[0] if self._inner else None
        if env is not None:
            env.reset_options = options
        elif options is not None:
            raise EnvError("reset() takes options only where the environment lives in this process.")
        if self._tick is None or seed is not None or options is not None or not self._tick.ended[0]:
            self._tick = self._env.reset([seed])
        else:  # the next episode is already there, and stepping goes on from it
            self._tick.terminated[0] = self._tick.truncated[0] = False
        if env is not None:
            if env.reset_options is not None:
                env.reset_options = None
                raise EnvError(f"{type(env).__name__}.reset takes no options.")
            self.reset_info = env.reset_info
        return _row(self._tick.observations[self.actor_id().step_key])

    def step(self, action: Action) -> tuple[Observation, float, bool, bool, dict[str, Any]]:
        before = int(self._tick.flat_step[0]) if self._tick is not None else 0
        batch = {head: np.asarray(value)[np.newaxis] for head, value in action.items()}
        tick = self._tick = self._env.step({self.actor_id().step_key: batch})
        self._is_flat_step_done = bool(tick.ended[0]) or int(tick.flat_step[0]) > before
        if ended := self._env.take_ended():
            self.ended_values = ended[-1][1]
        shown = tick.final_observations if tick.ended[0] else tick.observations
        observation = _row(shown[self.actor_id().step_key])
        info = dict(self._inner.infos[0]) if self._inner else {}
        if tick.actors is not None:
            info["actor_rewards"] = dict(zip(self._actors, tick.actors.reward[0].tolist(), strict=True))
        return observation, float(tick.reward[0]), bool(tick.terminated[0]), bool(tick.truncated[0]), info

    def actor_id(self) -> ActorID:
        tick = self._tick
        if tick is None:
            return ActorID(next(iter(self.observation_spaces)), 0)
        active, agent_id = (
            (tick.final_active, tick.final_agent_id) if tick.ended[0] else (tick.active, tick.agent_id)
        )
        return ActorID(next(key for key, rows in active.items() if rows[0]), int(agent_id[0]))

    def outcomes(self) -> list[Outcome]:
        paid = None if self._tick is None else self._tick.actors
        if paid is None:
            return []
        columns = zip(paid.reward[0], paid.terminated[0], paid.truncated[0], paid.is_shown[0], strict=True)
        return [
            Outcome(
                actor,
                float(reward),
                bool(terminated),
                bool(truncated),
                _last_seen(paid, actor) if is_shown else None,
            )
            for actor, (reward, terminated, truncated, is_shown) in zip(self._actors, columns, strict=True)
        ]

    def is_flat_step_done(self) -> bool:
        return self._is_flat_step_done

    def begin_statistics(self) -> None:
        self._env.begin_statistics(np.ones(1, np.bool_))

    def episode_values(self) -> EpisodeValues:
        is_over = self._tick is not None and self._tick.ended[0]
        return self.ended_values if is_over else self._env.episode_values(0)

    def render(self) -> Any:
        return self._inner.render(0) if self._inner else None

    def close(self) -> None:
        self._env.close()


class _GymnasiumEnv(gymnasium.Env[Any, Any]):
    """A MazeEnv with gymnasium's interface; a single leaf of the usual name stands without its Dict."""

    def __init__(self, env: MazeEnv) -> None:
        view = env.structured()
        self.render_mode = view.render_mode
        modes = [view.render_mode] if view.render_mode else []
        self.metadata = {"render_modes": modes, "render_fps": view.render_fps}
        (seen,), (done,) = env.observation_spaces_dict.values(), env.action_spaces_dict.values()
        self._env = env
        self._is_bare = set(seen.spaces) == {"observation"}
        self._is_action_bare = set(done.spaces) == {"action"}
        self.observation_space = seen["observation"] if self._is_bare else seen
        self.action_space = done["action"] if self._is_action_bare else done

    def reset(
        self, *, seed: int | None = None, options: dict[str, Any] | None = None
    ) -> tuple[Any, dict[str, Any]]:
        super().reset(seed=seed)
        return self._given(self._env.reset(seed=seed, options=options)), dict(self._env.reset_info)

    def step(self, action: Any) -> tuple[Any, float, bool, bool, dict[str, Any]]:
        heads = {"action": action} if self._is_action_bare else action
        observation, reward, is_over, info = self._env.step(heads)
        terminated = bool(info.pop("terminated"))
        info.pop("TimeLimit.truncated")
        return self._given(observation), reward, terminated, is_over and not terminated, info

    def render(self) -> Any:
        return self._env.render()

    def close(self) -> None:
        self._env.close()

    def _given(self, observation: Observation) -> Any:
        if not self._is_bare:
            return dict(observation)
        value = observation["observation"]
        return value if value.shape else value[()]


def to_gymnasium(env: MazeEnv) -> gymnasium.Env[Any, Any]:
    """The same environment with gymnasium's interface; it owns ``env`` from now on.

    Raises:
        EnvError: the environment has sub-steps or several agents, for which gymnasium has no form.
    """
    if list(env.agent_counts_dict.values()) != [1]:
        raise EnvError("gymnasium has no form for sub-steps or several agents.")
    return _GymnasiumEnv(env)


def _last_seen(paid: ActorOutcomes, actor: ActorID) -> Observation:
    return {
        name: array[0, actor.agent_id].copy() for name, array in paid.observations[actor.step_key].items()
    }


def _row(batch: Observation) -> Observation:
    """The one observation of a batch of one, as copies, with its mark."""
    observation = {name: values[0].copy() for name, values in batch.items()}
    return ProcessedObservation(observation) if isinstance(batch, ProcessedObservation) else observation


def _heads(action: Any, space: spaces.Dict, step_key: StepKey) -> Action:
    """An action as head → array."""
    if not isinstance(action, Mapping):
        heads = ", ".join(map(repr, space))
        raise SpaceMismatchError(
            f"An action is a dict with {heads}, not {type(action).__name__} {shown(action)}."
        )
    if missing := set(space.spaces) - action.keys():
        raise EnvError(f"The action lacks {sorted(missing)}; sub-step {step_key!r} needs every head.")
    return {head: _numbers(value, head, space) for head, value in action.items()}


def _numbers(value: Any, head: str, space: spaces.Dict) -> Array:
    """What an action has for one head."""
    leaf = space.spaces.get(head)
    if leaf is None:
        raise SpaceMismatchError(f"The action has {shown(head)}, but its heads are {', '.join(space)}.")
    try:
        array = np.asarray(value)
    except ValueError:  # lists of unequal lengths
        array = np.empty(0, dtype=object)
    if array.dtype.kind not in "biuf":
        raise SpaceMismatchError(
            f"The action {head!r} is {shown(value)}, which is no number and no array of numbers.", f"/{head}"
        )
    wants_whole = leaf.dtype is not None and leaf.dtype.kind in "iu"
    if wants_whole and array.dtype.kind == "f" and (array != np.trunc(array)).any():
        raise SpaceMismatchError(
            f"The action {head!r} is {shown(value)}, but {leaf} has whole numbers.", f"/{head}"
        )
    return array
