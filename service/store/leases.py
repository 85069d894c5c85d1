"""Who works on a run: claim, heartbeat, release, finish and reap, each one transaction.

A claim is one statement, so two workers never get one run. A lease is the worker's name, a fencing epoch that
grows with every claim, and a moment on the database's clock; clocks of the machines play no part.
"""

from collections.abc import Mapping, Sequence
from datetime import UTC, datetime
from typing import Any

from sqlalchemy import Double, Select, Text, func, literal, or_, select, type_coerce, update

from service.domain.run import EventType, Lease, Run, RunKind, RunState, StopReason
from service.domain.use_cases import LEASED_STATES, TERMINAL_STATES
from service.store.engine import Database
from service.store.run_rows import LOCKED_COLUMNS, LockedRun, holds, stale
from service.store.tables import project, run
from service.store.types import UtcDateTime, after_now, now, seconds_since

_1970 = literal(datetime.fromtimestamp(0, UTC), UtcDateTime())


_candidate = run.alias()
_CLAIM_LOCK = 0x6D617A63
"""Of whoever claims, in PostgreSQL: how many runs each project has at work stays true until one more has begun."""


def _next(kinds: Sequence[RunKind], films: bool, *, locks: bool = False) -> Select[tuple[str]]:
    """The run that is next: of the project with the fewest at work for its share, by priority, then age.

    Two looks at the index of the queue for each project, however many runs wait.
    """
    first = (
        select(run.c.id)
        .where(run.c.state == RunState.QUEUED, run.c.project == project.c.name, run.c.kind.in_(kinds))
        .order_by(run.c.precedence, run.c.created_at, run.c.id)
        .limit(1)
    )
    if not films:
        first = first.where(type_coerce(run.c.arguments, Text).not_like('%"videos":%'))
    if locks:
        first = first.with_for_update(skip_locked=True)
    is_at_work = run.c.state.in_(LEASED_STATES), run.c.kind != RunKind.RECORD  # which takes no worker's slot
    held = select(func.count()).where(*is_at_work, run.c.project == project.c.name)
    turns = select(
        first.correlate(project).scalar_subquery().label("id"),
        held.correlate(project).scalar_subquery().label("held"),
        project.c.share,
        project.c.max_running,
    ).subquery()
    has_room = or_(turns.c.max_running.is_(None), turns.c.held < turns.c.max_running)
    return (
        select(turns.c.id)
        .join(_candidate, _candidate.c.id == turns.c.id)
        .where(has_room)
        .order_by(
            turns.c.held * literal(1.0, Double) / turns.c.share,
            *(_candidate.c.precedence, _candidate.c.created_at, _candidate.c.id),
        )
        .limit(1)
    )


class SqlLeases:
    """The part of :class:`~service.domain.ports.RunStore` that workers use; the port says what each method does."""

    def __init__(self, database: Database) -> None:
        self._database = database

    def claim(
        self, worker: str, *, kinds: Sequence[RunKind], lease_s: float, films: bool = True
    ) -> tuple[Run, Lease] | None:
        """Take the oldest queued run of these kinds."""
        with self._database.reading() as connection:
            if connection.execute(_next(kinds, films)).first() is None:  # idle workers ask ten times a second
                return None
        with self._database.writing() as connection:
            if connection.dialect.name == "postgresql":  # SQLite has one writer
                connection.execute(select(func.pg_advisory_xact_lock(_CLAIM_LOCK)))
            row = connection.execute(
                update(run)
                .where(run.c.id == _next(kinds, films, locks=True).scalar_subquery())
                .values(
                    state=RunState.RUNNING.value,
                    reason=None,
                    phase=None,
                    worker=worker,
                    attempt=run.c.attempt + 1,
                    epoch_token=run.c.epoch_token + 1,
                    lease_until=after_now(lease_s),
                    started_at=func.coalesce(run.c.started_at, now()),
                )
                .returning(*LOCKED_COLUMNS)
            ).one_or_none()
            if row is None:
                return None
            facts = {
                "state": row.state,
                "from": RunState.QUEUED.value,
                "reason": None,
                "attempt": row.attempt,
                "by": worker,
            }
            locked = LockedRun(connection, row)
            locked.event(EventType.STATE, facts)
            if row.stop_wish is not None:
                locked.move(RunState.STOPPING, reason=row.stop_wish)
            return locked.written(), Lease(run_id=row.id, worker=row.worker, epoch_token=row.epoch_token)

    def heartbeat(self, lease: Lease, *, lease_s: float) -> StopReason | None:
        """Extend the lease; returns the wish to stop."""
        extended = update(run).where(holds(lease)).values(lease_until=after_now(lease_s))
        with self._database.writing() as connection:
            row = connection.execute(extended.returning(run.c.stop_wish)).one_or_none()
        if row is None:
            raise stale(lease)
        return None if row.stop_wish is None else StopReason(row.stop_wish)

    def clock(self) -> float:
        """Seconds on the database's clock."""
        with self._database.reading() as connection:
            return float(connection.execute(select(seconds_since(_1970))).scalar_one())

    def release(self, lease: Lease, *, reason: str, charge_attempt: bool) -> Run:
        """Give a run back to the queue."""
        with self._database.writing() as connection:
            locked = LockedRun.by_lease(connection, lease)
            if not charge_attempt:
                attempt = locked.row.attempt - 1
                locked.change(attempt=attempt, free_attempts=min(attempt, locked.row.free_attempts))
            locked.give_back(reason=reason)
            return locked.written()

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
        if state not in TERMINAL_STATES:
            raise ValueError(f"a run cannot end {state}; its ends are {', '.join(sorted(TERMINAL_STATES))}")
        with self._database.writing() as connection:
            locked = LockedRun.by_lease(connection, lease)
            locked.change(result=result, error=error)
            locked.move(state, reason=reason)
            return locked.written()

    def reap(self, *, max_attempts: int, spare: Sequence[str] = ()) -> Sequence[Run]:
        """Requeue or end runs whose lease lapsed."""
        lapsed = select(*LOCKED_COLUMNS).where(
            run.c.state.in_(LEASED_STATES), run.c.lease_until < now(), run.c.id.not_in(spare)
        )
        with self._database.reading() as connection:
            if connection.execute(lapsed.limit(1)).first() is None:
                return []
        with self._database.writing() as connection:
            rows = connection.execute(lapsed.order_by(run.c.id).with_for_update(skip_locked=True)).all()
            return [_reap_one(LockedRun(connection, row), max_attempts) for row in rows]


def _reap_one(locked: LockedRun, max_attempts: int) -> Run:
    counted = locked.row.attempt - locked.row.free_attempts
    if counted < max_attempts or locked.row.stop_wish == StopReason.PAUSE:
        locked.give_back(reason="lease_expired")
    elif locked.state is RunState.STOPPING:
        locked.move(RunState.CANCELLED, reason=locked.row.stop_wish)
    else:
        message = f"worker {locked.row.worker} fell silent in attempt {counted} of {max_attempts}"
        locked.change(error={"code": "attempts_exhausted", "message": message})
        locked.move(RunState.FAILED, reason="attempts_exhausted")
    return locked.written()
