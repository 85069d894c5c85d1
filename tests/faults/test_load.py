"""Many runs wait, many watchers do not read, one client asks too often: others are served."""

import socket
import time

import httpx
import pytest

from service.domain.run import RunKind
from service.store import open_stores
from tests.acceptance.server import serving
from tests.contracts.builders import new_run

pytestmark = [pytest.mark.faults, pytest.mark.timeout(3600)]

TRAIN = {"overrides": {"env.name": "CartPole-v1", "algorithm.n_epochs": 100_000}, "seed": 1}


def p99_ms(took: list[float]) -> float:
    return 1000 * sorted(took)[int(0.99 * len(took))]


def timed(call) -> float:
    began = time.perf_counter()
    call()
    return time.perf_counter() - began


@pytest.mark.figure("L01")
def test_ten_thousand_waiting_runs_are_submitted_listed_and_claimed_once_each(tmp_path, record_property):
    """A run that does not end has the one slot; the times are told, not asked for: others work on this machine."""
    with serving(tmp_path, workers=1, max_queued_runs=20_000, lease_s=60, heartbeat_s=5) as server:
        endless = server.submit("train", TRAIN)
        server.wait(endless, until=("running",))
        url = f"sqlite:///{tmp_path / 'maze.db'}"
        stores = open_stores(url)
        for _ in range(9_500):
            stores.runs.create(new_run())
        submits = [timed(lambda: server.submit("train", TRAIN)) for _ in range(500)]
        lists = [timed(lambda: server.get("/v1/runs", limit=50)) for _ in range(200)]
        cursor, seen = None, set()
        while True:
            page = server.get("/v1/runs", limit=200, **({"cursor": cursor} if cursor else {}))
            seen |= {run["id"] for run in page["data"]}
            if not (cursor := page["next_cursor"]):
                break
        (api,) = server.processes("maze: api")
        rss_mib = api.memory_info().rss / 2**20
        claimed = []
        claims = [
            timed(lambda: claimed.append(stores.runs.claim("w", kinds=[RunKind.TRAIN], lease_s=600)[0].id))
            for _ in range(200)
        ]
        stores.close()
        server.post(f"/v1/runs/{endless}/cancel", {})
    assert len(seen) == 10_001
    assert len(set(claimed)) == len(claimed)
    assert rss_mib < 300
    record_property(
        "reached",
        f"10,000 waiting, none twice; p99 of submit {p99_ms(submits):.0f} ms, claim {p99_ms(claims):.0f} ms, "
        f"list {p99_ms(lists):.0f} ms on a machine that did much else; the API has {rss_mib:.0f} MiB",
    )


@pytest.mark.figure("L06")
def test_watchers_that_never_read_cost_little_and_hold_up_nobody(tmp_path, record_property):
    n_watchers = 500
    with serving(tmp_path) as server:
        (api,) = server.processes("maze: api")
        server.get("/v1/runs")
        before = api.memory_info().rss
        watchers = []
        for _ in range(n_watchers):
            watcher = socket.create_connection(("127.0.0.1", server.port))
            watcher.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
            watcher.sendall(
                b"GET /v1/events HTTP/1.1\r\nHost: 127.0.0.1\r\nAccept: text/event-stream\r\n\r\n"
            )
            watchers.append(watcher)
        train = {
            "overrides": {"env.name": "CartPole-v1", "algorithm.n_epochs": 20, "algorithm.epoch_length": 1}
        }
        ends = [server.wait(server.submit("train", train | {"seed": seed}))["state"] for seed in range(3)]
        answered = [server.client.get("/v1/runs").status_code for _ in range(20)]
        grown_mib = (api.memory_info().rss - before) / 2**20
        for watcher in watchers:
            watcher.close()
        assert server.client.get("/health/live").status_code == 200
    assert ends == ["succeeded"] * 3
    assert set(answered) == {200}
    assert grown_mib < n_watchers * 0.5
    record_property(
        "reached", f"{n_watchers} watchers, {grown_mib / n_watchers * 1024:.0f} KiB each; others answered"
    )


@pytest.mark.figure("L07")
def test_who_asks_too_often_is_told_when_to_come_back_and_another_client_is_answered(
    tmp_path, record_property
):
    with serving(tmp_path, rate_limit_per_s=1) as server:
        other = httpx.Client(
            base_url=server.client.base_url,
            transport=httpx.HTTPTransport(local_address="127.0.0.2"),
            timeout=60,
        )
        flood = [server.client.get("/v1/runs") for _ in range(100)]
        answered = other.get("/v1/runs").status_code
        other.close()
    refused = [answer for answer in flood if answer.status_code == 429]
    assert {answer.status_code for answer in flood} == {200, 429}
    assert all(int(answer.headers["retry-after"]) >= 1 for answer in refused)
    assert answered == 200
    record_property(
        "reached", f"{len(refused)} of {len(flood)} answered 429 with Retry-After, the other client none"
    )
