"""The service's databases, for migrations."""

from tests.service.conftest import (
    database_url,
    migrated_sqlite_file,
    postgres_cluster,
    postgres_url,
    sqlite_url,
)

__all__ = ["database_url", "migrated_sqlite_file", "postgres_cluster", "postgres_url", "sqlite_url"]
