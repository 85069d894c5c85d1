"""Text of strangers, made harmless for a terminal and for a log."""

import json
import re

_STEERS = re.compile(r"[\x00-\x1f\x7f-\x9f\u061c\u200e\u200f\u2028-\u202e\u2066-\u2069\ud800-\udfff]")
"""Control characters, line ends, what turns the direction of writing, and halves of characters."""


def plain(text: str) -> str:
    r"""Text in one line, with what steers a terminal shown as JSON writes it: ``\n``, ``\u001b``.

    In JSON nothing of it stands but within strings, whose meaning stays.
    """
    return _STEERS.sub(lambda found: json.dumps(found[0])[1:-1], text)
