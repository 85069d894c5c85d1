"""What a run wrote on its way: events, metric points and log lines, inside the caller's transaction."""

from collections import defaultdict
from collections.abc import Sequence
from dataclasses import asdict
from typing import Any

from sqlalchemy import Connection, insert, select
from sqlalchemy.dialects import postgresql, sqlite

from service.domain.run import Event, EventType, LogLine, MetricPoint, Progress
from service.store.locked_run import LockedRun
from service.store.tables import run_event, run_log, run_metric
from service.store.types import clean_text, now


def add_phase(locked: LockedRun, phase: str) -> None:
    """Enter a phase; the one the run is in already is nothing new."""
    if phase != locked.row.phase:
        locked.change(phase=phase)
        locked.event(EventType.PHASE, {"phase": phase})


def add_progress(locked: LockedRun, progress: Progress) -> None:
    """Replace the run's progress."""
    locked.change(progress=asdict(progress))


def add_metrics(connection: Connection, locked: LockedRun, points: Sequence[MetricPoint]) -> None:
    """Write points over older ones of the same name and epoch, and announce each epoch in one event."""
    rows = {
        (point.epoch, clean_text(point.name)): {
            "run_id": locked.row.id,
            "epoch": point.epoch,
            "name": clean_text(point.name),
            "step": point.step,
            "value": point.value,
        }
        for point in points
    }
    statement = upsert(connection)(run_metric).values(at=now())
    fresh = {name: statement.excluded[name] for name in ("step", "value", "at")}
    statement = statement.on_conflict_do_update(index_elements=run_metric.primary_key, set_=fresh)
    connection.execute(statement, [*rows.values()])
    steps: dict[tuple[int, int], dict[str, float]] = defaultdict(dict)
    for row in rows.values():
        steps[row["epoch"], row["step"]][row["name"]] = row["value"]
    for (epoch, step), values in steps.items():
        locked.event(EventType.METRICS, {"epoch": epoch, "step": step, "values": values})
    latest = {row["name"]: row["value"] for row in sorted(rows.values(), key=lambda row: row["epoch"])}
    locked.change(latest_metrics={**locked.row.latest_metrics, **latest})


def add_logs(connection: Connection, locked: LockedRun, lines: Sequence[tuple[str, str]]) -> None:
    """Append log lines, numbered on."""
    first = locked.row.last_log_seq + 1
    rows = [
        {"run_id": locked.row.id, "seq": seq, "level": level, "message": message}
        for seq, (level, message) in enumerate(lines, start=first)
    ]
    connection.execute(insert(run_log).values(at=now()), rows)
    locked.change(last_log_seq=locked.row.last_log_seq + len(rows))


def events(connection: Connection, run_id: str, after: int, limit: int) -> list[Event]:
    """Events with ``seq > after`` in order."""
    query = select(run_event).where(run_event.c.run_id == run_id, run_event.c.seq > after)
    rows = connection.execute(query.order_by(run_event.c.seq).limit(limit))
    return [
        Event(run_id=row.run_id, seq=row.seq, at=row.at, type=EventType(row.type), data=row.data)
        for row in rows
    ]


def metrics(
    connection: Connection, run_id: str, names: Sequence[str] | None, after_epoch: int | None, limit: int
) -> list[MetricPoint]:
    """Points by epoch, then name."""
    table = run_metric.c
    query = select(run_metric).where(table.run_id == run_id)
    if names is not None:
        query = query.where(table.name.in_(names))
    if after_epoch is not None:
        query = query.where(table.epoch > after_epoch)
    rows = connection.execute(query.order_by(table.epoch, table.name).limit(limit))
    return [
        MetricPoint(name=row.name, epoch=row.epoch, step=row.step, value=row.value, at=row.at) for row in rows
    ]


def logs(connection: Connection, run_id: str, after: int, limit: int) -> list[LogLine]:
    """Log lines with ``seq > after`` in order."""
    query = select(run_log).where(run_log.c.run_id == run_id, run_log.c.seq > after)
    rows = connection.execute(query.order_by(run_log.c.seq).limit(limit))
    return [LogLine(seq=row.seq, at=row.at, level=row.level, message=row.message) for row in rows]


def upsert(connection: Connection) -> Any:
    """The dialect's ``insert`` with ``on_conflict_…``; both databases spell it alike, SQLAlchemy does not."""
    return sqlite.insert if connection.dialect.name == "sqlite" else postgresql.insert
