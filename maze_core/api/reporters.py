"""Where a training run reports: into its directory, and as videos of what it has learnt.

The directory gets checkpoints, one line of metrics per epoch, and TensorBoard scalars.
"""

from collections.abc import Mapping
from contextlib import AbstractContextManager
from typing import Any

from maze_core.agent import load_agent
from maze_core.api.event_file import EventFile
from maze_core.checkpoint import Checkpoint
from maze_core.config.schema import RunConfig
from maze_core.metrics import Reporter, SilentReporter
from maze_core.rundir import RunDir
from maze_core.runners.config import rollout_tree
from maze_core.runners.evaluation import run_rollout


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

    def metrics(self, epoch: int, step: int, values: Mapping[str, float]) -> None:
        """One line in ``metrics.jsonl`` and one point per scalar."""
        self._run_dir.append_metrics(epoch, step, values)
        self._events.write(step, values)

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
        """Close the event file."""
        self._events.close()


class TrainingVideos(SilentReporter):
    """Plays the same seeded episodes with every policy, in environments of its own, so that no number changes."""

    def __init__(
        self, config: RunConfig, run_dir: RunDir, n_videos: int, reporter: Reporter, *, waits: bool
    ) -> None:
        """Film ``n_videos`` episodes of each policy into ``run_dir``; ``reporter`` is told that it is done.

        Where this ``waits``, because no environment may live beside those of training, all is filmed afterwards.
        """
        self._run_dir, self._n_videos, self._reporter = run_dir, n_videos, reporter
        self._waits, self._due = waits, list[tuple[Checkpoint, str]]()
        evaluator = config.build("algorithm").evaluator
        tree = rollout_tree(
            config.tree,
            n_episodes=n_videos,
            max_episode_steps=evaluator.max_episode_steps,
            deterministic=True,
            record_trajectory=False,
        )
        self._playing = RunConfig(mode="rollout", tree=tree, objects=config.objects)

    def checkpoint(self, checkpoint: Checkpoint, **details: Any) -> None:
        """Film a scheduled one, or keep it to be filmed."""
        if details["kind"] == "scheduled":
            self._due.append((checkpoint, f"epoch-{details['epoch']:05d}"))
            if not self._waits:
                self.film()

    def film(self, best: Checkpoint | None = None) -> None:
        """Film what is due, and the best policy where it is given."""
        due, self._due = self._due, []
        for checkpoint, name in [*due, *([(best, "best")] if best else [])]:
            self._record(checkpoint, name)

    def _record(self, checkpoint: Checkpoint, name: str) -> None:
        self._reporter.phase("filming")
        agent = load_agent(checkpoint, objects=self._playing.objects)
        run_rollout(self._playing, agent=agent, videos=self._run_dir.video_paths(name, self._n_videos))
