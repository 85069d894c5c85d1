"""The composition root: what it opens it closes, the hot route stands before the framework, and it stops at once."""

import asyncio
import os
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager

import httpx
import pytest

from service.domain.sharing import ANYBODY
from service.main import app, create_app
from service.settings import Settings
from service.store import SchemaError, Stores, open_stores
from tests.contracts.builders import new_checkpoint, start, submit
from tests.service.api.client import Client, lifespan
from tests.service.serving.checkpoints import make_checkpoint


def test_stores_that_were_given_stay_open(sqlite_url: str, sqlite_stores: Stores) -> None:
    async def begin_and_end() -> None:
        async with lifespan(create_app(Settings(database_url=sqlite_url, auth=False), sqlite_stores)):
            pass

    asyncio.run(begin_and_end())
    assert sqlite_stores.runs.list().data == []


def test_stores_that_were_opened_are_closed(sqlite_url: str, monkeypatch: pytest.MonkeyPatch) -> None:
    closed = []
    close = Stores.close
    monkeypatch.setattr(Stores, "close", lambda stores: (closed.append(stores), close(stores)))

    async def begin_and_end() -> None:
        application = create_app(Settings(database_url=sqlite_url, auth=False))
        async with lifespan(application):
            async with httpx.AsyncClient(
                transport=httpx.ASGITransport(application), base_url="http://localhost"
            ) as http:
                assert (await http.get("/v1/runs")).status_code == 200
            assert closed == []

    asyncio.run(begin_and_end())
    assert len(closed) == 1


def test_a_database_of_another_schema_is_not_served(tmp_path: object) -> None:
    application = create_app(Settings(database_url=f"sqlite:///{tmp_path}/none.db", auth=False))
    messages = iter([{"type": "lifespan.startup"}, {"type": "lifespan.shutdown"}])
    sent = []

    async def receive() -> dict[str, str]:
        return next(messages)

    async def send(message: object) -> None:
        sent.append(message)

    with pytest.raises(SchemaError, match="maze db upgrade"):
        asyncio.run(application({"type": "lifespan", "state": {}}, receive, send))  # type: ignore[arg-type]
    assert sent[0]["type"] == "lifespan.startup.failed"  # type: ignore[index]


def test_the_factory_reads_the_environment(sqlite_url: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("MAZE_DATABASE_URL", sqlite_url)
    monkeypatch.setenv("MAZE_AUTH", "true")

    async def status() -> int:
        application = app()
        async with lifespan(application):
            transport = httpx.ASGITransport(application)
            async with httpx.AsyncClient(transport=transport, base_url="http://localhost") as http:
                return (await http.get("/v1/runs")).status_code

    assert asyncio.run(status()) == 401


class TestTokens:
    @pytest.fixture
    def client(self, sqlite_url: str, sqlite_stores: Stores) -> Iterator[Client]:
        with asyncio.Runner() as runner:
            yield Client(create_app(Settings(database_url=sqlite_url), sqlite_stores), runner)

    def test_one_of_the_database_opens_everything_and_a_revoked_one_nothing(
        self, client: Client, sqlite_stores: Stores
    ) -> None:
        from service.domain.use_cases import new_token

        tokens = [new_token() for _ in range(2)]
        for token_id, _, digest in tokens:
            sqlite_stores.registry.add_token(token_id, digest, "test", ANYBODY)
        sqlite_stores.registry.revoke_token(tokens[1][0])
        paths = ("/v1/runs", "/metrics", "/", "/v1/config/groups")
        for (_, text, _), status in zip(tokens, (200, 401), strict=True):
            for path in paths:
                assert client.get(path, headers={"Authorization": f"Bearer {text}"}).status_code == status

    def test_idempotency_keys_of_two_tokens_never_meet(self, client: Client, sqlite_stores: Stores) -> None:
        from service.domain.use_cases import new_token

        runs = set()
        for _ in range(2):
            token_id, text, digest = new_token()
            sqlite_stores.registry.add_token(token_id, digest, "test", ANYBODY)
            headers = {"X-API-Key": text, "Idempotency-Key": "same"}
            runs.add(client.post("/v1/train", {}, headers=headers).json()["id"])
        assert len(runs) == 2

    def test_the_hot_route_asks_for_one_too(self, client: Client) -> None:
        assert client.post("/v1/runs/run_0/compute_action", {"observation": [0]}).status_code == 401


class TestHotRoute:
    @pytest.fixture
    def client(self, sqlite_url: str, sqlite_stores: Stores) -> Iterator[Client]:
        settings = Settings(database_url=sqlite_url, auth=False, max_action_body_bytes=1_500_000)
        with asyncio.Runner() as runner:
            yield Client(create_app(settings, sqlite_stores), runner)

    def test_a_stored_policy_acts(self, client: Client, sqlite_stores: Stores) -> None:
        run, lease = start(sqlite_stores)
        bundle = make_checkpoint()
        info = sqlite_stores.checkpoints.put(
            lease, new_checkpoint(1, is_best=True, content_sha256=bundle.content_sha256), bundle.to_bytes()
        )
        answer = client.post(f"/v1/runs/{run.id}/compute_action", {"observation": [0.0, 0.1, 0.0, -0.1]})
        assert answer.json()["checkpoint"] == info.id
        assert answer.json()["action"] in (0, 1)

    def test_its_mistakes_are_problems_with_the_id_of_the_request(
        self, client: Client, sqlite_stores: Stores
    ) -> None:
        run = submit(sqlite_stores)
        headers = {"X-Request-Id": "mine"}
        answer = client.post(f"/v1/runs/{run.id}/compute_action", {"observation": [0]}, headers=headers)
        assert (answer.status_code, answer.json()["code"]) == (409, "no_checkpoint")
        assert answer.json()["request_id"] == answer.headers["x-request-id"] == "mine"

    @pytest.mark.parametrize("length", ["said", "chunked"])
    def test_a_body_that_is_too_large_is_refused_there_too(self, client: Client, length: str) -> None:
        async def chunks() -> object:
            for _ in range(20):
                yield b" " * 100_000

        content = b" " * 2_000_000 if length == "said" else chunks()
        answer = client.request(
            "POST",
            "/v1/runs/run_0/compute_action",
            content=content,
            headers={"Content-Type": "application/json"},
        )
        assert (answer.status_code, answer.json()["code"]) == (413, "payload_too_large")
        assert "1500000" in answer.json()["detail"].replace(",", "")

    def test_text_is_no_observation(self, client: Client) -> None:
        answer = client.request("POST", "/v1/runs/run_0/compute_action", content=b"x")
        assert answer.status_code == 415


@contextmanager
def served(database_url: str) -> Iterator[tuple[subprocess.Popen[bytes], str]]:
    """The application on a real server; its address."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    command = [sys.executable, "-m", "uvicorn", "--factory", "service.main:app", "--port", str(port)]
    environment = os.environ | {"MAZE_DATABASE_URL": database_url, "MAZE_AUTH": "false"}
    process = subprocess.Popen([*command, "--log-level", "warning"], env=environment, stderr=subprocess.PIPE)
    try:
        address = f"http://127.0.0.1:{port}"
        while True:
            assert process.poll() is None, process.communicate()[1]
            try:
                httpx.get(f"{address}/health/live")
                break
            except httpx.ConnectError:
                time.sleep(0.05)
        yield process, address
    finally:
        process.kill()
        process.communicate()


def test_an_open_event_stream_and_a_wait_do_not_hold_up_the_end_of_the_server(sqlite_url: str) -> None:
    stores = open_stores(sqlite_url)
    run = submit(stores)
    stores.close()
    headers = {"Accept": "text/event-stream"}
    with (
        served(sqlite_url) as (process, address),
        ThreadPoolExecutor(1) as pool,
        httpx.stream("GET", f"{address}/v1/runs/{run.id}/events", headers=headers, timeout=60) as stream,
    ):
        lines = stream.iter_lines()
        assert any("queued" in line for line in lines)
        waits = pool.submit(
            httpx.post, f"{address}/v1/train", json={}, headers={"Prefer": "wait=300"}, timeout=60
        )
        while len(httpx.get(f"{address}/v1/runs").json()["data"]) < 2:
            time.sleep(0.05)
        process.send_signal(signal.SIGTERM)
        rest = list(lines)  # a stream that is cut raises a protocol error here
        assert "event: end" not in rest
        answer = waits.result()
        assert (answer.status_code, answer.json()["state"]) == (202, "queued")
        # uvicorn raises the signal again once everything is closed
        assert process.wait(60) in (0, -signal.SIGTERM)
