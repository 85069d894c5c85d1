"""The registry over SQLAlchemy: environments and signs of life of workers, and access tokens."""

from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import fields
from datetime import datetime
from typing import Any

from sqlalchemy import Row, delete, func, insert, or_, select, update

from service.domain.errors import NotFoundError, StateConflictError
from service.domain.sharing import Caller, Grant, Scope, Token, known_scopes
from service.store.engine import Database, opened
from service.store.migrations import check_revision
from service.store.tables import access_token, environment, project, ticket, worker
from service.store.types import after_now, now, seconds_since, upsert

DAY_S = 86_400.0
_is_valid = (
    access_token.c.revoked_at.is_(None),
    or_(access_token.c.expires_at.is_(None), access_token.c.expires_at > now()),
)


class SqlRegistryStore:
    """:class:`~service.domain.ports.RegistryStore` over SQLAlchemy; the port says what each method does."""

    def __init__(self, database: Database) -> None:
        self._database = database

    def publish_environments(self, worker: str, rows: Iterable[Mapping[str, Any]]) -> None:
        """Add or renew what a worker knows; forget what nobody published for a day."""
        table = environment.c
        values = [
            {
                "id": str(row["id"]),
                "worker": worker,
                "is_available": bool(row["is_available"]),
                "info": dict(row),
            }
            for row in sorted(rows, key=lambda row: str(row["id"]))  # sorted: two workers never deadlock
        ]
        with self._database.writing() as connection:
            if values:
                statement = upsert(connection)(environment).values(published_at=now())
                renewed = {
                    name: statement.excluded[name] for name in ("is_available", "info", "published_at")
                }
                statement = statement.on_conflict_do_update(index_elements=["id", "worker"], set_=renewed)
                connection.execute(statement, values)
            connection.execute(delete(environment).where(table.published_at < after_now(-DAY_S)))

    def env_ids(self) -> frozenset[str]:
        """Ids that some worker can build."""
        query = select(environment.c.id).where(environment.c.is_available).distinct()
        with self._database.reading() as connection:
            return frozenset(connection.execute(query).scalars())

    def environments(self, env_id: str | None = None) -> Sequence[Mapping[str, Any]]:
        """What is known of each environment, or of one, from the worker that can build it and spoke last."""
        table = environment.c
        query = select(environment).order_by(table.id, table.is_available, table.published_at, table.worker)
        if env_id is not None:
            query = query.where(table.id == env_id)
        found: dict[str, dict[str, Any]] = {}
        with self._database.reading() as connection:
            for row in connection.execute(query):
                offered = [row.worker] if row.is_available else []
                found[row.id] = {**row.info, "workers": [*found.get(row.id, {}).get("workers", ()), *offered]}
        return list(found.values())

    def beat_worker(self, name: str, info: Mapping[str, Any]) -> None:
        """A worker says it is alive; workers silent for a day are forgotten."""
        facts = {"info": dict(info), "last_seen_at": now()}
        with self._database.writing() as connection:
            statement = upsert(connection)(worker).values(id=name, **facts)
            connection.execute(statement.on_conflict_do_update(index_elements=["id"], set_=facts))
            connection.execute(delete(worker).where(worker.c.last_seen_at < after_now(-DAY_S)))

    def forget_worker(self, name: str) -> None:
        """A worker says that it takes no more runs."""
        with self._database.writing() as connection:
            connection.execute(delete(worker).where(worker.c.id == name))

    def live_workers(self, within_s: float) -> Sequence[Mapping[str, Any]]:
        """Workers heard of within this time, by name."""
        silent_s = seconds_since(worker.c.last_seen_at)
        query = select(worker.c.id, worker.c.info, silent_s.label("last_seen_s")).where(silent_s <= within_s)
        with self._database.reading() as connection:
            rows = connection.execute(query.order_by(worker.c.id)).all()
        return [{**row.info, "worker": row.id, "last_seen_s": max(0.0, row.last_seen_s)} for row in rows]

    def add_token(
        self,
        token_id: str,
        sha256: str,
        name: str,
        caller: Caller,
        *,
        expires_in_s: float | None = None,
        by: str | None = None,
    ) -> None:
        """Store a token's digest and what it grants."""
        row: dict[str, Any] = {"id": token_id, "sha256": sha256, "name": name, "created_by": by}
        row |= {"project": caller.project, "scopes": sorted(caller.scopes)}
        expires_at = None if expires_in_s is None else after_now(expires_in_s)
        with self._database.writing() as connection:
            if by is not None:  # locked: whoever revokes it meanwhile finds what it has made
                maker = select(access_token.c.id).where(access_token.c.id == by, *_is_valid)
                if connection.execute(maker.with_for_update()).first() is None:
                    raise StateConflictError(f"token {by} has ended, and makes no other one")
            connection.execute(insert(access_token).values(**row, expires_at=expires_at, created_at=now()))

    def require_project(self, name: str) -> None:
        """Pass where there is this project; raises :class:`NotFoundError`."""
        with self._database.reading() as connection:
            if connection.execute(select(project.c.name).where(project.c.name == name)).first() is None:
                raise NotFoundError(f"there is no project {name}; make it first: maze project put {name}")

    def find_token(self, token_id: str) -> Grant | None:
        """What a token grants that is neither revoked nor expired."""
        table = access_token.c
        query = select(
            *(
                table.sha256,
                table.project,
                table.scopes,
                -seconds_since(table.expires_at).label("expires_in_s"),
            ),
            seconds_since(table.last_used_at).label("unused_s"),
        ).where(table.id == token_id, *_is_valid)
        with self._database.reading() as connection:
            row = connection.execute(query).one_or_none()
        if row is None:
            return None
        caller = Caller(token_id, row.project, known_scopes(row.scopes or ()))
        return Grant(sha256=row.sha256, caller=caller, expires_in_s=row.expires_in_s, unused_s=row.unused_s)

    def note_use(self, token_id: str) -> None:
        """Write down that a token was used now."""
        with self._database.writing() as connection:
            connection.execute(
                update(access_token).where(access_token.c.id == token_id).values(last_used_at=now())
            )

    def add_ticket(self, sha256: str, caller: Caller, path: str, *, expires_in_s: float) -> datetime:
        """Store a ticket's digest and what it opens, and forget those whose time is up."""
        row = {"sha256": sha256, "token_id": caller.token_id, "project": caller.project, "path": path}
        made = insert(ticket).values(**row, expires_at=after_now(expires_in_s)).returning(ticket.c.expires_at)
        with self._database.writing() as connection:
            connection.execute(delete(ticket).where(ticket.c.expires_at <= now()))
            expires_at: datetime = connection.execute(made).scalar_one()
            return expires_at

    def take_ticket(self, sha256: str, path: str) -> Caller | None:
        """Whose ticket it is; nobody gets it again."""
        ours = ticket.c.sha256 == sha256, ticket.c.path == path, ticket.c.expires_at > now()
        with self._database.reading() as connection:  # a stranger's guess keeps no writer waiting
            if connection.execute(select(ticket.c.path).where(*ours)).first() is None:
                return None
        with self._database.writing() as connection:
            taken = delete(ticket).where(*ours).returning(ticket.c.token_id, ticket.c.project)
            row = connection.execute(taken).one_or_none()
        return None if row is None else Caller(row.token_id, row.project, frozenset())

    def tokens(self) -> Sequence[Token]:
        """All tokens, oldest first."""
        table = access_token.c
        query = select(*(table[field.name] for field in fields(Token))).order_by(table.created_at, table.id)
        with self._database.reading() as connection:
            rows = connection.execute(query).all()
        return [_token_of(row) for row in rows]

    def revoke_token(self, token_id: str) -> None:
        """Revoke; the first time counts. What it made goes with it, unless it was an admin's."""
        table = access_token.c
        revoked = func.coalesce(table.revoked_at, now())
        with self._database.writing() as connection:
            gone = [token_id]
            while gone:
                statement = update(access_token).where(table.id.in_(gone)).values(revoked_at=revoked)
                rows = connection.execute(statement.returning(table.id, table.scopes)).all()
                if not rows:
                    raise NotFoundError(f"there is no token {token_id}; list them: maze token list")
                makers = [row.id for row in rows if Scope.ADMIN not in (row.scopes or ())]
                made = select(table.id).where(table.created_by.in_(makers), table.revoked_at.is_(None))
                gone = list(connection.execute(made).scalars())


def _token_of(row: Row[Any]) -> Token:
    return Token(**{**row._mapping, "scopes": tuple(sorted(known_scopes(row.scopes or ())))})


@contextmanager
def opened_registry(url: str) -> Iterator[SqlRegistryStore]:
    """The registry of a database, for the length of a ``with`` block.

    Raises:
        SchemaError: there is no database, or it is not at this version's revision.
    """
    check_revision(url)
    with opened(url) as database:
        yield SqlRegistryStore(database)
