"""What a session does, kept as an episode of the kind that rollouts record."""

import math
from collections import Counter
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from maze_core.data.flat_space import SpaceReader, form_of, is_flat
from maze_core.rollout.recording import Trajectory, trajectory_from_bytes, trajectory_to_bytes
from maze_core.types import JSON, ActorID, Array, StepKey

if TYPE_CHECKING:
    from maze_core.agent import Agent

Leaves = Mapping[str, Array]


class EpisodeRecorder:
    """Gathers one episode, or a part of a long one, step by step.

    Environment time goes on whenever an actor acts that has acted since it last went on.
    """

    def __init__(self, agent: "Agent", first_seq: int = 0) -> None:
        """Begin with the step of this number."""
        self.first_seq = first_seq
        self.n_bytes = 0
        """Of the observations so far."""
        self._actions = {key: SpaceReader(space, "action") for key, space in agent.action_spaces.items()}
        spaces = {key: (agent.observation_spaces[key], done) for key, done in agent.action_spaces.items()}
        self._forms = {
            key: (form_of(seen), form_of(done))
            for key, (seen, done) in spaces.items()
            if not (is_flat(seen) and is_flat(done))
        }
        self._actors: list[ActorID] = []
        self._times: list[int] = []
        self._acted: set[ActorID] = set()
        self._rewards: list[float] = []
        """NaN where nothing was said."""
        self._seen: dict[StepKey, list[Leaves]] = {}
        self._done: dict[StepKey, list[Leaves]] = {}

    def __len__(self) -> int:
        """Steps so far."""
        return len(self._actors)

    def act(self, actor: ActorID, observation: Leaves, action: JSON) -> None:
        """Keep one step; ``action`` is as the environment takes it."""
        self._add(actor, observation, self._actions[actor.step_key].read(action))

    def pay(self, seq: int, reward: float) -> float | None:
        """Say what came of a step, in place of what was said before.

        Returns:
            What was said before, NaN where nothing was; None where the step is not kept here.
        """
        at = seq - self.first_seq
        if not 0 <= at < len(self):
            return None
        before, self._rewards[at] = self._rewards[at], reward
        return before

    def finish(
        self, final: tuple[StepKey, Leaves] | None, *, terminated: bool, truncated: bool
    ) -> Trajectory | None:
        """The episode so far; None where there is nothing of it.

        Without a ``final`` observation the last one is that, and what was done then is left out.
        """
        n_steps = len(self)
        if final is None and n_steps:
            n_steps -= 1
            key = self._actors[-1].step_key
            final = key, self._seen[key][-1]
        if not final or not n_steps:
            return None
        episode = self._trajectory(n_steps, final, terminated, truncated)
        np.nan_to_num(episode.rewards, copy=False)
        return episode

    def dump(self) -> bytes:
        """The steps so far, for :meth:`restore`."""
        last = self._actors[-1].step_key
        whole = self._trajectory(len(self), (last, self._seen[last][-1]), False, False)
        return trajectory_to_bytes(whole)

    def restore(self, data: bytes) -> None:
        """Go on after the steps of :meth:`dump`."""
        kept = trajectory_from_bytes(data)
        at = dict.fromkeys(kept.observations, 0)
        for i, key in enumerate(kept.step_keys):
            row, at[key] = at[key], at[key] + 1
            seen, done = (
                {name: values[row] for name, values in part[key].items()}
                for part in (kept.observations, kept.actions)
            )
            self._add(ActorID(key, int(kept.agent_ids[i])), seen, done)
            self._rewards[-1] = float(kept.rewards[i])

    def _add(self, actor: ActorID, seen: Leaves, done: Leaves) -> None:
        now = self._times[-1] if self._times else 0
        if actor in self._acted:
            self._acted.clear()
            now += 1
        self._acted.add(actor)
        self._actors.append(actor)
        self._times.append(now)
        self._rewards.append(math.nan)
        self._seen.setdefault(actor.step_key, []).append(seen)
        self._done.setdefault(actor.step_key, []).append(done)
        self.n_bytes += sum(value.nbytes for value in seen.values())

    def _trajectory(
        self, n_steps: int, final: tuple[StepKey, Leaves], terminated: bool, truncated: bool
    ) -> Trajectory:
        actors = self._actors[:n_steps]
        counts = Counter(actor.step_key for actor in actors)
        return Trajectory(
            step_keys=[actor.step_key for actor in actors],
            agent_ids=np.array([actor.agent_id for actor in actors], np.int64),
            flat_steps=np.array(self._times[:n_steps], np.int64),
            rewards=np.array(self._rewards[:n_steps], np.float64),
            observations={key: _stacked(self._seen[key][:n]) for key, n in counts.items()},
            actions={key: _stacked(self._done[key][:n]) for key, n in counts.items()},
            final_step_key=final[0],
            final_observation=dict(final[1]),
            terminated=terminated,
            truncated=truncated,
            forms=self._forms,
        )


def _stacked(rows: Sequence[Leaves]) -> dict[str, Any]:
    return {name: np.stack([row[name] for row in rows]) for name in rows[0]}
