"""The OpenAPI document: what FastAPI derives from the endpoints, and what it cannot know.

That is the hot route, which is no FastAPI route; problem answers, which follow from what an operation takes; the
two ways to send a token; and an example of every request and answer.
"""

import copy
from collections.abc import Iterator
from typing import Any, TypeAlias

from fastapi import FastAPI
from fastapi.openapi.utils import get_openapi

from service.api.action_schema import ACTION_PATH, action_operation, action_schemas
from service.api.examples import EXAMPLES, problem_example
from service.api.models import ProblemOut
from service.problems import PROBLEM_JSON
from service.security import OPEN_PATHS

Document: TypeAlias = dict[str, Any]

DESCRIPTION = """\
Reinforcement learning as a service: train, roll out and evaluate from configuration modules and overrides, and act \
with what was trained. Request bodies are the arguments of RunContext, so Python and HTTP say the same thing.

Errors are RFC 9457 problems with a pointer to every mistake. Numbers that JSON cannot say are the strings \
`"NaN"`, `"Infinity"` and `"-Infinity"`. Times are RFC 3339 in UTC, durations are seconds.
"""
CONFLICTS = {
    "cancel_run": "The run has ended.",
    "rollout": "The run has no checkpoint that can act, yet or ever.",
    "evaluate": "The run has no checkpoint that can act, yet or ever.",
    "compute_action": "The run has no checkpoint that can act, yet or ever.",
}
"""Operation → what a 409 of it means."""
UNAVAILABLE = frozenset({"live"})
"""Operations that need no database, and so never answer 503."""
_REASONS = {
    400: "A malformed header or body.",
    401: "No valid token.",
    403: "A web page of another origin.",
    404: "There is no such thing.",
    409: "The state does not allow it.",
    413: "The body is too large.",
    415: "The body is not JSON.",
    422: "The request or the configuration is wrong; every mistake is listed with its place.",
    429: "Too many requests; see Retry-After.",
    500: "The service made a mistake.",
    503: "Out of order for the moment; see Retry-After.",
}


def openapi_document(api: FastAPI) -> Document:
    """The whole document."""
    document = get_openapi(
        title=api.title, version=api.version, description=DESCRIPTION, routes=api.routes, tags=_TAGS
    )
    document["paths"][ACTION_PATH] = {"post": action_operation()}
    components = document["components"]
    components["schemas"] |= action_schemas() | _problem_schemas()
    for unused in ("HTTPValidationError", "ValidationError"):
        components["schemas"].pop(unused, None)
    components["responses"] = {f"Problem{status}": _problem_response(status) for status in _REASONS}
    components["securitySchemes"] = {
        "bearer": {"type": "http", "scheme": "bearer"},
        "apiKey": {"type": "apiKey", "in": "header", "name": "X-API-Key"},
    }
    for path, operation in _operations(document):
        _complete(path, operation)
    return document


_TAGS = [
    {"name": "submit", "description": "Start runs."},
    {"name": "runs", "description": "Follow runs, read what they left, act with their policies."},
    {"name": "config", "description": "Look at the configuration and try it without running it."},
    {"name": "service", "description": "Health, metrics, the way in."},
]


def _operations(document: Document) -> Iterator[tuple[str, Document]]:
    for path, methods in document["paths"].items():
        for operation in methods.values():
            yield path, operation


def _complete(path: str, operation: Document) -> None:
    """Add problems, security and examples to one operation."""
    name = operation["operationId"]
    responses = operation["responses"]
    responses.pop("422", None)
    for status in _problem_statuses(path, operation):
        responses.setdefault(str(status), {"$ref": f"#/components/responses/Problem{status}"})
    if name in CONFLICTS:
        responses["409"] = _problem_response(409) | {"description": CONFLICTS[name]}
    operation["security"] = [] if path in OPEN_PATHS else [{"bearer": []}, {"apiKey": []}]
    if name == "list_runs":
        operation["parameters"].append(_LABEL_PARAMETER)
    if name == "list_events":
        responses["204"] = {"description": "The run has ended and nothing came after Last-Event-ID."}
    _add_examples(operation, EXAMPLES[name])


def _problem_statuses(path: str, operation: Document) -> list[int]:
    """What can go wrong, by what the operation takes."""
    statuses = {400, 429, 500}
    if path not in OPEN_PATHS:
        statuses.add(401)
    if operation["operationId"] not in UNAVAILABLE:
        statuses.add(503)
    if "{" in path:
        statuses.add(404)
    if operation.get("parameters"):
        statuses.add(422)
    if "requestBody" in operation:
        statuses |= {403, 404, 413, 415, 422}
    return sorted(statuses)


def _add_examples(operation: Document, examples: Document) -> None:
    if "requestBody" in operation:
        content = operation["requestBody"]["content"]["application/json"]
        content["examples"] = {
            name: {"summary": name.replace("_", " "), "value": value}
            for name, value in examples["requests"].items()
        }
    successes = [response for status, response in operation["responses"].items() if status in ("200", "202")]
    for response in successes:
        for media_type, example in examples["responses"].items():
            response.setdefault("content", {}).setdefault(media_type, {})["example"] = copy.deepcopy(example)


def _problem_schemas() -> Document:
    schema = ProblemOut.model_json_schema(ref_template="#/components/schemas/{model}")
    return {**schema.pop("$defs"), "ProblemOut": schema}


def _problem_response(status: int) -> Document:
    content = {"schema": {"$ref": "#/components/schemas/ProblemOut"}, "example": problem_example(status)}
    return {"description": _REASONS[status], "content": {PROBLEM_JSON: content}}


_LABEL_PARAMETER: Document = {
    "name": "label",
    "in": "query",
    "description": "Only runs with these labels, written `label.KEY=VALUE`.",
    "schema": {"type": "object", "additionalProperties": {"type": "string"}},
    "style": "form",
    "explode": True,
}
