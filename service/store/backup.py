"""One archive of everything a service has stored, and back again.

The archive is a tar file: ``maze.db``, made by ``VACUUM INTO`` while the service runs, ``blobs/<sha256>`` for
each large checkpoint or trajectory, and ``manifest.json`` with revision and digests. Copying the database
file instead loses data while it is written. An archive is not trusted: members are read by the names that
the manifest gives, never extracted to names of their own, and every digest is checked.
"""

import contextlib
import hashlib
import json
import os
import re
import secrets
import tarfile
import tempfile
from collections.abc import Iterator
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import IO

from sqlalchemy import exists, select

from maze_core.files import sync_directory
from service.domain.errors import NotFoundError, ServiceError, StoreUnavailableError
from service.store.blobs import Blobs, default_blob_dir, write_file
from service.store.engine import DAMAGED, journals_of, opened, parse_url, sqlite_path, translated_errors
from service.store.migrations import check_revision, require_known_revision
from service.store.tables import blob, blob_part

_ATTEMPTS = 3
_BLOCK_BYTES = 1_048_576
_SHA256 = re.compile(r"[0-9a-f]{64}")


class BackupError(ServiceError):
    """The archive cannot be made, or is damaged."""

    code = "backup_failed"


@dataclass(frozen=True, kw_only=True)
class Manifest:
    """What an archive holds."""

    revision: str
    database_sha256: str
    blobs: list[str]
    """Names of the blob files, which are their SHA-256."""


@dataclass(frozen=True, kw_only=True)
class CheckReport:
    """What :func:`check` found."""

    revision: str
    n_blobs: int
    """Checkpoint bundles and trajectories whose digests were verified."""
    problems: list[str]
    """One sentence each; empty when everything is whole."""


def backup(url: str, archive: Path, *, blob_dir: Path | None = None) -> Manifest:
    """Write an archive of a database that may be in use; a file of this name is replaced by a whole one.

    Raises:
        BackupError: the database or a blob file of it is damaged or missing, the database is PostgreSQL, or ``archive``
            is a file that is no archive.
        SchemaError: the database is not at this version's revision.
    """
    if sqlite_path(parse_url(url)) is None:
        raise BackupError("PostgreSQL makes its own backups: pg_dump --format=custom --file=FILE DATABASE")
    if archive.exists() and not (archive.is_file() and tarfile.is_tarfile(archive)):
        raise BackupError(f"{archive} is there, and is no archive; give another name")
    revision = check_revision(url)
    directory = blob_dir or default_blob_dir(url) or Path()
    archive.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=archive.parent, prefix=".maze-backup-") as scratch:
        copy, packed = Path(scratch, "maze.db"), Path(scratch, "archive.tar")
        for attempt in range(_ATTEMPTS):
            _vacuum_into(url, copy)
            manifest = Manifest(
                revision=revision, database_sha256=_file_sha256(copy), blobs=_blob_files(copy)
            )
            try:
                _pack(packed, manifest, copy, directory)
                break
            except (
                FileNotFoundError
            ) as error:  # pruned since the copy was made: the next copy does not name it
                if attempt == _ATTEMPTS - 1:
                    raise BackupError(
                        f"{error.filename} is missing; set MAZE_BLOB_DIR to its directory"
                    ) from None
        os.replace(packed, archive)
    sync_directory(archive.parent)
    return manifest


def restore(archive: Path, url: str, *, blob_dir: Path | None = None) -> Manifest:
    """Put an archive's database and blob files in place.

    Raises:
        BackupError: there is a database already, or the journal of one; or the archive is damaged, or of a newer
            version. No database is put in place then.
    """
    path = sqlite_path(parse_url(url))
    if path is None:
        raise BackupError("an archive is restored to an SQLite file: --database-url sqlite:///data/maze.db")
    if path.exists():
        raise BackupError(f"there is a database at {path}; move it away, or give another --database-url")
    if journals := journals_of(path):
        raise BackupError(
            f"{', '.join(journal.name for journal in journals)} in {path.parent} belong to a database that is not "
            "there: SQLite would write what they hold over the restored one. Move them to where that database is"
        )
    path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
    copy = path.parent / f".{secrets.token_hex(8)}.tmp"
    try:
        with _opened_archive(archive) as tar:
            manifest = _read_manifest(tar)
            _unpack_database(tar, copy, manifest.database_sha256)
            if require_known_revision(f"sqlite:///{copy}") != manifest.revision:  # nor a newer one
                raise BackupError("maze.db of the archive has another revision than its manifest says")
            for sha256 in manifest.blobs:
                _unpack_blob(tar, blob_dir or path.parent / "blobs", sha256)
        os.replace(copy, path)
    finally:
        copy.unlink(missing_ok=True)
    sync_directory(path.parent)
    return manifest


def check(url: str, *, blob_dir: Path | None = None) -> CheckReport:
    """Verify the revision, the file and the digest of every blob.

    Raises:
        SchemaError: the database is not at this version's revision.
    """
    revision = check_revision(url)
    problems = integrity_problems(url)
    blobs = Blobs(blob_dir or default_blob_dir(url))
    with opened(url) as database:
        with database.reading() as connection:
            is_part = exists().where(blob_part.c.part_sha256 == blob.c.sha256)
            digests = (
                connection.execute(select(blob.c.sha256).where(~is_part).order_by(blob.c.sha256))
                .scalars()
                .all()
            )
        for sha256 in digests:  # each in a transaction of its own: a long one holds up SQLite's checkpoints
            try:
                with database.reading() as connection:
                    blobs.read(connection, sha256)
            except NotFoundError as error:
                problems.append(str(error))
    return CheckReport(revision=revision, n_blobs=len(digests), problems=problems)


def integrity_problems(url: str) -> list[str]:
    """What SQLite finds wrong in its file; empty when it is whole, and on PostgreSQL."""
    try:
        with opened(url) as database, database.reading() as connection:
            if not database.is_sqlite:
                return []
            found = connection.exec_driver_sql("PRAGMA integrity_check").scalars().all()
            orphans = connection.exec_driver_sql("PRAGMA foreign_key_check").all()
    except StoreUnavailableError as error:
        if error.told != DAMAGED:
            raise
        return [str(error)]
    lost = [f"a row of {table} names a row of {parent} that is not there" for table, _, parent, _ in orphans]
    return [line for line in found if line != "ok"] + lost


def _vacuum_into(url: str, copy: Path) -> None:
    copy.unlink(missing_ok=True)
    with opened(url) as database, contextlib.closing(database.unpooled()) as connection, translated_errors():
        connection.execute("PRAGMA query_only=OFF")
        connection.execute("VACUUM INTO ?", (str(copy),))  # outside transactions
    if problems := integrity_problems(f"sqlite:///{copy}"):
        raise BackupError(f"the database is damaged: {problems[0]}; restore an earlier archive")


def _blob_files(copy: Path) -> list[str]:
    with opened(f"sqlite:///{copy}") as database, database.reading() as connection:
        return sorted(connection.execute(select(blob.c.sha256).where(blob.c.in_file)).scalars())


def _pack(packed: Path, manifest: Manifest, copy: Path, directory: Path) -> None:
    text = copy.with_name("manifest.json")
    text.write_text(json.dumps(asdict(manifest), indent=1))
    with open(packed, "wb") as file:
        os.fchmod(file.fileno(), 0o600)
        with tarfile.open(fileobj=file, mode="w") as tar:
            for member in (text, copy):
                tar.add(member, member.name)
            for sha256 in manifest.blobs:
                if _file_sha256(directory / sha256) != sha256:
                    raise BackupError(f"{directory / sha256} is damaged; see: maze db check")
                tar.add(directory / sha256, f"blobs/{sha256}")
        file.flush()
        os.fsync(file.fileno())


@contextlib.contextmanager
def _opened_archive(archive: Path) -> Iterator[tarfile.TarFile]:
    try:
        with tarfile.open(archive) as tar:
            yield tar
    except (tarfile.TarError, EOFError) as error:
        raise BackupError(f"{archive} is not a whole archive: {error}") from error
    except FileNotFoundError as error:
        if error.filename != str(archive):
            raise
        raise BackupError(f"there is no archive {archive}") from None


def _member(tar: tarfile.TarFile, name: str) -> IO[bytes]:
    with contextlib.suppress(KeyError):
        member = tar.getmember(name)
        file = tar.extractfile(member) if member.isfile() else None
        if file is not None:
            return file
    raise BackupError(f"{name} is missing in the archive")


def _read_manifest(tar: tarfile.TarFile) -> Manifest:
    try:
        manifest = Manifest(**json.load(_member(tar, "manifest.json")))
    except (ValueError, TypeError) as error:
        raise BackupError(f"manifest.json of the archive cannot be read: {error}") from error
    if not all(_SHA256.fullmatch(name) for name in manifest.blobs):
        raise BackupError("manifest.json of the archive names a blob that is no SHA-256")
    return manifest


def _unpack_database(tar: tarfile.TarFile, copy: Path, sha256: str) -> None:
    descriptor = os.open(copy, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
    with open(descriptor, "wb") as file, _member(tar, "maze.db") as source:
        while block := source.read(_BLOCK_BYTES):
            file.write(block)
        file.flush()
        os.fsync(file.fileno())
    if _file_sha256(copy) != sha256:
        raise BackupError("maze.db of the archive is damaged: its digest is not the manifest's")


def _unpack_blob(tar: tarfile.TarFile, directory: Path, sha256: str) -> None:
    with _member(tar, f"blobs/{sha256}") as source:
        data = source.read()
    if hashlib.sha256(data).hexdigest() != sha256:
        raise BackupError(f"blobs/{sha256} of the archive is damaged: its digest is not its name")
    if (there := directory / sha256).is_file() and _file_sha256(there) != sha256:
        there.unlink()  # a damaged one of an earlier database, which would be taken for the whole one
    write_file(directory, sha256, data)


def _file_sha256(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()
