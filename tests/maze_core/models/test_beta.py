"""Beta heads: special functions by known values, samples by their moments, and what the policy is told."""

import math

import numpy as np
import pytest
from gymnasium import spaces
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from maze_core import RunContext
from maze_core.models.beta import (
    N_TRIES,
    beta_mean_and_std,
    beta_mode,
    beta_samples,
    beta_scores,
    concentrations,
    log_gamma,
)
from maze_core.models.heads import BetaHead

LOGITS = [(-30, -30), (-10, -10), (0, 0), (5, -3), (3, 3), (100, 2), (-9, 50), (1e4, 1e4), (1e5, -20)]


@pytest.mark.parametrize(
    ("x", "value", "slope", "curvature"),
    [
        (1.0, 0.0, -0.57721566490153286, math.pi**2 / 6),
        (2.0, 0.0, 1 - 0.57721566490153286, math.pi**2 / 6 - 1),
        (1.5, math.log(math.sqrt(math.pi) / 2), 0.03648997397857652, math.pi**2 / 2 - 4),
    ],
)
def test_the_logarithm_of_gamma_and_its_slopes_have_their_known_values(x, value, slope, curvature):
    found = log_gamma(np.array([x]))
    np.testing.assert_allclose([*found], [[value], [slope], [curvature]], rtol=1e-12, atol=1e-13)


@given(st.floats(1, 2e4))
def test_the_logarithm_of_gamma_is_that_of_the_standard_library_and_its_slopes_follow(x):
    found, after = log_gamma(np.array([x])), log_gamma(np.array([x + 1]))
    assert found.value[0] == pytest.approx(math.lgamma(x), rel=1e-12, abs=1e-12)
    assert after.slope[0] - found.slope[0] == pytest.approx(1 / x, rel=1e-9)
    assert found.curvature[0] - after.curvature[0] == pytest.approx(1 / x**2, rel=1e-6)


@pytest.mark.parametrize("logits", LOGITS)
def test_samples_have_the_moments_of_the_distribution(logits):
    n = 40_000
    rows = np.tile(np.float32(logits), (n, 1))
    drawn = beta_samples(rows, np.random.default_rng(1).random((n, 2 * N_TRIES)))
    assert drawn.dtype == np.float32
    assert drawn.min() >= -1
    assert drawn.max() <= 1
    mean, std = (part.item() for part in beta_mean_and_std(rows[:1]))
    alpha, beta = concentrations(rows[0]).tolist()
    assert mean == pytest.approx(2 * alpha / (alpha + beta) - 1)
    assert drawn.mean() == pytest.approx(mean, abs=4.5 * std / n**0.5 + 1e-7)
    assert drawn.std() == pytest.approx(std, rel=0.03)
    third = ((drawn - mean) ** 3).mean() / std**3
    skew = 2 * (beta - alpha) * math.sqrt(alpha + beta + 1) / ((alpha + beta + 2) * math.sqrt(alpha * beta))
    assert third == pytest.approx(skew, abs=0.3)


def test_the_frequencies_of_samples_are_the_density():
    rows = np.tile(np.float32([1.0, -0.5]), (60_000, 1))
    drawn = beta_samples(rows, np.random.default_rng(2).random((60_000, 2 * N_TRIES)))[:, 0]
    counts, edges = np.histogram(drawn, 20, (-1, 1))
    fine = ((np.arange(2000) + 0.5) / 1000 - 1)[None]
    density = np.exp(beta_scores(rows[:1].T.repeat(2000, 1), fine).log_prob)
    expected = density.reshape(20, 100).mean(1) * np.diff(edges)
    assert expected.sum() == pytest.approx(1, abs=1e-4)
    np.testing.assert_allclose(counts / 60_000, expected, atol=0.006)


@settings(max_examples=25)
@given(
    logits=hnp.arrays(np.float32, (3, 4), elements=st.floats(-100, 1e5, width=32)),
    noise=hnp.arrays(np.float64, (3, 48), elements=st.floats(0, np.nextafter(1.0, 0.0))),
)
def test_every_sample_and_every_score_is_finite_and_a_rows_own(logits, noise):
    drawn = beta_samples(logits, noise)
    assert np.all(np.abs(drawn) <= 1)
    alone = np.concatenate([beta_samples(logits[i : i + 1], noise[i : i + 1]) for i in range(3)])
    assert drawn.tobytes() == alone.tobytes()
    found = beta_scores(logits.T, drawn.T.clip(-1 + 1e-6, 1 - 1e-6))
    assert all(np.isfinite(part).all() for part in found)


@given(st.floats(-9, 60), st.floats(-9, 60))
def test_the_mode_is_the_likeliest_number(above, below):
    logits = np.float32([[above], [below]])
    mode = beta_mode(logits.T)[0].clip(-1 + 1e-6, 1 - 1e-6)
    others = np.linspace(-1 + 1e-6, 1 - 1e-6, 301)
    densities = beta_scores(np.repeat(logits, 302, 1), np.append(mode, others)[None]).log_prob
    assert densities[0] >= densities[1:].max() - 1e-6


def test_a_head_draws_as_many_numbers_as_its_shape():
    head = BetaHead(name="a", shape=(2, 3))
    assert (head.logits_width, head.noise_width, head.parameter_width) == (12, 12 * N_TRIES, 0)
    logits = np.zeros((5, 12), np.float32)
    noise = np.random.default_rng(0).random((5, head.noise_width))
    assert head.sample(logits, noise).shape == head.mode(logits).shape == (5, 2, 3)


@pytest.mark.parametrize("algorithm", ["ppo", "a2c", "impala", "es"])
@pytest.mark.parametrize("distribution", ["beta", "squashed_gaussian"])
def test_algorithms_that_ask_for_likelihoods_learn_and_tell_of_it(algorithm, distribution):
    overrides = {
        "env.name": "Pendulum-v1",
        "model.distribution_mapper_config": [{"action_space": "Box", "distribution": distribution}],
        "algorithm.n_epochs": 1,
        "algorithm.epoch_length": 1,
        "runner.n_envs": 2,
        "algorithm.rollout_evaluator.n_episodes": 1,
        "algorithm.rollout_evaluator.max_episode_steps": 5,
    }
    with RunContext(env="gym_env", algorithm=algorithm, overrides=overrides, seed=1, silent=True) as rc:
        rc.train()
        told = rc.explain_action(np.array([1, 0, 0], np.float32), deterministic=False)
    (of,) = told["distribution"].values()
    assert of["kind"] == distribution
    assert -2 <= of["low"][0] <= of["high"][0] <= 2
    assert -2 <= of["action"][0] <= 2
    assert math.isfinite(told["log_prob"])
    assert spaces.Box(-2, 2, (1,)).contains(told["action"]["action"])
