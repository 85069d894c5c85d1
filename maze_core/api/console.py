"""A run on the terminal: a table with a row per epoch, a progress bar below it, a table of the whole when it is over.

Of a multirun: a bar per running job, a line as each ends, a table of all. Where the output is no terminal, there is no
bar. Everything goes to one rich console, standard error unless told otherwise; the tables are plain text for standard
output.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Self

from rich.console import Console
from rich.markup import escape
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TaskID, TextColumn, TimeElapsedColumn
from rich.text import Text

from maze_core.api.multirun_report import JobRecord, JobsReporter, MultirunReport, is_played, is_trained
from maze_core.config.grid import shown_choice
from maze_core.errors import JobFailedError
from maze_core.metrics import Reporter, SilentReporter, mean_of

if TYPE_CHECKING:
    from maze_core.evaluation.evaluate import RolloutReport
    from maze_core.rollout.episodes import EpisodeRecord
    from maze_core.types import Tree

_WIDE = 100
"""Columns of a terminal from which on the elapsed time is shown too."""
NO_VALUE = "–"
_HEADER_EVERY = 25


@dataclass(frozen=True)
class _Column:
    title: str
    key: str
    """Name of a metric; of a progress value where there is no ``/`` in it."""
    digits: int = 1
    width: int = 9
    is_needed: bool = False
    """Shown whatever the room."""


_COLUMNS = (
    _Column("epoch", "epoch", width=9, is_needed=True),
    _Column("env steps", "step", digits=0, width=11),
    _Column("return", "train/episode_return", is_needed=True),
    _Column("eval", "eval/mean_return", is_needed=True),
    _Column("±", "eval/std_return", width=8),
    _Column("policy loss", "train/policy_loss", digits=4, width=11),
    _Column("value loss", "train/value_loss", digits=3, width=11),
    _Column("entropy", "train/entropy", digits=3, width=8),
    _Column("steps/s", "time/env_steps_per_s", digits=0, width=9, is_needed=True),
    _Column("ETA", "eta", width=8, is_needed=True),
)


class _Drawing:
    """Draws on a terminal while it is entered."""

    _bars: Progress

    def __enter__(self) -> Self:
        """Start to draw."""
        self._bars.start()
        return self

    def __exit__(self, *error: object) -> None:
        """Leave the terminal as it was."""
        self._bars.stop()


class ConsoleReporter(_Drawing, SilentReporter):
    """Shows a run's progress; a context manager, since it draws on the terminal."""

    def __init__(
        self, console: Console | None = None, *, total: int | None = None, unit: str = "epoch"
    ) -> None:
        """Show on ``console``; ``total`` is the number of epochs or episodes, where it is known."""
        self.console = console or Console(stderr=True)
        self._episodes = 0
        self._return_sum = 0.0
        self._values: dict[str, float] = {}
        self._table = EpochTable(self.console.width if self.console.is_terminal else None)
        is_wide = self.console.width >= _WIDE
        self._bars = Progress(
            TextColumn("{task.description}"),
            BarColumn(bar_width=None),
            TextColumn(unit),
            MofNCompleteColumn(),
            TextColumn("{task.fields[facts]}"),
            *([TimeElapsedColumn()] if is_wide else []),
            TextColumn("{task.fields[eta]}"),
            console=self.console,
            disable=not self.console.is_terminal,
        )
        self._task: TaskID = self._bars.add_task("building", total=total, facts="", eta="")

    def phase(self, name: str) -> None:
        """Name what is done now beside the bar."""
        self._bars.update(self._task, description=name)

    def metrics(self, epoch: int, step: int, values: Mapping[str, float]) -> None:
        """Show the epoch's returns and speed."""
        self._values = {**values, "step": step}
        self._bars.update(self._task, facts=self._facts())

    def progress(self, **values: Any) -> None:
        """Move the bar, and print the epoch's row of the table above it."""
        epoch, n_epochs = values.get("epoch"), values.get("n_epochs")
        if epoch is None:
            return
        eta = duration(values.get("eta_s"))
        self._bars.update(self._task, completed=epoch, total=n_epochs, eta=f"ETA {eta}")
        for line in self._table.lines(self._values, epoch=f"{epoch}/{n_epochs or '…'}", eta=eta):
            self.console.print(line, highlight=False, soft_wrap=True)

    def episode(self, record: "EpisodeRecord") -> None:
        """Count an episode of a rollout."""
        self._episodes += 1
        self._return_sum += record.episode_return
        facts = f"mean return {self._return_sum / self._episodes:.1f}"
        self._bars.update(self._task, completed=self._episodes, facts=facts)

    def log(self, level: str, message: str) -> None:
        """Print warnings and errors above the bar."""
        if level in ("warning", "error"):
            self.console.print(Text(f"{level}: {message}", style="yellow" if level == "warning" else "red"))

    def _facts(self) -> str:
        shown = {
            "return": number(self._values.get("train/episode_return")),
            "eval": number(self._values.get("eval/mean_return")),
            "steps/s": number(self._values.get("time/env_steps_per_s"), digits=0),
        }
        return "  ".join(f"{name} {value}" for name, value in shown.items())


class JobsConsole(_Drawing, JobsReporter):
    """Shows the progress of several jobs; a context manager, since it draws on the terminal."""

    def __init__(self, console: Console | None = None, *, unit: str = "epoch") -> None:
        """Show on ``console``, standard error unless told otherwise; ``unit`` is what jobs are counted in."""
        self.console = console or Console(stderr=True)
        self._tasks: dict[int, TaskID] = {}
        self._bars = Progress(
            TextColumn("{task.description}"),
            BarColumn(bar_width=20),
            TextColumn(unit),
            MofNCompleteColumn(),
            TextColumn("{task.fields[facts]}"),
            TimeElapsedColumn(),
            console=self.console,
            disable=not self.console.is_terminal,
        )

    def started(self, job: int, choices: "Tree") -> Reporter:
        """Add a bar."""
        self._tasks[job] = self._bars.add_task(escape(_title(job, choices)), total=None, facts="")
        return _JobReporter(self._bars, self._tasks[job])

    def ended(self, record: JobRecord) -> None:
        """Take the bar away and print how the job ended."""
        task = self._tasks.pop(record.job, None)
        if task is not None:
            self._bars.remove_task(task)
        line = f"{_title(record.job, record.choices)}  {_ending(record)}"
        self.console.print(line, markup=False, highlight=False, soft_wrap=True)


class _JobReporter(SilentReporter):
    """Moves the bar of one job."""

    def __init__(self, bars: Progress, task: TaskID) -> None:
        self._bars, self._task = bars, task
        self._returns: list[float] = []

    def metrics(self, epoch: int, step: int, values: Mapping[str, float]) -> None:
        """Show the evaluation."""
        self._bars.update(self._task, facts=f"eval {number(values.get('eval/mean_return'))}")

    def progress(self, **values: Any) -> None:
        """Move the bar; a job that plays knows its fraction, and its episodes were counted before."""
        done, fraction = values.get("epoch"), values.get("fraction")
        total = values.get("n_epochs")
        if done is None and fraction:
            done, total = len(self._returns), round(len(self._returns) / fraction)
        self._bars.update(self._task, completed=done, total=total)

    def episode(self, record: "EpisodeRecord") -> None:
        """Show the mean return so far."""
        self._returns.append(record.episode_return)
        self._bars.update(self._task, facts=f"mean return {number(mean_of(self._returns))}")


class EpochTable:
    """Gives the lines of the table."""

    def __init__(self, room: int | None) -> None:
        """Fit into ``room`` columns; None is as much as is needed."""
        self._room = room
        self._columns: list[_Column] = []
        self._n_rows = 0

    def lines(self, values: Mapping[str, float], *, epoch: str, eta: str) -> list[str]:
        """The row of an epoch, with the header above it where it is due.

        Args:
            values: what was measured, and ``step``.
            epoch: such as ``7/30``.
            eta: time left.
        """
        if not self._columns:
            self._columns = _fitting(values, self._room)
        cells = {"epoch": epoch, "eta": eta}
        row = [
            cells.get(column.key) or number(values.get(column.key), digits=column.digits)
            for column in self._columns
        ]
        is_due = self._n_rows % _HEADER_EVERY == 0
        self._n_rows += 1
        return [
            *([self._line([column.title for column in self._columns])] if is_due else []),
            self._line(row),
        ]

    def _line(self, cells: list[str]) -> str:
        return " ".join(cell.rjust(column.width) for cell, column in zip(cells, self._columns, strict=True))


def training_table(report: "Tree", *, run_dir: Path | None, config_sha256: str) -> str:
    """How a training run ended.

    Args:
        report: ``TrainReport.to_dict()``.
        run_dir: where the run was written.
        config_sha256: digest of its configuration.
    """
    best = report.get("best_value")
    rows = {
        "stopped": str(report.get("stop_reason")),
        "epochs": str(report.get("epoch")),
        "environment steps": f"{report.get('env_steps', 0):,}",
        "duration": duration(report.get("duration_s")),
        "last evaluation": number(report.get("metrics", {}).get("eval/mean_return")),
        "best evaluation": NO_VALUE if best is None else f"{best:.1f} at epoch {report.get('best_epoch')}",
        "best checkpoint": NO_VALUE if run_dir is None else str(run_dir / "checkpoints" / "best.ckpt"),
        "run directory": str(run_dir or NO_VALUE),
        "config_sha256": config_sha256,
        "content_sha256": str(report.get("content_sha256") or NO_VALUE),
    }
    return aligned(list(rows.items()))


def rollout_table(report: "RolloutReport", *, config_sha256: str) -> str:
    """How a rollout ended."""
    summary = report.summary
    interval, lengths = summary.ci95, summary.lengths
    rows = {
        "stopped": report.stop_reason,
        "episodes": str(len(report.episodes)),
        "mean return": f"{number(summary.mean_return)} ± {number(summary.std_return)}",
        "95 % interval": NO_VALUE if not interval else f"{interval[0]:.1f} to {interval[1]:.1f}",
        "mean length": number(sum(lengths) / len(lengths) if lengths else None),
        "saved to": str(report.saved_to or NO_VALUE),
        "config_sha256": config_sha256,
    }
    return aligned(list(rows.items()))


def training_jobs_table(report: MultirunReport) -> str:
    """All jobs and how they ended, the best one named, and where they are."""
    rows = [["job", "choices", "stopped", "epochs", "best evaluation", "duration", "run directory"]]
    for record in report.jobs:
        outcome = record.outcome
        if is_trained(outcome):
            counters = outcome.counters
            best = NO_VALUE
            if counters.best_value is not None:
                best = f"{number(counters.best_value)} at epoch {counters.best_epoch}"
            ending = [outcome.stop_reason, str(counters.epoch), best, duration(outcome.duration_s)]
        else:
            ending = ["failed" if outcome else "not begun", "–", "–", "–"]
        rows.append([str(record.job), _choices(record.choices), *ending, str(record.run_dir or "–")])
    best_job = report.best
    lines = [aligned(rows), ""]
    if best_job is not None:
        lines.append(
            f"best: job {best_job.job} ({_choices(best_job.choices)}), {number(best_job.best_return)}"
        )
    lines += [f"{record.outcome}" for record in report.jobs if isinstance(record.outcome, JobFailedError)]
    return "\n".join([*lines, f"all jobs: {report.run_dir}"])


def rollout_jobs_table(report: MultirunReport, outcomes: "Sequence[RolloutReport | JobFailedError]") -> str:
    """All jobs and what they played."""
    rows = [["job", "choices", "episodes", "mean return", "saved to"]]
    for record, outcome in zip(report.jobs, outcomes, strict=True):
        if isinstance(outcome, JobFailedError):
            played = ["–", f"{outcome.error_type}: {outcome.message}", "–"]
        else:
            played = [str(len(outcome.episodes)), _spread(outcome), str(outcome.saved_to or "–")]
        rows.append([str(record.job), _choices(record.choices), *played])
    return aligned(rows)


def number(value: float | None, *, digits: int = 1) -> str:
    """A number for people; a dash where there is none."""
    return NO_VALUE if value is None or value != value else f"{value:,.{digits}f}"


def duration(seconds: float | None) -> str:
    """Seconds as ``1:02:03`` or ``2:03``; a dash where there are none."""
    if seconds is None:
        return NO_VALUE
    minutes, rest = divmod(round(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours}:{minutes:02d}:{rest:02d}" if hours else f"{minutes}:{rest:02d}"


def aligned(rows: Sequence[Sequence[str]]) -> str:
    """Rows as text with columns below each other; nothing is cut."""
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    return "\n".join(
        "  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)).rstrip() for row in rows
    )


def _fitting(values: Mapping[str, float], room: int | None) -> list[_Column]:
    """The columns that have something to show, as many of the optional ones as fit."""
    columns = [column for column in _COLUMNS if column.is_needed or column.key in values]
    optional = [column for column in columns if not column.is_needed]
    while room is not None and optional and sum(column.width + 1 for column in columns) - 1 > room:
        columns.remove(optional.pop())
    return columns


def _title(job: int, choices: "Tree") -> str:
    return f"job {job}  {_choices(choices)}"


def _choices(choices: "Tree") -> str:
    return ", ".join(f"{key}={shown_choice(value)}" for key, value in choices.items()) or "–"


def _ending(record: JobRecord) -> str:
    outcome = record.outcome
    if isinstance(outcome, JobFailedError):
        return f"failed: {outcome.error_type}: {outcome.message}"
    if is_played(outcome):
        return f"{len(outcome.episodes)} episodes, mean return {_spread(outcome)}"
    if is_trained(outcome):
        best = number(outcome.counters.best_value)
        return f"{outcome.stop_reason} after epoch {outcome.counters.epoch}, best evaluation {best}"
    return "not begun"


def _spread(report: "RolloutReport") -> str:
    return f"{number(report.summary.mean_return)} ± {number(report.summary.std_return)}"
