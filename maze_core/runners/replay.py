"""A recorded episode once more: whether the environment, or the policy, gives the same bits again.

Exact is what follows from the recorded seed and actions alone: an environment that draws from the generator that
``reset(seed=…)`` seeds, and from nothing else. One that reads a clock, keeps something over its reset, or draws from a
generator of its own may come out otherwise, and so may floats on another machine or with other versions. A decision is
the policy's on the recorded observation, and with the state that those before it left, where it carries one; its noise,
where it was drawn, is drawn again from the seeds.
"""

from contextlib import closing
from dataclasses import asdict, dataclass, replace
from typing import Any

import numpy as np

from maze_core.agent import Agent
from maze_core.config.schema import RunConfig
from maze_core.envs.config import EnvConfig
from maze_core.envs.vector import Tick, VectorEnv
from maze_core.envs.wrappers.wrapper import stepped, stepping_wrappers
from maze_core.errors import InvalidSpecificationError
from maze_core.rollout.datasets import RecordedEpisode
from maze_core.rollout.episodes import NoiseStream
from maze_core.rollout.recording import Trajectory, listed
from maze_core.runners.build import seeds_of
from maze_core.runners.config import RolloutRunnerConfig
from maze_core.seeding import Stream, derived_seed
from maze_core.threads import one_thread
from maze_core.types import JSON, ActorID, Array, Observation, Tree


@dataclass(frozen=True, kw_only=True)
class Difference:
    """Where a replay first came out otherwise."""

    step: int
    """Sub-step, from 0; their number where it is the end."""
    part: str
    """``actor_id``, ``observation``, ``reward``, ``length``, ``terminated`` or ``truncated``."""
    name: str | None = None
    """Of the observation."""
    recorded: JSON
    replayed: JSON


@dataclass(frozen=True, kw_only=True)
class ReplayReport:
    """What became of a recorded episode that was played once more."""

    n_steps: int
    """Sub-steps that were recorded."""
    difference: Difference | None
    """The first one; None where every observation and reward has the same bits, and the end is the same."""

    @property
    def is_equal(self) -> bool:
        """Nothing differs."""
        return self.difference is None

    def to_dict(self) -> Tree:
        """As a JSON object."""
        return {"equal": self.is_equal, **asdict(self)}


@dataclass(frozen=True, kw_only=True)
class DecisionReport:
    """What the policy answers to a recorded observation, beside what it did then."""

    step: int
    actor_id: ActorID
    deterministic: bool
    recorded: JSON
    """The action that was recorded, in the environment's form."""
    action: JSON
    """The action now."""
    is_equal: bool
    """Both have the same bits."""

    def to_dict(self) -> Tree:
        """As a JSON object."""
        facts = asdict(self)
        return {"equal": facts.pop("is_equal"), **facts, "actor_id": list(self.actor_id)}


@one_thread()
def replay_episode(
    config: RunConfig, trajectory: Trajectory, seed: int, agent: Agent | None = None
) -> ReplayReport:
    """Reset the environment with the recorded seed and give it the recorded actions.

    Args:
        config: of the rollout.
        trajectory: what was recorded.
        seed: what the episode was reset with.
        agent: whose wrappers say what a step is; None takes the configuration's.

    Raises:
        EnvError: the environment cannot be made, or broke its contract.
    """
    env_config: EnvConfig = config.build("env")
    env_seed, _ = seeds_of(config)
    steps = stepping_wrappers(config.build("wrappers") if agent is None else agent.wrappers)
    with closing(env_config.vector(1, has_own_episodes=True, seed=env_seed)) as raw:
        difference = _first_difference(stepped(raw, steps)[0], trajectory, seed)
    return ReplayReport(n_steps=len(trajectory.step_keys), difference=difference)


@one_thread()
def replay_decision(
    config: RunConfig, agent: Agent, trajectory: Trajectory, seed: int, step: int
) -> DecisionReport:
    """Ask the policy once more for the action of one sub-step, on the recorded observation.

    Args:
        config: of the rollout, which says whether actions were drawn, and from which seeds.
        agent: whose policy acted.
        trajectory: what was recorded.
        seed: what the episode was reset with.
        step: the sub-step, from 0.

    Raises:
        InvalidSpecificationError: there is no such sub-step.
        NotServableError: the agent's wrappers need more than the observation.
    """
    check_step(trajectory, step)
    runner: RolloutRunnerConfig = config.build("runner")
    key, row = trajectory.step_keys[step], trajectory.step_keys[:step].count(trajectory.step_keys[step])
    noise = None
    if agent.policy.needs_noise or not runner.deterministic:
        _, agent_seed = seeds_of(config)
        action_seed = derived_seed(agent_seed, Stream.ROLLOUT)
        stream = NoiseStream(agent.policy, np.random.SeedSequence([action_seed, seed]))
        noise = [stream.next(each) for each in trajectory.step_keys[: step + 1]][-1][None]
    state, actor, observation = agent.fresh_state(), *_seen(trajectory, step)
    for earlier in range(step) if agent.has_state else ():
        _, (state,) = agent.carry(*_seen(trajectory, earlier), [state], True, None)
    actions, _ = agent.carry(actor, observation, [state], runner.deterministic, None, noise)
    recorded = _row(trajectory.actions[key], row)
    form = trajectory.forms.get(key, (None, None))[1]
    return DecisionReport(
        step=step,
        actor_id=actor,
        deterministic=runner.deterministic,
        recorded=listed(recorded, form, 0),
        action=listed({head: np.asarray(values) for head, values in actions.items()}, form, 0),
        is_equal=recorded.keys() == actions.keys()
        and all(_same(values, actions[head]) for head, values in recorded.items()),
    )


@one_thread()
def judged(config: RunConfig, agent: Agent, episode: RecordedEpisode) -> RecordedEpisode:
    """A recorded episode with the log-probability of each action and what the critic expected, where it has one.

    Args:
        config: of the rollout, as of :func:`replay_decision`.
        agent: whose policy acted.
        episode: what was recorded, with its seed.

    Raises:
        InvalidSpecificationError: the policy acts otherwise than was recorded, so it is not its episode.
    """
    recorded, runner = episode.trajectory, config.build("runner")
    action_seed = derived_seed(seeds_of(config)[1], Stream.ROLLOUT)
    stream = NoiseStream(agent.policy, np.random.SeedSequence([action_seed, episode.seed or 0]))
    draws = agent.policy.needs_noise or not runner.deterministic
    state, found = agent.initial_state(), []
    for step, key in enumerate(recorded.step_keys):
        actor, observation = _seen(recorded, step)
        noise = stream.next(key)[None] if draws else None
        given = actor, observation, [state], runner.deterministic, None, noise
        actions, (decision,), (state,) = agent.explain_as(*given)
        done = _row(recorded.actions[key], recorded.step_keys[:step].count(key))
        if not all(_same(values, actions[head]) for head, values in done.items()):
            message = f"does not act at sub-step {step} as was recorded: give seed and deterministic as then."
            raise InvalidSpecificationError(message, path="episode", code="other_content")
        found.append((decision["log_prob"], decision["value"]))
    columns = [
        None if any(value is None for value in column) else np.array(column, np.float32)
        for column in zip(*found, strict=True)
    ]
    return replace(episode, log_probs=columns[0], values=columns[1])


def _seen(trajectory: Trajectory, step: int) -> tuple[ActorID, Observation]:
    """Who acted at a sub-step, and on what."""
    key = trajectory.step_keys[step]
    row = trajectory.step_keys[:step].count(key)
    return ActorID(key, int(trajectory.agent_ids[step])), _row(trajectory.observations[key], row)


def check_step(trajectory: Trajectory, step: int) -> None:
    """Refuse a sub-step that was not recorded."""
    if not 0 <= step < (n := len(trajectory.step_keys)):
        message = f"The episode has {n} sub-steps, 0 to {n - 1}; there is no {step}."
        raise InvalidSpecificationError(message, path="step", code="out_of_range")


def _first_difference(env: VectorEnv, trajectory: Trajectory, seed: int) -> Difference | None:
    tick = env.reset([seed])
    at = dict.fromkeys(trajectory.observations, 0)
    n = len(trajectory.step_keys)
    for step, key in enumerate(trajectory.step_keys):
        here, row = _actor(tick), at[key]
        at[key] += 1
        if (there := [key, int(trajectory.agent_ids[step])]) != here:
            return Difference(step=step, part="actor_id", recorded=there, replayed=here)
        seen = {name: values[0] for name, values in tick.observations[key].items()}
        if found := _unlike(step, {name: v[row] for name, v in trajectory.observations[key].items()}, seen):
            return found
        tick = env.step({key: _row(trajectory.actions[key], row)})
        if not _same(trajectory.rewards[step], np.float64(tick.reward[0])):
            recorded, replayed = float(trajectory.rewards[step]), float(tick.reward[0])
            return Difference(step=step, part="reward", recorded=recorded, replayed=replayed)
        if tick.ended[0] and step + 1 < n:
            return Difference(step=step + 1, part="length", recorded=n, replayed=step + 1)
    return _unlike_ends(tick, trajectory, n)


def _unlike_ends(tick: Tick, trajectory: Trajectory, n: int) -> Difference | None:
    is_over = bool(tick.ended[0])
    batches, active = (
        (tick.final_observations, tick.final_active) if is_over else (tick.observations, tick.active)
    )
    key = next(key for key, rows in active.items() if rows[0])
    if key != trajectory.final_step_key:
        return Difference(step=n, part="actor_id", recorded=trajectory.final_step_key, replayed=key)
    seen = {name: values[0] for name, values in batches[key].items()}
    if found := _unlike(n, trajectory.final_observation, seen):
        return found
    # an episode that a limit of the caller's cut was truncated while its environment went on
    ends = {"terminated": bool(tick.terminated[0]), "truncated": bool(tick.truncated[0]) or not is_over}
    for part, replayed in ends.items():
        if (recorded := getattr(trajectory, part)) != replayed:
            return Difference(step=n, part=part, recorded=recorded, replayed=replayed)
    return None


def _actor(tick: Tick) -> list[Any]:
    return [next(key for key, rows in tick.active.items() if rows[0]), int(tick.agent_id[0])]


def _unlike(step: int, recorded: Observation, replayed: Observation) -> Difference | None:
    for name in [*recorded, *(name for name in replayed if name not in recorded)]:
        there, here = recorded.get(name), replayed.get(name)
        if there is None or here is None or not _same(there, here):
            shown = [None if value is None else np.asarray(value).tolist() for value in (there, here)]
            return Difference(step=step, part="observation", name=name, recorded=shown[0], replayed=shown[1])
    return None


def _row(columns: Observation, row: int) -> dict[str, Array]:
    """One row of each column, as a batch of one."""
    return {name: np.ascontiguousarray(values[row : row + 1]) for name, values in columns.items()}


def _same(recorded: Any, replayed: Any) -> bool:
    """Whether two arrays are the same bits."""
    there, here = np.asarray(recorded), np.asarray(replayed)
    return there.dtype == here.dtype and there.shape == here.shape and there.tobytes() == here.tobytes()
