"""The run store over SQLAlchemy: each method is one transaction. Who works on a run is in ``leases``."""

import math
from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from datetime import UTC, datetime
from typing import Any

from sqlalchemy import (
    Column,
    ColumnElement,
    Connection,
    Double,
    Float,
    FromClause,
    Row,
    Select,
    delete,
    func,
    insert,
    literal,
    select,
    tuple_,
)
from sqlalchemy.exc import IntegrityError

from service.domain.cursors import BAD_CURSOR, decode_cursor, encode_cursor, page_of
from service.domain.errors import (
    CapacityError,
    IdempotencyConflictError,
    NotFoundError,
    RevisionConflictError,
    StateConflictError,
)
from service.domain.run import (
    ENDING_WISHES,
    Event,
    EventType,
    Lease,
    LogLine,
    MetricOrder,
    MetricPoint,
    NewRun,
    Page,
    Progress,
    Retention,
    Run,
    RunKind,
    RunOrder,
    RunState,
    RunStatistics,
    StopReason,
)
from service.domain.sharing import DEFAULT_PROJECT
from service.domain.use_cases import LEASED_STATES
from service.store.blobs import Blobs
from service.store.checkpoints import copy_checkpoints
from service.store.deletion import delete_oldest, delete_run
from service.store.engine import Database
from service.store.events import events_after, newest_position
from service.store.leases import SqlLeases
from service.store.points import add_points, charted, point_of, spaced, within
from service.store.projects import require_quota
from service.store.run_rows import (
    LISTED_COLUMNS,
    LOCKED_COLUMNS,
    LockedRun,
    folded,
    labels_of,
    listed_run,
    read_run,
    row_values,
    shown_runs,
)
from service.store.tables import (
    checkpoint,
    compared_checkpoint,
    idempotency_key,
    run,
    run_event,
    run_label,
    run_latest,
    run_log,
    run_metric,
)
from service.store.tally import Tally
from service.store.types import UtcDateTime, clean_text, in_project, now, upsert

MOST_LABELS = 32
FEW = 1000
"""Runs that are sorted as quickly as an index is read."""
FULL_RETRY_S = 5.0
"""When to try again after the queue was full."""

STOPPED_STATES = {
    StopReason.CANCEL: RunState.CANCELLED,
    StopReason.PRUNE: RunState.CANCELLED,
    StopReason.PAUSE: RunState.PAUSED,
}
"""Wish → where it leads."""


class SqlRunStore(SqlLeases):
    """:class:`~service.domain.ports.RunStore` over SQLAlchemy; the port says what each method does."""

    def __init__(self, database: Database, blobs: Blobs) -> None:
        super().__init__(database)
        self._blobs = blobs
        self._tally = Tally()

    def create(
        self,
        new: NewRun,
        idempotency: tuple[str, str] | None = None,
        *,
        max_queued: int | None = None,
        by: str | None = None,
    ) -> tuple[Run, bool]:
        """Store a queued run, once per idempotency key."""
        with self._database.writing() as connection:
            if idempotency is not None:
                made = _made_before(connection, new.id, *idempotency)
                if made is not None:
                    return made, False
            require_quota(connection, new.project)
            if max_queued is not None:
                _require_place(connection, max_queued)
            try:
                insert_run(connection, new, by).write()
                return read_run(connection, new.id), True
            except IntegrityError as error:
                message = (
                    f"run {new.id} was made, or what it needs was deleted, at the same moment; look again"
                )
                raise StateConflictError(message) from error

    def begin(self, new: NewRun, holder: str, *, by: str | None = None) -> tuple[Run, Lease]:
        """Store a run that runs already; its lease never lapses."""
        with self._database.writing() as connection:
            locked = insert_run(connection, new, by)
            locked.change(worker=holder, attempt=1, epoch_token=1, started_at=now())
            locked.move(RunState.RUNNING, reason=None, by=by)
            return locked.written(), Lease(run_id=new.id, worker=holder, epoch_token=1)

    def submitted(self, key: str, digest: str) -> Run | None:
        """The run that an idempotency key has made."""
        with self._database.reading() as connection:
            return _made_with(connection, key, digest)

    def get(self, run_id: str) -> Run:
        """The run."""
        with self._database.reading() as connection:
            return read_run(connection, run_id)

    def shown(self, run_ids: Sequence[str], *, project: str | None = None) -> Sequence[Run]:
        """Those of the runs that there are."""
        with self._database.reading() as connection:
            found = shown_runs(connection, run_ids)
        return [each for each in found if project in (None, each.project)]

    def list(
        self,
        *,
        project: str | None = None,
        state: RunState | None = None,
        kind: RunKind | None = None,
        labels: Mapping[str, str] | None = None,
        name: str | None = None,
        sweep: str | None = None,
        created_after: datetime | None = None,
        created_before: datetime | None = None,
        sort: RunOrder | MetricOrder = RunOrder.NEWEST,
        limit: int = 50,
        cursor: str | None = None,
    ) -> Page:
        """Runs in an order."""
        with self._database.reading() as connection:
            query, (created_at, run_id), is_few = _labelled(connection, labels or {})
            query = query.where(*in_project(run, project))
            if state is not None:
                query = query.where(run.c.state == state)
            if kind is not None:
                query = query.where(run.c.kind == kind)
            if sweep is not None:
                query = query.where(run.c.sweep == sweep)
            if name is not None:
                query = query.where(run.c.folded_name.contains(folded(name), autoescape=True))
            if created_after is not None:
                query = query.where(created_at >= created_after)
            if created_before is not None:
                query = query.where(created_at < created_before)
            if isinstance(sort, MetricOrder):
                return page_by_metric(connection, query, sort, limit, cursor, is_few=is_few)
            order = _ORDERS[sort]
            key = created_at if order.column is run.c.created_at else _sorted_by(order.column, is_few)
            if order.column.nullable:
                query = query.where(key.is_not(None))
            if cursor is not None:
                here, position = tuple_(key, run_id), order.position(cursor)
                query = query.where(here < position if order.falls else here > position)
            ends = (key.desc(), run_id.desc()) if order.falls else (key, run_id)
            rows = connection.execute(query.order_by(*ends).limit(limit + 1)).all()
            return page_of(rows, limit, _listed(connection, rows), order.cursor)

    def held(self, *, project: str | None = None) -> Sequence[Run]:
        """Runs that a worker holds now."""
        leased = select(run.c.id).where(run.c.state.in_(LEASED_STATES), *in_project(run, project))
        with self._database.reading() as connection:
            found = shown_runs(connection, connection.execute(leased).scalars().all())
        return sorted(found, key=lambda each: (each.started_at or each.created_at, each.id))

    def statistics(self, *, project: str | None = None) -> Mapping[tuple[RunKind, RunState], RunStatistics]:
        """Number, age and durations of the runs per kind and state."""
        with self._database.reading() as connection:
            return self._tally.counted(connection, project)

    def request_stop(self, run_id: str, wish: StopReason, *, by: str | None = None) -> Run:
        """Stop at once what no worker holds; wish it of a worker otherwise."""
        with self._database.writing() as connection:
            locked = LockedRun.by_id(connection, run_id)
            stop_run(locked, wish, by)
            return locked.written()

    def resume(self, run_id: str, *, max_queued: int | None = None, by: str | None = None) -> Run:
        """Give a paused run back to the queue."""
        with self._database.writing() as connection:
            locked = LockedRun.by_id(connection, run_id)
            if locked.state is RunState.PAUSED:
                require_quota(connection, locked.row.project)
                if max_queued is not None:
                    _require_place(connection, max_queued)
            resume_run(locked, by)
            return locked.written()

    def edit(self, run_id: str, changes: Mapping[str, Any], *, revision: int | None = None) -> Run:
        """Change what people say of a run."""
        with self._database.writing() as connection:
            locked = LockedRun.by_id(connection, run_id)
            if revision not in (None, locked.row.revision):
                message = f"run {run_id} has revision {locked.row.revision} by now, not {revision}"
                raise RevisionConflictError(message, revision=locked.row.revision)
            columns = {name: value for name, value in changes.items() if name != "labels"}
            if not changes:
                return read_run(connection, run_id)
            if "name" in columns:
                columns["folded_name"] = folded(columns["name"])
            if "priority" in columns:
                columns["precedence"] = -columns.pop("priority")
            locked.change(**columns, revision=locked.row.revision + 1)
            if "labels" in changes:
                _merge_labels(connection, run_id, changes["labels"])
            return locked.written()

    def delete(self, run_id: str) -> None:
        """Forget a run with all it left."""
        try:
            with self._database.writing() as connection:
                locked = LockedRun.by_id(connection, run_id)
                if not locked.state.is_terminal:
                    message = f"run {run_id} is {locked.state}; cancel it first"
                    raise StateConflictError(message, state=locked.state.value)
                delete_run(connection, self._blobs, run_id)
        except IntegrityError as error:
            message = f"what run {run_id} left was put to use at the same moment; look again"
            raise StateConflictError(message) from error

    def delete_oldest(self, keep: Retention) -> Mapping[str, str]:
        """Delete some of what is not to be kept."""
        with self._database.writing() as connection:
            return delete_oldest(connection, self._blobs, keep)

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
            if phase is not None and phase != locked.row.phase:
                locked.change(phase=phase)
                locked.event(EventType.PHASE, {"phase": phase})
            if progress is not None:
                locked.change(progress=asdict(progress))
            if metrics:
                add_points(connection, locked, metrics)
            if logs:
                _add_logs(connection, locked, logs)
            for type_, data in events:
                locked.event(type_, data)
            locked.write()

    def events(
        self, run_id: str, *, types: Collection[EventType] = (), after: int = 0, limit: int = 500
    ) -> Sequence[Event]:
        """Events with ``seq > after`` in order."""
        table = run_event.c
        query = select(run_event).where(table.run_id == run_id, table.seq > after).order_by(table.seq)
        if types:
            query = query.where(table.type.in_([type_.value for type_ in types]))
        return [
            Event(run_id=row.run_id, seq=row.seq, at=row.at, type=EventType(row.type), data=row.data)
            for row in self._rows(query.limit(limit))
        ]

    def feed(
        self,
        *,
        project: str = DEFAULT_PROJECT,
        types: Collection[EventType] = (),
        after: int = 0,
        limit: int = 500,
    ) -> Sequence[Event]:
        """Events of a project's runs with ``position > after`` in order."""
        with self._database.reading() as connection:
            return events_after(connection, project, after, types, limit)

    def feed_end(self, *, project: str = DEFAULT_PROJECT) -> int:
        """Position of the project's newest event."""
        with self._database.reading() as connection:
            return newest_position(connection, project)

    def metrics(
        self,
        run_id: str,
        *,
        names: Sequence[str] | None = None,
        after_epoch: int | None = None,
        before_epoch: int | None = None,
        after: tuple[int, str] | None = None,
        limit: int = 10_000,
    ) -> Sequence[MetricPoint]:
        """Metric points, by epoch then name."""
        table = run_metric.c
        query = select(run_metric).where(table.run_id == run_id).order_by(table.epoch, table.name)
        if names is not None:
            query = query.where(table.name.in_(names))
        query = query.where(*within(after_epoch, before_epoch))
        if after is not None:
            query = query.where(tuple_(table.epoch, table.name) > tuple_(*after))
        return [point_of(row) for row in self._rows(query.limit(limit))]

    def chart(
        self,
        run_id: str,
        name: str,
        *,
        max_points: int,
        after_epoch: int | None = None,
        before_epoch: int | None = None,
    ) -> Sequence[MetricPoint]:
        """Points of one metric for a chart, extremes among them."""
        with self._database.reading() as connection:
            return charted(connection, run_id, name, max_points, after_epoch, before_epoch)

    def spaced(
        self, run_id: str, name: str, *, points: int, span: tuple[int, int] | None = None
    ) -> Sequence[MetricPoint]:
        """Evenly spaced points of one metric."""
        with self._database.reading() as connection:
            return spaced(connection, run_id, name, points, span)

    def logs(
        self, run_id: str, *, after: int = 0, before: int | None = None, limit: int = 500
    ) -> Sequence[LogLine]:
        """Log lines in order: the first behind a seq, or the last before one."""
        table = run_log.c
        query = select(run_log).where(table.run_id == run_id, table.seq > after).limit(limit)
        if before is None:
            rows = self._rows(query.order_by(table.seq))
        else:
            rows = self._rows(query.where(table.seq < before).order_by(table.seq.desc()))[::-1]
        return [LogLine(seq=row.seq, at=row.at, level=row.level, message=row.message) for row in rows]

    def _rows(self, query: Select[Any]) -> Sequence[Row[Any]]:
        with self._database.reading() as connection:
            return connection.execute(query).all()

    def change_marker(self) -> int:
        """A number that changes whenever anything was written."""
        return self._database.change_marker()


def _labelled(
    connection: Connection, labels: Mapping[str, str]
) -> tuple[Select[Any], tuple[ColumnElement[datetime], ColumnElement[str]], bool]:
    """Runs with all of these labels, by what they are in order, and whether they are few.

    They are looked for among those of the rarest label, in its order: so a page costs what it shows, whatever share
    of all runs has the label.
    """
    query = select(*LISTED_COLUMNS)
    if not labels:
        return query, (run.c.created_at, run.c.id), False
    counts = {item: _count(connection, item) for item in labels.items()}
    rarest = min(counts, key=lambda item: counts[item])
    label = run_label.alias()
    query = query.join(label, label.c.run_id == run.c.id).where(*_is(label, rarest))
    for other in labels.items() - {rarest}:
        query = query.where(
            select(1).where(run_label.c.run_id == label.c.run_id, *_is(run_label, other)).exists()
        )
    return query, (label.c.created_at, label.c.run_id), counts[rarest] < FEW


def _sorted_by(column: ColumnElement[Any], is_few: bool) -> ColumnElement[Any]:
    """What few rows are sorted by when they have been found: else the column's index is read for them to its end."""
    return func.coalesce(column, column) if is_few else column


def _count(connection: Connection, item: tuple[str, str]) -> int:
    """How many runs have this label; what is beyond :data:`FEW` is not counted."""
    some = select(run_label.c.run_id).where(*_is(run_label, item)).limit(FEW).subquery()
    return connection.execute(select(func.count()).select_from(some)).scalar_one()


def _is(label: FromClause, item: tuple[str, str]) -> tuple[ColumnElement[bool], ColumnElement[bool]]:
    return label.c.key == item[0], label.c.value == item[1]


def _listed(connection: Connection, rows: Sequence[Row[Any]]) -> Callable[[Row[Any]], Run]:
    """What makes of each of these rows the run that a list shows."""
    labels = labels_of(connection, [row.id for row in rows])
    return lambda row: listed_run(row, labels[row.id])


def page_by_metric(
    connection: Connection,
    query: Select[Any],
    order: MetricOrder,
    limit: int,
    cursor: str | None,
    *,
    is_few: bool,
) -> Page:
    """Those of the runs that have the metric, by its latest value; where that is NaN, they come last, by id.

    NaN is NULL in the database, and no comparison finds it: those runs are asked for when the others have been shown.
    """
    of, latest = f"runs {order}", run_latest.c
    query = query.add_columns(latest.value.label("latest_value")).where(
        latest.run_id == run.c.id, latest.name == order.metric
    )
    value, run_id = None, ""
    if cursor is not None:
        text, run_id = decode_cursor(cursor, of, str, str)
        try:
            value = float(text)
        except ValueError:
            raise ValueError(BAD_CURSOR) from None
    rows: list[Row[Any]] = []
    if value is None or not math.isnan(value):
        ends = (_sorted_by(latest.value, is_few), latest.run_id)
        numbers, here = query.where(latest.value.is_not(None)), tuple_(*ends)
        if value is not None:
            position = tuple_(literal(value, Double), run_id)
            numbers = numbers.where(here < position if order.falls else here > position)
        numbers = numbers.order_by(*(end.desc() if order.falls else end for end in ends))
        rows += connection.execute(numbers.limit(limit + 1)).all()
        run_id = ""
    if len(rows) <= limit:
        others = query.where(latest.value.is_(None), latest.run_id > run_id).order_by(latest.run_id)
        rows += connection.execute(others.limit(limit + 1 - len(rows))).all()
    return page_of(
        rows, limit, _listed(connection, rows), lambda row: encode_cursor(of, repr(row.latest_value), row.id)
    )


@dataclass(frozen=True)
class _Order:
    """What runs are sorted by, then by id; its cursors are no other order's."""

    of: str
    column: Column[Any]
    falls: bool

    def cursor(self, row: Row[Any]) -> str:
        value = row._mapping[self.column]
        return encode_cursor(
            self.of, value.isoformat() if isinstance(value, datetime) else str(value), row.id
        )

    def position(self, cursor: str) -> "ColumnElement[Any]":
        """The row that a cursor names, to be compared with others; raises ValueError."""
        text, run_id = decode_cursor(cursor, self.of, str, str)
        value: Any = text
        try:
            if isinstance(self.column.type, UtcDateTime):
                value = datetime.fromisoformat(text).astimezone(UTC)
            elif isinstance(self.column.type, Float) and not math.isfinite(value := float(text)):
                raise ValueError
        except (ValueError, OverflowError):  # no time, or one before the year 1 in UTC; no number
            raise ValueError(BAD_CURSOR) from None
        return tuple_(literal(value, self.column.type), run_id)


_COLUMNS = {"created_at": run.c.created_at, "best": run.c.best_value, "name": run.c.name}
_ORDERS = {
    order: _Order(
        "runs" if order is RunOrder.NEWEST else f"runs {order}", _COLUMNS[order.lstrip("-")], order[0] == "-"
    )
    for order in RunOrder
}


def _add_logs(connection: Connection, locked: LockedRun, lines: Sequence[tuple[str, str]]) -> None:
    """Append log lines, numbered on."""
    first = locked.row.last_log_seq + 1
    rows = [
        {"run_id": locked.row.id, "seq": seq, "level": level, "message": message}
        for seq, (level, message) in enumerate(lines, start=first)
    ]
    connection.execute(insert(run_log).values(at=now()), rows)
    locked.change(last_log_seq=locked.row.last_log_seq + len(rows))


def insert_run(connection: Connection, new: NewRun, by: str | None) -> LockedRun:
    """Store a queued run; what is returned is still to be written."""
    compared = [node["checkpoint"] for node in new.config.get("compared") or ()]
    for needed in [*compared, *([new.source_checkpoint] if new.source_checkpoint else [])]:
        if connection.execute(select(checkpoint.c.id).where(checkpoint.c.id == needed)).first() is None:
            raise NotFoundError(f"there is no checkpoint {needed}")
    owner = connection.execute(select(run.c.project).where(run.c.id == new.id)).scalar_one_or_none()
    if owner not in (None, new.project):  # a client chose the id of another project's run
        raise NotFoundError(f"there is no run {new.id}", run_id=new.id)
    if owner is not None:
        raise StateConflictError(f"there is a run {new.id} already, with another content")
    row = connection.execute(
        insert(run).values(**row_values(new), created_at=now()).returning(*LOCKED_COLUMNS, run.c.created_at)
    ).one()
    if new.labels:
        shared = {"run_id": new.id, "created_at": row.created_at}
        labels = [{**shared, "key": key, "value": value} for key, value in new.labels.items()]
        connection.execute(insert(run_label), labels)
    if compared:
        places = [{"run_id": new.id, "place": i, "checkpoint_id": one} for i, one in enumerate(compared)]
        connection.execute(insert(compared_checkpoint), places)
    locked = LockedRun(connection, row)
    if new.continues is not None:
        copied, best = copy_checkpoints(connection, new.id, new.continues.checkpoint)
        locked.change(continues=asdict(replace(new.continues, checkpoint=copied)), best=best and asdict(best))
    facts = {"state": RunState.QUEUED.value, "from": None, "reason": None, "attempt": 0, "by": by}
    locked.event(EventType.STATE, facts)
    return locked


def stop_run(locked: LockedRun, wish: StopReason, by: str | None) -> None:
    """Stop at once what no worker holds; wish it of a worker otherwise."""
    known = locked.row.stop_wish
    if known in ENDING_WISHES and wish is not StopReason.CANCEL and not locked.state.is_terminal:
        wish = StopReason(known)
    rests = STOPPED_STATES[wish]
    if locked.state.is_terminal:
        message = f"run {locked.row.id} is {locked.state} and can no longer be {rests}"
        raise StateConflictError(message, state=locked.state.value)
    if locked.state in LEASED_STATES:
        locked.change(stop_wish=wish.value)
        if locked.state is RunState.RUNNING:
            locked.move(RunState.STOPPING, reason=wish.value, by=by)
    elif locked.state is not rests:
        locked.change(stop_wish=wish.value if rests.is_terminal else None)
        locked.move(rests, reason=wish.value, by=by)


def resume_run(locked: LockedRun, by: str | None) -> None:
    """Give a paused run back to the queue; one on its way to its pause goes on."""
    if locked.state is RunState.STOPPING and locked.row.stop_wish == StopReason.PAUSE:
        locked.change(stop_wish=None)
        locked.move(RunState.RUNNING, reason="user_resume", by=by)
    elif locked.state is RunState.PAUSED:
        locked.move(RunState.QUEUED, reason="user_resume", by=by)
    else:
        message = f"run {locked.row.id} is {locked.state}; only a paused run can be resumed"
        raise StateConflictError(message, state=locked.state.value)


def _merge_labels(connection: Connection, run_id: str, labels: Mapping[str, str | None] | None) -> None:
    """Set labels, and take away those with None; None alone takes all away."""
    ours = delete(run_label).where(run_label.c.run_id == run_id)
    if labels is None:
        connection.execute(ours)
        return
    keys = [clean_text(key) for key in labels]
    created_at = connection.execute(select(run.c.created_at).where(run.c.id == run_id)).scalar_one()
    connection.execute(ours.where(run_label.c.key.in_(keys)))
    kept = {clean_text(key): value for key, value in labels.items() if value is not None}
    if kept:
        shared = {"run_id": run_id, "created_at": created_at}
        connection.execute(insert(run_label), [{**shared, "key": k, "value": v} for k, v in kept.items()])
    many = select(func.count()).select_from(run_label).where(run_label.c.run_id == run_id)
    if connection.execute(many).scalar_one() > MOST_LABELS:
        raise StateConflictError(f"run {run_id} would have more than {MOST_LABELS} labels; take some away")


def _require_place(connection: Connection, max_queued: int) -> None:
    """Pass when the queue has room: counted in its index, which a long history does not slow down."""
    queue = select(run.c.id).where(run.c.state == RunState.QUEUED).limit(max_queued).subquery()
    queued = connection.execute(select(func.count()).select_from(queue)).scalar_one()
    if queued >= max_queued:
        raise CapacityError(
            f"{queued} runs are waiting already; try again later.", retry_after_s=FULL_RETRY_S
        )


def _made_before(connection: Connection, run_id: str, key: str, digest: str) -> Run | None:
    """Reserve the key for this run; the run that has it already is returned instead.

    A submission with the same key in another transaction is waited for.
    """
    reserve = upsert(connection)(idempotency_key).values(
        key=key, digest=digest, run_id=run_id, created_at=now()
    )
    reserved = connection.execute(reserve.on_conflict_do_nothing().returning(idempotency_key.c.key))
    return None if reserved.one_or_none() is not None else _made_with(connection, key, digest)


def _made_with(connection: Connection, key: str, digest: str) -> Run | None:
    known = connection.execute(select(idempotency_key).where(idempotency_key.c.key == key)).one_or_none()
    if known is None:
        return None
    if known.digest != digest:
        raise IdempotencyConflictError(
            f"this Idempotency-Key made run {known.run_id} with another body; use a new key",
            run_id=known.run_id,
        )
    return read_run(connection, known.run_id)
