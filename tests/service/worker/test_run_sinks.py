from types import SimpleNamespace
from typing import Any

import pytest
from pydantic import ValidationError

from maze_core.runners import trackers
from service.domain.run import MetricPoint
from service.settings import Settings
from service.worker.run_sinks import RunSinks


class Recording:
    def __init__(self) -> None:
        self.calls: list[Any] = []

    def make(self) -> "Recording":
        return self

    def open(self, run: Any) -> None:
        self.calls.append((run.id, run.name, run.params))

    def write(self, epoch: int, step: int, values: Any) -> None:
        if epoch == 3:
            raise ConnectionError("gone")
        self.calls.append((epoch, step, values))

    def close(self, outcome: str) -> None:
        self.calls.append(outcome)


class Writer:
    def __init__(self) -> None:
        self.logs: list[tuple[str, str]] = []
        self.hears: Any = None

    def log(self, level: str, message: str) -> None:
        self.logs.append((level, message))


@pytest.fixture
def sink(monkeypatch: pytest.MonkeyPatch) -> Recording:
    made = Recording()
    monkeypatch.setattr(trackers, "TRACKERS", {"mlflow": lambda: made})
    return made


RUN: Any = SimpleNamespace(id="run_7", name=None, config={"env": {"name": "X"}})


def point(name: str, epoch: int) -> MetricPoint:
    return MetricPoint(name=name, epoch=epoch, step=100 * epoch, value=float(epoch))


def test_the_operators_trackers_get_a_trainings_points_by_the_epoch(sink: Recording) -> None:
    writer: Any = Writer()
    with RunSinks(["mlflow"], RUN, writer) as sinks:
        writer.hears((point("a", 1), point("b", 1), point("a", 2)))
        sinks.outcome = "killed"
    assert sink.calls == [
        ("run_7", "run_7", {"env.name": '"X"'}),
        (1, 100, {"a": 1.0, "b": 1.0}),
        (2, 200, {"a": 2.0}),
        "killed",
    ]
    assert writer.logs == []


def test_a_tracker_that_fails_is_a_warning_in_the_runs_log(sink: Recording) -> None:
    writer: Any = Writer()
    with RunSinks(["mlflow"], RUN, writer):
        writer.hears((point("a", 3),))
    ((level, message),) = writer.logs
    assert level == "warning"
    assert "The sink mlflow failed: ConnectionError: gone" in message


def test_the_setting_takes_trackers_that_there_are() -> None:
    assert Settings(sinks="mlflow,wandb").sinks == ["mlflow", "wandb"]  # type: ignore[arg-type]
    with pytest.raises(ValidationError, match="takes mlflow, wandb, trackio"):
        Settings(sinks="neptune")  # type: ignore[arg-type]
