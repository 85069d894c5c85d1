"""Rollouts side by side are what one collector of all environments would have brought."""

import numpy as np
import pytest

from maze_core.data.trajectory import Rollout, StepRecord, joined
from maze_core.envs.config import GymEnvConfig
from maze_core.envs.per_env import PerEnvVectorEnv
from maze_core.models.random_policy import RandomPolicy
from maze_core.rollout.collector import Collector
from tests.maze_core.envs.structured_env import make_boxes


class Silent(RandomPolicy):
    """The same noise for every row, so that it does not matter who draws it."""

    def noise(self, step_key, rng, n_rows):
        return np.full_like(super().noise(step_key, rng, n_rows), 0.4)


def collected(make, seeds):
    env = make(len(seeds))
    collector = Collector(env, 12, np.random.default_rng(0))
    collector.reset(seeds)
    rollout = collector.collect(Silent(env.action_spaces))
    rollout.log_probs = np.add.outer(np.arange(12.0), seeds)
    env.close()
    return rollout


def equal(first, second):
    if isinstance(first, dict):
        assert first.keys() == second.keys()
        for key in first:
            equal(first[key], second[key])
    elif isinstance(first, StepRecord):
        equal(first.active, second.active)
        for ours, theirs in ((first.observations, second.observations), (first.actions, second.actions)):
            equal(*({name: x[first.active] for name, x in arrays.items()} for arrays in (ours, theirs)))
    elif hasattr(first, "__slots__"):
        for name in first.__slots__:
            equal(getattr(first, name), getattr(second, name))
    else:
        np.testing.assert_array_equal(first, second)


def in_order(rollout: Rollout) -> Rollout:
    """With what ended in the order of environments, which several collectors cannot agree on."""
    for ends in rollout.final.values():
        order = np.lexsort((ends.t, ends.b))
        ends.t, ends.b = ends.t[order], ends.b[order]
        ends.observations = {name: array[order] for name, array in ends.observations.items()}
    rollout.episode_returns.sort()
    rollout.episode_lengths.sort()
    return rollout


@pytest.mark.parametrize(
    "make",
    [
        GymEnvConfig(name="CartPole-v1", max_episode_steps=5).vector,
        GymEnvConfig(name="Pendulum-v1", max_episode_steps=7).vector,
        lambda n: PerEnvVectorEnv([make_boxes] * n),
    ],
)
def test_rollouts_side_by_side_are_the_rollout_of_all_environments(make):
    parts = [collected(make, seeds) for seeds in ([1, 2], [3], [4, 5])]
    equal(in_order(joined(parts)), in_order(collected(make, [1, 2, 3, 4, 5])))
