"""Rewards over the deviation of their returns: against the definition, and what moves the statistics."""

import math

import numpy as np
import pytest

from maze_core.envs.config import GymEnvConfig
from maze_core.envs.gym_env import GymEnv
from maze_core.envs.per_env import PerEnvVectorEnv
from maze_core.envs.tick_buffers import empty_tick
from maze_core.envs.wrappers import (
    RewardNormalizationWrapper,
    RewardScalingWrapper,
    WrappedVectorEnv,
    Wrapper,
)
from tests.maze_core.envs.small_envs import EpisodeNumberEnv

GO = {0: {"action": np.zeros(3, dtype=np.int64)}}


def three_envs(*wrappers, is_training=True):
    raw = PerEnvVectorEnv([lambda i=i: GymEnv(EpisodeNumberEnv(i)) for i in range(3)])
    env = WrappedVectorEnv(raw, wrappers, is_training=is_training)
    env.reset([0, 0, 0])
    return env


def deviation(returns):
    """Of returns, with a ten-thousandth of one more whose mean is 0 and whose deviation is 1."""
    n = len(returns) + 1e-4
    return math.sqrt((sum(x * x for x in returns) + 1e-4) / n - (sum(returns) / n) ** 2 + 1e-8)


@pytest.mark.parametrize(("gamma", "clip_range"), [(0.5, (-10.0, 10.0)), (1.0, (-0.5, 0.7)), (0.9, None)])
def test_each_reward_is_divided_by_the_deviation_of_all_returns_up_to_it(gamma, clip_range):
    env = three_envs(RewardNormalizationWrapper(gamma=gamma, clip_range=clip_range))
    returns, seen = np.zeros(3), []
    for _ in range(40):
        tick = env.step(GO)
        raw = env.inner_tick.reward
        returns = gamma * returns + raw
        seen += returns.tolist()
        expected = raw / deviation(seen)
        np.testing.assert_allclose(
            tick.reward, np.clip(expected, *clip_range or (-np.inf, np.inf)), rtol=1e-9
        )
        np.testing.assert_array_equal(tick.episode_return[tick.ended], raw[tick.ended])
        returns[tick.ended] = 0.0


class Pays(Wrapper):
    """Pays what it is told to."""

    def reward(self, tick):
        return self.rewards


def test_a_reset_begins_the_returns_of_its_rows_anew():
    pays, wrapper = Pays(), RewardNormalizationWrapper(gamma=1.0)
    env = WrappedVectorEnv(GymEnvConfig(name="CartPole-v1").vector(3), [pays, wrapper], is_training=True)
    total = 0.0
    for is_reset, rewards, returns in (
        (None, [1.0, 2.0, 4.0], [1.0, 2.0, 4.0]),
        ([True, False, False], [1.0, 1.0, 1.0], [1.0, 3.0, 5.0]),
        ([False, False, False], [1.0, 1.0, 1.0], [2.0, 4.0, 6.0]),
        (None, [7.0, 8.0, 9.0], [7.0, 8.0, 9.0]),
    ):
        env.reset([0, 0, 0], None if is_reset is None else np.array(is_reset))
        pays.rewards = np.array(rewards)
        env.step(GO)
        total += sum(returns)
        state = wrapper.state_dict()
        assert state["mean"] * state["count"] == pytest.approx(total)


def test_no_time_passes_between_sub_steps():
    """Flat steps of two, two and one sub-steps, then a new episode with one of two."""
    wrapper = RewardNormalizationWrapper(gamma=0.5)
    tick = empty_tick({}, 1)
    total = 0.0
    for reward, flat_step, begins, expected in (
        (1.0, 0, True, 1.0),
        (2.0, 1, False, 1.0 + 2.0),
        (4.0, 1, False, 0.5 * 3.0 + 4.0),
        (2.0, 2, False, 5.5 + 2.0),
        (1.0, 3, False, 0.5 * 7.5 + 1.0),
        (1.0, 0, True, 1.0),
        (2.0, 1, False, 1.0 + 2.0),
    ):
        tick.reward[:], tick.flat_step[:] = reward, flat_step
        wrapper.see_reward(tick, np.array([begins]))
        total += expected
        state = wrapper.state_dict()
        assert state["mean"] * state["count"] == pytest.approx(total)
    assert state["count"] == pytest.approx(7.0001)


def test_where_no_return_deviates_a_reward_is_divided_by_a_ten_thousandth():
    wrapper, tick = RewardNormalizationWrapper(clip_range=None), empty_tick({}, 1)
    wrapper.load_state_dict({"count": np.array(5.0), "mean": np.array(0.0), "squares": np.array(0.0)})
    tick.reward[:] = 2.0
    assert wrapper.reward(tick) == pytest.approx(2e4)


def test_what_is_counted_is_what_the_wrapper_below_gives():
    plain, thrice = RewardNormalizationWrapper(), RewardNormalizationWrapper()
    for env in (three_envs(plain), three_envs(RewardScalingWrapper(scale=3.0), thrice)):
        for _ in range(9):
            env.step(GO)
    assert thrice.state_dict()["mean"] == pytest.approx(3 * plain.state_dict()["mean"])


def test_only_training_moves_the_statistics_and_without_any_rewards_stay_as_they_are():
    env = three_envs(wrapper := RewardNormalizationWrapper(clip_range=None), is_training=False)
    for _ in range(9):
        tick = env.step(GO)
        np.testing.assert_allclose(tick.reward, env.inner_tick.reward, rtol=1e-8)
    assert wrapper.state_dict() == RewardNormalizationWrapper().state_dict()


def test_a_restored_wrapper_goes_on_with_the_same_bits():
    first, second = RewardNormalizationWrapper(), RewardNormalizationWrapper()
    env = three_envs(first)
    for _ in range(9):
        env.step(GO)
    second.load_state_dict(first.state_dict())
    rewards = []
    for wrapper in (first, second):
        env = three_envs(wrapper)
        rewards.append([env.step(GO).reward.tolist() for _ in range(9)])
    assert rewards[0] == rewards[1]
    assert first.state_dict() == second.state_dict()
