"""Centred ranks and pair weights against their definitions, by hand, and at their limits."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from maze_core.objectives.evolution import centred_ranks, pair_weights

returns = hnp.arrays(np.float64, st.tuples(st.integers(1, 5), st.integers(1, 3)), elements=st.integers(-3, 3))


@given(returns)
def test_a_rank_counts_who_is_worse_and_half_of_those_who_are_equal(values: np.ndarray) -> None:
    ranks = centred_ranks(values)
    assert ranks.shape == values.shape
    others = max(values.size - 1, 1)
    for at in np.ndindex(values.shape):
        beaten = (values < values[at]).sum() + ((values == values[at]).sum() - 1) / 2
        assert ranks[at] == pytest.approx((beaten - (values.size - 1) / 2) / others)


def test_ranks_by_hand() -> None:
    np.testing.assert_allclose(
        centred_ranks(np.array([-1e9, 7.0, 7.0, 8.0, np.inf])), [-0.5, -0.125, -0.125, 0.25, 0.5]
    )


@pytest.mark.parametrize("n", [1, 2, 5])
def test_equal_returns_have_rank_0(n: int) -> None:
    assert not centred_ranks(np.full(n, 3.0)).any()


def test_the_weight_of_a_pair_is_half_the_mean_of_its_difference() -> None:
    np.testing.assert_array_equal(pair_weights(np.array([[3.0, 1.0], [0.0, 4.0]])), [0.5, -1.0])


def test_weighted_perturbations_are_the_gradient_of_a_quadratic_times_the_deviation() -> None:
    """F(θ) = -|θ - c|²: its gradient is 2 (c - θ), smoothed or not."""
    rng, sigma, theta, aim = (
        np.random.default_rng(0),
        0.1,
        np.array([1.0, -2.0, 0.5]),
        np.array([0.0, 1.0, 0.5]),
    )
    noise = rng.standard_normal((20_000, 3))
    fitness = np.stack([-(((theta + s * sigma * noise) - aim) ** 2).sum(1) for s in (1, -1)], 1)
    np.testing.assert_allclose(pair_weights(fitness) @ noise / sigma, 2 * (aim - theta), atol=0.15)
