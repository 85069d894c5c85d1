"""A run's row: read as a run, and locked until the transaction ends. Every change of a run goes through here.

Changes and events are collected and written once, by an UPDATE that still demands the state, and for a worker
the lease, that the row was locked with. So a stale worker writes nothing, a terminal row never changes, and
events are numbered without gaps.

Who changes several runs locks all of them, in the order of their ids, and writes them together: the first event
takes the counter of all events, and whoever has it must not wait for a run whose worker waits for the counter.
"""

import math
import unicodedata
from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict, fields, replace
from typing import Any, Self

from sqlalchemy import (
    BindParameter,
    ClauseElement,
    ColumnElement,
    Connection,
    Row,
    Select,
    Text,
    and_,
    bindparam,
    func,
    insert,
    literal,
    select,
    tuple_,
    type_coerce,
    update,
)

from service.domain.errors import NotFoundError, StaleLeaseError
from service.domain.run import (
    Best,
    Continuation,
    EventType,
    Lease,
    NewRun,
    Progress,
    QueuePlace,
    Run,
    RunKind,
    RunState,
    StopReason,
)
from service.domain.use_cases import LEASED_STATES, require_legal, result_summary, subject
from service.store.events import take_positions
from service.store.tables import run, run_event, run_label, worker
from service.store.types import UtcDateTime, after_now, now
from service.store.webhooks import queue_ends

LOCKED_COLUMNS = tuple(
    run.c[name]
    for name in (
        "id", "state", "reason", "stop_wish", "phase", "progress", "latest_metrics", "attempt", "free_attempts",
        "worker", "revision", "epoch_token", "last_seq", "last_log_seq", "project",
    )
)  # fmt: skip
"""What a change of a run looks at: not the configuration, which is long."""

_AT_END: Mapping[RunState, Mapping[str, float]] = {RunState.SUCCEEDED: {"fraction": 1.0, "eta_s": 0.0}}
"""State → what an ended run's progress says: also of one that a target or a budget has ended. Of others it stays
known how far they came, and nothing is left to wait for."""
WORKER_SILENT_S = 60.0
"""A worker that was not seen for longer is taken for gone by whoever waits."""

_RUN_FIELDS = frozenset(field.name for field in fields(Run))

LISTED_COLUMNS = tuple(column for column in run.c if column.name not in ("request", "config"))

# Made once: building a statement of this many columns takes longer than executing it.
_IDS: BindParameter[Sequence[str]] = bindparam("ids", expanding=True)
_RUN = select(run).where(run.c.id.in_(_IDS))
_SHOWN = select(*LISTED_COLUMNS).where(run.c.id.in_(_IDS))
_LABELS = select(run_label).where(run_label.c.run_id.in_(_IDS)).order_by(run_label.c.key)


def row_values(new: NewRun) -> dict[str, Any]:
    """The columns of a queued run; the caller adds its times."""
    facts = {field.name: getattr(new, field.name) for field in fields(new) if field.name != "labels"}
    facts["precedence"] = -facts.pop("priority")
    facts["continues"] = new.continues and asdict(new.continues)
    facts["folded_name"] = folded(new.name)
    facts |= subject(new.config)
    return facts | {"state": RunState.QUEUED.value, "progress": asdict(Progress()), "latest_metrics": {}}


def folded(name: str | None) -> str | None:
    """A name as it is looked for: in any case, form and with or without accents, as İstanbul by istanbul.

    Unicode's compatibility caseless matching (D147), without the marks, as searches at UTS #10's primary level are.
    """
    if name is None:
        return None
    text = unicodedata.normalize("NFKD", unicodedata.normalize("NFKD", name).casefold())
    return "".join(letter for letter in text if not unicodedata.combining(letter)) or text


def run_of(row: Row[Any], labels: Mapping[str, str]) -> Run:
    """The run that a row of the ``run`` table and its labels describe; what the row lacks is empty."""
    columns = {name: value for name, value in row._mapping.items() if name in _RUN_FIELDS}
    converted = {
        "kind": RunKind(row.kind),
        "state": RunState(row.state),
        "progress": Progress(**row.progress),
        "best": None if row.best is None else Best(**row.best),
        "priority": -row.precedence,
        "continues": None if row.continues is None else Continuation(**row.continues),
        "stop_wish": None if row.stop_wish is None else StopReason(row.stop_wish),
    }
    return Run(labels=labels, **(columns | converted))


def labels_of(connection: Connection, run_ids: Sequence[str]) -> dict[str, dict[str, str]]:
    """Labels per run id; every id has an entry."""
    labels: dict[str, dict[str, str]] = {run_id: {} for run_id in run_ids}
    for row in connection.execute(_LABELS, {"ids": run_ids}):
        labels[row.run_id][row.key] = row.value
    return labels


def read_run(connection: Connection, run_id: str) -> Run:
    """The whole run; raises :class:`NotFoundError`."""
    found = _runs(connection, _RUN, [run_id])
    if not found:
        raise _no_run(run_id)
    return found[0]


def shown_runs(connection: Connection, run_ids: Sequence[str]) -> list[Run]:
    """Those of the runs that there are, without request and configuration."""
    return _runs(connection, _SHOWN, run_ids)


def _runs(connection: Connection, query: Select[Any], run_ids: Sequence[str]) -> list[Run]:
    rows = connection.execute(query, {"ids": run_ids}).all()
    labels = labels_of(connection, [row.id for row in rows])
    return [_with_place(connection, row, labels[row.id]) for row in rows]


def _with_place(connection: Connection, row: Row[Any], labels: Mapping[str, str]) -> Run:
    """The run, with its place where it waits."""
    found = run_of(row, labels)
    if found.state is not RunState.QUEUED:
        return found
    here = tuple_(row.precedence, literal(row.created_at, UtcDateTime()), row.id)
    before = tuple_(run.c.precedence, run.c.created_at, run.c.id) < here
    ahead = (
        select(func.count())
        .where(run.c.state == RunState.QUEUED, run.c.project == row.project, before)
        .scalar_subquery()
    )
    alive = select(func.count()).where(worker.c.last_seen_at > after_now(-WORKER_SILENT_S))
    filming = alive.where(type_coerce(worker.c.info, Text).not_like('%"films":false%'))
    counts = {"ahead": ahead, "alive": alive.scalar_subquery(), "filming": filming.scalar_subquery()}
    place = connection.execute(select(*(count.label(name) for name, count in counts.items()))).one()
    if not place.alive:
        waits_for = "worker"
    elif found.arguments.get("videos") and not place.filming:
        waits_for = "filming"
    else:
        waits_for = "turn" if place.ahead else "slot"
    return replace(found, queue=QueuePlace(ahead=place.ahead, waits_for=waits_for))


def listed_run(row: Row[Any], labels: Mapping[str, str]) -> Run:
    """The run as a list shows it; the row holds :data:`LISTED_COLUMNS`."""
    return replace(run_of(row, labels), result=result_summary(row.result))


def _no_run(run_id: str) -> NotFoundError:
    return NotFoundError(f"there is no run {run_id}", run_id=run_id)


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


def _locking() -> Select[Any]:
    return select(*LOCKED_COLUMNS).with_for_update()


class LockedRun:
    """Changes and events of one run, which :meth:`write` or :func:`write_all` writes down."""

    def __init__(self, connection: Connection, row: Row[Any]) -> None:
        self.row = row
        self._connection = connection
        self._changes: dict[str, Any] = {}
        self._events: list[tuple[EventType, Mapping[str, Any]]] = []

    @classmethod
    def by_id(cls, connection: Connection, run_id: str) -> Self:
        """Lock a run; raises :class:`NotFoundError`."""
        row = connection.execute(_locking().where(run.c.id == run_id)).one_or_none()
        if row is None:
            raise _no_run(run_id)
        return cls(connection, row)

    @classmethod
    def by_lease(cls, connection: Connection, lease: Lease) -> Self:
        """Lock the run that a worker holds; raises :class:`StaleLeaseError`."""
        row = connection.execute(_locking().where(holds(lease))).one_or_none()
        if row is None:
            raise stale(lease)
        return cls(connection, row)

    @classmethod
    def several(cls, connection: Connection, *where: ColumnElement[bool]) -> list[Self]:
        """Lock the runs that these conditions hold for, in the order of their ids."""
        rows = connection.execute(_locking().where(*where).order_by(run.c.id)).all()
        return [cls(connection, row) for row in rows]

    @property
    def state(self) -> RunState:
        """The state, with the changes so far."""
        return RunState(self._changes.get("state", self.row.state))

    def change(self, **columns: Any) -> None:
        """Set columns when writing."""
        self._changes.update(columns)
        if "best" in columns:
            value = columns["best"] and columns["best"]["value"]
            self._changes["best_value"] = value if value is not None and math.isfinite(value) else None

    def event(self, type_: EventType, data: Mapping[str, Any]) -> None:
        """Append an event when writing."""
        self._events.append((type_, data))

    def move(self, state: RunState, *, reason: str | None, by: str | None = None) -> None:
        """Go to another state, with its ``state`` event and, at an end, ``finished_at`` and ``end``.

        Args:
            state: where to.
            reason: why.
            by: who wants it; the run's worker where nobody is named.

        Raises:
            StateConflictError: the state diagram has no such arrow.
        """
        previous = self.state
        require_legal(self.row.id, previous, state)
        self.change(state=state.value, reason=reason)
        attempt = self._changes.get("attempt", self.row.attempt)
        facts = {"state": state.value, "from": previous.value, "reason": reason, "attempt": attempt}
        self.event(EventType.STATE, {**facts, "by": by or self.row.worker})
        if state in LEASED_STATES:
            return
        self.change(phase=None, lease_until=None)
        if state.is_terminal:
            progress = self._changes.get("progress", self.row.progress)
            self.change(finished_at=now(), progress={**progress, **_AT_END.get(state, {"eta_s": None})})
            ends = {name: self._changes.get(name) for name in ("result", "error")}
            self.event(EventType.END, {"state": state.value, "reason": reason, **ends})
        else:
            self.change(worker=None)

    def give_back(self, *, reason: str) -> None:
        """Go back to the queue, or where a client wants the run paused, to its pause."""
        if self.row.stop_wish == StopReason.PAUSE:
            self.change(stop_wish=None)
            self.move(RunState.PAUSED, reason=StopReason.PAUSE.value)
        else:
            self.move(RunState.QUEUED, reason=reason)

    def write(self) -> None:
        """Write what was collected."""
        write_all(self._connection, [self])

    def written(self) -> Run:
        """Write what was collected; the run as it is then."""
        self.write()
        return read_run(self._connection, self.row.id)

    def update(self) -> tuple[dict[str, Any], dict[str, Any]]:
        """What the row gets: as parameters, and as expressions of SQL."""
        row, values = self.row, {**self._changes, "last_seq": self.row.last_seq + len(self._events)}
        computed = {name: value for name, value in values.items() if isinstance(value, ClauseElement)}
        plain = {name: value for name, value in values.items() if name not in computed}
        return {**plain, "of_id": row.id, "of_state": row.state, "of_token": row.epoch_token}, computed

    def numbered_events(self) -> list[dict[str, Any]]:
        """Rows of the events, without their positions among those of the project."""
        of_run = {"run_id": self.row.id, "project": self.row.project}
        return [
            {**of_run, "seq": seq, "type": type_.value, "data": dict(data)}
            for seq, (type_, data) in enumerate(self._events, start=self.row.last_seq + 1)
        ]

    @property
    def is_changed(self) -> bool:
        """Whether there is anything to write."""
        return bool(self._changes or self._events)


_UNCHANGED = update(run).where(
    run.c.id == bindparam("of_id"),
    run.c.state == bindparam("of_state"),
    run.c.epoch_token == bindparam("of_token"),
)


def write_all(connection: Connection, runs: Iterable[LockedRun]) -> None:
    """Write what was collected of several runs, in few statements; their events come last."""
    runs = [locked for locked in runs if locked.is_changed]
    alike: dict[tuple[frozenset[str], frozenset[str]], list[tuple[dict[str, Any], dict[str, Any]]]]
    alike = defaultdict(list)
    for locked in runs:
        values, computed = locked.update()
        alike[frozenset(values), frozenset(computed)].append((values, computed))
    for updates in alike.values():
        statement = _UNCHANGED.values(updates[0][1]) if updates[0][1] else _UNCHANGED
        if connection.execute(statement, [values for values, _ in updates]).rowcount != len(updates):
            ids = ", ".join(values["of_id"] for values, _ in updates)
            raise StaleLeaseError(f"of {ids} one changed while it was locked")
    events = [event for locked in runs for event in locked.numbered_events()]
    if not events:
        return
    by_project: dict[str, list[dict[str, Any]]] = defaultdict(list)
    for event in events:
        by_project[event["project"]].append(event)
    for project in sorted(by_project):  # sorted: two who change runs of several never deadlock
        first = take_positions(connection, project, len(by_project[project])) + 1
        for position, event in enumerate(by_project[project], start=first):
            event["position"] = position
    connection.execute(insert(run_event).values(at=now()), events)
    ended = {event["run_id"]: event["project"] for event in events if event["type"] == EventType.END}
    queue_ends(connection, {*ended.values()}, lambda: _runs(connection, _RUN, [*ended]))
