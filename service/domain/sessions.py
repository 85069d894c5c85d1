"""Sessions: an agent that keeps, from step to step, what a policy carries and the random stream it acts by.

    open ──► ended: closed | expired | evicted | restarted

A session is pinned to one checkpoint. It lives in the API process, and the database knows no more than that it is
there, what it is pinned to, and later how it ended. One that is open when the service ends in good order is written
down as a *snapshot* and goes on after the start.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from enum import StrEnum

from service.domain.errors import ServiceError

SESSION_ID = "session_[0-9a-z]{26}"
"""The pattern of an id."""
KEPT_S = 3600.0
"""For which it is known how a session ended."""
MAX_REWARD = 1e38
"""Of a step, either way: whatever is summed up of these is finite."""
DEFAULT_TTL_S, LONGEST_TTL_S = 300.0, 86_400.0
RECORDER = "sessions"
"""Who holds the runs of recording sessions, in a worker's place."""


class SessionEnd(StrEnum):
    """Why a session is open no more."""

    CLOSED = "closed"
    """A client closed it, or cancelled the run that it recorded to."""
    EXPIRED = "expired"
    """It was not used for as long as its ``ttl_s``."""
    EVICTED = "evicted"
    """All places were taken, and it had been idle for a while."""
    RESTARTED = "restarted"
    """The service died; what the session carried was lost with it."""


_WAYS_OUT: Mapping[SessionEnd, str] = {
    SessionEnd.CLOSED: "Begin another one: POST /v1/sessions.",
    SessionEnd.EXPIRED: "Begin another one with a longer ttl_s, or step more often: POST /v1/sessions.",
    SessionEnd.EVICTED: "Begin another one: POST /v1/sessions. Operators allow more by MAZE_MAX_SESSIONS.",
    SessionEnd.RESTARTED: "Begin another one: POST /v1/sessions; what an episode had carried is lost.",
}


@dataclass(frozen=True, kw_only=True)
class NewSession:
    """What is stored of a session that begins."""

    id: str
    project: str
    checkpoint_id: str
    run_id: str | None
    """Of the run that it records to."""
    created_by: str | None


@dataclass(frozen=True, kw_only=True)
class EndedSession:
    """What is known of a session that is open no more."""

    id: str
    project: str
    reason: SessionEnd
    last_seq: int | None
    """Of the last step that was answered; None where there was none in its episode, or nobody knows."""
    ended_at: datetime | None = None


class SessionGoneError(ServiceError):
    """The session was there, and has ended."""

    code = "session_ended"

    def __init__(self, ended: EndedSession) -> None:
        """Say why, and the way out."""
        message = f"session {ended.id} is over: {ended.reason}. {_WAYS_OUT[ended.reason]}"
        super().__init__(message, reason=ended.reason.value, last_seq=ended.last_seq)


class SequenceConflictError(ServiceError):
    """A step came that is not the next one, and not the last one again."""

    code = "sequence_conflict"


@dataclass(frozen=True, kw_only=True)
class TakenOver:
    """What a process that died or ended has left."""

    snapshots: Mapping[str, tuple[bytes, str | None]]
    """Session → how it goes on, and the run that it records to."""
    lost_runs: Sequence[str]
    """That sessions recorded to which do not go on."""
