"""What a child needs besides its configuration: a checkpoint to go on from, or one whose policy acts."""

from collections.abc import Iterator

from service.domain.errors import NotFoundError
from service.domain.ports import CheckpointStore
from service.domain.run import CheckpointInfo, Run, RunKind
from service.worker import frames
from service.worker.lease_guard import LeaseGuard
from service.worker.writer import RunWriter


class MissingInputError(Exception):
    """What the run needs is gone; another attempt would not find it either."""

    code = "checkpoint_missing"


def start_frame(run: Run, checkpoints: CheckpointStore, writer: RunWriter, guard: LeaseGuard) -> frames.Start:
    """The frame that starts the run's child.

    Raises:
        MissingInputError: the checkpoint whose policy is to act cannot be read.
        Fenced: the database did not answer while the lease lasted.
    """
    resume = agent = None
    if run.kind is RunKind.TRAIN:
        resume = guard.persist(lambda: _resume_bundle(run.id, checkpoints, writer))
    elif run.source_checkpoint is not None:
        agent = guard.persist(lambda: _agent_bundle(str(run.source_checkpoint), checkpoints))
    return frames.Start(
        kind=run.kind,
        run_id=run.id,
        attempt=run.attempt,
        tree=dict(run.config),
        resume=resume,
        agent=agent,
    )


def _agent_bundle(checkpoint_id: str, checkpoints: CheckpointStore) -> bytes:
    try:
        return checkpoints.read(checkpoint_id)
    except NotFoundError as error:
        raise MissingInputError(str(error)) from error


def _resume_bundle(run_id: str, checkpoints: CheckpointStore, writer: RunWriter) -> bytes | None:
    """The newest scheduled checkpoint that can be read; None starts from the beginning."""
    for info in _scheduled(run_id, checkpoints):
        try:
            bundle = checkpoints.read(info.id)
        except NotFoundError as error:
            writer.log("warning", f"checkpoint {info.id} of epoch {info.epoch} cannot be used: {error}")
            continue
        writer.log("info", f"goes on from the checkpoint of epoch {info.epoch}")
        return bundle
    return None


def _scheduled(run_id: str, checkpoints: CheckpointStore) -> Iterator[CheckpointInfo]:
    """Scheduled checkpoints, newest first."""
    try:
        newest = checkpoints.resolve(run_id, "scheduled")
    except NotFoundError:
        return
    yield newest
    cursor: str | None = None
    while True:
        page = checkpoints.list(run_id, cursor=cursor)
        yield from (info for info in page.data if info.kind == "scheduled" and info.id != newest.id)
        cursor = page.next_cursor
        if cursor is None:
            return
