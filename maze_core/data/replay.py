"""Replay: the last transitions of training, from which off-policy algorithms draw.

Memory is a ring of ticks, ``[K, B, …]`` per array: K ticks of B environments. What follows a transition is kept beside
it, so that one that a limit cut has its own final observation. Returns over several steps are put together where they
are drawn, from the ticks that follow: the ring holds rewards as they came.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Final

import numpy as np

from maze_core.data.trajectory import Rollout
from maze_core.types import Array, FloatArray, IntArray, NamedArrays, StepKey

CHUNK_ROWS: Final = 4096
"""Transitions of one array of a checkpoint, about; a full one that did not change is stored once."""


@dataclass(slots=True)
class Transitions:
    """``N`` transitions over one step, or over several with their rewards added up."""

    observations: dict[str, Array]
    """name → ``[N, …]``: where it began."""
    actions: dict[str, Array]
    """head → ``[N, …]``: the policy's sample there."""
    returns: FloatArray
    """``[N]`` float32: Σ γᵏ r over the steps."""
    discounts: FloatArray
    """``[N]`` float32: weight of the value of what follows: γⁿ, and 0 after a terminal state."""
    next_observations: dict[str, Array]
    """name → ``[N, …]``: where it led to."""
    weights: FloatArray
    """``[N]`` float32 in (0, 1]: of each in the loss; 1 where all are drawn alike."""
    rows: IntArray
    """``[N]``: their places in memory."""


class Replay:
    """The last transitions, drawn alike.

    Args:
        capacity: transitions over all environments, rounded down to whole ticks; one tick at least.
        gamma: discount per step, in [0, 1].
        n_steps: steps of one return, at least 1; fewer where an episode or what is known ends.
    """

    def __init__(self, capacity: int, *, gamma: float, n_steps: int = 1) -> None:
        self.capacity, self.gamma, self.n_steps = capacity, gamma, n_steps
        self.n_added = 0
        """Ticks ever added; the next one lies at ``n_added % n_ticks``."""
        self.n_envs = 1
        """B."""
        self.n_ticks = max(1, capacity)
        """K."""
        self._arrays: dict[str, Array] = {}
        self._flat: dict[str, dict[str, Array]] = {}
        """Group → name → the same arrays as rows ``[K · B, …]``."""

    def __len__(self) -> int:
        """Transitions that can be drawn."""
        return min(self.n_added, self.n_ticks) * self.n_envs

    def add(self, rollout: Rollout, key: StepKey) -> None:
        """Append the ticks of a rollout of one sub-step; the oldest ones go."""
        record = rollout.steps[key]
        after = {
            name: np.concatenate((array[1:], rollout.last_observations[key][name][None]), dtype=array.dtype)
            for name, array in record.observations.items()
        }
        if key in rollout.final:
            final = rollout.final[key]
            for name, array in after.items():
                array[final.t, final.b] = final.observations[name]
        self._write(
            {
                **_named("observations", record.observations),
                **_named("actions", record.actions),
                **_named("next_observations", after),
                "reward": rollout.reward,
                "terminated": rollout.terminated,
                "ended": rollout.terminated | rollout.truncated,
            }
        )

    def sample(self, n: int, rng: np.random.Generator) -> Transitions:
        """Draw ``n`` transitions with replacement; there must be one at least."""
        rows = rng.integers(len(self), size=n)
        return self._transitions(rows, np.ones(n, np.float32))

    def _write(self, ticks: Mapping[str, Array]) -> None:
        """Append ticks ``[n, B, …]``."""
        n = len(ticks["reward"])
        if not self._arrays:
            self._allocate(ticks)
        kept = min(n, self.n_ticks)  # of a longer rollout, the newest
        first = (self.n_added + n - kept) % self.n_ticks
        is_whole = first + kept <= self.n_ticks
        at = slice(first, first + kept) if is_whole else np.arange(first, first + kept) % self.n_ticks
        for name, array in self._arrays.items():
            array[at] = ticks[name][n - kept :]
        self.n_added += n

    def _allocate(self, ticks: Mapping[str, Array]) -> None:
        self.n_envs = ticks["reward"].shape[1]
        self.n_ticks = max(1, self.capacity // self.n_envs)
        self._arrays = {name: np.zeros((self.n_ticks, *x.shape[1:]), x.dtype) for name, x in ticks.items()}
        for name, array in self._arrays.items():
            group, _, own = name.partition("/")
            self._flat.setdefault(group, {})[own] = array.reshape(-1, *array.shape[2:])

    def _transitions(self, rows: IntArray, weights: FloatArray) -> Transitions:
        reward, ended, terminated = (self._flat[name][""] for name in ("reward", "ended", "terminated"))
        gamma, newest = np.float32(self.gamma), (self.n_added - 1) % self.n_ticks
        last, goes_on, returns, discounts = rows, np.True_, reward.take(rows), np.array(gamma)
        for k in range(1, self.n_steps):
            goes_on = goes_on & ~ended.take(last) & (last // self.n_envs != newest)
            last = np.where(goes_on, (rows + k * self.n_envs) % len(reward), last)
            returns += goes_on * discounts * reward.take(last)
            discounts = np.where(goes_on, discounts * gamma, discounts)
        return Transitions(
            observations=self._taken("observations", rows),
            actions=self._taken("actions", rows),
            returns=returns,
            discounts=discounts * ~terminated.take(last),
            next_observations=self._taken("next_observations", last),
            weights=weights,
            rows=rows,
        )

    def _taken(self, group: str, rows: IntArray) -> dict[str, Array]:
        return {name: array.take(rows, 0) for name, array in self._flat[group].items()}

    def cut(self) -> None:
        """The environments were reset in between: what comes next does not follow what was added last."""
        if self._arrays:
            self._arrays["ended"][(self.n_added - 1) % self.n_ticks] = True

    def state_dict(self) -> dict[str, Array]:
        """Copies of all transitions, in chunks; a full chunk is the same array until it is written over."""
        filled, size = min(self.n_added, self.n_ticks), self._chunk_ticks
        return {"n_added": np.array(self.n_added)} | {
            f"{start // size:06d}/{name}": array[start : min(start + size, filled)].copy()
            for name, array in self._arrays.items()
            for start in range(0, filled, size)
        }

    def load_state_dict(self, state: NamedArrays) -> None:
        """Go back to a state written by :meth:`state_dict`."""
        self.n_added, self._arrays, self._flat = 0, {}, {}
        chunks: dict[str, list[Array]] = {}
        for place in sorted(name for name in state if name != "n_added"):
            chunks.setdefault(place.partition("/")[2], []).append(state[place])
        if chunks:
            self._write({name: np.concatenate(parts) for name, parts in chunks.items()})
        self.n_added = int(state["n_added"])

    @property
    def _chunk_ticks(self) -> int:
        return max(1, CHUNK_ROWS // self.n_envs)


class ReplayWithDemonstrations(Replay):
    """A memory with demonstrations beside it, of which every batch has a share; they are never written over.

    Ball et al. 2023, arXiv:2302.02948, section 4.1; Vecerik et al. 2017, arXiv:1707.08817, section 3.

    Args:
        given: the demonstrations; rows that were not active are no transitions.
        key: the sub-step.
        share: part of each batch that is drawn from them, in [0, 1].
        capacity: as of :class:`Replay`, of what is added.
        gamma: as there.
        n_steps: as there.
    """

    def __init__(
        self, given: Rollout, key: StepKey, *, share: float, capacity: int, gamma: float, n_steps: int
    ) -> None:
        super().__init__(capacity, gamma=gamma, n_steps=n_steps)
        active = given.steps[key].active
        self._given = Replay(active.size, gamma=gamma, n_steps=n_steps)
        self._given.add(given, key)
        self._rows = np.flatnonzero(active)
        self._share = share

    def sample(self, n: int, rng: np.random.Generator) -> Transitions:
        """Draw ``n`` transitions with replacement, the demonstrations first."""
        n_given = round(self._share * n)
        rows = self._rows[rng.integers(len(self._rows), size=n_given)]
        given, own = (
            self._given._transitions(rows, np.ones(n_given, np.float32)),
            super().sample(n - n_given, rng),
        )

        def both(first: NamedArrays, second: NamedArrays) -> dict[str, Array]:
            return {name: np.concatenate((array, second[name])) for name, array in first.items()}

        return Transitions(
            observations=both(given.observations, own.observations),
            actions=both(given.actions, own.actions),
            returns=np.concatenate((given.returns, own.returns)),
            discounts=np.concatenate((given.discounts, own.discounts)),
            next_observations=both(given.next_observations, own.next_observations),
            weights=np.concatenate((given.weights, own.weights)),
            rows=np.concatenate((given.rows, own.rows)),
        )


def _named(group: str, arrays: NamedArrays) -> dict[str, Array]:
    return {f"{group}/{name}": array for name, array in arrays.items()}
