"""Several environments stepped one after the other in this process: the hot path of every rollout.

Nothing is allocated per step beyond what the environments themselves make: their observations are written
into arrays that the one :class:`Tick` holds, and the next call writes over them.
"""

import math
from collections.abc import Callable, Mapping, Sequence
from typing import Any, NoReturn

import gymnasium
import numpy as np
from gymnasium import spaces

from maze_core.envs.contract import (
    NUMBERS,
    close_all,
    failure_of,
    five_values,
    flag,
    number,
)
from maze_core.envs.core_env import Outcome, StructuredEnv
from maze_core.envs.shared_envs import MAKE_A_NEW_ONE, envs_of
from maze_core.envs.tick_buffers import FiniteCheck, ObservationWriter, empty_tick, named_arrays
from maze_core.envs.vector import ActorOutcomes, ClosingVectorEnv, Tick
from maze_core.errors import USER_CODE_ERRORS, EnvError
from maze_core.events.declared import EpisodeValues
from maze_core.seeding import seed_process
from maze_core.types import Action, ActorID, Actors, Array, BoolArray, Observation, StepKey

EnvFactory = Callable[[], StructuredEnv]


class PerEnvVectorEnv(ClosingVectorEnv):
    """``B`` environments of one kind, in process, with same-step autoreset."""

    def __init__(
        self, factories: Sequence[EnvFactory], *, first_row: int = 0, tick: Tick | None = None
    ) -> None:
        """Make the environments.

        Args:
            factories: one per environment.
            first_row: index of environment 0 in a larger batch, for messages.
            tick: where to write, such as the rows of a larger batch; None makes arrays of its own.

        Raises:
            EnvError: there are none, two of them are one, or they do not share their spaces.
        """
        super().__init__()
        self.envs: list[StructuredEnv] = []
        self._first_row = first_row
        try:
            for factory in factories:
                self.envs.append(factory())
            _refuse_shared(self.envs, first_row)
            first = _common_env(self.envs)
            self.n_envs = len(self.envs)
            self.observation_spaces: Mapping[StepKey, spaces.Dict] = first.observation_spaces
            self.action_spaces: Mapping[StepKey, spaces.Dict] = first.action_spaces
            self.agent_counts: Mapping[StepKey, int] = first.agent_counts
            self.rewards = first.rewards
            self._tick = tick or empty_tick(
                self.observation_spaces,
                self.n_envs,
                self.agent_counts if self.rewards == "per_actor" else None,
            )
            self.event_interfaces = first.event_interfaces
            self._writer = ObservationWriter(self.observation_spaces, self._tick)
            self._n_agents = {
                key: count if (count := self.agent_counts.get(key, 0)) >= 1 else math.inf
                for key in self.observation_spaces
            }
            """How many may act in a sub-step; any number where it is not known."""
        except BaseException:
            self.close()
            raise
        self.infos: list[dict[str, Any]] = [{} for _ in self.envs]
        """The info of each environment's last step."""
        self._watched: set[int] = set()
        """Rows that were rendered in their episode; whoever did wants to see its end, before the autoreset."""
        self._endings: dict[int, Any] = {}
        """Row → what its last episode looked like at its end, where it was watched."""
        self._ended: list[tuple[int, EpisodeValues]] = []
        self._returns = np.zeros(self.n_envs, dtype=np.float64)
        self._any_ended = False
        outcomes = self._tick.actors
        self._actors = None if outcomes is None else _PaidActors(outcomes, self._writer, self.agent_counts)
        shown = named_arrays(self._tick.observations, "observation")
        last_seen = named_arrays(outcomes.observations, "last observation") if outcomes else []
        self._check_step = FiniteCheck([("reward", self._tick.reward), *shown, *last_seen])
        self._check_final = FiniteCheck(named_arrays(self._tick.final_observations, "final observation"))
        bare = [env.bare for env in self.envs if env.bare is not None]
        is_bare = len(bare) == self.n_envs
        self._bare = _BareEnvs(bare, first, self._tick, self._writer) if is_bare else None

    def reset(self, seeds: Sequence[int | None], rows: BoolArray | None = None) -> Tick:
        """Start new episodes in ``rows``, all by default."""
        self._expect_open(seeds)
        tick = self._tick
        for row in range(self.n_envs) if rows is None else np.flatnonzero(rows).tolist():
            seed = seeds[row]
            if seed is not None:
                seed_process(int(seed))
            try:
                self._show(row, self.envs[row].reset(seed=None if seed is None else int(seed)))
            except USER_CODE_ERRORS as error:
                self._fail(row, error)
            self._returns[row] = 0.0
            tick.flat_step[row] = 0
            tick.reward[row] = 0.0
            tick.terminated[row] = tick.truncated[row] = False
            for active in tick.final_active.values():
                active[row] = False
            if self._actors is not None:
                self._actors.begin(row)
        self._expect_finite()
        return tick

    def step(self, actions: Mapping[StepKey, Mapping[str, Array]]) -> Tick:
        """Act in every environment; see :meth:`VectorEnv.step`."""
        self._expect_open()
        tick = self._tick
        if self._any_ended:
            self._forget_ends()
        if self._bare is not None:
            self._step_bare(self._bare, actions)
        else:
            self._step_structured(actions, range(self.n_envs))
        self._expect_finite()
        return tick

    def step_rows(self, actions: Mapping[StepKey, Mapping[str, Array]], rows: BoolArray) -> Tick:
        """Act in some environments; see :meth:`VectorEnv.step_rows`."""
        if rows.all():
            return self.step(actions)
        self._expect_open()
        if self._any_ended:
            self._forget_ends()
        self._tick.reward[~rows] = 0.0
        self._step_structured(actions, np.flatnonzero(rows).tolist())
        self._expect_finite()
        return self._tick

    def render(self, row: int) -> Any:
        """What one environment renders: the end of an episode that just ended, if it was rendered before that."""
        if self._tick.ended[row] and row in self._endings:
            return self._endings[row]
        self._watched.add(row)
        return self.envs[row].render()

    def take_ended(self) -> list[tuple[int, EpisodeValues]]:
        """See :meth:`VectorEnv.take_ended`."""
        taken, self._ended = self._ended, []
        return taken

    def begin_statistics(self, rows: BoolArray) -> None:
        """See :meth:`VectorEnv.begin_statistics`."""
        for row in np.flatnonzero(rows):
            self.envs[row].begin_statistics()

    def episode_values(self, row: int) -> EpisodeValues:
        """See :meth:`VectorEnv.episode_values`."""
        return self.envs[row].episode_values()

    def _close(self) -> list[str]:
        return close_all(self.envs)

    def _step_bare(self, bare: "_BareEnvs", actions: Mapping[StepKey, Mapping[str, Array]]) -> None:
        """The fast path: plain gymnasium environments, whose one observation and action need no dict."""
        tick, rows, shape, dtype = self._tick, bare.rows, bare.shape, bare.dtype
        rewards: Any = tick.reward
        infos = self.infos
        values = bare.actions(actions)
        ended: list[tuple[int, bool, bool]] = []
        row = 0
        result: Any
        try:
            for row, (step, action) in enumerate(zip(bare.steps, values, strict=True)):
                result = step(action)
                if result.__class__ is not tuple or len(result) != 5 or result[4].__class__ is not dict:
                    result = five_values(result)
                observation, reward, terminated, truncated, infos[row] = result
                rewards[row] = reward if reward.__class__ in NUMBERS else number(reward)
                is_array = observation.__class__ is np.ndarray
                if not is_array or observation.dtype is not dtype or observation.shape != shape:
                    observation = bare.ready(observation)
                rows[row] = observation
                if terminated is not False or truncated is not False:
                    terminated, truncated = flag(terminated, "terminated"), flag(truncated, "truncated")
                    if terminated or truncated:
                        ended.append((row, terminated, truncated))
            tick.flat_step += 1
            self._returns += rewards
            for row, terminated, truncated in ended:
                self._end_episode(row, terminated, truncated, {bare.name: rows[row]})
        except USER_CODE_ERRORS as error:
            self._fail(row, error)

    def _step_structured(self, actions: Mapping[StepKey, Mapping[str, Array]], rows: Sequence[int]) -> None:
        """The general path: any number of sub-steps, agents and leaves."""
        tick, paid = self._tick, self._actors
        rewards: Any = tick.reward
        if paid is not None:
            paid.forget()
        row = 0
        try:
            for row in rows:
                env, action = self.envs[row], self._action_of(row, actions)
                acting = None if paid is None else env.actor_id()
                observation, reward, *ends, self.infos[row] = five_values(env.step(action))
                rewards[row] = reward if reward.__class__ in NUMBERS else number(reward)
                if paid is not None and acting is not None:
                    tick.reward[row] = paid.note(row, acting, tick.reward[row], env.outcomes())
                self._returns[row] += tick.reward[row]
                terminated, truncated = flag(ends[0], "terminated"), flag(ends[1], "truncated")
                is_end = terminated or truncated
                tick.flat_step[row] += is_end or env.is_flat_step_done()
                if is_end:
                    self._end_episode(row, terminated, truncated, observation)
                else:
                    self._show(row, observation)
        except USER_CODE_ERRORS as error:
            self._fail(row, error)

    def _action_of(self, row: int, actions: Mapping[StepKey, Mapping[str, Array]]) -> Action:
        for step_key, active in self._tick.active.items():
            if active[row]:
                return {head: values[row] for head, values in actions[step_key].items()}
        raise EnvError("it was not reset before its first step")

    def _end_episode(self, row: int, terminated: bool, truncated: bool, observation: Observation) -> None:
        """Note the end of an episode and show the first observation of the next."""
        tick, env = self._tick, self.envs[row]
        self._any_ended = True
        step_key, tick.final_agent_id[row] = actor = env.actor_id()
        if not 0 <= actor[1] < self._n_agents.get(step_key, 0):
            raise _unknown(actor)
        tick.terminated[row], tick.truncated[row] = terminated, truncated
        tick.final_active[step_key][row] = True
        self._writer.write(tick.final_observations[step_key], step_key, row, observation)
        tick.episode_return[row] = self._returns[row]
        tick.episode_length[row] = tick.flat_step[row]
        if self._actors is not None:
            self._actors.end(row, actor, observation, is_cut=truncated and not terminated)
        self._returns[row] = 0.0
        self._endings.pop(row, None)
        if row in self._watched:
            self._watched.discard(row)
            self._endings[row] = env.render()
        if self.event_interfaces:
            self._ended.append((self._first_row + row, env.episode_values()))
        self._show(row, env.reset(seed=None))
        tick.flat_step[row] = 0

    def _show(self, row: int, observation: Observation) -> None:
        """Write an observation where its actor looks for it."""
        tick = self._tick
        step_key, agent_id = actor = self.envs[row].actor_id()
        if not 0 <= agent_id < self._n_agents.get(step_key, 0):
            raise _unknown(actor)
        for key, active in tick.active.items():
            active[row] = key == step_key
        tick.agent_id[row] = agent_id
        self._writer.write(tick.observations[step_key], step_key, row, observation)

    def _forget_ends(self) -> None:
        tick = self._tick
        tick.terminated.fill(False)
        tick.truncated.fill(False)
        for active in tick.final_active.values():
            active.fill(False)
        self._any_ended = False

    def _expect_finite(self) -> None:
        bad = self._check_step.bad_row()
        if bad is None and self._any_ended:
            bad = self._check_final.bad_row()
        if bad is not None:
            row, what = bad
            self._tick.reward[row] = 0
            outcomes = self._tick.actors
            last_seen = [outcomes.observations] if outcomes is not None else []
            for batches in (self._tick.observations, self._tick.final_observations, *last_seen):
                for batch in batches.values():
                    for array in batch.values():
                        array[row] = 0  # or it would be found again where the row shows nothing
            self._fail(row, EnvError(f"the {what} is NaN or infinite"))
        self._writer.look(any_ended=self._any_ended)

    def _fail(self, row: int, error: BaseException) -> NoReturn:
        """Say which environment failed at which step of its episode."""
        where = f"Environment {self._first_row + row}, step {self._tick.flat_step[row]} of its episode"
        raise EnvError(f"{where}: {failure_of(error)}") from error


class _PaidActors:
    """Writes what each actor was paid, and how its part ended, into a tick."""

    def __init__(
        self, outcomes: ActorOutcomes, writer: ObservationWriter, agent_counts: Mapping[StepKey, int]
    ) -> None:
        self._tick, self._writer = outcomes, writer
        self._actors = Actors(agent_counts)
        self._returns = np.zeros_like(outcomes.reward)
        self._is_over = np.zeros_like(outcomes.terminated)
        """Actors whose part in the episode is over."""

    def begin(self, row: int) -> None:
        """An episode begins."""
        tick = self._tick
        for array in (tick.reward, tick.terminated, tick.truncated, tick.is_shown):
            array[row] = 0
        self._returns[row], self._is_over[row] = 0.0, False

    def forget(self) -> None:
        """A step begins."""
        tick = self._tick
        for array in (tick.reward, tick.terminated, tick.truncated, tick.is_shown):
            array.fill(0)

    def note(self, row: int, acting: ActorID, reward: float, outcomes: Sequence[Outcome] | None) -> float:
        """Take in what a step brought; the reward of all together."""
        tick = self._tick
        self._is_over[row, self._number(acting)] = False  # also one that comes back
        for actor, paid, terminated, truncated, observation in (
            (Outcome(acting, reward),) if outcomes is None else outcomes
        ):
            place = row, self._number(actor)
            tick.reward[place] += number(paid)
            if terminated or truncated:
                (tick.terminated if terminated else tick.truncated)[place] = self._is_over[place] = True
            if observation is not None and truncated and not terminated:
                self._show(row, actor, observation)
        self._returns[row] += tick.reward[row]
        return float(tick.reward[row].sum())

    def end(self, row: int, actor: ActorID, observation: Observation, *, is_cut: bool) -> None:
        """An episode ended, and with it the parts of all who were still there."""
        tick = self._tick
        if is_cut and not self._is_over[row, self._number(actor)]:
            self._show(row, actor, observation)
        there = ~self._is_over[row]
        (tick.truncated if is_cut else tick.terminated)[row, there] = True
        tick.episode_return[row] = self._returns[row]
        self._returns[row], self._is_over[row] = 0.0, False

    def _show(self, row: int, actor: ActorID, observation: Observation) -> None:
        """Keep what an actor saw last."""
        key, agent_id = actor
        places = {name: array[:, agent_id] for name, array in self._tick.observations[key].items()}
        self._writer.write(places, key, row, observation)
        self._tick.is_shown[row, self._actors.numbers[actor]] = True

    def _number(self, actor: ActorID) -> int:
        found = self._actors.numbers.get(actor)
        if found is None:
            raise _unknown(actor)
        return found


def _unknown(actor: ActorID) -> EnvError:
    return EnvError(f"there is no actor {tuple(actor)}; agent_counts says how many there are")


class _BareEnvs:
    """What the fast path needs of environments with one observation and one action, looked up once."""

    def __init__(
        self,
        envs: Sequence[gymnasium.Env[Any, Any]],
        first: StructuredEnv,
        tick: Tick,
        writer: ObservationWriter,
    ) -> None:
        self.steps = [env.step for env in envs]
        ((self._key, batch),) = tick.observations.items()
        ((self.name, self.rows),) = batch.items()
        self.ready = writer.ready(self._key, self.name)
        self.dtype, self.shape = writer.exact(self._key, self.name)
        ((self._head, leaf),) = first.action_spaces[self._key].items()
        self._action_dtype = leaf.dtype

    def actions(self, actions: Mapping[StepKey, Mapping[str, Array]]) -> Array:
        """A batch of actions of the environments' dtype, which they may keep."""
        return np.array(actions[self._key][self._head], dtype=self._action_dtype)


def _refuse_shared(envs: Sequence[StructuredEnv], first_row: int) -> None:
    """Make sure that no environment stands in two rows, where it would be stepped in the other's episode."""
    row_of: dict[int, int] = {}
    for row, env in enumerate(envs):
        for layer in envs_of(env):
            other = row_of.setdefault(id(layer), row)
            if other != row:
                both = f"Environments {first_row + other} and {first_row + row} are one and the same"
                raise EnvError(f"{both} {type(layer).__name__}. {MAKE_A_NEW_ONE}")


def _common_env(envs: Sequence[StructuredEnv]) -> StructuredEnv:
    """The first environment, whose spaces are those of all."""
    if not envs:
        raise EnvError("A vector environment needs at least one environment.")
    first = envs[0]
    for row, env in enumerate(envs):
        for name in ("observation_spaces", "action_spaces", "agent_counts"):
            if dict(getattr(env, name)) != dict(getattr(first, name)):
                raise EnvError(f"Environment {row} has other {name} than environment 0.")
        if env.rewards != first.rewards:
            raise EnvError(f"Environment {row} has other rewards than environment 0.")
    return first
