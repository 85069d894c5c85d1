"""Calls that cannot work are refused by name, and before anything is built or written."""

import json
from pathlib import Path

import pytest

from maze_core import GymMazeEnv, InvalidSpecificationError, RunContext
from maze_core.checkpoint import Checkpoint
from maze_core.cli.command import run
from maze_core.errors import CheckpointError, JobFailedError
from maze_core.metrics import SilentReporter
from tests.maze_core.api.test_forms import QUICK

KEEPS_ALL = {**QUICK, "algorithm.checkpoint_every": 1}


def epoch_of(path: Path) -> int:
    return int(Checkpoint.read(path).identity["counters"]["epoch"])


def test_the_checkpoint_that_is_saved_is_the_one_that_was_named(tmp_path):
    with RunContext(run_dir=tmp_path, overrides=KEEPS_ALL, seed=1) as context:
        context.train(3)
        assert epoch_of(context.save("one.ckpt", "epoch:2")) == 2
        assert epoch_of(context.save("last.ckpt", "last")) == 3
        assert epoch_of(context.save("scheduled.ckpt", "scheduled")) == 3
        for wrong in ("epoch:9", "bset", "", None, 3):
            with pytest.raises(CheckpointError, match="has no checkpoint"):
                context.save("wrong.ckpt", wrong)
    assert not (tmp_path / "wrong.ckpt").exists()


def test_before_training_there_are_initial_weights_to_save_and_nothing_else(tmp_path):
    context = RunContext(overrides=QUICK, seed=1)
    assert epoch_of(context.save(tmp_path / "first.ckpt")) == 0
    with pytest.raises(CheckpointError, match=r"before the first train\(\)"):
        context.save(tmp_path / "wrong.ckpt", "epoch:1")


@pytest.mark.parametrize("wrong", [3, b"x", "", " ", "a\0b", Path("/etc/hostname"), "x" * 5000, "/dev/null"])
def test_a_run_directory_has_to_be_a_directory(wrong):
    for multirun in (False, True):
        with pytest.raises(InvalidSpecificationError, match="run_dir"):
            RunContext(run_dir=wrong, multirun=multirun)


def test_paths_of_other_verbs_are_checked_too(tmp_path):
    context = RunContext(run_dir=tmp_path, overrides=QUICK)
    (tmp_path / "folder").mkdir()
    for call in (
        lambda: context.save(""),
        lambda: context.save(3),
        lambda: context.save("folder"),
        lambda: context.resume(3),
        lambda: RunContext.load(""),
        lambda: RunContext.load(b"x"),
        lambda: RunContext(config_dirs=3),
        lambda: RunContext(config_dirs=[3]),
    ):
        with pytest.raises(InvalidSpecificationError):
            call()


def test_one_directory_of_modules_may_stand_alone(tmp_path):
    (tmp_path / "env").mkdir()
    (tmp_path / "env" / "mine.yaml").write_text("_target_: GymEnvConfig\nname: Acrobot-v1\n")
    for given in (tmp_path, str(tmp_path), (tmp_path,)):
        assert RunContext(env="mine", config_dirs=given).config["env"]["name"] == "Acrobot-v1"
    assert RunContext(config_dirs=None).config["env"]["name"] == "CartPole-v0"


def test_directories_of_the_environment_variable_are_added_to_those_given(tmp_path, monkeypatch, capsys):
    for name in ("own", "given"):
        (tmp_path / name / "env").mkdir(parents=True)
        (tmp_path / name / "env" / f"{name}.yaml").write_text("_target_: GymEnvConfig\nname: Acrobot-v1\n")
    monkeypatch.setenv("MAZE_CONFIG_DIRS", f" {tmp_path / 'own'}, ")
    assert RunContext(env="own").config["env"]["name"] == "Acrobot-v1"
    for env in ("own", "given"):
        assert RunContext(env=env, config_dirs=tmp_path / "given").config["env"]["name"] == "Acrobot-v1"
    assert run(["--cfg", "job", "env=own"]) == 0
    assert "Acrobot-v1" in capsys.readouterr().out
    monkeypatch.setenv("MAZE_CONFIG_DIRS", json.dumps([str(tmp_path / "own")]))
    assert RunContext(env="own").config["env"]["name"] == "Acrobot-v1"
    for wrong in (str(tmp_path / "nowhere"), "[1]", "[x"):
        monkeypatch.setenv("MAZE_CONFIG_DIRS", wrong)
        with pytest.raises(InvalidSpecificationError, match="MAZE_CONFIG_DIRS"):
            RunContext()


@pytest.mark.parametrize(
    ("arguments", "path"),
    [({"reporter": 3}, "reporter"), ({"cancelled": True}, "cancelled"), ({"n_epochs": "1"}, "n_epochs")],
)
def test_what_train_is_given_is_checked(arguments, path, tmp_path):
    context = RunContext(run_dir=tmp_path, overrides=QUICK)
    with pytest.raises(InvalidSpecificationError, match=path):
        context.train(**arguments)
    assert list(tmp_path.iterdir()) == []


def test_a_multirun_is_asked_for_by_a_truth_value():
    with pytest.raises(InvalidSpecificationError, match="multirun: takes True or False, not 'false'"):
        RunContext(multirun="false")


def test_a_wrong_argument_of_train_raises_and_leaves_a_trained_multirun_as_it_was(tmp_path):
    with RunContext(run_dir=tmp_path, multirun=True, overrides=QUICK, seed=[1]) as context:
        (report,) = context.train(1)
        for arguments in (
            {"target_retrun": 1},
            {"n_epochs": 1.5},
            {"n_epochs": "1"},
            {"videos": -1},
            {"patience": -1},
            {"reporter": SilentReporter()},
            {"cancelled": 3},
        ):
            with pytest.raises(InvalidSpecificationError, match=next(iter(arguments))):
                context.train(**arguments)
        assert context.sweep.jobs[0].outcome is report
        assert not isinstance(context.evaluate(1)[0], JobFailedError)


def test_a_job_that_was_cut_is_not_told_as_done(tmp_path):
    asked = iter([False] * 3)
    with RunContext(
        env=lambda: GymMazeEnv("CartPole-v1"),
        run_dir=tmp_path,
        multirun=True,
        seed=[1, 2],
        overrides={key: value for key, value in QUICK.items() if not key.startswith("env.")},
    ) as context:
        context.train(cancelled=lambda: next(asked, True))
    stored = json.loads((tmp_path / "sweep.json").read_text())
    assert [job["status"] for job in stored["jobs"]] == ["cancelled", "cancelled"]


def test_a_run_that_was_cut_before_its_first_scheduled_checkpoint_begins_anew(tmp_path):
    overrides = {**QUICK, "algorithm.checkpoint_every": 3, "algorithm.n_epochs": 3}
    with RunContext(run_dir=tmp_path / "whole", overrides=overrides, seed=1) as context:
        whole = context.train()
    epochs = []

    class Counts(SilentReporter):
        def metrics(self, epoch, step, values):
            epochs.append(epoch)

    with RunContext(run_dir=tmp_path / "cut", overrides=overrides, seed=1) as context:
        cut = context.train(reporter=Counts(), cancelled=lambda: len(epochs) == 2)
    assert (cut.stop_reason, cut.counters.epoch) == ("cancelled", 2)
    with RunContext(run_dir=tmp_path / "cut", overrides=overrides) as again:
        assert again.evaluate(1).returns  # the best policy so far acts
        assert again.train().content_sha256 == whole.content_sha256
    assert len((tmp_path / "cut" / "metrics.jsonl").read_text().splitlines()) == 3


def test_a_run_tells_how_it_ended_once_it_is_complete(tmp_path):
    overrides = {**QUICK, "algorithm.n_epochs": 2}
    with RunContext(run_dir=tmp_path, overrides=overrides, seed=1) as context:
        assert context.report is None
        context.train(1)
        assert context.report is None
        ended = context.train()
        assert context.report.content_sha256 == ended.content_sha256
    assert RunContext(run_dir=tmp_path, overrides=overrides).report.counters == ended.counters


def test_a_limit_of_one_call_does_not_complete_the_run_and_a_configured_one_does(tmp_path):
    five = {**QUICK, "algorithm.n_epochs": 5}
    with RunContext(run_dir=tmp_path / "call", overrides=five, seed=1) as context:
        assert context.train(5, target_return=0.0).stop_reason == "target_reached"
        assert context.report is None
    limited = {**five, "algorithm.target_return": 0.0}
    with RunContext(run_dir=tmp_path / "configured", overrides=limited, seed=1) as context:
        assert context.train().counters.epoch == 1
        assert context.report.stop_reason == "target_reached"


@pytest.mark.parametrize("wrong", [3, b"x", "", "a\0b", "file/x", "file", "/proc/none/x"])
def test_a_place_to_save_is_checked_before_anything_is_played(wrong, tmp_path):
    (tmp_path / "file").write_text("")
    for multirun in (False, True):
        context = RunContext(policy="random_policy", run_dir=tmp_path, seed=1, multirun=multirun)
        with pytest.raises(InvalidSpecificationError), context:
            context.rollout(1, save=wrong)
    assert [path.name for path in tmp_path.iterdir()] == ["file"]


def test_only_a_function_is_taken_for_an_environment_function_of_a_stored_run(tmp_path):
    quick = {key: value for key, value in QUICK.items() if not key.startswith("env.")}
    with RunContext(env=lambda: GymMazeEnv("CartPole-v1"), run_dir=tmp_path, overrides=quick) as context:
        context.train(1)
    for wrong in (3, "acrobot", GymMazeEnv("CartPole-v1")):
        with pytest.raises(InvalidSpecificationError, match="env: takes a function"):
            RunContext.load(tmp_path, env=wrong)


def test_a_configuration_file_that_is_none_is_named(tmp_path):
    (tmp_path / "config.yaml").write_text("config: {a: 1}\n")
    with pytest.raises(CheckpointError, match=r"config\.yaml is no configuration of a run"):
        RunContext(run_dir=tmp_path)
