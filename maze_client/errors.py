"""What can go wrong, as one tree; each message says where, what, and the way out."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import httpx
import msgspec

_MOST_SHOWN = 20


class MazeClientError(Exception):
    """Base of every error of this package."""


class ConnectionFailed(MazeClientError):
    """The service was not reached, or the connection broke, as often as it was tried."""


class WaitTimeout(MazeClientError, TimeoutError):
    """A run had not ended when the time was up; it goes on."""


class RunFailed(MazeClientError):
    """A run ended ``failed``; ``run`` is that run, with its ``error``."""

    def __init__(self, run: Any) -> None:
        said = f"{run.error.code}: {run.error.message}" if run.error else run.reason
        super().__init__(f"{run.kind} {run.id} failed: {said}\nIts traceback is among run.logs().")
        self.run = run


@dataclass(frozen=True, kw_only=True)
class Mistake:
    """One mistake in a request."""

    code: str
    message: str
    pointer: str | None = None
    """JSON pointer into the body that was sent."""
    parameter: str | None = None
    """The query parameter, where the mistake is there."""
    path: str | None = None
    """Key path in the configuration."""
    allowed: Sequence[str] | None = None
    did_you_mean: str | None = None

    def __str__(self) -> str:
        """``/algorithm: There is no algorithm module 'pp0'. Did you mean 'ppo'?``."""
        where = self.pointer or self.parameter or self.path
        text = f"{where}: {self.message}" if where else self.message
        if self.did_you_mean:
            text += f" Did you mean {self.did_you_mean!r}?"
        if self.allowed:
            more = "" if len(self.allowed) <= _MOST_SHOWN else f" and {len(self.allowed) - _MOST_SHOWN} more"
            text += f" Allowed: {', '.join(self.allowed[:_MOST_SHOWN])}{more}."
        return text


class ProblemError(MazeClientError):
    """The service answered with a problem (RFC 9457).

    Args:
        status: of the answer.
        body: the problem, with members that only its kind has.
        tries: how often the request had been sent before, with an answer that was lost.
    """

    def __init__(self, status: int, body: dict[str, Any], tries: int = 0) -> None:
        self.status, self.body, self.tries = status, body, tries
        self.code = str(body.get("code", f"http_{status}"))
        self.detail = str(body.get("detail") or body.get("title") or "")
        self.errors = _mistakes(body.get("errors"))
        self.request_id = str(body["request_id"]) if body.get("request_id") else None
        super().__init__(status, body, tries)

    def __str__(self) -> str:
        """The detail and every mistake, a line each."""
        known = [self.code, f"HTTP {self.status}", *([self.request_id] if self.request_id else [])]
        return "\n  ".join([f"{self.detail} ({', '.join(known)})", *map(str, self.errors)])


class UnauthorizedError(ProblemError):
    """No valid token came with the request (401)."""


class NotFoundError(ProblemError):
    """There is no such run, checkpoint, episode or environment (404)."""


class ConflictError(ProblemError):
    """The run's state does not allow this (409)."""


class ChangedError(ProblemError):
    """The run has changed since the revision that was named (412)."""


class InvalidRequestError(ProblemError):
    """The request or its configuration cannot work (422); ``errors`` has every mistake."""


def _mistakes(found: Any) -> list[Mistake]:
    """Those of a problem; one that somebody else writes otherwise is shown as it is."""
    mistakes = []
    for each in found if isinstance(found, list) else filter(None, [found]):
        try:
            mistakes.append(msgspec.convert(each, Mistake, strict=False))
        except msgspec.ValidationError:
            mistakes.append(Mistake(code="unknown", message=str(each)))
    return mistakes


_KINDS: dict[int, type[ProblemError]] = {
    401: UnauthorizedError,
    404: NotFoundError,
    409: ConflictError,
    412: ChangedError,
    422: InvalidRequestError,
}


def problem_error(body: dict[str, Any], tries: int = 0) -> ProblemError:
    """The error for a problem that came in no answer of HTTP."""
    status = int(body.get("status", 500))
    return _KINDS.get(status, ProblemError)(status, body, tries)


def error_of(outcome: httpx.Response | httpx.RequestError, tries: int = 0) -> MazeClientError:
    """The error for an answer that is none, or for a connection that broke."""
    if isinstance(outcome, httpx.RequestError):
        said = str(outcome) or type(outcome).__name__
        message = (
            f"{outcome.request.url} was not reached: {said}. Is the service up, and MAZE_URL its address?"
        )
        return ConnectionFailed(message)
    try:
        body = outcome.json()
    except ValueError:  # whoever stands in front of the service speaks otherwise
        body = None
    if not isinstance(body, dict):
        body = {"detail": _beginning(outcome)}
    return _KINDS.get(outcome.status_code, ProblemError)(outcome.status_code, body, tries)


def unexpected(response: httpx.Response) -> MazeClientError:
    """The error for an answer that is not the service's, though it says that all is well."""
    what = f"HTTP {response.status_code} and {_beginning(response)!r}"
    way_out = "Is MAZE_URL the address of a maze service?"
    return MazeClientError(f"{response.url} answered {what}, which no maze service does. {way_out}")


def _beginning(response: httpx.Response) -> str:
    return " ".join(response.text.split())[:200] or response.reason_phrase
