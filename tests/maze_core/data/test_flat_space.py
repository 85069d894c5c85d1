"""Spaces taken apart into named leaves, and put together again."""

import numpy as np
import pytest
from gymnasium import spaces
from hypothesis import given
from hypothesis import strategies as st

from maze_core.data.flat_space import SpaceReader, action_layout, observation_layout, put_together
from maze_core.errors import EnvError
from maze_core.notices import MazeWarning, Notices

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
    leaves = SpaceReader(layout, "action").read(value)
    assert all(layout[name].contains(leaf if leaf.shape else leaf[()]) for name, leaf in leaves.items())
    assert_same(put_together(layout.form, leaves), value)


def test_a_plain_space_is_one_leaf_of_the_usual_name():
    assert list(observation_layout(spaces.Box(0, 1, (2,)))) == ["observation"]
    assert list(action_layout(spaces.Discrete(2))) == ["action"]
    assert observation_layout(spaces.Discrete(2)).is_bare
    assert not observation_layout(spaces.Dict(a=spaces.Discrete(2))).is_bare


def test_nested_names_are_joined_with_a_dot_and_tuples_numbered():
    space = spaces.Dict(
        arm=spaces.Dict(angle=spaces.Discrete(2), joints=spaces.Tuple([spaces.Discrete(3)] * 2))
    )
    assert set(observation_layout(space)) == {"arm.angle", "arm.joints_0", "arm.joints_1"}
    assert set(action_layout(spaces.Tuple([spaces.Discrete(2)] * 2))) == {"action_0", "action_1"}


def test_leaves_keep_their_dtype():
    box = spaces.Box(-1e300, 1e7, (2,), np.float64)
    for layout in (observation_layout, action_layout):
        ((name, leaf),) = layout(box).items()
        assert (leaf.dtype, leaf.low[0]) == (np.float64, -1e300)
        assert SpaceReader(layout(box), "observation").read([5e6 + 0.1, 0])[name][0] == 5e6 + 0.1


@pytest.mark.parametrize(
    ("space", "message"),
    [
        (
            spaces.Dict(g=spaces.Graph(spaces.Discrete(2), None)),
            r"Graph space at g, which is not .* Boxes of a fixed",
        ),
        (
            spaces.Sequence(spaces.Discrete(2)),
            r"Sequence space at its root.* Supported: Box.* greatest length",
        ),
        (spaces.Tuple([spaces.OneOf([spaces.Discrete(2)])]), r"OneOf space at observation_0.* says which"),
        (spaces.Text(5), r"Text space at its root.* turn it into a Discrete"),
        (spaces.Dict(a=spaces.Box(0, 1, (0,))), r"'a' is Box.*holds no number"),
        (spaces.Box(0, 1, (2,), np.longdouble), "'observation' is Box.*no checkpoint holds: use float64"),
        (spaces.Dict(a=spaces.Dict({})), "has no leaf that a policy could use"),
        (
            spaces.Dict([((1, 2), spaces.Discrete(2))]),
            r"has the key \(1, 2\); keys are texts or whole numbers",
        ),
    ],
)
def test_a_space_that_no_policy_can_see_is_refused_with_the_way_out(space, message):
    with pytest.raises(EnvError, match=message):
        observation_layout(space)


class Mission(spaces.Space[str]):
    """A space of texts that is no Text, as in MiniGrid."""

    def __init__(self):
        super().__init__(dtype=str)


@pytest.mark.parametrize("text", [spaces.Text(5), Mission()])
def test_texts_are_left_out_of_an_observation_and_said_once(text):
    space = spaces.Dict(image=spaces.Box(0, 255, (2,), np.uint8), mission=text)
    notices = Notices()
    with notices.active(), pytest.warns(MazeWarning, match="'mission' is a text.* left out") as caught:
        layouts = [observation_layout(space) for _ in range(3)]
    assert len(caught) == 1
    assert list(layouts[0]) == ["image"]
    read = SpaceReader(layouts[0], "observation").read({"image": [1, 2], "mission": "go"})
    assert read["image"].tolist() == [1, 2]
    with pytest.raises(EnvError, match="action space holds a"):
        action_layout(space)


def test_leaves_stand_in_the_order_of_the_space():
    parts = [spaces.Discrete(2)] * 12
    names = [f"observation_{i}" for i in range(12)]
    assert list(observation_layout(spaces.Tuple(parts))) == names
    assert list(observation_layout(spaces.Dict([("temp", parts[0]), ("mode", parts[0])]))) == ["temp", "mode"]


def test_two_leaves_of_one_name_are_refused():
    space = spaces.Dict({"a.b": spaces.Discrete(2), "a": spaces.Dict(b=spaces.Discrete(2))})
    with pytest.raises(EnvError, match=r"two leaves named 'a\.b'"):
        observation_layout(space)
