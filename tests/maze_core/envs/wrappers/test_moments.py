"""Moments: differences of large whole numbers by hand, and numbers that change after they were added."""

import numpy as np
import pytest

from maze_core.envs.wrappers.moments import Moments, difference, far_reference

LEAST, LARGEST = np.iinfo(np.int64).min, np.iinfo(np.int64).max


@pytest.mark.parametrize(
    ("dtype", "reference", "rows", "expected"),
    [
        (np.int64, 2**60, [2**60 + 3, 2**60, 2**60 - 5], [3.0, 0.0, -5.0]),
        (np.int64, LEAST, [LEAST + 7, LARGEST], [7.0, 2.0**64]),
        (np.int64, LARGEST, [LARGEST - 1, LEAST], [-1.0, -(2.0**64)]),
        (np.uint64, 2**64 - 5, [2**64 - 1, 2**64 - 9, 0], [4.0, -4.0, -(2.0**64)]),
    ],
)
def test_differences_are_those_of_whole_numbers_beyond_float64(dtype, reference, rows, expected):
    found = difference(np.array(rows, dtype), np.array(reference, dtype))
    assert found.dtype == np.float64
    assert found.tolist() == expected


@pytest.mark.parametrize(
    ("dtype", "rows", "is_far"),
    [
        (np.int64, [2**53, -(2**53)], False),
        (np.int64, [0, 2**53 + 1], True),
        (np.int64, [0, -(2**53) - 1], True),
        (np.uint64, [2**53], False),
        (np.uint64, [2**53 + 1], True),
        (np.float64, [2.0**60], False),
    ],
)
def test_a_reference_is_taken_where_float64_cannot_hold_a_number_and_nowhere_else(dtype, rows, is_far):
    found = far_reference(np.array(rows, dtype)[:, None])
    assert (found is not None) == is_far
    if is_far:
        assert found.tolist() == [rows[0]]


def test_numbers_that_change_after_they_were_added_change_no_moment():
    moments, values = Moments(), np.array([1.0, 2.0])
    moments.add(values)
    values[:] = 100.0
    assert dict(moments.items())["max"] == 2.0
