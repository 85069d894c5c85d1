"""Bytes by their SHA-256: stored once, in chunks inside the database or, when large, in files of that name.

Bytes that share much with others may be stored in parts, each of which is stored once and goes with the last that
names it. They are read as they were given.

A file is written under a temporary name, synchronised and renamed before the row that names it, so a row
never points at half a file. A file without a row is what a crash or a deletion left; :meth:`Blobs.sweep`
removes it after an hour, when nobody can be about to name it.
"""

import contextlib
import errno
import hashlib
import os
import stat
import time
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path

from sqlalchemy import Connection, bindparam, delete, func, insert, select
from sqlalchemy.exc import IntegrityError

from maze_core.files import write_atomically
from service.domain.errors import NotFoundError, StoreUnavailableError
from service.store.engine import FULL, Database, parse_url, sqlite_path
from service.store.tables import blob, blob_chunk, blob_part, checkpoint, episode, upload_part
from service.store.types import now, upsert

CHUNK_BYTES = 1_048_576
INLINE_BYTES = 64 * 1_048_576
"""Up to this size bytes are kept in the database: beyond it every other writer would wait too long."""

SWEEP_AFTER_S = 3600.0

NAMING = (
    checkpoint.c.blob_sha256,
    episode.c.blob_sha256,
    episode.c.video_sha256,
    episode.c.thumbnail_sha256,
    blob_part.c.part_sha256,
    upload_part.c.blob_sha256,
)
"""Columns by which bytes are kept."""

_PARTS_LOCK = 0x6D617A65
"""Of whoever adds or drops parts, which runs share, in PostgreSQL."""

_DROPPED = "23503"
"""PostgreSQL's word for what a row names and is not there any more."""

# SQLite pages: above this many free ones, some are given back to the file system.
_MANY_FREE_PAGES = 4096
_PAGES_AT_ONCE = 1024


@dataclass(frozen=True)
class Stored:
    """Bytes that are ready to be named by a row; a large one is in its file already."""

    sha256: str
    data: bytes | memoryview
    in_file: bool
    parts: "Sequence[Stored]" = ()
    """What they are stored as, where that is not one piece."""


class Blobs:
    """The bytes of one database; ``directory`` None keeps even large ones inside it."""

    def __init__(self, directory: Path | None, *, inline_bytes: int = INLINE_BYTES) -> None:
        self.directory = directory
        self._inline_bytes = inline_bytes

    def prepare(self, data: bytes, edges: Iterable[int] = ()) -> Stored:
        """Digest the bytes and, when large, write their files: before the transaction, so nobody waits.

        Args:
            data: the bytes.
            edges: where to cut them into parts.
        """
        is_large = self.directory is not None and len(data) > self._inline_bytes
        inner = {edge for edge in edges if 0 < edge < len(data)}
        view = memoryview(data)
        pieces = [view[start:end] for start, end in pairwise((0, *sorted(inner), len(data)))] if inner else []
        parts = [Stored(hashlib.sha256(piece).hexdigest(), piece, is_large) for piece in pieces]
        stored = Stored(hashlib.sha256(data).hexdigest(), data, is_large and not parts, parts)
        for each in (stored, *parts):
            self._write_file(each)
        return stored

    def insert(self, connection: Connection, stored: Stored) -> None:
        """Store the bytes unless they are known."""
        if stored.parts:
            _exclude_others(connection)
        for part in stored.parts:
            self.insert(connection, part)
        row = {"sha256": stored.sha256, "size_bytes": len(stored.data), "in_file": stored.in_file}
        statement = upsert(connection)(blob).values(**row, created_at=now()).on_conflict_do_nothing()
        self._write_file(
            stored
        )  # again: a sweep takes it for an old one if the clock was set forward meanwhile
        is_new = connection.execute(statement.returning(blob.c.sha256)).one_or_none() is not None
        if not is_new or stored.in_file or not stored.data:
            return
        if stored.parts:
            numbered = [
                {"sha256": stored.sha256, "number": number, "part_sha256": part.sha256}
                for number, part in enumerate(stored.parts)
            ]
            connection.execute(insert(blob_part), numbered)
            return
        view = memoryview(stored.data)
        chunks = [
            {"sha256": stored.sha256, "number": number, "data": view[start : start + CHUNK_BYTES]}
            for number, start in enumerate(range(0, len(view), CHUNK_BYTES))
        ]
        connection.execute(insert(blob_chunk), chunks)

    def read(self, connection: Connection, sha256: str) -> bytes:
        """The bytes, whose digest is verified; raises :class:`NotFoundError`."""
        in_file = connection.execute(
            select(blob.c.in_file).where(blob.c.sha256 == sha256)
        ).scalar_one_or_none()
        if in_file is None:
            raise NotFoundError(f"there are no bytes with digest {sha256}")
        data = self._read_file(sha256) if in_file else self._read_inline(connection, sha256)
        if hashlib.sha256(data).hexdigest() != sha256:
            raise NotFoundError(f"the bytes with digest {sha256} are damaged; restore them from a backup")
        return data

    def read_range(self, connection: Connection, sha256: str, start: int, stop: int) -> bytes:
        """The bytes from ``start`` to before ``stop``, unverified; raises :class:`NotFoundError`."""
        in_file = connection.execute(
            select(blob.c.in_file).where(blob.c.sha256 == sha256)
        ).scalar_one_or_none()
        if in_file is None:
            raise NotFoundError(f"there are no bytes with digest {sha256}")
        if in_file:
            return self._read_file(sha256, start, stop)
        pieces, at = [], 0
        for part, size_bytes in connection.execute(_PARTS, {"sha256": sha256}).all():
            if at < stop and at + size_bytes > start:
                inner = max(0, start - at), min(size_bytes, stop - at)
                pieces.append(self.read_range(connection, part, *inner))
            at += size_bytes
        if at:
            return b"".join(pieces)
        first, last = start // CHUNK_BYTES, max(0, stop - 1) // CHUNK_BYTES
        data = _read_chunks(connection, sha256, first, last)
        return data[start - first * CHUNK_BYTES : stop - first * CHUNK_BYTES]

    def drop_unreferenced(self, connection: Connection, digests: Iterable[str]) -> None:
        """Delete those of the digests, and of their parts, that no row names any more; files go with a later sweep."""
        unnamed = [~select(1).where(name == blob.c.sha256).exists() for name in NAMING]
        wholes = set(digests)
        query = select(blob_part.c.part_sha256).where(blob_part.c.sha256.in_(wholes))
        if parts := set(connection.execute(query).scalars()):
            _exclude_others(connection)
        dropped = 0
        for group in (wholes, parts):
            dropped += connection.execute(delete(blob).where(blob.c.sha256.in_(group), *unnamed)).rowcount
        if dropped and connection.dialect.name == "sqlite":
            _give_space_back(connection)

    def sweep(self, connection: Connection, *, older_than_s: float = SWEEP_AFTER_S) -> list[str]:
        """Remove files that no row names and that are older than this; returns their names."""
        if self.directory is None or not self.directory.is_dir():
            return []
        limit = time.time() - older_than_s
        old = [entry.name for entry in os.scandir(self.directory) if entry.stat().st_mtime < limit]
        named = set(connection.execute(select(blob.c.sha256).where(blob.c.in_file)).scalars())
        swept = [name for name in old if name not in named]
        for name in swept:
            with contextlib.suppress(FileNotFoundError):
                (self.directory / name).unlink()
        return swept

    def _read_inline(self, connection: Connection, sha256: str) -> bytes:
        """The bytes of what is no file: of its chunks, or of its parts."""
        query = (
            select(blob_part.c.part_sha256).where(blob_part.c.sha256 == sha256).order_by(blob_part.c.number)
        )
        parts = connection.execute(query).scalars().all()
        if parts:
            return b"".join(self.read(connection, part) for part in parts)
        return _read_chunks(connection, sha256)

    def _write_file(self, stored: Stored) -> None:
        if stored.in_file and self.directory is not None:
            try:
                write_file(self.directory, stored.sha256, stored.data)
            except OSError as error:
                where = f"{self.directory}: {error.strerror}"
                raise StoreUnavailableError(
                    where, told=FULL if error.errno == errno.ENOSPC else None
                ) from error

    def _read_file(self, sha256: str, start: int = 0, stop: int | None = None) -> bytes:
        """A digest-named file's bytes, or some of them, unverified; a link is refused."""
        if self.directory is None:
            raise NotFoundError(
                f"the bytes with digest {sha256} are in a file; set MAZE_BLOB_DIR to its directory"
            )
        try:
            descriptor = os.open(self.directory / sha256, os.O_RDONLY | os.O_NOFOLLOW)
        except OSError as error:
            raise NotFoundError(f"the file with digest {sha256} cannot be read: {error.strerror}") from error
        with open(descriptor, "rb") as file:
            file.seek(start)
            return file.read(-1 if stop is None else stop - start)


class StoredContent:
    """:class:`~service.domain.ports.Content` of one digest; each reading is a transaction of its own."""

    def __init__(self, database: Database, blobs: Blobs, sha256: str) -> None:
        self.sha256 = sha256
        self._database, self._blobs = database, blobs
        with database.reading() as connection:
            query = select(blob.c.size_bytes).where(blob.c.sha256 == sha256)
            self.size_bytes: int = connection.execute(query).scalar_one()

    def read(self, start: int, stop: int) -> bytes:
        """Some of the bytes."""
        with self._database.reading() as connection:
            return self._blobs.read_range(connection, self.sha256, start, stop)


@contextmanager
def storing(database: Database) -> Iterator[Connection]:
    """A transaction that stores bytes and names them.

    Raises:
        StoreUnavailableError: also where another one dropped the same bytes meanwhile, which PostgreSQL lets it.
    """
    try:
        with database.writing() as connection:
            yield connection
    except IntegrityError as error:
        if getattr(error.orig, "sqlstate", "") != _DROPPED:
            raise
        raise StoreUnavailableError("the same bytes were dropped meanwhile") from error


def write_file(directory: Path, sha256: str, data: bytes | memoryview) -> None:
    """Write a digest-named file that is whole or not there, whatever happens; a known one is only touched."""
    final = directory / sha256
    directory.mkdir(mode=0o700, parents=True, exist_ok=True)
    with contextlib.suppress(FileNotFoundError):
        os.utime(
            final, follow_symlinks=False
        )  # as new again: a sweep leaves it alone until its row is committed
        known = final.lstat()
        if stat.S_ISREG(known.st_mode) and known.st_size == len(data):
            return
    write_atomically(final, data)


def _exclude_others(connection: Connection) -> None:
    """Let nobody drop, until the end of the transaction, a part that another one names now; SQLite has one writer."""
    if connection.dialect.name == "postgresql":
        connection.execute(select(func.pg_advisory_xact_lock(_PARTS_LOCK)))


def _give_space_back(connection: Connection) -> None:
    """Shrink an SQLite file that is mostly empty; a few free pages are the next checkpoint's."""
    if connection.exec_driver_sql("PRAGMA freelist_count").scalar_one() > _MANY_FREE_PAGES:
        cursor = connection.connection.cursor()
        cursor.execute(f"PRAGMA incremental_vacuum({_PAGES_AT_ONCE})")
        cursor.fetchall()  # frees one page per fetched row


def _read_chunks(connection: Connection, sha256: str, first: int = 0, last: int | None = None) -> bytes:
    query = select(blob_chunk.c.data).where(blob_chunk.c.sha256 == sha256, blob_chunk.c.number >= first)
    if last is not None:
        query = query.where(blob_chunk.c.number <= last)
    return b"".join(connection.execute(query.order_by(blob_chunk.c.number)).scalars())


_PARTS = (
    select(blob_part.c.part_sha256, blob.c.size_bytes)
    .join(blob, blob.c.sha256 == blob_part.c.part_sha256)
    .where(blob_part.c.sha256 == bindparam("sha256"))
    .order_by(blob_part.c.number)
)
"""Parts of a blob with their sizes, in order."""


def default_blob_dir(url: str) -> Path | None:
    """``blobs`` beside an SQLite file; None on PostgreSQL: even large checkpoints stay in the database."""
    path = sqlite_path(parse_url(url))
    return None if path is None else path.parent / "blobs"
