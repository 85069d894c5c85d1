"""Who works on a run: claim, heartbeat, release, finish and reap, each inside the caller's transaction.

A claim is one statement, so two workers never get one run. A lease is the worker's name, a fencing epoch that
grows with every claim, and a moment on the database's clock; clocks of the machines play no part.
"""

from collections.abc import Mapping, Sequence
from typing import Any

from sqlalchemy import Connection, Select, case, func, select, update

from service.domain.run import EventType, Lease, Run, RunKind, RunState
from service.domain.use_cases import LEASED_STATES, TERMINAL_STATES
from service.store.run_rows import LOCKED_COLUMNS, LockedRun, holds, stale
from service.store.tables import run
from service.store.types import after_now, now


def claim(
    connection: Connection, worker: str, kinds: Sequence[RunKind], lease_s: float
) -> tuple[Run, Lease] | None:
    """Take the oldest queued run of these kinds."""
    oldest = (
        select(run.c.id)
        .where(run.c.state == RunState.QUEUED, run.c.kind.in_(kinds))
        .order_by(run.c.created_at, run.c.id)
        .limit(1)
        .with_for_update(skip_locked=True)
        .scalar_subquery()
    )
    row = connection.execute(
        update(run)
        .where(run.c.id == oldest)
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
    facts = {"state": row.state, "from": RunState.QUEUED.value, "reason": None, "attempt": row.attempt}
    locked = LockedRun(connection, row)
    locked.event(EventType.STATE, facts)
    if row.cancel_reason is not None:
        locked.move(RunState.STOPPING, reason=row.cancel_reason)
    return locked.written(), Lease(run_id=row.id, worker=row.worker, epoch_token=row.epoch_token)


def heartbeat(connection: Connection, lease: Lease, lease_s: float) -> bool:
    """Extend the lease; returns whether a cancel is wished."""
    wished = connection.execute(
        update(run)
        .where(holds(lease))
        .values(lease_until=after_now(lease_s))
        .returning(case((run.c.cancel_reason.is_(None), 0), else_=1))
    ).scalar_one_or_none()
    if wished is None:
        raise stale(lease)
    return bool(wished)


def release(connection: Connection, lease: Lease, reason: str, *, charge_attempt: bool) -> Run:
    """Give the run back to the queue."""
    locked = LockedRun.by_lease(connection, lease)
    if not charge_attempt:
        attempt = locked.row.attempt - 1
        locked.change(attempt=attempt, free_attempts=min(attempt, locked.row.free_attempts))
    locked.move(RunState.QUEUED, reason=reason)
    return locked.written()


def finish(
    connection: Connection,
    lease: Lease,
    state: RunState,
    *,
    reason: str,
    result: Mapping[str, Any] | None,
    error: Mapping[str, Any] | None,
) -> Run:
    """End the run."""
    if state not in TERMINAL_STATES:
        raise ValueError(f"a run cannot end {state}; its ends are {', '.join(sorted(TERMINAL_STATES))}")
    locked = LockedRun.by_lease(connection, lease)
    locked.change(result=result, error=error)
    locked.move(state, reason=reason)
    return locked.written()


def _lapsed(spare: Sequence[str]) -> Select[Any]:
    return select(*LOCKED_COLUMNS).where(
        run.c.state.in_(LEASED_STATES), run.c.lease_until < now(), run.c.id.not_in(spare)
    )


def any_lapsed(connection: Connection, spare: Sequence[str]) -> bool:
    """Whether there is something to reap."""
    return connection.execute(_lapsed(spare).limit(1)).first() is not None


def reap(connection: Connection, max_attempts: int, spare: Sequence[str]) -> list[Run]:
    """Requeue or end every run whose lease lapsed."""
    query = _lapsed(spare).order_by(run.c.id).with_for_update(skip_locked=True)
    return [_reap_one(LockedRun(connection, row), max_attempts) for row in connection.execute(query).all()]


def _reap_one(locked: LockedRun, max_attempts: int) -> Run:
    counted = locked.row.attempt - locked.row.free_attempts
    if counted < max_attempts:
        locked.move(RunState.QUEUED, reason="lease_expired")
    elif locked.state is RunState.STOPPING:
        locked.move(RunState.CANCELLED, reason=locked.row.cancel_reason)
    else:
        message = f"worker {locked.row.worker} fell silent in attempt {counted} of {max_attempts}"
        locked.change(error={"code": "attempts_exhausted", "message": message})
        locked.move(RunState.FAILED, reason="attempts_exhausted")
    return locked.written()
