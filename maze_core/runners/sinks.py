"""Where the metrics of a training go beside its directory: trackers of other people, and sinks of the user's.

A sink is slow, far away and may fail or hang; the run must not notice. Each has a thread of its own and a queue of
bounded length before it. What goes wrong is said once, as a warning, and the training goes on without that sink.
"""

import contextlib
import hashlib
import json
import queue
import threading
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final, Protocol

from maze_core.config.nodes import parts_in
from maze_core.errors import USER_CODE_ERRORS, reason_of
from maze_core.metrics import SilentReporter
from maze_core.notices import Notices
from maze_core.types import Tree

MOST_WAITING: Final = 1024
"""Epochs that wait for a slow sink; those that come then are left out of it."""
CLOSE_S: Final = 15.0
"""Seconds that all sinks of a run together get to write what waits when the training is over."""
_METHODS: Final = ("open", "write", "close")


@dataclass(frozen=True, kw_only=True)
class RunFacts:
    """What a sink is told of a run."""

    id: str
    """The same whenever the run goes on; letters, digits and ``-_``."""
    name: str
    """For people."""
    params: Mapping[str, str] = field(default_factory=dict)
    """Dotted path → value of the configuration, as JSON; the same text whenever the run goes on."""
    directory: Path | None = None
    """Where a sink may keep files."""

    @classmethod
    def of(
        cls, tree: Tree, *, name: str, run_id: str | None = None, directory: Path | None = None
    ) -> "RunFacts":
        """The facts of a configuration; without ``run_id`` the directory tells runs apart."""
        place = f"{directory and directory.resolve()}"
        made = hashlib.sha256(place.encode()).hexdigest()[:16]
        return cls(id=run_id or made, name=name, params=_flat(tree), directory=directory)


class Sink(Protocol):
    """Takes the metrics of one run. All calls come from one thread, in order, and may block and raise."""

    def open(self, run: RunFacts) -> None:
        """Begin, or go on with, this run; points that were written before may come again."""

    def write(self, epoch: int, step: int, values: Mapping[str, float]) -> None:
        """The metrics of an epoch (from 1) at an environment step; values may be NaN and infinite."""

    def close(self, outcome: str) -> None:
        """The training is over: ``finished``, ``failed`` or ``killed``."""


class SinkReporter(SilentReporter):
    """Hands metrics to a sink without ever waiting for it."""

    def __init__(
        self, name: str, make: Callable[[], Sink], run: RunFacts, say: Callable[[str], object]
    ) -> None:
        """Start the thread.

        Args:
            name: of the sink, for messages.
            make: makes it, in its own thread.
            run: what it is opened with.
            say: takes a warning, in the thread that reports.
        """
        self._name, self._say = name, say
        self._waiting: queue.Queue[tuple[int, int, dict[str, float]] | str] = queue.Queue(MOST_WAITING)
        self._trouble: str | None = None
        self._is_said = False
        self._thread = threading.Thread(target=self._work, args=(make, run), name=f"sink {name}", daemon=True)
        self._thread.start()

    def metrics(self, epoch: int, step: int, values: Mapping[str, float]) -> None:
        """Queue the metrics of an epoch."""
        self._put(
            (epoch, step, dict(values)), f"is slower than the training; {MOST_WAITING} epochs wait for it"
        )
        self._tell()

    def end(self, outcome: str) -> None:
        """Let it write what waits, and close itself."""
        self._put(outcome, "was left behind with what it had not written")

    def wait(self, deadline: float) -> None:
        """Wait for that, until a time of the monotonic clock."""
        self._thread.join(max(0.0, deadline - time.monotonic()))
        if self._thread.is_alive():
            self._trouble = (
                self._trouble or f"had not ended {CLOSE_S:.0f} seconds after the training and was left behind"
            )
        self._tell()

    def _put(self, item: tuple[int, int, dict[str, float]] | str, or_else: str) -> None:
        if self._thread.is_alive():
            try:
                self._waiting.put_nowait(item)
            except queue.Full:
                self._trouble = self._trouble or or_else

    def _tell(self) -> None:
        if self._trouble is not None and not self._is_said:
            self._is_said = True
            self._say(
                f"The sink {self._name} {self._trouble}. The training goes on; its directory has every metric."
            )

    def _work(self, make: Callable[[], Sink], run: RunFacts) -> None:
        try:
            sink = make()
            sink.open(run)
            while not isinstance(item := self._waiting.get(), str):
                sink.write(*item)
            sink.close(item)
        except USER_CODE_ERRORS as error:
            self._trouble = f"failed: {reason_of(error)}"


@contextlib.contextmanager
def sinks_of(
    sinks: Sequence[Any] | None, run: RunFacts, say: Callable[[str], object] | None = None
) -> Iterator[list[SinkReporter]]:
    """Reporters of these sinks, which end with the block and say how it ended.

    Args:
        sinks: settings of :mod:`maze_core.runners.trackers`, functions or classes that make a sink, or sinks.
        run: whose metrics they get.
        say: takes warnings; None warns as the run does.
    """
    notices = Notices.current()
    say = say or (lambda text: notices.say(text, text))
    reporters = [SinkReporter(*_named(sink), run, say) for sink in sinks or ()]
    outcome = "failed"
    try:
        yield reporters
        outcome = "finished"
    except KeyboardInterrupt:
        outcome = "killed"
        raise
    finally:
        end_all(reporters, outcome)


def end_all(reporters: Sequence[SinkReporter], outcome: str) -> None:
    """Let sinks write what waits and close, all in the same limited time."""
    deadline = time.monotonic() + CLOSE_S
    for reporter in reporters:
        reporter.end(outcome)
    for reporter in reporters:
        reporter.wait(deadline)


def sink_problem(sink: Any) -> str | None:
    """Why a sink, or what makes one, is none; None where it may be. What a function makes is seen when it does."""
    made = getattr(sink, "func", sink)
    if hasattr(made, "make") or (callable(made) and not isinstance(made, type)):
        return None
    missing = [name for name in _METHODS if not callable(getattr(made, name, None))]
    if not missing:
        return None
    name = made.__name__ if isinstance(made, type) else type(made).__name__
    return f"{name} has no {', '.join(missing)}: a sink has open(run), write(epoch, step, values) and close(outcome)"


def _named(sink: Any) -> tuple[str, Callable[[], Sink]]:
    """What to call a sink, and what makes it."""
    made = getattr(sink, "func", sink)
    name = str(getattr(sink, "word", None) or getattr(made, "__name__", type(made).__name__))
    if hasattr(sink, "make"):
        return name, sink.make
    return name, (sink if callable(sink) else lambda: sink)


def _flat(tree: Tree) -> dict[str, str]:
    """Dotted path → JSON of every value that has no keys of its own."""
    found = {}
    for path, part in parts_in(tree, ""):
        if isinstance(part, Mapping):
            for key, value in part.items():
                if not isinstance(value, Mapping | list) or not value:
                    found[f"{path}.{key}".lstrip(".")] = json.dumps(value, sort_keys=True)
        elif isinstance(part, list) and not any(isinstance(item, Mapping) for item in part):
            found[path.lstrip(".")] = json.dumps(part)
    return found
