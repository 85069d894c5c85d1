"""The arrays of a :class:`Tick`, made once and written in place ever after, in memory of one process or of several.

Shared ones, a tick and a set of actions, lie in one anonymous block: a file without a name, known by its descriptor,
so that nothing is left behind when a process is killed. All sides lay it out by the same rule from the same spaces.
"""

import mmap
import os
import tempfile
from collections.abc import Callable, Mapping, Sequence
from dataclasses import fields
from typing import Any, TypeVar

import numpy as np
from gymnasium import spaces

from maze_core.data.flat_space import SpaceReader
from maze_core.data.values import LeafReader
from maze_core.envs.vector import ActorOutcomes, Tick
from maze_core.errors import EnvError, SpaceMismatchError
from maze_core.notices import Notices
from maze_core.types import Actors, Array, Observation, StepKey

TICK_FIELDS = tuple(entry.name for entry in fields(Tick))
_ALIGNMENT = 64
_V = TypeVar("_V")
_NO_ARRAYS = "Name its parts one by one in the observation space."


def empty_batch(space: spaces.Dict, n_envs: int) -> Observation:
    """Zeros for ``n_envs`` values of a flat Dict space: name → ``[n_envs, ...]``.

    Raises:
        EnvError: a leaf is no array space.
    """
    for leaf in space.values():
        if leaf.shape is None:
            raise EnvError(f"A {type(leaf).__name__} is no space of arrays. {_NO_ARRAYS}")
    return {name: np.zeros((n_envs, *(leaf.shape or ())), dtype=leaf.dtype) for name, leaf in space.items()}


def empty_tick(
    observation_spaces: Mapping[StepKey, spaces.Dict],
    n_envs: int,
    actors: Mapping[StepKey, int] | None = None,
) -> Tick:
    """A tick of zeros in which no environment waits for anything yet.

    Args:
        observation_spaces: what is seen, per sub-step.
        n_envs: size of the batch.
        actors: agents per sub-step, where each actor is paid its own; None where a team is.

    Raises:
        EnvError: a leaf is no array space, or nobody knows how many actors are paid.
    """

    def flags() -> np.ndarray[tuple[int], np.dtype[np.bool_]]:
        return np.zeros(n_envs, dtype=np.bool_)

    return Tick(
        observations={key: empty_batch(space, n_envs) for key, space in observation_spaces.items()},
        active={key: flags() for key in observation_spaces},
        agent_id=np.zeros(n_envs, dtype=np.int64),
        reward=np.zeros(n_envs, dtype=np.float64),
        terminated=flags(),
        truncated=flags(),
        final_observations={key: empty_batch(space, n_envs) for key, space in observation_spaces.items()},
        final_active={key: flags() for key in observation_spaces},
        final_agent_id=np.zeros(n_envs, dtype=np.int64),
        flat_step=np.zeros(n_envs, dtype=np.int64),
        episode_return=np.zeros(n_envs, dtype=np.float64),
        episode_length=np.zeros(n_envs, dtype=np.int64),
        actors=None if actors is None else _empty_outcomes(observation_spaces, n_envs, actors),
    )


def _empty_outcomes(
    observation_spaces: Mapping[StepKey, spaces.Dict], n_envs: int, agent_counts: Mapping[StepKey, int]
) -> ActorOutcomes:
    if list(agent_counts) != list(observation_spaces) or min(agent_counts.values()) < 1:
        raise EnvError(
            f"Where each actor is paid its own, agent_counts names the most agents of every sub-step, not "
            f"{dict(agent_counts)}."
        )
    shape = (n_envs, len(Actors(agent_counts)))
    return ActorOutcomes(
        reward=np.zeros(shape, dtype=np.float64),
        terminated=np.zeros(shape, dtype=np.bool_),
        truncated=np.zeros(shape, dtype=np.bool_),
        is_shown=np.zeros(shape, dtype=np.bool_),
        observations={
            key: {
                name: np.zeros((n_envs, agent_counts[key], *array.shape[1:]), array.dtype)
                for name, array in empty_batch(space, 0).items()
            }
            for key, space in observation_spaces.items()
        },
        episode_return=np.zeros(shape, dtype=np.float64),
    )


def map_arrays(arrays: _V, change: Callable[[Array], Any]) -> _V:
    """A tick, or dicts of arrays, of the same structure with ``change(array)`` for every array, in one fixed order."""
    found: Any = arrays
    if isinstance(found, Tick | ActorOutcomes):
        parts = {field.name: map_arrays(getattr(found, field.name), change) for field in fields(found)}
        found = type(found)(**parts)
    elif isinstance(found, Mapping):
        found = {key: map_arrays(inner, change) for key, inner in found.items()}
    elif found is not None:
        found = change(found)
    mapped: _V = found
    return mapped


class ObservationWriter:
    """Writes observations into the arrays of a tick, by the one rule of :mod:`maze_core.data.values`.

    What can be seen in a whole batch at less cost is looked at there: NaN and infinity by :class:`FiniteCheck`,
    declared bounds by :meth:`look`.
    """

    def __init__(self, observation_spaces: Mapping[StepKey, spaces.Dict], tick: Tick) -> None:
        """Write into this tick.

        Raises:
            EnvError: a space has a leaf that is no array space.
        """
        notices = Notices.current()
        try:
            self._readers = {
                key: SpaceReader(space, "observation", notices) for key, space in observation_spaces.items()
            }
        except SpaceMismatchError as error:
            raise EnvError(f"{error} {_NO_ARRAYS}") from error
        self._ends = _Extremes(self._readers, tick.final_observations, are_all_written=False)
        self._shown = _Extremes(self._readers, tick.observations, are_all_written=len(self._readers) == 1)
        self._n_seen = 0

    def write(self, buffers: Observation, step_key: StepKey, row: int, observation: Observation) -> None:
        """Write one observation, name → value in any form, into row ``row`` of a batch.

        Raises:
            EnvError: a name is missing, or a value does not fit its space.
        """
        reader = self._readers[step_key]
        if observation.keys() != buffers.keys():
            if missing := [name for name in buffers if name not in observation]:
                raise EnvError(f"expected the observations {list(buffers)}, {missing[0]!r} is missing")
            reader.say_extra(next(name for name in observation if name not in buffers))
        for name, leaf in reader.leaves.items():
            try:
                buffers[name][row] = leaf.ready(observation[name])
            except SpaceMismatchError as error:
                raise EnvError(reader.refusal(name, error)) from error

    def ready(self, step_key: StepKey, name: str, batch: tuple[int, ...] = ()) -> Callable[[Any], Any]:
        """What makes a value of one leaf, or a batch, ready to be written at once; raises as :meth:`write` does."""
        reader = self._readers[step_key]
        leaf_ready = (LeafReader(reader.space[name], batch=batch) if batch else reader.leaves[name]).ready

        def ready(value: Any) -> Any:
            try:
                return leaf_ready(value)
            except SpaceMismatchError as error:
                raise EnvError(reader.refusal(name, error)) from error

        return ready

    def exact(self, step_key: StepKey, name: str) -> tuple[Any, tuple[int, ...]]:
        """Dtype and shape of arrays that need not be made ready; None for a dtype where all have to."""
        leaf = self._readers[step_key].leaves[name]
        return leaf.exact_dtype, leaf.shape

    def look(self, *, any_ended: bool = False) -> None:
        """Look at what was written; says once per leaf that it oversteps its declared bounds.

        Args:
            any_ended: final observations were written too.
        """
        self._shown.widen()
        if any_ended:
            self._ends.widen()
        self._n_seen += 1
        if self._n_seen < 64 or self._n_seen % 16 == 0:  # judging costs more than widening
            self._shown.judge()
            self._ends.judge()


class _Extremes:
    """The least and largest numbers seen in every place of the arrays whose leaves have bounds."""

    def __init__(
        self,
        readers: Mapping[StepKey, SpaceReader],
        batches: Mapping[StepKey, Observation],
        *,
        are_all_written: bool,
    ) -> None:
        self._are_all_written = are_all_written
        self._watched = [
            (reader, name, batches[key][name], batches[key][name].copy(), batches[key][name].copy())
            for key, reader in readers.items()
            for name, leaf in reader.leaves.items()
            if leaf.is_bounded
        ]
        self._is_fresh = are_all_written

    def widen(self) -> None:
        """Take in what the arrays hold now."""
        for _, _, array, least, largest in self._watched:
            if self._is_fresh:
                least[...] = largest[...] = array
            np.minimum(array, least, out=least)
            np.maximum(array, largest, out=largest)
        self._is_fresh = False

    def judge(self) -> None:
        """Say which leaves overstep their bounds, and watch them no longer."""
        for entry in list(self._watched):
            reader, name, _, *extremes = entry
            for extreme in extremes:
                outside = reader.leaves[name].beyond(extreme)
                if outside is not None and not self._are_all_written:
                    outside &= extreme != 0  # what stands in rows that were never written
                if outside is not None and outside.any():
                    self._watched.remove(entry)
                    reader.say_beyond(name, extreme, outside)
                    break


class FiniteCheck:
    """Finds NaN and infinity in batches of floats at the price of one dot product each."""

    def __init__(self, arrays: Sequence[tuple[str, Array]]) -> None:
        """Watch these arrays, each with what it is; those that are no floats cannot go wrong and are left out."""
        self._watched = [
            (what, array, array.reshape(-1), np.zeros(array.size, dtype=array.dtype))
            for what, array in arrays
            if array.dtype.kind == "f"
        ]

    def bad_row(self) -> tuple[int, str] | None:
        """The first row that holds a number that is not finite, and in what; None where there is none."""
        with np.errstate(invalid="ignore"):
            for what, array, flat, zeros in self._watched:
                # x·0 is 0 for every finite x and NaN otherwise
                if flat.dot(zeros) != 0:
                    finite = np.isfinite(array).reshape(len(array), -1).all(axis=1)
                    return int(np.argmin(finite)), what
        return None


def named_arrays(batches: Mapping[StepKey, Observation], what: str) -> list[tuple[str, Array]]:
    """The arrays of all sub-steps, each as ``what 'name'``."""
    return [(f"{what} {name!r}", array) for batch in batches.values() for name, array in batch.items()]


def anonymous_file() -> int:
    """Descriptor of an empty file without a name."""
    if hasattr(os, "memfd_create"):
        return os.memfd_create("maze-envs")
    with tempfile.TemporaryFile() as file:
        return os.dup(file.fileno())


def share(
    descriptor: int,
    observation_spaces: Mapping[StepKey, spaces.Dict],
    action_spaces: Mapping[StepKey, spaces.Dict],
    n_envs: int,
    rows: slice = slice(None),
    *,
    actors: Mapping[StepKey, int] | None = None,
) -> tuple[Tick, dict[StepKey, Observation]]:
    """Map a tick and the actions of ``n_envs`` environments into the file, which grows to their size.

    Every process that does so sees the same; ``actors`` as of :func:`empty_tick`.

    Returns:
        The tick, and step key → head → ``[B, ...]``; views on ``rows``.
    """
    tick = empty_tick(observation_spaces, n_envs, actors)
    actions = {key: empty_batch(space, n_envs) for key, space in action_spaces.items()}
    sizes: list[int] = []
    for arrays in (tick, actions):
        map_arrays(arrays, lambda array: sizes.append(-(-array.nbytes // _ALIGNMENT) * _ALIGNMENT))
    if os.fstat(descriptor).st_size < sum(sizes):
        os.ftruncate(descriptor, sum(sizes))
    memory, starts = mmap.mmap(descriptor, sum(sizes)), iter(np.cumsum([0, *sizes]).tolist())

    def mapped(array: Array) -> Array:
        return np.ndarray(array.shape, array.dtype, buffer=memory, offset=next(starts))[rows]

    return map_arrays(tick, mapped), map_arrays(actions, mapped)
