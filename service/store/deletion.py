"""How runs are forgotten: one that a client deletes, and the oldest beyond what the operator wants kept."""

from sqlalchemy import ColumnElement, Connection, Text, and_, cast, delete, func, or_, select, union

from service.domain.errors import StateConflictError
from service.domain.run import Retention
from service.domain.sharing import name_of
from service.domain.sweep import SweepState
from service.domain.use_cases import TERMINAL_STATES
from service.store.blobs import NAMING, Blobs
from service.store.tables import (
    blob,
    blob_part,
    checkpoint,
    compared_checkpoint,
    episode,
    idempotency_key,
    policy_version,
    run,
    run_event,
    run_extreme,
    run_label,
    run_latest,
    run_log,
    run_metric,
    session,
    sweep,
)
from service.store.types import after_now

SWEEPING = tuple(state for state in SweepState if not state.is_terminal)
AT_ONCE = 20
"""Runs that are deleted in one transaction at most."""
MOST_LOOKED_AT = 1000
"""Of the oldest ended runs, some of which others may need."""


def delete_run(connection: Connection, blobs: Blobs, run_id: str) -> None:
    """Delete a run with every row and byte that is its own.

    Raises:
        StateConflictError: a run that has not ended needs one of its checkpoints, or its episodes; or a policy or an
            open session has one.
    """
    of_policy = policy_version.c
    held = select(of_policy.policy, of_policy.number).where(of_policy.run_id == run_id)
    if (version := connection.execute(held.limit(1)).first()) is not None:
        named = f"{name_of(version.policy)}:{version.number}"
        message = f"run {run_id} holds policy version {named}; delete that version first"
        raise StateConflictError(message)
    ours = select(checkpoint.c.id).where(checkpoint.c.run_id == run_id)
    acting = select(session.c.id).where(session.c.ended_at.is_(None), session.c.checkpoint_id.in_(ours))
    if (other := connection.execute(acting.limit(1)).scalar_one_or_none()) is not None:
        raise StateConflictError(
            f"session {other} acts with what run {run_id} made; close it, or wait for its end"
        )
    owner = connection.execute(select(run.c.project).where(run.c.id == run_id)).scalar_one()
    waits = run.c.project == owner, run.c.state.not_in(TERMINAL_STATES)  # no other project can need it
    needs = select(run.c.id).where(run.c.source_checkpoint.in_(ours), *waits)
    # as the run whose episodes it learns from or replays, or whose policy it begins with
    named = f'"{run_id}"'
    is_named = or_(
        *(cast(column, Text).contains(named, autoescape=True) for column in (run.c.config, run.c.arguments))
    )
    names = select(run.c.id).where(*waits, is_named)
    sweeps = select(sweep.c.id).where(
        sweep.c.project == owner,
        sweep.c.state.in_(SWEEPING),
        cast(sweep.c.spec, Text).contains(named, autoescape=True),
    )
    if (other := connection.execute(sweeps.limit(1)).scalar_one_or_none()) is not None:
        raise StateConflictError(f"sweep {other} needs what run {run_id} left; wait for its end or cancel it")
    if (other := connection.execute(needs.union(names).limit(1)).scalar_one_or_none()) is not None:
        raise StateConflictError(f"run {other} needs what run {run_id} left; wait for its end or cancel it")
    digests: set[str | None] = set()
    for table in (checkpoint, episode):
        naming = [column for column in NAMING if column.table is table]
        gone = delete(table).where(table.c.run_id == run_id).returning(*naming)
        digests.update(*connection.execute(gone).all())
    for table in (
        run_label,
        run_event,
        run_metric,
        run_latest,
        run_extreme,
        run_log,
        idempotency_key,
        compared_checkpoint,
    ):
        connection.execute(delete(table).where(table.c.run_id == run_id))
    connection.execute(delete(run).where(run.c.id == run_id))
    blobs.drop_unreferenced(connection, filter(None, digests))


def delete_oldest(connection: Connection, blobs: Blobs, keep: Retention) -> dict[str, str]:
    """Delete the ended runs that are too old or too many, some at a time; id → why.

    Those whose checkpoints a run that has not ended needs are left for later.
    """
    # what a policy has stays as long as the policy has it, and so counts as none
    is_held = run.c.id.in_(select(policy_version.c.run_id))
    ended = and_(run.c.state.in_(TERMINAL_STATES), ~is_held)
    oldest_first = select(run.c.id).where(ended).order_by(run.c.finished_at, run.c.id)
    excess = 0
    if keep.runs is not None:
        excess = connection.execute(select(func.count()).where(ended)).scalar_one() - keep.runs
    too_old = set()
    if keep.age_s is not None:
        old = oldest_first.where(run.c.finished_at < after_now(-keep.age_s)).limit(MOST_LOOKED_AT)
        too_old = set(connection.execute(old).scalars())
    gone: dict[str, str] = {}
    for run_id in connection.execute(oldest_first.limit(MOST_LOOKED_AT)).scalars().all():
        if len(gone) >= AT_ONCE:
            break
        if run_id in too_old:
            why = f"it ended more than {(keep.age_s or 0.0) / 86_400:g} days ago"
        elif len(gone) < excess:
            why = f"there were more than {keep.runs} runs"
        elif keep.size_bytes is not None and stored_bytes(connection, ended) > keep.size_bytes:
            why = f"checkpoints and episodes took more than {keep.size_bytes / 2**20:g} MiB"
        else:
            break
        # whoever holds it may wait for one that was deleted here
        is_free = select(run.c.id).where(run.c.id == run_id).with_for_update(skip_locked=True)
        if connection.execute(is_free).first() is None:
            continue
        try:
            delete_run(connection, blobs, run_id)
        except StateConflictError:
            continue
        gone[run_id] = why
    return gone


def stored_bytes(connection: Connection, which: ColumnElement[bool]) -> int:
    """Of the checkpoints and episodes of these runs, each blob once; what is stored in parts counts by its parts."""
    named = union(
        *(
            select(column).join(run, run.c.id == column.table.c.run_id).where(which)
            for column in NAMING
            if column.table in (checkpoint, episode)
        )
    )
    parts = select(blob_part.c.part_sha256).where(blob_part.c.sha256.in_(named))
    counted = or_(blob.c.sha256.in_(named), blob.c.sha256.in_(parts))
    whole = blob.c.sha256.not_in(select(blob_part.c.sha256))
    total = select(func.coalesce(func.sum(blob.c.size_bytes), 0)).where(counted, whole)
    return int(connection.execute(total).scalar_one())
