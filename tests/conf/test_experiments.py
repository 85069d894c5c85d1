"""The experiments that name a length in steps train, and are as long as they say, to the update."""

import pytest

from maze_core import RunContext
from maze_core.config import compose_run, config_groups, config_module

TUNED = [
    name
    for name in config_groups()["experiment"]
    if config_module("experiment", name)["config"].get("algorithm", {}).get("total_env_steps")
]

ENGINES = {"LunarLander": "Box2D", "Swimmer": "mujoco"}
"""Environment → what it needs, by an extra."""


@pytest.mark.parametrize("name", TUNED)
def test_an_experiment_is_no_update_longer_than_it_says(name: str):
    tree = compose_run("train", experiment=name, seed=1).tree
    algorithm = tree["algorithm"]
    per_update = algorithm["n_rollout_steps"] * tree["runner"]["n_envs"]
    n_updates = algorithm["n_epochs"] * algorithm["epoch_length"]
    assert (n_updates - 1) * per_update < algorithm["total_env_steps"] <= n_updates * per_update


@pytest.mark.filterwarnings("ignore:.*actions lie outside the bounds")
@pytest.mark.parametrize("name", TUNED)
def test_an_experiment_learns(name: str):
    env = compose_run("train", experiment=name, seed=1).tree["env"]["name"].partition("-")[0]
    if env in ENGINES:
        pytest.importorskip(ENGINES[env])
    overrides: dict[str, object] = {
        "algorithm.total_env_steps": 1,
        "algorithm.epoch_length": 1,
        "algorithm.rollout_evaluator": None,
    }
    if "replay_capacity" in compose_run("train", experiment=name, seed=1).tree["algorithm"]:
        overrides["algorithm.n_warmup_steps"] = 0
    with RunContext(experiment=name, overrides=overrides, seed=1, silent=True) as rc:
        report = rc.train()
    assert report.counters.updates == 1
    assert "train/value_loss" in report.metrics
