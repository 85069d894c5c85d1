"""Comma strings as lists of values: ``"0.001,0.01"``, ``"[32],[64,64]"``, ``"ppo,a2c"``. No other grammar is read."""

from collections.abc import Iterator, Mapping
from typing import Any

import yaml

_WORDS: Mapping[str, Any] = {"null": None, "true": True, "false": False}


def split_values(text: str) -> list[Any]:
    """The values of a comma string; a quoted text keeps its commas."""
    return [_literal(part) for part in _parts(text)]


def _parts(text: str) -> Iterator[str]:
    """Split at commas outside of brackets and quotes."""
    level, quote, start = 0, "", 0
    for index, char in enumerate(text):
        if quote:
            quote = "" if char == quote else quote
        elif char in "'\"":
            quote = char
        elif char in "[{(":
            level += 1
        elif char in "]})":
            level -= 1
        elif char == "," and level == 0:
            yield text[start:index]
            start = index + 1
    yield text[start:]


def _literal(text: str) -> Any:
    """One value of a comma string: number, word, quoted text, list or dict; anything else is a text."""
    text = text.strip()
    for kind in (int, float):
        try:
            return kind(text)
        except ValueError:
            continue
    if text in _WORDS:
        return _WORDS[text]
    if text[:1] in ("[", "{", "'", '"'):
        try:
            return yaml.safe_load(text)
        except yaml.YAMLError:
            return text
    return text
