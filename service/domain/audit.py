"""Who changed what: one entry for each change, written in the transaction that makes it.

Whoever answers a request says so with :func:`changing`; every transaction that writes meanwhile notes what it is about
(:func:`about`), so that no change is without its entry, and no entry without its change. What is refused for want of a
scope is noted as well.
"""

from collections.abc import Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from dataclasses import dataclass, field
from datetime import datetime
from enum import StrEnum

from service.domain.sharing import DEFAULT_PROJECT


class Outcome(StrEnum):
    """What became of it."""

    DONE = "done"
    REFUSED = "refused"
    """For want of a scope."""


@dataclass(frozen=True, kw_only=True)
class AuditEntry:
    """One change, or an attempt at one."""

    id: str
    at: datetime
    token_id: str | None
    """None is the command line, and everybody where the service asks for no token."""
    token_name: str | None
    project: str
    action: str
    """The operation's name, such as ``cancel_run``; or the command."""
    subject: str
    """Path of what was changed, or made."""
    request_id: str | None
    outcome: Outcome


@dataclass(kw_only=True)
class Change:
    """What somebody is about to do."""

    action: str
    subject: str
    """What it is about unless more is said (:func:`about`)."""
    token_id: str | None = None
    project: str = DEFAULT_PROJECT
    request_id: str | None = None
    noted: dict[str, str] = field(default_factory=dict)
    """Subject → id of its entry, of transactions that are committed."""
    is_over: bool = False
    """What goes on after the answer is no part of it."""


_change: ContextVar[Change | None] = ContextVar("change", default=None)
_subject: ContextVar[str | None] = ContextVar("subject", default=None)


@contextmanager
def changing(change: Change) -> Iterator[None]:
    """Within, what is written belongs to this change."""
    token = _change.set(change)
    try:
        yield
    finally:
        _change.reset(token)
        change.is_over = True


@contextmanager
def about(subject: str) -> Iterator[None]:
    """Within, what is written is about this."""
    token = _subject.set(subject)
    try:
        yield
    finally:
        _subject.reset(token)


def current() -> tuple[Change, str] | None:
    """The change that is being made and what it is about; None where nobody makes one, or it is noted."""
    change = _change.get()
    if change is None or change.is_over:
        return None
    subject = _subject.get() or change.subject
    return None if subject in change.noted else (change, subject)
