"""Spaces taken apart into named leaves, and put together again."""

import numpy as np
import pytest
from gymnasium import spaces
from hypothesis import given
from hypothesis import strategies as st

from maze_core.envs.gym_spaces import action_layout, as_float32, observation_layout
from maze_core.errors import EnvError

LEAVES = st.sampled_from(
    [
        spaces.Discrete(3),
        spaces.Discrete(4, start=-2),
        spaces.Box(-1, 1, (2, 3), np.float32),
        spaces.Box(0, 255, (2,), np.uint8),
        spaces.MultiDiscrete([2, 5]),
        spaces.MultiBinary(3),
    ]
)
SPACES = st.recursive(
    LEAVES,
    lambda inner: (
        st.dictionaries(st.sampled_from("abc"), inner, min_size=1, max_size=3).map(spaces.Dict)
        | st.lists(inner, min_size=1, max_size=3).map(spaces.Tuple)
    ),
    max_leaves=6,
)


def assert_same(left, right):
    if isinstance(left, dict):
        assert left.keys() == right.keys()
        for key in left:
            assert_same(left[key], right[key])
    elif isinstance(left, tuple):
        assert len(left) == len(right)
        for pair in zip(left, right, strict=True):
            assert_same(*pair)
    else:
        np.testing.assert_array_equal(left, right)


@given(SPACES, st.integers(0, 100))
def test_taking_apart_and_putting_together_gives_the_same_value(space, seed):
    space.seed(seed)
    value = space.sample()
    layout = action_layout(space)
    leaves = layout.leaves(value)
    assert layout.space.contains(leaves)
    assert_same(layout.assemble(leaves), value)


def test_a_plain_space_is_one_leaf_of_the_usual_name():
    assert list(observation_layout(spaces.Box(0, 1, (2,))).space) == ["observation"]
    assert list(action_layout(spaces.Discrete(2)).space) == ["action"]
    assert observation_layout(spaces.Discrete(2)).is_bare
    assert not observation_layout(spaces.Dict(a=spaces.Discrete(2))).is_bare


def test_nested_names_are_joined_with_a_dot_and_tuples_numbered():
    space = spaces.Dict(
        arm=spaces.Dict(angle=spaces.Discrete(2), joints=spaces.Tuple([spaces.Discrete(3)] * 2))
    )
    assert set(observation_layout(space).space) == {"arm.angle", "arm.joints_0", "arm.joints_1"}
    assert set(action_layout(spaces.Tuple([spaces.Discrete(2)] * 2)).space) == {"action_0", "action_1"}


def test_float64_observations_become_float32_and_actions_stay():
    box = spaces.Box(-1, 1, (2,), np.float64)
    assert observation_layout(box).space["observation"].dtype == np.float32
    assert action_layout(box).space["action"].dtype == np.float64
    assert observation_layout(box).leaves(np.array([0.1, 0.2]))["observation"].dtype == np.float32


def test_a_bound_beyond_float32_becomes_infinite():
    box = as_float32(spaces.Box(-1e300, 1.0, (1,), np.float64))
    assert box.low[0] == -np.inf
    assert box.high[0] == 1.0


def test_a_space_that_no_policy_can_see_is_refused_by_name():
    space = spaces.Dict(text=spaces.Text(5))
    with pytest.raises(EnvError, match=r"Text space at text, which is not supported. Supported: Box"):
        observation_layout(space)


def test_two_leaves_of_one_name_are_refused():
    space = spaces.Dict({"a.b": spaces.Discrete(2), "a": spaces.Dict(b=spaces.Discrete(2))})
    with pytest.raises(EnvError, match=r"two leaves named 'a\.b'"):
        observation_layout(space)
