"""What ``/metrics`` says of runs, connections and the store, as Prometheus and OpenMetrics read it."""

import asyncio
from collections.abc import AsyncGenerator, Iterator

import pytest
from prometheus_client import generate_latest
from prometheus_client.core import CollectorRegistry
from prometheus_client.openmetrics import exposition, parser
from prometheus_client.parser import text_string_to_metric_families

from service.domain.errors import StoreUnavailableError
from service.domain.ports import Lease
from service.domain.run import RunKind, RunState, StopReason
from service.http_server import Connections, Limits
from service.main import create_app
from service.metrics import ConnectionMetrics, RunMetrics
from service.settings import Settings
from service.store import Stores
from service.store.engine import Transactions
from tests.contracts.builders import submit
from tests.service.api.client import Client


@pytest.fixture
def registry(sqlite_stores: Stores) -> CollectorRegistry:
    """Of runs, asked once already."""
    registry = CollectorRegistry()
    registry.register(RunMetrics(sqlite_stores.runs))
    return registry


def test_what_happens_to_runs_is_counted_from_the_first_question_on(
    sqlite_stores: Stores, registry: CollectorRegistry
) -> None:
    runs = sqlite_stores.runs
    early = submit(sqlite_stores)
    generate_latest(registry)
    ended, lease = claimed(sqlite_stores)
    assert ended == early.id
    runs.request_stop(early.id, StopReason.CANCEL)
    runs.finish(lease, RunState.CANCELLED, reason="user_cancel")
    submit(sqlite_stores)
    claimed(sqlite_stores, lease_s=-1.0)
    runs.reap(max_attempts=3)

    def value(name: str, **labels: str) -> float | None:
        return registry.get_sample_value(name, labels)

    moves = {
        ("queued", "running", "none"): 2.0,
        ("running", "stopping", "user_cancel"): 1.0,
        ("stopping", "cancelled", "user_cancel"): 1.0,
        ("none", "queued", "none"): 1.0,
        ("running", "queued", "lease_expired"): 1.0,
    }
    found = {
        labels: value(
            "maze_run_transitions_total", **dict(zip(("from", "to", "reason"), labels, strict=True))
        )
        for labels in moves
    }
    assert found == moves
    assert value("maze_leases_expired_total") == 1.0
    assert value("maze_queue_wait_seconds_count") == 2.0, "one of them was in the queue before"
    assert value("maze_attempt_seconds_count") == 2.0


def claimed(stores: Stores, lease_s: float = 60.0) -> tuple[str, Lease]:
    found = stores.runs.claim("worker", kinds=list(RunKind), lease_s=lease_s)
    assert found is not None
    return found[0].id, found[1]


def test_connections_and_streams_are_counted() -> None:
    shared = Connections(Limits(connections=1))
    for _ in range(3):
        shared.add(None)
    shared.remove(None)
    shared.answered[431] += 2
    registry = CollectorRegistry()
    registry.register(ConnectionMetrics(shared, lambda: 7))
    assert registry.get_sample_value("maze_http_edge_answers_total", {"status": "431"}) == 2.0
    assert registry.get_sample_value("maze_connections") == 2.0
    assert registry.get_sample_value("maze_connections_refused_total") == 2.0
    assert registry.get_sample_value("maze_event_streams") == 7.0


def test_a_transaction_is_counted_with_how_it_went() -> None:
    transactions = Transactions()
    with transactions.counted():
        pass
    with pytest.raises(StoreUnavailableError), transactions.counted():
        raise StoreUnavailableError("busy")
    assert (transactions.n, transactions.n_unavailable) == (2, 1)
    assert transactions.seconds > 0


def test_an_open_event_stream_is_counted_until_it_is_closed(sqlite_stores: Stores) -> None:
    from service.api.changes import ChangeWatcher

    async def scenario() -> list[int]:
        changes = ChangeWatcher(sqlite_stores.runs.change_marker, 0.1)

        async def stream() -> AsyncGenerator[bytes]:
            yield b"a"
            yield b"b"

        counted = changes.counted(stream())
        counts = [changes.n_streams]
        async for _ in counted:
            counts.append(changes.n_streams)
            break
        await counted.aclose()
        return [*counts, changes.n_streams]

    assert asyncio.run(scenario()) == [0, 1, 0]


@pytest.fixture
def client(sqlite_url: str, sqlite_stores: Stores) -> Iterator[Client]:
    with asyncio.Runner() as runner:
        yield Client(create_app(Settings(database_url=sqlite_url, auth=False), sqlite_stores), runner)


def test_both_formats_can_be_read_strictly(client: Client) -> None:
    assert client.get("/v1/runs").status_code == 200
    text = client.get("/metrics").content.decode()
    families = {family.name: family for family in text_string_to_metric_families(text)}
    assert families["maze_disk_free_bytes"].samples[0].value > 0
    assert all(family.documentation for family in families.values())
    registry = client.app._app.telemetry.registry  # type: ignore[attr-defined]
    open_metrics = exposition.generate_latest(registry).decode()
    assert {family.name for family in parser.text_string_to_metric_families(open_metrics)} == {
        name.removesuffix("_total") for name in families
    }
