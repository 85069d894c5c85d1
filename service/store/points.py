"""Metric points: written with what charts and sorting need of them, and read as charts.

A chart of a million points may not read them all. So the least and the greatest value of every 16, 256, 4096 and 65536
epochs are stored beside the points, as soon as a later epoch has begun; a point that is written again has its epochs
looked at again. A chart then reads few rows for each of its own stretches, and is exact.
"""

import math
from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from sqlalchemy import BigInteger, ColumnElement, Connection, Row, func, literal, select

from service.domain.run import EventType, MetricPoint
from service.store.run_rows import LockedRun
from service.store.tables import run_extreme, run_latest, run_metric
from service.store.types import clean_text, now, upsert

WIDTHS = (16, 256, 4096, 65536)
"""Epochs whose extremes are stored together; each is 16 of those before."""
FACTOR = 16


@dataclass(frozen=True)
class Extremes:
    """Where a metric was least, greatest and NaN within some epochs."""

    begin: int
    """The first of the epochs."""
    low: float | None
    low_epoch: int | None
    high: float | None
    high_epoch: int | None
    nan_epoch: int | None
    """The first one where the value is NaN."""

    @property
    def epochs(self) -> set[int]:
        """Of what stands out."""
        return {epoch for epoch in (self.low_epoch, self.high_epoch, self.nan_epoch) if epoch is not None}


def point_of(row: Row[Any]) -> MetricPoint:
    """A stored point."""
    return MetricPoint(name=row.name, epoch=row.epoch, step=row.step, value=row.value, at=row.at)


def within(after_epoch: int | None, before_epoch: int | None) -> list[ColumnElement[bool]]:
    """What is true of points that lie between two epochs, or on one side of one."""
    after = [] if after_epoch is None else [run_metric.c.epoch > after_epoch]
    return after if before_epoch is None else [*after, run_metric.c.epoch < before_epoch]


def add_points(connection: Connection, locked: LockedRun, points: Sequence[MetricPoint]) -> None:
    """Write points over older ones of the same name and epoch, and announce each epoch in one event."""
    run_id = locked.row.id
    rows = {
        (point.epoch, clean_text(point.name)): {
            "run_id": run_id,
            "epoch": point.epoch,
            "name": clean_text(point.name),
            "step": point.step,
            "value": point.value,
        }
        for point in points
    }
    before = _newest_epoch(connection, run_id)
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
    _put(connection, run_latest, [{"run_id": run_id, "name": name, "value": v} for name, v in latest.items()])
    known = {**locked.row.latest_metrics, **latest}
    locked.change(latest_metrics=known)
    changed = {epoch for epoch, _ in rows} | ({before} if before is not None else set())
    _store_extremes(connection, run_id, [*known], changed, max(changed))


def _newest_epoch(connection: Connection, run_id: str) -> int | None:
    query = select(func.max(run_metric.c.epoch)).where(run_metric.c.run_id == run_id)
    epoch: int | None = connection.execute(query).scalar_one()
    return epoch


def _put(connection: Connection, table: Any, rows: Sequence[Mapping[str, Any]]) -> None:
    """Write rows over those with the same key."""
    statement = upsert(connection)(table)
    fresh = {column.name: statement.excluded[column.name] for column in table.c if not column.primary_key}
    connection.execute(statement.on_conflict_do_update(index_elements=table.primary_key, set_=fresh), [*rows])


def _store_extremes(
    connection: Connection, run_id: str, names: Sequence[str], changed: Iterable[int], newest: int
) -> None:
    """Look again at all that holds a changed epoch and is complete: a later epoch than its last one has begun."""
    for width in WIDTHS:
        begins = sorted({epoch // width * width for epoch in changed if epoch // width < newest // width})
        if not begins:
            return
        rows = []
        for begin in begins:
            for name, parts in _parts(connection, run_id, names, begin, width).items():
                rows.append({"run_id": run_id, "name": name, "width": width, **vars(united(begin, parts))})
        if rows:
            _put(connection, run_extreme, rows)


def _parts(
    connection: Connection, run_id: str, names: Sequence[str], begin: int, width: int
) -> Mapping[str, list[Extremes]]:
    """By name what there is of these epochs: points, or stored extremes of a sixteenth of them each."""
    found: dict[str, list[Extremes]] = defaultdict(list)
    if width == WIDTHS[0]:
        table = run_metric.c
        query = select(table.name, table.epoch, table.value).where(
            table.run_id == run_id, table.epoch.between(begin, begin + width - 1)
        )
        for row in connection.execute(query.order_by(table.epoch)):
            found[row.name].append(_of_point(row.epoch, row.value))
        return found
    for name in names:
        if parts := _stored(connection, run_id, name, width // FACTOR, begin, begin + width):
            found[name] = parts
    return found


def _of_point(epoch: int, value: float) -> Extremes:
    if math.isnan(value):
        return Extremes(epoch, None, None, None, None, epoch)
    return Extremes(epoch, value, epoch, value, epoch, None)


def united(begin: int, parts: Iterable[Extremes]) -> Extremes:
    """The extremes of parts in order, of which the first counts among equals."""
    parts = list(parts)
    lows = [(part.low, part.low_epoch) for part in parts if part.low is not None]
    highs = [(part.high, part.high_epoch) for part in parts if part.high is not None]
    low, low_epoch = min(lows, key=lambda found: found[0], default=(None, None))
    high, high_epoch = max(highs, key=lambda found: found[0], default=(None, None))
    nan_epoch = next((part.nan_epoch for part in parts if part.nan_epoch is not None), None)
    return Extremes(begin, low, low_epoch, high, high_epoch, nan_epoch)


_COLUMNS = tuple(run_extreme.c[name] for name in Extremes.__dataclass_fields__)


def _stored(
    connection: Connection, run_id: str, name: str, width: int, first: int, end: int
) -> list[Extremes]:
    table = run_extreme.c
    query = select(*_COLUMNS).where(
        table.run_id == run_id,
        table.name == name,
        table.width == width,
        table.begin.between(first, end - 1),
    )
    return [Extremes(*row) for row in connection.execute(query.order_by(table.begin))]


def charted(
    connection: Connection,
    run_id: str,
    name: str,
    max_points: int,
    after_epoch: int | None,
    before_epoch: int | None,
) -> Sequence[MetricPoint]:
    """The points that make up a chart; see :meth:`service.domain.ports.RunStore.chart`."""
    ends = _ends(connection, run_id, name, after_epoch, before_epoch)
    newest = _newest_epoch(connection, run_id)
    if ends is None or newest is None:
        return []
    first, last = ends
    if last - first < max_points:
        return _points(connection, run_id, name, range(first, last + 1))
    for each in (2, 3):  # of a stretch: the least and the greatest, or a NaN as well
        epochs = {first, last}
        for stretch in _stretches(connection, run_id, name, first, last, newest, (max_points - 2) // each):
            epochs |= stretch.epochs
        if len(epochs) <= max_points:
            break
    return _points(connection, run_id, name, sorted(epochs))


def _ends(
    connection: Connection,
    run_id: str,
    name: str,
    after_epoch: int | None = None,
    before_epoch: int | None = None,
) -> tuple[int, int] | None:
    table = run_metric.c
    of_name = table.run_id == run_id, table.name == name, *within(after_epoch, before_epoch)
    # two questions: asked for both at once, SQLite reads all that lies between
    ends = [select(end(table.epoch)).where(*of_name).scalar_subquery() for end in (func.min, func.max)]
    first, last = connection.execute(select(*ends)).one()
    return None if first is None else (first, last)


def _points(connection: Connection, run_id: str, name: str, epochs: Sequence[int]) -> Sequence[MetricPoint]:
    table = run_metric.c
    query = select(run_metric).where(table.run_id == run_id, table.name == name)
    if isinstance(epochs, range):
        query = query.where(table.epoch.between(epochs.start, epochs.stop - 1))
    else:
        query = query.where(table.epoch.in_(epochs))
    return [point_of(row) for row in connection.execute(query.order_by(table.epoch))]


def _stretches(
    connection: Connection, run_id: str, name: str, first: int, last: int, newest: int, most: int
) -> Iterable[Extremes]:
    """Extremes of at most so many stretches of equally many epochs that lie between two epochs."""
    size = -(-(last - first + 1) // most)
    width = max(width for width in (1, *WIDTHS) if width == 1 or 2 * width <= size)  # or it is rounded up far
    origin, size = first // width * width, -(-size // width) * width
    while -(-(last + 1 - origin) // size) > most:
        size += width
    by_stretch: dict[int, list[Extremes]] = defaultdict(list)
    for part in _between(connection, run_id, name, first, last + 1, width, newest):
        by_stretch[(part.begin - origin) // size].append(part)
    return [united(origin + number * size, parts) for number, parts in by_stretch.items()]


def _between(
    connection: Connection, run_id: str, name: str, first: int, end: int, width: int, newest: int
) -> list[Extremes]:
    """What there is of these epochs, as coarse as ``width`` where that is stored."""
    if first >= end:
        return []
    if width == 1:
        table = run_metric.c
        query = select(table.epoch, table.value).where(
            table.run_id == run_id, table.name == name, table.epoch.between(first, end - 1)
        )
        return [_of_point(*row) for row in connection.execute(query.order_by(table.epoch))]
    begin = -(-first // width) * width
    stop = min(end, newest) // width * width
    if begin >= stop:
        return _between(connection, run_id, name, first, end, width // FACTOR, newest)
    return [
        *_between(connection, run_id, name, first, begin, width // FACTOR, newest),
        *_stored(connection, run_id, name, width, begin, stop),
        *_between(connection, run_id, name, stop, end, width // FACTOR, newest),
    ]


def spaced(
    connection: Connection, run_id: str, name: str, points: int, span: tuple[int, int] | None
) -> Sequence[MetricPoint]:
    """Evenly spaced points; see :meth:`service.domain.ports.RunStore.spaced`."""
    ends = span or _ends(connection, run_id, name)
    if ends is None:
        return []
    first, last = ends
    table = run_metric.c
    of_name = table.run_id == run_id, table.name == name
    # one seek in the index for each point that is wanted: what lies between is not read
    # of 64 bits: PostgreSQL would multiply epochs in 32
    grid = select(literal(0, BigInteger).label("i")).cte("grid", recursive=True)
    grid = grid.union_all(select(grid.c.i + 1).where(grid.c.i + 1 < points))
    wanted = first + grid.c.i * (last - first) // (points - 1)
    there = select(func.min(table.epoch)).where(*of_name, table.epoch >= wanted).scalar_subquery()
    query = select(run_metric).where(*of_name, table.epoch.in_(select(there).select_from(grid)))
    return [point_of(row) for row in connection.execute(query.order_by(table.epoch))]
