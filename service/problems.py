"""Every problem that the service answers: one exception, one table of kinds, one body (RFC 9457 problem+json).

    {"type": "/problems/state-conflict", "title": "State conflict", "status": 409, "code": "state_conflict",
     "detail": "…", "instance": "/v1/runs/run_…", "request_id": "req_…",
     "errors": [{"pointer": "/observation/2", "code": "space_mismatch", "message": "…"}], …details}

No web framework is needed here: the security layer, FastAPI's handlers and the hot route all answer through it.
"""

import logging
import math
import re
import secrets
from collections import Counter
from collections.abc import Collection, Iterable, Mapping, Sequence
from types import MappingProxyType
from typing import Any, NamedTuple, Self
from urllib.parse import parse_qsl

import msgspec

from maze_core.config.words import closest
from service.domain.errors import ServiceError, StoreUnavailableError

logger = logging.getLogger(__name__)

PROBLEM_JSON = "application/problem+json"
V2_PREFIX = "/v2"
"""Of the Open Inference Protocol, whose clients read ``error``; it stands beside a problem's members."""
INTERNAL = "The service made a mistake; its log says more under this request_id."

_encoder = msgspec.json.Encoder(enc_hook=str)
_WORD = re.compile(r"[a-z]+(?=[\s,;'’]|:\s|[.!?]?$)")
"""A word of English, and no part of ``walker@champion``, ``run_01h…`` or ``algorithm.lr``."""


class ProblemKind(NamedTuple):
    """One kind of problem."""

    status: int
    meaning: str


CATALOGUE: Mapping[str, ProblemKind] = MappingProxyType(
    {
        "bad_request": ProblemKind(400, "A header is missing, doubled or malformed."),
        "malformed_json": ProblemKind(400, "The body is not JSON as RFC 8259 defines it; NaN is not."),
        "malformed_body": ProblemKind(400, "The body is not of the form that Content-Type says."),
        "host_not_allowed": ProblemKind(400, "The Host header names somebody else."),
        "unauthorized": ProblemKind(401, "No valid token came with the request."),
        "origin_not_allowed": ProblemKind(403, "A web page of another origin called."),
        "scope_missing": ProblemKind(403, "The token may not do this; scope names what it lacks."),
        "not_found": ProblemKind(404, "There is no such path, run, checkpoint, episode, policy or module."),
        "method_not_allowed": ProblemKind(405, "The path exists, but does not take this method; see Allow."),
        "not_acceptable": ProblemKind(406, "The form that Accept asks for cannot be made here."),
        "request_timeout": ProblemKind(408, "The request came too slowly, or only half of it came."),
        "state_conflict": ProblemKind(
            409, "The run's state does not allow this; trying again does not help."
        ),
        "no_checkpoint": ProblemKind(
            409, "The run has made no checkpoint yet; with Retry-After, it may soon."
        ),
        "no_policy": ProblemKind(409, "Only training runs have a policy of their own."),
        "sequence_conflict": ProblemKind(
            409, "The step is not the session's next one, and not the last one again."
        ),
        "not_servable": ProblemKind(409, "The checkpoint trains on, but cannot act on raw observations."),
        "checkpoint_damaged": ProblemKind(
            409, "The stored checkpoint does not act as it did when it was made."
        ),
        "session_ended": ProblemKind(
            410, "The session was closed, expired, gave its place to another one, or was lost in a restart."
        ),
        "revision_conflict": ProblemKind(
            412, "Somebody else has changed it since; look again, then repeat the change."
        ),
        "range_not_satisfiable": ProblemKind(416, "The wanted range begins behind the end."),
        "digest_mismatch": ProblemKind(422, "The bytes that came are not those that were announced."),
        "payload_too_large": ProblemKind(413, "The body is larger than the service takes."),
        "uri_too_long": ProblemKind(414, "Path and query are longer than the service takes."),
        "unsupported_media_type": ProblemKind(
            415,
            "Bodies are plain JSON with Content-Type: application/json; actions take arrays as bytes too.",
        ),
        "invalid_request": ProblemKind(
            422, "Fields or parameters are unknown, missing or of the wrong kind."
        ),
        "invalid_specification": ProblemKind(422, "The configuration cannot work; every problem is listed."),
        "idempotency_conflict": ProblemKind(422, "The Idempotency-Key was used with another body."),
        "action_not_finite": ProblemKind(422, "The policy has no finite action for this observation."),
        "precondition_required": ProblemKind(
            428, "It is there already: to change it, give the ETag that you have seen as If-Match."
        ),
        "rate_limited": ProblemKind(429, "Too many requests; see Retry-After."),
        "quota_exceeded": ProblemKind(
            429, "The project has as much as it may have: see quota, used and limit."
        ),
        "headers_too_large": ProblemKind(431, "The request's head is larger than the service takes."),
        "internal": ProblemKind(500, "The service made a mistake; its log says more under the request_id."),
        "capacity": ProblemKind(503, "A queue is full; see Retry-After."),
        "not_ready": ProblemKind(503, "Database, schema or environments are not there yet; see checks."),
        "agent_gone": ProblemKind(
            503,
            "The process that held the policy ended, or could not load it; the next request loads it again.",
        ),
        "store_unavailable": ProblemKind(503, "The database did not answer in time."),
        "schema_mismatch": ProblemKind(503, "The database's schema is not this version's."),
    }
)
"""Code → status and meaning, of every problem that is answered."""


class Problem(Exception):
    """A request that is answered with a problem.

    Args:
        code: stable name of the kind; ``type``, ``title`` and status follow from it.
        detail: what happened and the way out, for a person.
        errors: every mistake, ``{pointer, code, message}`` with ``allowed`` and ``did_you_mean`` where known.
        headers: of the answer.
        details: members of this one kind of problem.
        status: in place of the kind's own.
    """

    def __init__(
        self,
        code: str,
        detail: str,
        *,
        errors: Sequence[Mapping[str, Any]] = (),
        headers: Mapping[str, str] | None = None,
        details: Mapping[str, Any] | None = None,
        status: int | None = None,
    ) -> None:
        super().__init__(detail)
        self.code, self.detail, self.errors = code, detail, errors
        self.headers, self.details = dict(headers or {}), dict(details or {})
        self.status = CATALOGUE[code].status if status is None else status

    @classmethod
    def at(cls, pointer: str, code: str, message: str, **known: Any) -> Self:
        """A 422 for one mistake in the body; ``known`` are its ``allowed`` and ``did_you_mean``."""
        mistake = {"pointer": pointer, "code": code, "message": message} | known
        return cls("invalid_request", message, errors=[mistake])

    @classmethod
    def in_query(cls, name: str, code: str, message: str, **known: Any) -> Self:
        """A 422 for one mistake in the query string."""
        mistake = {"parameter": name, "code": code, "message": message} | known
        return cls("invalid_request", message, errors=[mistake])

    @classmethod
    def of(cls, error: ServiceError) -> Self:
        """What a client is told of a service error; a database driver's words are logged and kept from it."""
        status = CATALOGUE[error.code].status if error.code in CATALOGUE else 500
        details, detail = dict(error.details), sentence(str(error))
        if isinstance(error, StoreUnavailableError):
            logger.warning("%s", error)  # the driver's words may name hosts and files
            detail = error.told
        retry_after_s = details.pop("retry_after_s", getattr(error, "retry_after_s", None))
        if status == 503 and not retry_after_s:
            retry_after_s = 1.0
        headers = {}
        if status == 409:
            headers["X-Should-Retry"] = "false" if retry_after_s is None else "true"
        if isinstance(retry_after_s, int | float):
            headers["Retry-After"] = str(max(1, math.ceil(retry_after_s)))
        return cls(error.code, detail, headers=headers, details=details, status=status)

    def body(self, *, instance: str, request_id: str) -> dict[str, Any]:
        """The problem as a JSON object, for the path of the request and its id."""
        return {
            **self.details,
            "type": "/problems/" + self.code.replace("_", "-"),
            "title": self.code.replace("_", " ").capitalize(),
            "status": self.status,
            "code": self.code,
            "detail": self.detail,
            "instance": instance,
            "request_id": request_id,
            "errors": [dict(error) for error in self.errors],
        }

    def answer(self, scope: Mapping[str, Any]) -> tuple[list[tuple[bytes, bytes]], bytes]:
        """Headers and body of the answer to the request of this ASGI scope."""
        request_id = scope.get("state", {}).get("request_id") or f"req_{secrets.token_hex(8)}"
        body = self.body(instance=scope.get("path", ""), request_id=request_id)
        if (trace := scope.get("state", {}).get("trace")) is not None:
            body["traceparent"] = trace.traceparent
        if scope.get("path", "").startswith(V2_PREFIX):
            body["error"] = self.detail
        content = _encoder.encode(body)
        headers = [(name.lower().encode(), value.encode()) for name, value in self.headers.items()]
        headers += [(b"content-type", PROBLEM_JSON.encode()), (b"content-length", b"%d" % len(content))]
        return headers, content


def too_large(limit: int, setting: str = "MAZE_MAX_BODY_BYTES") -> Problem:
    """The connection is closed, because the rest of the body is not read."""
    detail = f"The body is larger than {limit} bytes; operators set {setting}."
    return Problem("payload_too_large", detail, headers={"Connection": "close"})


def scope_missing(scope: str, to_do: str = "For this") -> Problem:
    """The refusal of a caller whose token lacks a scope."""
    detail = f"{to_do} a token with the scope {scope} is needed; GET /v1/me says which ones yours has."
    return Problem("scope_missing", detail, details={"scope": str(scope)})


def query_problem(query: bytes, known: Collection[str], lists: Collection[str] = ()) -> Problem | None:
    """The 422 for a query string that says one thing twice, or what nobody reads; None for a sound one.

    Args:
        query: as it was sent.
        known: the parameters there are; one that ends in ``.KEY`` stands for all that begin so.
        lists: those that may be given more than once.
    """
    names = Counter(name for name, _ in parse_qsl(query.decode("latin-1"), keep_blank_values=True))
    for name, count in names.items():
        if count > 1 and name not in lists:
            return Problem.in_query(name[:64], "doubled", "Give this parameter once.")
    prefixes = tuple(name.removesuffix("KEY") for name in known if name.endswith(".KEY"))
    for name in names:
        if name not in known and not name.startswith(prefixes):
            near = suggestion(name[:64], known)
            hint = f"did you mean {near['did_you_mean']!r}?" if "did_you_mean" in near else ""
            hint = hint or (f"there are {', '.join(known)}." if known else "it has none.")
            message = f"This path has no such parameter; {hint}"
            return Problem.in_query(name[:64], "unknown_field", message, **near)
    return None


def suggestion(name: str, allowed: Iterable[str]) -> dict[str, Any]:
    """The names that would be accepted, and the closest one where one is near."""
    known = list(allowed)
    near = closest(name, known)
    return {"allowed": known} | ({"did_you_mean": near} if near else {})


def pointer_to(*keys: object) -> str:
    """JSON pointer (RFC 6901) from its reference tokens; no token is the whole document."""
    return "".join("/" + str(key).replace("~", "~0").replace("/", "~1") for key in keys)


def sentence(text: str) -> str:
    """The text with a capital letter and a full stop; what begins with a name or an id keeps it as it is written."""
    text = text.strip()
    if _WORD.match(text):
        text = text[0].upper() + text[1:]
    return text + ("" if text.endswith((".", "!", "?")) else ".")
