"""The child's end of the pipe: everything a run reports goes through here, in order.

Metrics and progress come as often as the run likes and leave in batches, at least :data:`BATCH_S` apart but
the first at once; whatever else is sent takes the waiting ones along first, so that order is kept.
"""

import threading
import time
from collections.abc import Mapping, Sequence
from dataclasses import replace
from multiprocessing.connection import Connection
from pathlib import Path
from typing import TYPE_CHECKING, Any

from msgspec import structs

from maze_core.metrics import Distribution, Histogram
from maze_core.subprocesses import peak_memory_bytes
from service.domain.run import EpisodeInfo, Imported, MetricPoint, NewCheckpoint, Progress
from service.worker import frames

if TYPE_CHECKING:
    from maze_core.checkpoint import Checkpoint
    from maze_core.rollout.episodes import EpisodeRecord

BATCH_S = 0.1
"""Least time between two batches of metrics: ten updates a second are as many as anyone can watch."""

DISTRIBUTIONS_S = 1.0
"""Least time between two epochs whose histograms are kept."""

MAX_VIDEO_BYTES = 64 * 2**20
"""Of one episode; a larger one is left out."""

MAX_FILM_BYTES = 32 * 2**20
"""Of what is recorded of an episode beside its film in a training."""

MAX_LINE = 4096
"""A longer log line is cut."""


class WorkerGone(BaseException):
    """The worker closed the pipe. No ordinary ``except Exception`` of user code may swallow it."""


class Channel:
    """Sends frames to the worker from any thread; blocks while the worker is behind, so nothing is lost.

    Every method that sends raises :class:`WorkerGone` when nobody reads any more.
    """

    def __init__(self, connection: "Connection[Any, Any]") -> None:
        self._connection = connection
        self._lock = threading.RLock()
        self._points: list[MetricPoint] = []
        self._progress: Progress | None = None
        self._sent_at = float("-inf")

    def send(self, frame: frames.Frame) -> None:
        """Send one frame after the waiting batch."""
        message = frames.encode(frame)
        with self._lock:
            self.flush()
            self._write(message)

    def put(self, *, points: list[MetricPoint] | None = None, progress: Progress | None = None) -> None:
        """Add to the batch, and send it when the last one is long enough ago."""
        with self._lock:
            self._points += points or []
            self._progress = progress or self._progress
            self._flush_if_due()

    def tick(self, *, usage: bool) -> None:
        """Send what waits when it is due; ``usage`` adds memory and CPU time.

        Does nothing while another thread is sending: the caller must stay free to see the pipe end.
        """
        if self._lock.acquire(blocking=False):
            try:
                self._flush_if_due()
                if usage:
                    self.send_usage()
            finally:
                self._lock.release()

    def flush(self) -> None:
        """Send the batch now, if there is any."""
        with self._lock:
            points, progress = tuple(self._points), self._progress
            self._points, self._progress = [], None
            if points:
                self._write(frames.encode(frames.Metrics(points=points)))
            if progress is not None:
                self._write(frames.encode(frames.Progress(progress=progress)))
            if points or progress is not None:
                self._sent_at = time.monotonic()

    def send_usage(self) -> None:
        """Say what this process has used so far."""
        self.send(frames.Usage(max_rss_bytes=peak_memory_bytes(), cpu_s=time.process_time()))

    def _flush_if_due(self) -> None:
        if time.monotonic() - self._sent_at >= BATCH_S:
            self.flush()

    def _write(self, message: bytes) -> None:
        try:
            self._connection.send_bytes(message)
        except OSError as error:
            raise WorkerGone from error


class PipeReporter:
    """The :class:`maze_core.metrics.Reporter` that speaks to the worker."""

    def __init__(self, channel: Channel) -> None:
        self._channel = channel
        self._distributions_at = float("-inf")
        self.videos: Sequence[Path] = ()
        """Where the videos of the first episodes are when these have ended."""

    def phase(self, name: str) -> None:
        """See :class:`maze_core.metrics.Reporter`."""
        self._channel.send(frames.Phase(name=name))

    def progress(
        self,
        *,
        epoch: int | None = None,
        n_epochs: int | None = None,
        env_steps: int | None = None,
        fraction: float | None = None,
        eta_s: float | None = None,
    ) -> None:
        """See :class:`maze_core.metrics.Reporter`."""
        progress = Progress(
            epoch=epoch, n_epochs=n_epochs, env_steps=env_steps, fraction=fraction, eta_s=eta_s
        )
        self._channel.put(progress=progress)

    def metrics(self, epoch: int, step: int, values: Mapping[str, float]) -> None:
        """See :class:`maze_core.metrics.Reporter`."""
        self._channel.put(
            points=[
                MetricPoint(name=name, epoch=epoch, step=step, value=float(value))
                for name, value in values.items()
            ]
        )

    def distributions(self, epoch: int, step: int, values: Mapping[str, Distribution]) -> None:
        """Histograms, of epochs that are at least a second apart: an event log is no place for all of them."""
        now = time.monotonic()
        histograms = {name: told.to_dict() for name, told in values.items() if isinstance(told, Histogram)}
        if histograms and now - self._distributions_at >= DISTRIBUTIONS_S:
            self._distributions_at = now
            self._channel.send(frames.Distributions(epoch=epoch, step=step, values=histograms))

    def checkpoint(
        self,
        checkpoint: "Checkpoint",
        *,
        epoch: int,
        step: int,
        kind: str,
        metrics: Mapping[str, float],
        is_best: bool,
        is_last: bool,
        imported: Imported | None = None,
    ) -> None:
        """See :class:`maze_core.metrics.Reporter`; ``imported`` is of an import."""
        from maze_core.checkpoint import chunk_edges

        meta = NewCheckpoint(
            epoch=epoch,
            step=step,
            kind=kind,
            metrics={name: float(value) for name, value in metrics.items()},
            content_sha256=checkpoint.content_sha256,
            weights_sha256=checkpoint.weights_sha256,
            servable=bool(checkpoint.identity.get("servable", True)),
            not_servable_reason=checkpoint.identity.get("not_servable_reason"),
            is_best=is_best,
            is_last=is_last,
        )
        bundle = checkpoint.to_bytes()
        edges = tuple(chunk_edges(bundle))
        self._channel.send(frames.Checkpoint(meta=meta, bundle=bundle, edges=edges, imported=imported))

    def send(self, frame: frames.Frame) -> None:
        """Send what no reporter says."""
        self._channel.send(frame)

    def episode(self, record: "EpisodeRecord") -> None:
        """See :class:`maze_core.metrics.Reporter`."""
        frame = self._episode_frame(record)
        if record.index < len(self.videos):
            frame = self._with_video(frame, self.videos[record.index])
        self._channel.send(frame)

    def film(self, record: "EpisodeRecord", video: Path, *, epoch: int, moment: str) -> None:
        """An episode of a training's policy; what is too long to be looked at step by step is only filmed."""
        frame = self._episode_frame(record)
        if frame.trajectory is not None and len(frame.trajectory) > MAX_FILM_BYTES:
            frame = structs.replace(frame, info=replace(frame.info, has_trajectory=False), trajectory=None)
        frame = structs.replace(frame, info=replace(frame.info, epoch=epoch, moment=moment))
        self._channel.send(self._with_video(frame, video))

    def _episode_frame(self, record: "EpisodeRecord") -> frames.Episode:
        from maze_core.rollout.recording import trajectory_to_bytes

        trajectory = None if record.trajectory is None else trajectory_to_bytes(record.trajectory)
        info = EpisodeInfo(
            index=record.index,
            seed=record.seed,
            episode_return=float(record.episode_return),
            length=record.length,
            terminated=bool(record.terminated),
            truncated=bool(record.truncated),
            has_trajectory=trajectory is not None,
            has_video=False,
        )
        return frames.Episode(info=info, trajectory=trajectory)

    def _with_video(self, frame: frames.Episode, path: Path) -> frames.Episode:
        from maze_core.envs.video import thumbnail

        if (size := path.stat().st_size) > MAX_VIDEO_BYTES:
            n_mib = MAX_VIDEO_BYTES // 2**20
            self.log(
                "warning", f"the video of episode {frame.info.index} has {size} bytes; {n_mib} MiB are kept"
            )
        else:
            info, picture = replace(frame.info, has_video=True), thumbnail(path)
            frame = structs.replace(frame, info=info, video=path.read_bytes(), thumbnail=picture)
        path.unlink()
        return frame

    def log(self, level: str, message: str) -> None:
        """See :class:`maze_core.metrics.Reporter`."""
        self._channel.send(frames.Log(level=level, message=message[:MAX_LINE]))
