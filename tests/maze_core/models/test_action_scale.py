"""Box actions: what a sample of the network means to the environment, by hand, at the limits, and in checkpoints."""

import numpy as np
import pytest
from gymnasium import spaces
from hypothesis import given
from hypothesis import strategies as st

from maze_core.models.acting import ActingPolicy, to_env_actions
from maze_core.models.config import CustomModelConfig, DistributionRule, GaussianArgs
from maze_core.models.heads import bounded_numbers
from tests.maze_core.models.autograd import log_probs_and_entropy

LARGEST = np.finfo(np.float32).max


def policy_of(space, **args):
    rule = DistributionRule(action_space="Box", distribution="diagonal_gaussian", args=GaussianArgs(**args))
    config = CustomModelConfig(distribution_mapper_config=(rule,) if args else ())
    seen = {0: spaces.Dict(observation=spaces.Box(-1, 1, (2,), np.float32))}
    return config.build(seen, {0: spaces.Dict(action=space)}, {0: 1}, generator_seed=0).policy


def to_env(space, samples, **args):
    acting = policy_of(space, **args)
    scaled = acting.steps[0].in_env_units({"action": np.asarray(samples, np.float32)})
    return to_env_actions(scaled, spaces.Dict(action=space))["action"]


@pytest.mark.parametrize(
    ("space", "expected"),
    [
        (spaces.Box(-1, 1, (1,)), [-1.0, -0.5, 0.0, 1.0, 1.0]),
        (spaces.Box(0, 512, (1,)), [0.0, 128.0, 256.0, 512.0, 512.0]),
        (spaces.Box(100, 200, (1,)), [100.0, 125.0, 150.0, 200.0, 200.0]),
        (spaces.Box(-0.001, 0.001, (1,)), [-0.001, -0.0005, 0.0, 0.001, 0.001]),
        (spaces.Box(-2, 2, (1,), np.float64), [-2.0, -1.0, 0.0, 2.0, 2.0]),
        (spaces.Box(0, 255, (1,), np.uint8), [0, 64, 128, 255, 255]),
        (spaces.Box(-10, 30, (1,), np.int64), [-10, 0, 10, 30, 30]),
        (spaces.Box(7, 7, (1,)), [7.0, 7.0, 7.0, 7.0, 7.0]),
        (spaces.Box(0, np.inf, (1,)), [0.0, 0.0, 0.0, 1.0, 9.0]),
        (spaces.Box(-np.inf, np.inf, (1,)), [-1.0, -0.5, 0.0, 1.0, 9.0]),
        (spaces.Box(-LARGEST, LARGEST, (1,)), [-1.0, -0.5, 0.0, 1.0, 9.0]),
    ],
)
def test_minus_one_and_one_are_the_bounds_where_both_are_finite(space, expected):
    given = to_env(space, [[-1.0], [-0.5], [0.0], [1.0], [9.0]])
    assert given.dtype == space.dtype
    np.testing.assert_allclose(given[:, 0], expected, rtol=1e-6)
    assert all(space.contains(row) for row in given)


def test_each_number_of_a_box_has_its_own_scale():
    space = spaces.Box(np.float32([0, -np.inf, 5]), np.float32([10, 1, 5]))
    np.testing.assert_array_equal(to_env(space, [[0.5, -3.0, 2.0]]), [[7.5, -3.0, 5.0]])
    assert bounded_numbers(space).tolist() == [True, False, True]


def test_one_setting_takes_samples_in_the_environments_units():
    space = spaces.Box(100, 200, (1,))
    np.testing.assert_array_equal(to_env(space, [[150.0], [1.0]], rescale=False), [[150.0], [100.0]])


@given(st.floats(-1e30, 1e30), st.floats(-1e30, 1e30), st.floats(-1, 1))
def test_every_sample_between_minus_one_and_one_lies_in_the_space(one, other, sample):
    low, high = np.sort(np.float32([one, other]))
    space = spaces.Box(np.array([low]), np.array([high]), dtype=np.float32)
    assert space.contains(to_env(space, [[sample]])[0])


def test_log_probabilities_are_those_of_the_sample():
    policy = policy_of(spaces.Box(100, 200, (1,)))
    acting, seen = policy, {"observation": np.zeros((1, 2), np.float32)}
    noise = np.array([[0.5]])
    sample = acting.steps[0].sample(seen, noise, None)["action"]
    action = acting.act(0, seen, deterministic=False, noise=noise)["action"]
    np.testing.assert_array_equal(action, 150 + 50 * sample.astype(np.float64))
    log_prob, _ = log_probs_and_entropy(policy, 0, seen, {"action": sample})
    assert log_prob.item() == pytest.approx(-0.5 * 0.5**2 - 0.5 * np.log(2 * np.pi), abs=1e-6)


def test_the_description_carries_the_scale_and_one_without_it_acts_as_in_0_1_0():
    acting = policy_of(spaces.Box(0, 512, (1,)))
    seen = {"observation": np.full((1, 2), 0.3, np.float32)}
    tree, arrays = acting.describe(), acting.parameters
    assert (tree["steps"][0]["heads"][0]["center"], tree["steps"][0]["heads"][0]["half_range"]) == (
        (256.0,),
        (256.0,),
    )
    mode = acting.act(0, seen, deterministic=True, noise=None)["action"]
    again = ActingPolicy.from_description(tree, arrays)
    assert again.act(0, seen, deterministic=True, noise=None)["action"].tobytes() == mode.tobytes()
    for name in ("center", "half_range"):
        del tree["steps"][0]["heads"][0][name]
    old = ActingPolicy.from_description(tree, arrays)
    np.testing.assert_allclose(256 + 256 * old.act(0, seen, deterministic=True, noise=None)["action"], mode)
