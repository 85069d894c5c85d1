"""The Postman collection: in the form of its version 2.1, every operation once, and each request reaches its route."""

import json
from collections.abc import Iterator
from typing import Any

import jsonschema
import pytest

from service.api.postman import collection
from tests.service.api.client import HOST, Client

_TEXT = {"type": "string"}
_PAIRS = {
    "type": "array",
    "items": {
        "type": "object",
        "required": ["key", "value"],
        "properties": {"key": _TEXT, "value": _TEXT, "description": _TEXT, "disabled": {"const": True}},
    },
}
_REQUEST = {
    "type": "object",
    "required": ["method", "header", "url"],
    "properties": {
        "method": {"enum": ["GET", "POST", "PUT", "PATCH", "DELETE"]},
        "header": _PAIRS,
        "description": _TEXT,
        "auth": {"type": "object", "required": ["type"], "properties": {"type": {"const": "noauth"}}},
        "url": {
            "type": "object",
            "required": ["raw", "host", "path"],
            "properties": {
                "raw": _TEXT,
                "host": {"const": ["{{base_url}}"]},
                "path": {"type": "array", "items": _TEXT},
                "query": _PAIRS,
                "variable": _PAIRS,
            },
            "additionalProperties": False,
        },
        "body": {
            "type": "object",
            "required": ["mode"],
            "properties": {"mode": {"enum": ["raw", "file"]}, "raw": _TEXT},
        },
    },
    "additionalProperties": False,
}
V21 = {
    "type": "object",
    "required": ["info", "item"],
    "properties": {
        "info": {
            "type": "object",
            "required": ["name", "schema"],
            "properties": {
                "schema": {"const": "https://schema.getpostman.com/json/collection/v2.1.0/collection.json"},
                "name": _TEXT,
                "version": _TEXT,
            },
        },
        "auth": {"type": "object", "required": ["type", "bearer"]},
        "variable": _PAIRS,
        "item": {
            "type": "array",
            "items": {
                "type": "object",
                "required": ["name", "item"],
                "properties": {
                    "item": {
                        "type": "array",
                        "minItems": 1,
                        "items": {
                            "type": "object",
                            "required": ["name", "request", "response"],
                            "properties": {"request": _REQUEST, "response": {"type": "array"}},
                        },
                    }
                },
            },
        },
    },
    "additionalProperties": False,
}
"""What Postman's published schema of version 2.1 asks of the parts that we use."""


@pytest.fixture
def made(client: Client) -> dict[str, Any]:
    answer = client.get("/docs/postman.json")
    assert answer.status_code == 200
    return dict(answer.json())


def requests(made: dict[str, Any]) -> Iterator[tuple[str, dict[str, Any]]]:
    """Name and request of every item."""
    for folder in made["item"]:
        for item in folder["item"]:
            yield item["name"], item["request"]


def test_it_has_the_form_of_version_2_1(made: dict[str, Any]) -> None:
    jsonschema.validate(made, V21)


def test_every_operation_is_there_once_under_its_name(client: Client, made: dict[str, Any]) -> None:
    document = client.get("/openapi.json").json()
    operations = [f"{method.upper()} {path}" for path, found in document["paths"].items() for method in found]
    assert sorted(name for name, _ in requests(made)) == sorted(operations)


def test_it_is_for_the_service_that_was_asked_and_holds_no_token(made: dict[str, Any]) -> None:
    variables = {one["key"]: one["value"] for one in made["variable"]}
    assert variables == {"base_url": f"http://{HOST}", "token": ""}
    assert made["auth"]["bearer"] == [{"key": "token", "value": "{{token}}", "type": "string"}]


def test_only_what_is_open_goes_without_the_token() -> None:
    def operation(security: list[Any]) -> dict[str, Any]:
        return {"get": {"tags": ["a"], "description": "", "security": security}}

    tags = [{"name": "a", "description": ""}]
    paths = {"/open": operation([]), "/closed": operation([{"bearer": []}])}
    info = {"title": "t", "description": "d", "version": "1"}
    made = collection({"info": info, "tags": tags, "paths": paths}, "http://x")
    assert {name: request.get("auth") for name, request in requests(made)} == {
        "GET /open": {"type": "noauth"},
        "GET /closed": None,
    }


def test_every_variable_of_a_path_has_a_value(made: dict[str, Any]) -> None:
    for name, request in requests(made):
        named = {part[1:] for part in request["url"]["path"] if part.startswith(":")}
        given = {one["key"]: one["value"] for one in request["url"].get("variable", [])}
        assert set(given) == named, name
        assert all(given.values()), name


def test_each_request_reaches_its_route_with_a_body_that_is_read(
    client: Client, made: dict[str, Any]
) -> None:
    unknown = client.get("/v1/nowhere").json()["detail"]
    for name, request in requests(made):
        given = {one["key"]: one["value"] for one in request["url"].get("variable", [])}
        path = "/".join(given.get(part.removeprefix(":"), part) for part in request["url"]["path"])
        headers = {one["key"]: one["value"] for one in request["header"] if "disabled" not in one}
        body = request.get("body", {}).get("raw", "")
        if body:
            json.loads(body)
        answer = client.request(request["method"], f"/{path}", content=body, headers=headers)
        assert answer.status_code not in (405, 415), name
        assert answer.status_code < 500, f"{name}: {answer.text}"
        if answer.status_code == 404:
            assert answer.json()["detail"] != unknown, name
