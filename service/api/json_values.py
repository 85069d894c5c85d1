"""JSON at the border: strict on the way in, every number sayable on the way out.

In: RFC 8259 to the letter. ``NaN``, ``1e999``, lone surrogates, integers beyond 64 bits, NUL characters and
nesting deeper than 32 are refused here, so that no layer below meets a value that another one cannot store.
Out: the numbers that JSON cannot say are the strings ``NaN``, ``Infinity`` and ``-Infinity``.
"""

import json
import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import msgspec

MAX_DEPTH = 32
_INT64 = 2**63


class MalformedJSONError(ValueError):
    """The bytes are not JSON; the message says where, and never what stood there."""


@dataclass(frozen=True)
class UnusableValue:
    """A value that is JSON, but that nothing below could store or compare."""

    pointer: str
    message: str


def decode_json(data: bytes) -> Any:
    """Plain Python from JSON text.

    Raises:
        MalformedJSONError: not JSON as RFC 8259 defines it, or nested beyond the parser's own limit.
    """
    try:
        value = msgspec.json.decode(data)
        # msgspec lets the last of two equal keys win in silence; a specification must not say two things
        json.loads(data, object_pairs_hook=_with_unique_keys)
        return value
    except MalformedJSONError:
        raise
    except (msgspec.DecodeError, ValueError) as error:
        raise MalformedJSONError(f"The body is not valid JSON: {_reason(error)}.") from None
    except RecursionError:
        raise MalformedJSONError("The body is not usable JSON: it is nested too deeply.") from None


def _with_unique_keys(members: list[tuple[str, Any]]) -> None:
    if len(members) > 1 and len({key for key, _ in members}) < len(members):
        raise MalformedJSONError("The body is not usable JSON: an object has the same key twice.")


def _reason(error: Exception) -> str:
    """What the parser says; its texts name kinds and byte positions, never values."""
    text = str(error).removeprefix("JSON is malformed: ").rstrip(".")
    return text[:1].lower() + text[1:] if text.isascii() and len(text) < 120 else "it cannot be read"


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
            return UnusableValue(f"/{escape(key)}{found.pointer}", found.message)
    return None


def escape(key: object) -> str:
    """One reference token of a JSON pointer (RFC 6901)."""
    return str(key).replace("~", "~0").replace("/", "~1")


def pointer_to(*keys: object) -> str:
    """JSON pointer from its reference tokens; no token is the whole document."""
    return "".join(f"/{escape(key)}" for key in keys)


def sayable(value: Any) -> Any:
    """The same value with mappings as dicts, sequences as lists and non-finite numbers as strings."""
    if isinstance(value, float) and not math.isfinite(value):
        return "NaN" if math.isnan(value) else "Infinity" if value > 0 else "-Infinity"
    if isinstance(value, Mapping):
        return {str(key): sayable(member) for key, member in value.items()}
    if isinstance(value, list | tuple):
        return [sayable(member) for member in value]
    return value
