"""The process of one run. It reads a :class:`~service.worker.frames.Start`, runs it, reports, and ends.

It never sees the database, nor the worker's environment. A second thread watches the pipe: it takes the
wish to stop, sends what waits, and ends the process the moment the worker is gone.
"""

import faulthandler
import os
import pkgutil
import shutil
import signal
import sys
import threading
import time
import traceback
from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass
from multiprocessing.connection import Connection
from types import FrameType
from typing import Any, NoReturn, TypeAlias

import setproctitle

from maze_core import errors
from maze_core.seeding import own_process
from service.worker import frames
from service.worker.channel import BATCH_S, Channel, WorkerGone
from service.worker.isolation import end_group, isolate

USAGE_S = 1.0
"""Time between two reports of memory and CPU time."""

SIGNAL_ECHO_S = 1.0
"""A SIGTERM this soon after the wish to stop is the same wish: managers signal all processes at once."""


@dataclass(frozen=True, kw_only=True)
class Rules:
    """What a worker's operator has settled for all children."""

    job: str = "service.worker.jobs:execute"
    """``module:function`` that runs a Start frame."""
    env_modules: tuple[str, ...] = ()
    env_path: str | None = None
    """Directory that ``env_modules`` are also looked for in: where the worker was started."""
    config_dirs: tuple[str, ...] = ()
    extra_targets: tuple[str, ...] = ()
    memory_bytes: int | None = None


class StopWish:
    """Whether the worker wants the run to stop, and whether the run has seen it."""

    def __init__(self) -> None:
        self.wished_at: float | None = None
        self.seen = False

    def wish(self) -> None:
        """Note the wish; the first time counts."""
        if self.wished_at is None:
            self.wished_at = time.monotonic()

    def __call__(self) -> bool:
        """Whether to stop; runners call this between two updates."""
        self.seen = self.wished_at is not None
        return self.seen


Job: TypeAlias = Callable[[frames.Start, Channel, StopWish, Rules], frames.Result]


def main(
    connection: "Connection[Any, Any]", output: "Connection[Any, Any]", directory: str, rules: Rules
) -> None:
    """Run what the first frame says. Never returns: the process ends here.

    Args:
        connection: frames, both ways.
        output: becomes standard output and error.
        directory: an empty directory of this run alone.
        rules: the operator's.
    """
    _redirect(output)
    isolate(directory, rules.memory_bytes)
    channel, stop = Channel(connection), StopWish()
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    signal.signal(signal.SIGALRM, signal.SIG_DFL)
    signal.signal(signal.SIGTERM, lambda number, frame: _on_sigterm(stop, number, frame))
    try:
        last = _run(connection, channel, stop, rules)
        channel.send_usage()
        sys.stdout.flush()
        sys.stderr.flush()
        channel.send(last)
    except WorkerGone:
        _end()
    os._exit(0 if isinstance(last, frames.Result) else 2)


def _run(
    connection: "Connection[Any, Any]", channel: Channel, stop: StopWish, rules: Rules
) -> frames.Result | frames.Failure:
    try:
        start = _receive_start(connection)
        setproctitle.setproctitle(f"maze: run {start.run_id}")
        threading.Thread(target=_watch, args=(connection, channel, stop), name="watch", daemon=True).start()
        with own_process():
            job: Job = pkgutil.resolve_name(rules.job)
            return job(start, channel, stop, rules)
    except WorkerGone:
        raise
    except BaseException as error:  # whatever user code raises, SystemExit as well, is this run's failure
        return failure_of(error)


def _receive_start(connection: "Connection[Any, Any]") -> frames.Start:
    try:
        start = _receive(connection)
    except (OSError, EOFError) as error:
        raise WorkerGone from error
    if not isinstance(start, frames.Start):
        raise frames.ProtocolError("the first frame of a worker must be start")
    return start


def _redirect(output: "Connection[Any, Any]") -> None:
    """Make the pipe standard output and error, so that what user code prints lands in the run's log."""
    for descriptor in (1, 2):
        os.dup2(output.fileno(), descriptor)
    output.close()
    sys.stdout, sys.stderr = (
        os.fdopen(descriptor, "w", 1, encoding="utf-8", errors="backslashreplace", closefd=False)
        for descriptor in (1, 2)
    )
    faulthandler.enable(file=2, all_threads=False)


def _on_sigterm(stop: StopWish, number: int, frame: FrameType | None) -> None:
    if stop.wished_at is not None and time.monotonic() - stop.wished_at > SIGNAL_ECHO_S:
        raise GraceOver("the run did not stop within its grace time")
    stop.wish()


def _watch(connection: "Connection[Any, Any]", channel: Channel, stop: StopWish) -> None:
    """Take the wish to stop, send what waits, and end with the worker."""
    usage_at = time.monotonic()
    try:
        while True:
            if connection.poll(BATCH_S) and isinstance(_receive(connection), frames.Cancel):
                stop.wish()
            usage = time.monotonic() - usage_at >= USAGE_S
            channel.tick(usage=usage)
            if usage:
                usage_at = time.monotonic()
    except (WorkerGone, OSError, EOFError, frames.ProtocolError):
        _end()


def _receive(connection: "Connection[Any, Any]") -> frames.WorkerFrame:
    return frames.decode_from_worker(connection.recv_bytes(frames.MAX_FRAME_BYTES))


def _end() -> NoReturn:
    shutil.rmtree(os.getcwd(), ignore_errors=True)
    end_group()
    raise AssertionError("the process group has ended")


class GraceOver(BaseException):
    """Raised in a run that went on too long after the wish to stop, so that it cleans up and ends."""


CODES: Mapping[type[BaseException], str] = {
    errors.InvalidSpecificationError: "invalid_specification",
    errors.SpaceMismatchError: "space_mismatch",
    errors.NotServableError: "not_servable",
    errors.CheckpointError: "checkpoint_damaged",
    errors.EnvError: "env_error",
    errors.DivergedError: "diverged",
    MemoryError: "out_of_memory",
    GraceOver: "stopped",
}
"""Kind of error → its stable code; anything else is an ``exception`` of the run's own code."""

_MEMORY_WORDS = ("can't allocate memory", "not enough memory", "out of memory")
"""Torch says these in a plain RuntimeError."""


def failure_of(error: BaseException) -> frames.Failure:
    """The frame that tells the worker of an error."""
    problems: tuple[dict[str, Any], ...] = ()
    if isinstance(error, errors.InvalidSpecificationError):
        problems = tuple(asdict(problem) for problem in error.problems)
    return frames.Failure(
        code=_code(error),
        message=errors.reason_of(error),
        traceback="".join(traceback.format_exception(error)),
        problems=problems,
    )


def _code(error: BaseException) -> str:
    if isinstance(error.__cause__, MemoryError):  # within an environment
        return "out_of_memory"
    for kind, code in CODES.items():
        if isinstance(error, kind):
            return code
    if isinstance(error, RuntimeError) and any(words in str(error).lower() for words in _MEMORY_WORDS):
        return "out_of_memory"
    return "exception"
