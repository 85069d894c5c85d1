"""Jobs in processes: at most so many at a time, each with one OpenMP thread, and none takes another one down.

A process is started afresh, runs one job after the other and never sees the caller's main module, so no script
needs an ``if __name__ == "__main__"`` guard. A process that dies fails its job and is replaced.
"""

import contextlib
import subprocess
import sys
from dataclasses import dataclass, replace
from multiprocessing.connection import wait
from typing import Any

import gymnasium
import msgspec

from maze_core import subprocesses
from maze_core.runners.job_process import packed
from maze_core.types import Tree


@dataclass(frozen=True)
class JobMessage:
    """What a job has to say."""

    job: int
    """Its number."""
    kind: str
    """``event``, ``done`` or ``failed``."""
    value: Any = None
    """The event, the result, or ``{"type", "message", "details"}`` of the failure."""


@dataclass(eq=False)
class _Child:
    process: "subprocess.Popen[bytes]"
    connection: Any
    job: int | None = None


class JobPool(contextlib.AbstractContextManager["JobPool"]):
    """Runs functions of modules in processes. A context manager; leaving it ends what still runs."""

    def __init__(self, n_processes: int) -> None:
        """Allow ``n_processes`` at a time; they start with the first jobs."""
        self._n_processes = n_processes
        self._children: list[_Child] = []
        self.is_cancelled = False
        """Whether jobs were asked to end; no further one may be started then."""

    @property
    def n_free(self) -> int:
        """How many further jobs may be started now."""
        return self._n_processes - sum(child.job is not None for child in self._children)

    def start(self, job: int, function: str, argument: Tree) -> None:
        """Run ``module:function(argument, channel)``; plain values. There must be a free process."""
        child = self._idle_child() or self._new_child()
        child.job = job
        with contextlib.suppress(OSError):  # it died while it was idle, which reading will tell
            child.connection.send_bytes(packed({"run": function, "argument": argument, "job": job}))

    def messages(self, timeout_s: float) -> list[JobMessage]:
        """What running jobs say, at most one message of each; waits at most so long for the first."""
        busy = {child.connection: child for child in self._children if child.job is not None}
        return [self._message(busy[connection]) for connection in wait(list(busy), timeout_s)]

    def cancel(self) -> None:
        """Ask running jobs to end, once; no job may be started after that."""
        if self.is_cancelled:
            return
        self.is_cancelled = True
        for child in self._children:
            with contextlib.suppress(OSError):  # it is gone, which reading will tell
                child.connection.send_bytes(packed({"cancel": True}))

    def cancel_job(self, job: int) -> None:
        """Ask one running job to end; asking again changes nothing."""
        for child in self._children:
            if child.job == job:
                with contextlib.suppress(OSError):  # it is gone, which reading will tell
                    child.connection.send_bytes(packed({"cancel_job": job}))

    def shrink(self, most: int) -> None:
        """End idle processes until there are at most so many."""
        idle = [child for child in self._children if child.job is None]
        surplus = idle[: max(0, len(self._children) - most)]
        self._children = [child for child in self._children if child not in surplus]
        _end(surplus)

    def close(self) -> None:
        """End all processes, by force where one does not end."""
        children, self._children = self._children, []
        _end(children)

    def __exit__(self, *error: object) -> None:
        """Close."""
        self.close()

    def _idle_child(self) -> _Child | None:
        for child in [child for child in self._children if child.job is None]:
            if child.process.poll() is None:
                return child
            self._remove_dead(child)
        return None

    def _new_child(self) -> _Child:
        process, connection = subprocesses.start("maze_core.runners.job_process")
        child = _Child(process, connection)
        self._children.append(child)
        connection.send_bytes(packed({"sys_path": sys.path, "envs": _own_envs()}))
        return child

    def _message(self, child: _Child) -> JobMessage:
        assert child.job is not None
        job = child.job
        try:
            ((kind, value),) = msgspec.msgpack.decode(child.connection.recv_bytes()).items()
        except (EOFError, OSError):
            kind, value = "failed", self._remove_dead(child)
        if kind != "event":
            child.job = None
        return JobMessage(job, kind, value)

    def _remove_dead(self, child: _Child) -> Tree:
        self._children.remove(child)
        child.connection.close()
        code = subprocesses.end(child.process)
        return {"type": "ProcessDied", "message": f"its process ended with exit code {code}.", "details": ""}


def _end(children: list[_Child]) -> None:
    for child in children:
        child.connection.close()
    for child in children:
        subprocesses.end(child.process)


def _own_envs() -> list[str]:
    """Environments that this process registered with gymnasium by name, so that ids mean the same in a job."""
    described = []
    for spec in gymnasium.registry.values():
        place: Any = spec.entry_point
        if isinstance(place, type):
            spec = replace(spec, entry_point=f"{place.__module__}:{place.__qualname__}")
        if not str(place).startswith("gymnasium."):
            # one that is made by a function is nobody else's
            with contextlib.suppress(ValueError, TypeError, AttributeError):
                described.append(spec.to_json())
    return described
