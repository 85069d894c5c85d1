"""The one engine factory, for SQLite files and PostgreSQL, and the two kinds of transaction.

SQLite: several processes share the file. Every writing transaction starts with ``BEGIN IMMEDIATE``, so that
what it read is still true when it writes; with a plain ``BEGIN`` updates are lost or refused. A process has
one writing connection, and its threads get it in the order in which they asked.

``synchronous=FULL``: an acknowledged state change survives power loss, not only a killed process.
"""

import importlib
import logging
import os
import tempfile
import threading
import time
from collections import deque
from collections.abc import Iterator
from contextlib import AbstractContextManager, contextmanager, nullcontext
from pathlib import Path
from types import ModuleType
from typing import Any
from urllib.parse import quote

from sqlalchemy import URL, Connection, Engine, create_engine, event, exc, make_url, text

from service.domain.audit import current
from service.domain.errors import StoreUnavailableError
from service.store.audit import note

logger = logging.getLogger(__name__)

BUSY_TIMEOUT_MS = 30_000
PAGE_SIZE = 8192
JOURNAL_SIZE_LIMIT = 64 * 1_048_576
ROOM_BYTES = 1_048_576
"""A disk without this much room is full."""

JOURNALS = ("-wal", "-shm", "-journal")
"""What SQLite keeps beside a file under the file's name; the first and the last may hold committed rows."""

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


def journals_of(path: Path) -> list[Path]:
    """The journals that lie where those of a database at ``path`` would."""
    beside = [path.with_name(path.name + suffix) for suffix in JOURNALS]
    return [journal for journal in beside if journal.exists()]


class Transactions:
    """Of one kind, since the process began; who reads in several threads may lose one now and then."""

    def __init__(self) -> None:
        """Start at zero."""
        self.n = self.n_unavailable = 0
        self.seconds = 0.0
        """With the time that they waited for their turn or a lock."""

    @contextmanager
    def counted(self) -> Iterator[None]:
        """Count one."""
        began = time.perf_counter()
        try:
            yield
        except StoreUnavailableError:
            self.n_unavailable += 1
            raise
        finally:
            self.n += 1
            self.seconds += time.perf_counter() - began


class Database:
    """A pair of engines on one database: transactions that write, and ones that cannot.

    Args:
        url: of the database.
        foreign_keys: off while a schema is changed: SQLite makes a table anew to change it, and dropping the old
            one would take the rows along that refer to it.
    """

    def __init__(self, url: str, *, foreign_keys: bool = True) -> None:
        self.url = parse_url(url)
        self.path = sqlite_path(self.url)
        self.is_sqlite = self.path is not None
        self.writes, self.reads = Transactions(), Transactions()
        self._turns = Turns()
        self._identity: tuple[int, int] | None = None
        self._marker: Any = None
        self._marker_lock = threading.Lock()
        if self.is_sqlite:
            keys = f"foreign_keys={'ON' if foreign_keys else 'OFF'}"
            self._writer = self._sqlite_engine("BEGIN IMMEDIATE", (keys, *_WRITE_PRAGMAS), pool_size=1)
            self._reader = self._sqlite_engine("BEGIN", (keys, *_READ_PRAGMAS), pool_size=8)
        else:
            options = {"options": _POSTGRES_OPTIONS}
            try:
                self._writer = create_engine(
                    self.url, pool_pre_ping=True, pool_timeout=30, connect_args=options
                )
            except ImportError as error:
                raise StoreUnavailableError(str(error), told=DRIVER_MISSING) from error
            self._reader = self._writer.execution_options(postgresql_readonly=True)

    @contextmanager
    def writing(self) -> Iterator[Connection]:
        """A transaction that may write; commits at the end, rolls back on any error.

        Where somebody is changing something (:mod:`service.domain.audit`), the audit log says so in the same one.
        """
        turn = self._turns.mine() if self.is_sqlite else nullcontext()
        with self.writes.counted(), self._errors(), turn, self._writer.begin() as connection:
            self._require_same_file()
            yield connection
            if made := current():
                noted = note(connection, *made)
        if made:
            change, subject = made
            change.noted[subject] = noted

    @contextmanager
    def reading(self) -> Iterator[Connection]:
        """A transaction that sees one state of the database and cannot change it."""
        with self.reads.counted(), self._errors(), self._reader.begin() as connection:
            yield connection

    def check(self) -> None:
        """Raise :class:`StoreUnavailableError` unless the database can be read and written."""
        if self.path is None:
            with self.reading() as connection:
                if connection.execute(_POSTGRES_READONLY).scalar_one():
                    raise StoreUnavailableError(
                        "it stands by, or its default is to read only", told=READ_ONLY
                    )
            return
        self.change_marker()
        self._require_same_file()
        require_room(self.path.parent)

    def change_marker(self) -> int:
        """A number that changes when the database does, so that watchers need not query every table.

        SQLite's ``data_version`` on a connection that never writes, or PostgreSQL's snapshot.
        """
        if not self.is_sqlite:
            with self.reading() as connection:
                return int(connection.execute(_POSTGRES_SNAPSHOT).scalar_one())
        with self._marker_lock, self._errors():
            if self._marker is None:
                self._marker = self.unpooled()
            return int(self._marker.execute("PRAGMA data_version").fetchone()[0])

    def unpooled(self) -> Any:
        """A reading driver connection of the caller's own, outside transactions."""
        with self._errors():
            connection = self._reader.raw_connection()
            connection.detach()
        return connection.dbapi_connection

    def close(self) -> None:
        """Close every connection."""
        with self._marker_lock:
            if self._marker is not None:
                self._marker.close()
                self._marker = None
        self._writer.dispose()
        self._reader.dispose()

    def _errors(self) -> AbstractContextManager[None]:
        return translated_errors("the database" if self.path is None else str(self.path))

    def _sqlite_engine(self, begin: str, pragmas: tuple[str, ...], *, pool_size: int) -> Engine:
        engine = create_engine(
            self.url,
            module=sqlite_driver(),
            connect_args={"timeout": BUSY_TIMEOUT_MS / 1000, "check_same_thread": False},
            pool_size=pool_size,
            max_overflow=0,
            pool_timeout=BUSY_TIMEOUT_MS / 1000,
        )
        mode = _usable_journal_mode(engine)

        @event.listens_for(engine, "do_connect")
        def open_known_file(
            _dialect: Any, _record: Any, arguments: list[str], options: dict[str, Any]
        ) -> None:
            """SQLite would make an empty file in the place of one that was deleted, and then drop its journal."""
            assert self.path is not None
            if is_known := self._identity is not None:
                self._require_same_file()
            arguments[:] = [f"file:{quote(str(self.path.absolute()))}?mode={'rw' if is_known else 'rwc'}"]
            options["uri"] = True

        @event.listens_for(engine, "connect")
        def configure(connection: Any, _record: Any) -> None:
            connection.isolation_level = None  # the driver must not begin transactions by itself
            is_new = connection.execute("PRAGMA page_count").fetchone()[0] == 0
            for pragma in (*(_FILE_PRAGMAS if is_new else ()), *_COMMON_PRAGMAS, *pragmas):
                connection.execute(f"PRAGMA {pragma.format(mode=mode)}").fetchall()
            self._require_same_file()

        @event.listens_for(engine, "begin")
        def begin_transaction(connection: Connection) -> None:
            connection.exec_driver_sql(begin)

        return engine

    def _require_same_file(self) -> None:
        """Raise :class:`StoreUnavailableError` when the file at the path is not the one that was opened first.

        SQLite goes on with the file that it has open: what was written to a deleted one would be lost.
        """
        if self.path is None:
            return
        try:
            status = os.stat(self.path)
        except OSError as error:
            raise StoreUnavailableError(f"{self.path}: {error.strerror}", told=REPLACED) from error
        identity = (status.st_dev, status.st_ino)
        if self._identity is None:
            self._identity = identity
        elif identity != self._identity:
            raise StoreUnavailableError(f"{self.path} is another file than the one in use", told=REPLACED)


class Turns:
    """A lock that threads get in the order in which they asked for it.

    A pool hands a connection to whoever asks first when it is free: a thread that writes without a pause gets it
    again each time, and the heartbeat of its run never.
    """

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._queue: deque[threading.Event] = deque()

    @contextmanager
    def mine(self) -> Iterator[None]:
        """Within, it is this thread's turn; raises :class:`StoreUnavailableError` when that does not come."""
        turn = threading.Event()
        with self._lock:
            self._queue.append(turn)
            self._queue[0].set()
        try:
            if not turn.wait(BUSY_TIMEOUT_MS / 1000):
                raise StoreUnavailableError("the database did not answer: too many threads wait to write")
            yield
        finally:
            with self._lock:
                self._queue.remove(turn)
                if self._queue:
                    self._queue[0].set()


REPLACED = (
    "The database's file was deleted or replaced while the service used it; "
    "put the right one in place and restart the service."
)
FULL = "The disk of the database is full; make room. Nothing needs to be restarted."
DAMAGED = "The database is damaged, or no database of this service; restore a backup and restart the service."
READ_ONLY = "The database cannot be written: it is read-only."
DRIVER_MISSING = "PostgreSQL needs a driver that is not installed here: pip install 'maze-service[postgres]'"

_POSTGRES_READONLY = text(
    "SELECT pg_is_in_recovery() OR current_setting('default_transaction_read_only')::boolean"
)
# Its text changes exactly when a writing transaction begins or becomes visible, unlike a sequence, which
# moves before the commit that it belongs to.
_POSTGRES_SNAPSHOT = text("SELECT hashtextextended(pg_current_snapshot()::text, 0)")


def require_room(directory: Path) -> None:
    """Raise :class:`StoreUnavailableError` when little or nothing can be written to this directory."""
    try:
        with tempfile.TemporaryFile(dir=directory) as file:
            file.write(bytes(ROOM_BYTES))
    except OSError as error:
        raise StoreUnavailableError(f"{directory}: {error.strerror}", told=FULL) from error


@contextmanager
def opened(url: str, *, foreign_keys: bool = True) -> Iterator[Database]:
    """A database for the length of a ``with`` block."""
    database = Database(url, foreign_keys=foreign_keys)
    try:
        yield database
    finally:
        database.close()


@contextmanager
def translated_errors(where: str = "the database") -> Iterator[None]:
    """Turn a database that is locked, full, gone, damaged or too slow into :class:`StoreUnavailableError`."""
    try:
        yield
    except exc.TimeoutError as error:
        raise StoreUnavailableError("the database did not answer: every connection is busy") from error
    except exc.DBAPIError as error:
        told = _told(error)
        if told is None and not isinstance(error, exc.OperationalError | exc.InterfaceError):
            raise
        cause = " ".join(str(error.orig).split())
        said = f"the database did not answer: {cause}" if told is None else f"{where}: {cause}"
        raise StoreUnavailableError(said, told=told) from error


def _told(error: exc.DBAPIError) -> str | None:
    """What clients and operators are told of a state that does not pass by itself."""
    name = getattr(error.orig, "sqlite_errorname", "") or ""
    if name.startswith(("SQLITE_CORRUPT", "SQLITE_NOTADB")):
        return DAMAGED
    if name.startswith("SQLITE_FULL"):
        return FULL
    if name.startswith("SQLITE_READONLY") or getattr(error.orig, "sqlstate", "") in ("25006", "42501"):
        return READ_ONLY
    return None


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
    "trusted_schema=OFF",
    "cell_size_check=ON",
    "mmap_size=0",
)
# Of a file without a table: later they change nothing, and the second takes the lock of writers all the same.
_FILE_PRAGMAS = (f"page_size={PAGE_SIZE}", "auto_vacuum=INCREMENTAL")
_WRITE_PRAGMAS = (
    "journal_mode={mode}",
    "synchronous=FULL",
    f"journal_size_limit={JOURNAL_SIZE_LIMIT}",
)
_READ_PRAGMAS = ("query_only=ON",)
