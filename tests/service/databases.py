"""Databases for tests: a migrated SQLite file, and a PostgreSQL cluster of our own where it is installed.

The cluster lives in a temporary directory and listens on a Unix socket in it, so it meets no other one.
"""

import hashlib
import os
import pwd
import shutil
import subprocess
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from itertools import count
from pathlib import Path
from typing import Any

from sqlalchemy import create_engine, delete, insert, text
from sqlalchemy.exc import ProgrammingError

from service.domain.sharing import DEFAULT_PROJECT
from service.store import migrate
from service.store.engine import opened
from service.store.tables import metadata, project
from service.store.types import now

SOCKET_DIR = "POSTGRES_FOR_TESTS"
"""Variable with the directory of the cluster that ``python -m tests.postgres`` runs: then tests of whole services and
workers, which else have an SQLite file, have a database of it."""


def url_for(folder: Path, *, migrated: Path | None = None) -> str:
    """URL of a folder's database, always the same one; what it holds is there as long as the folder or the cluster.

    Args:
        folder: whose.
        migrated: an SQLite file to begin with; without it there is no schema, and on SQLite no file yet.
    """
    socket_dir = os.environ.get(SOCKET_DIR)
    if socket_dir is None:
        path = folder / "maze.db"
        if migrated is not None:
            shutil.copyfile(migrated, path)
        return f"sqlite:///{path}"
    name = "t_" + hashlib.sha256(str(folder).encode()).hexdigest()[:20]
    template = "template0" if migrated is None else "migrated"
    try:
        _execute(Path(socket_dir), f"CREATE DATABASE {name} TEMPLATE {template}")
    except ProgrammingError as error:
        if getattr(error.orig, "sqlstate", "") != "42P04":  # it is there
            raise
    return _url(Path(socket_dir), name)


def _url(socket_dir: Path, database: str) -> str:
    return f"postgresql://postgres@/{database}?host={socket_dir}"


def _execute(socket_dir: Path, statement: str) -> None:
    url = _url(socket_dir, "postgres").replace("postgresql:", "postgresql+psycopg:")
    engine = create_engine(url, isolation_level="AUTOCOMMIT")
    try:
        with engine.connect() as connection:
            connection.execute(text(statement))
    finally:
        engine.dispose()


def postgres_programs() -> Path | None:
    """The directory of ``initdb`` and ``pg_ctl``; None where PostgreSQL is not installed."""
    found = shutil.which("initdb")
    versions = sorted(Path("/usr/lib/postgresql").glob("*/bin/initdb"))
    candidates = [*([Path(found)] if found else []), *reversed(versions)]
    return candidates[0].parent if candidates else None


@dataclass
class PostgresCluster:
    """A running server with a migrated database, which tests share one after the other, and copies of it."""

    socket_dir: Path

    def __post_init__(self) -> None:
        self._numbers = count()
        self._admin("CREATE DATABASE migrated")
        migrate(self.url("migrated"))

    def url(self, database: str) -> str:
        return _url(self.socket_dir, database)

    def emptied(self) -> str:
        """URL of the shared database, as a migration leaves it: far quicker than a copy."""
        with opened(self.url("migrated")) as database, database.writing() as connection:
            for table in reversed(metadata.sorted_tables):
                connection.execute(delete(table))
            connection.execute(insert(project).values(name=DEFAULT_PROJECT, created_at=now()))
        return self.url("migrated")

    def create(self, database: str) -> None:
        """Make a database without a schema."""
        self._admin(f"CREATE DATABASE {database}")

    def copied(self) -> str:
        """Name of a new migrated database, for a test that changes the schema."""
        name = f"copy_{next(self._numbers)}"
        self._admin(f"CREATE DATABASE {name} TEMPLATE migrated")
        return name

    def drop(self, database: str) -> None:
        self._admin(f"DROP DATABASE {database} WITH (FORCE)")

    def _admin(self, statement: str) -> None:
        _execute(self.socket_dir, statement)


@contextmanager
def running_postgres(programs: Path) -> Iterator[PostgresCluster]:
    """Start a cluster, as another user when we are root: PostgreSQL refuses to run as root."""
    directory = Path(tempfile.mkdtemp(prefix="maze-pg-"))
    user = _unprivileged_user() if os.geteuid() == 0 else None
    if user is not None:
        os.chown(directory, user.pw_uid, user.pw_gid)

    def run(program: str, *arguments: str) -> None:
        as_user: dict[str, Any] = (
            {} if user is None else {"user": user.pw_uid, "group": user.pw_gid, "extra_groups": []}
        )
        with (directory / "server.log").open("a") as log:
            subprocess.run(
                [programs / program, *arguments], check=True, stdout=log, stderr=log, cwd=directory, **as_user
            )

    data = str(directory / "data")
    options = (
        f"-c listen_addresses='' -c unix_socket_directories={directory} -c fsync=off -c shared_buffers=16MB"
    )
    try:
        run("initdb", "-D", data, "-U", "postgres", "-A", "trust", "-E", "UTF8", "--locale=C", "--no-sync")
        run("pg_ctl", "-D", data, "-o", options, "-w", "start")
        try:
            yield PostgresCluster(directory)
        finally:
            run("pg_ctl", "-D", data, "-m", "immediate", "-w", "stop")
    finally:
        shutil.rmtree(directory, ignore_errors=True)


def _unprivileged_user() -> pwd.struct_passwd:
    for name in ("postgres", "nobody"):
        try:
            return pwd.getpwnam(name)
        except KeyError:
            continue
    raise RuntimeError("there is no user to run PostgreSQL as; run the tests as one")
