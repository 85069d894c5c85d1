"""A run directory is gone on with: same configuration, adopted seeds, last checkpoint; anything else is refused."""

import contextlib
import errno
import json
import os
import shutil
import signal
import subprocess
import sys
import threading
import time

import pytest
import yaml

from maze_core import Checkpoint, GymMazeEnv, InvalidSpecificationError, RunContext
from maze_core.api.multirun_report import JobsReporter
from maze_core.errors import CheckpointError
from maze_core.metrics import SilentReporter
from maze_core.notices import MazeWarning
from maze_core.rundir import RolloutDir, RunDir
from tests.maze_core.api.own_parts import make_env
from tests.maze_core.api.test_forms import QUICK

ZEROS = [0.0, 0.0, 0.0, 0.0]


def test_a_context_of_an_existing_directory_goes_on_where_the_run_stopped(tmp_path) -> None:
    with RunContext(run_dir=tmp_path / "whole", overrides=QUICK, seed=1) as context:
        whole = [context.train(1), context.train(1), context.train(1)]
    with RunContext(run_dir=tmp_path / "parts", overrides=QUICK, seed=1) as context:
        context.train(2)
    with RunContext(run_dir=tmp_path / "parts", overrides=QUICK) as again:
        assert again.train(1).content_sha256 == whole[2].content_sha256
        assert again.config["seeding"] == {"env_base_seed": 1, "agent_base_seed": 1}
    lines = (tmp_path / "parts" / "metrics.jsonl").read_text().splitlines()
    assert len(lines) == 3


def test_it_acts_with_the_best_checkpoint_without_being_trained(tmp_path) -> None:
    with RunContext(run_dir=tmp_path, overrides=QUICK, seed=1) as context:
        context.train(2)
        expected = context.evaluate(3).to_dict()
    again = RunContext(run_dir=tmp_path, overrides=QUICK)
    assert again.evaluate(3).to_dict() == expected
    assert (
        again.policy.checkpoint_sha256 == Checkpoint.read(tmp_path / "checkpoints/best.ckpt").content_sha256
    )


def test_another_configuration_is_refused_with_the_difference_and_the_ways_out(tmp_path) -> None:
    with RunContext(run_dir=tmp_path, overrides=QUICK, seed=1) as context:
        context.train(1)
    with pytest.raises(InvalidSpecificationError) as caught:
        RunContext(run_dir=tmp_path, overrides={**QUICK, "algorithm.lr": 0.5})
    message = str(caught.value)
    assert "algorithm.lr is 0.001 there and 0.5 here" in message
    assert "another run_dir" in message
    assert "RunContext.load(" in message
    with pytest.raises(InvalidSpecificationError, match=r"seeding.env_base_seed is 1 there and 2 here"):
        RunContext(run_dir=tmp_path, overrides=QUICK, seed=2)


def test_a_run_that_has_no_checkpoint_yet_starts_anew_with_its_seeds(tmp_path) -> None:
    with RunContext(run_dir=tmp_path, overrides=QUICK, seed=1) as context:
        first = context.train(1)
    shutil.rmtree(tmp_path / "checkpoints")
    with RunContext(run_dir=tmp_path, overrides=QUICK) as again:
        assert again.train(1).content_sha256 == first.content_sha256


def test_a_damaged_checkpoint_is_said_at_construction(tmp_path) -> None:
    with RunContext(run_dir=tmp_path, overrides=QUICK, seed=1) as context:
        context.train(1)
    (tmp_path / "checkpoints" / "last.ckpt").write_bytes(b"PK")
    with pytest.raises(CheckpointError, match="damaged"):
        RunContext(run_dir=tmp_path, overrides=QUICK)


def test_a_run_with_an_environment_function_is_gone_on_with_when_it_is_passed_again(tmp_path) -> None:
    arguments = {"env": make_env, "overrides": QUICK}
    with RunContext(run_dir=tmp_path / "whole", seed=1, **arguments) as context:
        context.train(1)
        whole = context.train(1)
    with RunContext(run_dir=tmp_path / "parts", seed=1, **arguments) as context:
        context.train(1)
    with RunContext(run_dir=tmp_path / "parts", **arguments) as again:
        assert again.train(1).content_sha256 == whole.content_sha256


def test_a_loaded_run_takes_its_environment_function_again(tmp_path) -> None:
    with RunContext(run_dir=tmp_path, env=make_env, overrides=QUICK, seed=1) as context:
        context.train(1)
        expected = context.evaluate(2).returns
    with pytest.raises(InvalidSpecificationError, match=r"env.factory: was a live object"):
        RunContext.load(tmp_path).evaluate(2)
    assert RunContext.load(tmp_path, env=make_env).evaluate(2).returns == expected


def test_an_environment_is_not_passed_to_a_run_that_describes_its_own(tmp_path) -> None:
    with RunContext(run_dir=tmp_path, overrides=QUICK, seed=1) as context:
        context.train(1)
    with pytest.raises(InvalidSpecificationError, match="describes it"):
        RunContext.load(tmp_path, env=make_env)


def test_relative_paths_lie_in_the_run_directory_that_was_given(tmp_path, monkeypatch) -> None:
    monkeypatch.chdir(tmp_path)
    with RunContext(run_dir="runs/first", overrides=QUICK, seed=1) as context:
        context.train(1)
        assert context.save("kept/agent.ckpt") == tmp_path / "runs/first/kept/agent.ckpt"
    with RunContext(overrides=QUICK, seed=1) as context:
        context.train(1)
        assert context.save("agent.ckpt") == tmp_path / "agent.ckpt"
        assert context.run_dir is not None
        assert context.run_dir.parent == tmp_path / "outputs"


def test_resume_goes_back_to_a_checkpoint(tmp_path) -> None:
    with RunContext(run_dir=tmp_path, overrides=QUICK, seed=1) as context:
        second = [context.train(1), context.train(1)][1]
        context.train(1)
        assert context.resume("epoch:1").train(1).content_sha256 == second.content_sha256
        kept = context.save("second.ckpt", "last")
        context.train(2)
        context.resume(kept.name)
        assert context.policy.checkpoint_sha256 == second.content_sha256
        with pytest.raises(CheckpointError, match="no checkpoint 'epoch:77'"):
            context.resume("epoch:77")


def test_a_checkpoint_of_another_configuration_is_not_resumed_from(tmp_path) -> None:
    with RunContext(run_dir=tmp_path / "one", overrides=QUICK, seed=1) as context:
        context.train(1)
        other = context.save("agent.ckpt")
    with (
        RunContext(run_dir=tmp_path / "two", overrides=QUICK, seed=2) as context,
        pytest.raises(CheckpointError, match="another configuration"),
    ):
        context.resume(other)


def test_a_cancelled_run_goes_on_from_its_last_scheduled_checkpoint(tmp_path) -> None:
    with RunContext(run_dir=tmp_path / "whole", overrides=QUICK, seed=1) as context:
        context.train(1)
        whole = context.train(1)
    with RunContext(run_dir=tmp_path / "cut", overrides=QUICK, seed=1) as context:
        context.train(1)
        assert context.train(1, cancelled=lambda: True).stop_reason == "cancelled"
    with RunContext(run_dir=tmp_path / "cut", overrides=QUICK) as again:
        assert again.train(1).content_sha256 == whole.content_sha256


def test_the_policy_of_a_run_plays_in_the_environment_of_that_run(tmp_path, monkeypatch) -> None:
    monkeypatch.chdir(tmp_path)
    with RunContext(run_dir="first", overrides={**QUICK, "env.name": "Acrobot-v1"}, seed=1) as context:
        context.train(1)
        expected = context.rollout(2, max_episode_steps=20, seed=3).summary.returns
    by_directory = RunContext(run_dir="first", policy="torch_policy")
    by_name = RunContext(policy="torch_policy", overrides={"policy.run": "first"})
    for playing in (by_directory, by_name):
        assert playing.config["env"]["name"] == "Acrobot-v1"
        assert playing.rollout(2, max_episode_steps=20, seed=3).summary.returns == expected
        assert playing.compute_action([0.0] * 6)["action"] in (0, 1, 2)


def test_the_policy_of_a_run_brings_its_own_wrappers(tmp_path) -> None:
    with RunContext(run_dir=tmp_path, overrides=QUICK, seed=1) as context:
        context.train(1)
    with pytest.raises(InvalidSpecificationError, match="wrappers: contradicts the policy of a run"):
        RunContext(run_dir=tmp_path, policy="torch_policy", wrappers="vector_obs")


def test_the_record_names_the_parts_that_are_not_described(tmp_path) -> None:
    with RunContext(
        run_dir=tmp_path, env=lambda: GymMazeEnv("CartPole-v0"), overrides=QUICK, seed=1
    ) as context:
        context.train(1)
        (path,) = context.undescribed
    stored = yaml.safe_load((tmp_path / "config.yaml").read_text())
    assert path == "env.factory"
    assert list(stored["undescribed"]) == ["env.factory"]
    assert "<lambda>" in stored["undescribed"]["env.factory"]
    assert stored["config"]["seeding"] == {"env_base_seed": 1, "agent_base_seed": 1}


def test_contexts_without_a_directory_never_share_one(tmp_path) -> None:
    from maze_core.rundir import new_run_dir

    made = [new_run_dir(tmp_path, "same").path.name for _ in range(3)]
    assert made == ["same", "same-2", "same-3"]


def test_a_run_killed_before_its_first_scheduled_checkpoint_starts_anew_and_ends_the_same(tmp_path):
    """A ``best`` checkpoint is no exact point to go on from; the service starts anew as well."""
    slow = {**QUICK, "algorithm.n_epochs": 3, "algorithm.checkpoint_every": 3}

    class Killed(Exception):
        """Stands for the death of the process."""

    class Dies(SilentReporter):
        def metrics(self, epoch, step, values):
            if epoch == 2:
                raise Killed

    with RunContext(run_dir=tmp_path / "whole", overrides=slow, seed=1) as context:
        whole = context.train()
    with RunContext(run_dir=tmp_path / "killed", overrides=slow, seed=1) as context, pytest.raises(Killed):
        context.train(reporter=Dies())
    assert (tmp_path / "killed" / "checkpoints" / "best.ckpt").exists()
    with RunContext.load(tmp_path / "killed") as loaded:
        assert loaded.train().content_sha256 == whole.content_sha256


def test_a_torn_last_line_of_metrics_is_written_again(tmp_path):
    with RunContext(run_dir=tmp_path, overrides=QUICK, seed=1) as context:
        context.train(1)
    with (tmp_path / "metrics.jsonl").open("a") as file:
        file.write('{"epoch": 2, "st')
    with RunContext.load(tmp_path) as loaded:
        loaded.train(1)
    lines = (tmp_path / "metrics.jsonl").read_text().splitlines()
    assert [json.loads(line)["epoch"] for line in lines] == [1, 2]


@pytest.mark.parametrize(
    "content",
    [b"", b"config: [", b"\x89PNG\r\n\x1a\n", b"\x00" * 40, b"- 1", b"config: 3", b"{" * 5000],
    ids=["empty", "torn", "a picture", "zeros", "a list", "a number", "deep"],
)
def test_a_damaged_configuration_is_named_with_the_way_out(tmp_path, content) -> None:
    (tmp_path / "config.yaml").write_bytes(content)
    with pytest.raises(CheckpointError, match=r"config\.yaml is damaged: .*Delete it"):
        RunContext(run_dir=tmp_path, overrides=QUICK)


def test_a_file_that_cannot_be_read_is_named(tmp_path) -> None:
    for name, read in (("config.yaml", RunDir.read_config), ("metrics.jsonl", RunDir.read_metrics)):
        (tmp_path / name).mkdir()
        with pytest.raises(CheckpointError, match=f"{name} cannot be read: Is a directory"):
            read(RunDir(tmp_path))


def test_a_run_is_loaded_and_trained_further_without_its_configuration_file(tmp_path) -> None:
    with RunContext(run_dir=tmp_path, overrides=QUICK, seed=1) as context:
        context.train(1)
        expected = context.evaluate(2).returns
    whole = (tmp_path / "config.yaml").read_bytes()
    (tmp_path / "config.yaml").write_bytes(whole[: len(whole) // 2])
    with RunContext.load(tmp_path) as loaded:
        assert loaded.evaluate(2).returns == expected
        loaded.train(1)
    assert (tmp_path / "config.yaml").read_bytes() == whole


@pytest.mark.parametrize(
    "line",
    [
        b"\xff\xfe",
        b"{",
        b"[1]",
        b"3",
        b"{}",
        b'{"epoch": "1", "step": 2}',
        b'{"epoch": 1, "step": 2, "x": [1]}',
    ],
)
def test_a_damaged_line_of_metrics_is_named_with_the_way_out(tmp_path, line) -> None:
    good = b'{"epoch": 1, "step": 8, "x": "NaN"}'
    path = tmp_path / "metrics.jsonl"
    path.write_bytes(b"\n".join([good, line, good]) + b"\n")
    with pytest.raises(CheckpointError, match=r"metrics\.jsonl, line 2, is damaged: .*Delete the line"):
        RunDir(tmp_path).read_metrics()
    path.write_bytes(b"\n".join([good, good]) + b"\n" + b"\x00" * 9)
    assert RunDir(tmp_path).read_metrics() == [{"epoch": 1, "step": 8, "x": "NaN"}] * 2


@pytest.mark.parametrize("damage", [b"PK", b"", None], ids=["torn", "empty", "a flipped bit"])
def test_a_damaged_checkpoint_names_its_file_and_the_way_out(tmp_path, damage) -> None:
    with RunContext(run_dir=tmp_path, overrides=QUICK, seed=1) as context:
        context.train(1)
    path = tmp_path / "checkpoints" / "best.ckpt"
    data = bytearray(path.read_bytes())
    data[len(data) // 2] ^= 1
    path.write_bytes(bytes(data) if damage is None else damage)
    with pytest.raises(CheckpointError, match=r"best\.ckpt: .*damaged.* Take another checkpoint of the run"):
        RunContext.load(tmp_path)


class Calls(SilentReporter):
    """Calls a function in the midst of a run, once."""

    def __init__(self, function):
        self._function = function

    def _call(self, *_):
        function, self._function = self._function, lambda: None
        function()

    metrics = episode = _call


def refused_meanwhile(outer, inner, argument):
    """``inner`` is told who writes, while ``outer`` does in the same place."""
    caught = []

    def call():
        with pytest.raises(InvalidSpecificationError, match=rf"process {os.getpid()} on .*, since ") as error:
            inner()
        caught.append(error.value.problems[0])

    outer(Calls(call))
    (problem,) = caught
    assert (problem.path, problem.code) == (argument, "in_use")


def test_of_two_that_train_in_one_directory_the_second_is_told_of_the_first(tmp_path) -> None:
    first, second = (RunContext(run_dir=tmp_path, overrides=QUICK, seed=1) for _ in range(2))
    refused_meanwhile(lambda calls: first.train(2, reporter=calls), lambda: second.train(2), "run_dir")
    assert len((tmp_path / "metrics.jsonl").read_text().splitlines()) == 2
    with pytest.raises(
        InvalidSpecificationError, match="written by somebody else since this context was made"
    ):
        second.train(1)  # it would begin anew, and take away what the first one has learnt
    assert first.train(1).counters.epoch == 3
    with RunContext(run_dir=tmp_path, overrides=QUICK) as third:
        assert third.train(1).counters.epoch == 4
    assert not (tmp_path / ".lock").exists()


def test_of_two_multiruns_and_of_two_rollouts_in_one_place_the_second_is_told_too(tmp_path) -> None:
    class OfJobs(JobsReporter):
        def __init__(self, reporter):
            self.started = lambda job, choices: reporter

    def grid():
        arguments = {"env": make_env, "algorithm": ["a2c"], "overrides": QUICK, "seed": 1}
        return RunContext(run_dir=tmp_path / "grid", multirun=True, **arguments)

    def played(reporter=None):
        with RunContext(policy="random_policy", run_dir=tmp_path, seed=1) as player:
            player.rollout(2, save="played", reporter=reporter)

    first, second = grid(), grid()
    refused_meanwhile(lambda calls: first.train(reporter=OfJobs(calls)), second.train, "run_dir")
    with pytest.raises(InvalidSpecificationError, match="since this context was made"):
        second.train()
    refused_meanwhile(played, played, "save")
    names = sorted(path.name for path in (tmp_path / "played").iterdir())
    assert names == ["config.yaml", "report.json", "trajectories"]


def test_the_lock_of_a_process_that_was_killed_is_none(tmp_path) -> None:
    code = (
        "import os, pathlib, signal\nfrom maze_core.rundir import sole_writer\n"
        f"with sole_writer(pathlib.Path({str(tmp_path)!r}), 'run_dir'):\n    os.kill(os.getpid(), signal.SIGKILL)"
    )
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == -signal.SIGKILL
    assert (tmp_path / ".lock").exists()
    with RunContext(run_dir=tmp_path, overrides=QUICK, seed=1) as context:
        context.train(1)
    assert not (tmp_path / ".lock").exists()


def test_the_commands_of_a_report_need_nothing_that_nobody_installs(tmp_path) -> None:
    with RunContext(run_dir=tmp_path, overrides=QUICK, seed=1) as context:
        context.train(1)
    commands = json.loads((tmp_path / "report.json").read_text())["commands"].values()
    assert {command.split("(")[0].split()[0] for command in commands} == {
        "maze-run",
        "RunContext.load",
        "pip",
    }


def test_of_several_processes_that_begin_at_once_one_trains_and_one_may_be_killed(tmp_path) -> None:
    code = f"""
import os, signal, sys
from maze_core import InvalidSpecificationError, RunContext
from maze_core.metrics import SilentReporter

class Dies(SilentReporter):
    def metrics(self, *_):
        if sys.argv[1] == "dies":
            os.kill(os.getpid(), signal.SIGKILL)

context = RunContext(run_dir={str(tmp_path)!r}, overrides={QUICK!r}, seed=1)
sys.stdin.readline()
try:
    context.train(3, reporter=Dies())
except InvalidSpecificationError as error:
    sys.exit(error.problems[0].code)
"""

    def begin(*names):
        started = [
            subprocess.Popen(
                [sys.executable, "-c", code, name], stdin=subprocess.PIPE, stderr=subprocess.PIPE, text=True
            )
            for name in names
        ]
        ends = []
        for process in started:
            process.stdin.write("\n")
            process.stdin.flush()
        for process in started:
            text = process.communicate()[1].strip()
            ends.append(text.splitlines()[-1] if process.returncode == 1 else process.returncode)
        return ends

    assert begin("dies") == [-signal.SIGKILL]
    ends = begin("trains", "trains")
    assert 0 in ends
    assert set(ends) <= {0, "in_use", "contradiction"}
    assert ends.count(0) == 1
    with RunContext(run_dir=tmp_path, overrides=QUICK) as context:
        n_epochs = context.report.counters.epoch
    epochs = [json.loads(line)["epoch"] for line in (tmp_path / "metrics.jsonl").read_text().splitlines()]
    assert epochs == list(range(1, n_epochs + 1))


def test_a_folder_that_its_last_writer_takes_away_is_made_again(tmp_path) -> None:
    folder = RolloutDir(tmp_path / "played")
    waiting = threading.Event()

    def fail():
        with contextlib.suppress(ZeroDivisionError), folder.writing():
            waiting.set()
            time.sleep(0.3)
            raise ZeroDivisionError

    thread = threading.Thread(target=fail)
    thread.start()
    waiting.wait(10)
    with folder.writing():
        folder.write_trajectory(0, b"episode")
    thread.join()
    assert [path.name for path in folder.path.iterdir()] == ["trajectories"]


def test_a_file_system_without_locks_is_warned_of(tmp_path, monkeypatch) -> None:
    def no_locks(*_):
        raise OSError(errno.ENOLCK, "No locks available")

    monkeypatch.setattr("fcntl.flock", no_locks)
    with (
        pytest.warns(MazeWarning, match=r"cannot be locked \(No locks available\)"),
        RunContext(run_dir=tmp_path, overrides=QUICK, seed=1) as context,
    ):
        context.train(1)
    assert not (tmp_path / ".lock").exists()


def test_a_folder_that_cannot_be_written_is_named_with_its_argument(tmp_path, monkeypatch) -> None:
    (tmp_path / "file").touch()
    (tmp_path / "outputs").touch()
    monkeypatch.chdir(tmp_path)
    for run_dir, folder in ((tmp_path / "file" / "run", "run"), (None, "outputs")):
        with (
            RunContext(run_dir=run_dir, overrides=QUICK, seed=1) as context,
            pytest.raises(InvalidSpecificationError, match=rf"^run_dir: .*{folder} cannot be written: Not a"),
        ):
            context.train(1)


def test_a_run_directory_may_be_a_link_but_not_one_that_leads_to_itself(tmp_path) -> None:
    (tmp_path / "link").symlink_to(tmp_path / "place")
    with RunContext(run_dir=tmp_path / "link", overrides=QUICK, seed=1) as context:
        context.train(1)
    assert (tmp_path / "place" / "checkpoints" / "last.ckpt").exists()
    (tmp_path / "circle").symlink_to(tmp_path / "circle")
    with pytest.raises(InvalidSpecificationError, match=r"^run_dir: .*circle.* cannot be a directory"):
        RunContext(run_dir=tmp_path / "circle", overrides=QUICK)


def test_what_a_killed_process_left_half_written_does_not_fill_a_directory(tmp_path) -> None:
    (tmp_path / ".0123456789abcdef.tmp").touch()
    RolloutDir(tmp_path).refuse_content()
    assert RunDir(tmp_path).is_free()
