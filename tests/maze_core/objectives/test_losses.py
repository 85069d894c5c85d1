"""Losses against their definitions, by hand, and at their limits."""

import math

import numpy as np
import pytest
import torch
from hypothesis import assume, given
from hypothesis import strategies as st

from maze_core.objectives.losses import (
    clipped_squared_error,
    clipped_surrogate,
    divergence,
    normalized,
    policy_gradient,
    squared_error,
)

ROWS = st.lists(st.tuples(st.floats(-3, 3), st.floats(-3, 3), st.floats(-5, 5)), min_size=1, max_size=8)


def columns(rows):
    return (np.array(column, dtype=np.float64) for column in zip(*rows, strict=True))


@given(ROWS, st.floats(0.05, 0.5))
def test_the_clipped_surrogate_equals_its_definition(rows, clip):
    new, old, advantages = columns(rows)
    loss, _, log_ratio = clipped_surrogate(new, old, advantages, clip)
    expected = [
        min(r * a, min(max(r, 1 - clip), 1 + clip) * a) for n, o, a in rows for r in [math.exp(n - o)]
    ]
    assert loss == pytest.approx(-sum(expected) / len(expected), abs=1e-9)
    np.testing.assert_array_equal(log_ratio, new - old)


def test_the_clip_takes_the_gradient_of_a_gain_beyond_the_range_and_keeps_that_of_a_loss():
    log_probs = np.log([2.0, 2.0])
    _, gradient, _ = clipped_surrogate(log_probs, np.zeros(2), np.array([1.0, -1.0]), 0.2)
    assert gradient.tolist() == [0.0, 1.0]


@given(ROWS, st.floats(0.05, 1.5))
def test_the_gradient_of_the_surrogate_is_that_of_autograd(rows, clip):
    new, old, advantages = columns(rows)
    leaf = torch.from_numpy(new).requires_grad_()
    ratio, advantage = (leaf - torch.from_numpy(old)).exp(), torch.from_numpy(advantages)
    clipped = ratio.clamp(1 - clip, 1 + clip)
    (-torch.minimum(ratio * advantage, clipped * advantage).mean()).backward()
    _, gradient, _ = clipped_surrogate(new, old, advantages, clip)
    assert leaf.grad is not None
    np.testing.assert_allclose(gradient, leaf.grad.numpy(), rtol=1e-9, atol=1e-12)


@pytest.mark.parametrize("ratio", [0.5, 1.5])
@pytest.mark.parametrize("advantage", [1.0, -1.0])
def test_on_the_edges_of_the_range_the_policy_learns(ratio, advantage):
    """Both terms are equal there, and only beyond does the clipped one stand still."""
    log_probs = np.log([ratio])
    edge = abs(np.exp(log_probs) - 1)[0]
    _, gradient, _ = clipped_surrogate(log_probs, np.zeros(1), np.array([advantage]), edge)
    assert gradient.tolist() == [-np.exp(log_probs)[0] * advantage]


def test_gradients_of_policy_gradient_and_squared_error_by_hand():
    loss, gradient = policy_gradient(np.array([-1.0, -2.0]), np.array([3.0, -4.0]))
    assert loss == -(-3.0 + 8.0) / 2
    assert gradient.tolist() == [-1.5, 2.0]
    loss, gradient = squared_error(np.array([1.0, 5.0]), np.array([2.0, 2.0]))
    assert loss == (1 + 9) / 4
    assert gradient.tolist() == [-0.5, 1.5]


@given(ROWS, st.floats(0.05, 1.5), st.booleans())
def test_the_clipped_squared_error_and_its_gradient_are_those_of_its_definition(rows, clip, pessimistic):
    new, old, returns = columns(rows)
    leaf, before, target = (torch.from_numpy(x).requires_grad_(x is new) for x in (new, old, returns))
    free, clipped = leaf - target, before + (leaf - before).clamp(-clip, clip) - target
    losses = torch.maximum(free**2, clipped**2) if pessimistic else clipped**2
    assume(
        not pessimistic or bool((torch.where(free == clipped, 1.0, (free**2 - clipped**2).abs()) > 0).all())
    )
    (losses.mean() / 2).backward()
    loss, gradient = clipped_squared_error(new, returns, old, clip, pessimistic=pessimistic)
    assert loss == pytest.approx(losses.mean().item() / 2, abs=1e-12)
    np.testing.assert_allclose(gradient, leaf.grad.numpy(), rtol=1e-9, atol=1e-12)


@pytest.mark.parametrize(
    ("value", "pessimistic", "error", "gradient"),
    [
        (1.5, False, -2.5, -2.5),
        (3.0, False, -2.0, 0.0),
        (3.0, True, -2.0, 0.0),
        (-3.0, True, -7.0, -7.0),
        (6.0, True, 2.0, 2.0),
    ],
    ids=["within", "beyond", "beyond and better", "beyond and worse", "beyond and as good"],
)
def test_a_value_beyond_the_range_learns_only_where_it_is_worse_than_the_clipped_one(
    value, pessimistic, error, gradient
):
    """From 0, within ±2, to 4."""
    one = np.ones(1)
    found = clipped_squared_error(value * one, 4 * one, 0 * one, 2.0, pessimistic=pessimistic)
    assert found == (error**2 / 2, [gradient])


def test_a_value_on_the_edge_of_the_range_learns():
    one = np.ones(1)
    assert clipped_squared_error(one, 4 * one, 0 * one, 1.0, pessimistic=False)[1] == [-3.0]


def test_float32_stays_float32():
    one, two = np.float32([1.0, 2.0]), np.float32([0.5, -0.5])
    found = [
        *policy_gradient(one, two)[1:],
        *clipped_surrogate(one, two, two, 0.2)[1:],
        squared_error(one, two)[1],
        clipped_squared_error(one, two, two, 0.2, pessimistic=True)[1],
    ]
    assert {array.dtype for array in (*found, normalized(one))} == {np.dtype(np.float32)}


@given(ROWS)
def test_without_a_change_of_policy_the_surrogate_is_the_policy_gradient(rows):
    _, old, advantages = columns(rows)
    first = clipped_surrogate(old, old, advantages, 0.2)[1]
    np.testing.assert_allclose(first, policy_gradient(old, advantages)[1], rtol=1e-9)


@given(ROWS)
def test_the_divergence_is_never_negative_and_zero_without_a_change(rows):
    new, old, _ = columns(rows)
    assert divergence(new - old, 0.2)[0] >= -1e-12
    assert divergence(np.zeros(3), 0.2) == (0.0, 0.0)


def test_an_action_that_became_impossible_leaves_the_divergence_finite():
    assert divergence(np.array([-200.0, 0.0]), 0.2) == (pytest.approx(99.5), 0.5)


def test_ratios_outside_the_range_are_counted():
    assert divergence(np.log([0.7, 0.9, 1.0, 1.3]), 0.2)[1] == 0.5


def test_a_ratio_on_the_edge_of_the_range_is_not_outside():
    assert divergence(np.zeros(3), 0.0)[1] == 0.0


def test_the_squared_error_is_half_the_mean_square():
    assert squared_error(np.array([1.0, 3.0]), np.zeros(2))[0] == 2.5


def test_normalized_advantages_have_mean_zero_and_deviation_one_and_equal_ones_become_zero():
    result = normalized(np.float32([1.0, 2.0, 3.0]))
    assert result.mean() == pytest.approx(0.0, abs=1e-7)
    assert result.std(ddof=1) == pytest.approx(1.0, abs=1e-6)
    assert normalized(np.full(4, 7.0, np.float32)).tolist() == [0.0] * 4


def test_advantages_that_hardly_differ_are_not_blown_up_by_what_keeps_the_division_finite():
    """Deviation √2 · 1e-8, and 1e-8 is added to it."""
    expected = 1.0 / (1.0 + 2.0**0.5)
    assert normalized(np.float32([1e-8, -1e-8])).tolist() == pytest.approx([expected, -expected], rel=1e-5)


def test_a_lone_advantage_stays_as_it_is():
    assert normalized(np.float32([5.0])).tolist() == [5.0]
    assert normalized(np.float32([-5.0])).tolist() == [-5.0]


@given(
    st.floats(-1e6, 1e6).filter(lambda x: abs(x) > 1e-3), st.lists(st.integers(-2, 2), min_size=2, max_size=9)
)
def test_advantages_that_differ_by_rounding_alone_are_not_blown_up(value, ulps):
    """A few units in the last place apart: their order is no signal."""
    value32 = np.float32(value)
    rows = np.array([value32 + n * np.spacing(value32) for n in ulps], np.float32)
    assert normalized(rows).tolist() == [0.0] * len(rows)


@given(
    st.lists(st.floats(-100, 100, width=32), min_size=2, max_size=20),
    st.floats(0.01, 100),
    st.floats(-50, 50),
)
def test_normalisation_does_not_depend_on_scale_and_origin(rows, scale, origin):
    advantages = np.array(rows)
    assume(advantages.std() > 1e-2)
    np.testing.assert_allclose(
        normalized(advantages * scale + origin), normalized(advantages), atol=1e-3, rtol=1e-3
    )


def test_a_number_that_is_not_finite_stays_visible():
    assert not np.isfinite(normalized(np.float32([1.0, float("nan"), 2.0]))).any()
