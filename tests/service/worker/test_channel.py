"""What a run reports leaves its process in order, in batches, and complete."""

from multiprocessing import Pipe
from multiprocessing.connection import Connection
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest

from maze_core.checkpoint import Checkpoint
from maze_core.envs.video import VideoFile
from maze_core.metrics import Histogram
from maze_core.rollout.episodes import EpisodeRecord
from service.domain.run import MetricPoint, Progress
from service.worker import channel as channel_module
from service.worker import frames
from service.worker.channel import MAX_LINE, Channel, PipeReporter, WorkerGone
from tests.maze_core.envs.videos import picture_of


@pytest.fixture
def ends() -> "tuple[Channel, Connection[Any, Any]]":
    ours, theirs = Pipe()
    return Channel(theirs), ours


def received(connection: "Connection[Any, Any]") -> list[frames.ChildFrame]:
    found = []
    while connection.poll():
        found.append(frames.decode_from_child(connection.recv_bytes()))
    return found


def point(epoch: int) -> MetricPoint:
    return MetricPoint(name="loss", epoch=epoch, step=epoch, value=float(epoch))


def test_the_first_metrics_leave_at_once_and_the_next_ones_wait(
    ends: "tuple[Channel, Connection[Any, Any]]", monkeypatch: pytest.MonkeyPatch
) -> None:
    clock = SimpleNamespace(now=100.0)
    monkeypatch.setattr(channel_module, "time", SimpleNamespace(monotonic=lambda: clock.now))
    channel, worker = ends
    channel.put(points=[point(1)])
    channel.put(points=[point(2)])
    channel.put(points=[point(3)])
    assert received(worker) == [frames.Metrics(points=(point(1),))]
    clock.now += 0.2
    channel.tick(usage=False)
    assert received(worker) == [frames.Metrics(points=(point(2), point(3)))]


def test_a_checkpoint_says_where_its_replay_is_cut(ends: "tuple[Channel, Connection[Any, Any]]") -> None:
    channel, worker = ends
    rewards = np.ones(8, np.float32)
    checkpoint = Checkpoint(identity={}, tensors={"replay/000000/reward": rewards, "policy/w": np.zeros(8)})
    PipeReporter(channel).checkpoint(
        checkpoint, epoch=1, step=8, kind="scheduled", metrics={}, is_best=True, is_last=False
    )
    (frame,) = received(worker)
    assert isinstance(frame, frames.Checkpoint)
    assert frame.bundle == checkpoint.to_bytes()
    start, end = frame.edges
    assert frame.bundle[start:end] == rewards.tobytes()


def test_a_checkpoint_never_overtakes_the_metrics_before_it(
    ends: "tuple[Channel, Connection[Any, Any]]",
) -> None:
    channel, worker = ends
    channel.put(points=[point(1)])
    channel.put(points=[point(2)], progress=Progress(epoch=2))
    channel.send(frames.Phase(name="checkpointing"))
    assert received(worker) == [
        frames.Metrics(points=(point(1),)),
        frames.Metrics(points=(point(2),)),
        frames.Progress(progress=Progress(epoch=2)),
        frames.Phase(name="checkpointing"),
    ]


def test_of_waiting_progress_only_the_newest_is_sent(
    ends: "tuple[Channel, Connection[Any, Any]]",
) -> None:
    channel, worker = ends
    for epoch in range(1, 5):
        channel.put(progress=Progress(epoch=epoch))
    channel.flush()
    epochs = [frame.progress.epoch for frame in received(worker) if isinstance(frame, frames.Progress)]
    assert epochs == [1, 4]


def test_reports_are_plain_numbers_whatever_the_runner_measured_with(
    ends: "tuple[Channel, Connection[Any, Any]]",
) -> None:
    import numpy as np

    channel, worker = ends
    reporter = PipeReporter(channel)
    reporter.metrics(1, 8, {"loss": np.float32(0.5)})
    reporter.log("info", "x" * (2 * MAX_LINE))
    metrics, log = received(worker)
    assert metrics == frames.Metrics(points=(MetricPoint(name="loss", epoch=1, step=8, value=0.5),))
    assert log == frames.Log(level="info", message="x" * MAX_LINE)


def test_a_worker_that_is_gone_is_no_ordinary_exception(
    ends: "tuple[Channel, Connection[Any, Any]]",
) -> None:
    """User code that catches every Exception must not keep a child alive."""
    channel, worker = ends
    worker.close()
    with pytest.raises(WorkerGone):
        channel.send(frames.Phase(name="training"))
    assert not issubclass(WorkerGone, Exception)


@pytest.mark.parametrize("most_bytes", [10, 2**20])
def test_a_video_goes_with_its_episode_unless_it_is_too_large(
    ends: "tuple[Channel, Connection[Any, Any]]",
    monkeypatch: pytest.MonkeyPatch,
    tmp_path: Path,
    most_bytes: int,
) -> None:
    pytest.importorskip("imageio_ffmpeg", reason="the video extra is not installed")
    monkeypatch.setattr(channel_module, "MAX_VIDEO_BYTES", most_bytes)
    channel, worker = ends
    path = tmp_path / "episode.mp4"
    video = VideoFile(path, 30)
    video.add(picture_of(1))
    video.close()
    data = path.read_bytes()
    reporter = PipeReporter(channel)
    reporter.videos = [path]
    for index in range(2):
        facts = {"index": index, "seed": 1, "episode_return": 1.0, "length": 1, "terminated": True}
        reporter.episode(EpisodeRecord(**facts, truncated=False))
    *logs, filmed, plain = received(worker)
    assert isinstance(filmed, frames.Episode)
    assert isinstance(plain, frames.Episode)
    if most_bytes == 10:
        assert [log.level for log in logs if isinstance(log, frames.Log)] == ["warning"]
        assert (filmed.info.has_video, filmed.video, filmed.thumbnail) == (False, None, None)
    else:
        assert (logs, filmed.info.has_video, filmed.video) == ([], True, data)
        assert filmed.thumbnail
    assert (plain.info.has_video, plain.video) == (False, None)
    assert not path.exists()


def test_histograms_of_epochs_a_second_apart_go_to_the_worker_and_pictures_stay(
    ends: "tuple[Channel, Connection[Any, Any]]", monkeypatch: pytest.MonkeyPatch
) -> None:
    clock = SimpleNamespace(now=100.0)
    monkeypatch.setattr(channel_module, "time", SimpleNamespace(monotonic=lambda: clock.now))
    channel, worker = ends
    reporter = PipeReporter(channel)
    histogram = Histogram(low=0.0, high=1.0, counts=(1, 2))
    for epoch in range(1, 5):
        reporter.distributions(epoch, 8 * epoch, {"reward": histogram, "picture": b"png"})
        clock.now += 0.5
    reporter.distributions(9, 72, {"picture": b"png"})
    values = {"reward": {"low": 0.0, "high": 1.0, "counts": [1, 2]}}
    assert received(worker) == [frames.Distributions(epoch=e, step=8 * e, values=values) for e in (1, 3)]
