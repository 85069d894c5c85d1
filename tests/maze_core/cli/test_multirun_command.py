"""``maze-run --multirun``: the jobs, their order, the table, exit codes, and Ctrl-C."""

import json
import os
import signal
import subprocess
import sys
import threading

import pytest
import yaml

from maze_core import cli
from maze_core.config import compose_run

QUICK = ["configuration=test", "env.name=CartPole-v1", "seed=1", "n_epochs=1", "launcher.n_jobs=1"]


def documents(capsys, *words):
    assert cli.main(["-m", "--cfg", "job", *words]) == 0
    out = capsys.readouterr().out
    return list(yaml.safe_load_all(out)), out


def test_the_last_word_varies_fastest_whether_group_or_value(capsys):
    found, out = documents(capsys, "algorithm.lr=0.1,0.2", "algorithm=a2c,ppo", "seed=1")
    chosen = [(tree["algorithm"]["lr"], "clip_range" in tree["algorithm"]) for tree in found]
    assert chosen == [(0.1, False), (0.1, True), (0.2, False), (0.2, True)]  # only PPO clips
    assert "# job 1: algorithm.lr=0.1, algorithm=ppo" in out
    alone = compose_run(algorithm="ppo", overrides={"algorithm.lr": 0.1}, seed=1)
    assert f"# config_sha256: {alone.config_sha256}" in out


@pytest.mark.parametrize(
    ("word", "values"),
    [
        ("env.kwargs.x=1,2.5,a", [1, 2.5, "a"]),
        ("env.kwargs.x=choice(1,2)", [1, 2]),
        ("env.kwargs.x=range(1,4)", [1, 2, 3]),
        ("env.kwargs.x=[1,2],[3]", [[1, 2], [3]]),
        ("env.kwargs.x=[1,2]", [[1, 2]]),
        ("env.kwargs.x='a,b'", ["a,b"]),
        ("+env.kwargs.x=1,2", [1, 2]),
    ],
)
def test_values_are_those_of_the_grammar_and_a_list_is_one(word, values, capsys):
    found, _ = documents(capsys, word)
    assert [tree["env"]["kwargs"]["x"] for tree in found] == values


def test_a_search_prints_its_space(capsys):
    (found,), _ = documents(capsys, "+experiment=optuna_search", "sweep.n_trials=2")
    assert found["sweep"]["n_trials"] == 2
    assert "algorithm.lr" in found["sweep"]["space"]


def test_jobs_are_trained_told_and_stored_and_a_failing_one_is_1(tmp_path, capsys):
    words = [*QUICK, "algorithm=ppo,a2c", "env.name=CartPole-v1,NoSuchEnv-v0", f"hydra.sweep.dir={tmp_path}"]
    assert cli.main(["-m", *words]) == 1
    captured = capsys.readouterr()
    rows = [line for line in captured.out.splitlines() if line[:1].isdigit()]
    assert [row.split()[1:3] for row in rows] == [
        ["algorithm=ppo,", "env.name=CartPole-v1"],
        ["algorithm=ppo,", "env.name=NoSuchEnv-v0"],
        ["algorithm=a2c,", "env.name=CartPole-v1"],
        ["algorithm=a2c,", "env.name=NoSuchEnv-v0"],
    ]
    assert "failed" in rows[1]
    assert str(tmp_path / "0") in rows[0]
    assert "best: job" in captured.out
    assert "Job 3 (algorithm=a2c, env.name=NoSuchEnv-v0) failed: EnvError" in captured.out
    assert "job 0  algorithm=ppo, env.name=CartPole-v1  completed after epoch 1" in captured.err
    assert [job["status"] for job in json.loads((tmp_path / "sweep.json").read_text())["jobs"]] == [
        "done",
        "failed",
        "done",
        "failed",
    ]


def test_rollouts_are_a_table_too_and_each_job_is_saved(tmp_path, capsys):
    words = ["-m", "-cn", "conf_rollout", "env.name=CartPole-v1", "runner.n_episodes=1,2", "seed=1"]
    assert cli.main([*words, f"run_dir={tmp_path}"]) == 0
    captured = capsys.readouterr()
    rows = [line.split() for line in captured.out.splitlines()]
    assert [row[:3] for row in rows[1:]] == [
        ["0", "runner.n_episodes=1", "1"],
        ["1", "runner.n_episodes=2", "2"],
    ]
    assert [row[-1] for row in rows[1:]] == [str(tmp_path / "rollouts/001" / job) for job in "01"]
    assert len(list((tmp_path / "rollouts/001/1/trajectories").iterdir())) == 2
    assert "job 1  runner.n_episodes=2  2 episodes, mean return" in captured.err


@pytest.mark.parametrize(("number", "code"), [(signal.SIGINT, 130), (signal.SIGTERM, 143)])
def test_a_signal_to_all_stores_what_runs_and_says_how_to_go_on(number, code, tmp_path):
    words = ["-m", "seed=1,2", "algorithm.n_epochs=1000", "launcher.n_jobs=1", f"run_dir={tmp_path}"]
    command = [sys.executable, "-m", "maze_core.cli", *words]
    pipes = {"stderr": subprocess.PIPE, "stdout": subprocess.PIPE, "text": True}
    with subprocess.Popen(command, **pipes, start_new_session=True) as process:
        watchdog = threading.Timer(200, process.kill)
        watchdog.start()
        metrics = tmp_path / "0" / "metrics.jsonl"
        pause = threading.Event()
        while process.poll() is None and not metrics.exists():
            pause.wait(0.05)
        os.killpg(process.pid, number)  # as a terminal does, and Slurm
        out, err = process.communicate()
        watchdog.cancel()
    assert process.returncode == code
    assert "cancelled" in out
    assert (tmp_path / "0" / "checkpoints" / "last.ckpt").exists()
    assert not (tmp_path / "1").exists()
    assert f"maze-run -m seed=1,2 algorithm.n_epochs=1000 launcher.n_jobs=1 run_dir={tmp_path}" in err
