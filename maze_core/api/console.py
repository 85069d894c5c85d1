"""A run on the terminal: a line per epoch, a progress bar below them, a table when it is over.

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

from maze_core.metrics import SilentReporter

if TYPE_CHECKING:
    from maze_core.rollout.episodes import EpisodeRecord
    from maze_core.types import Tree

_NO_VALUE = "–"


class ConsoleReporter(SilentReporter):
    """Shows a run's progress; a context manager, since it draws on the terminal."""

    def __init__(
        self, console: Console | None = None, *, total: int | None = None, unit: str = "epoch"
    ) -> None:
        """Show on ``console``; ``total`` is the number of epochs or episodes, where it is known."""
        self.console = console or Console(stderr=True)
        self.best: tuple[int, float] | None = None
        """Epoch and mean return of the best evaluation seen."""
        self._unit = unit
        self._episodes = 0
        self._return_sum = 0.0
        self._values: dict[str, float] = {}
        self._bar = Progress(
            TextColumn("{task.description}"),
            BarColumn(bar_width=None),
            TextColumn(unit),
            MofNCompleteColumn(),
            TextColumn("{task.fields[facts]}"),
            TimeElapsedColumn(),
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
        self._values = dict(values)
        score = values.get("eval/mean_return")
        if score is not None and (self.best is None or score > self.best[1]):
            self.best = (epoch, score)
        self._bar.update(self._task, facts=self._facts())

    def progress(self, **values: Any) -> None:
        """Move the bar, and print a line per epoch above it."""
        epoch, n_epochs = values.get("epoch"), values.get("n_epochs")
        if epoch is None:
            return
        eta = f"ETA {duration(values.get('eta_s'))}"
        self._bar.update(self._task, completed=epoch, total=n_epochs, eta=eta)
        line = f"{self._unit} {epoch}/{n_epochs}  {self._facts()}  {eta}"
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


def training_table(
    report: "Tree", *, best: tuple[int, float] | None, run_dir: Path | None, config_sha256: str
) -> str:
    """How a training run ended.

    Args:
        report: ``TrainReport.to_dict()``.
        best: epoch and mean return of the best evaluation.
        run_dir: where the run was written.
        config_sha256: digest of its configuration.
    """
    rows = {
        "stopped": str(report.get("stop_reason")),
        "epochs": str(report.get("epoch")),
        "environment steps": f"{report.get('env_steps', 0):,}",
        "duration": duration(report.get("duration_s")),
        "last evaluation": number(report.get("metrics", {}).get("eval/mean_return")),
        "best evaluation": _NO_VALUE if best is None else f"{best[1]:.1f} at epoch {best[0]}",
        "best checkpoint": _NO_VALUE if run_dir is None else str(run_dir / "checkpoints" / "best.ckpt"),
        "run directory": str(run_dir or _NO_VALUE),
        "config_sha256": config_sha256,
        "content_sha256": str(report.get("content_sha256") or _NO_VALUE),
    }
    return _table(rows)


def rollout_table(report: "Tree", *, config_sha256: str) -> str:
    """How a rollout ended; ``report`` is ``RolloutReport.to_dict()``."""
    interval = report.get("ci95")
    lengths = report.get("lengths") or []
    rows = {
        "stopped": str(report.get("stop_reason")),
        "episodes": str(report.get("n_episodes")),
        "mean return": f"{number(report.get('mean_return'))} ± {number(report.get('std_return'))}",
        "95 % interval": _NO_VALUE if not interval else f"{interval[0]:.1f} to {interval[1]:.1f}",
        "mean length": number(sum(lengths) / len(lengths) if lengths else None),
        "config_sha256": config_sha256,
    }
    return _table(rows)


def number(value: float | None, *, digits: int = 1) -> str:
    """A number for people; a dash where there is none."""
    return _NO_VALUE if value is None or value != value else f"{value:,.{digits}f}"


def duration(seconds: float | None) -> str:
    """Seconds as ``1:02:03`` or ``2:03``; a dash where there are none."""
    if seconds is None:
        return _NO_VALUE
    minutes, rest = divmod(round(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours}:{minutes:02d}:{rest:02d}" if hours else f"{minutes}:{rest:02d}"


def _table(rows: Mapping[str, str]) -> str:
    width = max(map(len, rows)) + 2
    return "\n".join(f"{name:{width}}{value}" for name, value in rows.items())
