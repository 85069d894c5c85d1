"""JSON at the border: strict on the way in, every number sayable on the way out.

In: RFC 8259 to the letter. ``NaN``, ``1e999``, lone surrogates, one key twice, integers beyond 64 bits, NUL
characters and nesting deeper than 32 are refused here, so that no layer below meets a value that another one
cannot store. Out: the numbers that JSON cannot say are the strings ``NaN``, ``Infinity`` and ``-Infinity``.
"""

import json
import re
from dataclasses import dataclass
from typing import Any

import msgspec

from service.problems import Problem, pointer_to

MAX_DEPTH = 32
_INT64 = 2**63
_TEXTS = re.compile(rb'"([^"\\]*(?:\\.[^"\\]*)*)"(\s*:)?', re.DOTALL)


@dataclass(frozen=True)
class UnusableValue:
    """A value that is JSON, but that nothing below could store or compare."""

    pointer: str
    message: str


def decode_json(data: bytes) -> Any:
    """Plain Python from JSON text.

    Raises:
        Problem: 400, not JSON as RFC 8259 defines it, or nested beyond the parser's own limit.
    """
    try:
        value = msgspec.json.decode(data)
        refuse_doubled_keys(data)
    except (ValueError, RecursionError) as error:
        raise malformed_json(error) from None
    return value


def refuse_doubled_keys(data: bytes) -> None:
    """Raise ``malformed_json`` for JSON text in which an object has one key twice.

    msgspec lets the last of two equal keys win in silence, and a request must not say two things. Python's own
    parser sees them all, but takes thirty times as long: it is asked only where some key is written twice.
    """
    if data.count(b":") < 2:
        return
    keys = [text for text, colon in _TEXTS.findall(data) if colon]
    if b"\\" in data or len(set(keys)) < len(keys):
        json.loads(data, object_pairs_hook=_with_unique_keys)


def _with_unique_keys(members: list[tuple[str, Any]]) -> None:
    if len(members) > 1 and len({key for key, _ in members}) < len(members):
        raise Problem("malformed_json", "The body is not usable JSON: an object has the same key twice.")


def malformed_json(error: ValueError | RecursionError) -> Problem:
    """The 400 for what a parser found: the kind of fault and its place, never what stood there."""
    if isinstance(error, RecursionError):
        return Problem("malformed_json", "The body is not usable JSON: it is nested too deeply.")
    if isinstance(error, UnicodeDecodeError):
        return Problem("malformed_json", "The body is not valid JSON: its texts are not UTF-8.")
    text = str(error).removeprefix("JSON is malformed: ").rstrip(".")
    reason = text[:1].lower() + text[1:] if text.isascii() and len(text) < 120 else "it cannot be read"
    hint = " NaN and Infinity are not JSON." if "invalid character" in reason else ""
    return Problem("malformed_json", f"The body is not valid JSON: {reason}.{hint}")


def find_unusable(value: Any, depth: int = 0) -> UnusableValue | None:
    """The first value that is nested too deeply, too large an integer, or a text with a NUL character."""
    if isinstance(value, str):
        return UnusableValue("", "Texts cannot hold the NUL character.") if "\x00" in value else None
    if isinstance(value, int):
        return None if -_INT64 <= value < _INT64 else UnusableValue("", "Integers must fit into 64 bits.")
    if not isinstance(value, dict | list):
        return None
    if depth == MAX_DEPTH:
        return UnusableValue("", f"Values can be nested {MAX_DEPTH} deep at most.")
    for key, member in value.items() if isinstance(value, dict) else enumerate(value):
        if isinstance(key, str) and "\x00" in key:
            return UnusableValue("", "Keys cannot hold the NUL character.")
        # floats are most of a large body and always fine
        if type(member) is not float and (found := find_unusable(member, depth + 1)):
            return UnusableValue(pointer_to(key) + found.pointer, found.message)
    return None
