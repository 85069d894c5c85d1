"""The application on a temporary, migrated SQLite file, with its lifespan running."""

from collections.abc import Iterator

import pytest

from service.settings import Settings
from service.store import Stores
from tests.service.api.client import Client, running


@pytest.fixture
def stores(sqlite_stores: Stores) -> Stores:
    return sqlite_stores


@pytest.fixture
def settings(sqlite_url: str) -> Settings:
    return Settings(database_url=sqlite_url, auth=False)


@pytest.fixture
def client(settings: Settings, stores: Stores) -> Iterator[Client]:
    with running(settings, stores) as client:
        yield client
