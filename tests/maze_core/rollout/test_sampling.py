"""Samples for statistics: whole episodes until they stand still, within a budget, from the environments given."""

import numpy as np
import pytest

from maze_core.config import compose_run
from maze_core.envs.config import GymEnvConfig
from maze_core.envs.gym_env import GymEnv
from maze_core.envs.per_env import PerEnvVectorEnv
from maze_core.rollout.sampling import sample_observations
from maze_core.runners.build import build_world
from tests.maze_core.envs.small_envs import EpisodeNumberEnv
from tests.maze_core.envs.structured_env import BoxesEnv


def sampled(env, least=128, most=10_000):
    try:
        return sample_observations(env, least, most, env_seed=1)
    finally:
        env.close()


def test_acrobot_is_sampled_until_the_statistics_stand_still():
    """Whole random episodes have a deviation of cos θ₁ of 0.17; the first 125 steps of eight of them 0.04."""
    observations = sampled(GymEnvConfig(name="Acrobot-v1").vector(8))[0]["observation"]
    assert 0.13 < observations[:, 0].std() < 0.21


def test_sampling_ends_with_the_budget_and_not_before_the_least():
    env = GymEnvConfig(name="Acrobot-v1")
    assert len(sampled(env.vector(8), most=1000)[0]["observation"]) == 1000
    assert len(sampled(env.vector(1), least=128, most=0)[0]["observation"]) == 128
    short = sampled(GymEnvConfig(name="CartPole-v1").vector(8), most=100_000)
    assert len(short[0]["observation"]) < 20_000


def test_large_observations_end_it_sooner(monkeypatch):
    env = PerEnvVectorEnv([lambda: GymEnv(EpisodeNumberEnv(0))] * 2)
    monkeypatch.setattr("maze_core.rollout.sampling._MAX_BYTES", 4096)
    samples = sampled(env, least=10, most=10**6)[0]["observation"]
    assert 4096 <= samples.nbytes < 4096 + 1024


def test_every_sub_step_is_sampled():
    samples = sampled(PerEnvVectorEnv([BoxesEnv] * 2), most=300)
    assert set(samples) == {0, 1}
    assert all(len(values) >= 16 for batch in samples.values() for values in batch.values())


@pytest.mark.parametrize("wrappers", ["no_wrappers", "vector_obs"])
def test_no_environment_is_made_for_it(wrappers):
    made = []

    def factory():
        made.append(1)
        return GymEnvConfig(name="CartPole-v1").make()

    world = build_world(
        compose_run("train", env=factory, wrappers=wrappers, overrides={"runner.n_envs": 1}, seed=1)
    )
    world.trainer.close()
    assert len(made) == 1


def test_the_same_seed_gives_the_same_samples():
    first, second = (sampled(GymEnvConfig(name="MountainCar-v0").vector(4), most=600)[0] for _ in range(2))
    assert np.array_equal(first["observation"], second["observation"])
