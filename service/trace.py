"""W3C trace context (https://www.w3.org/TR/trace-context/), as the service passes it on.

A valid ``traceparent`` is kept with the run that the request submits and given back in answers, problems, logs and
webhooks, with its ``tracestate``. The service records no spans of its own, so it makes none up where a request brings
none, and changes none.
"""

import re
from collections.abc import Mapping
from typing import NamedTuple

_TRACEPARENT = re.compile(
    rb"(?:00-(?!0{32})[0-9a-f]{32}-(?!0{16})[0-9a-f]{16}-[0-9a-f]{2}"
    rb"|(?!00|ff)[0-9a-f]{2}-(?!0{32})[0-9a-f]{32}-(?!0{16})[0-9a-f]{16}-[0-9a-f]{2}(?:-[!-~]{0,180})?)"
)
"""Version, trace, parent and flags; of later versions than 00 more may follow."""
_MEMBER = re.compile(
    r"(?:[a-z][a-z0-9_*/-]{0,255}|[a-z0-9][a-z0-9_*/-]{0,240}@[a-z][a-z0-9_*/-]{0,13})"
    r"=[ -+\--<>-~]{0,255}[!-+\--<>-~]"
)
MOST_MEMBERS = 32
MOST_CHARACTERS = 512
"""Which have to be passed on; of what is longer the long members go first, then the last."""
LONG_MEMBER = 128


class Trace(NamedTuple):
    """The trace that a request belongs to."""

    traceparent: str
    tracestate: str | None


def trace_of(headers: Mapping[bytes, bytes]) -> Trace | None:
    """The trace that these headers name; None without a valid ``traceparent``, whose ``tracestate`` counts for nothing.

    Args:
        headers: by lower-case name; several lines of one name joined by commas.
    """
    given = headers.get(b"traceparent")
    if given is None or not _TRACEPARENT.fullmatch(given):
        return None
    return Trace(given.decode(), _state(headers.get(b"tracestate", b"").decode("latin-1")))


def _state(text: str) -> str | None:
    members = [member.strip(" \t") for member in text.split(",")]
    members = [member for member in members if member]
    keys = [member.partition("=")[0] for member in members]
    if len(members) > MOST_MEMBERS or len({*keys}) < len(keys) or not all(map(_MEMBER.fullmatch, members)):
        return None
    if len(",".join(members)) > MOST_CHARACTERS:
        members = [member for member in members if len(member) <= LONG_MEMBER]
    while len(",".join(members)) > MOST_CHARACTERS:
        members.pop()
    return ",".join(members) or None
