"""The arrays of a :class:`Tick`, made once and written in place ever after."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import fields
from typing import Any, TypeVar

import numpy as np
from gymnasium import spaces

from maze_core.envs.vector import Tick
from maze_core.errors import EnvError
from maze_core.types import Array, Observation, StepKey

_TICK_FIELDS = tuple(entry.name for entry in fields(Tick))
_K = TypeVar("_K")
ArrayChange = Callable[[Array], Any]


def empty_batch(space: spaces.Dict, n_envs: int) -> Observation:
    """Zeros for ``n_envs`` values of a flat Dict space: name → ``[n_envs, ...]``."""
    return {name: np.zeros((n_envs, *leaf_shape(leaf)), dtype=leaf.dtype) for name, leaf in space.items()}


def leaf_shape(leaf: spaces.Space[object]) -> tuple[int, ...]:
    """Shape of one value of a leaf space; ``()`` for Discrete.

    Raises:
        EnvError: the space is no array space.
    """
    if leaf.shape is None:
        raise EnvError(f"{type(leaf).__name__} is not a space of arrays.")
    return leaf.shape


def empty_tick(observation_spaces: Mapping[StepKey, spaces.Dict], n_envs: int) -> Tick:
    """A tick of zeros in which no environment waits for anything yet."""

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
        flat_step=np.zeros(n_envs, dtype=np.int64),
        episode_return=np.zeros(n_envs, dtype=np.float64),
        episode_length=np.zeros(n_envs, dtype=np.int64),
    )


def tick_fields() -> tuple[str, ...]:
    """Names of the fields of a tick."""
    return _TICK_FIELDS


def map_tick(tick: Tick, change: ArrayChange) -> Tick:
    """A tick of the same structure with ``change(array)`` for every array, in one fixed order."""

    def each(arrays: dict[_K, Any]) -> dict[_K, Any]:
        return {key: change(array) for key, array in arrays.items()}

    return Tick(
        observations={key: each(batch) for key, batch in tick.observations.items()},
        active=each(tick.active),
        agent_id=change(tick.agent_id),
        reward=change(tick.reward),
        terminated=change(tick.terminated),
        truncated=change(tick.truncated),
        final_observations={key: each(batch) for key, batch in tick.final_observations.items()},
        final_active=each(tick.final_active),
        flat_step=change(tick.flat_step),
        episode_return=change(tick.episode_return),
        episode_length=change(tick.episode_length),
    )


def copy_tick(tick: Tick) -> Tick:
    """A tick with arrays of its own, for whoever keeps it beyond the next call."""
    return map_tick(tick, lambda array: array.copy())


def write_row(buffers: Observation, row: int, observation: Observation) -> None:
    """Write one observation into a batch, refusing what would be broadcast or left out.

    Raises:
        EnvError: names or shapes are not those of the space.
    """
    if observation.keys() != buffers.keys():
        raise EnvError(f"expected the observations {sorted(buffers)}, got {sorted(observation)}")
    for name, buffer in buffers.items():
        value = np.asarray(observation[name])
        if value.shape != buffer.shape[1:]:
            raise EnvError(f"observation {name!r} has shape {value.shape}, its space {buffer.shape[1:]}")
        buffer[row] = value


class FiniteCheck:
    """Finds NaN and infinity in batches of floats at the price of one dot product each."""

    def __init__(self, arrays: Sequence[Array]) -> None:
        """Watch these arrays; those that are no floats cannot go wrong and are left out."""
        self._watched = [
            (array, array.reshape(-1), np.zeros(array.size, dtype=array.dtype))
            for array in arrays
            if array.dtype.kind == "f"
        ]

    def bad_row(self) -> int | None:
        """Index of the first row that holds a number that is not finite, or None."""
        with np.errstate(invalid="ignore"):
            for array, flat, zeros in self._watched:
                # x·0 is 0 for every finite x and NaN otherwise
                if flat.dot(zeros) != 0:
                    finite = np.isfinite(array).reshape(len(array), -1).all(axis=1)
                    return int(np.argmin(finite))
        return None
