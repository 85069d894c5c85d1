"""A number that changes when the database does, so that watchers need not query every table."""

import threading
from typing import Any

from sqlalchemy import text

from service.store.engine import Database, translated_errors

# Its text changes exactly when a writing transaction begins or becomes visible, unlike a sequence, which
# moves before the commit that it belongs to.
_POSTGRES_SNAPSHOT = text("SELECT hashtextextended(pg_current_snapshot()::text, 0)")


class ChangeMarker:
    """SQLite's ``data_version`` on a connection that never writes, or PostgreSQL's snapshot; thread-safe."""

    def __init__(self, database: Database) -> None:
        self._database = database
        self._lock = threading.Lock()
        self._connection: Any = None

    def read(self) -> int:
        """The number now."""
        if not self._database.is_sqlite:
            with self._database.reading() as connection:
                return int(connection.execute(_POSTGRES_SNAPSHOT).scalar_one())
        with self._lock, translated_errors():
            if self._connection is None:
                self._connection = self._database.dedicated_reader()
            return int(self._connection.execute("PRAGMA data_version").fetchone()[0])
