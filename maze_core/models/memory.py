"""What networks with a state carry: per environment, sub-step and agent a row of numbers, zeros as an episode begins.

A network with a state reads it as one more observation, ``"state"`` ``[B, state_width]``, and gives the next one behind
its other outputs, ``state_width`` columns more. An LSTM has h and c side by side there.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Final

import numpy as np

from maze_core.types import Action, ActorID, Array, BoolArray, FloatArray, IntArray, Observation, StepKey

STATE: Final = "state"
"""Name by which a network reads its state, and by which the next one stands beside a policy's actions."""
BEGINS: Final = "begins"
"""Name by which a network that reads whole sequences finds where episodes begin."""


def parted(output: FloatArray, width: int) -> tuple[FloatArray, FloatArray]:
    """The outputs of a network and its next states, of both side by side; NaN where the outputs are no numbers."""
    logits, states = output[:, :-width], output[:, -width:]
    is_sound: BoolArray = np.logical_and.reduce(logits < np.inf, axis=1)
    return logits, states if is_sound.all() else np.where(is_sound[:, None], states, np.float32(np.nan))


class Memory:
    """The states of one network, or one for each sub-step, in ``n_envs`` environments."""

    def __init__(self, widths: Mapping[StepKey, int], n_envs: int) -> None:
        """Take the width of the state at every sub-step; 0 carries nothing."""
        self.widths = {key: width for key, width in widths.items() if width}
        self._n_envs = n_envs
        self._states: dict[tuple[StepKey, int], FloatArray] = {}

    def __bool__(self) -> bool:
        """Whether anything is carried at all."""
        return bool(self.widths)

    def forget(self, rows: BoolArray | Sequence[int]) -> None:
        """Begin an episode in these environments."""
        for states in self._states.values():
            states[rows] = 0.0

    def forget_parts(self, over: BoolArray, numbers: Mapping[ActorID, int]) -> None:
        """Begin anew for actors whose part in an episode is over, should they come back.

        Args:
            over: ``[n_envs, A]``.
            numbers: actor → its column.
        """
        for actor, number in numbers.items():
            if actor in self._states:
                self._states[actor][over[:, number]] = 0.0

    def forget_all(self) -> None:
        """Begin an episode everywhere."""
        self._states.clear()

    def of(self, key: StepKey, agent_id: IntArray, rows: IntArray) -> FloatArray:
        """States ``[n, state_width]`` of those who act at a sub-step in these environments, copied."""
        found = np.empty((len(rows), self.widths[key]), np.float32)
        for agent, chosen in _each(agent_id):
            found[chosen] = self._row(key, agent)[rows[chosen]]
        return found

    def keep(self, key: StepKey, agent_id: IntArray, rows: IntArray, states: Array) -> None:
        """Carry these states from now on; arguments as of :meth:`of`."""
        for agent, chosen in _each(agent_id):
            self._row(key, agent)[rows[chosen]] = states[chosen]

    def act(
        self,
        key: StepKey,
        observations: Observation,
        agent_id: IntArray,
        rows: IntArray,
        act: Callable[[Observation], Action],
    ) -> Action:
        """What ``act`` gives for observations ``[n, …]`` of these environments, whose states go on.

        Args:
            key: the sub-step.
            observations: name → ``[n, …]``.
            agent_id: ``[n]``, who acts.
            rows: ``[n]``, the environments.
            act: reads the state among the observations, and gives the next one among its results.
        """
        if key not in self.widths:
            return act(observations)
        given = act({**observations, STATE: self.of(key, agent_id, rows)})
        self.keep(key, agent_id, rows, given.pop(STATE))
        return given

    def _row(self, key: StepKey, agent: int) -> FloatArray:
        """``[n_envs, state_width]`` of an agent, who may be met for the first time."""
        if (key, agent) not in self._states:
            self._states[key, agent] = np.zeros((self._n_envs, self.widths[key]), np.float32)
        return self._states[key, agent]


def _each(agent_id: IntArray) -> list[tuple[int, Array]]:
    """Every agent among ``[n]``, and its places."""
    return [(agent, np.flatnonzero(agent_id == agent)) for agent in np.unique(agent_id).tolist()]


@dataclass(frozen=True, slots=True)
class Sequences:
    """In which order rows ``[N, …]`` were seen, each sequence by one agent in one environment."""

    rows: IntArray
    """``[T, S]``: numbers of rows, each row once; -1 behind the end of a sequence that is shorter."""
    begins: BoolArray
    """``[T, S]``: an episode begins here, so that the state is zeros."""

    @classmethod
    def of(
        cls,
        active: BoolArray,
        agent_id: IntArray,
        ended: BoolArray,
        length: int | None,
        parts_ended: BoolArray | None = None,
    ) -> "Sequences":
        """The sequences of a rollout, whose rows are numbered tick by tick.

        Args:
            active: ``[T, B]``, who acted; each is a row.
            agent_id: ``[T, B]``.
            ended: ``[T, B]``: the episode ended with this tick.
            length: rows after which a sequence is cut; None is the whole rollout.
            parts_ended: ``[T, B]``: it was the actor's last one before its part was over; None where none is.
        """
        t, b = np.nonzero(active)
        agent = agent_id[t, b]
        episode: IntArray = (np.cumsum(ended, 0) - ended)[t, b]
        order = np.lexsort((t, agent, b))
        who: IntArray = np.stack((b, agent))[:, order]
        n_ends: IntArray = episode[order]
        is_first = np.append(True, (who[:, 1:] != who[:, :-1]).any(0))
        begins = np.where(is_first, n_ends > 0, np.append(True, n_ends[1:] != n_ends[:-1]))
        if parts_ended is not None:
            is_over = parts_ended[t, b][order]
            begins[1:] |= is_over[:-1] & ~is_first[1:]
        starts = np.flatnonzero(is_first)
        place = np.arange(len(t)) - np.repeat(starts, np.diff(np.append(starts, len(t))))
        if length is not None:
            is_first, place = place % length == 0, place % length
        return cls._laid_out(is_first, place, order, begins)

    @classmethod
    def _laid_out(cls, is_first: Array, place: Array, rows: Array, begins: Array) -> "Sequences":
        """Rows in order of sequence and time, of which some are the first of theirs, at their places within it."""
        number = np.cumsum(is_first) - 1
        found = np.full((place.max() + 1, number[-1] + 1), -1)
        begin = np.zeros(found.shape, np.bool_)
        found[place, number], begin[place, number] = rows, begins
        return cls(found, begin)

    @property
    def lengths(self) -> IntArray:
        """Rows of each sequence, ``[S]``."""
        lengths: IntArray = (self.rows >= 0).sum(0)
        return lengths

    def take(self, chosen: IntArray) -> "tuple[IntArray, Sequences]":
        """Some sequences: the numbers of their rows, and the sequences of these rows alone."""
        rows, begins = self.rows[:, chosen], self.begins[:, chosen]
        n_ticks = np.count_nonzero((rows >= 0).any(1))
        rows, begins = rows[:n_ticks], begins[:n_ticks]
        is_row = rows >= 0
        renumbered = np.full(rows.shape, -1)
        renumbered[is_row] = np.arange(np.count_nonzero(is_row))
        return rows[is_row], Sequences(renumbered, begins)

    def of_rows(self, chosen: IntArray) -> "Sequences":
        """The sequences of some rows, numbered anew in their order; behind one that is left out a new one begins."""
        numbers = np.full(np.count_nonzero(self.rows >= 0) + 1, -1)  # the last one is for what is no row
        numbers[chosen] = np.arange(len(chosen))
        rows = numbers[self.rows]
        s, t = np.nonzero(rows.T >= 0)
        is_first = (t == 0) | (rows[t - 1, s] < 0)
        place = t - t[is_first][np.cumsum(is_first) - 1]
        return self._laid_out(is_first, place, rows[t, s], self.begins[t, s])

    def places(self) -> IntArray:
        """Where each row stands in ``[T * S]``, ``[N]``."""
        flat = self.rows.reshape(-1)
        places = np.flatnonzero(flat >= 0)
        return places[np.argsort(flat[places])]
