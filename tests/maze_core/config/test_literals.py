"""Expressions of Python's in files: what is read, and that nothing is run."""

import pytest

from maze_core.config.literals import python_value


@pytest.mark.parametrize(
    ("text", "value"),
    [
        ("dict(a=-1.5, b=[64, (1, 2)])", {"a": -1.5, "b": [64, [1, 2]]}),
        ("{'a': True, 'b': None, 'c': 'x'}", {"a": True, "b": None, "c": "x"}),
        ("  dict(non_lin=th.nn.ReLU,\n   cls=Adam)", {"non_lin": "ReLU", "cls": "Adam"}),
        (3, 3),
        ({"a": 1}, {"a": 1}),
    ],
)
def test_values_are_read(text, value):
    assert python_value(text) == value


@pytest.mark.parametrize(
    "text",
    [
        "dict(", "print(1)", "dict([1])", "dict(**x)", "{**x}", "1 + 1", "-x", "-'a'", "[x for x in y]", "a.b()",
        "list(a=1)", "lambda: 1", "f'{x}'", "", "x = 1", "-" * 100_000 + "1",
    ],
)  # fmt: skip
def test_what_is_more_than_a_value_is_refused(text):
    with pytest.raises(ValueError, match=r"is more than a value|no expression of Python's"):
        python_value(text)
