"""Where a training run reports: into its directory, and as videos of what it has learnt.

The directory gets checkpoints, one line of metrics per epoch, TensorBoard scalars, and in the end a table of metrics.
"""

from collections.abc import Mapping
from contextlib import AbstractContextManager
from typing import Any

from maze_core.agent import Agent
from maze_core.api.event_file import EventFile
from maze_core.checkpoint import Checkpoint
from maze_core.config.schema import RunConfig
from maze_core.metrics import Distribution, Histogram, Reporter, SilentReporter
from maze_core.rundir import RunDir
from maze_core.runners.evaluation import run_rollout
from maze_core.runners.films import Films, Moment


class RunDirReporter(SilentReporter, AbstractContextManager["RunDirReporter"]):
    """Reporter of one call of ``train``; a context manager, since it holds an event file.

    Event files cannot be shortened, and a resumed run repeats epochs. So the events are written anew from
    ``metrics.jsonl``, which holds every epoch once: every scalar then has one point per step.
    """

    def __init__(self, run_dir: RunDir) -> None:
        self._run_dir = run_dir
        for old in run_dir.tensorboard.glob("events.out.tfevents.*"):
            old.unlink()
        self._events = EventFile(run_dir.tensorboard)
        for line in run_dir.read_metrics():
            self._events.write(line["step"], {k: v for k, v in line.items() if k not in ("epoch", "step")})
        for line in run_dir.read_distributions():
            told = {k: Histogram(**v) for k, v in line.items() if k not in ("epoch", "step")}
            self._events.write_distributions(line["step"], told)

    def metrics(self, epoch: int, step: int, values: Mapping[str, float]) -> None:
        """One line in ``metrics.jsonl`` and one point per scalar."""
        self._run_dir.append_metrics(epoch, step, values)
        self._events.write(step, values)

    def distributions(self, epoch: int, step: int, values: Mapping[str, Distribution]) -> None:
        """One line in ``distributions.jsonl``, pictures, and both as TensorBoard's."""
        self._run_dir.append_distributions(epoch, step, values)
        self._events.write_distributions(step, values)

    def checkpoint(self, checkpoint: Checkpoint, **details: Any) -> None:
        """Store it under the names it has earned."""
        self._run_dir.write_checkpoint(
            checkpoint,
            epoch=details["epoch"],
            kind=details["kind"],
            is_best=details["is_best"],
            is_last=details["is_last"],
        )

    def __exit__(self, *error: object) -> None:
        """Close the event file, and write the table of all metrics."""
        self._events.close()
        self._run_dir.write_metrics_table()


class TrainingVideos(Films):
    """Films of what a run learns, in its directory."""

    def __init__(self, config: RunConfig, run_dir: RunDir, n_videos: int, reporter: Reporter) -> None:
        super().__init__(config, n_videos, reporter)
        self._run_dir, self._n_videos = run_dir, n_videos

    def shoot(self, agent: Agent, checkpoint: Checkpoint, moment: Moment, epoch: int) -> None:
        """As ``best``, or by the epoch."""
        name = "best" if moment == "best" else f"epoch-{epoch:05d}"
        run_rollout(self.playing, agent=agent, videos=self._run_dir.video_paths(name, self._n_videos))
