"""Every operation that changes something is in the audit log, with who asked for it; looking and acting is not."""

import asyncio
from collections.abc import Iterator
from typing import Any

import pytest
from fastapi.routing import APIRoute

from service.api.application import ROUTERS
from service.api.audit import CHANGING, OF_EVERYBODY
from service.api.bodies import StrictRoute
from service.api.dependencies import scope_needed
from service.domain.run import StopReason
from service.domain.sharing import Caller, Scope
from service.domain.use_cases import create_token, token_id_of
from service.main import create_app
from service.security import SAFE_METHODS
from service.settings import Settings
from service.store import Stores
from tests.contracts.builders import new_run, start
from tests.service.api.client import Client

Headers = dict[str, str]


@pytest.fixture
def client(sqlite_url: str, sqlite_stores: Stores) -> Iterator[Client]:
    with asyncio.Runner() as runner:
        yield Client(create_app(Settings(database_url=sqlite_url), sqlite_stores), runner)


@pytest.fixture
def admin(sqlite_stores: Stores) -> Headers:
    return {"X-API-Key": create_token(sqlite_stores.registry, "admin")}


def entries(client: Client, admin: Headers, query: str = "") -> list[dict[str, Any]]:
    answer = client.get(f"/v1/audit?{query}", headers=admin)
    assert answer.status_code == 200, answer.text
    found: list[dict[str, Any]] = answer.json()["data"]
    return found


def told(client: Client, admin: Headers) -> list[tuple[str, str]]:
    """Actions and subjects, oldest first."""
    return [(each["action"], each["subject"]) for each in reversed(entries(client, admin))]


def test_a_submission_is_told_by_the_run_that_it_made(client: Client, admin: Headers) -> None:
    made = client.post("/v1/train", {}, headers=admin | {"X-Request-ID": "mine"})
    (entry,) = entries(client, admin)
    assert (entry["action"], entry["subject"]) == ("train", f"/v1/runs/{made.json()['id']}")
    assert (entry["request_id"], entry["outcome"], entry["token_name"]) == ("mine", "done", "admin")
    assert entry["token_id"] == token_id_of(admin["X-API-Key"])


def test_what_matters_is_told_in_its_order_without_a_secret(
    client: Client, admin: Headers, sqlite_stores: Stores
) -> None:
    run, _ = start(sqlite_stores)
    client.request("PUT", "/v1/projects/walker", json={"share": 2}, headers=admin)
    token = client.post("/v1/tokens", {"name": "robot", "scopes": ["act"]}, headers=admin).json()
    client.request("DELETE", f"/v1/tokens/{token['id']}", headers=admin)
    client.post(f"/v1/runs/{run.id}/cancel", headers=admin)
    client.post("/v1/policies", {"name": "walker"}, headers=admin)
    client.request("DELETE", "/v1/policies/walker", headers=admin)
    hook = client.post("/v1/webhooks", {"url": "https://hooks.example"}, headers=admin).json()
    assert told(client, admin) == [
        ("put_project", "/v1/projects/walker"),
        ("make_token", f"/v1/tokens/{token['id']}"),
        ("revoke_token", f"/v1/tokens/{token['id']}"),
        ("cancel_run", f"/v1/runs/{run.id}"),
        ("create_policy", "/v1/policies/walker"),
        ("delete_policy", "/v1/policies/walker"),
        ("create_webhook", f"/v1/webhooks/{hook['id']}"),
    ]
    text = client.get("/v1/audit", headers=admin).text
    assert not [secret for secret in (token["token"], hook["secret"]) if secret in text]


def test_of_many_runs_that_are_deleted_at_once_each_is_told(
    client: Client, admin: Headers, sqlite_stores: Stores
) -> None:
    runs = [sqlite_stores.runs.create(new_run())[0].id for _ in range(3)]
    for run_id in runs[:2]:
        sqlite_stores.runs.request_stop(run_id, StopReason.CANCEL)
    client.post("/v1/runs/bulk", {"action": "delete", "filter": {"ids": runs}}, headers=admin)
    assert told(client, admin) == [("change_runs", f"/v1/runs/{run_id}") for run_id in runs[:2]]


def test_what_was_not_done_is_not_told(client: Client, admin: Headers) -> None:
    assert client.post("/v1/train", {"overrides": {"env.nme": "x"}}, headers=admin).status_code == 422
    assert client.post("/v1/runs/run_0/cancel", headers=admin).status_code == 404
    assert client.post("/v1/config/compose", {}, headers=admin).status_code == 200
    assert entries(client, admin) == []


def test_who_tries_what_he_may_not_is_told_once_a_minute(
    client: Client, admin: Headers, sqlite_stores: Stores
) -> None:
    reader = Caller(scopes=frozenset({Scope.RUNS_READ}))
    headers = {"X-API-Key": create_token(sqlite_stores.registry, "reader", reader)}
    for _ in range(3):
        assert client.request("DELETE", "/v1/runs/run_0", headers=headers).status_code == 403
    more = client.post("/v1/tokens", {"name": "x", "scopes": ["admin"]}, headers=headers)
    assert (more.status_code, client.get("/v1/audit", headers=headers).status_code) == (403, 403)
    found = [(each["action"], each["outcome"], each["token_name"]) for each in entries(client, admin)]
    assert found == [("make_token", "refused", "reader"), ("delete_run", "refused", "reader")]


def test_the_log_is_read_page_by_page_and_filtered(client: Client, admin: Headers) -> None:
    for name in ("a", "b", "c"):
        client.request("PUT", f"/v1/projects/{name}", json={}, headers=admin)
    client.post("/v1/policies", {"name": "walker"}, headers=admin | {"X-Maze-Project": "a"})
    first = client.get("/v1/audit?limit=3&action=put_project&subject=/v1/projects", headers=admin).json()
    assert [each["subject"][-1] for each in first["data"]] == ["c", "b", "a"]
    page = client.get("/v1/audit?limit=2", headers=admin).json()
    assert page["has_more"]
    rest = entries(client, admin, f"limit=2&cursor={page['next_cursor']}")
    assert [each["subject"][-1] for each in rest] == ["b", "a"]
    assert [each["action"] for each in entries(client, admin, "project=a")] == ["create_policy"]
    assert (
        entries(client, admin, "token=nobody") == entries(client, admin, "since=9000-01-01T00:00:00Z") == []
    )
    for wrong in ("cursor=x", "since=yesterday", "subject=runs", "project=A"):
        assert client.get(f"/v1/audit?{wrong}", headers=admin).status_code == 422, wrong


def test_every_operation_that_changes_something_is_noted() -> None:
    """By its route: one that is no such route would leave no entry."""
    changing = [
        route
        for router in ROUTERS
        for route in router.routes
        if isinstance(route, APIRoute)
        for method in (route.methods or set()) - SAFE_METHODS
        if scope_needed(route, method) in CHANGING or route.name in OF_EVERYBODY
    ]
    assert len(changing) > 35
    others = {route.name for route in changing if not isinstance(route, StrictRoute)}
    assert others == {"load_model", "unload_model"}, "these change nothing that is stored"
