"""Which checkpoint a run's ``best``, ``last`` or ``epoch:N`` is now, remembered for a quarter of a second.

A steady stream of requests never waits for the database: an answer in the second half of its life is asked
for again in the background while it is still given. So an answer is never older than :data:`TTL_S`, and each
(run, selector) in use costs at most eight queries a second.
"""

import asyncio
import time
from collections import OrderedDict
from collections.abc import Callable
from typing import NamedTuple, Protocol

from service.domain.errors import NotFoundError, StateConflictError
from service.domain.ports import CheckpointStore, RunStore
from service.domain.run import RunKind
from service.serving.problems import NoCheckpointError, NoPolicyError, NotServableAgentError

TTL_S = 0.25
_REFRESH_AFTER_S = TTL_S / 2
_REMEMBERED = 4096


class Stores(Protocol):
    """The stores that serving reads."""

    @property
    def runs(self) -> RunStore:
        """Runs, to say why one has no policy."""

    @property
    def checkpoints(self) -> CheckpointStore:
        """Checkpoints and their bundles."""


class _Answer(NamedTuple):
    checkpoint_id: str
    refresh_at: float
    expires_at: float


class SelectorCache:
    """Resolves (run, selector) to a checkpoint id; used from one event loop."""

    def __init__(self, stores: Stores, clock: Callable[[], float] = time.monotonic) -> None:
        self._stores = stores
        self._clock = clock
        self._answers: OrderedDict[tuple[str, str], _Answer] = OrderedDict()
        self._asking: dict[tuple[str, str], asyncio.Task[str]] = {}

    def peek(self, run_id: str, selector: str) -> str | None:
        """The checkpoint id where it is known and fresh."""
        key = (run_id, selector)
        answer = self._answers.get(key)
        if answer is None:
            return None
        now = self._clock()
        if now >= answer.refresh_at:
            if now >= answer.expires_at:
                return None
            self._ask(key)
        return answer.checkpoint_id

    def refresh_at(self, run_id: str, selector: str) -> float:
        """Until when the answer just peeked at needs no second look."""
        return self._answers[run_id, selector].refresh_at

    async def resolve(self, run_id: str, selector: str) -> str:
        """The checkpoint id.

        Raises:
            NotFoundError: there is no such run or checkpoint.
            NoCheckpointError: the run has none yet.
            NoPolicyError: the run is a rollout or an evaluation.
            NotServableAgentError: the checkpoint cannot act on raw observations.
            StoreUnavailableError: the database did not answer.
        """
        known = self.peek(run_id, selector)
        return await asyncio.shield(self._ask((run_id, selector))) if known is None else known

    def forget(self, checkpoint_id: str) -> None:
        """Drop every answer that names this checkpoint, because it turned out to be gone."""
        for key in [key for key, answer in self._answers.items() if answer.checkpoint_id == checkpoint_id]:
            del self._answers[key]

    def _ask(self, key: tuple[str, str]) -> asyncio.Task[str]:
        """Ask the database, one question per key at a time."""
        task = self._asking.get(key)
        if task is None:
            task = asyncio.get_running_loop().create_task(self._query(key))
            task.add_done_callback(_mark_retrieved)
            self._asking[key] = task
        return task

    async def _query(self, key: tuple[str, str]) -> str:
        asked_at = self._clock()
        try:
            checkpoint_id = await asyncio.to_thread(self._look_up, *key)
        except (NotFoundError, StateConflictError):
            self._answers.pop(key, None)
            raise
        finally:
            del self._asking[key]
        self._answers[key] = _Answer(checkpoint_id, asked_at + _REFRESH_AFTER_S, asked_at + TTL_S)
        self._answers.move_to_end(key)
        if len(self._answers) > _REMEMBERED:
            self._answers.popitem(last=False)
        return checkpoint_id

    def _look_up(self, run_id: str, selector: str) -> str:
        try:
            info = self._stores.checkpoints.resolve(run_id, selector)
        except NotFoundError:
            self._explain_missing(run_id)
            raise
        if not info.servable:
            raise NotServableAgentError(
                f"Checkpoint {info.id} trains on, but cannot act: {info.not_servable_reason}",
                checkpoint=info.id,
            )
        return info.id

    def _explain_missing(self, run_id: str) -> None:
        """Raise what is truer than "no such checkpoint": no such run, none yet, or never any."""
        run = self._stores.runs.get(run_id)
        if run.kind is not RunKind.TRAIN:
            source = f"; ask the run whose policy acted in it, {run.source_run}" if run.source_run else ""
            raise NoPolicyError(f"Run {run_id} is of kind {run.kind} and has no policy of its own{source}.")
        if not self._stores.checkpoints.list(run_id, limit=1).data:
            state = run.state
            if state.is_terminal:
                raise NoCheckpointError(f"Run {run_id} is {state} and left no checkpoint.", state=state)
            raise NoCheckpointError(
                f"Run {run_id} is {state} and has no checkpoint yet; try again later.",
                state=state,
                retry_after_s=1.0,
            )


def _mark_retrieved(task: asyncio.Task[str]) -> None:
    """A background question that fails is no news: the next request asks again and gets the error."""
    if not task.cancelled():
        task.exception()
