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

from maze_core.api.reporters import RunDirReporter
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
