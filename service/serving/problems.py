"""What can go wrong between a request and its action, and the problem+json answer each gets.

ServiceError (service.domain.errors)
├── StateConflictError (409)
│   ├── NoCheckpointError        the run has made no checkpoint yet
│   ├── NoPolicyError            a rollout or evaluation run has no policy of its own
│   ├── NotServableAgentError    the checkpoint cannot act on raw observations
│   └── DamagedCheckpointError   the stored bundle does not give what it gave when it was made
└── CapacityError (503)
    └── AgentGoneError           the serving child died or was evicted; the next request loads it again
RequestError                     the request itself cannot be answered: 405, 413, 422

Whatever else is raised is a mistake of ours: the security layer logs it and answers 500.
"""

from collections.abc import Mapping, Sequence
from typing import Any

from service.domain.errors import (
    CapacityError,
    ServiceError,
    StateConflictError,
)
from service.error_answers import answer_to
from service.problem_body import PROBLEM_JSON, problem_body, problem_bytes, request_id_of


class NoCheckpointError(StateConflictError):
    """The run has made no checkpoint yet."""

    code = "no_checkpoint"


class NoPolicyError(StateConflictError):
    """A rollout or evaluation run has no policy of its own."""

    code = "no_policy"


class NotServableAgentError(StateConflictError):
    """The checkpoint cannot act on raw observations; the message says why."""

    code = "not_servable"


class DamagedCheckpointError(StateConflictError):
    """The stored bundle does not give what it gave when it was made."""

    code = "checkpoint_damaged"


class AgentGoneError(CapacityError):
    """The process that held the agent is gone; the next request loads it again."""

    code = "agent_gone"


class RequestError(Exception):
    """The request cannot be answered as it stands."""

    def __init__(
        self,
        status: int,
        code: str,
        detail: str,
        *,
        errors: Sequence[Mapping[str, Any]] = (),
        headers: Sequence[tuple[bytes, bytes]] = (),
    ) -> None:
        """Status, stable code, one sentence, and every single mistake with its JSON pointer."""
        self.status = status
        self.code = code
        self.errors = errors
        self.headers = headers
        super().__init__(detail)

    @classmethod
    def at(cls, pointer: str, code: str, message: str) -> "RequestError":
        """A 422 for one mistake."""
        mistake = {"pointer": pointer, "code": code, "message": message}
        return cls(422, "invalid_request", message, errors=(mistake,))


def problem_answer(
    error: RequestError | ServiceError, scope: Mapping[str, Any]
) -> tuple[int, list[tuple[bytes, bytes]], bytes]:
    """Status, headers and problem+json body for an error."""
    details: Mapping[str, Any] = {}
    detail = str(error)
    errors: Sequence[Mapping[str, Any]] = ()
    headers = [(b"content-type", PROBLEM_JSON.encode())]
    if isinstance(error, RequestError):
        status, errors = error.status, error.errors
        headers.extend(error.headers)
    else:
        answer = answer_to(error)
        status, detail, details = answer.status, answer.detail, answer.details
        headers.extend((name.encode(), value.encode()) for name, value in answer.headers.items())
    body = problem_body(
        status,
        error.code,
        detail,
        instance=str(scope.get("path", "")),
        request_id=request_id_of(scope),
        errors=errors,
        details=details,
    )
    content = problem_bytes(body)
    headers.append((b"content-length", b"%d" % len(content)))
    return status, headers, content
