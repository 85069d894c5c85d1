"""A ticket opens one event stream or WebSocket, once, with what the token may that made it; and no log has it."""

import asyncio
from collections.abc import Iterator
from typing import Any

import pytest
from sqlalchemy import update

from service.domain.sharing import Caller, Scope
from service.domain.use_cases import create_token, token_digest
from service.main import create_app
from service.security import UNAUTHORIZED_CLOSE
from service.settings import Settings
from service.store import Stores
from service.store.tables import ticket
from service.store.types import after_now
from tests.contracts.builders import new_checkpoint, new_run, start
from tests.service.api.client import Client, Stream
from tests.service.api.test_session_socket import connected
from tests.service.serving.checkpoints import make_checkpoint

Headers = dict[str, str]


@pytest.fixture
def stores(sqlite_stores: Stores) -> Stores:
    return sqlite_stores


@pytest.fixture
def client(sqlite_url: str, stores: Stores) -> Iterator[Client]:
    with asyncio.Runner() as runner:
        yield Client(create_app(Settings(database_url=sqlite_url, access_log=True), stores), runner)


@pytest.fixture
def reader(stores: Stores) -> Headers:
    return token(stores, Scope.RUNS_READ)


def token(stores: Stores, *scopes: Scope, project: str = "default") -> Headers:
    grants = Caller(project=project, scopes=frozenset(scopes))
    return {"X-API-Key": create_token(stores.registry, "test", grants)}


def made(client: Client, path: str, headers: Headers) -> str:
    answer = client.post("/v1/tickets", {"path": path}, headers=headers)
    assert answer.status_code == 201, answer.text
    assert answer.json()["path"] == path
    return str(answer.json()["ticket"])


def test_a_ticket_opens_its_stream_once_and_is_in_no_log(
    client: Client, stores: Stores, reader: Headers, caplog: pytest.LogCaptureFixture
) -> None:
    run, _ = start(stores)
    path = f"/v1/runs/{run.id}/events"
    text = made(client, path, reader)

    async def first_event() -> str:
        url = f"{path}?types=state&ticket={text}&after=0"
        async with Stream(client.app, url, {"accept": "text/event-stream"}) as stream:
            assert stream.status == 200
            return await anext(stream.pieces())

    caplog.set_level("DEBUG")
    assert "event: state" in client.run(first_event())
    again = client.get(f"{path}?ticket={text}")
    assert (again.status_code, again.json()["code"]) == (401, "unauthorized")
    assert "POST /v1/tickets" in again.json()["detail"]
    logged = [record.getMessage() for record in caplog.records if record.name.startswith("service")]
    assert path in "".join(logged)
    assert not [secret for secret in (text, token_digest(text)) if secret in f"{logged} {again.text}"]


@pytest.mark.parametrize(
    "wrong", ["another path", "another stream", "its time is up", "guessed", "its token was revoked"]
)
def test_a_ticket_opens_nothing_else(client: Client, stores: Stores, reader: Headers, wrong: str) -> None:
    run, _ = start(stores)
    text = made(client, "/v1/events", reader)
    path = {"another path": "/v1/runs", "another stream": f"/v1/runs/{run.id}/events"}.get(
        wrong, "/v1/events"
    )
    if wrong == "its time is up":
        with stores.database.writing() as connection:
            connection.execute(update(ticket).values(expires_at=after_now(-0.01)))
    if wrong == "its token was revoked":
        client.app._verifier._grants.clear()  # type: ignore[attr-defined]
        stores.registry.revoke_token(reader["X-API-Key"].split("_")[1])
    answer = client.get(f"{path}?ticket={'ticket_0' if wrong == 'guessed' else text}")
    assert (answer.status_code, answer.json()["code"]) == (401, "unauthorized")


def test_a_ticket_may_what_its_token_may_in_its_project(client: Client, stores: Stores) -> None:
    stores.projects.put("other", {})
    for project in ("default", "other"):
        stores.runs.create(new_run(project=project))
    acting = token(stores, Scope.ACT)
    refused = client.get(f"/v1/events?ticket={made(client, '/v1/events', acting)}")
    assert (refused.status_code, refused.json()["scope"]) == (403, "runs:read")
    within = token(stores, Scope.ADMIN) | {"X-Maze-Project": "other"}
    by_ticket = client.get(f"/v1/events?ticket={made(client, '/v1/events', within)}")
    assert by_ticket.json() == client.get("/v1/events", headers=within).json()
    assert len(by_ticket.json()["data"]) == 1


@pytest.mark.parametrize("path", ["/v1/runs", "/v1/events?after=1", "/v1/tokens", "http://x/v1/events", ""])
def test_a_ticket_is_for_what_takes_one(client: Client, reader: Headers, path: str) -> None:
    answer = client.post("/v1/tickets", {"path": path}, headers=reader)
    assert (answer.status_code, answer.json()["errors"][0]["pointer"]) == (422, "/path")


def test_a_session_is_stepped_by_a_browser_with_a_ticket_until_its_token_ends(
    client: Client, stores: Stores
) -> None:
    run, lease = start(stores)
    stores.checkpoints.put(lease, new_checkpoint(1, is_best=True), make_checkpoint().to_bytes())
    client.app._verifier._ttl_s = 0.05  # type: ignore[attr-defined]
    headers = token(stores, Scope.ACT)
    session = client.post("/v1/sessions", {"run": run.id}, headers=headers).json()["id"]
    path = f"/v1/sessions/{session}"
    text = made(client, f"{path}/ws", headers)

    async def play() -> Any:
        async with connected(client, path, query=f"ticket={text}", origin="http://localhost:8000") as socket:
            hello = await socket.hear()
            stores.registry.revoke_token(headers["X-API-Key"].split("_")[1])
            return hello["op"], await socket.hear()

    assert client.run(play()) == ("hello", UNAUTHORIZED_CLOSE)


def test_where_no_token_is_asked_for_a_ticket_is_no_hindrance(sqlite_url: str, stores: Stores) -> None:
    with asyncio.Runner() as runner:
        client = Client(create_app(Settings(database_url=sqlite_url, auth=False), stores), runner)
        assert client.get(f"/v1/events?ticket={made(client, '/v1/events', {})}").status_code == 200
