"""Databases and stores for the service's tests: real ones, never twins in memory."""

import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from fastapi import FastAPI

import service.main
from service.api.application import build_api
from service.store import Stores, migrate, open_stores
from tests.service.databases import PostgresCluster, postgres_programs, running_postgres

pytest.register_assert_rewrite("tests.contracts")


@pytest.fixture(scope="session", autouse=True)
def _routes_are_built_once() -> Iterator[None]:
    """FastAPI builds routes at the first request of an application: as long as a test, for what is always the same."""
    first: dict[bool, FastAPI] = {}

    def build(lifespan: Any, *, auth: bool) -> FastAPI:
        api = build_api(lifespan, auth=auth)
        made = first.setdefault(auth, api)
        api.router.routes, api.openapi = made.router.routes, made.openapi  # type: ignore[method-assign]
        return api

    with pytest.MonkeyPatch.context() as patched:
        patched.setattr(service.main, "build_api", build)
        yield


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
