"""Micro-batching without waiting: requests that arrive while a forward is due or runs share the next one.

One :class:`Batcher` per loaded agent. A job is one request, with its observations already checked, so that a
bad one never reaches a batch. Jobs of one actor and one ``deterministic`` are computed together; a seeded
random job is computed alone, so that its actions depend on nothing but its seed. Nothing ever waits for
company: on an idle agent the forward is due at the end of the event loop's turn.

Everything here runs on one event loop. An agent that acts in microseconds is called on it; another one is
awaited, and what arrives meanwhile is the next batch.
"""

import asyncio
import logging
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np

from maze_core.types import JSON, Action, ActorID, Observation
from service.domain.errors import CapacityError
from service.serving.metrics import Histogram
from service.serving.observations import MAX_ROWS, ObservationReader, Row
from service.serving.problems import AgentGoneError, RequestError

MAX_WAITING_ROWS = 4096
"""Observations that may wait for one agent."""
_ROWS_PER_TURN = MAX_ROWS

_log = logging.getLogger(__name__)


class Call(NamedTuple):
    """One forward of an agent."""

    observations: Observation
    """name → ``[B, ...]``"""
    actor: ActorID
    deterministic: bool
    seed: int | None
    """Of the action noise; None takes noise that nobody asked to repeat."""


@dataclass(slots=True, eq=False)
class Job:
    """One request on its way into a batch."""

    reader: ObservationReader
    rows: Sequence[Row]
    actor: ActorID
    deterministic: bool
    seed: int | None
    future: asyncio.Future[list[JSON]]
    """One action per row; cancel it and the job leaves before its batch."""


class Batcher:
    """Collects the jobs of one agent and computes them, group by group."""

    def __init__(
        self,
        act: Callable[[Call], Action] | None,
        act_async: Callable[[Call], Awaitable[Action]],
        batch_rows: Histogram,
    ) -> None:
        """Bind an agent.

        Args:
            act: computes on the event loop; None for an agent that would hold it up.
            act_async: computes elsewhere.
            batch_rows: counts the rows of every forward.
        """
        self._act = act
        self._act_async = act_async
        self._batch_rows = batch_rows
        self._jobs: list[Job] = []
        self._waiting_rows = 0
        self._is_due = False
        self._running: asyncio.Task[None] | None = None
        self._is_closed = False

    def submit(self, job: Job) -> None:
        """Let a job join the next batch; its future gets the actions.

        Raises:
            CapacityError: too many observations wait already.
            AgentGoneError: the agent was evicted a moment ago.
        """
        if self._is_closed:
            raise AgentGoneError("The agent was evicted; try again.")
        if self._waiting_rows + len(job.rows) > MAX_WAITING_ROWS:
            raise CapacityError(f"{self._waiting_rows} observations wait for this agent; try again.")
        self._waiting_rows += len(job.rows)
        self._jobs.append(job)
        if not self._is_due:
            self._is_due = True
            job.future.get_loop().call_soon(self._turn if self._act is not None else self._start)

    async def drain(self) -> None:
        """Take no more jobs, and return when those taken are computed."""
        self._is_closed = True
        while self._is_due:
            await (self._running or asyncio.sleep(0))

    def _turn(self) -> None:
        """Compute one group on the event loop, and leave the rest to the loop's next turn."""
        assert self._act is not None
        group = self._next_group()
        if group:
            try:
                _deliver(group, self._act(_stacked(group)))
            except Exception as error:
                self._alone_or_failed(group, error)
        if self._jobs:
            asyncio.get_running_loop().call_soon(self._turn)
        else:
            self._is_due = False

    def _alone_or_failed(self, group: list[Job], error: Exception) -> None:
        """A forward failed: every job is tried alone, and one that fails alone fails."""
        if len(group) == 1:
            _fail(group[0], error)
            return
        assert self._act is not None
        for job in group:
            try:
                _deliver([job], self._act(_stacked([job])))
            except Exception as own_error:
                _fail(job, own_error)

    def _start(self) -> None:
        self._running = asyncio.get_running_loop().create_task(self._run())

    async def _run(self) -> None:
        while group := self._next_group():
            try:
                _deliver(group, await self._act_async(_stacked(group)))
            except AgentGoneError as error:
                for job in group:
                    _fail(job, error)
            except Exception as error:
                await self._alone_or_failed_async(group, error)
        self._is_due = False
        self._running = None

    async def _alone_or_failed_async(self, group: list[Job], error: Exception) -> None:
        if len(group) == 1:
            _fail(group[0], error)
            return
        for job in group:
            try:
                _deliver([job], await self._act_async(_stacked([job])))
            except Exception as own_error:
                _fail(job, own_error)

    def _next_group(self) -> list[Job]:
        """Take the oldest job and all that can be computed with it; cancelled jobs are dropped on the way."""
        jobs = [job for job in self._jobs if not job.future.done()]
        group: list[Job] = []
        rest: list[Job] = []
        n_rows = 0
        for job in jobs:
            fits = not group or (_may_share(group[0], job) and n_rows + len(job.rows) <= _ROWS_PER_TURN)
            (group if fits else rest).append(job)
            if fits:
                n_rows += len(job.rows)
        self._jobs = rest
        self._waiting_rows = sum(len(job.rows) for job in rest)
        if group:
            self._batch_rows.add(n_rows)
        return group


def _may_share(first: Job, other: Job) -> bool:
    same = first.actor == other.actor and first.deterministic == other.deterministic
    return same and (first.deterministic or (first.seed is None and other.seed is None))


def _stacked(group: Sequence[Job]) -> Call:
    first = group[0]
    rows = first.rows if len(group) == 1 else [row for job in group for row in job.rows]
    return Call(first.reader.stack(rows), first.actor, first.deterministic, first.seed)


def _deliver(group: Sequence[Job], actions: Action) -> None:
    """Give every job the actions of its rows."""
    values = action_rows(actions)
    start = 0
    for job in group:
        end = start + len(job.rows)
        if not job.future.done():
            own = values[start:end]
            if None in own:
                _fail(job, _NOT_FINITE)
            else:
                job.future.set_result(own)
        start = end


_NOT_FINITE = RequestError(
    422, "action_not_finite", "The policy gives no finite action for an observation this large."
)


def action_rows(actions: Action) -> list[JSON]:
    """A batch of actions as JSON, row by row: bare where ``action`` is the only head; None if not finite."""
    columns = {head: np.asarray(values) for head, values in actions.items()}
    if len(columns) == 1 and "action" in columns:
        rows: list[JSON] = columns["action"].tolist()
    else:
        lists = (values.tolist() for values in columns.values())
        rows = [dict(zip(columns, row, strict=True)) for row in zip(*lists, strict=True)]
    for values in columns.values():
        if values.dtype.kind == "f" and not np.isfinite(values).all():
            finite = np.isfinite(values.reshape(len(values), -1)).all(axis=1)
            rows = [row if is_finite else None for row, is_finite in zip(rows, finite, strict=True)]
    return rows


def _fail(job: Job, error: Exception) -> None:
    if not job.future.done():
        job.future.set_exception(error)
