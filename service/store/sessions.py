"""The session store over SQLAlchemy."""

from collections.abc import Mapping, Sequence
from dataclasses import asdict

from sqlalchemy import delete, insert, select, update

from service.domain.errors import NotFoundError
from service.domain.sessions import KEPT_S, EndedSession, NewSession, SessionEnd, TakenOver
from service.store.engine import Database
from service.store.tables import checkpoint, session
from service.store.types import after_now, now

_is_open = session.c.ended_at.is_(None)
open_checkpoints = select(session.c.checkpoint_id).where(_is_open)
"""Those that open sessions act with."""


class SqlSessionStore:
    """:class:`~service.domain.ports.SessionStore` over SQLAlchemy; the port says what each method does."""

    def __init__(self, database: Database) -> None:
        self._database = database

    def add(self, new: NewSession) -> None:
        """Store one that begins."""
        there = select(checkpoint.c.id).where(checkpoint.c.id == new.checkpoint_id).with_for_update(read=True)
        with self._database.writing() as connection:
            if connection.execute(there).first() is None:
                raise NotFoundError(f"there is no checkpoint {new.checkpoint_id}")
            connection.execute(insert(session).values(**asdict(new), created_at=now()))

    def repin(self, session_id: str, checkpoint_id: str) -> None:
        """Act with another checkpoint."""
        moved = update(session).where(session.c.id == session_id, _is_open)
        with self._database.writing() as connection:
            connection.execute(moved.values(checkpoint_id=checkpoint_id))

    def end(self, ended: Sequence[EndedSession]) -> None:
        """Write down how sessions ended."""
        with self._database.writing() as connection:
            for one in ended:
                facts = {
                    "reason": one.reason.value,
                    "last_seq": one.last_seq,
                    "ended_at": now(),
                    "snapshot": None,
                }
                connection.execute(update(session).where(session.c.id == one.id, _is_open).values(**facts))
            connection.execute(delete(session).where(session.c.ended_at < after_now(-KEPT_S)))

    def ended(self, session_id: str) -> EndedSession:
        """How one ended."""
        with self._database.reading() as connection:
            row = connection.execute(select(session).where(session.c.id == session_id)).one_or_none()
        if row is None:
            raise NotFoundError(f"there is no session {session_id}, or it ended long ago")
        reason = SessionEnd.RESTARTED if row.reason is None else SessionEnd(row.reason)
        return EndedSession(
            id=row.id, project=row.project, reason=reason, last_seq=row.last_seq, ended_at=row.ended_at
        )

    def suspend(self, snapshots: Mapping[str, bytes]) -> None:
        """Write down sessions that go on later."""
        with self._database.writing() as connection:
            for session_id, snapshot in snapshots.items():
                kept = update(session).where(session.c.id == session_id, _is_open)
                connection.execute(kept.values(snapshot=snapshot))

    def take_over(self) -> TakenOver:
        """Go on with those that were written down, and end all others."""
        with self._database.writing() as connection:
            rows = connection.execute(select(session).where(_is_open).with_for_update()).all()
            lost = [row.id for row in rows if row.snapshot is None]
            ends = {"reason": SessionEnd.RESTARTED.value, "ended_at": now()}
            connection.execute(update(session).where(session.c.id.in_(lost)).values(**ends))
            connection.execute(update(session).where(_is_open).values(snapshot=None))
        return TakenOver(
            snapshots={row.id: (row.snapshot, row.run_id) for row in rows if row.snapshot is not None},
            lost_runs=[row.run_id for row in rows if row.snapshot is None and row.run_id is not None],
        )
