"""One spec, three faces: Python, ``maze-run`` and HTTP give the same configuration digest and the same content."""

import json
import os
import subprocess
import sys

import pytest

import maze_core.cli
from maze_core import RunContext

SPECS = {
    "ppo": {
        "algorithm": "ppo",
        "model": "vector_obs",
        "critic": "template_state",
        "wrappers": "vector_obs",
        "overrides": {"env.name": "CartPole-v1", "algorithm.n_epochs": 2, "algorithm.epoch_length": 2},
        "seed": 7,
    },
    "a2c": {
        "algorithm": "a2c",
        "configuration": "test",
        "overrides": {"env.name": "Pendulum-v1", "algorithm.lr": 0.0003},
        "seed": 8,
    },
}

SPECS["dicts"] = {
    "algorithm": {
        "_target_": "maze_core.PPOAlgorithmConfig",
        "n_epochs": 2,
        "epoch_length": 1,
        "n_rollout_steps": 64,
    },
    "model": "flatten_concat",
    "critic": "flatten_concat_shared",
    "wrappers": {
        "maze_core.envs.wrappers.reward_clipping.RewardClippingWrapper": {"min_val": -1, "max_val": 1}
    },
    "overrides": {
        "env.name": "Acrobot-v1",
        "model.policy.networks": [
            {"_target_": "FlattenConcatPolicyNetConfig", "hidden_units": [32], "non_lin": "relu"}
        ],
    },
    "seed": 9,
}
SPECS["experiment"] = {
    "experiment": "cartpole_ppo_wrappers",
    "overrides": {"algorithm.n_epochs": 1, "algorithm.epoch_length": 1, "runner.n_envs": 3},
    "seed": 10,
}


def words(spec):
    """The spec as words of Hydra's override grammar."""
    values = {**{key: value for key, value in spec.items() if key != "overrides"}, **spec["overrides"]}
    return [f"{key}={word(value)}" for key, value in values.items()]


def word(value):
    if isinstance(value, dict):
        return "{" + ",".join(f"{key}:{word(item)}" for key, item in value.items()) + "}"
    return "[" + ",".join(map(word, value)) + "]" if isinstance(value, list) else str(value)


@pytest.mark.parametrize("name", list(SPECS))
def test_python_command_line_and_http_give_the_same_digests(name, server, tmp_path, capsys):
    spec = SPECS[name]
    with RunContext(run_dir=tmp_path / "python", **spec) as python:
        trained = python.train()

    arguments = ["-cn", "conf_train", *words(spec), f"run_dir={tmp_path / 'cli'}"]
    command = [sys.executable, "-m", "maze_core.cli", *arguments]
    environment = {**os.environ, "OMP_NUM_THREADS": "1"}
    subprocess.run(command, capture_output=True, cwd=tmp_path, env=environment, check=True)
    report = json.loads((tmp_path / "cli" / "report.json").read_text())
    assert report["content_sha256"] == trained.content_sha256
    assert report["metrics"] == trained.metrics
    capsys.readouterr()
    assert maze_core.cli.main([*arguments, "--cfg", "job"]) == 0
    assert f"config_sha256: {python.config_sha256}" in capsys.readouterr().out

    finished = server.wait(server.submit("train", spec))
    assert finished["state"] == "succeeded", finished
    assert finished["config_sha256"] == python.config_sha256
    (last,) = [row for row in server.get(f"/v1/runs/{finished['id']}/checkpoints")["data"] if row["is_last"]]
    assert last["content_sha256"] == trained.content_sha256
    assert finished["result"]["content_sha256"] == trained.content_sha256
    assert finished["result"]["metrics"] == trained.metrics
