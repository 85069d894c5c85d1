"""One key twice is found exactly where Python's own parser finds it, whatever else the text holds."""

import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from service.json_values import refuse_doubled_keys
from service.problems import Problem

KEYS = st.sampled_from(["a", "b", 'a"', "a:", '":', "\\", "a\\", "é", "\n"])
LEAVES = st.none() | st.integers(-3, 3) | KEYS


class Pairs(list):  # type: ignore[type-arg]
    """An object as its members, in which a key may come twice."""


VALUES = st.recursive(
    LEAVES,
    lambda inner: st.lists(inner, max_size=3) | st.lists(st.tuples(KEYS, inner), max_size=3).map(Pairs),
    max_leaves=12,
)


def text_of(value: Any, escape: bool) -> str:
    if isinstance(value, Pairs):
        members = (
            f"{json.dumps(key, ensure_ascii=escape)} : {text_of(member, escape)}" for key, member in value
        )
        return "{" + ",".join(members) + "}"
    if isinstance(value, list):
        return "[" + ",".join(text_of(member, escape) for member in value) + "]"
    return json.dumps(value, ensure_ascii=escape)


def says_one_thing_twice(value: Any) -> bool:
    if isinstance(value, Pairs):
        keys = [key for key, _ in value]
        return len(set(keys)) < len(keys) or any(says_one_thing_twice(member) for _, member in value)
    return isinstance(value, list) and any(map(says_one_thing_twice, value))


@given(VALUES, st.booleans())
def test_a_doubled_key_is_refused_and_nothing_else_is(value: Any, escape: bool) -> None:
    text = text_of(value, escape).encode()
    if not says_one_thing_twice(value):
        refuse_doubled_keys(text)
        return
    with pytest.raises(Problem, match="same key twice"):
        refuse_doubled_keys(text)
