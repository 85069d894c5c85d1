"""Losses of value learners against their definitions, by hand, at their limits, and their gradients by autograd."""

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp
from torch.nn.functional import smooth_l1_loss

from maze_core.objectives.td import huber, polyak, quantile_huber, squared_td

numbers = st.floats(-5, 5)


def arrays(*shape: int) -> st.SearchStrategy[np.ndarray]:
    return hnp.arrays(np.float64, shape, elements=numbers)


@given(data=st.data(), n=st.integers(1, 6))
def test_the_huber_loss_is_the_weighted_mean_of_smooth_l1(data: st.DataObject, n: int) -> None:
    values, targets = data.draw(arrays(n)), data.draw(arrays(n))
    weights = data.draw(hnp.arrays(np.float64, n, elements=st.floats(0, 1)))
    loss, gradient, errors = huber(values, targets, weights)
    learnt = torch.tensor(values, requires_grad=True)
    expected = (
        torch.tensor(weights) * smooth_l1_loss(learnt, torch.tensor(targets), reduction="none")
    ).mean()
    expected.backward()
    assert loss == pytest.approx(float(expected.detach()))
    np.testing.assert_allclose(gradient, learnt.grad, atol=1e-12)
    np.testing.assert_array_equal(errors, values - targets)


def test_the_huber_loss_by_hand() -> None:
    loss, gradient, _ = huber(np.array([0.5, 3.0, -2.0]), np.zeros(3), np.array([1.0, 1.0, 0.5]))
    assert loss == pytest.approx((0.125 + 2.5 + 0.5 * 1.5) / 3)
    np.testing.assert_allclose(gradient, np.array([0.5, 1.0, -0.5]) / 3)


@given(data=st.data(), n=st.integers(1, 4), m=st.integers(1, 4), n_samples=st.integers(1, 3))
def test_the_quantile_loss_is_its_definition(data: st.DataObject, n: int, m: int, n_samples: int) -> None:
    quantiles, targets = data.draw(arrays(n, n_samples)), data.draw(arrays(m, n_samples))
    weights = data.draw(hnp.arrays(np.float64, n_samples, elements=st.floats(0, 1)))
    learnt = torch.tensor(quantiles, requires_grad=True)
    total = torch.zeros((), dtype=torch.float64)
    each = np.zeros(n_samples)
    for k in range(n_samples):
        of_sample = torch.zeros((), dtype=torch.float64)
        for i in range(n):
            for j in range(m):
                u = torch.tensor(targets[j, k]) - learnt[i, k]
                tilt = abs((2 * i + 1) / (2 * n) - float(u.detach() < 0))
                of_sample = of_sample + tilt * smooth_l1_loss(u, torch.zeros_like(u)) / m
        each[k] = float(of_sample.detach())
        total = total + weights[k] * of_sample / n_samples
    total.backward()
    loss, gradient, of_samples = quantile_huber(quantiles, targets, weights)
    assert loss == pytest.approx(float(total.detach()))
    np.testing.assert_allclose(of_samples, each, atol=1e-12)
    np.testing.assert_allclose(gradient, learnt.grad, atol=1e-12)


def test_learnt_quantiles_are_those_of_the_samples() -> None:
    samples = np.random.default_rng(0).uniform(0, 100, size=(4000, 1))
    quantiles = np.zeros((4, 1))
    for _ in range(4000):
        quantiles -= 0.5 * quantile_huber(quantiles, samples, np.ones(1))[1]
    np.testing.assert_allclose(quantiles[:, 0], [12.5, 37.5, 62.5, 87.5], atol=2.0)


def test_squared_errors_are_added_up_over_critics_and_averaged_over_samples() -> None:
    loss, gradient = squared_td(np.array([[1.0, 2.0], [0.0, 5.0]]), np.array([1.0, 3.0]))
    assert loss == pytest.approx(0.5 * ((0 + 1) / 2 + (1 + 4) / 2))
    np.testing.assert_allclose(gradient, [[0.0, -0.5], [-0.5, 1.0]])


def test_the_target_follows_by_tau() -> None:
    target, online = np.array([0.0, 4.0]), np.array([1.0, 8.0])
    polyak(target, online, 0.25)
    np.testing.assert_allclose(target, [0.25, 5.0])
    polyak(target, online, 1.0)
    online[0] = 7.0
    np.testing.assert_allclose(target, [1.0, 8.0])


def test_a_tau_of_one_copies_what_a_step_of_the_difference_would_round() -> None:
    target, online = np.array([1e8], np.float32), np.array([0.1], np.float32)
    polyak(target, online, 1.0)
    assert target == online
