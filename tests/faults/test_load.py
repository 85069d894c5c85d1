"""Many runs wait, many poll, many send slowly or do not read, one asks too often: others are served."""

import os
import selectors
import socket
import statistics
import threading
import time

import httpx
import pytest

from benchmarks.http_load import result_of, started
from service.domain.run import RunKind
from service.settings import MIB
from service.store import open_stores
from tests.acceptance.server import serving
from tests.contracts.builders import new_run

pytestmark = [pytest.mark.faults, pytest.mark.timeout(3600)]

TRAIN = {"overrides": {"env.name": "CartPole-v1", "algorithm.n_epochs": 100_000}, "seed": 1}


def p99_ms(took: list[float]) -> float:
    return 1000 * sorted(took)[int(0.99 * len(took))]


def median_and_p99(took: list[float]) -> str:
    return f"{1000 * statistics.median(took):.0f} and {p99_ms(took):.0f} ms"


def timed(call) -> float:
    began = time.perf_counter()
    call()
    return time.perf_counter() - began


@pytest.mark.figure("L01")
def test_ten_thousand_waiting_runs_are_submitted_listed_and_claimed_once_each(tmp_path, record_property):
    """A run that stands still has the one slot; the times are told, not asked for: others work on this machine."""
    with serving(tmp_path, workers=1, max_queued_runs=20_000, lease_s=60, heartbeat_s=5) as server:
        endless = server.submit("train", TRAIN)
        server.wait(endless, until=("running",))
        (process,) = server.wait_for(lambda: server.processes(f"maze: run {endless}"), "its process")
        process.suspend()
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
        process.resume()
        server.post(f"/v1/runs/{endless}/cancel", {})
    assert len(seen) == 10_001
    assert len(set(claimed)) == len(claimed)
    assert rss_mib < 300
    record_property(
        "reached",
        f"10,000 waiting, none twice; median and p99 of submit {median_and_p99(submits)}, of claim "
        f"{median_and_p99(claims)}, of list {median_and_p99(lists)}; the API has {rss_mib:.0f} MiB; "
        f"load {os.getloadavg()[0]:.0f}",
    )


ACT = '{"observation": [0.0, 0.1, 0.0, -0.1]}'


@pytest.mark.figure("L02")
def test_a_thousand_clients_that_poll_are_answered_beside_ten_that_act(tmp_path, record_property):
    with serving(tmp_path) as server:
        run = server.submit("train", TRAIN | {"overrides": TRAIN["overrides"] | {"algorithm.n_epochs": 2}})
        assert server.wait(run)["state"] == "succeeded"
        path = f"/v1/runs/{run}"
        acting = {"path": f"{path}/compute_action", "body": ACT, "connections": 10, "per_s": 5.0}
        assert server.client.post(acting["path"], json={"observation": [0, 0, 0, 0]}).status_code == 200
        alone = result_of(started(server.port, **acting, seconds=10))
        polling = started(server.port, path, connections=1000, seconds=20, per_s=0.5)
        time.sleep(5)
        acted = result_of(started(server.port, **acting, seconds=10))
        polled = result_of(polling)
    assert (alone.failures, acted.failures, polled.failures) == (0, 0, 0)
    assert polled.requests > 1000
    assert polled.p99_us < 1e6
    record_property(
        "reached",
        f"{polled.requests:,} polls by 1,000 clients, no error, p99 {polled.p99_us / 1000:.0f} ms; actions' p99 "
        f"{acted.p99_us / 1000:.0f} ms, {alone.p99_us / 1000:.0f} ms without them; load {os.getloadavg()[0]:.0f}",
    )


HEAD = b"POST /v1/train HTTP/1.1\r\nHost: 127.0.0.1\r\nContent-Type: application/json\r\n"


class SlowSenders(threading.Thread):
    """Connections that each send a byte a second, half of them of a head, half of a body, until they are closed."""

    def __init__(self, port: int, count: int) -> None:
        super().__init__()
        self._poll = selectors.DefaultSelector()
        self.closed_after_s: dict[str, list[float]] = {"head": [], "body": []}
        for number in range(count):
            what = ("head", "body")[number % 2]
            connection = socket.create_connection(("127.0.0.1", port))
            connection.setblocking(False)
            connection.send(HEAD + (b"Content-Length: 1000\r\n\r\n{" if what == "body" else b"X-Slow: "))
            self._poll.register(connection, selectors.EVENT_READ, (what, time.monotonic()))

    def run(self) -> None:
        while self._poll.get_map():
            for key in list(self._poll.get_map().values()):
                what, began = key.data
                try:
                    key.fileobj.send(b" ")
                    is_open = bool(key.fileobj.recv(4096))
                except BlockingIOError:
                    is_open = True
                except OSError:
                    is_open = False
                if not is_open:
                    self.closed_after_s[what].append(time.monotonic() - began)
                    self._poll.unregister(key.fileobj)
                    key.fileobj.close()
            time.sleep(1.0)


@pytest.mark.figure("L03")
def test_a_thousand_slow_senders_are_closed_by_a_deadline_and_hold_up_nobody(tmp_path, record_property):
    with serving(tmp_path) as server:
        usual = [timed(lambda: server.get("/v1/runs")) for _ in range(200)]
        senders = SlowSenders(server.port, 1000)
        senders.start()
        beside = [timed(lambda: server.get("/v1/runs")) for _ in range(200)]
        senders.join(300)
        assert not senders.is_alive()
        assert server.client.get("/health/ready").status_code == 200
    heads, bodies = (senders.closed_after_s[what] for what in ("head", "body"))
    assert (len(heads), len(bodies)) == (500, 500)
    load = os.getloadavg()[0]
    # a look a second at each end, and the turns of a machine that does other work
    late_s = 3.0 + load
    assert max(heads) < 10 + late_s
    assert max(bodies) < 30 + late_s
    record_property(
        "reached",
        f"1,000 closed: heads after {min(heads):.0f} to {max(heads):.0f} s, bodies after {min(bodies):.0f} to "
        f"{max(bodies):.0f} s; another's p99 {p99_ms(beside):.0f} ms, {p99_ms(usual):.0f} ms without them; "
        f"load {load:.0f}",
    )


def sent_until_answered(port: int, head: bytes, piece: bytes, most: int) -> tuple[bytes, float, int]:
    """Status line, seconds until it came, and bytes sent, of a request whose body is this piece again and again."""
    with socket.create_connection(("127.0.0.1", port), timeout=60) as connection:
        connection.sendall(HEAD + head)
        n_sent, began = 0, time.monotonic()
        connection.setblocking(False)
        answer = b""
        while b"\r\n" not in answer:
            assert time.monotonic() < began + 60, "never answered"
            try:
                if n_sent + len(piece) <= most:
                    n_sent += connection.send(piece)
                answer += connection.recv(4096)
            except BlockingIOError:
                time.sleep(0.001)
            except (BrokenPipeError, ConnectionResetError):
                break
        return answer.split(b"\r\n")[0], time.monotonic() - began, n_sent


CHUNK = b"10000\r\n" + b" " * 65_536 + b"\r\n"


@pytest.mark.figure("L04")
def test_a_body_beyond_its_limit_is_refused_early_however_it_is_sent(tmp_path, record_property):
    """Each by its status; what was announced is not waited for, and what was not is not kept."""
    cases = {
        "a byte too many": (b"Content-Length: %d\r\n\r\n" % (MIB + 1), b"", 0, b"413"),
        "a GiB in chunks": (b"Transfer-Encoding: chunked\r\n\r\n", CHUNK, 2**30, b"413"),
        "two lengths": (b"Content-Length: 2\r\nContent-Length: 3\r\n\r\n", b"{}", 2, b"400"),
        "a length and chunks": (b"Content-Length: 2\r\nTransfer-Encoding: chunked\r\n\r\n", CHUNK, 0, b"400"),
        "more than its length": (b"Content-Length: 2\r\nConnection: close\r\n\r\n", b"{}{}", 4, b"202"),
        "gzip": (b"Content-Encoding: gzip\r\nContent-Length: 20\r\n\r\n", b"\x1f\x8b\x08\0" * 5, 20, b"415"),
    }
    with serving(tmp_path) as server:
        (api,) = server.processes("maze: api")
        for _ in range(20):
            server.get("/v1/runs")
        before = api.memory_info().rss
        ends = {
            name: (*sent_until_answered(server.port, head, piece, most), status)
            for name, (head, piece, most, status) in cases.items()
        }
        grown_mib = (api.memory_info().rss - before) / 2**20
        assert server.client.get("/health/ready").status_code == 200
    assert {name: end[0].split(b" ")[1] for name, end in ends.items()} == {
        name: case[3] for name, case in cases.items()
    }
    assert ends["a GiB in chunks"][2] < 64 * MIB
    assert grown_mib < 20
    slowest_ms = 1000 * max(ends[name][1] for name in ("a byte too many", "a GiB in chunks"))
    record_property(
        "reached",
        f"{len(cases)} of {len(cases)}; 413 after at most {slowest_ms:.0f} ms, of a GiB "
        f"{ends['a GiB in chunks'][2] / MIB:.1f} MiB were sent, the API grew by {grown_mib:.1f} MiB",
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
