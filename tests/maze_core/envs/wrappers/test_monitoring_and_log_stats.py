"""Numbers about what happened: moments, shares of choices, statistics of episodes."""

import math

import numpy as np
import pytest
from gymnasium import spaces
from hypothesis import given
from hypothesis import strategies as st

from maze_core.envs.config import GymEnvConfig
from maze_core.envs.gym_env import GymEnv
from maze_core.envs.per_env import PerEnvVectorEnv
from maze_core.envs.wrappers import LogStatsWrapper, MonitoringWrapper, RewardScalingWrapper, WrappedVectorEnv
from maze_core.envs.wrappers.moments import Bins, Moments
from maze_core.metrics import Histogram
from tests.maze_core.envs.small_envs import EpisodeNumberEnv
from tests.maze_core.envs.structured_env import BoxesEnv
from tests.maze_core.envs.ticks import random_actions


@given(
    st.lists(st.lists(st.floats(-1e3, 1e3), min_size=1, max_size=5), min_size=1, max_size=30), st.booleans()
)
def test_moments_are_those_of_all_numbers_together(batches, read_between):
    moments = Moments()
    for batch in batches:
        moments.add(np.array(batch))
        if read_between:
            dict(moments.items())
    numbers = np.concatenate(batches)
    assert dict(moments.items()) == pytest.approx(
        {
            "count": numbers.size,
            "mean": numbers.mean(),
            "std": numbers.std(),
            "min": numbers.min(),
            "max": numbers.max(),
        },
        abs=1e-6,
    )


def test_many_batches_are_folded_and_none_gives_nothing():
    moments = Moments()
    assert dict(moments.items()) == {}
    for i in range(2000):
        moments.add(np.array([i]))
    assert len(moments._batches) < 1000, "they must not pile up"
    assert dict(moments.items())["mean"] == pytest.approx(999.5)


def test_actions_and_rewards_are_reported_once():
    monitor = MonitoringWrapper()
    env = WrappedVectorEnv(
        GymEnvConfig(name="CartPole-v1").vector(4), [RewardScalingWrapper(scale=3.0), monitor]
    )
    env.reset([1, 2, 3, 4])
    env.step({0: {"action": np.array([0, 1, 1, 1])}})
    env.step({0: {"action": np.array([0, 0, 1, 1])}})
    metrics = monitor.metrics()
    assert metrics["monitoring/action/0/action/share_0"] == 3 / 8
    assert metrics["monitoring/action/0/action/share_1"] == 5 / 8
    assert metrics["monitoring/reward/mean"] == 3.0
    assert not any("observation" in name for name in metrics)
    assert all(math.isfinite(value) for value in metrics.values())
    assert monitor.metrics() == {}


def test_observations_are_those_of_the_environments_that_show_them():
    monitor = MonitoringWrapper(observation_logging=True, action_logging=False, reward_logging=False)
    env = WrappedVectorEnv(PerEnvVectorEnv([BoxesEnv] * 3), [monitor])
    tick = env.reset([0, 1, 2])
    rng = np.random.default_rng(0)
    for _ in range(30):
        tick = env.step(random_actions(env, tick, rng))
    metrics = monitor.metrics()
    assert metrics["monitoring/observation/0/right_box/mean"] == pytest.approx(1 / 3)
    assert metrics["monitoring/observation/1/wanted/mean"] == pytest.approx(1 / 4)
    assert set(metrics) == {
        f"monitoring/observation/{name}/{kind}"
        for name in ("0/right_box", "0/rounds_left", "1/wanted", "1/action_mask")
        for kind in ("mean", "std", "min", "max")
    }


def test_continuous_actions_have_moments():
    monitor = MonitoringWrapper()
    env = WrappedVectorEnv(GymEnvConfig(name="Pendulum-v1").vector(2), [monitor])
    env.reset([0, 1])
    env.step({0: {"action": np.array([[1.0], [-1.0]], dtype=np.float32)}})
    metrics = monitor.metrics()
    assert metrics["monitoring/action/0/action/mean"] == 0.0
    assert metrics["monitoring/action/0/action/std"] == 1.0


@pytest.mark.parametrize(("n", "kinds"), [(64, {"share_-1", "share_1"}), (65, {"mean", "std", "min", "max"})])
def test_up_to_64_choices_are_counted_by_their_own_numbers_and_of_more_there_are_moments(n, kinds):
    monitor = MonitoringWrapper(reward_logging=False)
    monitor.bind({}, {0: spaces.Dict(action=spaces.Discrete(n, start=-1))})
    monitor.on_tick(None, {0: {"action": np.array([-1, 1, 1, 1])}})
    metrics = {name.rpartition("/")[2]: value for name, value in monitor.metrics().items() if value}
    assert set(metrics) == kinds
    assert metrics.get("share_1", 0.75) == 0.75
    assert metrics.get("mean", 0.5) == 0.5


def test_episodes_are_counted_from_raw_returns():
    stats = LogStatsWrapper(logging_prefix="eval")
    raw = PerEnvVectorEnv([lambda i=i: GymEnv(EpisodeNumberEnv(i)) for i in range(2)])
    env = WrappedVectorEnv(raw, [RewardScalingWrapper(scale=7.0), stats])
    env.reset([0, 0])
    returns, lengths = [], []
    for _ in range(20):
        tick = env.step({0: {"action": np.zeros(2, dtype=np.int64)}})
        returns.extend(tick.episode_return[tick.ended])
        lengths.extend(tick.episode_length[tick.ended])
    metrics = stats.metrics()
    assert metrics["eval/episode_return/count"] == len(returns) > 5
    assert metrics["eval/episode_return/mean"] == pytest.approx(np.mean(returns))
    assert metrics["eval/episode_length/max"] == max(lengths)
    assert stats.metrics() == {}


@given(
    st.lists(st.lists(st.floats(-1e6, 1e6), min_size=1, max_size=7), min_size=1, max_size=12), st.booleans()
)
def test_a_histogram_counts_every_number_where_it_is_however_they_came(batches, read_between):
    moments = Moments()
    for batch in batches:
        moments.add(np.array(batch))
        if read_between:
            moments.histogram()
    found = moments.histogram()
    numbers = np.sort(np.concatenate(batches))
    width = (found.high - found.low) / 64
    assert sum(found.counts) == numbers.size
    assert len(found.counts) == 64
    assert found.low - 1e-6 <= numbers[0]
    assert numbers[-1] <= found.high + 1e-6
    if numbers[-1] - numbers[0] > 0.01:
        assert found.high - found.low <= 4 * (numbers[-1] - numbers[0]) * (1 if not read_between else 2**20)
    for edge in range(1, 64):  # a number on an edge may be on either side of it
        at, slack = found.low + edge * width, 1e-9 * max(1.0, abs(found.low), abs(found.high))
        below = sum(found.counts[:edge])
        assert np.sum(numbers < at - slack) <= below <= np.sum(numbers <= at + slack)


def test_a_histogram_of_one_number_has_it_in_the_middle_and_none_of_no_numbers():
    moments = Moments()
    assert moments.histogram() is None
    moments.add(np.array([3.0, 3.0]))
    found = moments.histogram()
    assert (found.low, found.high, found.counts[32], sum(found.counts)) == (2.5, 3.5, 2, 2)


def test_a_range_doubles_to_either_side_and_counts_move_along():
    bins = Bins()
    bins.add(np.array([0.0, 1.0, 2.0, 4.0]))
    bins.add(np.array([7.9]))
    assert (bins.histogram().low, bins.histogram().high) == (0, 8)
    bins.add(np.array([-1.0]))
    found = bins.histogram()
    assert (found.low, found.high) == (-8, 8)
    assert [i for i, count in enumerate(found.counts) if count] == [28, 32, 36, 40, 47, 63]


def test_distributions_are_told_once_for_each_epoch():
    monitor = MonitoringWrapper(observation_logging=True)
    env = WrappedVectorEnv(GymEnvConfig(name="CartPole-v1").vector(4), [monitor])
    env.reset([1, 2, 3, 4])
    env.step({0: {"action": np.array([0, 1, 1, 1])}})
    assert monitor.distributions() == {}
    monitor.metrics()
    told = monitor.distributions()
    assert set(told) == {
        "monitoring/reward",
        "monitoring/action/0/action",
        "monitoring/observation/0/observation",
    }
    assert told["monitoring/action/0/action"] == Histogram(low=-0.5, high=1.5, counts=(1, 3))
    assert sum(told["monitoring/observation/0/observation"].counts) == 16
    assert monitor.distributions() == {}
    monitor.metrics()
    assert monitor.distributions() == {}
