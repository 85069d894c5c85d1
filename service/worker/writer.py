"""Writes what a child reports to the database: in the order in which it came, in few transactions."""

import logging
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict
from typing import Any

from service.domain.ports import Stores
from service.domain.run import EventType, MetricPoint, Progress
from service.worker import frames
from service.worker.lease_guard import LeaseGuard

logger = logging.getLogger(__name__)

MAX_OUTPUT_LINES = 10_000
"""Printed lines kept per attempt; what comes after them is dropped, and the log says so."""

PROGRESS_EVENT_S = 1.0
"""Least time between two ``progress`` events; the run's row is always up to date."""

OUTPUT_LEVEL = "output"
"""Level of lines that user code printed."""


class RunWriter:
    """Collects reports and stores them under the run's lease.

    Every method raises :class:`Fenced` or ``StaleLeaseError`` when the run is no longer ours to write.
    """

    def __init__(self, guard: LeaseGuard, stores: Stores) -> None:
        self._guard = guard
        self._stores = stores
        self.hears: Callable[[Sequence[MetricPoint]], None] = lambda points: None
        """Whoever else is told of metrics."""
        self._n_output_lines = 0
        self._progress_event_at = float("-inf")
        self._clear()

    def write(self, batch: Sequence[frames.ChildFrame], output: Sequence[str]) -> None:
        """Store reports, checkpoints and episodes; frames of other types are left to the caller."""
        for frame in batch:
            self._take(frame)
        for line in output:
            self._take_output(line)
        self.flush()

    def log(self, level: str, message: str) -> None:
        """Add a line of the worker's own."""
        self._logs.append((level, message))

    def flush(self) -> None:
        """Store what was collected, in one transaction."""
        if not (self._phase or self._progress or self._points or self._logs or self._events):
            return
        report: dict[str, Any] = {
            "phase": self._phase,
            "progress": self._progress,
            "metrics": self._points,
            "logs": self._logs,
            "events": self._events,
        }
        self._clear()
        self._guard.persist(lambda: self._stores.runs.report(self._guard.lease, **report))

    def _clear(self) -> None:
        self._phase: str | None = None
        self._progress: Progress | None = None
        self._points: list[MetricPoint] = []
        self._logs: list[tuple[str, str]] = []
        self._events: list[tuple[EventType, Mapping[str, Any]]] = []

    def _take(self, frame: frames.ChildFrame) -> None:
        match frame:
            case frames.Phase(name=name):
                if self._phase is not None:
                    self.flush()
                self._phase = name
            case frames.Progress(progress=progress):
                self._take_progress(progress)
            case frames.Metrics(points=points):
                self._points += points
                self.hears(points)
            case frames.Distributions(epoch=epoch, step=step, values=values):
                self._events.append(
                    (EventType.DISTRIBUTIONS, {"epoch": epoch, "step": step, "values": values})
                )
            case frames.Log(level=level, message=message):
                self._logs.append((level, message))
                if level == "warning":
                    self._events.append((EventType.WARNING, {"message": message}))
            case _:
                self._keep(frame)

    def _keep(self, frame: frames.ChildFrame) -> None:
        """Store what is large at once."""
        match frame:
            case frames.Checkpoint(meta=meta, bundle=bundle, edges=edges, imported=imported):
                self.flush()
                self._guard.persist(
                    lambda: self._stores.checkpoints.put(self._guard.lease, meta, bundle, edges, imported)
                )
            case frames.Episode(info=info):
                self.flush()
                given = (frame.trajectory, frame.video, frame.thumbnail)
                self._guard.persist(lambda: self._stores.episodes.add(self._guard.lease, info, *given))
            case frames.Thinned(epochs=epochs):
                self.flush()
                self._guard.persist(lambda: self._stores.episodes.drop_films(self._guard.lease, epochs))

    def _take_progress(self, progress: Progress) -> None:
        self._progress = progress
        if time.monotonic() - self._progress_event_at >= PROGRESS_EVENT_S:
            self._progress_event_at = time.monotonic()
            self._events.append((EventType.PROGRESS, asdict(progress)))

    def _take_output(self, line: str) -> None:
        self._n_output_lines += 1
        if self._n_output_lines <= MAX_OUTPUT_LINES:
            self._logs.append((OUTPUT_LEVEL, line))
        elif self._n_output_lines == MAX_OUTPUT_LINES + 1:
            self._logs.append(("warning", f"printed more than {MAX_OUTPUT_LINES} lines; the rest is dropped"))
