"""Every kind of problem that the service answers with: its code, status and meaning."""

from collections.abc import Mapping
from types import MappingProxyType
from typing import NamedTuple


class ProblemKind(NamedTuple):
    """One kind of problem."""

    status: int
    meaning: str


CATALOGUE: Mapping[str, ProblemKind] = MappingProxyType(
    {
        "bad_request": ProblemKind(400, "A header is missing, doubled or malformed."),
        "malformed_json": ProblemKind(400, "The body is not JSON as RFC 8259 defines it; NaN is not."),
        "host_not_allowed": ProblemKind(400, "The Host header names somebody else."),
        "unauthorized": ProblemKind(401, "No valid token came with the request."),
        "origin_not_allowed": ProblemKind(403, "A web page of another origin called."),
        "not_found": ProblemKind(404, "There is no such path, run, checkpoint, episode or module."),
        "method_not_allowed": ProblemKind(405, "The path exists, but does not take this method; see Allow."),
        "state_conflict": ProblemKind(
            409, "The run's state does not allow this; trying again does not help."
        ),
        "no_checkpoint": ProblemKind(
            409, "The run has made no checkpoint yet; with Retry-After, it may soon."
        ),
        "no_policy": ProblemKind(409, "Only training runs have a policy of their own."),
        "not_servable": ProblemKind(409, "The checkpoint trains on, but cannot act on raw observations."),
        "checkpoint_damaged": ProblemKind(
            409, "The stored checkpoint does not act as it did when it was made."
        ),
        "payload_too_large": ProblemKind(413, "The body is larger than the service takes."),
        "unsupported_media_type": ProblemKind(
            415, "Bodies are plain JSON with Content-Type: application/json."
        ),
        "invalid_request": ProblemKind(
            422, "Fields or parameters are unknown, missing or of the wrong kind."
        ),
        "invalid_specification": ProblemKind(422, "The configuration cannot work; every problem is listed."),
        "idempotency_conflict": ProblemKind(422, "The Idempotency-Key was used with another body."),
        "rate_limited": ProblemKind(429, "Too many requests; see Retry-After."),
        "internal": ProblemKind(500, "The service made a mistake; its log says more under the request_id."),
        "capacity": ProblemKind(503, "A queue is full; see Retry-After."),
        "not_ready": ProblemKind(503, "Database or schema are not there; see checks."),
        "agent_gone": ProblemKind(
            503, "The process that held the policy ended; the next request loads it again."
        ),
        "store_unavailable": ProblemKind(503, "The database did not answer in time."),
        "schema_mismatch": ProblemKind(503, "The database's schema is not this version's."),
    }
)
