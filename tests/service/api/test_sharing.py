"""Tokens that clients make, who one is, and projects."""

import asyncio
from collections.abc import Iterator
from typing import Any

import pytest

from service.domain.sharing import Caller, Scope
from service.domain.use_cases import create_token
from service.main import create_app
from service.settings import Settings
from service.store import Stores
from tests.service.api.client import Client

Headers = dict[str, str]


@pytest.fixture
def client(sqlite_url: str, sqlite_stores: Stores) -> Iterator[Client]:
    with asyncio.Runner() as runner:
        yield Client(create_app(Settings(database_url=sqlite_url), sqlite_stores), runner)


@pytest.fixture
def admin(sqlite_stores: Stores) -> Headers:
    return {"X-API-Key": create_token(sqlite_stores.registry, "admin")}


def made(client: Client, by: Headers, **body: Any) -> tuple[Headers, dict[str, Any]]:
    answer = client.post("/v1/tokens", {"name": "robot", "scopes": ["act"], **body}, headers=by)
    assert answer.status_code == 201, answer.text
    return {"X-API-Key": answer.json().pop("token")}, answer.json()


def test_a_token_is_shown_once_and_opens_what_it_was_made_for(client: Client, admin: Headers) -> None:
    headers, token = made(client, admin, scopes=["runs:read"], expires_in_s=60)
    assert client.get("/v1/runs", headers=headers).status_code == 200
    assert client.post("/v1/train", {}, headers=headers).json()["scope"] == "runs:write"
    me = client.get("/v1/me", headers=headers).json()
    assert me == {"token_id": token["id"], "project": "default", "scopes": ["runs:read"]}
    listed = client.get("/v1/tokens", headers=admin)
    assert headers["X-API-Key"].rsplit("_", 1)[1] not in listed.text
    assert {each["name"] for each in listed.json()["data"]} == {"admin", "robot"}


def test_nobody_gives_more_than_he_has_nor_for_longer(client: Client, admin: Headers) -> None:
    headers, _ = made(client, admin, scopes=["runs:read", "act"], expires_in_s=100)
    answer = client.post("/v1/tokens", {"name": "x", "scopes": ["act", "admin"]}, headers=headers)
    assert (answer.status_code, answer.json()["scope"]) == (403, "admin")
    longer = {"name": "x", "scopes": ["act"], "expires_in_s": 200}
    assert client.post("/v1/tokens", longer, headers=headers).status_code == 422
    _, child = made(client, headers)
    assert child["expires_at"] is not None


def test_an_admin_for_a_day_makes_none_for_ever(client: Client, admin: Headers) -> None:
    headers, _ = made(client, admin, scopes=["admin"], expires_in_s=86_400)
    longer = {"name": "x", "scopes": ["admin"], "expires_in_s": 86_500}
    assert client.post("/v1/tokens", longer, headers=headers).status_code == 422
    _, child = made(client, headers, scopes=["admin"])
    assert child["expires_at"] is not None


def test_a_token_that_was_revoked_a_moment_ago_makes_no_other_one(
    client: Client, admin: Headers, sqlite_stores: Stores
) -> None:
    headers, own = made(client, admin)
    made(client, headers)
    sqlite_stores.registry.revoke_token(own["id"])
    answer = client.post("/v1/tokens", {"name": "x", "scopes": ["act"]}, headers=headers)
    assert (answer.status_code, answer.json()["code"]) == (409, "state_conflict")


def test_one_sees_and_ends_ones_own_tokens_alone(client: Client, admin: Headers) -> None:
    headers, own = made(client, admin)
    _, other = made(client, admin)
    _, child = made(client, headers)
    listed = client.get("/v1/tokens", headers=headers).json()["data"]
    assert {each["id"] for each in listed} == {own["id"], child["id"]}
    paths = {name: f"/v1/tokens/{token['id']}" for name, token in (("other", other), ("child", child))}
    assert client.request("DELETE", paths["other"], headers=headers).status_code == 404
    assert client.request("DELETE", paths["child"], headers=headers).status_code == 204


def test_a_revoked_token_makes_no_more_trouble_through_those_it_made(
    client: Client, admin: Headers, sqlite_stores: Stores
) -> None:
    headers, own = made(client, admin)
    _, child = made(client, headers)
    assert client.request("DELETE", f"/v1/tokens/{own['id']}", headers=admin).status_code == 204
    assert sqlite_stores.registry.find_token(child["id"]) is None


def test_a_project_is_made_by_an_admin_who_then_works_in_it(client: Client, admin: Headers) -> None:
    quotas = {"share": 2, "max_queued": 0}
    assert client.request("PUT", "/v1/projects/walker", json=quotas, headers=admin).json()["max_queued"] == 0
    within = admin | {"X-Maze-Project": "walker"}
    headers, token = made(client, within, scopes=["runs:write"])
    assert token["project"] == "walker"
    answer = client.post("/v1/train", {}, headers=headers)
    assert (answer.status_code, answer.json()["code"]) == (429, "quota_exceeded")
    assert [answer.json()[name] for name in ("quota", "used", "limit")] == ["max_queued", 0, 0]
    assert client.request("PUT", "/v1/projects/walker", json={}, headers=headers).status_code == 403
    nowhere = client.post(
        "/v1/tokens", {"name": "x", "scopes": ["act"]}, headers=admin | {"X-Maze-Project": "no"}
    )
    assert nowhere.status_code == 404


def test_a_project_that_there_is_not_takes_nothing_and_is_named(client: Client, admin: Headers) -> None:
    nowhere = admin | {"X-Maze-Project": "nowhere"}
    for path, body in (
        ("/v1/policies", {"name": "walker"}),
        ("/v1/webhooks", {"url": "https://hooks.example"}),
        ("/v1/checkpoints", {"size_bytes": 10, "sha256": "0" * 64}),
        ("/v1/train", {}),
    ):
        answer = client.post(path, body, headers=nowhere)
        assert (answer.status_code, answer.json()["code"]) == (404, "not_found"), path
        assert "no project nowhere" in answer.json()["detail"]
    assert client.get("/v1/runs", headers=nowhere).status_code == 404
    assert client.request("PUT", "/v1/projects/nowhere", json={}, headers=nowhere).status_code == 200
    assert client.get("/v1/runs", headers=nowhere).status_code == 200


def test_tokens_and_projects_are_listed_page_by_page(client: Client, admin: Headers) -> None:
    for name in ("c", "a", "b"):
        client.request("PUT", f"/v1/projects/{name}", json={}, headers=admin)
        made(client, admin, name=name)
    for path, names in (
        ("/v1/tokens", ["admin", "c", "a", "b"]),
        ("/v1/projects", ["a", "b", "c", "default"]),
    ):
        first = client.get(f"{path}?limit=3", headers=admin).json()
        assert (len(first["data"]), first["has_more"]) == (3, True)
        rest = client.get(f"{path}?limit=3&cursor={first['next_cursor']}", headers=admin).json()
        assert [each["name"] for each in first["data"] + rest["data"]] == names
        assert client.get(f"{path}?cursor=x", headers=admin).json()["errors"][0]["code"] == "invalid_cursor"


def test_an_admin_of_the_default_project_is_not_seen_by_another_one(
    client: Client, sqlite_stores: Stores, admin: Headers
) -> None:
    sqlite_stores.projects.put("other", {})
    grants = Caller(project="other", scopes=frozenset({Scope.ACT}))
    stranger = {"X-API-Key": create_token(sqlite_stores.registry, "stranger", grants)}
    assert [each["name"] for each in client.get("/v1/tokens", headers=stranger).json()["data"]] == [
        "stranger"
    ]
