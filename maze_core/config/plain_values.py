"""What a client sent, as plain values: JSON types, of bounded size, no reserved keys, no interpolations.

The walk keeps its own stack, so that deep nesting is an answer and not a crash, and ends early when there
is too much of it.
"""

import math
import re
from collections.abc import Mapping
from typing import Any

from maze_core.config.limits import Limits
from maze_core.config.nodes import TARGET, shown
from maze_core.errors import ProblemList

MOST_PROBLEMS = 64
"""Nobody reads more, and finding suggestions takes time."""
_LARGEST_INTEGER = 2**63 - 1
_KEY = re.compile(r"[A-Za-z0-9_][A-Za-z0-9_.-]*")
_RESERVED = frozenset({"defaults", "hydra"})
_PATH_LIKE = re.compile(r"(?:^|_)(?:dir|dirs|file|files|path|paths|searchpath|filename)$")


def check_plain(value: Any, limits: Limits, found: ProblemList) -> bool:
    """Whether the value is small enough to be looked at further; every problem is noted."""
    before = len(found.problems)
    stack: list[tuple[Any, str, int]] = [(value, "", 0)]
    seen = texts = 0
    while stack and len(found.problems) - before < MOST_PROBLEMS:
        current, path, depth = stack.pop()
        seen += 1
        texts += len(current) if isinstance(current, str) else 0
        if isinstance(current, (Mapping, list)):
            if depth >= limits.depth:
                found.add(path[:200], f"is nested deeper than {limits.depth} levels.", code="too_deep")
                return False
            if seen + len(stack) + len(current) > limits.values:
                found.add("", f"There are more than {limits.values} values.", code="too_large")
                return False
            if isinstance(current, Mapping):
                texts += sum(len(key) for key in current if isinstance(key, str))
            stack += [(child, where, depth + 1) for child, where in _children(current, path, limits, found)]
        else:
            _check_scalar(current, path, limits, found)
        if texts > limits.total_text:
            found.add("", f"All texts together exceed {limits.total_text} characters.", code="too_large")
            return False
    return not stack


def _children(value: Any, path: str, limits: Limits, found: ProblemList) -> list[tuple[Any, str]]:
    if isinstance(value, list):
        return [(child, f"{path}.{index}" if path else str(index)) for index, child in enumerate(value)]
    children = []
    for key, child in value.items():
        base = "" if path == "overrides" else path
        where = f"{base}.{key}" if base else str(key)
        if _check_key(key, where, limits, found):
            children.append((child, where))
    return children


def _check_key(key: Any, path: str, limits: Limits, found: ProblemList) -> bool:
    """Whether this is a key that may be used; a dotted key is checked part by part."""
    if not isinstance(key, str):
        found.add(path[:200], f"{shown(key)} is no text, as a key must be.", code="wrong_type")
    elif len(key) > limits.text:
        found.add(path[:200], f"A key is longer than {limits.text} characters.", code="too_large")
    elif "${" in key:
        found.add(path, "Interpolations are not evaluated here.", code="interpolation")
    elif not _KEY.fullmatch(key):
        found.add(path, f"{shown(key)} is not a key.", code="unknown_key")
    elif bad := next((part for part in key.split(".") if _is_reserved(part)), None):
        found.add(path, f"{shown(bad)} belongs to the operator.", code="reserved_key")
    else:
        return True
    return False


def _is_reserved(part: str) -> bool:
    hidden = part.startswith("_") and part != TARGET
    return hidden or part in _RESERVED or bool(_PATH_LIKE.search(part))


def _check_scalar(value: Any, path: str, limits: Limits, found: ProblemList) -> None:
    where = path[:200]
    if value is None or isinstance(value, bool):
        return
    if isinstance(value, str):
        _check_text(value, where, limits, found)
    elif isinstance(value, int):
        if abs(value) > _LARGEST_INTEGER:
            found.add(where, "A whole number has more than 64 bits.", code="out_of_range")
    elif isinstance(value, float):
        if not math.isfinite(value):
            found.add(where, f"{value} is not a finite number.", code="not_finite")
    else:
        found.add(where, f"A {type(value).__name__} is no JSON value.", code="wrong_type")


def _check_text(value: str, path: str, limits: Limits, found: ProblemList) -> None:
    if len(value) > limits.text:
        message = f"A text of {len(value)} characters is longer than {limits.text}."
        found.add(path, message, code="too_large")
    elif "${" in value:
        found.add(path, "Interpolations ('$' and '{') are not evaluated here.", code="interpolation")
    elif "\x00" in value or any("\ud800" <= char <= "\udfff" for char in value):
        found.add(path, f"{shown(value)} holds a character that is no text.", code="invalid_value")
