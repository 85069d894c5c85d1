"""Noise that remembers, against its definition."""

import numpy as np

from maze_core.rollout.correlated_noise import OrnsteinUhlenbeck


def test_each_tick_pulls_to_0_and_steps_on_from_0_where_an_episode_begins():
    process, rng = OrnsteinUhlenbeck(), np.random.default_rng(0)
    expected = np.zeros((3, 2))
    for t in range(20):
        noise, begins = rng.standard_normal((3, 2), np.float32), np.array([t == 0, t % 4 == 0, t % 7 == 0])
        expected[begins] = 0.0
        expected += -0.15 * expected * 0.01 + np.sqrt(0.01) * noise
        given = noise.copy()
        found = process(noise, begins)
        np.testing.assert_allclose(found, expected, rtol=1e-5)
        np.testing.assert_array_equal(noise, given)
        assert found.dtype == np.float32
