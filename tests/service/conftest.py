"""Databases and stores for the service's tests: real ones, never twins in memory."""

import shutil
from collections.abc import Iterator
from pathlib import Path

import pytest

from service.store import Stores, migrate, open_stores
from tests.service.databases import PostgresCluster, postgres_programs, running_postgres

pytest.register_assert_rewrite("tests.contracts")


@pytest.fixture(scope="session")
def migrated_sqlite_file(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("migrated") / "maze.db"
    migrate(f"sqlite:///{path}")
    return path


@pytest.fixture
def sqlite_url(migrated_sqlite_file: Path, tmp_path: Path) -> str:
    """URL of an empty, migrated SQLite file that no other test uses."""
    path = tmp_path / "maze.db"
    shutil.copyfile(migrated_sqlite_file, path)  # closed, so nothing is in a WAL file
    return f"sqlite:///{path}"


@pytest.fixture(scope="session")
def postgres_cluster() -> Iterator[PostgresCluster]:
    programs = postgres_programs()
    if programs is None:
        pytest.skip("PostgreSQL is not installed: no initdb on PATH or under /usr/lib/postgresql")
    pytest.importorskip("psycopg", reason="psycopg is not installed: pip install 'maze-service[postgres]'")
    with running_postgres(programs) as cluster:
        yield cluster


@pytest.fixture
def postgres_url(postgres_cluster: PostgresCluster) -> str:
    """URL of an empty, migrated PostgreSQL database."""
    return postgres_cluster.emptied()


@pytest.fixture
def sqlite_stores(sqlite_url: str) -> Iterator[Stores]:
    stores = open_stores(sqlite_url)
    yield stores
    stores.close()


@pytest.fixture(params=["sqlite", "postgresql"])
def database_url(request: pytest.FixtureRequest) -> str:
    """Both databases in turn: what holds on one must hold on the other."""
    url: str = request.getfixturevalue("sqlite_url" if request.param == "sqlite" else "postgres_url")
    return url


@pytest.fixture
def stores(database_url: str) -> Iterator[Stores]:
    stores = open_stores(database_url)
    yield stores
    stores.close()
