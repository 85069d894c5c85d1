"""Spaces through JSON, and values of unknown origin against them: what passes, and where a mistake is found."""

import contextlib
import json

import numpy as np
import pytest
from gymnasium import spaces
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as arrays

from maze_core.data.spaces import check_value, space_from_json, space_to_json
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


def as_json(value):
    if isinstance(value, dict):
        return {name: as_json(inner) for name, inner in value.items()}
    if isinstance(value, tuple):
        return [as_json(inner) for inner in value]
    return value if isinstance(value, str) else np.asarray(value).tolist()


@given(SPACES)
def test_a_space_comes_back_from_json_as_it_was(space):
    written = json.dumps(space_to_json(space), allow_nan=False, sort_keys=True)
    assert space_from_json(json.loads(written)) == space


def test_the_order_of_a_dict_survives_sorted_json():
    space = spaces.Dict([("z", spaces.Discrete(2)), ("a", spaces.Discrete(3))])
    written = json.dumps(space_to_json(space), sort_keys=True)
    assert list(space_from_json(json.loads(written))) == list(space) == ["z", "a"]


@given(SPACES, st.integers(0, 1000))
def test_every_sample_passes_as_json_and_as_arrays(space, seed):
    space.seed(seed)
    sample = space.sample()
    for given_value in (sample, json.loads(json.dumps(as_json(sample)))):
        checked = check_value(space, given_value)
        assert space.contains(checked)
        assert json.dumps(as_json(checked)) == json.dumps(as_json(sample))


@given(
    st.sampled_from(LEAVES),
    st.one_of(
        st.recursive(
            st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=3),
            lambda inner: (
                st.lists(inner, max_size=4) | st.dictionaries(st.text(max_size=2), inner, max_size=2)
            ),
            max_leaves=12,
        ),
        arrays.arrays(arrays.scalar_dtypes(), arrays.array_shapes(max_dims=3, max_side=3)),
    ),
)
def test_whatever_comes_either_belongs_to_the_space_or_is_refused(space, value):
    with contextlib.suppress(SpaceMismatchError):
        checked = check_value(space, value, "/here")
        assert checked.dtype == space.dtype
        assert space.contains(checked[()] if isinstance(space, spaces.Discrete) else checked)


@pytest.mark.parametrize(
    ("value", "message", "pointer"),
    [
        ([0, 0, 0], r"Expected shape \[2\], got \[3\]", ""),
        (1.5, r"Expected shape \[2\], got \[\]", ""),
        ([[1, 2], [3]], "lists of unequal lengths", ""),
        ([0, "a"], "Expected a number, got 'a'", "/1"),
        ([None, 0], "got null", "/0"),
        ([True, 0.5], "got True", "/0"),
        ({"a": 1}, "got dict", ""),
        ([0, float("nan")], "nan is not finite", "/1"),
        ([0, float("-inf")], "-inf is not finite", "/1"),
        ([0, 1e300], r"does not fit into float32", "/1"),
        ([0, 10**40], "fit into 64 bits", ""),
        ([4.9, 0], r"4.9 is outside \[-4.8.*, 4.8.*\]", "/0"),
        ([[[[[[1]]]]]], "nested too deep", "/0/0/0"),
        ("[0, 0]", r"got '\[0, 0\]'", ""),
    ],
)
def test_a_mistake_is_named_with_its_place(value, message, pointer):
    with pytest.raises(SpaceMismatchError, match=message) as caught:
        check_value(BOX, value, "/observation")
    assert caught.value.pointer == "/observation" + pointer


@pytest.mark.parametrize(
    ("space", "value", "message"),
    [
        (spaces.Discrete(3), 3, r"3 is outside \[0, 2\]"),
        (spaces.Discrete(3, start=5), 4, r"4 is outside \[5, 7\]"),
        (spaces.Discrete(3), 1.5, "1.5 is no integer"),
        (spaces.Discrete(3), True, "got True"),
        (spaces.Discrete(3), 2**64 + 1, "64 bits"),
        (spaces.MultiDiscrete([2, 5]), [1, 5], r"5 is outside \[0, 4\]"),
        (spaces.MultiBinary(2), [0, 2], r"2 is outside \[0, 1\]"),
        (spaces.Box(0, 255, (1,), np.uint8), [256], r"256 is outside \[0, 255\]"),
        (spaces.Box(0, 255, (1,), np.uint8), [-1], "-1 is outside"),
        (spaces.Text(2), "long", "Expected a text"),
        (spaces.Tuple([spaces.Discrete(2)]), [0, 1], "Expected a list of 1 values"),
        (spaces.Tuple([spaces.Discrete(2)]), "0", "Expected a list of 1 values"),
    ],
)
def test_other_spaces_refuse_what_is_not_theirs(space, value, message):
    with pytest.raises(SpaceMismatchError, match=message):
        check_value(space, value)


def test_whole_numbers_pass_in_either_writing():
    assert check_value(spaces.Discrete(3), 2.0) == 2
    assert check_value(spaces.MultiBinary(2), [True, False]).tolist() == [1, 0]
    assert check_value(BOX, [1, 2]).dtype == np.float32


@pytest.mark.parametrize(
    ("value", "message", "pointer"),
    [
        ({"a/b": 0}, "'~c' is missing; expected", ""),
        ({"a/b": 0, "~c": [0], "d": 1}, "'d' is not one of", "/d"),
        ({"a/b": 7, "~c": [0]}, "7 is outside", "/a~1b"),
        ({"a/b": 0, "~c": [7]}, "7 is outside", "/~0c/0"),
        ([0, 0], "Expected an object with", ""),
    ],
)
def test_objects_are_checked_name_by_name_with_escaped_pointers(value, message, pointer):
    space = spaces.Dict({"a/b": spaces.Discrete(2), "~c": spaces.Tuple([spaces.Discrete(2)])})
    with pytest.raises(SpaceMismatchError, match=message) as caught:
        check_value(space, value, "/observation")
    assert caught.value.pointer == "/observation" + pointer


def test_the_result_is_a_new_array():
    given_value = np.zeros(2, dtype=np.float32)
    check_value(BOX, given_value)[0] = 1
    assert given_value[0] == 0


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


def test_a_box_of_truth_values_takes_them_as_the_environment_and_as_json_give_them():
    space = spaces.Box(0, 1, (3,), np.bool_)
    for value in (np.array([True, False, True]), [True, False, True], [1, 0, 1]):
        checked = check_value(space, value, "")
        assert checked.dtype == np.bool_
        assert checked.tolist() == [True, False, True]
