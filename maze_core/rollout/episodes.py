"""Whole episodes with a policy that does not learn: the one loop of evaluation and rollouts.

Each row of a vector environment plays one episode at a time and takes the next seed when it is free. An
episode depends on its seed alone: the seed resets its environment and starts its stream of action noise, and
a policy's action for a row does not depend on the rest of the batch. So results are the same for any number
of environments.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import partial
from typing import Protocol

import numpy as np

from maze_core.data.flat_space import form_of, is_flat
from maze_core.envs.vector import Tick, VectorEnv
from maze_core.envs.wrappers.wrapper import Actions, WrappedVectorEnv
from maze_core.events.declared import EpisodeValues
from maze_core.models.acting import to_env_actions
from maze_core.models.masks import MaskCheck, mask_checks
from maze_core.models.memory import Memory
from maze_core.rollout.recording import Trajectory, TrajectoryBuilder
from maze_core.threads import one_thread
from maze_core.types import (
    JSON,
    Action,
    ActorID,
    Actors,
    Array,
    FloatArray,
    IntArray,
    Observation,
    StepKey,
)

_NOISE_BLOCK = 64
"""Rows of noise drawn from an episode's stream at a time; part of what fixes the stream."""


class Policy(Protocol):
    """What acts; :func:`maze_core.rollout.user_policy.as_policy` makes one of any object with ``act``.

    One that carries a state has ``state_widths``, sub-step → numbers (:mod:`maze_core.models.memory`).
    """

    needs_noise: bool
    """Whether noise is needed even to act deterministically."""

    def act(
        self,
        step_key: StepKey,
        observations: Observation,
        *,
        deterministic: bool,
        noise: FloatArray | None,
        agent_id: IntArray | None = None,
    ) -> Action:
        """Actions ``head → [B, ...]`` for ``name → [B, ...]``, row by row; a state as one of both."""
        ...

    def noise(self, step_key: StepKey, rng: np.random.Generator, n_rows: int) -> FloatArray:
        """Noise ``[n_rows, width]`` for :meth:`act`."""
        ...


@dataclass(frozen=True, kw_only=True)
class EpisodeRecord:
    """One episode that was played to its end."""

    index: int
    """Place of its seed among the seeds."""
    seed: int
    """What its environment was reset with."""
    episode_return: float
    """Sum of raw rewards."""
    length: int
    """Flat steps."""
    terminated: bool
    truncated: bool
    """A limit ended it, the environment's or ``max_episode_steps``."""
    truncated_by_limit: bool = False
    """It was ``max_episode_steps``."""
    trajectory: Trajectory | None = None
    """What happened, where recording was asked for."""
    actor_returns: Mapping[ActorID, float] | None = None
    """Sum of the raw rewards of each actor; None where a team is paid."""
    values: EpisodeValues = field(default_factory=dict)
    """The statistics of its events, where its environment declares any."""

    @property
    def statistics(self) -> dict[str, float]:
        """The same, by name: ``Interface/event/output/group``."""
        return {key.name: value for key, value in self.values.items()}


@one_thread()
def run_episodes(
    env: VectorEnv,
    policy: Policy,
    seeds: Sequence[int],
    *,
    max_episode_steps: int | None = None,
    deterministic: bool = True,
    record: bool = False,
    action_seed: int = 0,
    on_episode: Callable[[EpisodeRecord], None] | None = None,
    cancelled: Callable[[], bool] = lambda: False,
) -> list[EpisodeRecord]:
    """Play one episode per seed.

    Args:
        env: shows what the policy sees; stays open. Its number of environments changes nothing but the speed.
        policy: what acts.
        seeds: one per episode, each asked for when its episode begins.
        max_episode_steps: flat steps after which an episode is cut; None leaves it to the environment.
        deterministic: the likeliest action instead of a sample.
        record: keep raw trajectories.
        action_seed: with an episode's seed, starts its stream of action noise.
        on_episode: called with each record as its episode ends, in that order.
        cancelled: asked before every tick; True ends with the episodes that are complete.

    Returns:
        Records in the order of the seeds.

    Raises:
        EnvError: an environment broke its contract.
    """
    play = _Play(
        env=env,
        policy=policy,
        seeds=seeds,
        max_episode_steps=max_episode_steps,
        deterministic=deterministic,
        record=record,
        action_seed=action_seed,
    )
    done: list[EpisodeRecord] = []
    play.start()
    while play.running and not cancelled():
        for episode in play.advance():
            done.append(episode)
            if on_episode is not None:
                on_episode(episode)
    return sorted(done, key=lambda episode: episode.index)


@dataclass(slots=True)
class _Row:
    """The episode that one environment of the batch is playing."""

    index: int
    seed: int
    noise: "NoiseStream"
    trajectory: TrajectoryBuilder
    """What was recorded of it, where that was asked for."""
    episode_return: float = 0.0
    actor_returns: FloatArray | None = None


@dataclass(slots=True, kw_only=True)
class _Play:
    """Who plays which episode, and acts in it, grouped by sub-step."""

    env: VectorEnv
    policy: Policy
    seeds: Sequence[int]
    max_episode_steps: int | None
    deterministic: bool
    record: bool
    action_seed: int
    running: dict[int, _Row] = field(default_factory=dict)
    """Row of the batch → its episode."""
    _next: int = 0
    _tick: Tick | None = None
    _ended: dict[int, EpisodeValues] = field(default_factory=dict)
    """Row → statistics of the episode that ended with the tick, where environments declare events."""
    _memory: Memory = field(init=False)
    _masks: dict[StepKey, MaskCheck] = field(init=False)

    def __post_init__(self) -> None:
        """Nothing is carried yet."""
        self._masks = mask_checks(self.env.observation_spaces, self.env.action_spaces)
        self._memory = Memory(getattr(self.policy, "state_widths", {}), self.env.n_envs)

    def start(self) -> None:
        """Give every row an episode while there are seeds; rows without one idle."""
        if len(self.seeds):
            self._assign(range(self.env.n_envs), is_first=True)

    def advance(self) -> list[EpisodeRecord]:
        """One tick: act, step, and hand out new episodes; returns those that ended."""
        assert self._tick is not None
        if self.record:
            shown = raw_tick(self.env, self._tick)
            for row, episode in self.running.items():
                episode.trajectory.see(shown, row)
        actions = {key: self._act(key, self._tick) for key, rows in self._tick.active.items() if rows.any()}
        tick = self._tick = self.env.step(actions)
        if self._memory and tick.actors is not None:
            self._memory.forget_parts(tick.actors.ended, Actors(self.env.agent_counts).numbers)
        raw, given = raw_tick(self.env, tick), _raw_actions(self.env, actions)
        for row, episode in self.running.items():
            reward = float(raw.reward[row])
            episode.episode_return += reward
            own = None if raw.actors is None else raw.actors.reward[row]
            if own is not None:
                episode.actor_returns = own + (
                    0.0 if episode.actor_returns is None else episode.actor_returns
                )
            if self.record:
                episode.trajectory.act(given, reward, row, own)
        if self.env.event_interfaces:
            self._ended = dict(self.env.take_ended())
        ended, limit = tick.ended, self.max_episode_steps
        free = [row for row in self.running if ended[row] or (limit and tick.flat_step[row] >= limit)]
        records = [self._finish(row, tick) for row in free]
        self._assign(free)
        return records

    def _finish(self, row: int, tick: Tick) -> EpisodeRecord:
        episode = self.running.pop(row)
        is_cut = not tick.ended[row]
        raw = raw_tick(self.env, tick)
        trajectory = episode.trajectory.finish(raw, row, is_cut=is_cut) if self.record else None
        return EpisodeRecord(
            index=episode.index,
            seed=episode.seed,
            episode_return=episode.episode_return,
            length=int(tick.flat_step[row] if is_cut else tick.episode_length[row]),
            terminated=bool(tick.terminated[row]),
            truncated=bool(tick.truncated[row]) or is_cut,
            truncated_by_limit=is_cut,
            trajectory=trajectory,
            actor_returns=None
            if episode.actor_returns is None
            else dict(zip(_actors(self.env), episode.actor_returns.tolist(), strict=True)),
            values=self._values(row),
        )

    def _values(self, row: int) -> EpisodeValues:
        if not self.env.event_interfaces:
            return {}
        return self._ended[row] if row in self._ended else self.env.episode_values(row)

    def _assign(self, rows: Sequence[int], *, is_first: bool = False) -> None:
        """Reset these rows with the next seeds, as far as there are any."""
        seeds: list[int | None] = [None] * self.env.n_envs
        chosen = np.zeros(self.env.n_envs, dtype=np.bool_)
        for row in list(rows)[: len(self.seeds) - self._next]:
            seed = seeds[row] = int(self.seeds[self._next])
            self.running[row] = _Row(
                index=self._next,
                seed=seed,
                noise=NoiseStream(self.policy, np.random.SeedSequence([self.action_seed, seed])),
                trajectory=TrajectoryBuilder(_forms(self.env), _actors(self.env)),
            )
            chosen[row] = True
            self._next += 1
        self._memory.forget(chosen)
        if is_first:
            self._tick = self.env.reset(seeds)
        elif chosen.any():
            self._tick = self.env.reset(seeds, chosen)

    def _act(self, key: StepKey, tick: Tick) -> Action:
        """Head → ``[B, ...]``, valid where the sub-step is active."""
        rows = np.flatnonzero(tick.active[key])
        if key in self._masks:
            playing = np.array([row for row in rows.tolist() if row in self.running], np.int64)
            self._masks[key].expect(tick.observations[key], playing)
        is_all = rows.size == self.env.n_envs
        observations = tick.observations[key]
        if not is_all:
            observations = {name: values[rows] for name, values in observations.items()}
        needs_noise = self.policy.needs_noise or not self.deterministic
        agent_id = tick.agent_id if is_all else tick.agent_id[rows]
        act = partial(
            self.policy.act,
            key,
            deterministic=self.deterministic,
            noise=self._noise(key, rows) if needs_noise else None,
            agent_id=agent_id,
        )
        action = self._memory.act(key, observations, agent_id, rows, act)
        fitted = to_env_actions(action, self.env.action_spaces[key])
        return fitted if is_all else {head: self._spread(values, rows) for head, values in fitted.items()}

    def _noise(self, key: StepKey, rows: Array) -> FloatArray:
        """Noise ``[n, width]``: each episode's own; rows that idle share whatever another one drew."""
        drawn = {row: self.running[row].noise.next(key) for row in rows.tolist() if row in self.running}
        idle = next(iter(drawn.values()), None)
        if idle is None:
            idle = np.zeros_like(self.policy.noise(key, np.random.default_rng(0), 1)[0])
        return np.stack([drawn.get(row, idle) for row in rows.tolist()])

    def _spread(self, values: Array, rows: Array) -> Array:
        """Put the rows of some environments back to their places in the batch."""
        spread = np.zeros((self.env.n_envs, *values.shape[1:]), dtype=values.dtype)
        spread[rows] = values
        return spread


class NoiseStream:
    """The action noise of one episode, drawn in blocks."""

    def __init__(self, policy: Policy, seed: np.random.SeedSequence) -> None:
        self._policy = policy
        self._rng = np.random.default_rng(seed)
        self._blocks: dict[StepKey, tuple[FloatArray, int]] = {}

    def next(self, step_key: StepKey) -> FloatArray:
        """The next row ``[width]`` for a sub-step."""
        block, at = self._blocks.get(step_key, (None, _NOISE_BLOCK))
        if block is None or at == _NOISE_BLOCK:
            block, at = self._policy.noise(step_key, self._rng, _NOISE_BLOCK), 0
        self._blocks[step_key] = (block, at + 1)
        row: FloatArray = block[at]
        return row


def raw_tick(env: VectorEnv, tick: Tick) -> Tick:
    """What the environments themselves show, below all wrappers."""
    while isinstance(env, WrappedVectorEnv):
        tick, env = env.inner_tick, env.env
    return tick


def _raw_actions(env: VectorEnv, actions: Actions) -> Actions:
    """What the environments themselves were given at the last step."""
    while isinstance(env, WrappedVectorEnv):
        actions, env = env.inner_actions, env.env
    return actions


def _actors(env: VectorEnv) -> tuple[ActorID, ...]:
    """All actors there may be, where each is paid its own."""
    return Actors(env.agent_counts).ids if env.rewards == "per_actor" else ()


def _forms(env: VectorEnv) -> dict[StepKey, tuple[JSON, JSON]]:
    """The forms of the environments' own observations and actions, of sub-steps where they are no plain names."""
    while isinstance(env, WrappedVectorEnv):
        env = env.env
    pairs = {key: (env.observation_spaces[key], env.action_spaces[key]) for key in env.observation_spaces}
    return {
        key: (form_of(seen), form_of(done))
        for key, (seen, done) in pairs.items()
        if not (is_flat(seen) and is_flat(done))
    }
