"""An open database, both kinds in turn."""

from collections.abc import Iterator

import pytest

from service.store.engine import Database


@pytest.fixture
def stores_database(database_url: str) -> Iterator[Database]:
    database = Database(database_url)
    yield database
    database.close()
