"""Several environments spread over processes; the numbers are those of :class:`PerEnvVectorEnv`, bit for bit.

Each process steps a slice of the batch and writes into shared memory; a step costs one short message each way
per process. That pays for environments whose step costs more than some 100 µs; for cheaper ones in-process is
faster. Processes are started afresh, not forked, import neither torch nor the caller's main module, and end
with this one however it ends.
"""

import contextlib
import os
import pickle
import subprocess
import sys
from collections import deque
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any

import gymnasium
import numpy as np

from maze_core import subprocesses
from maze_core.envs.env_process import (
    CALL,
    CLOSE,
    DONE,
    FAILED,
    FORGET,
    HOST,
    READY,
    RESET,
    RESULT,
    STEP,
    VALUES,
)
from maze_core.envs.per_env import EnvFactory
from maze_core.envs.tick_buffers import anonymous_file, share
from maze_core.envs.vector import ClosingVectorEnv, Tick, VectorEnv
from maze_core.errors import EnvError
from maze_core.events.declared import EpisodeValues
from maze_core.types import Array, BoolArray, StepKey


@dataclass(frozen=True)
class _Child:
    """A process and its slice of the batch."""

    process: "subprocess.Popen[bytes]"
    connection: Any
    first_row: int
    end_row: int

    @property
    def rows(self) -> slice:
        return slice(self.first_row, self.end_row)


@dataclass(frozen=True)
class Guest:
    """An object that a process has beside its environments, and steps them by itself."""

    rows: slice
    """Its environments within the batch."""
    call: Callable[..., Any]
    """Name of a method and its arguments → what it gave; one call at a time, and none of the batch meanwhile."""


class SubprocVectorEnv(ClosingVectorEnv):
    """``B`` environments in several processes, with same-step autoreset."""

    def __init__(
        self, factories: Sequence[EnvFactory], *, n_processes: int | None = None, seed: int = 0
    ) -> None:
        """Start the processes and make the environments in them.

        Args:
            factories: one per environment; configurations or functions of a module, for they are pickled.
            n_processes: at most one per environment; None takes one per usable core.
            seed: of the processes' own generators while environments are made; a reset with seeds seeds them anew.

        Raises:
            EnvError: a factory cannot be sent, or an environment cannot be made.
        """
        if not factories:
            raise EnvError("A vector environment needs at least one environment.")
        super().__init__()
        self.n_envs = len(factories)
        self._seed = seed
        self._children: list[_Child] = []
        self._ended: deque[tuple[int, EpisodeValues]] = deque()  # actors' threads add to it
        memory = anonymous_file()
        try:
            count = min(self.n_envs, n_processes or subprocesses.usable_cores())
            for rows in np.array_split(np.arange(self.n_envs), count):
                self._start(factories, int(rows[0]), int(rows[-1]) + 1, memory)
            described = [pickle.loads(self._answer(child, READY)) for child in self._children]
            if any(other != described[0] for other in described):
                raise EnvError("The environments do not share their spaces.")
            self.observation_spaces, self.action_spaces, *others = described[0]
            self.agent_counts, self.rewards, self.event_interfaces = others
            actors = self.agent_counts if self.rewards == "per_actor" else None
            self._tick, self._actions = share(
                memory, self.observation_spaces, self.action_spaces, self.n_envs, actors=actors
            )
            for child in self._children:
                self._send(child, pickle.dumps((self.n_envs, child.first_row)))
            self._await_all()
        except BaseException:
            self.close()
            raise
        finally:
            os.close(memory)

    def reset(self, seeds: Sequence[int | None], rows: BoolArray | None = None) -> Tick:
        """Start new episodes in ``rows``, all by default."""
        self._expect_open(seeds)
        for child in self._children:
            argument = (list(seeds[child.rows]), None if rows is None else rows[child.rows])
            self._send(child, RESET + pickle.dumps(argument))
        self._await_all()
        return self._tick

    def step(self, actions: Mapping[StepKey, Mapping[str, Array]]) -> Tick:
        """Act in every environment; see :meth:`VectorEnv.step`."""
        return self.step_rows(actions, np.ones(self.n_envs, np.bool_))

    def step_rows(self, actions: Mapping[StepKey, Mapping[str, Array]], rows: BoolArray) -> Tick:
        """Act in some environments; see :meth:`VectorEnv.step_rows`."""
        self._expect_open()
        for key, batch in self._actions.items():
            if key in actions:
                for head, values in batch.items():
                    values[...] = actions[key][head]
        message = STEP + bytes(key in actions for key in self._actions)
        acting = b"" if rows.all() else rows.tobytes()
        for child in self._children:
            self._send(child, message + acting[child.rows])
        self._await_all()
        return self._tick

    def take_ended(self) -> list[tuple[int, EpisodeValues]]:
        """See :meth:`VectorEnv.take_ended`."""
        return [self._ended.popleft() for _ in range(len(self._ended))]

    def begin_statistics(self, rows: BoolArray) -> None:
        """See :meth:`VectorEnv.begin_statistics`."""
        for child in self._children:
            self._send(child, FORGET + pickle.dumps(rows[child.rows]))
        self._await_all()

    def episode_values(self, row: int) -> EpisodeValues:
        """See :meth:`VectorEnv.episode_values`."""
        child = next(child for child in self._children if row < child.end_row)
        self._send(child, VALUES + pickle.dumps(row - child.first_row))
        self._await(child)
        values: EpisodeValues = pickle.loads(self._answer(child, RESULT))
        return values

    def host(self, make: Callable[[VectorEnv], Any]) -> list[Guest]:
        """Have every process make an object beside its environments, in the order of their rows.

        Args:
            make: takes the environments of one process; it is pickled.

        Raises:
            EnvError: it cannot be sent, or fails.
        """
        self._expect_open()
        hint = "use algorithm.mode=lockstep, or classes of a module that can be imported"
        pickled = _pickled(make, "The policy or a wrapper", hint)
        for child in self._children:
            self._send(child, HOST + pickled)
        self._await_all()
        return [Guest(child.rows, partial(self._call, child)) for child in self._children]

    def _call(self, child: _Child, method: str, *arguments: Any) -> Any:
        self._send(child, CALL + pickle.dumps((method, arguments)))
        self._await(child)
        return pickle.loads(self._answer(child, RESULT))

    def _close(self) -> list[str]:
        """End the processes, by force where one does not answer."""
        for child in self._children:
            with contextlib.suppress(OSError):  # it is gone already
                child.connection.send_bytes(CLOSE)
        failures: list[str] = []
        for child in self._children:
            failures += _last_words(child)
            child.connection.close()
            subprocesses.end(child.process)
        return failures

    def _start(self, factories: Sequence[EnvFactory], first_row: int, end_row: int, memory: int) -> None:
        hint = "use runner=dev, or a function at the top level of a module that can be imported"
        pickled = _pickled(list(factories[first_row:end_row]), "The environment", hint)
        message = {"sys_path": sys.path, "specs": _own_specs(), "factories": pickled}
        message["seed"] = int(np.random.SeedSequence([self._seed, first_row]).generate_state(1)[0])
        process, connection = subprocesses.start("maze_core.envs.env_process", memory)
        child = _Child(process, connection, first_row, end_row)
        self._children.append(child)
        self._send(child, pickle.dumps(message))

    def _send(self, child: _Child, message: bytes) -> None:
        try:
            child.connection.send_bytes(message)
        except OSError as error:
            raise self._died(child) from error

    def _await_all(self) -> None:
        """Wait for every process, so that none still writes when an error is raised."""
        failure: EnvError | None = None
        for child in self._children:
            try:
                self._await(child)
            except EnvError as error:
                failure = failure or error
        if failure is not None:
            raise failure

    def _await(self, child: _Child) -> None:
        if said := self._answer(child, DONE):
            fresh, ended = pickle.loads(said)
            self._notices.pass_on(fresh)
            self._ended.extend(ended)

    def _answer(self, child: _Child, expected: bytes) -> bytes:
        try:
            message: bytes = child.connection.recv_bytes()
        except (EOFError, OSError) as error:
            raise self._died(child) from error
        if message[:1] == FAILED:
            reason, text, is_made = pickle.loads(message[1:])
            raise EnvError(f"{reason}\n\nIn the process of {_rows(child)}:\n{text}", is_made=is_made)
        if message[:1] != expected:
            raise EnvError(f"The process of {_rows(child)} answered out of turn.")
        return message[1:]

    def _died(self, child: _Child) -> EnvError:
        try:
            code: object = child.process.wait(subprocesses.CLOSE_TIMEOUT_S)
        except subprocess.TimeoutExpired:
            code = "unknown"
        return EnvError(f"The process of {_rows(child)} died (exit code {code}).")


def _last_words(child: _Child) -> list[str]:
    """Why environments of a process could not be closed."""
    with contextlib.suppress(OSError, EOFError):
        while child.connection.poll(subprocesses.CLOSE_TIMEOUT_S):
            message: bytes = child.connection.recv_bytes()
            if message[:1] == CLOSE:  # others are answers that nobody waited for
                reasons: list[str] = pickle.loads(message[1:])
                return reasons
    return []


def _rows(child: _Child) -> str:
    return f"environments {child.first_row} to {child.end_row - 1}"


def _pickled(value: object, what: str, hint: str) -> bytes:
    """``value`` as bytes that another process can read.

    Raises:
        EnvError: something in it is a lambda, a local function, or lives in the main script.
    """
    try:
        pickled = pickle.dumps(value)
    except (pickle.PicklingError, AttributeError, TypeError) as error:
        raise EnvError(f"{what} cannot be made in another process ({error}): {hint}.") from error
    if b"__main__" in pickled:
        raise EnvError(f"{what} is defined in the main script, which no other process sees: {hint}.")
    return pickled


def _own_specs() -> list[bytes]:
    """What this process registered with gymnasium beyond its own environments, so that ids mean the same."""
    pickled = []
    for spec in gymnasium.registry.values():
        if not str(spec.entry_point).startswith("gymnasium."):
            with contextlib.suppress(pickle.PicklingError, AttributeError, TypeError):
                pickled.append(pickle.dumps(spec))
    return pickled
