"""Opaque cursors of keyset paging: the sort key of a page's last row, and the list it belongs to."""

import base64
import binascii
import json
from collections.abc import Callable, Sequence
from typing import Any

from service.domain.run import Page

BAD_CURSOR = "this cursor is not one of this list; start again without a cursor"


def encode_cursor(of: str, *key: str | int) -> str:
    """A cursor that points behind the row with this sort key, in the list called ``of``."""
    text = json.dumps([of, *key], separators=(",", ":"))
    return base64.urlsafe_b64encode(text.encode()).decode().rstrip("=")


def decode_cursor(cursor: str, of: str, *types: type) -> Sequence[Any]:
    """The sort key inside a cursor.

    Raises:
        ValueError: it was not made for this list.
    """
    try:
        padded = cursor.encode("ascii") + b"=" * (-len(cursor) % 4)
        name, *key = json.loads(base64.urlsafe_b64decode(padded))
    except (UnicodeError, binascii.Error, ValueError, TypeError, RecursionError):
        name, key = None, []
    if name != of or [type(part) for part in key] != list(types) or not all(map(_is_storable, key)):
        raise ValueError(BAD_CURSOR)
    return tuple(key)


def _is_storable(part: str | int) -> bool:
    """Whether a column could hold this part: a forged cursor must not become an error of the database."""
    if isinstance(part, int):
        return -(2**31) <= part < 2**31
    return not any(letter == "\0" or "\ud800" <= letter <= "\udfff" for letter in part)


def page_of(
    rows: Sequence[Any], limit: int, to_item: Callable[[Any], Any], cursor_of: Callable[[Any], str]
) -> Page:
    """A page of ``limit`` items out of ``limit + 1`` rows: the extra one says that another page follows."""
    shown = rows[:limit]
    more = len(rows) > limit
    return Page(data=[*map(to_item, shown)], next_cursor=cursor_of(shown[-1]) if more else None)
