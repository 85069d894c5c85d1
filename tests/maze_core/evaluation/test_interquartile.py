"""The interquartile mean and its interval against arithmetic by hand, their bounds, and what they do not depend on."""

import math
from itertools import product

import pytest
from hypothesis import given
from hypothesis import strategies as st

from maze_core.evaluation.interquartile import interquartile_interval, interquartile_mean

finite = st.floats(-1e6, 1e6)
runs = st.lists(finite, min_size=2, max_size=12)


@pytest.mark.parametrize(
    ("values", "expected"),
    [
        ([7.0], 7.0),
        ([1.0, 2.0, 6.0], 3.0),  # a quarter of three is less than one: nothing is left out
        ([-100.0, 1.0, 3.0, 500.0], 2.0),
        ([9.0, 1.0, 2.0, 3.0, 100.0], 14.0 / 3),
        ([0.0, 0.0, 1.0, 2.0, 3.0, 4.0, 50.0, 60.0], 2.5),
    ],
)
def test_a_quarter_is_left_out_at_each_end(values, expected):
    assert interquartile_mean(values) == pytest.approx(expected)


def test_the_interval_of_two_runs_is_that_of_their_four_resamples():
    # (0, 0), (0, 1), (1, 0), (1, 1): a quarter of the means are 0 and a quarter are 1, both beyond 2.5 %
    assert interquartile_interval([[0.0, 1.0]]) == (0.0, 1.0)


def test_the_interval_of_four_runs_is_that_of_all_their_resamples():
    values = [0.0, 1.0, 10.0, 100.0]
    means = sorted(sum(sorted(drawn)[1:3]) / 2 for drawn in product(values, repeat=4))
    low, high = interquartile_interval([values])
    assert means.index(low) / 256 <= 0.025 <= (means.index(low) + means.count(low)) / 256
    assert means.index(high) / 256 <= 0.975 <= (means.index(high) + means.count(high)) / 256


def test_each_task_keeps_its_runs_in_a_resample():
    # drawn from all together, some resamples would hold four runs of one task; so every one holds two of each
    assert interquartile_interval([[0.0, 0.0], [8.0, 8.0]]) == (4.0, 4.0)


@given(st.lists(runs, min_size=1, max_size=3))
def test_the_ends_lie_among_the_values_and_in_order(strata):
    values = [value for stratum in strata for value in stratum]
    slack = 1e-9 * max(1.0, *map(abs, values))
    low, high = interquartile_interval(strata)
    assert min(values) - slack <= low <= high <= max(values) + slack
    assert min(values) - slack <= interquartile_mean(values) <= max(values) + slack


@given(st.lists(runs, min_size=1, max_size=3), st.randoms())
def test_the_order_of_runs_and_tasks_changes_nothing(strata, random):
    shuffled = [random.sample(stratum, len(stratum)) for stratum in random.sample(strata, len(strata))]
    assert interquartile_interval(shuffled) == interquartile_interval(strata)
    first = [value for stratum in strata for value in stratum]
    assert interquartile_mean(random.sample(first, len(first))) == interquartile_mean(first)


@given(runs, finite)
def test_what_is_added_to_every_run_is_added_to_both_ends(values, shift):
    moved = interquartile_interval([[value + shift for value in values]])
    assert moved == pytest.approx([end + shift for end in interquartile_interval([values])], abs=1e-5)


@pytest.mark.parametrize("strata", [[], [[]], [[1.0]], [[1.0], [2.0]], [[1.0, math.nan]], [[1.0, math.inf]]])
def test_one_run_of_a_task_or_no_number_has_no_interval(strata):
    assert interquartile_interval(strata) is None


@pytest.mark.parametrize("values", [[], [math.nan, 1.0], [math.inf, 0.0, 0.0, 0.0]])
def test_no_value_or_no_number_is_no_mean(values):
    assert math.isnan(interquartile_mean(values))


def test_numbers_too_large_to_be_summed_have_no_interval():
    assert interquartile_interval([[1.7e308, 1.7e308]]) is None
