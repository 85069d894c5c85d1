"""The mean logarithm of tanh's slope against a dense sum, and actions that tanh rounds to their bounds."""

import numpy as np
import pytest
from gymnasium import spaces

from maze_core.models.dense import scores
from maze_core.models.heads import LOG_STD_RANGE, DistributionMapper, parts_of
from maze_core.models.squashing import mean_log_slope

MEANS = (-30.0, -4.0, -1.3, 0.0, 0.4, 2.0, 9.0)


def by_sum(mean, log_sigma):
    """The mean and its derivatives by μ and log σ, by 40,001 numbers."""
    x = np.linspace(-10, 10, 40_001)
    weight = np.exp(-0.5 * x * x)
    weight /= weight.sum()
    spread = np.exp(log_sigma) * x
    size = np.abs(mean + spread)
    d_u = -2 * np.tanh(mean + spread)
    return [
        (each * weight).sum()
        for each in (2 * (np.log(2) - size - np.log1p(np.exp(-2 * size))), d_u, d_u * spread)
    ]


@pytest.mark.parametrize(
    "log_sigma", [LOG_STD_RANGE[0], -3, -1, -0.26, -0.25, 0, 0.5, 1, 1.5, LOG_STD_RANGE[1]]
)
def test_it_equals_a_dense_sum_over_the_whole_range(log_sigma):
    given = np.array(MEANS, np.float32)
    found = mean_log_slope(given, np.full_like(given, log_sigma))
    assert found.dtype == np.float32
    np.testing.assert_allclose(found.T, [by_sum(mean, log_sigma) for mean in MEANS], atol=5e-5, rtol=1e-6)


def squashed():
    space = spaces.Dict({"action": spaces.Box(-1, 1, (1,))})
    settings = [{"action_space": "Box", "distribution": "squashed_gaussian"}]
    return parts_of(DistributionMapper(space, settings).heads(space, {}))


def test_a_saturated_action_pulls_the_mean_the_way_it_lies():
    """In float32, tanh keeps what lies behind it to a tenth up to 7.5; beyond 9 it is 1, which counts as 8.7."""
    u, mean = (
        np.array([6.0, 7.0, 7.5, 8.0, 9.0, -7.5]),
        np.array([[7.8, 7.8, 7.8, 7.8, 7.8, -7.8]], np.float32),
    )
    output = np.concatenate((mean, np.zeros_like(mean)))
    found = scores(squashed(), output, {}, {"action": np.tanh(u.astype(np.float32))[:, None]})
    d_mean = found.pull(np.ones(6, np.float32), None)[0]
    assert np.sign(d_mean).tolist() == np.sign(u - mean[0]).tolist()
    kept = np.abs(u) <= 7.5
    np.testing.assert_allclose(d_mean[kept], (u - mean[0])[kept], atol=0.06)
    slope = 2 * (np.log(2) - np.abs(u) - np.log1p(np.exp(-2 * np.abs(u))))
    expected = -0.5 * (u - mean[0]) ** 2 - 0.5 * np.log(2 * np.pi) - slope
    np.testing.assert_allclose(found.log_prob[kept], expected[kept], atol=0.15)
