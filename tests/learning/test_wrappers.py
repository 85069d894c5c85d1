"""What the README recommends, ``wrappers=vector_obs``, never learns worse than no wrapper; the table is printed."""

import importlib.util
from statistics import fmean

import pytest

from benchmarks.report import table
from maze_core import RunContext

SEEDS = (1, 2, 3)
CLASSIC = {"algorithm.gamma": 0.99, "algorithm.gae_lambda": 0.98, "algorithm.n_rollout_steps": 16}
PENDULUM = {
    "runner.n_envs": 4,
    "algorithm.n_rollout_steps": 1024,
    "algorithm.n_optimization_epochs": 10,
    "algorithm.gamma": 0.9,
    "algorithm.gae_lambda": 0.95,
    "algorithm.lr": 0.001,
}
TASKS = {
    "Acrobot-v1": ("acrobot_ppo", 100_000, {}, 10.0),
    "MountainCar-v0": ("acrobot_ppo", 300_000, CLASSIC, 5.0),
    "Pendulum-v1": ("acrobot_ppo", 100_000, PENDULUM, 60.0),
    "LunarLander-v3": ("lunar_lander_ppo", 200_000, {}, 60.0),
}
"""Environment → experiment with RL-Zoo3's settings, a budget of minutes, what is set beside, and how far below the mean
without a wrapper the mean of three seeds may lie: the spread of the seeds."""


def mean_return(task: str, wrappers: str, seed: int, run_dir) -> float:
    """Of 20 episodes, played with the policy as it is after the last update."""
    experiment, n_env_steps, settings, _ = TASKS[task]
    overrides = {"env.name": task, "algorithm.total_env_steps": n_env_steps, **settings}
    with RunContext(
        run_dir, experiment=experiment, wrappers=wrappers, overrides=overrides, seed=seed, silent=True
    ) as rc:
        rc.train()
    with RunContext.load(run_dir, "last") as rc:
        return rc.evaluate(20).mean_return


@pytest.mark.slow
@pytest.mark.parametrize("task", TASKS)
def test_normalised_observations_are_never_learnt_worse_from_than_raw_ones(task, capsys, tmp_path):
    if task.startswith("LunarLander") and importlib.util.find_spec("Box2D") is None:
        pytest.skip("LunarLander needs the extra box2d")
    row = {"task": task}
    for wrappers in ("no_wrappers", "vector_obs"):
        returns = [mean_return(task, wrappers, seed, tmp_path / f"{wrappers}-{seed}") for seed in SEEDS]
        row |= {wrappers: fmean(returns), f"{wrappers} by seed": " ".join(f"{x:.0f}" for x in returns)}
    with capsys.disabled():
        print("\n" + table([row], list(row)))
    assert row["vector_obs"] >= row["no_wrappers"] - TASKS[task][-1]
