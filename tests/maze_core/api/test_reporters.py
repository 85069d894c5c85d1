"""What a run leaves in its directory: events with one point per step, and a report that explains the files."""

import json
import math
import struct
import time
from collections import Counter

import numpy as np
import pytest
from tensorboardX.proto.event_pb2 import Event
from tensorboardX.record_writer import masked_crc32c

from maze_core import RunContext
from maze_core.api.reporters import RunDirReporter
from maze_core.metrics import Histogram
from maze_core.rundir import FILES, RunDir


def scalars(run_dir):
    """(tag, step) → value of every scalar in the event files, and how often each is there."""
    found, count = {}, Counter()
    for file in run_dir.tensorboard.glob("events.out.tfevents.*"):
        data, offset = file.read_bytes(), 0
        while offset < len(data):
            (length,) = struct.unpack_from("<Q", data, offset)
            content = data[offset + 12 : offset + 12 + length]
            for at, checked in ((offset + 8, data[offset : offset + 8]), (offset + 12 + length, content)):
                assert struct.unpack_from("<I", data, at) == (masked_crc32c(checked),)
            event = Event.FromString(content)
            assert abs(event.wall_time - time.time()) < 3600
            assert event.file_version == ("" if offset else "brain.Event:2")
            offset += 16 + length
            for value in event.summary.value:
                found[value.tag, event.step] = value.simple_value
                count[value.tag, event.step] += 1
    return found, count


def write(run_dir, epochs, offset=0.0):
    with RunDirReporter(run_dir) as reporter:
        for epoch in epochs:
            reporter.metrics(epoch, 100 * epoch, {"eval/mean_return": epoch + offset, "train/lr": 0.5})


def test_every_scalar_has_one_point_per_step_also_after_a_resume(tmp_path):
    run_dir = RunDir(tmp_path)
    write(run_dir, [1, 2, 3])
    run_dir.forget_after(2)  # as a run does that goes on from epoch 2
    write(run_dir, [3, 4], offset=0.25)
    found, count = scalars(run_dir)
    assert set(count.values()) == {1}
    returns = {step: value for (tag, step), value in found.items() if tag == "eval/mean_return"}
    assert returns == {100: 1.0, 200: 2.0, 300: 3.25, 400: 4.25}
    assert len(found) == 8


def test_any_number_at_any_step_is_a_point(tmp_path):
    run_dir = RunDir(tmp_path)
    values = {"nan": math.nan, "inf": math.inf, "beyond float32": -1e300, "x" * 200: 0.1, "größe": 3}
    steps = [0, 1, 127, 128, 2**40]
    with RunDirReporter(run_dir) as reporter:
        for epoch, step in enumerate(steps):
            reporter.metrics(epoch, step, values)
    found, _ = scalars(run_dir)
    assert sorted({step for _, step in found}) == steps
    expected = [math.nan, math.inf, -math.inf, float(np.float32(0.1)), 3.0]
    for step in steps:
        np.testing.assert_array_equal([found[name, step] for name in values], expected)


def test_the_report_explains_every_file_and_says_what_to_do(tmp_path):
    run_dir = RunDir(tmp_path / "my run")
    write(run_dir, [1])
    run_dir.write_report({"stop_reason": "completed", "metrics": {"eval/mean_return": float("nan")}})
    report = json.loads((run_dir.path / "report.json").read_text())
    assert report["stop_reason"] == "completed"
    assert report["metrics"]["eval/mean_return"] == "NaN"
    assert f"policy.run='{run_dir.path}'" in report["commands"]["play"]
    assert {path.name for path in run_dir.path.iterdir()} <= {name.rstrip("/") for name in FILES}


@pytest.mark.parametrize("lines", [0, 2])
def test_metrics_are_read_as_they_were_written(tmp_path, lines):
    run_dir = RunDir(tmp_path)
    for epoch in range(lines):
        run_dir.append_metrics(epoch, epoch, {"x": 1.5})
    assert run_dir.read_metrics() == [{"epoch": epoch, "step": epoch, "x": 1.5} for epoch in range(lines)]


PNG = b"\x89PNG\r\n\x1a\n" + struct.pack(">I4sII", 13, b"IHDR", 7, 5) + b"rest"
HISTOGRAM = Histogram(low=-2.0, high=2.0, counts=(1, 0, 4, 5))


def values_of(run_dir):
    """(tag, step) → every value of the event files."""
    found = {}
    for file in run_dir.tensorboard.glob("events.out.tfevents.*"):
        data, offset = file.read_bytes(), 0
        while offset < len(data):
            (length,) = struct.unpack_from("<Q", data, offset)
            event = Event.FromString(data[offset + 12 : offset + 12 + length])
            offset += 16 + length
            found |= {(value.tag, event.step): value for value in event.summary.value}
    return found


def test_histograms_and_pictures_are_tensorboards(tmp_path):
    run_dir = RunDir(tmp_path)
    with RunDirReporter(run_dir) as reporter:
        reporter.distributions(1, 100, {"reward": HISTOGRAM, "seen/0": PNG})
    found = values_of(run_dir)
    histogram = found["reward", 100].histo
    assert (histogram.min, histogram.max, histogram.num) == (-2, 2, 10)
    assert histogram.sum == 1 * -1.5 + 4 * 0.5 + 5 * 1.5
    assert histogram.sum_squares == 1 * 2.25 + 4 * 0.25 + 5 * 2.25
    assert [*histogram.bucket_limit] == [-1, 0, 1, 2]
    assert [*histogram.bucket] == [1, 0, 4, 5]
    picture = found["seen/0", 100].image
    assert (picture.height, picture.width, picture.colorspace) == (5, 7, 3)
    assert picture.encoded_image_string == PNG
    assert (tmp_path / "figures" / "epoch-00001" / "seen.0.png").read_bytes() == PNG


def test_histograms_are_there_once_per_epoch_also_after_a_resume(tmp_path):
    run_dir = RunDir(tmp_path)
    with RunDirReporter(run_dir) as reporter:
        for epoch in (1, 2, 3):
            reporter.distributions(epoch, 100 * epoch, {"reward": HISTOGRAM})
    run_dir.forget_after(1)
    with RunDirReporter(run_dir) as reporter:
        reporter.distributions(2, 200, {"reward": HISTOGRAM, "seen": PNG})
        reporter.distributions(3, 300, {"seen": PNG})
    told = {"low": -2.0, "high": 2.0, "counts": [1, 0, 4, 5]}
    assert run_dir.read_distributions() == [
        {"epoch": 1, "step": 100, "reward": told},
        {"epoch": 2, "step": 200, "reward": told},
    ]
    assert {key for key in values_of(run_dir) if key[0] == "reward"} == {("reward", 100), ("reward", 200)}


def test_a_run_keeps_what_its_wrappers_gathered_and_a_reporter_may_do_without(tmp_path):
    class Old:
        """Of a time without distributions."""

        def __init__(self):
            self.heard = set()

        def __getattr__(self, name):
            if name == "distributions":
                raise AttributeError(name)
            return lambda *args, **kwargs: self.heard.add(name)

    old = Old()
    overrides = {"algorithm.n_epochs": 2, "algorithm.epoch_length": 1, "algorithm.n_rollout_steps": 16}
    overrides |= {"runner.normalization_samples": 100, "algorithm.rollout_evaluator.n_episodes": 1}
    with RunContext(wrappers="vector_obs", overrides=overrides, seed=1, run_dir=tmp_path, silent=True) as rc:
        assert rc.distributions == []
        rc.train(reporter=old)
        rows = rc.distributions
    assert {"metrics", "checkpoint"} <= old.heard
    assert [row["epoch"] for row in rows] == [1, 2]
    for row in rows:
        assert set(row) == {"epoch", "step", "monitoring/action/0/action", "monitoring/reward"}
        assert sum(row["monitoring/action/0/action"]["counts"]) == 16 * 8
