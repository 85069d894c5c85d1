"""Limits on observations, actions and rewards."""

import numpy as np
import pytest
from gymnasium import spaces

from maze_core.envs.config import GymEnvConfig
from maze_core.envs.gym_env import GymEnv
from maze_core.envs.per_env import PerEnvVectorEnv
from maze_core.envs.wrappers import (
    ActionClippingWrapper,
    ObservationClippingWrapper,
    RewardClippingWrapper,
    RewardScalingWrapper,
    WrappedVectorEnv,
)
from maze_core.errors import EnvError
from tests.maze_core.envs.small_envs import EpisodeNumberEnv


def test_observations_are_clipped_in_their_own_dtype_and_masks_are_not():
    space = spaces.Dict(
        a=spaces.Box(-9, 9, (2,), np.float32),
        b=spaces.Box(0, 255, (1,), np.uint8),
        a_mask=spaces.Box(0, 5, (2,)),
    )
    wrapper = ObservationClippingWrapper(clip_range=(-1.0, 2.0))
    seen, _ = wrapper.bind({0: space}, {})
    assert seen[0]["a"] == spaces.Box(-1, 2, (2,), np.float32)
    assert seen[0]["b"] == spaces.Box(0, 2, (1,), np.uint8)
    assert seen[0]["a_mask"] == space["a_mask"]
    batch = {
        "a": np.array([[-5.0, 0.5]], dtype=np.float32),
        "b": np.array([[200]], dtype=np.uint8),
        "a_mask": np.array([[5.0, 0.0]], dtype=np.float32),
    }
    result, _ = wrapper.observation(0, batch, None)
    assert {name: values.tolist() for name, values in result.items()} == {
        "a": [[-1.0, 0.5]],
        "b": [[2]],
        "a_mask": [[5.0, 0.0]],
    }
    assert {name: values.dtype for name, values in result.items()} == {n: v.dtype for n, v in batch.items()}


def test_a_single_number_keeps_its_shape():
    space = spaces.Dict(t=spaces.Box(-np.inf, np.inf, (), np.float64))
    seen, _ = ObservationClippingWrapper(clip_range=(-1.0, 2.0)).bind({0: space}, {})
    assert seen[0]["t"] == spaces.Box(-1, 2, (), np.float64)


def test_a_name_that_is_not_observed_cannot_be_excluded():
    with pytest.raises(EnvError, match=r"\['z'\], which is not observed"):
        ObservationClippingWrapper(exclude=["z"]).bind({0: spaces.Dict(a=spaces.Box(0, 1))}, {})


def test_box_actions_are_clipped_and_others_left():
    wrapper = ActionClippingWrapper()
    wrapper.bind({}, {0: spaces.Dict(move=spaces.Box(-1, 1, (2,), np.float32), gear=spaces.Discrete(3))})
    actions = wrapper.action(0, {"move": np.array([[-7.0, 0.5]], dtype=np.float32), "gear": np.array([2])})
    np.testing.assert_array_equal(actions["move"], [[-1.0, 0.5]])
    np.testing.assert_array_equal(actions["gear"], [2])


def test_an_action_out_of_bounds_reaches_the_environment_within_them():
    env = WrappedVectorEnv(GymEnvConfig(name="Pendulum-v1").vector(1), [ActionClippingWrapper()])
    env.reset([0])
    env.step({0: {"action": np.array([[50.0]], dtype=np.float32)}})
    np.testing.assert_array_equal(env.inner_actions[0]["action"], [[2.0]])


@pytest.mark.parametrize(
    ("wrapper", "expected"),
    [
        (RewardClippingWrapper(min_val=-1.0, max_val=1.0), [1.0, 1.0, 1.0]),
        (RewardClippingWrapper(min_val=50.0, max_val=150.0), [50.0, 101.0, 150.0]),
        (RewardScalingWrapper(scale=0.5), [0.5, 50.5, 100.5]),
    ],
)
def test_the_reward_that_training_sees_changes_and_the_return_does_not(wrapper, expected):
    raw = PerEnvVectorEnv([lambda i=i: GymEnv(EpisodeNumberEnv(i)) for i in range(3)])
    env = WrappedVectorEnv(raw, [wrapper])
    env.reset([0, 0, 0])
    rewards, returns = [None] * 3, [None] * 3
    while None in rewards:
        tick = env.step({0: {"action": np.zeros(3, dtype=np.int64)}})
        for row in np.flatnonzero(tick.ended):
            if rewards[row] is None:
                rewards[row], returns[row] = tick.reward[row], tick.episode_return[row]
    assert rewards == expected
    assert returns == [1.0, 101.0, 201.0]


@pytest.mark.parametrize("clip_range", [(-(2.0**63), 1e19), (-np.inf, np.inf), (0.0, 2.0**63)])
def test_integers_beyond_float64_are_clipped_in_their_own_dtype(clip_range):
    largest = 2**63 - 1
    wrapper = ObservationClippingWrapper(clip_range=clip_range)
    seen, _ = wrapper.bind({0: spaces.Dict(observation=spaces.Box(0, largest, (2,), np.int64))}, {})
    assert seen[0]["observation"].high.tolist() == [largest, largest]
    values = np.array([[largest, largest - 1]])
    assert wrapper.observation(0, {"observation": values}, None)[0]["observation"].tolist() == values.tolist()
