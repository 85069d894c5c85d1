"""What a training's child films of its policy: episodes by the epoch, and what acts in them.

The number of an episode follows from the epoch alone, so a run that is taken up again stores no episode twice.
"""

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

from maze_core.agent import Agent
from maze_core.checkpoint import Checkpoint
from maze_core.config.schema import RunConfig
from maze_core.envs.video import check_videos
from maze_core.metrics import SilentReporter
from maze_core.runners.evaluation import run_rollout
from maze_core.runners.films import Films, Moment, epoch_of, spread
from service.domain.run import FILMED
from service.worker import frames
from service.worker.channel import PipeReporter

if TYPE_CHECKING:
    from maze_core.rollout.episodes import EpisodeRecord

MAX_VIDEO_STEPS = 10_000
"""Flat steps of an episode that are filmed at most."""
KEPT = 16
"""Scheduled checkpoints whose films are kept, beside those of the beginning, of the best and of the last policy."""


class RunFilms(Films):
    """Films that go the way of a rollout's episodes."""

    def __init__(
        self,
        config: RunConfig,
        n_videos: int,
        reporter: PipeReporter,
        cancelled: Callable[[], bool],
        *,
        first_epoch: int = 0,
        best: Checkpoint | None = None,
    ) -> None:
        """Film ``n_videos`` episodes of each policy.

        Args:
            config: of the training.
            n_videos: episodes of each policy.
            reporter: takes them.
            cancelled: ends an episode.
            first_epoch: where the run begins.
            best: the best policy of earlier attempts.

        Raises:
            InvalidSpecificationError: the environment cannot be filmed here.
        """
        super().__init__(config, n_videos, reporter, record=True)
        check_videos(self.playing.build("env").rendered().make)
        self._pipe, self._n_videos, self._cancelled, self._best = reporter, n_videos, cancelled, best
        self._every: int = config.build("algorithm").checkpoint_every
        self._before = first_epoch // self._every

    def wants(self, moment: Moment, epoch: int) -> bool:
        """Of the scheduled ones every so manieth; as training goes on, of those that were kept every other one goes."""
        if moment == "begin":
            return True
        number = epoch // self._every - self._before
        every = spread(number, KEPT)
        if every > spread(number - 1, KEPT):
            dropped = [(self._before + n) * self._every for n in range(every // 2, number, every)]
            self._due = [each for each in self._due if epoch_of(each[1]) not in dropped]
            self._pipe.send(frames.Thinned(epochs=tuple(dropped)))
        is_wanted: bool = number % every == 0
        return is_wanted

    def end(self, best: Checkpoint | None, last: Checkpoint | None = None) -> None:
        """As there; the best policy may be that of an earlier attempt."""
        super().end(best or self._best, last)

    def shoot(self, agent: Agent, checkpoint: Checkpoint, moment: Moment, epoch: int) -> None:
        """Send what acts, then its episodes."""
        if moment in ("begin", "scheduled"):
            step = int(checkpoint.identity["counters"]["env_steps"])
            self._pipe.checkpoint(
                checkpoint, epoch=epoch, step=step, kind=FILMED, metrics={}, is_best=False, is_last=False
            )
        videos = [Path(f"film-{number:05d}.mp4").absolute() for number in range(self._n_videos)]
        run_rollout(
            self.playing,
            agent=agent,
            reporter=_Takes(self._pipe, videos, moment, epoch),
            cancelled=self._cancelled,
            videos=videos,
            video_steps=MAX_VIDEO_STEPS,
        )


class _Takes(SilentReporter):
    """Takes the episodes of one policy, and nothing else that their rollout says."""

    def __init__(self, pipe: PipeReporter, videos: list[Path], moment: Moment, epoch: int) -> None:
        self._pipe, self._videos = pipe, videos
        self._moment, self._epoch = moment, epoch

    def episode(self, record: "EpisodeRecord") -> None:
        video = self._videos[record.index]
        index = self._epoch * len(self._videos) + record.index
        self._pipe.film(replace(record, index=index), video, epoch=self._epoch, moment=self._moment)
