"""The run store over SQLAlchemy: each method is one transaction; the work is in the modules beside it."""

from collections.abc import Mapping, Sequence
from datetime import UTC, datetime
from typing import Any

from sqlalchemy import ColumnElement, Connection, Row, func, insert, literal, select, tuple_

from service.domain.errors import IdempotencyConflictError, NotFoundError, StateConflictError
from service.domain.run import (
    Event,
    EventType,
    Lease,
    LogLine,
    MetricPoint,
    NewRun,
    Page,
    Progress,
    Run,
    RunKind,
    RunState,
    RunStatistics,
)
from service.store import leases, run_log
from service.store.change_marker import ChangeMarker
from service.store.cursors import BAD_CURSOR, decode_cursor, encode_cursor, page_of
from service.store.engine import Database
from service.store.locked_run import LockedRun
from service.store.run_rows import row_values, runs_of
from service.store.tables import checkpoint, idempotency_key, run, run_label
from service.store.types import UtcDateTime, now, seconds_since


class SqlRunStore:
    """:class:`~service.domain.ports.RunStore` over SQLAlchemy; the port says what each method does."""

    def __init__(self, database: Database) -> None:
        self._database = database
        self._marker = ChangeMarker(database)

    def create(self, new: NewRun, idempotency: tuple[str, str] | None = None) -> tuple[Run, bool]:
        """Store a queued run, once per idempotency key."""
        with self._database.writing() as connection:
            if idempotency is not None:
                made = _made_before(connection, new.id, *idempotency)
                if made is not None:
                    return made, False
            return _insert_run(connection, new), True

    def get(self, run_id: str) -> Run:
        """The run."""
        with self._database.reading() as connection:
            return _get(connection, run_id)

    def list(
        self,
        *,
        state: RunState | None = None,
        kind: RunKind | None = None,
        labels: Mapping[str, str] | None = None,
        limit: int = 50,
        cursor: str | None = None,
    ) -> Page:
        """Runs, newest first."""
        query = select(run).order_by(run.c.created_at.desc(), run.c.id.desc()).limit(limit + 1)
        if state is not None:
            query = query.where(run.c.state == state)
        if kind is not None:
            query = query.where(run.c.kind == kind)
        for key, value in (labels or {}).items():
            labelled = select(1).where(
                run_label.c.run_id == run.c.id, run_label.c.key == key, run_label.c.value == value
            )
            query = query.where(labelled.exists())  # stops at a page's end, where IN collects every match
        if cursor is not None:
            query = query.where(tuple_(run.c.created_at, run.c.id) < tuple_(*_position(cursor)))
        with self._database.reading() as connection:
            rows = connection.execute(query).all()
            return page_of(rows, limit, lambda shown: runs_of(connection, shown), _cursor)

    def counts(self) -> Mapping[tuple[RunKind, RunState], int]:
        """Number of runs per kind and state; those without runs are left out."""
        query = select(run.c.kind, run.c.state, func.count()).group_by(run.c.kind, run.c.state)
        with self._database.reading() as connection:
            rows = connection.execute(query).all()
        return {(RunKind(kind), RunState(state)): number for kind, state, number in rows}

    def statistics(self) -> Mapping[tuple[RunKind, RunState], RunStatistics]:
        """Number, age and durations of the runs per kind and state."""
        seconds = seconds_since(run.c.started_at) - seconds_since(run.c.finished_at)
        facts = func.count(), func.max(seconds_since(run.c.created_at)), func.sum(seconds)
        query = select(run.c.kind, run.c.state, *facts).group_by(run.c.kind, run.c.state)
        with self._database.reading() as connection:
            rows = connection.execute(query).all()
        return {
            (RunKind(kind), RunState(state)): RunStatistics(
                count=count, oldest_s=max(0.0, oldest_s), seconds=max(0.0, total_s or 0.0)
            )
            for kind, state, count, oldest_s, total_s in rows
        }

    def request_cancel(self, run_id: str, reason: str = "user_cancel") -> Run:
        """Cancel at once what no worker holds; wish it of a worker otherwise."""
        with self._database.writing() as connection:
            locked = LockedRun.by_id(connection, run_id)
            if locked.state.is_terminal:
                raise StateConflictError(
                    f"run {run_id} is {locked.state} and can no longer be cancelled", state=locked.state.value
                )
            if locked.row.cancel_reason is None:
                locked.change(cancel_reason=reason)
            if locked.state is RunState.RUNNING:
                locked.move(RunState.STOPPING, reason=reason)
            elif locked.state is not RunState.STOPPING:
                locked.move(RunState.CANCELLED, reason=reason)
            return locked.write()

    def claim(self, worker: str, *, kinds: Sequence[RunKind], lease_s: float) -> tuple[Run, Lease] | None:
        """Take the oldest queued run of these kinds."""
        if not self._queued(kinds):
            return None
        with self._database.writing() as connection:
            return leases.claim(connection, worker, kinds, lease_s)

    def heartbeat(self, lease: Lease, *, lease_s: float) -> bool:
        """Extend the lease; returns whether a cancel is wished."""
        with self._database.writing() as connection:
            return leases.heartbeat(connection, lease, lease_s)

    def reap(self, *, max_attempts: int) -> Sequence[Run]:
        """Requeue or end runs whose lease lapsed."""
        with self._database.reading() as connection:
            if not leases.any_lapsed(connection):
                return []
        with self._database.writing() as connection:
            return leases.reap(connection, max_attempts)

    def release(self, lease: Lease, *, reason: str, charge_attempt: bool) -> Run:
        """Give a run back to the queue."""
        with self._database.writing() as connection:
            return leases.release(connection, lease, reason, charge_attempt=charge_attempt)

    def finish(
        self,
        lease: Lease,
        state: RunState,
        *,
        reason: str,
        result: Mapping[str, Any] | None = None,
        error: Mapping[str, Any] | None = None,
    ) -> Run:
        """End the run."""
        with self._database.writing() as connection:
            return leases.finish(connection, lease, state, reason=reason, result=result, error=error)

    def report(
        self,
        lease: Lease,
        *,
        phase: str | None = None,
        progress: Progress | None = None,
        metrics: Sequence[MetricPoint] = (),
        logs: Sequence[tuple[str, str]] = (),
        events: Sequence[tuple[EventType, Mapping[str, Any]]] = (),
    ) -> None:
        """Write what a child reported."""
        with self._database.writing() as connection:
            locked = LockedRun.by_lease(connection, lease)
            if phase is not None:
                run_log.add_phase(locked, phase)
            if progress is not None:
                run_log.add_progress(locked, progress)
            if metrics:
                run_log.add_metrics(connection, locked, metrics)
            if logs:
                run_log.add_logs(connection, locked, logs)
            for type_, data in events:
                locked.event(type_, data)
            locked.write()

    def events(self, run_id: str, *, after: int = 0, limit: int = 500) -> Sequence[Event]:
        """Events with ``seq > after`` in order."""
        with self._database.reading() as connection:
            return run_log.events(connection, run_id, after, limit)

    def metrics(
        self,
        run_id: str,
        *,
        names: Sequence[str] | None = None,
        after_epoch: int | None = None,
        limit: int = 10_000,
    ) -> Sequence[MetricPoint]:
        """Metric points, by epoch then name."""
        with self._database.reading() as connection:
            return run_log.metrics(connection, run_id, names, after_epoch, limit)

    def logs(self, run_id: str, *, after: int = 0, limit: int = 500) -> Sequence[LogLine]:
        """Log lines with ``seq > after`` in order."""
        with self._database.reading() as connection:
            return run_log.logs(connection, run_id, after, limit)

    def change_marker(self) -> int:
        """A number that changes whenever anything was written."""
        return self._marker.read()

    def _queued(self, kinds: Sequence[RunKind]) -> bool:
        """Whether a claim is worth a writing transaction: idle workers ask ten times a second."""
        query = select(run.c.id).where(run.c.state == RunState.QUEUED, run.c.kind.in_(kinds)).limit(1)
        with self._database.reading() as connection:
            return connection.execute(query).first() is not None


def _cursor(row: Row[Any]) -> str:
    return encode_cursor("runs", row.created_at.isoformat(), row.id)


def _position(cursor: str) -> tuple[ColumnElement[datetime], str]:
    created_at, run_id = decode_cursor(cursor, "runs", str, str)
    try:
        return literal(datetime.fromisoformat(created_at).astimezone(UTC), UtcDateTime()), run_id
    except (ValueError, OverflowError):  # no time, or one before the year 1 in UTC
        raise ValueError(BAD_CURSOR) from None


def _get(connection: Connection, run_id: str) -> Run:
    row = connection.execute(select(run).where(run.c.id == run_id)).one_or_none()
    if row is None:
        raise NotFoundError(f"there is no run {run_id}", run_id=run_id)
    return runs_of(connection, [row])[0]


def _insert_run(connection: Connection, new: NewRun) -> Run:
    if new.source_checkpoint is not None:
        known = select(checkpoint.c.id).where(checkpoint.c.id == new.source_checkpoint)
        if connection.execute(known).first() is None:
            raise NotFoundError(f"there is no checkpoint {new.source_checkpoint}")
    row = connection.execute(insert(run).values(**row_values(new), created_at=now()).returning(run)).one()
    if new.labels:
        labels = [{"run_id": new.id, "key": key, "value": value} for key, value in new.labels.items()]
        connection.execute(insert(run_label), labels)
    locked = LockedRun(connection, row)
    facts = {"state": RunState.QUEUED.value, "from": None, "reason": None, "attempt": 0}
    locked.event(EventType.STATE, facts)
    return locked.write()


def _made_before(connection: Connection, run_id: str, key: str, digest: str) -> Run | None:
    """Reserve the key for this run; the run that has it already is returned instead.

    A submission with the same key in another transaction is waited for.
    """
    reserve = run_log.upsert(connection)(idempotency_key).values(
        key=key, digest=digest, run_id=run_id, created_at=now()
    )
    reserved = connection.execute(reserve.on_conflict_do_nothing().returning(idempotency_key.c.key))
    if reserved.one_or_none() is not None:
        return None
    known = connection.execute(select(idempotency_key).where(idempotency_key.c.key == key)).one()
    if known.digest != digest:
        raise IdempotencyConflictError(
            f"Idempotency-Key {key!r} made run {known.run_id} with another body; use a new key",
            run_id=known.run_id,
        )
    return _get(connection, known.run_id)
