"""The checkpoint whose policy acts in a rollout or evaluation; fixed when the run is submitted."""

from service.api.dependencies import Services
from service.domain.errors import NotFoundError, StateConflictError
from service.domain.run import CheckpointInfo, Run, RunKind

RETRY_AFTER_S = 2.0
"""When to ask again for the first checkpoint of a run that is at work."""


class NoCheckpointError(StateConflictError):
    """The run has made no checkpoint yet."""

    code = "no_checkpoint"


class NoPolicyError(StateConflictError):
    """A rollout or evaluation run has no policy of its own."""

    code = "no_policy"


class NotServableAgentError(StateConflictError):
    """The checkpoint cannot act on raw observations."""

    code = "not_servable"


def acting_checkpoint(services: Services, source: Run, selector: str) -> CheckpointInfo:
    """The checkpoint of ``source`` that a selector names now.

    Raises:
        NotFoundError: the run has checkpoints, but none such; the message says which.
        NoPolicyError: the run is no training run.
        NoCheckpointError: it has none yet.
        NotServableAgentError: the checkpoint cannot act.
    """
    try:
        info = services.checkpoints.resolve(source.id, selector)
    except NotFoundError:
        _explain(services, source)
        raise
    if not info.servable:
        reason = info.not_servable_reason or "no reason was given"
        raise NotServableAgentError(
            f"Checkpoint {info.id} trains on, but cannot act: {reason}.", checkpoint=info.id
        )
    return info


def _explain(services: Services, source: Run) -> None:
    """Raise what is truer than "no such checkpoint": never any, or none yet."""
    if source.kind is not RunKind.TRAIN:
        hint = f"; its policy is that of run {source.source_run}" if source.source_run else ""
        raise NoPolicyError(f"Run {source.id} is of kind {source.kind} and has no policy of its own{hint}.")
    if services.checkpoints.list(source.id, limit=1).data:
        return
    state = source.state.value
    if source.state.is_terminal:
        raise NoCheckpointError(f"Run {source.id} is {state} and ended without a checkpoint.", state=state)
    done = f", epoch {source.progress.epoch}" if source.progress.epoch is not None else ""
    message = f"Run {source.id} has no checkpoint yet (state {state}{done}); try again."
    raise NoCheckpointError(message, state=state, retry_after_s=RETRY_AFTER_S)
