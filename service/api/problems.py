"""From what went wrong to the answer that says so: RFC 9457 problem+json for every error of every layer.

Each exception becomes one :class:`RequestProblem`; nothing of a request's values is echoed unless the
configuration itself names the value it could not find.
"""

import difflib
import logging
import re
from collections.abc import Mapping, Sequence
from http import HTTPStatus
from typing import Any

from fastapi import FastAPI, Request
from fastapi.exceptions import RequestValidationError
from starlette.exceptions import HTTPException
from starlette.responses import Response

from maze_core.errors import InvalidSpecificationError
from service.api.json_values import pointer_to
from service.api.pointers import specification_errors
from service.domain.errors import (
    ServiceError,
)
from service.error_answers import answer_to
from service.problem_body import PROBLEM_JSON, problem_body, problem_bytes, request_id_of

logger = logging.getLogger(__name__)

_CODES = {400: "bad_request", 404: "not_found", 405: "method_not_allowed", 413: "payload_too_large"}
MOST_ERRORS = 32
"""Mistakes that one answer lists; a hostile body can hold a hundred thousand."""
LONGEST_NAME = 200
"""Characters of a client's own key that an answer repeats."""
_PYDANTIC_CODES = {"extra_forbidden": "unknown_field", "missing": "missing_field"}


class RequestProblem(HTTPException):
    """An answer that is not a success, ready to be written."""

    def __init__(
        self,
        status: int,
        code: str,
        detail: str,
        errors: Sequence[Mapping[str, Any]] = (),
        headers: Mapping[str, str] | None = None,
        details: Mapping[str, Any] | None = None,
    ) -> None:
        """Status, stable code and one sentence; every single mistake; further members of the body."""
        super().__init__(status, detail, headers)
        self.code = code
        self.errors = errors
        self.details = details or {}

    @classmethod
    def at(cls, pointer: str, code: str, message: str, **known: Any) -> "RequestProblem":
        """A 422 for one mistake in the body; ``known`` are its ``allowed`` and ``did_you_mean``."""
        return cls(
            422, "invalid_request", message, [{"pointer": pointer, "code": code, "message": message} | known]
        )

    @classmethod
    def in_query(cls, name: str, code: str, message: str, **known: Any) -> "RequestProblem":
        """A 422 for one mistake in the query string."""
        return cls(
            422, "invalid_request", message, [{"parameter": name, "code": code, "message": message} | known]
        )


def problem_response(request: Request, problem: RequestProblem) -> Response:
    """The problem as an answer."""
    body = problem_body(
        *(problem.status_code, problem.code, problem.detail),
        instance=request.url.path,
        request_id=request_id_of(request.scope),
        errors=problem.errors,
        details=problem.details,
    )
    return Response(problem_bytes(body), problem.status_code, problem.headers, media_type=PROBLEM_JSON)


def install_problem_handlers(app: FastAPI) -> None:
    """Answer every exception of the application with its problem."""

    async def handle(request: Request, error: Exception) -> Response:
        return problem_response(request, problem_of(request, error))

    for kind in (
        RequestProblem,
        ServiceError,
        InvalidSpecificationError,
        RequestValidationError,
        HTTPException,
    ):
        app.add_exception_handler(kind, handle)
    app.add_exception_handler(Exception, handle)


def problem_of(request: Request, error: Exception) -> RequestProblem:
    """What a client is told of an exception; one that nobody expected tells nothing of itself."""
    match error:
        case RequestProblem():
            return error
        case ServiceError():
            return _service_problem(error)
        case InvalidSpecificationError():
            return _specification_problem(request, error)
        case RequestValidationError():
            return _validation_problem(request, error)
        case HTTPException():
            code = getattr(error, "code", None) or _CODES.get(error.status_code, "http_error")
            return RequestProblem(
                error.status_code, code, _detail(error, request), headers=error.headers or {}
            )
    return RequestProblem(
        500, "internal", "The service made a mistake; its log says more under this request_id."
    )


def _service_problem(error: ServiceError) -> RequestProblem:
    answer = answer_to(error)
    return RequestProblem(
        answer.status, error.code, sentence(answer.detail), headers=answer.headers, details=answer.details
    )


def _specification_problem(request: Request, error: InvalidSpecificationError) -> RequestProblem:
    errors = specification_errors(error, request.scope.get("maze.body"))
    count = len(errors)
    detail = errors[0]["message"] if count == 1 else f"The specification has {count} problems; see errors."
    return RequestProblem(422, "invalid_specification", sentence(detail), errors[:MOST_ERRORS])


def _validation_problem(request: Request, error: RequestValidationError) -> RequestProblem:
    items = error.errors()
    if any("path" in item["loc"][:1] for item in items):
        return RequestProblem(404, "not_found", "There is no such resource; this is no id of ours.")
    count = len(items)
    mistakes = [_mistake(request, item) for item in items[:MOST_ERRORS]]
    detail = mistakes[0]["message"] if count == 1 else f"The request has {count} mistakes; see errors."
    return RequestProblem(422, "invalid_request", detail, mistakes)


def _mistake(request: Request, item: Mapping[str, Any]) -> dict[str, Any]:
    """One finding of pydantic as an entry of ``errors``; its input is left out on purpose."""
    where, *keys = item["loc"]
    kind = str(item["type"])
    known: dict[str, Any] = {}
    message = sentence(str(item["msg"]).removeprefix("Value error, "))
    if kind == "extra_forbidden":
        known = suggestion(str(keys[-1]), _field_names(request, where))
        message = "There is no such field." if where == "body" else "There is no such parameter."
    elif kind in ("enum", "literal_error"):
        known = {"allowed": re.findall(r"'([^']*)'", str(item.get("ctx", {}).get("expected", "")))}
    names = [str(key)[:LONGEST_NAME] for key in keys if key != "[key]"]
    place = {"pointer": pointer_to(*names)} if where == "body" else {"parameter": ".".join(names)}
    return {**place, "code": _PYDANTIC_CODES.get(kind, kind), "message": message, **known}


def suggestion(name: str, allowed: Sequence[str]) -> dict[str, Any]:
    """The names that would be accepted, and the closest one where one is near."""
    closest = difflib.get_close_matches(name[:64], allowed, n=1)
    return {"allowed": list(allowed)} | ({"did_you_mean": closest[0]} if closest else {})


def _field_names(request: Request, where: str) -> list[str]:
    """The names that the route's body or query takes."""
    route = request.scope["route"]
    models = [route.body_field] if where == "body" else route.dependant.query_params
    return sorted(
        field_name
        for model in models
        for field_name in getattr(model.field_info.annotation, "model_fields", ())
    )


def _detail(error: HTTPException, request: Request) -> str:
    if error.status_code == 404:
        return "There is nothing at this path; GET / lists what there is."
    if error.status_code == 405:
        allowed = (error.headers or {}).get("Allow", "")
        return f"{request.method} does nothing here" + (f"; use {allowed}." if allowed else ".")
    return error.detail or HTTPStatus(error.status_code).description


def sentence(text: str) -> str:
    """The text with a capital letter and a full stop."""
    text = text.strip()
    return text[:1].upper() + text[1:] + ("" if text.endswith((".", "!", "?")) else ".")
