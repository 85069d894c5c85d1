"""The service's databases, for migrations; PostgreSQL's are copies, because these tests change the schema."""

from collections.abc import Iterator

import pytest

from tests.service.conftest import database_url, migrated_sqlite_file, postgres_cluster, sqlite_url
from tests.service.databases import PostgresCluster

__all__ = ["database_url", "migrated_sqlite_file", "postgres_cluster", "postgres_url", "sqlite_url"]


@pytest.fixture
def postgres_url(postgres_cluster: PostgresCluster) -> Iterator[str]:
    """URL of an empty, migrated PostgreSQL database that no other test uses."""
    name = postgres_cluster.copied()
    yield postgres_cluster.url(name)
    postgres_cluster.drop(name)
