"""The body of every error that the service answers: RFC 9457 problem+json, one shape on all faces.

    {"type": "/problems/state-conflict", "title": "State conflict", "status": 409, "code": "state_conflict",
     "detail": "…", "instance": "/v1/runs/run_…", "request_id": "req_…",
     "errors": [{"pointer": "/observation/2", "code": "space_mismatch", "message": "…"}], …details}

This module knows neither FastAPI nor the serving package; both write their errors through it.
"""

import re
import secrets
from collections.abc import Mapping, Sequence
from typing import Any

import msgspec

PROBLEM_JSON = "application/problem+json"

_SAFE_REQUEST_ID = re.compile(r"[A-Za-z0-9._:-]{1,64}")
_encoder = msgspec.json.Encoder(enc_hook=str)


def problem_body(
    status: int,
    code: str,
    detail: str,
    *,
    instance: str,
    request_id: str,
    errors: Sequence[Mapping[str, Any]] = (),
    details: Mapping[str, Any] | None = None,
) -> dict[str, Any]:
    """One problem as a JSON object.

    Args:
        status: HTTP status of the answer.
        code: stable snake_case name of the kind of problem; ``type`` and ``title`` follow from it.
        detail: what happened and the way out, for a person.
        instance: path of the request.
        request_id: see :func:`request_id_of`.
        errors: every mistake, ``{pointer, code, message}`` with ``allowed`` and ``did_you_mean`` where known.
        details: members of this one kind of problem; never replaces one of the above.
    """
    return {
        **(details or {}),
        "type": "/problems/" + code.replace("_", "-"),
        "title": code.replace("_", " ").capitalize(),
        "status": status,
        "code": code,
        "detail": detail,
        "instance": instance,
        "request_id": request_id,
        "errors": [dict(error) for error in errors],
    }


def problem_bytes(body: Mapping[str, Any]) -> bytes:
    """The body as UTF-8 JSON; values that JSON does not know are written as text."""
    return _encoder.encode(body)


def request_id_of(scope: Mapping[str, Any]) -> str:
    """Id of this request: the one in the ASGI state, else the client's ``X-Request-Id``, else a new one.

    A client's id is taken when it is at most 64 safe characters.
    """
    state = scope.get("state")
    if isinstance(state, Mapping) and "request_id" in state:
        return str(state["request_id"])
    for name, value in scope.get("headers", ()):
        if name == b"x-request-id":
            text = str(value, "latin-1")
            if _SAFE_REQUEST_ID.fullmatch(text):
                return text
    return "req_" + secrets.token_hex(8)
