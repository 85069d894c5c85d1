"""Databases for tests: a migrated SQLite file, and a PostgreSQL cluster of our own where it is installed.

The cluster lives in a temporary directory and listens on a Unix socket in it, so it meets no other one.
"""

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

from sqlalchemy import create_engine, delete, text

from service.store import migrate
from service.store.engine import opened
from service.store.tables import metadata


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
        return f"postgresql://postgres@/{database}?host={self.socket_dir}"

    def emptied(self) -> str:
        """URL of the shared database, without rows: far quicker than a copy."""
        with opened(self.url("migrated")) as database, database.writing() as connection:
            for table in reversed(metadata.sorted_tables):
                connection.execute(delete(table))
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
        url = self.url("postgres").replace("postgresql:", "postgresql+psycopg:")
        engine = create_engine(url, isolation_level="AUTOCOMMIT")
        with engine.connect() as connection:
            connection.execute(text(statement))
        engine.dispose()


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
