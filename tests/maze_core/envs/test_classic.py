"""Batches of classic control environments have the bits of gymnasium's, stepped one by one."""

from dataclasses import replace

import gymnasium
import numpy as np
import pytest
from gymnasium import spaces
from gymnasium.envs.classic_control.cartpole import CartPoleEnv

from maze_core.config import compose_run
from maze_core.envs.classic import ClassicVectorEnv
from maze_core.envs.config import GymEnvConfig
from maze_core.envs.per_env import PerEnvVectorEnv
from maze_core.errors import EnvError
from tests.maze_core.envs.ticks import tick_bytes

IDS = ["CartPole-v0", "CartPole-v1", "MountainCar-v0", "Pendulum-v1", "Acrobot-v1"]


def both(name, n_envs, **settings):
    builtin = GymEnvConfig(name=name, **settings)
    one_by_one = GymEnvConfig(name=name, vectorization="per_env", **settings)
    return builtin.vector(n_envs), one_by_one.vector(n_envs)


def action_of(env, rng):
    (space,) = env.action_spaces[0].values()
    if isinstance(space, spaces.Discrete):
        return {0: {"action": rng.integers(space.n, size=env.n_envs)}}
    return {0: {"action": rng.uniform(-2.5, 2.5, (env.n_envs, 1)).astype(np.float32)}}  # some are clipped


@pytest.mark.parametrize(("name", "limit"), [(name, None) for name in IDS] + [(name, 7) for name in IDS])
@pytest.mark.parametrize("n_envs", [1, 8])
def test_every_tick_of_both_ends_has_the_bits_of_stepping_one_by_one(name, limit, n_envs):
    envs = both(name, n_envs, max_episode_steps=limit)
    assert isinstance(envs[0], ClassicVectorEnv)
    assert isinstance(envs[1], PerEnvVectorEnv)
    rng, n_ends = np.random.default_rng(n_envs), 0
    n_ticks = 50 if limit else 1200 if name == "Acrobot-v1" else 450  # more than two time limits
    for seed in (0, 2**31):
        ticks = [env.reset(range(seed, seed + n_envs)) for env in envs]
        for _ in range(n_ticks):
            assert tick_bytes(ticks[0]) == tick_bytes(ticks[1])
            actions = action_of(envs[0], rng)
            ticks = [env.step(actions) for env in envs]
            n_ends += int(ticks[0].ended.sum())
        rows = np.arange(n_envs) % 2 == 0
        ticks = [env.reset([3] * n_envs, rows) for env in envs]
        assert tick_bytes(ticks[0]) == tick_bytes(ticks[1])
    assert n_ends > 2 * n_envs


@pytest.mark.parametrize("name", ["CartPole-v1", "MountainCar-v0"])
def test_a_goal_that_is_reached_ends_the_episode_as_it_does_one_by_one(name):
    envs = both(name, 4)
    ticks, n_terminated = [env.reset(range(4)) for env in envs], 0
    for _ in range(400):
        observation = ticks[0].observations[0]["observation"]
        pushes = (observation[:, 1] > 0) * (2 if name.startswith("Mountain") else 1)
        ticks = [env.step({0: {"action": pushes}}) for env in envs]
        assert tick_bytes(ticks[0]) == tick_bytes(ticks[1])
        n_terminated += int(ticks[0].terminated.sum())
    assert n_terminated > 0


@pytest.mark.parametrize(
    ("settings", "taken"),
    [
        ({"name": "CartPole-v1"}, "builtin"),
        ({"name": "CartPole-v1", "vectorization": "per_env"}, "per_env"),
        ({"name": "CartPole-v1", "kwargs": {"sutton_barto_reward": True}}, "per_env"),
        ({"name": "Taxi-v4"}, "per_env"),
        ({"name": "Nowhere-v0"}, "per_env"),
    ],
)
def test_auto_takes_the_batch_where_there_is_one_and_says_so(settings, taken):
    assert GymEnvConfig(**settings).resolved_vectorization() == taken


def test_a_batch_that_was_resolved_where_an_id_meant_something_else_is_none_here(monkeypatch):
    spec = replace(gymnasium.spec("CartPole-v1"), entry_point=lambda render_mode=None: DoublePole())
    monkeypatch.setitem(gymnasium.registry, "CartPole-v1", spec)
    env = GymEnvConfig(name="CartPole-v1", vectorization="builtin").vector(2)
    env.reset([0, 1])
    assert env.step({0: {"action": np.array([0, 1])}}).reward.tolist() == [2.0, 2.0]


class DoublePole(CartPoleEnv):
    def step(self, action):
        observation, reward, *rest = super().step(action)
        return observation, 2 * reward, *rest


@pytest.mark.parametrize(
    ("name", "kwargs"), [("CartPole-v1", {"sutton_barto_reward": True}), ("Pendulum-v1", {"g": 2.0})]
)
def test_settings_reach_an_environment_whatever_was_asked_for_or_recorded(name, kwargs):
    envs = (
        both(name, 2, kwargs=kwargs)[1],
        GymEnvConfig(name=name, kwargs=kwargs, vectorization="builtin").vector(2),
    )
    ticks = [env.reset([0, 1]) for env in envs]
    ticks = [env.step(action_of(env, np.random.default_rng(0))) for env in envs]
    assert tick_bytes(ticks[0]) == tick_bytes(ticks[1])


@pytest.mark.parametrize("action", [2, -1])
def test_an_action_that_the_environment_does_not_have_is_refused(action):
    env = ClassicVectorEnv("CartPole-v1", 2)
    env.reset([0, 1])
    with pytest.raises(EnvError, match=r"\[0, -?\d\] are not all in 0…1"):
        env.step({0: {"action": np.array([0, action])}})


def test_a_torque_that_is_not_a_number_is_refused_with_its_row():
    env = ClassicVectorEnv("Pendulum-v1", 2)
    env.reset([0, 1])
    with pytest.raises(EnvError, match="Environment 1, step 1 of its episode: the reward is NaN"):
        env.step({0: {"action": np.array([[0], [np.nan]], np.float32)}})


def test_what_has_no_batch_is_refused_with_the_way_out():
    with pytest.raises(
        EnvError, match=r"Taxi-v4 has no builtin vectorization; use env\.vectorization=per_env"
    ):
        GymEnvConfig(name="Taxi-v4", vectorization="builtin").vector(1)


def test_a_configuration_says_what_was_taken_whatever_named_the_environment():
    taken = {
        name: compose_run("train", overrides={"env.name": name}, seed=1).tree["env"]["vectorization"]
        for name in ("CartPole-v1", "Taxi-v4")
    }
    assert taken == {"CartPole-v1": "builtin", "Taxi-v4": "per_env"}
