"""Spaces through JSON."""

import json

import numpy as np
import pytest
from gymnasium import spaces
from hypothesis import given
from hypothesis import strategies as st

from maze_core.data.spaces import space_from_json, space_to_json
from maze_core.errors import SpaceMismatchError

BOX = spaces.Box(np.array([-4.8, -np.inf], np.float32), np.array([4.8, np.inf], np.float32))
LEAVES = [
    BOX,
    spaces.Box(-1, 1, (2, 3), np.float64),
    spaces.Box(-np.inf, np.inf, (3,), np.float32),
    spaces.Box(0, 255, (2, 2), np.uint8),
    spaces.Box(-5, 5, (), np.float32),
    spaces.Box(np.array([0.1, 0.2], np.float32), np.array([0.3, np.inf], np.float32)),
    spaces.Discrete(3),
    spaces.Discrete(3, start=-1),
    spaces.MultiDiscrete([2, 5]),
    spaces.MultiDiscrete([[2, 3], [4, 5]], start=[[0, -1], [2, 0]]),
    spaces.MultiBinary(4),
    spaces.MultiBinary([2, 3]),
]
SPACES = st.recursive(
    st.sampled_from([*LEAVES, spaces.Text(5), spaces.Text(max_length=3, min_length=0, charset="ab")]),
    lambda inner: (
        st.dictionaries(st.sampled_from(["a", "b/c", "d~e"]), inner, min_size=1, max_size=3).map(spaces.Dict)
        | st.lists(inner, min_size=1, max_size=3).map(spaces.Tuple)
    ),
    max_leaves=6,
)


@given(SPACES)
def test_a_space_comes_back_from_json_as_it_was(space):
    written = json.dumps(space_to_json(space), allow_nan=False, sort_keys=True)
    assert space_from_json(json.loads(written)) == space


def test_the_order_of_a_dict_survives_sorted_json():
    space = spaces.Dict([("z", spaces.Discrete(2)), ("a", spaces.Discrete(3))])
    written = json.dumps(space_to_json(space), sort_keys=True)
    assert list(space_from_json(json.loads(written))) == list(space) == ["z", "a"]


@pytest.mark.parametrize(
    "described",
    [{}, [], None, {"type": "Sphere"}, {"type": "Box", "dtype": "float32"}, {"type": "Discrete", "n": -1}],
)
def test_what_describes_no_space_is_refused(described):
    with pytest.raises(SpaceMismatchError, match="describes no space"):
        space_from_json(described)


def test_a_space_without_json_form_is_refused():
    with pytest.raises(SpaceMismatchError, match="Sequence space cannot be described"):
        space_to_json(spaces.Sequence(spaces.Discrete(2)))


def test_integers_without_a_bound_have_none_after_json():
    """Their dtype has no infinity, and its largest number would be a bound like any other."""
    space = spaces.Box(np.array([0, -np.inf]), np.inf, dtype=np.int64)
    described = json.loads(json.dumps(space_to_json(space)))
    assert (described["low"], described["high"]) == ([0, None], None)
    again = space_from_json(described)
    assert again == space
    assert again.bounded_below.tolist() == [True, False]
    assert not again.bounded_above.any()
