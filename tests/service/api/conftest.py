"""The application on a temporary, migrated SQLite file, with its lifespan running."""

import asyncio
from collections.abc import Iterator
from contextlib import AsyncExitStack

import pytest

from service.main import create_app
from service.settings import Settings
from service.store import Stores
from tests.service.api.client import Client, lifespan


@pytest.fixture
def stores(sqlite_stores: Stores) -> Stores:
    return sqlite_stores


@pytest.fixture
def settings(sqlite_url: str) -> Settings:
    return Settings(database_url=sqlite_url, auth=False)


@pytest.fixture
def client(settings: Settings, stores: Stores) -> Iterator[Client]:
    with asyncio.Runner() as runner:
        app = create_app(settings, stores)
        stack = AsyncExitStack()
        runner.run(stack.enter_async_context(lifespan(app)))
        yield Client(app, runner)
        runner.run(stack.aclose())
