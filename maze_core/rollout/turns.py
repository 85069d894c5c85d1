"""Whose turn each tick of a rollout is, and what came of it for that actor, where each actor is paid its own.

Rewards come when they come: with the step itself, when the last of several agents has acted, when an opponent has
answered, or when an agent dies. All that an actor is paid from one turn of its own up to the next belongs to the action
of the first; what it was paid before its first turn belongs to none.
"""

import numpy as np

from maze_core.data.trajectory import FinalObservations, Turns
from maze_core.envs.vector import ActorOutcomes, Tick
from maze_core.types import Actors, FloatArray, StepKey


class TurnKeeper:
    """Follows ``T`` ticks of ``B`` environments; actors are numbered by :class:`~maze_core.types.Actors`."""

    def __init__(self, actors: Actors, n_steps: int, n_envs: int) -> None:
        self._actors = actors
        ticks, all_of_it = (n_steps, n_envs), (n_envs, len(actors))
        self.reward: FloatArray = np.zeros(ticks, np.float32)
        """``[T, B]``: what came of the action, as far as it came yet."""
        self.turns = Turns(
            n_actors=len(actors),
            actor=np.zeros((n_steps + 1, n_envs), np.int64),
            turn=np.zeros((n_steps + 1, n_envs), np.int64),
            terminated=np.zeros(ticks, np.bool_),
            truncated=np.zeros(ticks, np.bool_),
            passed=np.ones(ticks, np.int64),
            is_known=np.zeros(ticks, np.bool_),
        )
        self._b = np.arange(n_envs)
        self._n_turns = np.zeros(all_of_it, np.int64)
        self._last = np.full(all_of_it, -1)
        """Tick of each actor's last turn; -1 where it had none, or its part is over."""
        self._flat_step = np.zeros(ticks, np.int64)

    def begin(self, t: int, tick: Tick) -> None:
        """It is the turn of those whom the tick before step ``t`` shows; ``T`` is after the last step."""
        number = tick.agent_id.copy()
        for key, active in tick.active.items():
            number[active] += self._actors.first[key]
        turns, place = self.turns, (self._b, number)
        turns.actor[t], turns.turn[t] = number, self._n_turns[place]
        if t < len(self._flat_step):
            self._flat_step[t] = tick.flat_step
        self._n_turns[place] += 1
        last = self._last[place]
        had = last >= 0
        turns.is_known[last[had], self._b[had]] = True
        self._last[place] = t

    def end(self, tick: Tick, outcomes: ActorOutcomes) -> dict[StepKey, FinalObservations]:
        """Take in what a step brought; what those saw last whose part was cut, at the tick of their last turn."""
        b, number = np.nonzero(outcomes.reward)
        t = self._last[b, number]
        had = t >= 0
        self.reward[t[had], b[had]] += outcomes.reward[b[had], number[had]]
        b, number = np.nonzero(outcomes.ended & (self._last >= 0))
        if not b.size:
            return {}
        t, turns = self._last[b, number], self.turns
        turns.terminated[t, b] = is_terminal = outcomes.terminated[b, number]
        turns.truncated[t, b] = ~is_terminal
        now = np.where(tick.ended, tick.episode_length, tick.flat_step)
        turns.passed[t, b] = np.maximum(now[b] - self._flat_step[t, b], 1)
        is_shown = outcomes.is_shown[b, number] & ~is_terminal
        turns.is_known[t, b] = is_terminal | is_shown
        self._last[b, number] = -1
        return self._cut(outcomes, *(each[is_shown] for each in (t, b, number)))

    def _cut(
        self, outcomes: ActorOutcomes, *places: "np.ndarray[tuple[int], np.dtype[np.int64]]"
    ) -> dict[StepKey, FinalObservations]:
        found = {}
        for key, batch in outcomes.observations.items():
            first, n_agents = self._actors.first[key], next(iter(batch.values())).shape[1]
            t, b, number = (each[(places[2] >= first) & (places[2] < first + n_agents)] for each in places)
            if t.size:
                seen = {name: array[b, number - first] for name, array in batch.items()}
                found[key] = FinalObservations(t=t, b=b, agent_id=number - first, observations=seen)
        return found
