"""A :class:`CoreEnv` seen and acted on through its conversions: the sub-step contract of everything else."""

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from maze_core.data.flat_space import (
    FlatSpace,
    SpaceReader,
    action_layout,
    is_flat,
    observation_layout,
    put_together,
)
from maze_core.envs.contract import flag
from maze_core.envs.core_env import Outcome, StructuredEnv
from maze_core.envs.domain import ActionConversionInterface, CoreEnv, ObservationConversionInterface
from maze_core.errors import EnvError
from maze_core.events.built_in import KPI_LABEL, BaseEnvEvents, RewardEvents
from maze_core.events.declared import EpisodeValues, StatKey
from maze_core.events.episode import as_number
from maze_core.events.kpi import EpisodeEventLog
from maze_core.types import Action, ActorID, Observation, StepKey


class ConvertedEnv(StructuredEnv):
    """Domain logic, converted; says its rewards and indicators as events beside those of the domain."""

    def __init__(
        self,
        core_env: CoreEnv,
        action_conversion_dict: Mapping[StepKey, ActionConversionInterface],
        observation_conversion_dict: Mapping[StepKey, ObservationConversionInterface],
    ) -> None:
        """Take ownership of the core environment.

        Args:
            core_env: the domain logic.
            action_conversion_dict: sub-step → what an action means.
            observation_conversion_dict: sub-step → what is seen; the same sub-steps, the first of a flat step first.

        Raises:
            EnvError: they do not fit each other.
        """
        if not hasattr(core_env, "context"):
            raise EnvError(
                f"{type(core_env).__name__} has no context: call super().__init__() in its __init__."
            )
        if list(action_conversion_dict) != list(observation_conversion_dict):
            raise EnvError(
                f"Actions are converted in the sub-steps {list(action_conversion_dict)}, observations in "
                f"{list(observation_conversion_dict)}; both dicts need the same keys in the same order."
            )
        self.core_env = core_env
        self._to_action, self._to_observation = (
            dict(action_conversion_dict),
            dict(observation_conversion_dict),
        )
        self.observation_spaces: dict[StepKey, FlatSpace] = {
            key: observation_layout(each.space()) for key, each in self._to_observation.items()
        }
        self.action_spaces: dict[StepKey, FlatSpace] = {
            key: action_layout(each.space()) for key, each in self._to_action.items()
        }
        self._readers = {
            key: SpaceReader(space, "observation")
            for key, space in self.observation_spaces.items()
            if space.is_bare or not is_flat(space)
        }
        self._heads = {
            key: [(head, leaf.dtype) for head, leaf in space.items()]
            for key, space in self.action_spaces.items()
        }
        self._forms = {
            key: space.form
            for key, space in self.action_spaces.items()
            if space.is_bare or not is_flat(space)
        }
        self.agent_counts, self.rewards = dict(core_env.agent_counts_dict), core_env.rewards
        self._acted: list[ActorID] = []
        """Who acted in this step of environment time, in that order."""
        self._outcomes: list[Outcome] | None = None
        self._is_step_done = self._is_over = False
        self._context = context = core_env.context
        self._rewards = context.event_service.create_event_topic(RewardEvents)
        self._calculator = core_env.get_kpi_calculator()
        if self._calculator is not None:
            self._indicators = context.event_service.create_event_topic(BaseEnvEvents)
            context.log = []
        self.event_interfaces = context.event_service.interfaces
        self._renderer = core_env.get_renderer()
        if self._renderer is not None:
            self.render_mode = "rgb_array"
        self.maze_state: Any = None
        """The state that the last observation shows."""
        self.maze_action: Any = None
        """The action that led to it; None after a reset."""
        self._actor = ActorID(*core_env.actor_id())

    def reset(self, *, seed: int | None = None) -> Observation:
        """Start an episode."""
        if seed is not None:
            self.core_env.seed(seed)
        self._context.begin_episode()
        self.maze_state, self.maze_action = self.core_env.reset(), None
        self._acted.clear()
        self._is_over = False
        return self._seen()

    def step(self, action: Action) -> tuple[Observation, float, bool, bool, dict[str, Any]]:
        """Take one sub-step."""
        context = self._context
        context.begin_sub_step()
        self.maze_action = self._meant(action)
        self.maze_state, reward, terminated, truncated, info = _five(self.core_env.step(self.maze_action))
        if self.rewards == "per_actor":
            reward = self._pay(reward)
        self._rewards.reward_original(reward)
        observation = self._seen()
        self._is_over = is_over = terminated or truncated
        context.write_log()
        if is_over and self._calculator is not None:
            self._say_indicators()
        has_stepped = context.has_stepped
        is_step_done = super().is_flat_step_done() if has_stepped is None else has_stepped
        self._is_step_done = is_step_done = is_step_done or is_over
        if is_step_done:
            self._acted.clear()
        context.end_sub_step(is_step_done=is_step_done)
        return observation, reward, terminated, truncated, info

    def actor_id(self) -> ActorID:
        """Who acts on the last observation."""
        return self._actor

    def outcomes(self) -> Sequence[Outcome] | None:
        """What the last step brought each actor."""
        return self._outcomes

    def is_flat_step_done(self) -> bool:
        """As the core says by ``context.increment_env_step()``; else when it is the first actor's turn again."""
        return self._is_step_done

    def episode_values(self) -> EpisodeValues:
        """The statistics of the episode's complete steps, its indicators too where it is cut from outside here."""
        values = self._context.event_service.statistics.values()
        if self._calculator is not None and not self._is_over:
            values |= {
                StatKey(KPI_LABEL, None, (("name", name),)): as_number(value, f"the indicator {name}")
                for name, value in self._indicators_now().items()
            }
        return values

    def begin_statistics(self) -> None:
        """What happened so far in the episode is forgotten."""
        self._context.begin_statistics()

    def render(self) -> Any:
        """The state as its renderer draws it."""
        if self._renderer is None:
            return None
        return self._renderer.render(self.maze_state, self.maze_action, self._context.event_service)

    def clone_from(self, env: "ConvertedEnv") -> None:
        """Take over the state of another one; its statistics begin anew."""
        self.core_env.clone_from(env.core_env)
        self._context.begin_episode()
        self.maze_state, self.maze_action = self.core_env.get_maze_state(), env.maze_action
        self._actor = ActorID(*self.core_env.actor_id())

    def close(self) -> None:
        """Close the core environment."""
        self.core_env.close()

    def _seen(self) -> Observation:
        actor = self.core_env.actor_id()
        self._actor = actor if actor.__class__ is ActorID else ActorID(*actor)
        key = self._actor.step_key
        try:
            observation = self._to_observation[key].maze_to_space(self.maze_state)
        except KeyError:
            if key in self._to_observation:
                raise
            known = ", ".join(map(repr, self._to_observation))
            raise EnvError(
                f"actor_id() names the sub-step {key!r}; there are conversions for {known}."
            ) from None
        return self._readers[key].take_apart(observation)[0] if key in self._readers else observation

    def _meant(self, action: Action) -> Any:
        key = self._actor.step_key
        ready = {head: np.array(action[head], dtype=dtype)[()] for head, dtype in self._heads[key]}
        given = put_together(self._forms[key], ready) if key in self._forms else ready
        return self._to_action[key].space_to_maze(given, self.maze_state)

    def _pay(self, reward: Any) -> float:
        """Note what each actor gets; the sum."""
        self._acted.append(self._actor)
        paid = np.asarray(reward, dtype=np.float64).reshape(-1)
        actors = self._acted if np.ndim(reward) else [self._actor]
        if len(paid) != len(actors):
            raise EnvError(
                f"the reward has {len(paid)} numbers, but {len(actors)} actors acted in this step of environment time: "
                f"{', '.join(str(tuple(actor)) for actor in actors)}."
            )
        self._outcomes = [Outcome(actor, each) for actor, each in zip(actors, paid.tolist(), strict=True)]
        if self.core_env.is_actor_done():
            self._outcomes[-1] = self._outcomes[-1]._replace(terminated=True)
        return sum(outcome.reward for outcome in self._outcomes)

    def _say_indicators(self) -> None:
        for name, value in self._indicators_now().items():
            self._indicators.kpi(name, value)

    def _indicators_now(self) -> dict[str, float]:
        assert self._calculator is not None
        return self._calculator.calculate_kpis(EpisodeEventLog(self._context), self.maze_state)


def _five(result: Any) -> tuple[Any, Any, bool, bool, dict[str, Any]]:
    """State, reward, terminated, truncated, info, of a step that gave them or gave one ``done``.

    Raises:
        EnvError: it gave something else.
    """
    if not isinstance(result, tuple) or len(result) not in (4, 5):
        given = f"{len(result)} values" if isinstance(result, tuple) else f"a {type(result).__name__}"
        raise EnvError(
            f"step() of the core environment gave {given}; it must give state, reward, terminated, truncated, info, "
            "or state, reward, done, info."
        )
    *values, info = result
    if not isinstance(info, dict):
        raise EnvError(f"the info of step() is a {type(info).__name__}; it must be a dict.")
    if len(values) == 4:
        state, reward, terminated, truncated = values
        return state, reward, flag(terminated, "terminated"), flag(truncated, "truncated"), info
    state, reward, done = values
    is_over, is_cut = flag(done, "done"), bool(info.get("TimeLimit.truncated", False))
    return state, reward, is_over and not is_cut, is_over and is_cut, info
