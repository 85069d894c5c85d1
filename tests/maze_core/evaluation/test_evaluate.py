"""The score of a policy: its numbers by hand, its interval, its JSON; Student's t against tables and its density."""

import json
import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from maze_core.envs.config import GymEnvConfig
from maze_core.evaluation.evaluate import EvalReport, evaluate, t_distribution, t_quantile
from maze_core.rollout.episodes import EpisodeRecord
from tests.maze_core.rollout.small_policies import SwingPolicy


def records(returns):
    return [
        EpisodeRecord(
            index=i, seed=10 + i, episode_return=r, length=int(r) + 1, terminated=True, truncated=False
        )
        for i, r in enumerate(returns)
    ]


def test_three_episodes_by_hand():
    report = EvalReport.from_episodes(records([1.0, 2.0, 6.0]))
    assert report.mean_return == 3.0
    assert report.std_return == pytest.approx(math.sqrt(7.0))
    half = 4.30265 * math.sqrt(7.0) / math.sqrt(3)
    assert report.ci95 == pytest.approx((3 - half, 3 + half), abs=1e-4)
    assert report.to_dict() == {
        "mean_return": 3.0,
        "std_return": report.std_return,
        "ci95": list(report.ci95),
        "returns": [1.0, 2.0, 6.0],
        "lengths": [2, 3, 7],
        "seeds": [10, 11, 12],
        "truncated_by_limit": 0,
    }


def test_the_interval_holds_the_true_mean_about_95_times_in_100():
    rng = np.random.default_rng(0)
    held = 0
    for _ in range(2000):
        low, high = EvalReport.from_episodes(records(rng.normal(50.0, 9.0, 5))).ci95
        held += low <= 50.0 <= high
    assert 0.935 < held / 2000 < 0.965


@pytest.mark.parametrize(
    ("returns", "mean"),
    [
        ([1.0, math.nan, 2.0], math.nan),
        ([math.nan, 1.0], math.nan),
        ([1.0, math.inf], math.inf),
        ([math.inf, -math.inf], math.nan),
        ([1e308, 1e308], math.inf),
    ],
)
def test_returns_that_have_no_finite_mean_have_no_interval_whatever_their_order(returns, mean):
    episodes = [
        EpisodeRecord(index=0, seed=0, episode_return=one, length=1, terminated=True, truncated=False)
        for one in returns
    ]
    report = EvalReport.from_episodes(episodes)
    assert report.mean_return == pytest.approx(mean, nan_ok=True)
    assert report.ci95 is None


@pytest.mark.parametrize(("returns", "mean"), [([], None), ([4.0], 4.0)])
def test_fewer_than_two_episodes_have_no_interval_and_still_are_json(returns, mean):
    report = EvalReport.from_episodes(records(returns))
    written = json.loads(json.dumps(report.to_dict(), allow_nan=False))
    assert written["ci95"] is None
    assert written["mean_return"] == mean
    assert written["std_return"] == (None if mean is None else 0.0)


def test_equal_returns_have_an_interval_of_one_point():
    assert EvalReport.from_episodes(records([5.0, 5.0])).ci95 == (5.0, 5.0)


def test_evaluating_plays_one_episode_per_seed():
    env = GymEnvConfig(name="CartPole-v1").vector(3)
    report = evaluate(SwingPolicy(), env, [5, 6, 7, 8], max_episode_steps=9)
    assert report.seeds == [5, 6, 7, 8]
    assert report.lengths == [9] * 4
    assert report.returns == [9.0] * 4


def test_a_sampled_evaluation_is_fixed_by_its_action_seed():
    env = GymEnvConfig(name="CartPole-v1").vector(2)

    def returns(action_seed):
        return evaluate(SwingPolicy(), env, range(6), deterministic=False, action_seed=action_seed).returns

    assert returns(1) == returns(1)
    assert returns(1) != returns(2)


# two-sided 95 %, as in any table of the t distribution
TABLE = {1: 12.7062, 2: 4.30265, 3: 3.18245, 4: 2.77645, 9: 2.26216, 19: 2.09302, 29: 2.04523, 120: 1.97993}


@pytest.mark.parametrize(("degrees", "expected"), TABLE.items())
def test_quantiles_are_those_of_the_tables(degrees, expected):
    assert t_quantile(0.975, degrees) == pytest.approx(expected, abs=5e-5)


def test_many_degrees_are_the_normal_distribution():
    assert t_quantile(0.975, 10**7) == pytest.approx(1.959964, abs=1e-5)


def test_one_degree_is_the_cauchy_distribution():
    assert t_quantile(0.9, 1) == pytest.approx(math.tan(math.pi * 0.4), rel=1e-9)


@given(st.integers(1, 300), st.floats(0.0, 20.0))
def test_the_distribution_is_the_integral_of_its_density(degrees, t):
    x = np.linspace(0, t, 20001)
    log_front = math.lgamma((degrees + 1) / 2) - math.lgamma(degrees / 2) - math.log(degrees * math.pi) / 2
    density = np.exp(log_front - (degrees + 1) / 2 * np.log1p(x * x / degrees))
    assert t_distribution(t, degrees) == pytest.approx(0.5 + np.trapezoid(density, x), abs=1e-6)


@pytest.mark.parametrize(("probability", "degrees"), [(1.0, 3), (0.3, 3), (0.9, 0)])
def test_arguments_out_of_range_are_refused(probability, degrees):
    with pytest.raises(ValueError, match="out of range"):
        t_quantile(probability, degrees)
