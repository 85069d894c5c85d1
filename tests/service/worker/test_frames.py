"""Frames survive the pipe unchanged, and what is no frame is refused whatever it is."""

import math
from typing import Any

import msgspec
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from service.domain.run import EpisodeInfo, MetricPoint, NewCheckpoint, Progress, RunKind
from service.worker import frames

META = NewCheckpoint(
    epoch=3,
    step=96,
    kind="scheduled",
    metrics={"eval/mean_return": 475.5},
    content_sha256="a" * 64,
    weights_sha256="b" * 64,
    servable=True,
    not_servable_reason=None,
    is_best=True,
    is_last=True,
)
EPISODE = EpisodeInfo(
    index=0, seed=7, episode_return=12.0, length=12, terminated=True, truncated=False, has_trajectory=True
)

CHILD_FRAMES = (
    frames.Phase(name="training"),
    frames.Progress(progress=Progress(epoch=1, n_epochs=2, fraction=0.5)),
    frames.Metrics(points=(MetricPoint(name="loss", epoch=1, step=8, value=float("inf")),)),
    frames.Checkpoint(meta=META, bundle=b"\x00\xff"),
    frames.Checkpoint(meta=META, bundle=b"\x00\xff", edges=(1,)),
    frames.Episode(info=EPISODE, trajectory=b"t"),
    frames.Log(level="info", message="γ"),
    frames.Usage(max_rss_bytes=1, cpu_s=0.5),
    frames.Result(stop_reason="completed", result={"returns": [1.0, None]}),
    frames.Failure(code="exception", message="m", problems=({"path": "a"},)),
)
WORKER_FRAMES = (
    frames.Start(kind=RunKind.TRAIN, run_id="run_1", attempt=2, tree={"a": {"b": [1]}}, resume=b"x"),
    frames.Cancel(),
)


def packed(value: Any) -> bytes:
    return msgspec.msgpack.encode(value)


@pytest.mark.parametrize("frame", CHILD_FRAMES, ids=lambda frame: type(frame).__name__)
def test_a_childs_frame_arrives_as_it_was_sent(frame: frames.ChildFrame) -> None:
    assert frames.decode_from_child(frames.encode(frame)) == frame


@pytest.mark.parametrize("frame", WORKER_FRAMES, ids=lambda frame: type(frame).__name__)
def test_a_workers_frame_arrives_as_it_was_sent(frame: frames.WorkerFrame) -> None:
    assert frames.decode_from_worker(frames.encode(frame)) == frame


def test_a_value_that_is_not_a_number_arrives() -> None:
    sent = frames.Metrics(points=(MetricPoint(name="kl", epoch=1, step=1, value=math.nan),))
    received = frames.decode_from_child(frames.encode(sent))
    assert isinstance(received, frames.Metrics)
    assert math.isnan(received.points[0].value)


def test_numpy_results_arrive_as_numbers_and_lists() -> None:
    sent = frames.Result(stop_reason="completed", result={"mean": np.float32(0.5), "all": np.arange(3)})
    received = frames.decode_from_child(frames.encode(sent))
    assert isinstance(received, frames.Result)
    assert received.result == {"mean": 0.5, "all": [0, 1, 2]}


def test_an_object_of_user_code_is_never_sent() -> None:
    with pytest.raises(TypeError, match="a object cannot be sent"):
        frames.encode(frames.Result(stop_reason="completed", result={"thing": object()}))


@pytest.mark.parametrize(
    "message",
    [
        packed({"type": "pickle", "data": b""}),
        packed({"name": "training"}),
        packed({"type": "phase"}),
        packed({"type": "phase", "name": 3}),
        packed({"type": "phase", "name": "training", "run": "another"}),
        packed({"type": "checkpoint", "meta": {"epoch": "1"}, "bundle": b""}),
        packed({"type": "usage", "max_rss_bytes": 1.5, "cpu_s": 1.0}),
        packed({"type": "start", "kind": "train", "run_id": "r", "attempt": 1, "tree": {}}),
        packed(["phase"]),
        b"\x91" * 100_000,
        b"",
    ],
)
def test_what_is_no_frame_of_a_child_is_refused(message: bytes) -> None:
    with pytest.raises(frames.ProtocolError, match="the child sent what is no frame"):
        frames.decode_from_child(message)


@given(st.binary(max_size=200))
def test_random_bytes_are_refused(message: bytes) -> None:
    with pytest.raises(frames.ProtocolError):
        frames.decode_from_child(message)
