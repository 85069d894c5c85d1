"""The events of all runs of a project in one order, which is that of their commits: nobody who reads on misses one.

A sequence of the database would not do: who takes a number first may commit last, when a reader has gone past it. On
SQLite there is one writer at a time; on PostgreSQL whoever takes positions waits for the commit of those before.
"""

from collections.abc import Collection, Sequence
from dataclasses import fields
from functools import lru_cache
from typing import Any

from sqlalchemy import BigInteger, Connection, Integer, Select, String, and_, bindparam, select, union_all

from service.domain.run import Event, EventType
from service.store.tables import event_counter, run_event
from service.store.types import upsert


def take_positions(connection: Connection, project: str, count: int) -> int:
    """Take so many of a project's positions: those after the one returned; held until the end of the transaction."""
    statement = upsert(connection)(event_counter).values(project=project, position=count)
    raised = {"position": event_counter.c.position + count}
    statement = statement.on_conflict_do_update(index_elements=["project"], set_=raised)
    newest: int = connection.execute(statement.returning(event_counter.c.position)).scalar_one()
    return newest - count


def newest_position(connection: Connection, project: str) -> int:
    """Of a project's newest event, 0 before the first one."""
    ours = select(event_counter.c.position).where(event_counter.c.project == project)
    return connection.execute(ours).scalar_one_or_none() or 0


def events_after(
    connection: Connection, project: str, position: int, types: Collection[EventType], limit: int
) -> Sequence[Event]:
    """The next events of a project that have these types, or of all."""
    rows = connection.execute(
        _next_events(tuple(sorted({*types} or EventType))), {"behind": position, "most": limit, "of": project}
    )
    names = [field.name for field in fields(Event)]
    return [
        Event(**{**{name: row._mapping[name] for name in names}, "type": EventType(row.type)}) for row in rows
    ]


@lru_cache(maxsize=64)
def _next_events(types: tuple[EventType, ...]) -> Select[Any]:
    """One look at the index for each type, in one statement: of several each would see another state of PostgreSQL.

    Made once: building a statement of so many parts takes longer than executing it.
    """
    table, behind, most = run_event.c, bindparam("behind", type_=BigInteger), bindparam("most", type_=Integer)
    of = bindparam("of", type_=String)
    found = union_all(
        *(
            select(
                select(table.position, table.run_id, table.seq)
                .where(table.project == of, table.type == type_.value, table.position > behind)
                .order_by(table.position)
                .limit(most)
                .subquery()
            )
            for type_ in types
        )
    ).subquery()
    places = select(found.c.run_id, found.c.seq).order_by(found.c.position).limit(most).subquery()
    is_there = and_(table.run_id == places.c.run_id, table.seq == places.c.seq)
    return select(run_event).join(places, is_there).order_by(table.position)
