"""A run's row, locked until the transaction ends: every change of a run goes through here.

Changes and events are collected and written once, by an UPDATE that still demands the state, and for a worker
the lease, that the row was locked with. So a stale worker writes nothing, a terminal row never changes, and
events are numbered without gaps.
"""

from collections.abc import Mapping
from typing import Any, Self

from sqlalchemy import ColumnElement, Connection, Row, and_, insert, select, update

from service.domain.errors import NotFoundError, StaleLeaseError
from service.domain.run import EventType, Lease, Run, RunState
from service.domain.use_cases import LEASED_STATES, require_legal
from service.store.run_rows import runs_of
from service.store.tables import run, run_event
from service.store.types import now


def holds(lease: Lease) -> ColumnElement[bool]:
    """The fence: true for the row of a run that this lease may still write."""
    return and_(
        run.c.id == lease.run_id,
        run.c.worker == lease.worker,
        run.c.epoch_token == lease.epoch_token,
        run.c.state.in_(LEASED_STATES),
    )


def stale(lease: Lease) -> StaleLeaseError:
    """The error of a worker whose lease is no longer the run's."""
    return StaleLeaseError(
        f"worker {lease.worker} no longer holds run {lease.run_id} (lease {lease.epoch_token}): "
        "it was taken over, given back or ended; stop working on it",
        run_id=lease.run_id,
    )


class LockedRun:
    """Changes and events of one run, of which :meth:`write` makes one UPDATE and one INSERT."""

    def __init__(self, connection: Connection, row: Row[Any]) -> None:
        self.row = row
        self._connection = connection
        self._changes: dict[str, Any] = {}
        self._events: list[tuple[EventType, Mapping[str, Any]]] = []

    @classmethod
    def by_id(cls, connection: Connection, run_id: str) -> Self:
        """Lock a run; raises :class:`NotFoundError`."""
        row = connection.execute(select(run).where(run.c.id == run_id).with_for_update()).one_or_none()
        if row is None:
            raise NotFoundError(f"there is no run {run_id}", run_id=run_id)
        return cls(connection, row)

    @classmethod
    def by_lease(cls, connection: Connection, lease: Lease) -> Self:
        """Lock the run that a worker holds; raises :class:`StaleLeaseError`."""
        row = connection.execute(select(run).where(holds(lease)).with_for_update()).one_or_none()
        if row is None:
            raise stale(lease)
        return cls(connection, row)

    @property
    def state(self) -> RunState:
        """The state, with the changes so far."""
        return RunState(self._changes.get("state", self.row.state))

    def change(self, **columns: Any) -> None:
        """Set columns when writing."""
        self._changes.update(columns)

    def event(self, type_: EventType, data: Mapping[str, Any]) -> None:
        """Append an event when writing."""
        self._events.append((type_, data))

    def move(self, state: RunState, *, reason: str | None) -> None:
        """Go to another state, with its ``state`` event and, at an end, ``finished_at`` and ``end``.

        Raises:
            StateConflictError: the state diagram has no such arrow.
        """
        previous = self.state
        require_legal(self.row.id, previous, state)
        self.change(state=state.value, reason=reason)
        attempt = self._changes.get("attempt", self.row.attempt)
        facts = {"state": state.value, "from": previous.value, "reason": reason, "attempt": attempt}
        self.event(EventType.STATE, facts)
        if state in LEASED_STATES:
            return
        self.change(phase=None, lease_until=None)
        if state.is_terminal:
            self.change(finished_at=now())
            ends = {name: self._changes.get(name) for name in ("result", "error")}
            self.event(EventType.END, {"state": state.value, "reason": reason, **ends})
        else:
            self.change(worker=None)

    def write(self) -> Run:
        """Write what was collected; returns the run as it is now."""
        row = self.row
        unchanged = and_(run.c.id == row.id, run.c.state == row.state, run.c.epoch_token == row.epoch_token)
        values = {**self._changes, "last_seq": row.last_seq + len(self._events)}
        written = self._connection.execute(
            update(run).where(unchanged).values(values).returning(run)
        ).one_or_none()
        if written is None:
            raise StaleLeaseError(f"run {row.id} changed while it was locked", run_id=row.id)
        if self._events:
            append_events(self._connection, row.id, row.last_seq, self._events)
        return runs_of(self._connection, [written])[0]


def append_events(
    connection: Connection, run_id: str, last_seq: int, events: list[tuple[EventType, Mapping[str, Any]]]
) -> None:
    """Number events on from ``last_seq`` and insert them; the caller has the run's row locked."""
    rows = [
        {"run_id": run_id, "seq": seq, "type": type_.value, "data": dict(data)}
        for seq, (type_, data) in enumerate(events, start=last_seq + 1)
    ]
    connection.execute(insert(run_event).values(at=now()), rows)
