"""Which trials are given up: rules over learning curves, the same whoever asks."""

import math

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from maze_core.config.multirun import OptunaSearchConfig, ParameterConfig
from maze_core.runners.pruning import pruned_at

SPACE = {"a": ParameterConfig(low=0.0, high=1.0)}


def asked(pruner, number, curves, min_epochs=1):
    config = OptunaSearchConfig(space=SPACE, pruner=pruner, min_epochs=min_epochs)
    return pruned_at(config, number, {at: dict(enumerate(curve, start=1)) for at, curve in enumerate(curves)})


FOUR = [[1, 5, 9], [2, 6, 9], [3, 7, 9], [4, 8, 9]]  # medians of the best so far: 2.5, 6.5, 9


@pytest.mark.parametrize(
    ("own", "least", "at"),
    [
        ([2], 1, 1),
        ([2.5], 1, None),
        ([3, 3], 1, 2),
        ([7, 0, 0], 1, 3),  # its best so far counts
        ([0, 9, 9], 2, None),  # nobody looks before the second epoch
        ([0, 6, 9], 2, 2),
        ([float("nan")], 1, 1),
        ([9, 9, 9, 0], 1, None),  # nobody has come as far
    ],
)
def test_the_median_gives_up_what_is_worse_than_half_of_the_others_had_reached_by_then(own, least, at):
    assert asked("median", 4, [*FOUR, own], least) == at


def test_what_is_no_number_in_the_curves_of_others_counts_nowhere_in_them():
    for place in range(4):
        curves = [[2.0, 6.0] for _ in range(4)]
        curves[place].insert(0, float("nan"))
        assert asked("median", 4, [*curves, [1.0, 5.0]], 2) == 2
        assert asked("median", 4, [*curves, [7.0, 7.0]], 2) is None


VALUES = st.sampled_from([float("nan"), -1.0, 0.0, 1.0, 2.0])


@given(
    curves=st.lists(st.lists(VALUES, max_size=4), min_size=5, max_size=8),
    pruner=st.sampled_from(["median", "successive_halving", "hyperband"]),
)
@example(curves=[[float("nan"), 1], *[[0, 1]] * 4, [0.5, 9]], pruner="median")
def test_what_is_no_number_is_worse_than_every_number(curves, pruner):
    worst = [[-math.inf if math.isnan(value) else value for value in curve] for curve in curves]
    for number in range(len(curves)):
        assert asked(pruner, number, curves) == asked(pruner, number, worst)


def test_a_median_needs_some_others():
    assert asked("median", 3, [*FOUR[:3], [-99]]) is None


@pytest.mark.parametrize(
    ("own", "at"),
    [
        ([1], None),  # at the first rung: one of five is among the best third, if nobody is better
        ([0], 1),
        ([1, 0, 5], None),  # nobody looks at the second epoch
        ([1, 9, 4], 3),
        ([float("nan")], 1),
        ([], None),
    ],
)
def test_successive_halving_gives_up_what_is_not_among_the_best_third_at_a_rung(own, at):
    others = [[1, 1, 5], [0, 1], [0.5], [0.2]]
    assert asked("successive_halving", 4, [*others, own]) == at


def test_of_many_a_third_goes_on():
    curves = [[value] for value in range(9)]
    assert [asked("successive_halving", number, curves) for number in range(9)] == [1] * 6 + [None] * 3


def test_hyperband_compares_within_a_bracket_which_begins_later_for_two_of_three():
    curves = [[9] * 3, [9] * 3, [9] * 9]
    assert asked("hyperband", 3, [*curves, [0, 0, 0]]) == 1
    assert asked("hyperband", 4, [*curves, [], [0, 0, 0]]) == 3
    assert asked("hyperband", 5, [*curves, [], [], [0] * 9]) == 9
    assert asked("hyperband", 5, [[9] * 9, [9] * 9, [0] * 9, [], [], [0] * 9]) is None


def test_without_a_pruner_nothing_is_given_up():
    assert asked("none", 4, [*FOUR, [-99, -99]]) is None
