"""gymnasium environments as structured environments."""

import warnings

import gymnasium
import numpy as np
import pytest
from gymnasium.wrappers import TimeLimit

from maze_core.envs.gym_env import GymEnv, find_spec, make_gym
from maze_core.envs.per_env import PerEnvVectorEnv
from maze_core.errors import EnvError
from maze_core.types import ActorID
from tests.maze_core.envs.small_envs import NestedEnv


def test_an_id_that_has_a_newer_version_is_made_without_a_warning():
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        env = make_gym("CartPole-v0")
    assert env.spec.max_episode_steps == 200


def test_an_id_without_version_means_the_latest():
    assert find_spec("CartPole").id == "CartPole-v1"


@pytest.mark.parametrize(
    ("name", "suggestion"),
    [("CartPole-v9", "v1"), ("CardPole-v1", "CartPole"), ("no_such_module:Env-v0", "no_such_module")],
)
def test_an_unknown_id_is_refused_with_a_suggestion(name, suggestion):
    with pytest.raises(EnvError, match=f"There is no environment '{name}'.*{suggestion}"):
        find_spec(name)


def test_an_argument_that_the_environment_does_not_take_is_refused():
    with pytest.raises(EnvError, match=r"CartPole-v1 could not be made: .*wings"):
        make_gym("CartPole-v1", kwargs={"wings": 2})


def test_the_time_limit_stays_and_the_checker_goes():
    env = make_gym("CartPole-v1", max_episode_steps=7)
    assert isinstance(env, TimeLimit)
    assert "PassiveEnvChecker" not in str(env)


def test_a_plain_env_has_one_key_and_one_actor():
    env = GymEnv(make_gym("CartPole-v1"))
    observation = env.reset(seed=3)
    assert list(env.observation_spaces) == [0]
    assert env.agent_counts == {0: 1}
    assert env.actor_id() == ActorID(0, 0)
    expected, _ = gymnasium.make("CartPole-v1").reset(seed=3)
    np.testing.assert_array_equal(observation["observation"], expected)


def test_nested_spaces_reach_the_environment_in_its_own_form():
    gym = NestedEnv()
    env = PerEnvVectorEnv([lambda: GymEnv(gym)])
    tick = env.reset([1])
    assert set(tick.observations[0]) == {"arm.angle", "arm.grip", "cells"}
    assert tick.observations[0]["arm.angle"].dtype == np.float64
    env.step({0: {"action_0": np.array([2]), "action_1": np.array([[0.5, -0.5]], dtype=np.float32)}})
    choice, move = gym.last_action
    assert gym.action_space.contains((choice, move))
    assert choice == 2
    np.testing.assert_array_equal(move, [0.5, -0.5])


@pytest.mark.parametrize(
    ("metadata", "fps"),
    [
        ({"render_fps": 12}, 12.0),
        ({"render_fps": np.int64(7)}, 7.0),
        ({}, 30.0),
        ({"render_fps": 0}, 30.0),
        ({"render_fps": None}, 30.0),
        ({"render_fps": float("nan")}, 30.0),
        (None, 30.0),
    ],
)
def test_it_looks_natural_at_the_speed_the_environment_names_if_that_is_one(metadata, fps):
    gym = NestedEnv()
    gym.metadata = metadata
    assert GymEnv(gym).render_fps == fps
