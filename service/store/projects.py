"""Projects over SQLAlchemy: their quotas, and what belongs to which one."""

from collections.abc import Mapping
from dataclasses import fields
from typing import Any

from sqlalchemy import Connection, Row, Select, bindparam, func, select

from service.domain.errors import NotFoundError, QuotaError
from service.domain.run import RunState
from service.domain.sharing import Project
from service.store.deletion import stored_bytes
from service.store.engine import Database
from service.store.events import take_positions
from service.store.tables import checkpoint, project, run, sweep, upload, webhook
from service.store.types import now, upsert

_COLUMNS = [project.c[field.name] for field in fields(Project)]
MIB = 2**20


def _owned(id_: Any, owner: Any) -> Select[Any]:
    return select(1).where(id_ == bindparam("id"), owner == bindparam("project"))


# Made once: building a statement takes longer than executing these.
_OWNED: Mapping[str, Select[Any]] = {
    **{table.name: _owned(table.c.id, table.c.project) for table in (run, sweep, upload, webhook)},
    "checkpoint": _owned(checkpoint.c.id, run.c.project).where(run.c.id == checkpoint.c.run_id),
}


class SqlProjectStore:
    """:class:`~service.domain.projects.ProjectStore` over SQLAlchemy; the port says what each method does."""

    def __init__(self, database: Database) -> None:
        self._database = database

    def owns(self, project: str, kind: str, id_: str) -> bool:
        """Whether this is the project's."""
        with self._database.reading() as connection:
            found = connection.execute(_OWNED[kind], {"id": id_, "project": project})
            return found.first() is not None

    def get(self, name: str) -> Project:
        """A project."""
        with self._database.reading() as connection:
            return _project(_row(connection, name))

    def list(self) -> list[Project]:
        """All of them."""
        with self._database.reading() as connection:
            return [_project(row) for row in connection.execute(select(*_COLUMNS).order_by(project.c.name))]

    def put(self, name: str, quotas: Mapping[str, Any]) -> tuple[Project, bool]:
        """Make a project or change its quotas."""
        with self._database.writing() as connection:
            known = select(project.c.name).where(project.c.name == name)
            is_new = connection.execute(known).first() is None
            statement = upsert(connection)(project).values(name=name, created_at=now(), **quotas)
            if quotas:
                statement = statement.on_conflict_do_update(index_elements=["name"], set_=dict(quotas))
            else:
                statement = statement.on_conflict_do_nothing()
            connection.execute(statement)
            return _project(_row(connection, name)), is_new


def left(connection: Connection, name: str) -> int:
    """How many more runs of a project may wait; what is stored is looked at when something is submitted."""
    limit = _row(connection, name).max_queued
    if limit is None:
        return 2**31
    _be_alone(connection, name)
    return max(0, int(limit) - _n_queued(connection, name, limit))


def _be_alone(connection: Connection, name: str) -> None:
    """Wait for whoever adds to the project at the moment, so that he is counted, and keep others waiting."""
    take_positions(connection, name, 0)


def _n_queued(connection: Connection, name: str, limit: int) -> int:
    """Runs of a project that wait; what is beyond the limit is not counted."""
    waiting = select(run.c.id).where(run.c.project == name, run.c.state == RunState.QUEUED).limit(limit)
    return int(connection.execute(select(func.count()).select_from(waiting.subquery())).scalar_one())


def require_quota(connection: Connection, name: str, n_more: int = 1) -> None:
    """Pass where a project may have so many more queued runs.

    Raises:
        NotFoundError: there is no such project.
        QuotaError: it has as much as it may have.
    """
    limits = _row(connection, name)
    if (limits.max_queued, limits.max_stored_mib) != (None, None):
        _be_alone(connection, name)
    if limits.max_queued is not None:
        used = _n_queued(connection, name, limits.max_queued)
        _require("max_queued", used, limits.max_queued, n_more)
    if limits.max_stored_mib is not None:
        used = -(-stored_bytes(connection, run.c.project == name) // MIB)
        _require("max_stored_mib", used, limits.max_stored_mib)


def _require(quota: str, used: int, limit: int, n_more: int = 1) -> None:
    if used + n_more > limit:
        raise QuotaError(
            f"the project's quota {quota} has no room for {n_more} more: {used} of {limit}; "
            "delete some, wait, or ask an admin for more",
            quota=quota,
            used=used,
            limit=limit,
        )


def _row(connection: Connection, name: str) -> Row[Any]:
    row = connection.execute(select(*_COLUMNS).where(project.c.name == name)).one_or_none()
    if row is None:
        raise NotFoundError(f"there is no project {name}; an admin makes one: PUT /v1/projects/{name}")
    return row


def _project(row: Row[Any]) -> Project:
    return Project(**row._mapping)
