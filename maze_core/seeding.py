"""One run seed, many independent streams: every random number of a run has a name.

A stream is ``SeedSequence(base_seed, spawn_key=(stream, *indices))``, so that adding a stream or drawing more
from one never shifts another, and nothing touches the process-wide generators. Seeds are below 2³².
"""

import random
import secrets
import sys
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from contextvars import ContextVar
from enum import IntEnum
from typing import Any, overload

import numpy as np

SEED_LIMIT = 2**32


class Stream(IntEnum):
    """The named streams; a number is never used for another purpose."""

    WEIGHTS = 0
    ACTIONS = 1
    MINIBATCHES = 2
    TRAIN_ENV = 3
    EVAL_ENV = 4
    NORMALIZATION = 5
    ROLLOUT = 6
    SEARCH = 7
    PERTURBATIONS = 8


def draw_seed() -> int:
    """A fresh seed from the operating system, in [0, 2³²)."""
    return secrets.randbelow(SEED_LIMIT)


def sequence(base_seed: int, stream: Stream, *indices: int) -> np.random.SeedSequence:
    """The seed sequence of one stream (numpy's ``spawn_key`` mechanism)."""
    return np.random.SeedSequence(base_seed, spawn_key=(int(stream), *indices))


def generator(base_seed: int, stream: Stream, *indices: int) -> np.random.Generator:
    """A generator that owns one stream."""
    return np.random.default_rng(sequence(base_seed, stream, *indices))


def derived_seed(base_seed: int, stream: Stream, *indices: int) -> int:
    """One seed below 2³² out of a stream, for libraries that want a number."""
    return int(sequence(base_seed, stream, *indices).generate_state(1)[0])


def env_seeds(base_seed: int, stream: Stream, n_envs: int, *indices: int) -> list[int]:
    """Seeds of ``n_envs`` environments; environment b gets the same one whatever ``n_envs``."""
    return [derived_seed(base_seed, stream, b, *indices) for b in range(n_envs)]


class EpisodeSeeds(Sequence[int]):
    """Seeds of many episodes, each derived when it is asked for; the same as those of :func:`env_seeds`."""

    def __init__(self, base_seed: int, stream: Stream, n_episodes: int, *indices: int) -> None:
        self._base_seed, self._stream, self._indices = base_seed, stream, indices
        self._episodes = range(n_episodes)

    def __len__(self) -> int:
        return len(self._episodes)

    @overload
    def __getitem__(self, index: int) -> int: ...

    @overload
    def __getitem__(self, index: slice) -> list[int]: ...

    def __getitem__(self, index: int | slice) -> int | list[int]:
        if isinstance(index, slice):
            return [self._seed(episode) for episode in self._episodes[index]]
        return self._seed(self._episodes[index])

    def _seed(self, episode: int) -> int:
        return derived_seed(self._base_seed, self._stream, episode, *self._indices)


def generator_state(rng: np.random.Generator) -> dict[str, Any]:
    """The generator's state as JSON-able plain numbers (128-bit integers as strings)."""
    state = rng.bit_generator.state
    return {**state, "state": {name: str(value) for name, value in state["state"].items()}}


def restore_generator(rng: np.random.Generator, state: dict[str, Any]) -> None:
    """Put a generator back to a state written by :func:`generator_state`."""
    rng.bit_generator.state = {**state, "state": {name: int(value) for name, value in state["state"].items()}}


_IS_OURS: ContextVar[bool] = ContextVar("process_is_ours", default=False)


@contextmanager
def own_process() -> Iterator[None]:
    """Within, environments may draw from the process's own generators and still give the same numbers again.

    The generators of ``random``, NumPy and torch are seeded from the run's seed when environments are made, and with
    the seed of every episode that is begun with one. The service, ``maze-run`` and processes of environments and jobs
    do so; in Python the process is the caller's, who says so with this. Two runs at a time would seed for each other.
    """
    before = _IS_OURS.set(True)
    try:
        yield
    finally:
        _IS_OURS.reset(before)


def seed_process(seed: int) -> None:
    """Seed the generators of this process where it is ours; elsewhere do nothing.

    Args:
        seed: in [0, 2³²).
    """
    if not _IS_OURS.get():
        return
    random.seed(seed)
    np.random.seed(seed)
    if (torch := sys.modules.get("torch")) is not None:
        torch.manual_seed(seed)
