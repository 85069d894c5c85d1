"""How many runs there are of each kind and state, without counting again those that ended long ago.

A run that has ended never changes. What ended more than :data:`SETTLED_S` ago is added up once and remembered; each
count looks at what has not ended and at what ended since. So it costs what goes on, and not what was ever done.
"""

import threading
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Any, TypeAlias

from sqlalchemy import Connection, bindparam, case, func, or_, select

from service.domain.run import RunKind, RunState, RunStatistics
from service.store.tables import run
from service.store.types import UtcDateTime, now, seconds_since

SETTLED_S = 120.0
"""No transaction takes this long: what it wrote of an end before is visible."""
AFRESH_S = 3600.0
"""After this time all is counted again, for clocks may be set back."""

_EVER = datetime(1, 1, 2, tzinfo=UTC)
_SETTLED = bindparam("settled", type_=UtcDateTime())
_SINCE = bindparam("since", type_=UtcDateTime())
_IS_SETTLED = case((run.c.finished_at <= _SETTLED, 1), else_=0)
_COUNTS = (
    select(
        run.c.project,
        run.c.kind,
        run.c.state,
        _IS_SETTLED.label("is_settled"),
        func.count().label("count"),
        func.min(run.c.created_at, type_=UtcDateTime()).label("oldest"),
        func.sum(seconds_since(run.c.started_at) - seconds_since(run.c.finished_at)).label("seconds"),
    )
    .where(or_(run.c.finished_at.is_(None), run.c.finished_at > _SINCE))
    .group_by(run.c.project, run.c.kind, run.c.state, "is_settled")
)

_Key: TypeAlias = tuple[str, str, str]


@dataclass(frozen=True)
class _Sum:
    count: int
    oldest: datetime
    seconds: float

    def __add__(self, other: "_Sum") -> "_Sum":
        return _Sum(self.count + other.count, min(self.oldest, other.oldest), self.seconds + other.seconds)


class Tally:
    """The counts of one database; safe to share between threads."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._settled: dict[_Key, _Sum] = {}
        self._since = self._afresh = _EVER

    def counted(
        self, connection: Connection, project: str | None
    ) -> dict[tuple[RunKind, RunState], RunStatistics]:
        """The counts of one project, or of all, as this transaction sees them."""
        clock = connection.execute(select(now())).scalar_one()
        with self._lock:
            if not self._afresh <= clock < self._afresh + timedelta(seconds=AFRESH_S):
                self._settled, self._since, self._afresh = {}, _EVER, clock
            settled = max(self._since, clock - timedelta(seconds=SETTLED_S))
            rows = connection.execute(_COUNTS, {"settled": settled, "since": self._since}).all()
            self._settled = _added(self._settled, [tuple(row) for row in rows if row.is_settled])
            self._since = settled
            sums = _added(self._settled, [tuple(row) for row in rows if not row.is_settled])
        wanted: dict[tuple[str, str], _Sum] = {}
        for (owner, *key), total in sums.items():
            if project in (None, owner):
                kind_and_state = (key[0], key[1])
                known = wanted.get(kind_and_state)
                wanted[kind_and_state] = total if known is None else known + total
        return {
            (RunKind(kind), RunState(state)): RunStatistics(
                count=total.count,
                oldest_s=max(0.0, (clock - total.oldest).total_seconds()),
                seconds=max(0.0, total.seconds),
            )
            for (kind, state), total in wanted.items()
        }


def _added(sums: Mapping[_Key, _Sum], rows: Iterable[tuple[Any, ...]]) -> dict[_Key, _Sum]:
    """The sums with these counts in them."""
    total = dict(sums)
    for *key, _, count, oldest, seconds in rows:
        found = _Sum(count, oldest, seconds or 0.0)
        known = total.get((key[0], key[1], key[2]))
        total[key[0], key[1], key[2]] = found if known is None else known + found
    return total
