"""The database's schema: bring it up to date, and refuse one that this version does not fit.

The migrations are ``alembic/`` in a checkout and ``service/migrations`` in an installed wheel. Alembic itself is
imported only to change a schema: every process checks one, and few have to wait for that.
"""

import re
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING

from sqlalchemy import Connection, inspect, text

from service.domain.errors import ServiceError
from service.store.engine import journals_of, opened, parse_url, sqlite_path

if TYPE_CHECKING:
    from alembic.config import Config

_ALEMBIC = threading.Lock()  # its `context` and `op` are one per process
_REVISION = re.compile(r"""^(revision|down_revision) = ["']?(\w+)["']?$""", re.MULTILINE)
_POSTGRES_LOCK = 0x6D617A65  # "maze": any number that no other program takes


class SchemaError(ServiceError):
    """The database's schema is not the one of this version; the message has the command that mends it."""

    code = "schema_mismatch"


def migrations_dir() -> Path:
    """The directory of alembic's ``env.py``."""
    service = Path(__file__).resolve().parents[1]
    packaged = service / "migrations"
    return packaged if packaged.is_dir() else service.parent / "alembic"


def head_revision() -> str:
    """The newest revision that this version knows."""
    return _known_revisions()[0]


def migrate(url: str, revision: str = "head") -> str | None:
    """Create the database if need be and upgrade it; several processes may do so at once.

    Returns:
        The revision that it is at then.

    Raises:
        SchemaError: the database was written by a newer version.
    """
    _create_file(url)
    if require_known_revision(url) == head_revision() and revision in ("head", head_revision()):
        return head_revision()
    from alembic import command

    with _ALEMBIC, locked_connection(url) as connection:
        command.upgrade(config(connection), revision)
        return _current(connection)


def downgrade(url: str, revision: str) -> None:
    """Go back to an older revision, or to ``base``; what the newer tables held is lost."""
    from alembic import command

    with _ALEMBIC, locked_connection(url) as connection:
        command.downgrade(config(connection), revision)


def check_revision(url: str) -> str:
    """The database's revision, which is this version's.

    Raises:
        SchemaError: the schema is older, newer, or not there.
    """
    path = sqlite_path(parse_url(url))
    if path is not None and not path.exists():
        raise SchemaError(f"there is no database at {path}; create it: maze db upgrade")
    current = require_known_revision(url)
    if current != head_revision():
        raise SchemaError(
            f"the database is at revision {current or 'none'}, this version needs {head_revision()}; "
            "bring it up to date: maze db upgrade"
        )
    return current


def require_known_revision(url: str) -> str | None:
    """The database's revision, which this version knows; None is a database without tables.

    Raises:
        SchemaError: a newer version wrote it.
    """
    with opened(url) as database, database.reading() as connection:
        current = _current(connection)
    if current is not None and current not in _known_revisions():
        raise SchemaError(
            f"the database is at revision {current}, which this version does not know: a newer one wrote it. "
            "Use that version (pip install --upgrade maze-service) or restore a backup made before"
        )
    return current


@contextmanager
def locked_connection(url: str) -> Iterator[Connection]:
    """A connection inside one writing transaction that holds off every other migration.

    On SQLite foreign keys are not enforced in it but checked at its end: SQLite changes a table by making it anew,
    and dropping the old one would otherwise take the rows along that refer to it.

    Raises:
        SchemaError: after a change of the revision rows refer to others that are not there; nothing is changed.
    """
    with opened(url, foreign_keys=False) as database, database.writing() as connection:
        if not database.is_sqlite:
            connection.execute(text("SET LOCAL statement_timeout = 0"))
            connection.execute(text("SELECT pg_advisory_xact_lock(:key)"), {"key": _POSTGRES_LOCK})
        before = _current(connection)
        yield connection
        if database.is_sqlite and _current(connection) != before:
            _refuse_orphans(connection)


def config(connection: Connection) -> "Config":
    """Alembic's configuration for commands on this connection."""
    from alembic.config import Config

    config = Config(attributes={"connection": connection})
    config.set_main_option("script_location", str(migrations_dir()).replace("%", "%%"))
    return config


def _current(connection: Connection) -> str | None:
    if not inspect(connection).has_table("alembic_version"):
        return None
    found: str | None = connection.execute(
        text("SELECT version_num FROM alembic_version")
    ).scalar_one_or_none()
    return found


@cache
def _known_revisions() -> tuple[str, ...]:
    """Newest first: each migration says which one it follows."""
    texts = [path.read_text(encoding="utf-8") for path in (migrations_dir() / "versions").glob("*.py")]
    said = [dict(_REVISION.findall(source)) for source in texts]
    next_of = {source.get("down_revision", ""): source.get("revision") for source in said}
    known: list[str] = []
    while following := next_of.get(known[0] if known else "None"):
        known.insert(0, following)
    if not known or len(known) < len(texts):
        raise SchemaError(f"no row of migrations in {migrations_dir()}; install maze-service again")
    return tuple(known)


def _refuse_orphans(connection: Connection) -> None:
    orphans = connection.exec_driver_sql("PRAGMA foreign_key_check").all()
    if orphans:
        table, _, parent, _ = orphans[0]
        raise SchemaError(
            f"the schema was not changed: {len(orphans)} rows, the first of {table}, would refer to rows of {parent} "
            "that are not there; see: maze db check"
        )


def _create_file(url: str) -> None:
    """An SQLite file that its owner alone can read: runs and token digests are nobody else's business."""
    path = sqlite_path(parse_url(url))
    if path is None or (path.exists() and path.stat().st_size):
        return
    left = [journal for journal in journals_of(path) if not journal.name.endswith("-shm")]
    if (
        path.exists()
    ):  # empty: of ours, which another process may be about to fill, or in the place of a lost one
        left = [journal for journal in left if journal.name.endswith("-wal") and journal.stat().st_size]
    if journals := [journal.name for journal in left]:
        raise SchemaError(
            f"{path.name} is not there, but {' and '.join(journals)} of it in {path.parent}: a new database "
            "would delete what they hold. Put the database back beside them, or move them away"
        )
    path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
    path.touch(mode=0o600)
