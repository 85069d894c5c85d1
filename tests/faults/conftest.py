"""The fixtures of the service's tests, for tests of faults."""

from tests.service.conftest import (  # noqa: F401
    database_url,
    migrated_sqlite_file,
    postgres_cluster,
    postgres_url,
    sqlite_stores,
    sqlite_url,
    stores,
)
from tests.service.worker.conftest import bench  # noqa: F401
