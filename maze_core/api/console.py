"""A run on the terminal: a table with a row per epoch, a progress bar below it, a table of the whole when it is over.

Where the output is no terminal, there is no bar. Everything goes to one rich
console, standard error unless told otherwise; the tables are plain text for standard output.
"""

from collections.abc import Mapping
from pathlib import Path
from types import TracebackType
from typing import TYPE_CHECKING, Any

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TaskID, TextColumn, TimeElapsedColumn
from rich.text import Text

from maze_core.api.epoch_table import NO_VALUE, EpochTable, number
from maze_core.metrics import SilentReporter

if TYPE_CHECKING:
    from maze_core.evaluation.evaluate import RolloutReport
    from maze_core.rollout.episodes import EpisodeRecord
    from maze_core.types import Tree

_WIDE = 100
"""Columns of a terminal from which on the elapsed time is shown too."""


class ConsoleReporter(SilentReporter):
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
        self._bar = Progress(
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
        self._task: TaskID = self._bar.add_task("building", total=total, facts="", eta="")

    def phase(self, name: str) -> None:
        """Name what is done now beside the bar."""
        self._bar.update(self._task, description=name)

    def metrics(self, epoch: int, step: int, values: Mapping[str, float]) -> None:
        """Show the epoch's returns and speed."""
        self._values = {**values, "step": step}
        self._bar.update(self._task, facts=self._facts())

    def progress(self, **values: Any) -> None:
        """Move the bar, and print the epoch's row of the table above it."""
        epoch, n_epochs = values.get("epoch"), values.get("n_epochs")
        if epoch is None:
            return
        eta = duration(values.get("eta_s"))
        self._bar.update(self._task, completed=epoch, total=n_epochs, eta=f"ETA {eta}")
        for line in self._table.lines(self._values, epoch=f"{epoch}/{n_epochs}", eta=eta):
            self.console.print(line, highlight=False, soft_wrap=True)

    def episode(self, record: "EpisodeRecord") -> None:
        """Count an episode of a rollout."""
        self._episodes += 1
        self._return_sum += record.episode_return
        facts = f"mean return {self._return_sum / self._episodes:.1f}"
        self._bar.update(self._task, completed=self._episodes, facts=facts)

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

    def __enter__(self) -> "ConsoleReporter":
        """Start to draw."""
        self._bar.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        """Leave the terminal as it was."""
        self._bar.stop()


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
    return _table(rows)


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
    return _table(rows)


def duration(seconds: float | None) -> str:
    """Seconds as ``1:02:03`` or ``2:03``; a dash where there are none."""
    if seconds is None:
        return NO_VALUE
    minutes, rest = divmod(round(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours}:{minutes:02d}:{rest:02d}" if hours else f"{minutes}:{rest:02d}"


def _table(rows: Mapping[str, str]) -> str:
    width = max(map(len, rows)) + 2
    return "\n".join(f"{name:{width}}{value}" for name, value in rows.items())
