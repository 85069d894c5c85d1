"""Where a run's progress goes: the Reporter protocol and its combinations. Nothing here counts steps by itself."""

import importlib
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from statistics import fmean
from typing import TYPE_CHECKING, Any, Protocol

from maze_core.checkpoint import Checkpoint

if TYPE_CHECKING:
    from maze_core.rollout.episodes import EpisodeRecord


def mean_of(values: Sequence[float]) -> float:
    """The mean of numbers of any size: NaN or infinite where one of them is, or their sum; NaN of none."""
    if not values:
        return math.nan
    try:
        return fmean(values)
    except (OverflowError, ValueError):  # a sum beyond all floats, or of both infinities
        return sum(values) / len(values)


class MetricTable(list[dict[str, Any]]):
    """What was measured, a row for each epoch: ``epoch``, ``step`` and a number per metric, where it was measured."""

    def to_pandas(self) -> Any:
        """As a ``pandas.DataFrame``; NaN where an epoch did not measure a metric."""
        return self._table("pandas")

    def to_polars(self) -> Any:
        """As a ``polars.DataFrame``; null where an epoch did not measure a metric."""
        return self._table("polars")

    def _table(self, library: str) -> Any:
        try:
            module = importlib.import_module(library)
        except ImportError as error:
            raise ImportError(
                f"A table needs {library}, which is not installed: pip install {library}"
            ) from error
        columns = dict.fromkeys(["epoch", "step", *(name for row in self for name in row)])
        return module.DataFrame({name: [row.get(name) for row in self] for name in columns})


@dataclass(frozen=True, kw_only=True)
class Histogram:
    """How often numbers fell into bins of equal width from ``low`` to ``high``."""

    low: float
    high: float
    counts: tuple[int, ...]

    def to_dict(self) -> dict[str, Any]:
        """As a JSON object."""
        return {"low": self.low, "high": self.high, "counts": [*self.counts]}


Distribution = Histogram | bytes
"""What is shown of many numbers: a histogram, or a picture as PNG."""


class Reporter(Protocol):
    """Takes what a run has to say. Called from the thread that runs; must return quickly."""

    def phase(self, name: str) -> None:
        """What is done now: ``building, training, evaluating, checkpointing, finishing, rollout``."""

    def progress(
        self,
        *,
        epoch: int | None,
        n_epochs: int | None,
        env_steps: int | None,
        fraction: float | None,
        eta_s: float | None,
    ) -> None:
        """How far the run is; ``fraction`` in [0, 1], ``eta_s`` in seconds."""

    def metrics(self, epoch: int, step: int, values: Mapping[str, float]) -> None:
        """Values measured at an epoch (from 1) and environment step; called once per epoch."""

    def distributions(self, epoch: int, step: int, values: Mapping[str, Distribution]) -> None:
        """What was gathered in an epoch, by name; once per epoch at most. Reporters may do without this method."""

    def checkpoint(
        self,
        checkpoint: Checkpoint,
        *,
        epoch: int,
        step: int,
        kind: str,
        metrics: Mapping[str, float],
        is_best: bool,
        is_last: bool,
    ) -> None:
        """A checkpoint to keep; ``kind`` is ``scheduled``, ``best``, ``last`` or ``continued``."""

    def episode(self, record: "EpisodeRecord") -> None:
        """An episode of a rollout or evaluation ended."""

    def log(self, level: str, message: str) -> None:
        """A line for the run's log; ``level`` is ``debug, info, warning`` or ``error``."""


class SilentReporter:
    """Takes everything and keeps nothing; a base for reporters that want only some of it."""

    def phase(self, name: str) -> None:
        """See :class:`Reporter`, as for all that follow."""
        self.tell("phase", name)

    def progress(self, **values: Any) -> None:
        """How far the run is."""
        self.tell("progress", **values)

    def metrics(self, epoch: int, step: int, values: Mapping[str, float]) -> None:
        """Values measured at an epoch."""
        self.tell("metrics", epoch, step, values)

    def distributions(self, epoch: int, step: int, values: Mapping[str, Distribution]) -> None:
        """What was gathered in an epoch."""
        self.tell("distributions", epoch, step, values)

    def checkpoint(self, checkpoint: Checkpoint, **details: Any) -> None:
        """A checkpoint to keep."""
        self.tell("checkpoint", checkpoint, **details)

    def episode(self, record: "EpisodeRecord") -> None:
        """An episode ended."""
        self.tell("episode", record)

    def log(self, level: str, message: str) -> None:
        """A line for the log."""
        self.tell("log", level, message)

    def tell(self, method: str, *args: Any, **kwargs: Any) -> None:
        """Everything comes here that no subclass takes with the method itself; it is ignored."""


class Reporters(SilentReporter):
    """Hands everything to several reporters, in order."""

    def __init__(self, reporters: Sequence[Reporter]) -> None:
        self._reporters = tuple(reporters)

    def tell(self, method: str, *args: Any, **kwargs: Any) -> None:
        """Call the method of every reporter."""
        for reporter in self._reporters:
            if method != "distributions" or hasattr(reporter, method):
                getattr(reporter, method)(*args, **kwargs)
