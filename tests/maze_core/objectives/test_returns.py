"""gae against its definition, against arithmetic done by hand, and at its two ends."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays

from maze_core.objectives.returns import explained_variance, gae

NUMBERS = st.floats(-10, 10, width=32)


@st.composite
def rollouts(draw):
    shape = (draw(st.integers(1, 7)), draw(st.integers(1, 3)))
    floats = [draw(arrays(np.float64, shape, elements=NUMBERS)) for _ in range(3)]
    flags = [draw(arrays(np.bool_, shape)) for _ in range(2)]
    return *floats, *flags


def by_definition(rewards, values, next_values, terminated, truncated, gamma, lam):
    """Σ_k (Π of γλ over ticks that did not end) · δ_{t+k}, written as the double sum of the paper."""
    T, B = values.shape
    advantages = np.zeros((T, B))
    for b in range(B):
        for t in range(T):
            weight = 1.0
            for k in range(t, T):
                future = 0.0 if terminated[k, b] else gamma * next_values[k, b]
                advantages[t, b] += weight * (rewards[k, b] + future - values[k, b])
                if terminated[k, b] or truncated[k, b]:
                    break
                weight *= gamma * lam
    return advantages


@given(rollouts(), st.floats(0, 1), st.floats(0, 1))
def test_gae_equals_its_definition(rollout, gamma, lam):
    advantages, returns = gae(*rollout, gamma=gamma, lam=lam)
    np.testing.assert_allclose(advantages, by_definition(*rollout, gamma, lam), atol=1e-9, rtol=1e-9)
    np.testing.assert_allclose(returns, advantages + rollout[1])


def column(*values, dtype=np.float64):
    return np.array(values, dtype=dtype)[:, None]


def test_a_time_limit_bootstraps_and_a_terminal_state_does_not():
    rewards, values, next_values = column(1.0), column(0.0), column(10.0)
    yes, no = column(True, dtype=bool), column(False, dtype=bool)
    at_limit, _ = gae(rewards, values, next_values, no, yes, gamma=0.5, lam=0.9)
    at_end, _ = gae(rewards, values, next_values, yes, no, gamma=0.5, lam=0.9)
    assert at_limit.item() == 6.0
    assert at_end.item() == 1.0


def test_the_trace_does_not_cross_the_end_of_an_episode():
    """Rewards (1, 1 | 5, 5, 9): the second episode must not leak into the first."""
    rewards = column(1.0, 1.0, 5.0, 5.0, 9.0)
    zeros = np.zeros((5, 1))
    terminated = column(False, True, False, False, True, dtype=bool)
    advantages, _ = gae(rewards, zeros, zeros, terminated, ~terminated & False, gamma=0.9, lam=0.95)
    assert advantages[1, 0] == 1.0
    assert advantages[0, 0] == pytest.approx(1.0 + 0.9 * 0.95 * 1.0)


@given(rollouts(), st.floats(0, 1))
def test_lambda_zero_is_the_one_step_error(rollout, gamma):
    rewards, values, next_values, terminated, _ = rollout
    advantages, _ = gae(*rollout, gamma=gamma, lam=0.0)
    np.testing.assert_allclose(advantages, rewards + gamma * next_values * ~terminated - values)


def test_no_time_passes_between_the_sub_steps_of_one_flat_step():
    rewards, values = column(0.0, 1.0), np.zeros((2, 1))
    terminated, truncated = column(False, True, dtype=bool), np.zeros((2, 1), dtype=bool)
    gammas = column(1.0, 0.5)
    advantages, _ = gae(rewards, values, values, terminated, truncated, gamma=gammas, lam=gammas)
    assert advantages[0, 0] == 1.0


def test_float32_stays_float32():
    zeros, flags = np.zeros((3, 2), np.float32), np.zeros((3, 2), bool)
    advantages, returns = gae(zeros, zeros, zeros, flags, flags, gamma=0.9, lam=0.9)
    assert advantages.dtype == returns.dtype == np.float32


def test_arrays_of_two_shapes_are_refused_by_name():
    zeros, flags = np.zeros((2, 3)), np.zeros((2, 3), bool)
    with pytest.raises(ValueError, match=r"one shape \[T, B\].*\(3, 2\)"):
        gae(zeros, np.zeros((3, 2)), zeros, flags, flags, gamma=0.9, lam=0.9)
    with pytest.raises(ValueError, match=r"\(3, 2\)\]$"):
        gae(zeros, zeros, zeros, flags, np.zeros((3, 2), bool), gamma=0.9, lam=0.9)


def test_explained_variance_is_one_for_a_perfect_critic_and_zero_for_a_constant_one():
    returns = np.array([[1.0, 2.0], [3.0, 4.0]])
    assert explained_variance(returns, returns) == 1.0
    assert explained_variance(np.full((2, 2), 2.5), returns) == 0.0
    assert np.isnan(explained_variance(returns, np.ones((2, 2))))
    assert np.isnan(explained_variance(np.zeros((2, 2)), np.zeros((2, 2))))


def test_explained_variance_is_the_share_of_the_variance_that_the_critic_explains():
    """Returns ±1, residuals ±½: a quarter of the variance is left."""
    returns = np.array([[1.0, -1.0]], np.float32)
    assert explained_variance(returns / 2, returns) == pytest.approx(0.75)
    assert explained_variance(-returns, returns) == pytest.approx(-3.0)
    assert explained_variance(returns / 2 + 9, returns + 9) == pytest.approx(0.75)


@given(
    st.floats(-1e8, 1e8).filter(lambda x: abs(x) > 1e-3),
    st.lists(st.integers(-3, 3), min_size=1, max_size=9),
    st.floats(-10, 10),
)
def test_returns_that_are_equal_up_to_rounding_have_no_variance_to_explain(value, ulps, error):
    value32 = np.float32(value)
    returns = np.array([[value32 + n * np.spacing(value32) for n in ulps]], np.float32)
    values = returns + np.linspace(0, error, len(ulps), dtype=np.float32)
    assert np.isnan(explained_variance(values, returns))


def test_what_rounding_left_of_returns_that_cancelled_is_no_variance():
    """Rewards undo what the critic says, so the returns are 0; around values of 1e4 float32 has steps of 1e-3."""
    returns = np.array([[0.0, 1e-3, 0.0, -1e-3]], np.float32)
    assert np.isnan(explained_variance(np.array([[0.0, 2e4, 1e4, -2e4]], np.float32), returns))


def test_a_small_but_real_variance_far_from_zero_is_explained():
    returns = np.float32(1e5) + np.arange(10, dtype=np.float32)[None]
    assert explained_variance(returns, returns) == 1.0
    assert explained_variance(np.full_like(returns, 1e5), returns) == pytest.approx(0.0, abs=1e-6)
