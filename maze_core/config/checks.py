"""Checks of plain arguments: numbers and truth values, Python's or NumPy's, and nothing that only looks like one."""

import operator
from typing import Any

import numpy as np

from maze_core.config.nodes import shown
from maze_core.errors import InvalidSpecificationError, Problem


def whole_number(value: Any, name: str, *, least: int = 1) -> int:
    """``value`` as an int ≥ ``least``.

    Raises:
        InvalidSpecificationError: it is none; the problem's path is ``name``.
    """
    is_truth = isinstance(value, bool | np.bool_)
    number = None if is_truth or not hasattr(value, "__index__") else operator.index(value)
    if number is None or number < least:
        message = f"{shown(value)} is not a whole number of at least {least}."
        raise InvalidSpecificationError([Problem(path=name, message=message, code="out_of_range")])
    return number


def truth(value: Any, name: str) -> bool:
    """``value`` as a bool.

    Raises:
        InvalidSpecificationError: it is neither True nor False; the problem's path is ``name``.
    """
    if not isinstance(value, bool | np.bool_):
        message = f"takes True or False, not {shown(value)}."
        raise InvalidSpecificationError([Problem(path=name, message=message, code="wrong_type")])
    return bool(value)
