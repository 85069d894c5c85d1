"""Prioritized replay: what surprised more is drawn more often (Schaul et al. 2016, arXiv:1511.05952)."""

from collections.abc import Mapping

import numpy as np

from maze_core.data.replay import Replay, Transitions
from maze_core.types import Array, FloatArray, IntArray, NamedArrays

LEAST_PRIORITY = 1e-6
"""Added to every error, so that none is never drawn again."""


class PrioritizedReplay(Replay):
    """The last transitions, drawn in proportion to |error|^α; a new one counts as much as the largest ever seen.

    Args:
        capacity: see :class:`Replay`.
        gamma: see :class:`Replay`.
        n_steps: see :class:`Replay`.
        alpha: α in [0, 1]; 0 draws all alike.
    """

    def __init__(self, capacity: int, *, gamma: float, n_steps: int = 1, alpha: float) -> None:
        super().__init__(capacity, gamma=gamma, n_steps=n_steps)
        self.alpha = alpha
        self.beta = 0.0
        """How far weights make up for it, in [0, 1]; whoever learns raises it to 1."""
        self._largest = 1.0
        self._tree = SumTree(1)

    def sample(self, n: int, rng: np.random.Generator) -> Transitions:
        """Draw ``n`` transitions, one of each n-th of all priority; weights are (least chance / chance)^β."""
        total = self._tree.total
        rows = self._tree.find((np.arange(n) + rng.random(n)) * (total / n)).clip(max=len(self) - 1)
        priorities = self._tree.priorities(rows)
        weights = (priorities.min() / priorities) ** self.beta
        return self._transitions(rows, weights.astype(np.float32))

    def note_errors(self, rows: IntArray, errors: FloatArray) -> None:
        """What the error of transitions ``[N]`` was when they were learnt from."""
        sizes = np.abs(errors) + LEAST_PRIORITY
        self._largest = max(self._largest, float(sizes.max()))
        self._tree.set(rows, sizes.astype(np.float64) ** self.alpha)

    def _write(self, ticks: Mapping[str, Array]) -> None:
        super()._write(ticks)
        size, end = self.n_ticks * self.n_envs, self.n_added * self.n_envs
        if self._tree.size < size:
            self._tree = SumTree(size)
        rows = np.arange(end - min(ticks["reward"].size, size), end) % size
        self._tree.set(rows, np.full(len(rows), self._largest**self.alpha))

    def state_dict(self) -> dict[str, Array]:
        """Copies of all transitions and their priorities."""
        priorities = self._tree.priorities(np.arange(len(self)))
        return super().state_dict() | {"priorities": priorities, "largest": np.array(self._largest)}

    def load_state_dict(self, state: NamedArrays) -> None:
        """Go back to a state written by :meth:`state_dict`."""
        own = ("priorities", "largest")
        super().load_state_dict({name: array for name, array in state.items() if name not in own})
        self._tree.set(np.arange(len(self)), state["priorities"])
        self._largest = float(state["largest"])


class SumTree:
    """Numbers ≥ 0, and the sums of pairs, of pairs of pairs and so on, up to that of all.

    Args:
        size: how many numbers; they are 0 at first.
    """

    def __init__(self, size: int) -> None:
        self.size = size
        self._first = 1 << (size - 1).bit_length()
        """Node 1 is the sum of all; below node i are 2 i and 2 i + 1; the numbers begin here."""
        self._sums = np.zeros(2 * self._first)

    @property
    def total(self) -> float:
        """The sum of all."""
        return float(self._sums[1])

    def priorities(self, rows: IntArray) -> FloatArray:
        """The numbers at these places ``[N]``."""
        found: FloatArray = self._sums[self._first + rows]
        return found

    def set(self, rows: IntArray, numbers: FloatArray) -> None:
        """Change the numbers at these places ``[N]``; of several for one place, the last counts."""
        nodes = self._first + rows
        self._sums[nodes] = numbers
        while nodes.size and nodes[0] > 1:
            nodes = np.unique(nodes >> 1)
            self._sums[nodes] = self._sums[2 * nodes] + self._sums[2 * nodes + 1]

    def find(self, sums: FloatArray) -> IntArray:
        """For each of ``[N]`` numbers in [0, total): the first place up to which the numbers add up to more."""
        nodes, rest = np.ones(len(sums), np.int64), sums.astype(np.float64)
        while nodes.size and nodes[0] < self._first:
            nodes = 2 * nodes
            left = self._sums[nodes]
            goes_right = rest >= left
            rest -= left * goes_right
            nodes += goes_right
        return nodes - self._first
