"""The checkpoint store over SQLAlchemy."""

import hashlib
import re
from collections.abc import Sequence
from dataclasses import asdict, fields, replace
from typing import Any

from sqlalchemy import Connection, Row, Select, and_, case, delete, insert, or_, select, tuple_, update

from service.domain.cursors import decode_cursor, encode_cursor, page_of
from service.domain.errors import NotFoundError
from service.domain.run import (
    FILMED,
    Best,
    CheckpointInfo,
    EventType,
    Imported,
    Lease,
    NewCheckpoint,
    Page,
    RunKind,
)
from service.domain.use_cases import TERMINAL_STATES, best_metric
from service.store.blobs import Blobs, Stored, StoredContent, storing
from service.store.engine import Database
from service.store.run_rows import LockedRun
from service.store.sessions import open_checkpoints
from service.store.tables import checkpoint, compared_checkpoint, episode, policy_version, run
from service.store.types import now

KEEP_SCHEDULED = 3

_EPOCH_SELECTOR = re.compile(r"epoch:(\d{1,9})")
BEGIN = "begin"
"""Kind of the copy that a continuing run has of what it goes on from; it is kept as long as the run."""
_KIND_ORDER = (
    "scheduled",
    "best",
    "last",
    FILMED,
)  # which one `epoch:N` means; exact ones before `continued`


class SqlCheckpointStore:
    """:class:`~service.domain.ports.CheckpointStore` over SQLAlchemy; the port says what each method does."""

    def __init__(self, database: Database, blobs: Blobs, *, keep_scheduled: int = KEEP_SCHEDULED) -> None:
        self._database = database
        self._blobs = blobs
        self._keep_scheduled = keep_scheduled

    def put(
        self,
        lease: Lease,
        new: NewCheckpoint,
        bundle: bytes,
        edges: Sequence[int] = (),
        imported: Imported | None = None,
    ) -> CheckpointInfo:
        """Store a bundle, move the marks, prune."""
        stored = self._blobs.prepare(bundle, edges)
        with storing(self._database) as connection:
            locked = LockedRun.by_lease(connection, lease)
            if imported is not None:
                imports = run.c.id == lease.run_id, run.c.kind == RunKind.IMPORT
                connection.execute(update(run).where(*imports).values(asdict(imported)))
            if new.kind == "scheduled" and _is_further(connection, lease.run_id, new.epoch):
                locked.change(free_attempts=locked.row.attempt)
            self._blobs.insert(connection, stored)
            replaced = _take_out(connection, locked, new)
            info = _insert(connection, locked, new, stored)
            pruned = _prune(connection, info, self._keep_scheduled)
            self._blobs.drop_unreferenced(connection, {*replaced, *pruned} - {stored.sha256})
            locked.write()
            if stored.in_file or any(part.in_file for part in stored.parts):
                self._blobs.sweep(connection)
        return info

    def list(self, run_id: str, *, limit: int = 50, cursor: str | None = None) -> Page:
        """Checkpoints of a run, newest epoch first."""
        query = _newest_first(run_id).limit(limit + 1)
        if cursor is not None:
            epoch, checkpoint_id = decode_cursor(cursor, "checkpoints", int, str)
            query = query.where(tuple_(checkpoint.c.epoch, checkpoint.c.id) < tuple_(epoch, checkpoint_id))
        with self._database.reading() as connection:
            rows = connection.execute(query).all()
        return page_of(rows, limit, _info, lambda row: encode_cursor("checkpoints", row.epoch, row.id))

    def resolve(self, run_id: str, selector: str) -> CheckpointInfo:
        """The checkpoint that a selector means now."""
        with self._database.reading() as connection:
            row = connection.execute(_selected(run_id, selector).limit(1)).first()
            if row is None:
                raise NotFoundError(_none_such(connection, run_id, selector), run_id=run_id)
        return _info(row)

    def get(self, checkpoint_id: str) -> CheckpointInfo:
        """One checkpoint's facts."""
        with self._database.reading() as connection:
            return _info(_row(connection, checkpoint_id))

    def read(self, checkpoint_id: str) -> bytes:
        """The bundle, verified."""
        with self._database.reading() as connection:
            row = _row(connection, checkpoint_id)
            try:
                return self._blobs.read(connection, row.blob_sha256)
            except NotFoundError as error:
                raise NotFoundError(f"checkpoint {checkpoint_id} is lost: {error}") from error

    def content(self, checkpoint_id: str) -> StoredContent:
        """The bundle, to be read piece by piece."""
        with self._database.reading() as connection:
            sha256 = _row(connection, checkpoint_id).blob_sha256
        return StoredContent(self._database, self._blobs, sha256)


def copy_checkpoints(connection: Connection, run_id: str, begins_at: str) -> tuple[str, Best | None]:
    """Give a run the checkpoint of another one that it goes on from, and the best up to there; no byte is copied.

    Returns:
        The id of the copy, and the best of the run so far: a later one would have been found after it.
    """
    begin = _info(_row(connection, begins_at))
    table = checkpoint.c
    best = select(table.id).where(
        table.run_id == begin.run_id, table.is_best, table.epoch <= begin.epoch, table.id != begins_at
    )
    other = connection.execute(best).scalar_one_or_none()
    ids = {}
    for source in filter(None, (begins_at, other)):
        row = _row(connection, source)
        new = NewCheckpoint(**{field.name: getattr(row, field.name) for field in fields(NewCheckpoint)})
        new = replace(new, kind=BEGIN if source == begins_at else "best")  # of both, only one is gone on from
        ids[source] = checkpoint_id(run_id, new)
        marks = {"is_last": source == begins_at, "is_best": source == (other or begins_at)}
        fresh = {"id": ids[source], "run_id": run_id, "kind": new.kind, "created_at": now(), **marks}
        connection.execute(insert(checkpoint).values(**(dict(row._mapping) | fresh)))
    judged = best_metric(_info(_row(connection, ids[other or begins_at])).metrics)
    return ids[begins_at], judged and Best(
        metric=judged[0], value=judged[1], checkpoint=ids[other or begins_at]
    )


def checkpoint_id(run_id: str, new: NewCheckpoint) -> str:
    """An id that the same checkpoint gets again after a resume, and no other one ever."""
    facts = "/".join((run_id, str(new.epoch), new.kind, new.content_sha256, new.weights_sha256))
    return "ckpt_" + hashlib.sha256(facts.encode()).hexdigest()[:26]


def _is_further(connection: Connection, run_id: str, epoch: int) -> bool:
    """Whether no scheduled checkpoint of the run is as far: one that is stored again after a resume is no progress."""
    table = checkpoint.c
    as_far = select(table.id).where(table.run_id == run_id, table.kind == "scheduled", table.epoch >= epoch)
    return connection.execute(as_far.limit(1)).first() is None


def _take_out(connection: Connection, locked: LockedRun, new: NewCheckpoint) -> Sequence[str]:
    """Delete the row that the new one replaces and lower the marks it takes; digests of what was deleted.

    With another content, one that a policy or an open session has stays under a kind of its own.
    """
    ours = checkpoint.c.run_id == locked.row.id
    for mark, taken in ((checkpoint.c.is_best, new.is_best), (checkpoint.c.is_last, new.is_last)):
        if taken:
            connection.execute(update(checkpoint).where(ours, mark).values({mark: False}))
    same_place = ours, checkpoint.c.epoch == new.epoch, checkpoint.c.kind == new.kind
    held = checkpoint.c.id.in_(select(policy_version.c.checkpoint_id).union(open_checkpoints))
    is_other = checkpoint.c.id != checkpoint_id(locked.row.id, new)
    for kept in (
        connection.execute(select(checkpoint.c.id).where(*same_place, held, is_other)).scalars().all()
    ):
        aside = {"kind": f"held {kept[5:15]}", "is_best": False, "is_last": False}
        connection.execute(update(checkpoint).where(checkpoint.c.id == kept).values(**aside))
    replaced = connection.execute(
        delete(checkpoint).where(*same_place).returning(checkpoint.c.blob_sha256, checkpoint.c.is_best)
    ).all()
    if any(row.is_best for row in replaced):
        locked.change(best=None)
    return [row.blob_sha256 for row in replaced]


def _insert(connection: Connection, locked: LockedRun, new: NewCheckpoint, stored: Stored) -> CheckpointInfo:
    row = connection.execute(
        insert(checkpoint)
        .values(
            **asdict(new) | {"metrics": dict(new.metrics)},
            id=checkpoint_id(locked.row.id, new),
            run_id=locked.row.id,
            blob_sha256=stored.sha256,
            size_bytes=len(stored.data),
            created_at=now(),
        )
        .returning(checkpoint)
    ).one()
    info = _info(row)
    judged = best_metric(new.metrics)
    if new.is_best:
        best = None if judged is None else asdict(Best(metric=judged[0], value=judged[1], checkpoint=info.id))
        locked.change(best=best)
    shown = "id", "epoch", "step", "kind", "metrics", "content_sha256", "weights_sha256", "is_best", "is_last"
    locked.event(EventType.CHECKPOINT, {name: getattr(info, name) for name in shown})
    return info


def _prune(connection: Connection, newest: CheckpointInfo, keep_scheduled: int) -> Sequence[str]:
    """Delete what nobody needs any more of the run's checkpoints; digests of what was deleted."""
    table = checkpoint.c
    ours = table.run_id == newest.run_id
    scheduled = select(table.id).where(ours, table.kind == "scheduled").order_by(table.epoch.desc())
    acting = select(run.c.source_checkpoint).where(
        run.c.source_checkpoint.is_not(None), run.c.state.not_in(TERMINAL_STATES)
    )
    compared = select(1).where(
        compared_checkpoint.c.checkpoint_id == table.id,
        compared_checkpoint.c.run_id == run.c.id,
        run.c.state.not_in(TERMINAL_STATES),
    )
    held = select(1).where(policy_version.c.checkpoint_id == table.id)
    film = select(1).where(episode.c.run_id == table.run_id, episode.c.epoch == table.epoch)
    needed = or_(
        table.id == newest.id,
        and_(table.kind == FILMED, film.exists()),
        table.is_best,
        table.is_last,
        table.kind == BEGIN,
        table.id.in_(scheduled.limit(keep_scheduled)),
        table.id.in_(acting),
        compared.exists(),
        held.exists(),
        table.id.in_(open_checkpoints),
    )
    return (
        connection.execute(delete(checkpoint).where(ours, ~needed).returning(table.blob_sha256))
        .scalars()
        .all()
    )


def _newest_first(run_id: str) -> Select[Any]:
    table = checkpoint.c
    return select(checkpoint).where(table.run_id == run_id).order_by(table.epoch.desc(), table.id.desc())


def _selected(run_id: str, selector: str) -> Select[Any]:
    table = checkpoint.c
    query = _newest_first(run_id)
    if selector == "best":
        return query.where(table.is_best)
    if selector == "last":
        return (
            query.where(table.kind != FILMED)
            .order_by(None)
            .order_by(table.is_last.desc(), table.epoch.desc(), table.created_at.desc())
        )
    if selector == "scheduled":
        return query.where(table.kind == "scheduled")
    if match := _EPOCH_SELECTOR.fullmatch(selector):
        order = case({kind: place for place, kind in enumerate(_KIND_ORDER)}, value=table.kind, else_=9)
        return query.where(table.epoch == int(match[1])).order_by(None).order_by(order)
    return query.where(table.id == selector)


def _none_such(connection: Connection, run_id: str, selector: str) -> str:
    rows = connection.execute(_newest_first(run_id).limit(20)).all()
    if not rows:
        return f"run {run_id} has no checkpoint {selector!r}: it has none yet"
    epochs = ", ".join(f"epoch:{epoch}" for epoch in sorted({row.epoch for row in rows}))
    marks = [name for name in ("best", "last") if any(getattr(row, f"is_{name}") for row in rows)]
    return f"run {run_id} has no checkpoint {selector!r}; it has {', '.join([*marks, epochs])}"


def _row(connection: Connection, wanted: str) -> Row[Any]:
    row = connection.execute(select(checkpoint).where(checkpoint.c.id == wanted)).one_or_none()
    if row is None:
        raise NotFoundError(f"there is no checkpoint {wanted}", checkpoint=wanted)
    return row


def _info(row: Row[Any]) -> CheckpointInfo:
    facts = dict(row._mapping)
    del facts["blob_sha256"]
    return CheckpointInfo(**facts)
