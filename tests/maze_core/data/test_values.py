"""One rule for values of unknown origin: what passes, what is taken with a word, and where a mistake is found."""

import contextlib
import json

import gymnasium
import numpy as np
import pytest
import torch
from gymnasium import spaces
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as arrays

from maze_core.data.flat_space import SpaceReader, action_layout, form_of, observation_layout, put_together
from maze_core.data.values import LeafReader, fit_to_box
from maze_core.envs.env_spaces import EnvSpaces, describe_spaces, described_spaces
from maze_core.envs.gym_env import GymEnv
from maze_core.envs.per_env import PerEnvVectorEnv
from maze_core.errors import EnvError, SpaceMismatchError
from maze_core.notices import MazeWarning, Notices

BOX = spaces.Box(np.array([-4.8, -np.inf], np.float32), np.array([4.8, np.inf], np.float32))
LEAVES = [
    BOX,
    spaces.Box(-1, 1, (2, 3), np.float64),
    spaces.Box(-np.inf, np.inf, (3,), np.float32),
    spaces.Box(0, 1, (1,), np.float16),
    spaces.Box(0, 255, (2, 2), np.uint8),
    spaces.Box(-5, 5, (), np.float32),
    spaces.Box(0, 9, (1,), np.int32),
    spaces.Box(0, 1, (2,), np.int8),
    spaces.Box(0, 1, (2,), np.bool_),
    spaces.Discrete(2),
    spaces.Discrete(3, start=-1),
    spaces.Discrete(28, start=100, dtype=np.int8),
    spaces.Discrete(2, start=2**63 - 2),
    spaces.MultiDiscrete([2, 5]),
    spaces.MultiDiscrete([[2, 3], [4, 5]], start=[[0, -1], [2, 0]]),
    spaces.MultiDiscrete([100, 120], start=[27, 7], dtype=np.int8),
    spaces.MultiBinary(4),
    spaces.MultiBinary([2, 3]),
]


class Whole(int):
    """As an IntEnum is."""


class Given:
    """An object that is no array but becomes one."""

    def __init__(self, value):
        self.value = value

    def __array__(self, dtype=None, copy=None):
        return np.asarray(self.value, dtype)


FORMS = {
    "array": np.asarray,
    "list": lambda value: np.asarray(value).tolist(),
    "tuple": lambda value: tuple(np.asarray(value).tolist()) if np.ndim(value) else np.asarray(value).item(),
    "float64": lambda value: np.asarray(value, np.float64),
    "longdouble": lambda value: np.asarray(value, np.longdouble),
    "big endian": lambda value: np.asarray(value).astype(np.asarray(value).dtype.newbyteorder(">")),
    "objects": lambda value: np.asarray(value, object),
    "texts": lambda value: np.asarray(value).astype(str),
    "complex": lambda value: np.asarray(value, complex),
    "truth values": lambda value: np.asarray(value).astype(bool),
    "list of truth values": lambda value: np.asarray(value).astype(bool).tolist(),
    "tensor": lambda value: torch.as_tensor(np.asarray(value)),
    "tensor with a gradient": lambda value: torch.as_tensor(np.asarray(value, np.float64)).requires_grad_(),
    "list of tensors": lambda value: list(torch.as_tensor(np.asarray(value))) if np.ndim(value) else None,
    "object": Given,
    "another shape": lambda value: np.asarray(value)[None],
    "scalar": lambda value: np.asarray(value).flat[0].item(),
    "strange whole number": lambda value: Whole(np.asarray(value).flat[0]),
    "null": lambda value: None,
    "text": str,
    "object of names": lambda value: {"value": value},
    "masked": lambda value: np.ma.masked_array(np.asarray(value), np.ones(np.shape(value), bool)),
    "one more": lambda value: np.asarray(value, np.float64) + 1,
    "a half more": lambda value: np.asarray(value, np.float64) + 0.5,
    "far more": lambda value: np.asarray(value, np.float64) + 300.0,
    "less": lambda value: np.asarray(value, np.float64) - 1000.0,
    "enormous": lambda value: np.full(np.shape(value), 1e300),
    "NaN": lambda value: np.full(np.shape(value), np.nan),
    "infinite": lambda value: np.full(np.shape(value), -np.inf),
}


class ShowEnv(gymnasium.Env):
    """Shows one value, at the reset or at the first step."""

    def __init__(self, space, first, second):
        self.observation_space, self.action_space = space, spaces.Discrete(2)
        self.first, self.second = first, second

    def reset(self, *, seed=None, options=None):
        return self.first, {}

    def step(self, action):
        return self.second, 0.0, False, False, {}


def trained_on(space, value, *, at_reset):
    """What training sees of a value, bytes and dtype and all; None where it refuses."""
    space.seed(0)
    good = space.sample()
    env = PerEnvVectorEnv([lambda: GymEnv(ShowEnv(space, value if at_reset else good, value))])
    try:
        tick = env.reset([0])
        if not at_reset:
            tick = env.step({0: {"action": np.zeros(1, np.int64)}})
    except EnvError:
        return None
    return {name: (array.dtype, array[0].tobytes()) for name, array in tick.observations[0].items()}


def acted_on(space, value):
    """What acting sees of it after a checkpoint."""
    layout = observation_layout(space)
    reader = SpaceReader(reloaded(layout), "observation")
    try:
        return {name: (array.dtype, array.tobytes()) for name, array in reader.read(value).items()}
    except SpaceMismatchError:
        return None


def described(layout):
    one = EnvSpaces(observation_spaces={0: layout}, action_spaces={0: layout}, agent_counts={0: 1})
    return json.loads(json.dumps(describe_spaces(one)))[0]


def reloaded(layout):
    """A space as it comes out of a checkpoint."""
    return described_spaces([described(layout)]).observation_spaces[0]


@pytest.mark.filterwarnings("ignore::maze_core.notices.MazeWarning", "ignore:overflow encountered in cast")
@pytest.mark.parametrize("form", FORMS)
@pytest.mark.parametrize("leaf", LEAVES, ids=str)
def test_training_takes_what_acting_takes_with_the_same_bits(leaf, form):
    leaf.seed(1)
    with np.errstate(all="ignore"):
        value = FORMS[form](leaf.sample())
        kept = repr(value)
        in_dict = spaces.Dict([("z", spaces.Discrete(2)), ("leaf", leaf)])
        for space, shown in ((leaf, value), (in_dict, {"z": 0, "leaf": value})):
            expected = acted_on(space, shown)
            assert trained_on(space, shown, at_reset=True) == expected
            assert trained_on(space, shown, at_reset=False) == expected
    assert repr(value) == kept


@pytest.mark.parametrize(
    ("leaf", "form", "is_taken"),
    [
        (BOX, "list", True),
        (BOX, "tensor", True),
        (BOX, "object", True),
        (BOX, "objects", True),
        (BOX, "a half more", True),
        (BOX, "texts", False),
        (BOX, "truth values", False),
        (BOX, "tensor with a gradient", False),
        (BOX, "enormous", False),
        (BOX, "NaN", False),
        (spaces.Box(0, 255, (2,), np.uint8), "a half more", False),
        (spaces.Box(0, 255, (2,), np.uint8), "far more", False),
        (spaces.Box(0, 255, (2,), np.uint8), "less", False),
        (spaces.Box(0, 9, (2,), np.int32), "far more", True),
        (spaces.Box(0, 1, (2,), np.int8), "truth values", True),
        (spaces.Discrete(5), "far more", False),
        (spaces.Discrete(5), "a half more", False),
        (spaces.Discrete(5), "truth values", False),
        (spaces.Discrete(2), "truth values", True),
        (spaces.Discrete(5), "strange whole number", True),
        (spaces.MultiBinary(2), "far more", False),
        (spaces.MultiDiscrete([2, 3]), "list", True),
        (spaces.Box(0, 1, (1,)), "scalar", False),
    ],
    ids=str,
)
@pytest.mark.filterwarnings("ignore::maze_core.notices.MazeWarning")
def test_kind_shape_and_what_the_dtype_cannot_hold_decide(leaf, form, is_taken):
    assert (acted_on(leaf, FORMS[form](leaf.sample())) is not None) == is_taken


NESTED = st.recursive(
    st.sampled_from(LEAVES[:9]),
    lambda inner: (
        st.dictionaries(
            st.sampled_from(["", "a", "b/c", "d~e", "observation", "action", 0, 7]), inner, max_size=3
        ).map(lambda parts: spaces.Dict(list(parts.items())))
        | st.lists(inner, min_size=1, max_size=3).map(spaces.Tuple)
    ),
    max_leaves=6,
)


def as_json(value):
    if isinstance(value, dict):
        return {str(name): as_json(inner) for name, inner in value.items()}
    if isinstance(value, tuple):
        return [as_json(inner) for inner in value]
    return np.asarray(value).tolist()


@given(NESTED, st.integers(0, 1000))
def test_every_value_passes_in_its_own_form_as_json_and_by_flat_names_and_comes_back(space, seed):
    space.seed(seed)
    value = space.sample()
    with contextlib.suppress(EnvError):  # without a leaf, or with two of one name
        layout = action_layout(space)
        assert_passes_in_every_form(layout, value)


def assert_passes_in_every_form(layout, value):
    again = reloaded(layout)
    assert (again.form, list(again)) == (layout.form, list(layout))
    reader = SpaceReader(again, "action")
    leaves = reader.read(value)
    assert list(leaves) == list(layout)
    for other in (json.loads(json.dumps(as_json(value))), leaves):
        same = reader.read(other)
        assert {n: a.tobytes() for n, a in same.items()} == {n: a.tobytes() for n, a in leaves.items()}
    assert json.dumps(as_json(put_together(again.form, leaves))) == json.dumps(as_json(value))


def test_a_form_is_kept_only_where_names_do_not_tell_it():
    for space in (spaces.Discrete(2), spaces.Dict(a=BOX, b=BOX), spaces.Tuple([BOX, BOX])):
        assert "observation_form" not in described(observation_layout(space))
    for space in (
        spaces.Dict(observation=BOX),
        spaces.Dict(observation_0=BOX, observation_1=BOX),
        spaces.Tuple([BOX, spaces.Tuple([BOX])]),
        spaces.Dict({0: BOX}),
        spaces.Dict(a=BOX, b=spaces.Dict()),
    ):
        assert "observation_form" in described(observation_layout(space))
    assert form_of(spaces.Dict(action=BOX)) == "action"


def test_bounds_that_are_overstepped_are_said_once_and_so_are_undeclared_parts():
    reader = SpaceReader(
        spaces.Dict(a=spaces.Box(-1, 1, (2,)), b=spaces.Discrete(2)), "observation", Notices()
    )
    shown = [{"a": [0.0, x], "b": 1, "c": "?", "d": 2} for x in (1.001, 2.0, -7.0)]
    with pytest.warns(MazeWarning) as caught:
        read = [reader.read(value)["a"].tolist() for value in shown]
    assert read[1:] == [[0, 2], [0, -7]]
    texts = [str(warning.message) for warning in caught]
    assert len(texts) == 2
    assert "'c', which its space does not declare" in texts[0]
    assert "'a' oversteps its declared bounds (1.0" in texts[1]
    assert "at [1] is outside [-1.0, 1.0]" in texts[1]


@pytest.mark.parametrize("row", [0, 2])
def test_one_of_a_batch_that_oversteps_is_said_once_by_all_environments_of_a_run(row):
    space = spaces.Box(1.0, 2.0, (2,))
    shown = [np.full(2, 1.5, np.float32)] * 3
    shown[row] = np.float32([1.5, 9.0])

    def play():
        env = PerEnvVectorEnv(
            [lambda value=value: GymEnv(ShowEnv(space, shown[1], value)) for value in shown]
        )
        env.reset([0, 1, 2])
        for _ in range(100):
            env.step({0: {"action": np.zeros(3, np.int64)}})

    said = []
    with Notices(said.append).active():
        play()
        play()
    assert [text.partition("(")[2].partition(")")[0] for text in said] == ["9.0 at [1] is outside [1.0, 2.0]"]


def test_what_is_refused_in_training_is_named_with_its_environment():
    shown = {"arm": {"angle": [0.0, None]}}
    space = spaces.Dict(arm=spaces.Dict(angle=BOX))
    env = PerEnvVectorEnv([lambda: GymEnv(ShowEnv(space, shown, shown))])
    with pytest.raises(
        EnvError, match=r"Environment 0, step 0 .* 'arm.angle' does not fit Box.* at /1: .*got null"
    ):
        env.reset([0])


def test_actions_of_a_box_are_clipped_and_rounded_without_wrapping():
    largest = np.iinfo(np.int64)
    everything = spaces.Box(largest.min, largest.max, (2,), np.int64)
    assert fit_to_box(np.float32([-1e30, 1e30]), everything).tolist() == [largest.min, largest.max]
    assert fit_to_box(np.float32([0.2, 0.7]), spaces.Box(0, 1, (2,), np.bool_)).tolist() == [False, True]
    assert fit_to_box(np.float32([-3, 300]), spaces.Box(0, 255, (2,), np.uint8)).tolist() == [0, 255]


@pytest.mark.parametrize(
    ("dtype", "given"),
    [
        (np.uint64, [2**64 - 1, 5]),
        (np.uint64, [2**63 + 1, 5.0]),
        (np.int64, [2**62 + 1, 5.0]),
        (np.int64, [-(2**63), 2**63 - 1]),
    ],
)
def test_whole_numbers_beyond_float64_are_read_from_lists_as_they_are(dtype, given):
    space = spaces.Box(np.iinfo(dtype).min, np.iinfo(dtype).max, (2,), dtype)
    assert LeafReader(space).read(given).tolist() == given
    with pytest.raises(SpaceMismatchError, match=r"is outside|fit into 64 bits"):
        LeafReader(space).read([2**64, 5])


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
        leaf = LeafReader(space)
        checked = leaf.read(value, "/here")
        assert checked.dtype == space.dtype
        assert checked.shape == space.shape
        assert leaf.beyond(checked) is not None or space.contains(checked)


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
        ([[[[[[1]]]]]], "nested too deep", "/0/0/0"),
        ("[0, 0]", r"got '\[0, 0\]'", ""),
    ],
)
def test_a_mistake_is_named_with_its_place(value, message, pointer):
    with pytest.raises(SpaceMismatchError, match=message) as caught:
        LeafReader(BOX).read(value, "/observation")
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
    ],
)
def test_other_spaces_refuse_what_is_not_theirs(space, value, message):
    with pytest.raises(SpaceMismatchError, match=message):
        LeafReader(space).read(value)


@pytest.mark.parametrize("leaf", [leaf for leaf in LEAVES if isinstance(leaf, spaces.Box)], ids=str)
@given(data=st.data())
def test_what_is_taken_quickly_is_what_a_closer_look_gives(leaf, data):
    value = data.draw(arrays.arrays(leaf.dtype, leaf.shape))
    reader = LeafReader(leaf)
    found = reader.quickly(value)
    if found is None:
        return
    read = reader.read(value)
    assert (found.dtype, found.shape, found.tobytes()) == (read.dtype, read.shape, read.tobytes())
    assert type(found) is np.ndarray
    assert not np.shares_memory(found, value)
    assert reader.beyond(read) is None


@pytest.mark.parametrize(
    "value",
    [
        np.array([np.nan, 0], np.float32),
        np.array([0, np.nan], np.float32),
        np.array([0, np.inf], np.float32),
        np.array([0, -np.inf], np.float32),
        np.array([4.9, 0], np.float32),
        np.array([0, 0], np.float64),
        np.array([[0, 0]], np.float32),
        [0, 0],
    ],
    ids=str,
)
def test_what_is_not_finite_beyond_bounds_or_in_another_form_is_looked_at_closely(value):
    assert LeafReader(BOX).quickly(value) is None
    assert LeafReader(BOX).quickly(np.array([4.8, -3e38], np.float32)) is not None


def test_whole_numbers_pass_in_either_writing():
    assert LeafReader(spaces.Discrete(3)).read(2.0) == 2
    assert LeafReader(spaces.MultiBinary(2)).read([True, False]).tolist() == [1, 0]
    assert LeafReader(BOX).read([1, 2]).dtype == np.float32


@pytest.mark.parametrize(
    ("value", "message", "pointer"),
    [
        ({"a/b": 0}, "'~c' is missing; expected", ""),
        ({"a/b": 0, "~c": [0, 1]}, "Expected a list of 1 values", "/~0c"),
        ({"a/b": 0, "~c": "0"}, "Expected a list of 1 values", "/~0c"),
        ({"a/b": 7, "~c": [0]}, "7 is outside", "/a~1b"),
        ({"a/b": 0, "~c": [7]}, "7 is outside", "/~0c/0"),
        ([0, 0], "Expected an object with", ""),
    ],
)
def test_objects_are_checked_name_by_name_with_escaped_pointers(value, message, pointer):
    space = spaces.Dict({"a/b": spaces.Discrete(2), "~c": spaces.Tuple([spaces.Discrete(2)])})
    with pytest.raises(SpaceMismatchError, match=message) as caught:
        SpaceReader(observation_layout(space), "observation").read(value, "/observation")
    assert caught.value.pointer == "/observation" + pointer


def test_the_result_is_a_new_array():
    given_value = np.zeros(2, dtype=np.float32)
    LeafReader(BOX).read(given_value)[0] = 1
    assert given_value[0] == 0


def test_a_box_of_truth_values_takes_them_as_the_environment_and_as_json_give_them():
    space = spaces.Box(0, 1, (3,), np.bool_)
    for value in (np.array([True, False, True]), [True, False, True], [1, 0, 1]):
        checked = LeafReader(space).read(value, "")
        assert checked.dtype == np.bool_
        assert checked.tolist() == [True, False, True]
