"""V-trace against its definition, against arithmetic done by hand, and at its limits."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays

from maze_core.objectives.returns import gae
from maze_core.objectives.vtrace import vtrace

NUMBERS = st.floats(-5, 5, width=32)
CLIPS = st.one_of(st.floats(0, 3), st.just(np.inf))


@st.composite
def rollouts(draw):
    """Logarithm of π/μ, rewards, values, next values, ends, γ and λ of every tick; values go on within an episode."""
    T, B = draw(st.integers(1, 6)), draw(st.integers(1, 2))
    ratios, rewards, final = (draw(arrays(np.float64, (T, B), elements=NUMBERS)) for _ in range(3))
    values = draw(arrays(np.float64, (T + 1, B), elements=NUMBERS))
    terminated, truncated = (draw(arrays(np.bool_, (T, B))) for _ in range(2))
    next_values = np.where(terminated | truncated, final, values[1:])
    gamma, lam = (draw(arrays(np.float64, (T, B), elements=st.floats(0, 1))) for _ in range(2))
    return ratios / 2, rewards, values[:-1], next_values, terminated, truncated, gamma, lam


def by_definition(rollout, clip_rho, clip_c):
    """Eq. 1 as the sum of products that it is, tick by tick."""
    log_ratios, rewards, values, next_values, terminated, truncated, gamma, lam = rollout
    T, B = values.shape
    targets, advantages = values.copy(), np.zeros((T, B))
    for b in range(B):
        for s in range(T):
            weight = 1.0
            for t in range(s, T):
                ratio = np.exp(log_ratios[t, b])
                future = 0.0 if terminated[t, b] else gamma[t, b] * next_values[t, b]
                targets[s, b] += weight * min(clip_rho, ratio) * (rewards[t, b] + future - values[t, b])
                if terminated[t, b] or truncated[t, b]:
                    break
                weight *= gamma[t, b] * lam[t, b] * min(clip_c, ratio)
        for s in range(T):
            is_followed = s + 1 < T and not (terminated[s, b] or truncated[s, b])
            following = targets[s + 1, b] if is_followed else next_values[s, b]
            future = 0.0 if terminated[s, b] else gamma[s, b] * following
            advantages[s, b] = rewards[s, b] + future - values[s, b]
    return advantages, targets


@given(rollouts(), CLIPS, CLIPS)
def test_advantages_and_targets_are_those_of_the_definition(rollout, clip_rho, clip_c):
    *arrays, gamma, lam = rollout
    clips = {"clip_rho": clip_rho, "clip_c": clip_c}
    found = vtrace(*arrays, gamma=gamma, lam=lam, **clips)
    for ours, theirs in zip(found, by_definition(rollout, **clips), strict=True):
        np.testing.assert_allclose(ours, theirs, rtol=1e-9, atol=1e-6)


@given(rollouts(), st.floats(1, 3))
def test_of_the_own_policy_targets_are_the_lambda_returns_and_nothing_is_clipped_from_1_on(rollout, clip):
    log_ratios, *arrays, gamma, lam = rollout
    clips = dict.fromkeys(("clip_rho", "clip_c"), clip)
    _, targets = vtrace(np.zeros_like(log_ratios), *arrays, gamma=gamma, lam=lam, **clips)
    np.testing.assert_allclose(targets, gae(*arrays, gamma=gamma, lam=lam)[1], atol=1e-9)


@given(rollouts())
def test_of_the_own_policy_with_lambda_1_advantages_are_those_of_the_n_step_return(rollout):
    log_ratios, *arrays, gamma, _ = rollout
    found = vtrace(np.zeros_like(log_ratios), *arrays, gamma=gamma, lam=1.0)
    for ours, theirs in zip(found, gae(*arrays, gamma=gamma, lam=1.0), strict=True):
        np.testing.assert_allclose(ours, theirs, atol=1e-9)


@given(rollouts())
def test_where_rho_is_clipped_to_0_the_critic_is_believed(rollout):
    *arrays, gamma, lam = rollout
    _, targets = vtrace(*arrays, gamma=gamma, lam=lam, clip_rho=0.0)
    np.testing.assert_array_equal(targets, arrays[2])


def column(*values, dtype=np.float64):
    return np.array(values, dtype=dtype)[:, None]


NO = column(False, False, dtype=bool)


def test_two_steps_done_by_hand():
    """γ = ½, V = (1, 2), then 4; rewards (3, 5); π/μ = (2, ½), so ρ = c = (1, ½).

    δ = (3 + 1 − 1, ½ (5 + 2 − 2)) = (3, 2.5); v = (1 + 3 + ½ · 1 · 2.5, 2 + 2.5) = (5.25, 4.5);
    advantages = (3 + ½ · 4.5 − 1, 5 + ½ · 4 − 2) = (4.25, 5).
    """
    advantages, targets = vtrace(
        np.log(column(2.0, 0.5)),
        column(3.0, 5.0),
        column(1.0, 2.0),
        column(2.0, 4.0),
        NO,
        NO,
        gamma=0.5,
        lam=1.0,
    )
    np.testing.assert_allclose(targets, column(5.25, 4.5))
    np.testing.assert_allclose(advantages, column(4.25, 5.0))


def test_a_time_limit_bootstraps_and_a_terminal_state_does_not():
    zero, yes = column(0.0), column(True, dtype=bool)
    steps = (zero, column(1.0), zero, column(10.0))
    cut = vtrace(*steps, ~yes, yes, gamma=0.5, lam=1.0)
    over = vtrace(*steps, yes, ~yes, gamma=0.5, lam=1.0)
    assert [x.item() for x in cut] == [6.0, 6.0]
    assert [x.item() for x in over] == [1.0, 1.0]


def test_float32_stays_float32_and_a_ratio_beyond_all_numbers_is_clipped_without_a_word():
    zeros, flags = np.zeros((3, 2), np.float32), np.zeros((3, 2), bool)
    gammas = np.full((3, 2), 0.9, np.float32)
    for gamma, lam in ((0.9, 0.9), (gammas, gammas)):
        advantages, targets = vtrace(
            zeros + 1000, zeros + 1, zeros, zeros, flags, flags, gamma=gamma, lam=lam
        )
        assert advantages.dtype == targets.dtype == np.float32
        assert np.isfinite(targets).all()


def test_arrays_of_two_shapes_are_refused_by_name():
    zeros, flags = np.zeros((2, 3)), np.zeros((2, 3), bool)
    with pytest.raises(ValueError, match=r"vtrace needs 6 arrays of one shape \[T, B\].*\(3, 2\)"):
        vtrace(np.zeros((3, 2)), zeros, zeros, zeros, flags, flags, gamma=0.9, lam=0.9)
    with pytest.raises(ValueError, match=r"\(3, 2\)\]$"):
        vtrace(zeros, zeros, zeros, zeros, flags, np.zeros((3, 2), bool), gamma=0.9, lam=0.9)
    with pytest.raises(ValueError, match=r"one shape"):
        vtrace(*[zeros[0]] * 4, flags[0], flags[0], gamma=0.9, lam=0.9)
