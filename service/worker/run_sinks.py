"""The operator's trackers, told of the metrics of one attempt of a training; see :mod:`maze_core.runners.sinks`."""

from collections.abc import Sequence
from itertools import groupby
from types import TracebackType
from typing import Self

from service.domain.run import MetricPoint, Run
from service.worker.writer import RunWriter


class RunSinks:
    """Hears of what a run's child measures, and hands it on; a sink that fails is a warning in the run's log."""

    def __init__(self, words: Sequence[str], run: Run, writer: RunWriter) -> None:
        """Take the trackers by their words."""
        self.outcome = "failed"
        """How the attempt ended: ``finished``, ``failed`` or ``killed``."""
        self._words, self._run, self._writer = words, run, writer

    def __enter__(self) -> Self:
        """Start to write."""
        if not self._words:
            return self
        # brings settings of runs, which an idle worker does without
        from maze_core.runners.sinks import RunFacts, SinkReporter, end_all
        from maze_core.runners.trackers import TRACKERS

        run = self._run
        facts = RunFacts.of(dict(run.config), name=run.name or run.id, run_id=run.id)
        self._reporters = [
            SinkReporter(word, TRACKERS[word]().make, facts, self._warn) for word in self._words
        ]
        self._end = end_all
        self._writer.hears = self._hear
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        """Let them write what waits, for a limited time."""
        if self._words:
            self._end(self._reporters, self.outcome)
            self._writer.hears = lambda points: None

    def _hear(self, points: Sequence[MetricPoint]) -> None:
        for (epoch, step), some in groupby(points, lambda point: (point.epoch, point.step)):
            values = {point.name: point.value for point in some}
            for reporter in self._reporters:
                reporter.metrics(epoch, step, values)

    def _warn(self, text: str) -> None:
        self._writer.log("warning", text)
