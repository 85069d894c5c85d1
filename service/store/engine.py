"""The one engine factory, for SQLite files and PostgreSQL, and the two kinds of transaction.

SQLite: several processes share the file. Every writing transaction starts with ``BEGIN IMMEDIATE``, so that
what it read is still true when it writes; with a plain ``BEGIN`` updates are lost or refused. A process has
one writing connection, so its threads queue for it in order instead of polling SQLite's lock.

``synchronous=FULL``: an acknowledged state change survives power loss, not only a killed process.
"""

import importlib
import logging
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager
from pathlib import Path
from types import ModuleType
from typing import Any

from sqlalchemy import URL, Connection, Engine, create_engine, event, exc, make_url

from service.domain.errors import StoreUnavailableError

logger = logging.getLogger(__name__)

BUSY_TIMEOUT_MS = 30_000
PAGE_SIZE = 8192
JOURNAL_SIZE_LIMIT = 64 * 1_048_576

Pragmas = Callable[[str], tuple[str, ...]]
"""The pragmas of a new connection, given the journal mode."""

_POSTGRES_OPTIONS = (
    "-c statement_timeout=30s -c lock_timeout=30s -c idle_in_transaction_session_timeout=60s -c timezone=UTC"
)


def sqlite_driver() -> ModuleType | None:
    """pysqlite3, which brings its own SQLite; None where it has no wheel: SQLAlchemy then takes Python's."""
    try:
        return importlib.import_module("pysqlite3.dbapi2")
    except ImportError:
        return None


def has_wal_reset_bug(version: tuple[int, ...]) -> bool:
    """Whether this SQLite can corrupt a WAL database that two processes write.

    See sqlite.org/wal.html#walresetbug: 3.7.0 on; mended in 3.51.3, and in 3.44.6 and 3.50.7 of their lines.
    """
    if version < (3, 7, 0) or version >= (3, 51, 3):
        return False
    return not ((3, 44, 6) <= version < (3, 45, 0) or (3, 50, 7) <= version < (3, 51, 0))


def journal_mode(version: tuple[int, ...]) -> str:
    """``WAL``, or ``TRUNCATE`` where WAL is not safe."""
    return "TRUNCATE" if has_wal_reset_bug(version) else "WAL"


def parse_url(url: str) -> URL:
    """The database's URL with its driver.

    Raises:
        ValueError: it is neither an SQLite file nor PostgreSQL.
    """
    try:
        parsed = make_url(url)
    except exc.ArgumentError as error:
        raise ValueError(
            "database_url is no URL; write sqlite:///data/maze.db or postgresql://user@host/name"
        ) from error
    match parsed.get_backend_name():
        case "sqlite" if parsed.database and parsed.database != ":memory:":
            return parsed.set(drivername="sqlite")
        case "sqlite":
            raise ValueError(
                "an in-memory database cannot be shared by API and worker; write sqlite:///data/maze.db"
            )
        case "postgresql":
            return parsed.set(drivername="postgresql+psycopg")
    raise ValueError(
        f"database_url: {parsed.drivername} is not supported; write sqlite:///data/maze.db or postgresql://user@host/name"
    )


def sqlite_path(url: URL) -> Path | None:
    """The database file; None on PostgreSQL."""
    return Path(url.database) if url.get_backend_name() == "sqlite" and url.database else None


class Database:
    """A pair of engines on one database: transactions that write, and ones that cannot."""

    def __init__(self, url: str) -> None:
        self.url = parse_url(url)
        self.is_sqlite = self.url.get_backend_name() == "sqlite"
        self._dedicated: list[Any] = []
        if self.is_sqlite:
            self._writer = _sqlite_engine(self.url, "BEGIN IMMEDIATE", _write_pragmas, pool_size=1)
            self._reader = _sqlite_engine(self.url, "BEGIN", _read_pragmas, pool_size=8)
        else:
            self._writer = create_engine(
                self.url, pool_pre_ping=True, pool_timeout=30, connect_args={"options": _POSTGRES_OPTIONS}
            )
            self._reader = self._writer.execution_options(postgresql_readonly=True)

    def writing(self) -> AbstractContextManager[Connection]:
        """A transaction that may write; commits at the end, rolls back on any error."""
        return _transaction(self._writer)

    def reading(self) -> AbstractContextManager[Connection]:
        """A transaction that sees one state of the database and cannot change it."""
        return _transaction(self._reader)

    def dedicated_reader(self) -> Any:
        """A driver connection outside the pool and outside transactions; :meth:`close` closes it."""
        with translated_errors():
            connection = self._reader.raw_connection()
        connection.detach()
        self._dedicated.append(connection)
        return connection.dbapi_connection

    def close(self) -> None:
        """Close every connection."""
        while self._dedicated:
            self._dedicated.pop().close()
        self._writer.dispose()
        self._reader.dispose()


@contextmanager
def opened(url: str) -> Iterator[Database]:
    """A database for the length of a ``with`` block."""
    database = Database(url)
    try:
        yield database
    finally:
        database.close()


@contextmanager
def translated_errors() -> Iterator[None]:
    """Turn a database that is locked, full, gone or too slow into :class:`StoreUnavailableError`."""
    try:
        yield
    except (exc.OperationalError, exc.InterfaceError) as error:
        raise StoreUnavailableError(f"the database did not answer: {error.orig}") from error
    except exc.TimeoutError as error:
        raise StoreUnavailableError("the database did not answer: every connection is busy") from error


@contextmanager
def _transaction(engine: Engine) -> Iterator[Connection]:
    with translated_errors(), engine.begin() as connection:
        yield connection


def _sqlite_engine(url: URL, begin: str, pragmas: Pragmas, *, pool_size: int) -> Engine:
    driver = sqlite_driver()
    engine = create_engine(
        url,
        module=driver,
        connect_args={"timeout": BUSY_TIMEOUT_MS / 1000, "check_same_thread": False},
        pool_size=pool_size,
        max_overflow=0,
        pool_timeout=BUSY_TIMEOUT_MS / 1000,
    )
    mode = _usable_journal_mode(engine)

    @event.listens_for(engine, "connect")
    def configure(connection: Any, _record: Any) -> None:
        connection.isolation_level = None  # the driver must not begin transactions by itself
        for pragma in pragmas(mode):
            connection.execute(f"PRAGMA {pragma}").fetchall()

    @event.listens_for(engine, "begin")
    def begin_transaction(connection: Connection) -> None:
        connection.exec_driver_sql(begin)

    return engine


def _usable_journal_mode(engine: Engine) -> str:
    version: tuple[int, ...] = getattr(engine.dialect.dbapi, "sqlite_version_info", (0, 0, 0))
    mode = journal_mode(version)
    if mode != "WAL":
        logger.warning(
            "SQLite %s has the WAL-reset bug: using the slower journal_mode=%s; "
            "`pip install pysqlite3` brings a mended SQLite",
            ".".join(map(str, version)),
            mode,
        )
    return mode


_COMMON_PRAGMAS = (
    f"busy_timeout={BUSY_TIMEOUT_MS}",
    "foreign_keys=ON",
    "trusted_schema=OFF",
    "cell_size_check=ON",
    "mmap_size=0",
)


def _write_pragmas(mode: str) -> tuple[str, ...]:
    return (
        *_COMMON_PRAGMAS,
        f"page_size={PAGE_SIZE}",  # this and auto_vacuum take effect before the first table only
        "auto_vacuum=INCREMENTAL",
        f"journal_mode={mode}",
        "synchronous=FULL",
        f"journal_size_limit={JOURNAL_SIZE_LIMIT}",
    )


def _read_pragmas(_mode: str) -> tuple[str, ...]:
    return (*_COMMON_PRAGMAS, "query_only=ON")
