import math
import sys
import threading
from collections.abc import Mapping
from pathlib import Path
from types import ModuleType, SimpleNamespace
from typing import Any

import pytest

from maze_core import RunContext
from maze_core.config.compose import compose_run
from maze_core.config.trust import check_tree, trust_policy
from maze_core.errors import EnvError, InvalidSpecificationError
from maze_core.notices import MazeWarning
from maze_core.runners import sinks
from maze_core.runners.sinks import RunFacts, sinks_of
from maze_core.runners.trackers import MlflowSinkConfig, TrackioSinkConfig, WandbSinkConfig, mlflow_key

BRIEF = {
    "algorithm.n_epochs": 3,
    "algorithm.epoch_length": 1,
    "algorithm.n_rollout_steps": 8,
    "algorithm.checkpoint_every": 1,
    "algorithm.rollout_evaluator.n_episodes": 1,
    "runner.n_envs": 2,
}
FACTS = RunFacts(id="run_1", name="one", params={"env.name": '"X"'})


class Recording:
    """A sink that remembers, and may hang or fail when it is written to."""

    def __init__(self, *, fails: bool = False, waits: threading.Event | None = None) -> None:
        self.calls: list[tuple[Any, ...]] = []
        self._fails, self._waits = fails, waits

    def open(self, run: RunFacts) -> None:
        self.calls.append(("open", run.id, run.name, dict(run.params)))

    def write(self, epoch: int, step: int, values: Mapping[str, float]) -> None:
        if self._waits is not None:
            self._waits.wait(30)
        if self._fails:
            raise ConnectionError("the tracker is down")
        self.calls.append(("write", epoch, step, dict(values)))

    def close(self, outcome: str) -> None:
        self.calls.append(("close", outcome))


def context(sink: Any, run_dir: Path, **given: Any) -> RunContext:
    return RunContext(
        overrides=BRIEF | {"runner.sinks": [sink]}, run_dir=run_dir, seed=1, silent=True, **given
    )


def learnt(rc: RunContext) -> list[dict[str, float]]:
    return [{name: value for name, value in row.items() if name[:5] != "time/"} for row in rc.metrics]


def test_a_sink_gets_every_epoch_in_order_and_the_configuration(tmp_path: Path) -> None:
    sink = Recording()
    with context(sink, tmp_path / "run") as rc:
        rc.train()
    opened, *written, closed = sink.calls
    assert opened[2:] == ("run", opened[3])
    assert opened[3]["algorithm.n_epochs"] == "3"
    assert [call[1:3] for call in written] == [(row["epoch"], row["step"]) for row in rc.metrics]
    assert written[0][3]["eval/mean_return"] == rc.metrics[0]["eval/mean_return"]
    assert closed == ("close", "finished")


def test_a_run_that_goes_on_is_the_same_run_to_a_sink(tmp_path: Path) -> None:
    opened = []
    for n_epochs in (1, 2):
        sink = Recording()
        with context(sink, tmp_path / "run") as rc:
            rc.train(n_epochs)
        opened.append(sink.calls[0])
    assert opened[0] == opened[1]


def test_sinks_are_no_part_of_a_runs_identity() -> None:
    plain = compose_run("train", seed=1)
    assert (
        compose_run("train", seed=1, overrides={"runner.sinks": ["wandb"]}).config_sha256
        == plain.config_sha256
    )


def test_a_sink_that_fails_is_warned_of_once_and_changes_nothing(tmp_path: Path) -> None:
    with context(Recording(), tmp_path / "well") as rc:
        rc.train()
        expected = learnt(rc)
    with context(Recording(fails=True), tmp_path / "fails") as rc:
        with pytest.warns(MazeWarning) as said:
            rc.train()
        assert learnt(rc) == expected
    (text,) = [str(warning.message) for warning in said]
    assert "Recording failed: ConnectionError: the tracker is down" in text


def test_a_sink_that_hangs_neither_holds_nor_ends_the_training(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(sinks, "CLOSE_S", 0.01)
    monkeypatch.setattr(sinks, "MOST_WAITING", 1)
    goes_on = threading.Event()
    sink = Recording(waits=goes_on)
    try:
        with context(sink, tmp_path / "run") as rc, pytest.warns(MazeWarning) as said:
            report = rc.train()
        assert report.counters.epoch == 3
        (text,) = [str(warning.message) for warning in said]
        assert "is slower than the training; 1 epochs wait for it" in text
    finally:
        goes_on.set()


def test_sinks_that_hang_share_one_deadline(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sinks, "CLOSE_S", 0.01)
    deadlines: list[float] = []
    monkeypatch.setattr(sinks.SinkReporter, "wait", lambda self, deadline: deadlines.append(deadline))
    told: list[str] = []
    hanging = [Recording(), Recording(), Recording()]
    monkeypatch.setattr(sinks.SinkReporter, "end", lambda self, outcome: told.append(outcome))
    with sinks_of(hanging, FACTS, print):
        pass
    assert told == ["finished"] * 3
    assert len(deadlines) == 3
    assert len(set(deadlines)) == 1


def test_a_training_that_fails_is_told_so() -> None:
    sink = Recording()
    with pytest.raises(ZeroDivisionError), sinks_of([sink], FACTS, print):
        raise ZeroDivisionError
    assert sink.calls[-1] == ("close", "failed")


def test_a_class_makes_a_sink_and_one_that_cannot_be_made_is_warned_of() -> None:
    said: list[str] = []
    with sinks_of([Recording, lambda: 1 / 0], FACTS, said.append):
        pass
    assert len(said) == 1
    assert "ZeroDivisionError" in said[0]


class NoSink:
    """Only begins."""

    def open(self, run: RunFacts) -> None: ...


@pytest.mark.parametrize(
    ("given", "message"),
    [
        (["mlfow"], "'mlfow' is no sink; there are mlflow, wandb, trackio"),
        ("mlflow", "takes a list of mlflow"),
        ([object()], r"object has no open, write, close: a sink has open\(run\)"),
        ([NoSink], "NoSink has no write, close"),
        ([None], "NoneType has no open"),
    ],
)
def test_words_of_sinks_are_known(given: Any, message: str) -> None:
    with pytest.raises(InvalidSpecificationError, match=message):
        compose_run("train", seed=1, overrides={"runner.sinks": given})


def test_a_client_names_no_sink_and_no_place_of_one() -> None:
    policy = trust_policy()
    check_tree(compose_run("train", seed=1).tree, policy)
    for sink in ("wandb", {"_target_": "maze_core.MlflowSinkConfig", "tracking_uri": "http://inside"}):
        tree = compose_run("train", seed=1, overrides={"runner.sinks": [sink]}).tree
        with pytest.raises(InvalidSpecificationError, match="not on the list of components"):
            check_tree(tree, policy)
    tree["runner"]["sinks"] = []
    with pytest.raises(InvalidSpecificationError, match="only the operator may"):
        check_tree(tree, policy)


@pytest.mark.parametrize(
    ("name", "key"),
    [
        ("eval/mean_return", "eval/mean_return"),
        ("a=b%", "a_b_"),
        ("/a//b/", "a/b"),
        ("a/../b", "a/__/b"),
        ("größe", "gr__e"),
        ("", "_"),
        ("x" * 300, "x" * 250),
    ],
)
def test_names_are_made_such_that_mlflow_takes_them(name: str, key: str) -> None:
    assert mlflow_key(name) == key


class FakeMlflow:
    """What the sink asks of MLflow's client, remembered."""

    def __init__(self, **_: Any) -> None:
        self.batches: list[dict[str, Any]] = []
        self.made: list[Any] = []
        self.status = ""
        self.found: list[Any] = []

    def get_experiment_by_name(self, name: str) -> None:
        return None

    def create_experiment(self, name: str) -> str:
        return "7"

    def search_runs(self, places: list[str], filter_string: str, max_results: int) -> list[Any]:
        assert filter_string == "tags.`maze.run` = 'run_1'"
        return self.found

    def create_run(self, place: str, run_name: str, tags: Any) -> Any:
        self.made.append((place, run_name, tags))
        return SimpleNamespace(info=SimpleNamespace(run_id="r"))

    def get_metric_history(self, run_id: str, key: str) -> list[Any]:
        return [SimpleNamespace(step=100), SimpleNamespace(step=200)]

    def update_run(self, run_id: str, status: str) -> None:
        self.status = status

    def log_batch(self, run_id: str, metrics: Any = (), params: Any = ()) -> None:
        self.batches.append({"metrics": list(metrics), "params": list(params)})

    def set_terminated(self, run_id: str, status: str) -> None:
        self.status = status


@pytest.fixture
def mlflow(monkeypatch: pytest.MonkeyPatch) -> FakeMlflow:
    client = FakeMlflow()
    tracking, entities = ModuleType("mlflow.tracking"), ModuleType("mlflow.entities")
    tracking.MlflowClient = lambda **_: client  # type: ignore[attr-defined]
    entities.Metric = entities.Param = lambda *values: values  # type: ignore[attr-defined]
    for module in (ModuleType("mlflow"), tracking, entities):
        monkeypatch.setitem(sys.modules, module.__name__, module)
    return client


def test_mlflow_gets_batches_of_a_size_that_it_takes(mlflow: FakeMlflow) -> None:
    sink = MlflowSinkConfig().make()
    sink.open(RunFacts(id="run_1", name="one", params={f"p{i}": "x" * 9000 for i in range(150)}))
    sink.write(1, 100, {f"m{i}": float(i) for i in range(1500)})
    sink.close("finished")
    assert [len(batch["params"]) for batch in mlflow.batches if batch["params"]] == [100, 50]
    assert {len(text) for batch in mlflow.batches for _, text in batch["params"]} == {6000}
    assert [len(batch["metrics"]) for batch in mlflow.batches if batch["metrics"]] == [1000, 501]
    assert mlflow.made == [("7", "one", {"maze.run": "run_1"})]
    assert mlflow.status == "FINISHED"


def test_mlflow_goes_on_with_a_run_where_it_ended(mlflow: FakeMlflow) -> None:
    mlflow.found = [SimpleNamespace(info=SimpleNamespace(run_id="r"))]
    sink = MlflowSinkConfig().make()
    sink.open(FACTS)
    assert mlflow.status == "RUNNING"
    sink.write(2, 200, {"a": 1.0})
    sink.write(3, 300, {"a": 2.0})
    ((batch, _),) = [batch.values() for batch in mlflow.batches]
    assert [(name, value, step) for name, value, _, step in batch] == [("epoch", 3.0, 300), ("a", 2.0, 300)]
    assert not mlflow.made


def test_a_tracker_that_is_not_installed_says_how_it_would_be(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "wandb", None)
    with pytest.raises(EnvError, match=r"pip install 'maze-service\[wandb\]'"):
        WandbSinkConfig().make()


def test_a_tracker_that_cannot_be_imported_says_why(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "trackio.py").write_text("import a_package_that_is_not_there")
    (tmp_path / "wandb.py").write_text("raise ImportError('this one is too old')")
    monkeypatch.syspath_prepend(tmp_path)
    for name in ("trackio", "wandb"):
        monkeypatch.delitem(sys.modules, name, raising=False)
    with pytest.raises(ImportError, match="a_package_that_is_not_there"):
        TrackioSinkConfig().make()
    with pytest.raises(ImportError, match="this one is too old"):
        WandbSinkConfig().make()
    said: list[str] = []
    with sinks_of([TrackioSinkConfig()], FACTS, said.append):
        pass
    assert "a_package_that_is_not_there" in said[0]
    assert "pip install" not in said[0]


def write_some(config: Any, directory: Path) -> None:
    said: list[str] = []
    facts = RunFacts.of({"env": {"name": "X"}}, name="one", run_id="run_1", directory=directory)
    for epochs in ((1, 2), (2, 3)):
        with sinks_of([config], facts, said.append) as (reporter,):
            for epoch in epochs:
                values = {"time/env_steps_per_s": 1.0, "a/b": float(epoch), "nan": math.nan, "inf": math.inf}
                reporter.metrics(epoch, 100 * epoch, values)
    assert said == []


def test_the_real_mlflow_has_each_point_once_after_a_resume(tmp_path: Path) -> None:
    library = pytest.importorskip("mlflow.tracking")
    uri = f"sqlite:///{tmp_path}/mlflow.db"
    write_some(MlflowSinkConfig(tracking_uri=uri), tmp_path)
    client = library.MlflowClient(tracking_uri=uri)
    (run,) = client.search_runs([client.get_experiment_by_name("maze").experiment_id])
    history = client.get_metric_history(run.info.run_id, "a/b")
    assert [(point.step, point.value) for point in history] == [(100, 1.0), (200, 2.0), (300, 3.0)]
    assert math.isnan(client.get_metric_history(run.info.run_id, "nan")[0].value)
    assert run.data.params == {"env.name": '"X"'}


def test_the_real_wandb_writes_its_files_offline(tmp_path: Path) -> None:
    pytest.importorskip("wandb")
    write_some(WandbSinkConfig(mode="offline"), tmp_path)
    assert list(tmp_path.glob("wandb/offline-run-*-run_1/run-run_1.wandb"))


def test_the_real_trackio_writes_its_database(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TRACKIO_DIR", str(tmp_path))
    pytest.importorskip("trackio")
    write_some(TrackioSinkConfig(), tmp_path)
    assert list(tmp_path.glob("*.db"))
