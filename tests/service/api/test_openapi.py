"""The OpenAPI document: complete, true to the models, and with examples that work."""

import re
from collections.abc import Iterator
from typing import Any

import pytest
from fastapi import FastAPI
from fastapi.routing import APIRoute
from pydantic import TypeAdapter

from service.api.application import ROUTERS, build_api
from service.api.bodies import ComposeRequest, DiffRequest, EvaluateRequest, RolloutRequest, TrainRequest
from service.api.examples import EXAMPLES
from service.api.sweeps import AskRequest, SweepRequest, TellRequest
from service.domain.errors import (
    CapacityError,
    IdempotencyConflictError,
    NotFoundError,
    RevisionConflictError,
    ServiceError,
    StateConflictError,
    StoreUnavailableError,
)
from service.problems import CATALOGUE
from service.security import OPEN_PATHS
from service.serving.request import decode_request
from service.serving.sessions.route import decode_step
from service.store import Stores
from tests.contracts.builders import new_checkpoint
from tests.service.api.client import Client, lifespan
from tests.service.api.submissions import trained

BODIES = {
    "train": TrainRequest,
    "rollout": RolloutRequest,
    "evaluate": EvaluateRequest,
    "compose_config": ComposeRequest,
    "diff_configs": DiffRequest,
    "submit_sweep": SweepRequest,
    "preview_sweep": SweepRequest,
    "ask_sweep": AskRequest,
    "tell_sweep": TellRequest,
}


POLICIES = {
    "": ["GET", "POST"],
    "/{name}": ["GET", "PATCH", "DELETE"],
    "/{name}/versions": ["GET", "POST"],
    "/{name}/versions/{number}": ["GET", "DELETE"],
    "/{name}/aliases/{alias}": ["GET", "PUT", "DELETE"],
    "/{name}/aliases/{alias}/history": ["GET"],
    "/{name}/aliases/{alias}/traffic": ["GET", "PUT", "DELETE"],
    "/{name}/aliases/{alias}/rollback": ["POST"],
    "/{policy}/fork": ["POST"],
}


@pytest.fixture
def document(client: Client) -> dict[str, Any]:
    return dict(client.get("/openapi.json").json())


def operations(document: dict[str, Any]) -> Iterator[tuple[str, str, dict[str, Any]]]:
    for path, methods in document["paths"].items():
        for method, operation in methods.items():
            yield path, method, operation


def routes() -> Iterator[APIRoute]:
    for router in ROUTERS:
        yield from (
            route for route in router.routes if isinstance(route, APIRoute) and route.include_in_schema
        )


def test_every_route_of_the_contract_is_there(document: dict[str, Any]) -> None:
    assert {f"{method.upper()} {path}" for path, method, _ in operations(document)} == {
        *("POST /v1/train", "POST /v1/rollout", "POST /v1/evaluate"),
        *("GET /v1/runs", "GET /v1/runs/{run_id}"),
        *(f"{method} /v1/runs/{{run_id}}" for method in ("PUT", "PATCH", "DELETE")),
        *(
            f"POST /v1/runs/{{run_id}}/{verb}"
            for verb in ("cancel", "pause", "resume", "continue", "retry", "fork")
        ),
        *("POST /v1/runs/bulk", "POST /v1/metrics/query", "GET /v1/runs/{run_id}/curve.svg"),
        *(
            f"GET /v1/runs/{{run_id}}/{part}"
            for part in ("events", "metrics", "logs", "config", "checkpoints")
        ),
        *("GET /v1/runs/{run_id}/episodes", "GET /v1/runs/{run_id}/episodes/{index}"),
        *("POST /v1/runs/{run_id}/compute_action", "GET /v1/events"),
        *(
            f"GET /v1/runs/{{run_id}}/episodes/{{index}}/{part}"
            for part in ("video", "thumbnail", "trajectory")
        ),
        "POST /v1/runs/{run_id}/episodes/{index}/replay",
        *("POST /v1/checkpoints", "POST /v1/checkpoints/import", "GET /v1/checkpoints/{checkpoint_id}"),
        *("GET /v1/checkpoints/{checkpoint_id}/facts", "GET /v1/checkpoints/uploads/{upload_id}"),
        *("GET /v1/checkpoints/uploads", "DELETE /v1/checkpoints/uploads/{upload_id}"),
        "PUT /v1/checkpoints/uploads/{upload_id}/parts/{number}",
        "POST /v1/checkpoints/uploads/{upload_id}/complete",
        *("POST /v1/compare", "POST /v1/policies/{policy}/compute_action"),
        *(f"{method} /v1/policies{path}" for path, methods in POLICIES.items() for method in methods),
        *("GET /v1/config/groups", "GET /v1/config/groups/{group}", "GET /v1/config/groups/{group}/{module}"),
        *("GET /v1/config/targets", "POST /v1/config/compose", "POST /v1/config/diff"),
        *("GET /v1/config/schema", "GET /v1/config/groups/{group}/{module}/schema"),
        *(f"{method} /v1/sessions" for method in ("GET", "POST")),
        *(f"{method} /v1/sessions/{{session_id}}" for method in ("GET", "DELETE")),
        *(f"POST /v1/sessions/{{session_id}}/{verb}" for verb in ("step", "reset", "feedback")),
        *(f"{method} /v1/webhooks" for method in ("GET", "POST")),
        *(f"{method} /v1/webhooks/{{webhook_id}}" for method in ("GET", "PATCH", "DELETE")),
        *("POST /v1/webhooks/{webhook_id}/test", "GET /v1/webhooks/{webhook_id}/deliveries"),
        *("POST /v1/sweeps", "POST /v1/sweeps/preview", "GET /v1/sweeps"),
        *("GET /v1/sweeps/{sweep_id}", "DELETE /v1/sweeps/{sweep_id}"),
        *(f"GET /v1/sweeps/{{sweep_id}}/{part}" for part in ("runs", "best", "importance")),
        *(
            f"POST /v1/sweeps/{{sweep_id}}/{verb}"
            for verb in ("ask", "tell", "pause", "resume", "stop", "cancel")
        ),
        *("GET /v1/environments", "GET /v1/environments/{env_id}"),
        *("GET /v1/workers", "GET /v1/status", "GET /v1/me", "GET /v1/audit", "POST /v1/tickets"),
        *("POST /v1/tokens", "GET /v1/tokens", "DELETE /v1/tokens/{token_id}"),
        *("GET /v1/projects", "GET /v1/projects/{project}", "PUT /v1/projects/{project}"),
        *("GET /health/live", "GET /health/ready", "GET /metrics", "GET /"),
        *("GET /problems", "GET /problems/{slug}"),
        *("GET /v2", "GET /v2/health/live", "GET /v2/health/ready", "POST /v2/repository/index"),
        *(f"GET /v2/models/{{model}}{part}" for part in ("", "/ready", "/config", "/stats")),
        *(f"POST /v2/repository/models/{{model}}/{verb}" for verb in ("load", "unload")),
        *("POST /v2/models/{model}/infer", "GET /v2/models/stats"),
    }


def test_every_operation_has_an_example_of_its_request_and_its_answer(document: dict[str, Any]) -> None:
    for path, _, operation in operations(document):
        successes = [
            response for status, response in operation["responses"].items() if status in ("200", "201", "202")
        ]
        assert successes or {"201", "204"} & set(operation["responses"]), path
        for response in successes:
            assert all("example" in content for content in response["content"].values()), path
        if "requestBody" in operation:
            for content in operation["requestBody"]["content"].values():
                assert content.get("examples") or content["example"], path


def test_bytes_are_asked_for_and_sent_with_the_headers_that_are_declared(document: dict[str, Any]) -> None:
    n_found = 0
    for path, _, operation in operations(document):
        headers = {
            one["name"]: one["required"] for one in operation.get("parameters", ()) if one["in"] == "header"
        }
        if "206" in operation["responses"]:
            assert headers == {"Range": False, "If-Range": False, "If-None-Match": False}, path
            assert {"200", "304", "404", "416"} <= set(operation["responses"]), path
            n_found += 1
        if "X-Array-Dtype" in headers:
            assert headers == {"X-Array-Dtype": False, "X-Array-Shape": False}
            n_found += 1
        elif "application/octet-stream" in operation.get("requestBody", {}).get("content", ()):
            assert headers.get("Content-Digest") or headers.get("Repr-Digest"), path
            n_found += 1
    assert n_found == 8
    uploads = {path: item for path, item in document["paths"].items() if "/uploads/" in path}
    changing = [operation for item in uploads.values() for verb, operation in item.items() if verb != "get"]
    assert all("409" in operation["responses"] for operation in changing)
    assert {"200", "201"} <= set(document["paths"]["/v1/checkpoints"]["post"]["responses"])


def test_every_operation_documents_its_problems(document: dict[str, Any]) -> None:
    for path, method, operation in operations(document):
        statuses = set(operation["responses"])
        assert {"400", "429", "500"} <= statuses, path
        assert ("401" in statuses) == bool(operation["security"]), path
        if "{" in path:
            assert "404" in statuses, path
        if method == "post" and "requestBody" in operation:
            assert {"403", "413", "415", "422"} <= statuses, path
    content = document["components"]["responses"]["Problem422"]["content"]
    assert list(content) == ["application/problem+json"]


def test_what_is_made_once_and_what_has_not_changed_have_their_statuses(
    client: Client, stores: Stores, document: dict[str, Any]
) -> None:
    run, lease = trained(client, stores)
    stores.checkpoints.put(lease, new_checkpoint(1, is_best=True), b"bundle")
    upload = {"size_bytes": 1, "sha256": "a" * 64}
    made = {
        "/v1/policies": ("/v1/policies", {"name": "walker"}),
        "/v1/policies/{name}/versions": ("/v1/policies/walker/versions", {"run": run.id}),
        "/v1/checkpoints": ("/v1/checkpoints", upload),
    }
    for template, (path, body) in made.items():
        declared = document["paths"][template]["post"]["responses"]
        schemas = []
        for status in (201, 200):
            assert client.post(path, body).status_code == status
            schemas.append(declared[str(status)]["content"]["application/json"]["schema"])
        assert schemas[0] == schemas[1]
    alias = "/v1/policies/{name}/aliases/{alias}"
    path = alias.format(name="walker", alias="champion")
    tag = client.request("PUT", path, json={"version": 1}).headers["etag"]
    assert client.get(path, headers={"If-None-Match": tag}).status_code == 304
    assert "content" not in document["paths"][alias]["get"]["responses"]["304"]


def test_a_token_is_asked_for_where_the_service_asks_for_one() -> None:
    open_document, closed = (build_api(lifespan, auth=auth).openapi() for auth in (False, True))  # type: ignore[arg-type]
    assert not any(operation["security"] for _, _, operation in operations(open_document))
    assert "securitySchemes" not in open_document["components"]
    free = {path for path, _, operation in operations(closed) if not operation["security"]}
    assert free == OPEN_PATHS & set(closed["paths"])
    assert all(
        ("401" in operation["responses"]) == (path not in free) for path, _, operation in operations(closed)
    )


def test_what_is_answered_is_declared(document: dict[str, Any]) -> None:
    for path in ("/v1/train", "/v1/rollout", "/v1/evaluate", "/v1/runs/{run_id}/cancel"):
        [operation] = document["paths"][path].values()
        schemas = {
            operation["responses"][status]["content"]["application/json"]["schema"]["$ref"]
            for status in ("200", "202")
        }
        assert schemas == {"#/components/schemas/RunOut"}
    for path, _, operation in operations(document):
        for response in operation["responses"].values():
            assert all("schema" in content for content in response.get("content", {}).values()), path


def test_requests_say_nothing_that_generators_misread(document: dict[str, Any]) -> None:
    for name, schema in document["components"]["schemas"].items():
        if name.endswith("Request"):
            assert "oneOf" not in schema  # gives no class
            assert not any("default" in field for field in schema["properties"].values())  # makes it required
    for path, _, operation in operations(document):
        for parameter in operation.get("parameters", ()):
            assert {"type": "null"} not in parameter["schema"].get("anyOf", ()), path
            assert parameter["schema"].get("type") != "object", path  # each generator writes it differently
            assert parameter["name"] != "accept", path
    acting = document["components"]["schemas"]["ActionRequest"]["properties"]
    assert {acting[name]["type"][1] for name in ("seed", "actor_id")} == {"null"}
    assert acting["observations"]["minItems"] == 1
    labels = document["components"]["schemas"]["TrainRequest"]["properties"]["labels"]
    assert re.fullmatch(labels["propertyNames"]["pattern"], "a b") is None


def test_no_reference_leads_nowhere(document: dict[str, Any]) -> None:
    text = str(document)
    for reference in set(re.findall(r"'\$ref': '#/([^']+)'", text)):
        found: Any = document
        for key in reference.split("/"):
            found = found[key]
    assert "HTTPValidationError" not in text


@pytest.mark.parametrize("route", list(routes()), ids=lambda route: route.name)
def test_examples_of_answers_fit_their_models(route: APIRoute) -> None:
    example = EXAMPLES[route.name]["responses"].get("application/json")
    if example is None:
        others = {"get_prometheus_metrics", "draw_curve", "download_checkpoint"}
        others |= {"get_video", "get_thumbnail", "get_trajectory"}
        assert route.name in others or "DELETE" in route.methods
        return
    adapter = TypeAdapter(route.response_model)
    shown = adapter.dump_python(adapter.validate_python(example), mode="json")
    assert shown == example


@pytest.mark.parametrize("name", BODIES)
def test_examples_of_requests_fit_their_models(name: str) -> None:
    for example in EXAMPLES[name]["requests"].values():
        BODIES[name].model_validate(example)


def test_examples_of_requests_that_need_no_run_work(client: Client) -> None:
    for name, path in (("train", "train"), ("compose_config", "config/compose")):
        for title, example in EXAMPLES[name]["requests"].items():
            assert client.post(f"/v1/{path}", example).status_code in (200, 202), title
    assert client.post("/v1/rollout", EXAMPLES["rollout"]["requests"]["random_policy"]).status_code == 202


def test_examples_of_actions_fit_the_hot_route(client: Client) -> None:
    import msgspec

    for example in EXAMPLES["compute_action"]["requests"].values():
        decode_request(msgspec.json.encode(example))
    for example in EXAMPLES["step_session"]["requests"].values():
        decode_step(msgspec.json.encode(example))


def test_no_example_is_left_over() -> None:
    bare = {"compute_action", "compute_policy_action", "step_session"}
    assert {route.name for route in routes()} | bare == set(EXAMPLES)


def test_every_problem_of_an_example_is_in_the_catalogue(document: dict[str, Any]) -> None:
    for name, response in document["components"]["responses"].items():
        example = response["content"]["application/problem+json"]["example"]
        assert CATALOGUE[example["code"]].status == example["status"] == int(name.removeprefix("Problem"))


def test_every_kind_of_error_of_the_service_is_in_the_catalogue() -> None:
    answered: list[type[ServiceError]] = [NotFoundError, StateConflictError, IdempotencyConflictError]
    answered += [RevisionConflictError]
    answered += [CapacityError, StoreUnavailableError]
    while answered:
        kind = answered.pop()
        answered += kind.__subclasses__()  # those of the serving package are loaded with the hot route
        assert kind.code in CATALOGUE, kind


def test_the_document_is_made_once(client: Client) -> None:
    api: FastAPI = client.app._app._api  # type: ignore[attr-defined]
    assert api.openapi() is api.openapi()
