"""Differences of configurations: each once, by its path, and none where there is none."""

from hypothesis import given
from hypothesis import strategies as st

from maze_core.config import compose_run
from maze_core.config.difference import Difference, differences

VALUES = st.none() | st.booleans() | st.integers(-3, 3) | st.sampled_from(["a", "b", 0.5])
TREES = st.recursive(
    st.dictionaries(st.sampled_from("abc"), VALUES, max_size=3),
    lambda trees: st.dictionaries(st.sampled_from("abc"), VALUES | trees, max_size=3),
    max_leaves=8,
)


@given(TREES, TREES)
def test_there_is_none_exactly_where_the_trees_are_equal(left, right):
    assert (differences(left, right) == []) is (typed(left) == typed(right))


def typed(value):
    """A tree in which true is not 1."""
    if isinstance(value, dict):
        return {key: typed(child) for key, child in value.items()}
    return (isinstance(value, bool), value)


@given(TREES, TREES)
def test_the_other_way_round_added_is_removed(left, right):
    turned = {"added": "removed", "removed": "added", "changed": "changed"}
    there = {(one.key, turned[one.kind]) for one in differences(left, right)}
    assert there == {(one.key, one.kind) for one in differences(right, left)}


def test_values_are_compared_by_path_and_components_of_a_list_by_number():
    left, right = (
        {"a": [{"_target_": "x", "w": 1}], "b": [1, 2]},
        {"a": [{"_target_": "x", "w": 2}], "c": None},
    )
    assert differences(left, right) == [
        Difference(key="a.0.w", kind="changed", left=1, right=2),
        Difference(key="b", kind="removed", left=[1, 2]),
        Difference(key="c", kind="added"),
    ]


def test_another_algorithm_differs_in_its_name_and_in_what_only_one_has():
    found = {
        one.key: one
        for one in differences(compose_run(seed=1).tree, compose_run(algorithm="a2c", seed=1).tree)
    }
    assert found["algorithm._target_"].right == "maze_core.A2CAlgorithmConfig"
    assert found["algorithm.clip_range"].kind == "removed"
    assert "algorithm.gamma" not in found
