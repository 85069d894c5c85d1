"""The jobs of a multirun on the terminal: a bar per running job, a line as each ends, a table at the end."""

from collections.abc import Mapping, Sequence
from statistics import fmean
from types import TracebackType
from typing import TYPE_CHECKING, Any

from rich.console import Console
from rich.markup import escape
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TaskID, TextColumn, TimeElapsedColumn

from maze_core.api.console import duration
from maze_core.api.epoch_table import NO_VALUE, number
from maze_core.api.sweep_report import JobRecord, JobsReporter, SweepReport, is_played, is_trained
from maze_core.config.sweep import shown_choice
from maze_core.errors import JobFailedError
from maze_core.metrics import Reporter, SilentReporter

if TYPE_CHECKING:
    from maze_core.evaluation.evaluate import RolloutReport
    from maze_core.rollout.episodes import EpisodeRecord
    from maze_core.types import Tree


class JobsConsole(JobsReporter):
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

    def __enter__(self) -> "JobsConsole":
        """Start to draw."""
        self._bars.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        """Leave the terminal as it was."""
        self._bars.stop()


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
        self._bars.update(self._task, facts=f"mean return {number(fmean(self._returns))}")


def training_jobs_table(report: SweepReport) -> str:
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


def rollout_jobs_table(report: SweepReport, outcomes: "Sequence[RolloutReport | JobFailedError]") -> str:
    """All jobs and what they played."""
    rows = [["job", "choices", "episodes", "mean return", "saved to"]]
    for record, outcome in zip(report.jobs, outcomes, strict=True):
        if isinstance(outcome, JobFailedError):
            played = ["–", f"{outcome.error_type}: {outcome.message}", "–"]
        else:
            played = [str(len(outcome.episodes)), _spread(outcome), str(outcome.saved_to or "–")]
        rows.append([str(record.job), _choices(record.choices), *played])
    return aligned(rows)


def aligned(rows: Sequence[Sequence[str]]) -> str:
    """Rows as text with columns below each other; nothing is cut."""
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    return "\n".join(
        "  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)).rstrip() for row in rows
    )


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
