"""From what went wrong to the answer that says so: FastAPI's handlers, and places in the request.

The configuration speaks of ``algorithm.gamma``; the client wrote ``{"overrides": {"algorithm.gamma": 1.5}}`` or
``{"policy": {"networks": …}}``. Both are told: ``path`` is the key path, the same on every face, and ``pointer`` the
place in this very request that has to change, as deep as it can be followed. Nothing of a request's values is
echoed unless the configuration itself names the value it could not find.
"""

import re
from collections.abc import Iterator, Mapping, Sequence
from http import HTTPStatus
from typing import Any, get_args

from fastapi import FastAPI, Request
from fastapi.exceptions import RequestValidationError
from fastapi.routing import APIRoute
from pydantic import BaseModel
from starlette.exceptions import HTTPException
from starlette.requests import ClientDisconnect
from starlette.responses import Response
from starlette.routing import BaseRoute, Match

from maze_core.config.schema import BUDGETS
from maze_core.errors import InvalidSpecificationError
from service.domain.errors import ServiceError
from service.problems import INTERNAL, Problem, pointer_to, sentence, suggestion

MOST_ERRORS = 32
"""Mistakes that one answer lists; a hostile body can hold a hundred thousand."""
LONGEST_NAME = 200
"""Characters of a client's own key that an answer repeats."""
_CODES = {400: "bad_request", 404: "not_found", 405: "method_not_allowed", 413: "payload_too_large"}
_PYDANTIC_CODES = {"extra_forbidden": "unknown_field", "missing": "missing_field"}
_SHORTHANDS = {
    **{f"algorithm.{name}": name for name in BUDGETS},
    "seeding.env_base_seed": "seed",
    "seeding.agent_base_seed": "seed",
    "runner.record_trajectory": "record",
}
_PROXIES = ("policy", "critic")
"""Arguments that stand for a part of ``model`` in a training run."""


def install_problem_handlers(app: FastAPI, routes: Sequence[BaseRoute]) -> None:
    """Answer every exception of the application, which has these routes, with its problem."""

    async def handle(request: Request, error: Exception) -> Response:
        is_method = isinstance(error, HTTPException) and error.status_code == 405
        if is_method or (_is_no_id(error) and _exact(request, routes)):
            problem = _method_problem(request, routes)
        else:
            problem = problem_of(request, error)
        headers, content = problem.answer(request.scope)
        response = Response(content, problem.status)
        response.raw_headers = headers
        return response

    known = (Problem, ServiceError, InvalidSpecificationError, RequestValidationError, HTTPException)
    for kind in (*known, ClientDisconnect, Exception):
        app.add_exception_handler(kind, handle)


def problem_of(request: Request, error: Exception) -> Problem:
    """What a client is told of an exception; one that nobody expected tells nothing of itself."""
    match error:
        case Problem():
            return error
        case ServiceError():
            return Problem.of(error)
        case InvalidSpecificationError():
            return _specification_problem(request, error)
        case RequestValidationError():
            return _validation_problem(request, error)
        case HTTPException(status_code=404):
            return Problem("not_found", "There is nothing at this path; GET / lists what there is.")
        case HTTPException(status_code=status):
            detail = error.detail or HTTPStatus(status).description
            return Problem(_CODES.get(status, "http_error"), detail, headers=error.headers, status=status)
        case ClientDisconnect():  # nobody reads it, but no mistake of ours is logged or counted either
            return Problem("request_timeout", "The rest of the body never came.")
    return Problem("internal", INTERNAL)


def _method_problem(request: Request, routes: Sequence[BaseRoute]) -> Problem:
    """What the path takes instead, of all routes that it has; ``/v1/runs/bulk`` is no run."""
    matching = [route for route in routes if isinstance(route, APIRoute)]
    matching = [route for route in matching if route.matches(request.scope)[0] is Match.PARTIAL]
    methods = {method for route in _exact(request, routes) or matching for method in route.methods or ()}
    allowed = ", ".join(sorted(methods | ({"HEAD"} if "GET" in methods else set())))
    detail = f"This path takes {allowed}, not {request.method}."
    return Problem("method_not_allowed", detail, headers={"Allow": allowed})


def _exact(request: Request, routes: Sequence[BaseRoute]) -> list[APIRoute]:
    """The routes whose whole path is written out, and is this one."""
    path = request.scope["path"]
    return [route for route in routes if isinstance(route, APIRoute) and route.path == path]


def _is_no_id(error: Exception) -> bool:
    """Whether a part of the path is none of what it stands for."""
    return isinstance(error, RequestValidationError) and any(
        "path" in item["loc"][:1] for item in error.errors()
    )


def _specification_problem(request: Request, error: InvalidSpecificationError) -> Problem:
    errors = specification_errors(error, request.scope.get("maze.body"))
    count = len(errors)
    detail = errors[0]["message"] if count == 1 else f"The specification has {count} problems; see errors."
    return Problem("invalid_specification", sentence(detail), errors=errors[:MOST_ERRORS])


def _validation_problem(request: Request, error: RequestValidationError) -> Problem:
    items = list(_of_its_own_kind(error.errors()))
    if _is_no_id(error):
        return Problem("not_found", "There is no such resource; this is no id of ours.")
    count = len(items)
    mistakes = [_mistake(request, item) for item in items[:MOST_ERRORS]]
    detail = mistakes[0]["message"] if count == 1 else f"The request has {count} mistakes; see errors."
    return Problem("invalid_request", detail, errors=mistakes)


def _of_its_own_kind(items: Sequence[Mapping[str, Any]]) -> Iterator[Mapping[str, Any]]:
    """Findings where one value or a list may stand: about the list when a list was given, else about the one value."""
    lists = {}
    for item in items:
        at = next((i for i, key in enumerate(item["loc"]) if _is_list(key)), None)
        if at is not None:
            lists[item["loc"][:at]] = item["type"] != "list_type"
    for item in items:
        loc = item["loc"]
        place = next((loc[:i] for i in range(len(loc)) if loc[:i] in lists), None)
        if place is None:
            yield item
        elif _is_list(loc[len(place)]) == lists[place]:
            yield {**item, "loc": (*place, *loc[len(place) + 1 :])}


def _is_list(key: Any) -> bool:
    return isinstance(key, str) and key.startswith("list[")


def _mistake(request: Request, item: Mapping[str, Any]) -> dict[str, Any]:
    """One finding of pydantic as an entry of ``errors``; its input is left out on purpose."""
    where, *keys = item["loc"]
    model, keys = _model_of_body(request, keys) if where == "body" else (None, keys)
    kind = str(item["type"])
    known: dict[str, Any] = {}
    message = sentence(str(item["msg"]).removeprefix("Value error, "))
    if kind == "extra_forbidden":
        model = _model_at(model, keys[:-1])
        known = suggestion(str(keys[-1]), sorted(model.model_fields) if model else [])
        message = "There is no such field."
        if "." in str(known.get("did_you_mean")):
            message += " Settings are given in overrides, by dotted key."
    elif kind.startswith("union_tag"):
        keys = ["kind"]
        kinds = list(_tagged(request.scope["route"].body_field.field_info.annotation))
        known = {"allowed": kinds}
        message = f"kind says what the run does: {', '.join(kinds)}."
    elif where == "body" and not keys:
        message = "The body is one JSON object."
    elif kind in ("enum", "literal_error"):
        known = {"allowed": re.findall(r"'([^']*)'", str(item.get("ctx", {}).get("expected", "")))}
    names = [str(key)[:LONGEST_NAME] for key in keys if key != "[key]"]
    place = {"pointer": pointer_to(*names)} if where == "body" else {"parameter": ".".join(names[:1])}
    return {**place, "code": _PYDANTIC_CODES.get(kind, kind), "message": message, **known}


def _model_of_body(request: Request, keys: list[Any]) -> tuple[type[BaseModel] | None, list[Any]]:
    """What the body was read as, and the keys below it: of bodies that a tag tells apart, pydantic puts it first."""
    annotation = request.scope["route"].body_field.field_info.annotation
    if isinstance(annotation, type):
        return (annotation if issubclass(annotation, BaseModel) else None), keys
    members = _tagged(annotation)
    return (members[keys[0]], keys[1:]) if keys and keys[0] in members else (None, keys)


def _tagged(annotation: Any) -> dict[str, type[BaseModel]]:
    """The bodies that a tag tells apart, by what it says."""
    return {get_args(one.model_fields["kind"].annotation)[0]: one for one in get_args(annotation)}


def _model_at(model: type[BaseModel] | None, keys: Sequence[Any]) -> type[BaseModel] | None:
    """The model of the object at a place inside a body."""
    for key in keys:
        if model is not None and isinstance(key, str):
            field = model.model_fields.get(key)
            model = None if field is None else next(_models(field.annotation), None)
    return model


def _models(annotation: Any) -> Iterator[type[BaseModel]]:
    if isinstance(annotation, type) and issubclass(annotation, BaseModel):
        yield annotation
    for inner in get_args(annotation):
        yield from _models(inner)


def specification_errors(error: InvalidSpecificationError, body: object) -> list[dict[str, Any]]:
    """Every problem as an entry of a problem body's ``errors``."""
    request = body if isinstance(body, Mapping) else {}
    entries = []
    for problem in error.problems:
        entry: dict[str, Any] = {"pointer": locate(problem.path, request), "path": problem.path}
        entry |= {"code": problem.code, "message": problem.message}
        if problem.allowed:
            entry["allowed"] = list(problem.allowed)
        if problem.did_you_mean:
            entry["did_you_mean"] = problem.did_you_mean
        entries.append(entry)
    return entries


def locate(path: str, request: Mapping[str, Any]) -> str:
    """JSON pointer of the request's member that a key path speaks of; "" is the whole request."""
    path = path.removeprefix("overrides.") if path != "overrides" else path
    overrides = request.get("overrides")
    if isinstance(overrides, Mapping) and (found := _override(path, overrides)):
        return pointer_to("overrides", *found)
    shorthand = _SHORTHANDS.get(path)
    if shorthand in request:
        return pointer_to(shorthand)
    if path.startswith("runner.") and (name := path.removeprefix("runner.")) in request:
        return pointer_to(name)
    for proxy in _PROXIES:
        if path.startswith(f"model.{proxy}") and proxy in request:
            return pointer_to(*_follow(path.removeprefix("model."), request))
    if path.split(".")[0] not in request and (config := request.get("config")) is not None:
        inner = "config.config" if isinstance(config, Mapping) and "config" in config else "config"
        return pointer_to(*_follow(f"{inner}.{path}", request))
    return pointer_to(*_follow(path, request))


def _override(path: str, overrides: Mapping[str, Any]) -> list[str] | None:
    """The longest override key that the path lies under, and the way on from there."""
    keys = [key for key in overrides if path == key or path.startswith(f"{key}.")]
    if not keys:
        return None
    key = max(keys, key=len)
    return [key, *_follow(path[len(key) + 1 :], overrides[key])]


def _follow(path: str, value: Any) -> list[str]:
    """Tokens of the path as far as the value has them; a dotted name may be one key, as wrappers are."""
    tokens: list[str] = []
    while path:
        names = _prefixes(path)
        key = next((name for name in names if _has(value, name)), None)
        if key is None:
            break
        tokens.append(key)
        value = value[int(key)] if isinstance(value, list) else value[key]
        path = path[len(key) + 1 :]
    return tokens


def _prefixes(path: str) -> list[str]:
    """``a.b.c`` → ``a.b.c``, ``a.b``, ``a``."""
    parts = path.split(".")
    return [".".join(parts[:length]) for length in range(len(parts), 0, -1)]


def _has(value: Any, key: str) -> bool:
    if isinstance(value, list):
        return key.isdecimal() and int(key) < len(value)
    return isinstance(value, Mapping) and key in value
