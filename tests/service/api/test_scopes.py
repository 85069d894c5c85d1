"""Every operation names the scope that it asks for, and a token without it is told which one."""

import asyncio
from collections.abc import Iterator
from typing import Any

import pytest
from fastapi import FastAPI
from fastapi.routing import APIRoute

from service.api.application import ROUTERS
from service.api.dependencies import ScopeNeeded, scope_needed
from service.domain.sharing import Caller, Scope
from service.domain.use_cases import create_token
from service.main import create_app
from service.security import OPEN_PATHS
from service.settings import Settings
from service.store import Stores
from tests.service.api.client import Client

FREE = {
    *("discover", "list_problems", "get_problem", "get_environment", "list_environments"),
    *("get_schema", "list_groups", "get_group", "get_module", "get_module_schema", "list_targets"),
    *("make_token", "list_tokens", "revoke_token", "make_ticket"),
    *("compose_config", "get_server", "get_me"),
}
"""Operations that any token may call: they tell what the service is and what it takes, and keep nothing."""


@pytest.fixture
def client(sqlite_url: str, sqlite_stores: Stores) -> Iterator[Client]:
    with asyncio.Runner() as runner:
        yield Client(create_app(Settings(database_url=sqlite_url), sqlite_stores), runner)


def token(stores: Stores, *scopes: Scope, project: str = "default") -> dict[str, str]:
    grants = Caller(project=project, scopes=frozenset(scopes))
    return {"X-API-Key": create_token(stores.registry, "test", grants)}


def operations(client: Client, headers: dict[str, str]) -> list[tuple[str, str, dict[str, Any]]]:
    document = client.get("/openapi.json", headers=headers).json()
    return [
        (path, method, operation)
        for path, methods in document["paths"].items()
        for method, operation in methods.items()
    ]


def test_every_operation_asks_for_the_scope_that_the_document_names(
    client: Client, sqlite_stores: Stores
) -> None:
    nothing = token(sqlite_stores)
    free = set()
    for path, method, operation in operations(client, nothing):
        if path in OPEN_PATHS:
            continue
        (named,) = {tuple(*each.values()) for each in operation["security"]}
        answer = client.request(method.upper(), _filled(path), headers=nothing)
        if named:
            assert (answer.status_code, answer.json()["code"]) == (403, "scope_missing"), path
            assert (answer.json()["scope"],) == named, path
        else:
            assert answer.status_code != 403, path
            free.add(operation["operationId"])
    assert free == FREE


def _filled(path: str) -> str:
    for name, value in {"index": "0", "number": "1", "slug": "gone", "version": "1"}.items():
        path = path.replace("{" + name + "}", value)
    return path.replace("{", "").replace("}", "")


@pytest.mark.parametrize("scope", list(Scope))
def test_a_scope_opens_its_own_operations_alone(client: Client, sqlite_stores: Stores, scope: Scope) -> None:
    headers = token(sqlite_stores, scope)
    for path, method, operation in operations(client, headers):
        named = {tuple(*each.values()) for each in operation["security"]} or {()}
        opens = scope is Scope.ADMIN or named in ({()}, {(scope.value,)})
        answer = client.request(method.upper(), _filled(path), headers=headers)
        assert (answer.status_code == 403) is not opens, (path, answer.text)


def test_no_route_is_without_one() -> None:
    """One that said nothing would be for admins alone, which nobody means."""
    for router in ROUTERS:
        for route in router.routes:
            said = [each.dependency for each in getattr(route, "dependencies", ())]
            assert any(isinstance(each, ScopeNeeded) for each in said), route


def test_a_route_that_says_nothing_is_for_admins() -> None:
    api = FastAPI()
    api.get("/forgotten")(lambda: None)
    (route,) = (each for each in api.routes if isinstance(each, APIRoute))
    assert scope_needed(route, "GET") is Scope.ADMIN
