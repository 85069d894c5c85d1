"""The audit log over SQLAlchemy; entries of what is done are written by :meth:`~.engine.Database.writing`."""

import secrets
import time
from datetime import datetime
from typing import TYPE_CHECKING, Any

from sqlalchemy import Connection, Row, delete, insert, select, update

from service.domain.audit import AuditEntry, Change, Outcome
from service.domain.cursors import decode_cursor, encode_cursor, page_of
from service.domain.run import Page
from service.domain.use_cases import time_sortable
from service.store.tables import access_token, audit
from service.store.types import after_now, now

if TYPE_CHECKING:
    from service.store.engine import Database

DAY_S = 86_400.0
_ENTRIES = select(audit, access_token.c.name.label("token_name")).outerjoin(
    access_token, access_token.c.id == audit.c.token_id
)


def note(connection: Connection, change: Change, subject: str, outcome: Outcome = Outcome.DONE) -> str:
    """Write an entry; returns its id."""
    id_ = "audit_" + time_sortable(time.time_ns() // 1000, secrets.randbits(74))
    who = {name: getattr(change, name) for name in ("token_id", "project", "action", "request_id")}
    facts = {"id": id_, "subject": subject, "outcome": outcome.value}
    connection.execute(insert(audit).values(**who, **facts, at=now()))
    return id_


class SqlAuditStore:
    """:class:`~service.domain.ports.AuditStore` over SQLAlchemy; the port says what each method does."""

    def __init__(self, database: "Database") -> None:
        self._database = database

    def refuse(self, change: Change) -> None:
        """Note that it was refused."""
        with self._database.writing() as connection:
            note(connection, change, change.subject, Outcome.REFUSED)

    def rename(self, entry_id: str, subject: str) -> None:
        """Say what an entry is about, which was not known before."""
        with self._database.writing() as connection:
            connection.execute(update(audit).where(audit.c.id == entry_id).values(subject=subject))

    def list(
        self,
        *,
        since: datetime | None = None,
        action: str | None = None,
        subject: str | None = None,
        token: str | None = None,
        project: str | None = None,
        limit: int = 50,
        cursor: str | None = None,
    ) -> Page:
        """Entries, newest first."""
        query = _ENTRIES.order_by(audit.c.id.desc())
        for column, wanted in (("action", action), ("token_id", token), ("project", project)):
            if wanted is not None:
                query = query.where(audit.c[column] == wanted)
        if since is not None:
            query = query.where(audit.c.at >= since)
        if subject is not None:
            below = audit.c.subject.startswith(f"{subject.rstrip('/')}/", autoescape=True)
            query = query.where((audit.c.subject == subject) | below)
        if cursor is not None:
            query = query.where(audit.c.id < decode_cursor(cursor, "audit", str)[0])
        with self._database.reading() as connection:
            rows = connection.execute(query.limit(limit + 1)).all()
        return page_of(rows, limit, _entry, lambda row: encode_cursor("audit", row.id))

    def forget(self, days: float) -> None:
        """Delete entries of before so many days."""
        with self._database.writing() as connection:
            connection.execute(delete(audit).where(audit.c.at < after_now(-days * DAY_S)))


def _entry(row: Row[Any]) -> AuditEntry:
    return AuditEntry(**{**row._mapping, "outcome": Outcome(row.outcome)})
