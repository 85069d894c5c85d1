"""DeepMind's Control Suite, by shimmy's ids: it trains, is evaluated, and acts."""

import numpy as np
import pytest

pytest.importorskip("shimmy")
pytest.importorskip("dm_control")

from maze_core import RunContext
from maze_core.envs.config import GymEnvConfig


def test_a_task_trains_a_few_updates_is_evaluated_and_acts():
    settings = {"env.max_episode_steps": 20}
    with RunContext(env="dm_control", configuration="test", seed=1, silent=True, overrides=settings) as rc:
        assert np.isfinite(rc.train().metrics["eval/mean_return"])
        assert 0 <= rc.evaluate(n_episodes=1).mean_return <= 20
        env = rc.env_factory()
        observation = env.reset(seed=1)
        assert set(observation) == {"position", "velocity"}
        _, reward, done, _ = env.step(rc.compute_action(observation))
        assert 0 <= reward <= 1
        assert not done


def test_a_seed_gives_the_same_episode_again():
    env = GymEnvConfig(name="dm_control/reacher-easy-v0").make()
    first, second = (env.reset(seed=5)["to_target"] for _ in range(2))
    assert np.array_equal(first, second)
    env.close()
