"""Recorded episodes as training sees them: through the wrappers, on the scale of the policy's samples.

The episodes are laid end to end in a few rows, as if as many environments had played them, and a vector environment
shows them again to the collector. So observations, rewards and final observations pass the wrappers as they do in
training; their statistics stand still meanwhile.
"""

import copy
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from gymnasium import spaces

from maze_core.data.trajectory import Rollout
from maze_core.data.values import LeafReader
from maze_core.envs.tick_buffers import empty_tick
from maze_core.envs.vector import Tick, VectorEnv
from maze_core.envs.wrappers.wrapper import Actions, WrappedVectorEnv, Wrapper
from maze_core.errors import InvalidSpecificationError, SpaceMismatchError
from maze_core.models.acting import ActingPolicy, StepPolicy
from maze_core.rollout.collector import Collector
from maze_core.rollout.recording import Trajectory
from maze_core.types import Action, Array, BoolArray, FloatArray, IntArray, Observation, StepKey

_MOST_ROWS = 32
_RECORD = "record episodes of this environment with a rollout"

Episodes = Mapping[str, Trajectory]
"""Name, such as the file, → episode."""


@dataclass(frozen=True, kw_only=True)
class Demonstrations:
    """Recorded episodes, as if ``B`` environments had been collected from for ``T`` ticks."""

    rollout: Rollout
    """The actions are the policy's own samples; idle rows at the end are not ``active``."""
    episode: IntArray
    """``[T, B]``: the number of the episode; -1 where a row idles."""
    names: Sequence[str]
    """Of the episodes, by number."""


def demonstrations(
    episodes: Episodes, raw: VectorEnv, wrappers: Sequence[Wrapper], policy: ActingPolicy
) -> Demonstrations:
    """What training would have collected, had it played these episodes.

    Args:
        episodes: that :func:`refuse_other_episodes` let pass.
        raw: environments of their kind, not stepped.
        wrappers: closest to the environment first, with the statistics that training begins with; copied.
        policy: what is to learn from them.

    Raises:
        InvalidSpecificationError: a wrapper changes actions, and a recorded one cannot be had through it.
    """
    env = _RecordedEnv(episodes, raw)
    # what was recorded are decisions: the steps of wrappers that take several are in them
    stack = [wrapper for wrapper in copy.deepcopy(wrappers) if "stepping" not in wrapper.overridden]
    seen = WrappedVectorEnv(env, stack)
    collector = Collector(seen, len(env.places), np.random.default_rng(0))
    collector.reset([0] * env.n_envs)
    repeating = {key: _Repeating(env, key, step, stack) for key, step in policy.steps.items()}
    rollout = collector.collect(ActingPolicy(repeating))
    episode = np.where(env.places < 0, -1, env.episode[env.places])
    return Demonstrations(rollout=rollout, episode=episode, names=list(episodes))


def raw_observations(episodes: Episodes, step_keys: Sequence[StepKey]) -> dict[StepKey, Observation]:
    """All observations that were acted on: step key → name → ``[N, ...]``, in the order of the episodes."""
    return {
        key: _joined([episode.observations.get(key, {}) for episode in episodes.values()])
        for key in step_keys
    }


def refuse_other_episodes(episodes: Episodes, raw: VectorEnv) -> None:
    """Make sure that episodes are whole, and of these environments.

    Raises:
        InvalidSpecificationError: one is not; the message names it, its leaf, and the way out.
    """
    for name, episode in episodes.items():
        if not len(episode.rewards):
            raise _problem(f"{name} has no step; {_RECORD}")
        if not np.isfinite(episode.rewards).all():
            raise _problem(f"{name} has a reward that is not finite; leave it out, or {_RECORD}")
        keys = {*episode.step_keys, episode.final_step_key}
        if other := keys.difference(raw.observation_spaces):
            has = f"has the sub-step {min(map(repr, other))}, and env has {list(raw.observation_spaces)}"
            raise _problem(f"{name} {has}; {_RECORD}")
        counts = {key: episode.step_keys.count(key) for key in keys}
        final = {leaf: array[None] for leaf, array in episode.final_observation.items()}
        _refuse_unfit(
            f"{name}, after its last step,", final, raw.observation_spaces[episode.final_step_key], 1
        )
        for key in dict.fromkeys(episode.step_keys):
            where = name if len(raw.observation_spaces) == 1 else f"{name}, sub-step {key!r},"
            n_agents = raw.agent_counts.get(key, 1)
            agents = {i for i, at in zip(episode.agent_ids, episode.step_keys, strict=False) if at == key}
            if strangers := agents.difference(range(n_agents)):
                has = f"has the agent {max(strangers)}, and env has {n_agents}, counted from 0"
                raise _problem(f"{where} {has}; {_RECORD}")
            _refuse_unfit(where, episode.observations.get(key, {}), raw.observation_spaces[key], counts[key])
            _refuse_unfit(
                where, episode.actions.get(key, {}), raw.action_spaces[key], counts[key], what="action"
            )
    for key in raw.observation_spaces:
        if not any(key in episode.step_keys for episode in episodes.values()):
            raise _problem(f"No episode acts at the sub-step {key!r}; {_RECORD}")


def _refuse_unfit(
    where: str, given: Mapping[str, Array], space: spaces.Dict, n_rows: int, what: str = "observation"
) -> None:
    if set(given) != set(space):
        has, wanted = (", ".join(map(repr, names)) or "nothing" for names in (given, space))
        raise _problem(f"{where} has {what}s {has}, and env has {wanted}; {_RECORD}")
    for leaf, values in given.items():
        try:
            LeafReader(space[leaf], batch=(n_rows,)).read(values)
        except SpaceMismatchError as error:
            place = f" at {error.pointer}" if error.pointer else ""
            message = (
                f"{where} has an {what} {leaf!r} that does not fit {space[leaf]}{place}: {error} {_RECORD}"
            )
            raise _problem(message) from error


def _problem(message: str) -> InvalidSpecificationError:
    return InvalidSpecificationError(f"{message}.", path="dataset.run", code="dataset")


class _RecordedEnv(VectorEnv):
    """Plays recorded episodes whatever it is given, in a few rows, one episode after the other in each."""

    def __init__(self, episodes: Episodes, like: VectorEnv) -> None:
        self.observation_spaces, self.action_spaces = like.observation_spaces, like.action_spaces
        self.agent_counts = like.agent_counts
        self.names, each = list(episodes), list(episodes.values())
        self._episodes = each
        self.n_envs = min(len(each), _MOST_ROWS)
        lengths = [len(episode.rewards) for episode in each]
        starts = np.cumsum([0, *lengths[:-1]])
        rows: list[list[IntArray]] = [[] for _ in range(self.n_envs)]
        filled = [0] * self.n_envs
        for start, length in zip(starts, lengths, strict=True):
            row = filled.index(min(filled))
            rows[row].append(np.arange(start, start + length))
            filled[row] += length
        self.places: IntArray = np.full((max(filled), self.n_envs), -1)
        """``[T, B]``: number of the step, over all episodes, or -1."""
        for b, steps in enumerate(rows):
            self.places[: filled[b], b] = np.concatenate(steps)
        self.episode: IntArray = np.repeat(np.arange(len(each)), lengths)
        """Of every step."""
        self._ends = np.append(self.episode[1:] != self.episode[:-1], True)
        keys = [key for episode in each for key in episode.step_keys]
        self._is_at = {key: np.array([at == key for at in keys]) for key in self.observation_spaces}
        self._row = {key: np.cumsum(is_at) - 1 for key, is_at in self._is_at.items()}
        self._observations = raw_observations(episodes, list(self._is_at))
        self.actions = {key: _joined([x.actions.get(key, {}) for x in each]) for key in self._is_at}
        self._columns = {
            name: np.concatenate([getattr(episode, name) for episode in each])
            for name in ("agent_ids", "flat_steps", "rewards")
        }
        self._t = 0

    def reset(self, seeds: Sequence[int | None], rows: BoolArray | None = None) -> Tick:
        """What the first episodes begin with; it comes once."""
        return self._shown()

    def step(self, actions: Actions) -> Tick:
        """Go on to what was recorded next.

        Raises:
            InvalidSpecificationError: it is given other actions than the recorded ones.
        """
        now = self.places[self._t]
        self._refuse_others(actions)
        self._t += 1
        tick = self._shown()
        is_played = now >= 0
        tick.reward[is_played] = self._columns["rewards"][now[is_played]]
        for b in np.flatnonzero(is_played & self._ends[now]):
            episode = self._episodes[self.episode[now[b]]]
            tick.terminated[b], tick.truncated[b] = episode.terminated, not episode.terminated
            tick.final_active[episode.final_step_key][b] = True
            for name, value in episode.final_observation.items():
                tick.final_observations[episode.final_step_key][name][b] = value
        return tick

    def close(self) -> None:
        """Nothing is held."""

    def active(self, key: StepKey) -> tuple[BoolArray, IntArray]:
        """``[B]``: the rows at this sub-step now, and the places in its arrays of those that are."""
        now = self.places[self._t]
        active: BoolArray = (now >= 0) & self._is_at[key][now]
        return active, self._row[key][now[active]]

    def _shown(self) -> Tick:
        tick = empty_tick(self.observation_spaces, self.n_envs)
        if self._t == len(self.places):
            return tick
        now = self.places[self._t]
        tick.agent_id[...], tick.flat_step[...] = (
            self._columns["agent_ids"][now],
            self._columns["flat_steps"][now],
        )
        for key, shown in tick.observations.items():
            tick.active[key], rows = self.active(key)
            for name, values in shown.items():
                values[tick.active[key]] = self._observations[key][name][rows]
        return tick

    def _refuse_others(self, given: Actions) -> None:
        for key, recorded in self.actions.items():
            active, rows = self.active(key)
            for head, values in recorded.items():
                wanted, got = values[rows], given[key][head][active]
                is_same = np.isclose(got, wanted, rtol=1e-4, atol=1e-4).all(tuple(range(1, wanted.ndim)))
                if not is_same.all():
                    first = int(np.argmin(is_same))
                    name = self.names[self.episode[self.places[self._t, np.flatnonzero(active)[first]]]]
                    changed = f"{head}={wanted[first]}, which comes out of the wrappers as {got[first]}"
                    raise _problem(
                        f"{name} has the action {changed}; train without those that change actions"
                    )


class _Repeating(StepPolicy):
    """The policy of a sub-step whose samples are those that give the recorded actions."""

    def __init__(self, env: _RecordedEnv, key: StepKey, step: StepPolicy, stack: Sequence[Wrapper]) -> None:
        super().__init__(step.heads, step.networks)
        self._env, self._key, self.state_width = env, key, 0
        actions: Action = dict(env.actions[key])
        for wrapper in stack:
            actions = wrapper.reverse_action(key, actions)
        if {head.name for head in step.heads} != set(actions):
            given = ", ".join(env.actions[key])
            raise _problem(f"The wrappers give the policy other actions than {given}; leave them out")
        self._samples = step.as_samples(actions)

    def sample(
        self, observations: Observation, noise: FloatArray | None, agent_id: IntArray | None
    ) -> Action:
        """The samples of this tick, ``[B, ...]`` per head; zeros in rows at other sub-steps."""
        active, rows = self._env.active(self._key)
        spread = {head: np.zeros((len(active), *x.shape[1:]), x.dtype) for head, x in self._samples.items()}
        for head, values in spread.items():
            values[active] = self._samples[head][rows]
        return spread


def _joined(parts: Sequence[Mapping[str, Array]]) -> dict[str, Array]:
    """Name → the arrays of all parts that have any, one after the other."""
    filled = [part for part in parts if part]
    return {name: np.concatenate([part[name] for part in filled]) for name in (filled[0] if filled else {})}
