"""An environment with two sub-steps and a mask is learnt by the same loop, and its agent acts by actor id."""

import pytest

from maze_core import ActorID, RunContext
from tests.maze_core.envs.structured_env import N_ITEMS, make_boxes


@pytest.mark.parametrize("algorithm", ["a2c", "impala", "ppo"])
def test_both_sub_steps_are_learnt_and_the_mask_is_honoured(algorithm, tmp_path):
    """Every round pays 1 for the right box and the wanted item in it; the environment raises on a masked item."""
    overrides = {
        "algorithm.n_epochs": 3,
        "algorithm.epoch_length": 10,
        "algorithm.n_rollout_steps": 64,
        "algorithm.lr": 0.003,
    }
    with RunContext(
        env=make_boxes, algorithm=algorithm, overrides=overrides, seed=1, run_dir=tmp_path
    ) as context:
        context.train()
        assert context.evaluate(20).mean_return == 5.0
        mask = [0.0] * N_ITEMS
        mask[2] = 1.0
        item = {"wanted": [1.0, 0.0, 0.0, 0.0], "action_mask": mask}
        assert context.compute_action(item, actor_id=ActorID(1, 0)) == {"action": 2}
