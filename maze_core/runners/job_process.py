"""The process that runs the jobs of a :class:`JobPool`: ``python -m maze_core.runners.job_process``.

It is started with one inherited socket and speaks in msgpack frames, without pickle:

    in    {"sys_path": […], "envs": […]}   once          out   {"event": …}      while a job runs
          {"run": "module:function", "argument": …, "job": n}   {"done": result}
          {"cancel": true} or {"cancel_job": n}                 {"failed": {"type", "message", "details"}}

One job runs at a time. The process ends when the other side closes the socket, whatever it does then.
"""

import contextlib
import importlib
import json
import os
import queue
import sys
import threading
import traceback
from multiprocessing.connection import Connection
from typing import Any

import msgspec

from maze_core import subprocesses
from maze_core.errors import USER_CODE_ERRORS
from maze_core.seeding import own_process
from maze_core.types import Tree


class JobChannel:
    """What a running job has of its pool: it tells events, and is told to end."""

    def __init__(self, connection: Any) -> None:
        self._connection = connection
        self._cancel = threading.Event()
        self._cancelled_job: int | None = None
        self.job: int | None = None
        self.jobs: queue.SimpleQueue[Tree] = queue.SimpleQueue()

    def event(self, event: Any) -> None:
        """Tell the pool something; plain values."""
        self.send({"event": event})

    def cancelled(self) -> bool:
        """Whether the job was asked to end."""
        is_this = self._cancelled_job is not None and self._cancelled_job == self.job
        return is_this or self._cancel.is_set()

    def send(self, frame: Tree) -> None:
        """Write a frame."""
        self._connection.send_bytes(packed(frame))

    def listen(self) -> None:
        """Read frames until the socket is closed, then end the process."""
        try:
            while True:
                frame = msgspec.msgpack.decode(self._connection.recv_bytes())
                if "cancel_job" in frame:
                    self._cancelled_job = frame[
                        "cancel_job"
                    ]  # it may have ended by now, and another one begun
                elif "cancel" in frame:
                    self._cancel.set()
                else:
                    self.jobs.put(frame)
        except (EOFError, OSError):
            os._exit(
                0
            )  # the job's thread may be anywhere; files are replaced whole, so none is left in pieces


def packed(value: Any) -> bytes:
    """Plain values as bytes; NumPy's scalars become Python's."""
    return msgspec.msgpack.encode(value, enc_hook=lambda other: other.item())


def run(frame: Tree, channel: JobChannel) -> None:
    """Run one job and send how it ended."""
    try:
        channel.job = frame["job"]
        module, _, name = frame["run"].partition(":")
        function = getattr(importlib.import_module(module), name)
        with own_process():
            result = function(frame["argument"], channel)
        channel.send({"done": result})
    except USER_CODE_ERRORS as error:  # whatever a job raises is its result
        failure = {"type": type(error).__name__, "message": str(error), "details": traceback.format_exc()}
        channel.send({"failed": failure})


def register(envs: list[str]) -> None:
    """Make environments known that the other side had registered with gymnasium."""
    import gymnasium
    from gymnasium.envs.registration import EnvSpec

    for text in envs:
        if json.loads(text)["id"] not in gymnasium.registry:
            spec = EnvSpec.from_json(text)
            gymnasium.registry[spec.id] = spec


def main() -> None:
    """Serve on the descriptor given as argument."""
    subprocesses.leave_signals_to_the_other_side()
    channel = JobChannel(Connection(int(sys.argv[1])))
    threading.Thread(target=channel.listen, daemon=True).start()
    first = channel.jobs.get()
    sys.path[:] = first["sys_path"]
    register(first["envs"])
    with contextlib.suppress(OSError):  # the other side is gone
        while True:
            run(channel.jobs.get(), channel)


if __name__ == "__main__":
    main()
