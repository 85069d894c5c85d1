"""A store with one run, a route on it and a client, on one event loop per test."""

import asyncio
from collections.abc import Iterator
from types import SimpleNamespace

import pytest

from service.metrics import ActionMetrics
from service.serving.agents import AgentCache
from service.serving.hot_route import ActionRoute
from tests.service.serving.asgi_client import Client
from tests.service.serving.checkpoints import make_checkpoint
from tests.service.serving.memory_stores import MemoryStores


@pytest.fixture
def stores() -> MemoryStores:
    """Stores with the run ``r`` and its best checkpoint ``c`` for CartPole's spaces."""
    stores = MemoryStores()
    stores.add("r", "c", make_checkpoint().to_bytes())
    return stores


@pytest.fixture
def runner() -> Iterator[asyncio.Runner]:
    with asyncio.Runner() as runner:
        yield runner


SETTINGS = SimpleNamespace(
    agents_cached=2,
    max_action_body_bytes=100_000,
    action_queue_rows=4096,
    action_queue_age_s=10.0,
    extra_targets=[],
    config_dirs=[],
)


@pytest.fixture
def client(stores: MemoryStores, runner: asyncio.Runner) -> Iterator[Client]:
    route = ActionRoute(stores, SETTINGS)
    yield Client(route, runner)
    runner.run(route.close())


@pytest.fixture
def cache(stores: MemoryStores, runner: asyncio.Runner) -> Iterator[AgentCache]:
    """Two agents at most, under a clock that the test turns: ``cache.clock.now += seconds``."""
    clock = SimpleNamespace(now=0.0)
    cache = AgentCache(stores, 2, ActionMetrics(), clock=lambda: clock.now)
    cache.clock = clock  # type: ignore[attr-defined]
    yield cache
    runner.run(cache.close())
