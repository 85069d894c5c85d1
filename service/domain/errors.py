"""What can go wrong in the service, each class one mistake; ``service/problems.py`` gives each code its status.

ServiceError
├── NotFoundError              no such run, checkpoint, episode, group … (404)
├── StateConflictError         the resource's state does not allow this (409)
│   ├── NoCheckpointError      the run has made no checkpoint yet
│   ├── NoPolicyError          a rollout or evaluation has no policy of its own
│   ├── NotServableAgentError  the checkpoint cannot act on raw observations
│   └── DamagedCheckpointError the stored bundle does not give what it gave when it was made
├── RevisionConflictError      somebody else has changed the resource meanwhile (412)
├── PreconditionRequiredError  to change the resource, its revision has to be given (428)
├── StaleLeaseError            a worker wrote with a lease that was taken over; it must stop
├── IdempotencyConflictError   the same Idempotency-Key with another body (422)
├── CapacityError              a queue or cache is full; try later (503, Retry-After)
│   └── AgentGoneError         the process that held a policy ended, or could not load it
├── QuotaError                 a project has as much as it may have (429)
└── StoreUnavailableError      the database did not answer in time (503)
"""


class ServiceError(Exception):
    """Base of the service's own errors; ``code`` is stable, the message says what and the way out."""

    code = "error"

    def __init__(self, message: str, **details: object) -> None:
        """Say what happened; ``details`` go into the problem body."""
        self.details = details
        super().__init__(message)


class NotFoundError(ServiceError):
    """There is no such thing."""

    code = "not_found"


class StateConflictError(ServiceError):
    """The resource's state does not allow this."""

    code = "state_conflict"


class RevisionConflictError(ServiceError):
    """Somebody else has changed the resource since the client looked."""

    code = "revision_conflict"


class PreconditionRequiredError(ServiceError):
    """The resource is there, and to change it the client has to say which revision it has seen."""

    code = "precondition_required"


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


class StaleLeaseError(ServiceError):
    """The lease was taken over by another worker, or lapsed; whoever sees this stops writing."""

    code = "stale_lease"


class IdempotencyConflictError(ServiceError):
    """The same Idempotency-Key came with another body."""

    code = "idempotency_conflict"


class CapacityError(ServiceError):
    """A queue or cache is full; ``retry_after_s`` says when to try again."""

    code = "capacity"

    def __init__(self, message: str, retry_after_s: float = 1.0, **details: object) -> None:
        """Say what is full and when to try again."""
        self.retry_after_s = retry_after_s
        super().__init__(message, **details)


class AgentGoneError(CapacityError):
    """The process that held the agent is gone; the next request loads it again."""

    code = "agent_gone"


class QuotaError(ServiceError):
    """A project has as much as it may have; ``quota``, ``used`` and ``limit`` are among the details."""

    code = "quota_exceeded"


class StoreUnavailableError(ServiceError):
    """The database did not answer in time; ``told`` is what clients may read instead of a driver's words."""

    code = "store_unavailable"

    def __init__(self, message: str, *, told: str | None = None) -> None:
        """Say what happened, and the way out where waiting is none."""
        self.told = told or "The database does not answer; try again."
        super().__init__(message if told is None else f"{message}. {told}")
