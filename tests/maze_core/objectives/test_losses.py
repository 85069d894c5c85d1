"""Losses against their definitions, by hand, and at their limits."""

import math

import numpy as np
import pytest
import torch
from hypothesis import assume, given
from hypothesis import strategies as st

from maze_core.objectives.losses import (
    approximate_kl,
    clip_fraction,
    clipped_surrogate,
    normalized,
    policy_gradient,
    squared_error,
)

ROWS = st.lists(st.tuples(st.floats(-3, 3), st.floats(-3, 3), st.floats(-5, 5)), min_size=1, max_size=8)


def columns(rows):
    return (torch.tensor(column, dtype=torch.float64) for column in zip(*rows, strict=True))


@given(ROWS, st.floats(0.05, 0.5))
def test_the_clipped_surrogate_equals_its_definition(rows, clip):
    new, old, advantages = columns(rows)
    loss, log_ratio = clipped_surrogate(new, old, advantages, clip)
    expected = [
        min(r * a, min(max(r, 1 - clip), 1 + clip) * a) for n, o, a in rows for r in [math.exp(n - o)]
    ]
    assert loss.item() == pytest.approx(-sum(expected) / len(expected), abs=1e-9)
    torch.testing.assert_close(log_ratio, new - old)


def test_the_clip_takes_the_gradient_of_a_gain_beyond_the_range_and_keeps_that_of_a_loss():
    log_probs = torch.tensor([math.log(2.0), math.log(2.0)], requires_grad=True)
    loss, _ = clipped_surrogate(log_probs, torch.zeros(2), torch.tensor([1.0, -1.0]), 0.2)
    loss.backward()
    assert log_probs.grad is not None
    assert log_probs.grad.tolist() == [0.0, 1.0]


@given(ROWS)
def test_without_a_change_of_policy_the_surrogate_is_the_policy_gradient(rows):
    _, old, advantages = columns(rows)
    log_probs = old.clone().requires_grad_()
    (first,) = torch.autograd.grad(clipped_surrogate(log_probs, old, advantages, 0.2)[0], log_probs)
    (second,) = torch.autograd.grad(policy_gradient(log_probs, advantages), log_probs)
    torch.testing.assert_close(first, second)


@given(ROWS)
def test_the_approximate_kl_is_never_negative_and_zero_without_a_change(rows):
    new, old, _ = columns(rows)
    assert approximate_kl(new - old).item() >= -1e-12
    assert approximate_kl(torch.zeros(3)).item() == 0.0


def test_an_action_that_became_impossible_leaves_the_divergence_finite():
    assert approximate_kl(torch.tensor([-200.0, 0.0])).item() == pytest.approx(99.5)


def test_the_clip_fraction_counts_ratios_outside_the_range():
    assert clip_fraction(torch.tensor([0.7, 0.9, 1.0, 1.3]).log(), 0.2).item() == 0.5


def test_a_ratio_on_the_edge_of_the_range_is_not_outside():
    assert clip_fraction(torch.zeros(3), 0.0).item() == 0.0


def test_the_squared_error_is_half_the_mean_square():
    assert squared_error(torch.tensor([1.0, 3.0]), torch.tensor([0.0, 0.0])).item() == 2.5


def test_normalized_advantages_have_mean_zero_and_deviation_one_and_equal_ones_become_zero():
    result = normalized(torch.tensor([1.0, 2.0, 3.0]))
    assert result.mean().item() == pytest.approx(0.0, abs=1e-7)
    assert result.std().item() == pytest.approx(1.0, abs=1e-6)
    assert normalized(torch.full((4,), 7.0)).tolist() == [0.0] * 4


def test_advantages_that_hardly_differ_are_not_blown_up_by_what_keeps_the_division_finite():
    """Deviation √2 · 1e-8, and 1e-8 is added to it."""
    expected = 1.0 / (1.0 + 2.0**0.5)
    assert normalized(torch.tensor([1e-8, -1e-8])).tolist() == pytest.approx([expected, -expected], rel=1e-5)


def test_what_is_reported_of_the_surrogate_holds_no_gradient():
    loss, log_ratio = clipped_surrogate(
        torch.zeros(2, requires_grad=True), torch.zeros(2), torch.ones(2), 0.2
    )
    assert loss.requires_grad
    assert not log_ratio.requires_grad


def test_a_lone_advantage_stays_as_it_is():
    assert normalized(torch.tensor([5.0])).tolist() == [5.0]
    assert normalized(torch.tensor([-5.0])).tolist() == [-5.0]


@given(
    st.floats(-1e6, 1e6).filter(lambda x: abs(x) > 1e-3), st.lists(st.integers(-2, 2), min_size=2, max_size=9)
)
def test_advantages_that_differ_by_rounding_alone_are_not_blown_up(value, ulps):
    """A few units in the last place apart: their order is no signal."""
    value32 = np.float32(value)
    rows = torch.from_numpy(np.array([value32 + n * np.spacing(value32) for n in ulps], np.float32))
    assert normalized(rows).tolist() == [0.0] * len(rows)


@given(
    st.lists(st.floats(-100, 100, width=32), min_size=2, max_size=20),
    st.floats(0.01, 100),
    st.floats(-50, 50),
)
def test_normalisation_does_not_depend_on_scale_and_origin(rows, scale, origin):
    advantages = torch.tensor(rows, dtype=torch.float64)
    assume(advantages.std() > 1e-2)
    torch.testing.assert_close(
        normalized(advantages * scale + origin), normalized(advantages), atol=1e-3, rtol=1e-3
    )


def test_a_number_that_is_not_finite_stays_visible():
    assert not torch.isfinite(normalized(torch.tensor([1.0, float("nan"), 2.0]))).any()
