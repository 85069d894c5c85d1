"""The events of all runs in one order, which is that of their commits: nobody who reads on misses one.

A sequence of the database would not do: who takes a number first may commit last, when a reader has gone past it. On
SQLite there is one writer at a time; on PostgreSQL whoever takes positions waits for the commit of those before.
"""

from collections.abc import Collection, Sequence
from functools import lru_cache
from typing import Any

from sqlalchemy import BigInteger, Connection, Integer, Select, and_, bindparam, select, union_all

from service.domain.run import Event, EventType
from service.store.tables import event_counter, run_event
from service.store.types import upsert


def take_positions(connection: Connection, count: int) -> int:
    """Take so many positions, which are those after the one that is returned; held until the end of the transaction."""
    statement = upsert(connection)(event_counter).values(id=1, position=count)
    raised = {"position": event_counter.c.position + count}
    statement = statement.on_conflict_do_update(index_elements=["id"], set_=raised)
    newest: int = connection.execute(statement.returning(event_counter.c.position)).scalar_one()
    return newest - count


def newest_position(connection: Connection) -> int:
    """Of the newest event, 0 before the first one."""
    return connection.execute(select(event_counter.c.position)).scalar_one_or_none() or 0


def events_after(
    connection: Connection, position: int, types: Collection[EventType], limit: int
) -> Sequence[Event]:
    """The next events of these types, or of all."""
    rows = connection.execute(
        _next_events(tuple(sorted({*types} or EventType))), {"behind": position, "most": limit}
    )
    return [Event(**{**row._mapping, "type": EventType(row.type)}) for row in rows]


@lru_cache(maxsize=64)
def _next_events(types: tuple[EventType, ...]) -> Select[Any]:
    """One look at the index for each type, in one statement: of several each would see another state of PostgreSQL.

    Made once: building a statement of so many parts takes longer than executing it.
    """
    table, behind, most = run_event.c, bindparam("behind", type_=BigInteger), bindparam("most", type_=Integer)
    found = union_all(
        *(
            select(
                select(table.position, table.run_id, table.seq)
                .where(table.type == type_.value, table.position > behind)
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
