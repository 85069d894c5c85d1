"""The small parent of ``maze serve``: starts API and worker, starts again what dies, and ends them in good order."""

import logging
import os
import signal
import socket
import subprocess
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from types import FrameType

logger = logging.getLogger(__name__)

POLL_S = 0.1
PROBE_S = 0.3
"""Time between two questions whether the service is up."""
FIRST_PAUSE_S = 0.5
LONGEST_PAUSE_S = 30.0
STEADY_S = 60.0
"""A process that lived this long begins again with the first pause."""
AT_ONCE_S = 8.0
"""Time to end after a second signal."""
SECOND_SIGNAL_S = 1.0
"""A second signal this soon after the first is the same one: it came to the group and to the process."""


@dataclass
class Kept:
    """One process that is kept running."""

    name: str
    command: Sequence[str]
    pass_fds: Sequence[int] = ()
    process: "subprocess.Popen[bytes] | None" = None
    started_at: float = 0.0
    n_restarts: int = 0
    start_at: float = field(default=0.0)
    """When to start it next; monotonic."""

    def pause_s(self) -> float:
        """How long to wait before the next start."""
        if time.monotonic() - self.started_at >= STEADY_S:
            self.n_restarts = 0
        pause_s = FIRST_PAUSE_S * 2.0 ** min(self.n_restarts, 10)
        self.n_restarts += 1
        return min(pause_s, LONGEST_PAUSE_S)


class Supervisor:
    """Keeps processes running until a signal.

    Args:
        processes: what to keep, in the order in which they start.
        environment: theirs.
        grace_s: time that processes have to end.
        listener: the API's socket; closed when the end begins, so that nobody waits for an answer.
        is_up: whether the service answers; until it does, a process that dies ends it all.
        announce: called once, when it does.
    """

    def __init__(
        self,
        processes: Sequence[Kept],
        *,
        environment: Mapping[str, str],
        grace_s: float,
        listener: socket.socket | None = None,
        is_up: Callable[[], bool] = lambda: True,
        announce: Callable[[], None] = lambda: None,
    ) -> None:
        self._processes = processes
        self._environment = environment
        self._grace_s = grace_s
        self._listener = listener
        self._is_up = is_up
        self._announce = announce
        self._announced = False
        self._probe_at = 0.0
        self._signalled_at: float | None = None
        self._at_once = False

    def run(self) -> int:
        """Start, watch, end; returns the exit code. Belongs in the main thread."""
        for number in (signal.SIGTERM, signal.SIGINT, signal.SIGHUP):
            signal.signal(number, self._on_signal)
        code = 0
        for kept in self._processes:
            self._start(kept)
        while self._signalled_at is None and code == 0:
            time.sleep(POLL_S)
            code = self._look_after()
        return max(code, self._end())

    def _on_signal(self, number: int, frame: FrameType | None) -> None:
        now = time.monotonic()
        if self._signalled_at is None:
            self._signalled_at = now
        elif now - self._signalled_at > SECOND_SIGNAL_S:
            self._at_once = True

    def _start(self, kept: Kept) -> None:
        """Start a process, in a session of its own: a Ctrl-C in the terminal comes to this one alone."""
        kept.started_at = time.monotonic()
        kept.process = subprocess.Popen(
            kept.command, env=self._environment, pass_fds=kept.pass_fds, start_new_session=True
        )
        logger.info("%s: started, process %d", kept.name, kept.process.pid)

    def _look_after(self) -> int:
        """Start again what has ended; 1 when there is no use in going on."""
        for kept in self._processes:
            if kept.process is None:
                if time.monotonic() >= kept.start_at:
                    self._start(kept)
            elif (code := kept.process.poll()) is not None:
                if not self._announced:
                    logger.error("%s: could not start (%s); its messages stand above", kept.name, _how(code))
                    return 1
                pause_s = kept.pause_s()
                logger.error("%s: ended (%s); starts again in %g s", kept.name, _how(code), pause_s)
                kept.process, kept.start_at = None, time.monotonic() + pause_s
        self._look_whether_up()
        return 0

    def _look_whether_up(self) -> None:
        if self._announced or time.monotonic() < self._probe_at:
            return
        self._announced = self._is_up()
        self._probe_at = time.monotonic() + PROBE_S
        if self._announced:
            self._announce()

    def _end(self) -> int:
        """Ask every process to end, wait, and kill what does not; 1 when something was killed."""
        if self._listener is not None:
            self._listener.close()
        running = [kept.process for kept in self._processes if kept.process and kept.process.poll() is None]
        _send(running, signal.SIGTERM)
        deadline = time.monotonic() + self._grace_s
        was_repeated = False
        while time.monotonic() < deadline:
            if all(process.poll() is not None for process in running):
                return 0
            if self._at_once and not was_repeated:
                was_repeated, deadline = True, time.monotonic() + AT_ONCE_S
                _send(running, signal.SIGTERM)
            time.sleep(POLL_S)
        _send(running, signal.SIGKILL)
        for process in running:
            process.wait()
        logger.error("some processes did not end in time and were killed")
        return 1


def _send(processes: Sequence["subprocess.Popen[bytes]"], number: signal.Signals) -> None:
    for process in processes:
        if process.poll() is None:
            process.send_signal(number)


def _how(code: int) -> str:
    if code >= 0:
        return f"exit code {code}"
    try:
        return f"killed by {signal.Signals(-code).name}"
    except ValueError:
        return f"killed by signal {-code}"


def inherited(overrides: Mapping[str, object]) -> dict[str, str]:
    """This process's environment, with settings of the command line as ``MAZE_…`` variables."""
    said = {f"MAZE_{name.upper()}": str(value) for name, value in overrides.items()}
    return {**os.environ, **said}
