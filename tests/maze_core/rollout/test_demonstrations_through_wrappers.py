"""Recorded episodes as policies behind wrappers of actions and steps would have played them."""

import numpy as np
import pytest

from maze_core import RunContext

SMALL = {"algorithm.total_env_steps": 1, "algorithm.epoch_length": 1, "algorithm.n_rollout_steps": 4}
STACKS = {
    "choices": ("Pendulum-v1", {"maze_core.DiscretizeActionsWrapper": {"num_bins": 3}}),
    "parts": (
        "Pendulum-v1",
        {"maze_core.SplitActionsWrapper": {"split_config": {"action": {"torque": [0]}}}},
    ),
    "decisions": (
        "CartPole-v1",
        {
            "maze_core.StepSkipWrapper": {"n_steps": 3},
            "maze_core.TimeLimitWrapper": {"max_episode_steps": 30},
        },
    ),
}


@pytest.mark.parametrize("kind", STACKS)
def test_a_clone_learns_from_what_a_policy_behind_the_same_wrappers_did(kind, tmp_path):
    name, wrappers = STACKS[kind]
    overrides = {"env.name": name, **SMALL}
    with RunContext(
        env="gym_env", wrappers=wrappers, overrides=overrides, seed=1, silent=True, run_dir=tmp_path / "run"
    ) as rc:
        rc.train()
        rc.rollout(n_episodes=2, record=True, max_episode_steps=20, save=tmp_path / "played")
    clone = {"env.name": name, "dataset.run": str(tmp_path / "played"), "algorithm.n_epochs": 1}
    chosen = {"env": "gym_env", "algorithm": "bc", "wrappers": wrappers, "overrides": clone}
    with RunContext(**chosen, seed=2, silent=True, run_dir=tmp_path / "clone") as rc:
        report = rc.train()
        loss = rc.metrics[-1]["train/policy_loss"]
    assert report.stop_reason == "completed"
    assert np.isfinite(loss)
