"""Processes of runs on this machine, from a forkserver of the worker's own.

The forkserver is exec'ed with a clean environment before the worker opens the database, so a child can
inherit neither a connection nor a secret. It is never started a second time: when it dies, the worker ends.
"""

import contextlib
import dataclasses
import fcntl
import multiprocessing
import os
import shutil
import signal
import sys
import tempfile
import threading
import types
from collections.abc import Iterator, Mapping, Sequence
from multiprocessing import forkserver
from multiprocessing.connection import Connection, wait
from multiprocessing.context import ForkServerProcess
from multiprocessing.util import Finalize
from pathlib import Path
from typing import Any

from service.worker import child, frames
from service.worker.channel import MAX_LINE
from service.worker.isolation import clean_environment, kill_group

WARM = ("service.worker.warm",)
"""What the forkserver imports before its first fork."""

MAX_BATCH = 64
"""Frames read in one go, so that one busy child cannot make its thread deaf."""

MAX_BATCH_BYTES = 8 * 2**20

LONGEST_SOCKET_PLACE = 64
"""A directory with a longer name leaves no room for that of the forkserver's socket, which has 107 bytes."""

_READ_BYTES = 65_536


MIB = 2**20


class Child:
    """A process of this machine."""

    def __init__(
        self,
        process: ForkServerProcess,
        connection: "Connection[Any, Any]",
        output: "Connection[Any, Any]",
        directory: str,
        lock: threading.Lock,
    ) -> None:
        self._process = process
        self._connection = connection
        self._output = output
        self._directory = directory
        self._lock = lock
        self._partial = b""
        self._sentinel = process.sentinel
        self._is_open = True
        self._pid: int = process.pid or 0
        os.set_blocking(output.fileno(), False)

    @property
    def place(self) -> str:
        """Where it runs, for the log."""
        return f"process {self._pid}"

    def send(self, frame: frames.WorkerFrame) -> None:
        """Send a frame; a child that has ended takes none, which its exit code tells better than an error."""
        self.send_bytes(frames.encode(frame))

    def send_bytes(self, message: bytes) -> None:
        """Send an encoded frame."""
        with contextlib.suppress(OSError):
            self._connection.send_bytes(message)

    def messages(self, timeout_s: float) -> Iterator[tuple[list[frames.ChildFrame], list[str]]]:
        """What the child says and prints until nothing will come any more, and nothing when a timeout passes.

        Raises:
            ProtocolError: the child sent what is no frame.
        """
        for batch, output in self.raw_messages(timeout_s):
            yield [frames.decode_from_child(message) for message in batch], output

    def raw_messages(self, timeout_s: float) -> Iterator[tuple[list[bytes], list[str]]]:
        """:meth:`messages` as they came, unread."""
        while True:
            wait([*([self._connection, self._output] if self._is_open else []), self._sentinel], timeout_s)
            is_finished = self._is_finished()
            batch = self._receive()
            yield batch, self._output_lines()
            if is_finished and not batch:
                return

    def _receive(self) -> list[bytes]:
        """Messages that have arrived: at most :data:`MAX_BATCH`, hardly more bytes than :data:`MAX_BATCH_BYTES`."""
        batch: list[bytes] = []
        n_bytes = 0
        try:
            while self._has_more(len(batch), n_bytes):
                message = self._connection.recv_bytes(frames.MAX_FRAME_BYTES)
                n_bytes += len(message)
                batch.append(message)
        except EOFError:
            self._is_open = False
        except OSError as error:
            self._is_open = False
            if "bad message length" in str(error):
                raise frames.ProtocolError("the child sent a message beyond all bounds") from error
        return batch

    def _has_more(self, n_messages: int, n_bytes: int) -> bool:
        has_room = n_messages < MAX_BATCH and n_bytes < MAX_BATCH_BYTES
        return self._is_open and has_room and self._connection.poll()

    def _output_lines(self) -> list[str]:
        """Whole lines that the run's code has printed since the last call."""
        with contextlib.suppress(BlockingIOError, OSError):
            self._partial += os.read(self._output.fileno(), _READ_BYTES)
        *lines, self._partial = self._partial.split(b"\n")
        if len(self._partial) > MAX_LINE:
            lines, self._partial = [*lines, self._partial], b""
        return [line[:MAX_LINE].decode("utf-8", "replace") for line in lines]

    def rest_of_output(self) -> list[str]:
        """Everything printed that was not returned yet, the last line as it is."""
        lines: list[str] = []
        while more := self._output_lines():
            lines += more
        last, self._partial = self._partial, b""
        return [*lines, last.decode("utf-8", "replace")] if last else lines

    def _is_finished(self) -> bool:
        """Whether nothing will come any more: the pipe is at its end, or the process is."""
        return not self._is_open or (self.exit_code() is not None and not self._connection.poll())

    def exit_code(self) -> int | None:
        """None while it runs; negative is the signal that killed it."""
        with self._lock:
            return self._process.exitcode

    def join(self, timeout_s: float) -> int | None:
        """Wait for the end of the process; its exit code, or None when it still runs."""
        wait([self._sentinel], timeout_s)
        return self.exit_code()

    def terminate(self) -> None:
        """Ask the process to end by SIGTERM."""
        if self.exit_code() is None:
            with contextlib.suppress(ProcessLookupError):
                os.kill(self._pid, signal.SIGTERM)

    def kill(self) -> None:
        """End the process at once, with everything it started."""
        if self.exit_code() is None and not kill_group(self._pid):
            with contextlib.suppress(ProcessLookupError):  # it leads no group yet
                os.kill(self._pid, signal.SIGKILL)

    def close(self) -> None:
        """Kill what is left of the process and of its group, and remove its directory."""
        self.kill()
        kill_group(self._pid)
        self.join(10.0)
        self._connection.close()
        self._output.close()
        shutil.rmtree(self._directory, ignore_errors=True)


class WorkDirectory:
    """A worker's temporary directory, in which each child has one: it is locked as long as the worker lives.

    What a killed worker left is removed by its forkserver, or by the next worker of the same user.
    """

    PREFIX = "maze-worker-"

    def __init__(self) -> None:
        self._remove_abandoned()
        while True:
            self.path = tempfile.mkdtemp(prefix=self.PREFIX)
            self._descriptor = os.open(self.path, os.O_RDONLY | os.O_DIRECTORY)
            fcntl.flock(self._descriptor, fcntl.LOCK_EX)
            if os.path.exists(self.path):  # else another worker took it for abandoned before it was locked
                break
            os.close(self._descriptor)
        # at exit, after multiprocessing's own directory, which lies in it
        Finalize(None, shutil.rmtree, (self.path,), {"ignore_errors": True}, exitpriority=-200)

    def _remove_abandoned(self) -> None:
        for path in Path(tempfile.gettempdir()).glob(f"{self.PREFIX}*"):
            with contextlib.suppress(OSError):
                descriptor = os.open(path, os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW)
                try:
                    if os.fstat(descriptor).st_uid == os.getuid():
                        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
                        shutil.rmtree(path, ignore_errors=True)
                finally:
                    os.close(descriptor)


class ForkserverExecutor:
    """Starts children of this machine."""

    def __init__(self, rules: child.Rules, *, preload: Sequence[str] = WARM) -> None:
        self._rules = rules
        self._preload = list(preload)
        self._context = multiprocessing.get_context("forkserver")
        self._directory: WorkDirectory | None = None
        self._lock = (
            threading.Lock()
        )  # Process objects read each other's exit codes, without a lock of their own

    def start(self) -> None:
        """Start the forkserver; it dies with the thread that calls this."""
        self._directory = WorkDirectory()
        self._context.set_forkserver_preload(self._preload)
        with clean_environment(), _blank_main(), _temporary_files_in(self._directory.path):
            forkserver.ensure_running()

    def is_alive(self) -> bool:
        """Whether the forkserver runs."""
        pid = getattr(forkserver, "_forkserver")._forkserver_pid  # noqa: B009  (private, and the only way to ask)
        if pid is None:
            return False
        with contextlib.suppress(ChildProcessError):
            return os.waitid(os.P_PID, pid, os.WEXITED | os.WNOHANG | os.WNOWAIT) is None
        return False

    def launch(self, *, job: str | None = None, resources: Mapping[str, float] | None = None) -> Child:
        """Start one child. Of ``resources`` the memory is its limit, if the operator's is not lower."""
        directory = tempfile.mkdtemp(
            prefix="maze-run-", dir=self._directory.path if self._directory else None
        )
        ours, theirs = self._context.Pipe(duplex=True)
        output, printed = self._context.Pipe(duplex=False)
        rules = dataclasses.replace(
            self._rules,
            job=job or self._rules.job,
            memory_bytes=_memory_bytes(self._rules.memory_bytes, resources),
        )
        process = self._context.Process(target=child.main, args=(theirs, printed, directory, rules))
        try:
            with self._lock, _blank_main():
                if not self.is_alive():  # starting it again here would hand it the worker's environment
                    raise ChildProcessError("the forkserver has ended")
                process.start()
            return Child(process, ours, output, directory, self._lock)
        except BaseException:
            ours.close()
            output.close()
            shutil.rmtree(directory, ignore_errors=True)
            raise
        finally:
            theirs.close()
            printed.close()

    def close(self) -> None:
        """Nothing: the forkserver ends with this process."""


def _memory_bytes(limit: int | None, resources: Mapping[str, float] | None) -> int | None:
    memory_mib = (resources or {}).get("memory_mib")
    if memory_mib is None:
        return limit
    return min(int(memory_mib * MIB), sys.maxsize if limit is None else limit)


@contextlib.contextmanager
def _temporary_files_in(directory: str) -> Iterator[None]:
    """Within, temporary files of this process and of those it starts lie in this directory."""
    saved, os.environ["TMPDIR"] = tempfile.tempdir, directory
    if len(directory) < LONGEST_SOCKET_PLACE:
        tempfile.tempdir = directory
    try:
        yield
    finally:
        tempfile.tempdir = saved


@contextlib.contextmanager
def _blank_main() -> Iterator[None]:
    """Within, this process has an empty main module and no arguments.

    multiprocessing tells a child to import the main module again and hands it ``sys.argv``. A child needs
    neither, and must not have what they bring along: database code, and a URL with a password.
    """
    main, arguments = sys.modules["__main__"], sys.argv
    sys.modules["__main__"], sys.argv = types.ModuleType("__main__"), arguments[:1]
    try:
        yield
    finally:
        sys.modules["__main__"], sys.argv = main, arguments
