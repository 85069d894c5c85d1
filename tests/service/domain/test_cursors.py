"""Cursors carry a sort key there and back, and nothing else gets through."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from service.domain.cursors import decode_cursor, encode_cursor


@given(st.text(st.characters(codec="utf-8", exclude_characters="\x00")), st.integers(0, 2**31 - 1))
def test_a_cursor_brings_its_key_back(name: str, number: int) -> None:
    assert decode_cursor(encode_cursor("list", name, number), "list", str, int) == (name, number)


@given(st.text())
def test_any_other_text_is_a_value_error(text: str) -> None:
    with pytest.raises(ValueError, match="not one of this list"):
        decode_cursor(text, "list", str, int)


def test_a_cursor_of_another_list_is_refused() -> None:
    with pytest.raises(ValueError, match="not one of this list"):
        decode_cursor(encode_cursor("episodes", 3), "checkpoints", int)


@pytest.mark.parametrize("key", [("a\x00", 1), ("\ud800", 1), ("a", 2**31), ("a", -(2**31) - 1)])
def test_a_key_that_no_column_can_hold_is_refused(key: tuple[str, int]) -> None:
    with pytest.raises(ValueError, match="not one of this list"):
        decode_cursor(encode_cursor("list", *key), "list", str, int)


def test_a_boolean_is_no_number() -> None:
    with pytest.raises(ValueError, match="not one of this list"):
        decode_cursor(encode_cursor("episodes", True), "episodes", int)
