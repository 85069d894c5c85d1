"""Actors: the processes of the environments collect rollouts by themselves, while this one learns from those before.

One thread per process hands it the newest weights and fetches a rollout, as long as there is room: no more than a few
rollouts of each process wait at a time, so the weights that acted are never long gone. Which rollouts come first
depends on the machine, so nothing here repeats bit by bit.
"""

import threading
from collections.abc import Sequence
from functools import partial
from queue import SimpleQueue
from typing import NamedTuple

from maze_core.data.trajectory import Rollout
from maze_core.envs.subproc import Guest, SubprocVectorEnv
from maze_core.envs.vector import VectorEnv
from maze_core.envs.wrappers.wrapper import WrappedVectorEnv, Wrapper
from maze_core.errors import USER_CODE_ERRORS, InvalidSpecificationError, Problem
from maze_core.models.acting import ActingPolicy
from maze_core.rollout.collector import Collector
from maze_core.seeding import Stream, generator
from maze_core.types import NamedArrays


class Actor:
    """A policy, wrappers and a collector, in the process of their environments."""

    def __init__(
        self, env: VectorEnv, *, policy: ActingPolicy, wrappers: Sequence[Wrapper], n_steps: int, seed: int
    ) -> None:
        self._policy, self._wrappers, self._seed = policy, wrappers, seed
        # not in training: what each process sees would give each statistics of its own
        self._collector = Collector(WrappedVectorEnv(env, wrappers), n_steps, generator(seed, Stream.ACTIONS))

    def reset(self, seeds: Sequence[int], states: Sequence[NamedArrays]) -> None:
        """Start new episodes, with these states of the wrappers and action noise that follows from the seeds."""
        for wrapper, state in zip(self._wrappers, states, strict=True):
            wrapper.load_state_dict(state)
        self._collector.rng = generator(self._seed, Stream.ACTIONS, *seeds)
        self._collector.reset(seeds)

    def collect(self, weights: NamedArrays) -> Rollout:
        """A rollout with these weights."""
        self._policy.load_state_dict(weights)
        return self._collector.collect(self._policy)


class Collected(NamedTuple):
    """A rollout and who acted in it."""

    rollout: Rollout
    weights: NamedArrays
    """Those that acted."""
    lag: int
    """How many updates they are older than those that learn."""


class Actors:
    """One actor in every process, and what they collected."""

    def __init__(
        self, env: VectorEnv, policy: ActingPolicy, n_steps: int, *, seed: int, n_ahead: int
    ) -> None:
        """Send the policy and the wrappers to the processes.

        Args:
            env: environments in processes, wrapped or not; nobody else steps them from now on.
            policy: acts with the weights that :meth:`take` is given.
            n_steps: ticks of a rollout.
            seed: of the streams of action noise.
            n_ahead: rollouts of each process, on average, that are under way or wait; ≥ 1.

        Raises:
            InvalidSpecificationError: the environments are not in processes, or a wrapper follows their rewards.
            EnvError: the policy or a wrapper cannot be sent.
        """
        inner, wrappers = (env.env, env.wrappers) if isinstance(env, WrappedVectorEnv) else (env, ())
        if not isinstance(inner, SubprocVectorEnv):
            raise _problem("acts in processes: take runner=local, and env.vectorization=per_env.")
        if following := [type(w).__name__ for w in wrappers if "see_reward" in w.overridden]:
            raise _problem(f"cannot share what {following[0]} learns of rewards: take lockstep.")
        self._wrappers = wrappers
        self._guests = inner.host(
            partial(Actor, policy=policy, wrappers=wrappers, n_steps=n_steps, seed=seed)
        )
        self._n_ahead = n_ahead
        self._newest: tuple[int, NamedArrays] = (0, {})
        """How many weights there were before these, and they."""
        self._threads: list[threading.Thread] = []
        self._is_over = threading.Event()

    def reset(self, seeds: Sequence[int]) -> None:
        """Start new episodes everywhere, with the wrappers as they are now; what was not taken is forgotten."""
        self.stop()
        states = [
            wrapper.state_dict() for wrapper in self._wrappers
        ]  # others since the start where a run is resumed
        for guest in self._guests:
            guest.call("reset", seeds[guest.rows], states)

    def take(self, weights: NamedArrays) -> list[Collected]:
        """As many rollouts as there are processes, those that came first.

        Args:
            weights: to act with from now on.

        Raises:
            EnvError: an environment broke its contract, or a process died.
        """
        self._newest = (self._newest[0] + 1, weights)
        if not self._threads:
            self._start()
        return [self._next() for _ in self._guests]

    def stop(self, timeout_s: float | None = None) -> None:
        """Wait for the rollouts that are under way, at most this long for each, and forget them."""
        self._is_over.set()
        for _ in self._threads:
            self._room.release()
        for thread in self._threads:
            thread.join(timeout_s)
        self._threads = []

    def _start(self) -> None:
        self._is_over = threading.Event()
        self._room = threading.Semaphore(self._n_ahead * len(self._guests))
        self._found: SimpleQueue[tuple[Rollout, NamedArrays, int] | BaseException] = SimpleQueue()
        self._threads = [
            threading.Thread(target=self._act, args=(guest,), daemon=True) for guest in self._guests
        ]
        for thread in self._threads:
            thread.start()

    def _act(self, guest: Guest) -> None:
        room, found, is_over = self._room, self._found, self._is_over  # of this start, not of a later one
        while room.acquire() and not is_over.is_set():
            number, weights = self._newest
            try:
                found.put((guest.call("collect", weights), weights, number))
            except USER_CODE_ERRORS as error:
                found.put(error)
                return

    def _next(self) -> Collected:
        found = self._found.get()
        if isinstance(found, BaseException):
            self.stop()
            raise found
        self._room.release()
        rollout, weights, number = found
        return Collected(rollout, weights, self._newest[0] - number)


def _problem(message: str) -> InvalidSpecificationError:
    return InvalidSpecificationError([Problem(path="algorithm.mode", message=f"asynchronous {message}")])
