"""The application on a temporary, migrated SQLite file, with its lifespan running."""

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from maze_core import RunContext
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


@pytest.fixture(scope="session")
def stacked(tmp_path_factory: pytest.TempPathFactory) -> bytes:
    """A policy that sees its last three observations."""
    folder: Path = tmp_path_factory.mktemp("stacked")
    wrappers = {"maze_core.ObservationStackWrapper": {"n_stack": 3}}
    facts: dict[str, Any] = {"configuration": "test", "overrides": {"env.name": "CartPole-v1"}, "seed": 1}
    with RunContext(run_dir=folder / "run", wrappers=wrappers, **facts) as context:
        context.train(n_epochs=1)
        return context.save(folder / "bundle", "last").read_bytes()
