"""Arrays that several processes see: one tick and one set of actions in one anonymous block of memory.

The block is a file without a name, known by its descriptor, so that nothing is left behind when a process is
killed. Both sides lay it out by the same rule from the same spaces.
"""

import mmap
import os
import tempfile
from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
from gymnasium import spaces

from maze_core.envs.tick_buffers import empty_batch, empty_tick, map_tick
from maze_core.envs.vector import Tick
from maze_core.types import Array, Observation, StepKey

_ALIGNMENT = 64


@dataclass(frozen=True)
class SharedArrays:
    """A tick and the actions of ``n_envs`` environments in shared memory."""

    tick: Tick
    actions: dict[StepKey, Observation]
    """step key → head → ``[B, ...]``."""

    def rows(self, first: int, end: int) -> "SharedArrays":
        """Views on the environments from ``first`` up to, not including, ``end``."""
        actions = {
            key: {head: values[first:end] for head, values in batch.items()}
            for key, batch in self.actions.items()
        }
        return SharedArrays(map_tick(self.tick, lambda array: array[first:end]), actions)


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
) -> SharedArrays:
    """Map the arrays into the file, which grows to their size; every process that does so sees the same."""
    tick = empty_tick(observation_spaces, n_envs)
    actions = {key: empty_batch(space, n_envs) for key, space in action_spaces.items()}
    size = 0

    def place(array: Array) -> int:
        nonlocal size
        start = size
        size += -(-array.nbytes // _ALIGNMENT) * _ALIGNMENT
        return start

    starts: list[int] = []
    map_tick(tick, lambda array: starts.append(place(array)))
    starts.extend(place(values) for batch in actions.values() for values in batch.values())
    if os.fstat(descriptor).st_size < size:
        os.ftruncate(descriptor, size)
    memory, remaining = mmap.mmap(descriptor, size), iter(starts)

    def mapped(array: Array) -> Array:
        return np.ndarray(array.shape, array.dtype, buffer=memory, offset=next(remaining))

    return SharedArrays(
        map_tick(tick, mapped),
        {key: {head: mapped(values) for head, values in batch.items()} for key, batch in actions.items()},
    )
