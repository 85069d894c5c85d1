"""Micro-batching without waiting: requests that arrive while a forward is due or runs share the next one.

One :class:`Batcher` per loaded agent. A job is one request, with its observations already checked, so that a
bad one never reaches a batch. Jobs of one actor and one ``deterministic`` are computed together; a seeded
random job is computed alone, so that its actions depend on nothing but its seed. Nothing ever waits for
company: the forward is due at the end of the event loop's turn; and when the turn before brought one job only,
the first job of the next one is computed at once. A job whose client is gone, or that has waited for too long, leaves
before its batch.

Everything here runs on one event loop. An agent that acts in microseconds is called on it; another one is
awaited, and what arrives meanwhile is the next batch.
"""

import asyncio
import time
from bisect import bisect_right
from collections.abc import Awaitable, Callable, Hashable, Sequence
from dataclasses import dataclass, field
from itertools import accumulate
from typing import Any, NamedTuple, Protocol

import msgspec
import numpy as np

from maze_core.data.flat_space import put_together, rows_of
from maze_core.errors import StateError
from maze_core.models.decisions import Wanted
from maze_core.types import JSON, Action, ActorID, BoolArray, Observation, Tree
from service.domain.errors import AgentGoneError, CapacityError
from service.metrics import ActionMetrics
from service.problems import Problem
from service.serving.observations import MAX_ROWS, ObservationReader, Rows

NOT_FINITE = "The policy gives no finite action for an observation this large."


class QueueLimits(NamedTuple):
    """How much may wait for one agent."""

    rows: int = 4096
    """Observations."""
    age_s: float = 10.0
    """Seconds after which a job is refused instead of computed."""


class Call(NamedTuple):
    """One forward of an agent."""

    observations: Observation
    """name → ``[B, ...]``"""
    actor: ActorID
    deterministic: bool
    seed: int | None
    """Of the action noise; None takes noise that nobody asked to repeat."""
    states: list[str | None] | None = None
    """What each row carries through its episode, brought up to date by who acts; None where nothing is carried."""
    wanted: Wanted | None = None
    """What is to be told of each decision; who acts puts it into :attr:`decisions`."""
    decisions: list[Tree] = []  # noqa: RUF012 -- every call that wants some has its own


class Extras(msgspec.Struct, eq=False):
    """What few requests ask for beside actions, and what they get."""

    wanted: Wanted | None = None
    """What is to be told of decisions."""
    is_masked: bool = False
    """A mask came beside an observation."""
    as_arrays: bool = False
    """Actions are NumPy's, row by row."""
    decisions: list[Tree] = []
    queue_s: float = 0.0
    """How long the job waited."""
    forward_s: float = 0.0
    """How long the forward took, of the whole batch."""
    n_rows: int = 0
    """Rows of that batch."""


class Reply(Protocol):
    """Who waits for the actions of a job: an :class:`asyncio.Future`, or what answers without one."""

    def done(self) -> bool:
        """Nobody waits any more: it was cancelled, or told."""

    def set_result(self, actions: list[JSON], /) -> None:
        """Take one action per row."""

    def set_exception(self, error: Exception, /) -> None:
        """Take what went wrong."""


class Job(msgspec.Struct, eq=False):
    """One request on its way into a batch; a struct, because it is made in half the time of a dataclass."""

    reader: ObservationReader
    """Of the actor; there is one per actor of an agent."""
    rows: Rows
    deterministic: bool
    seed: int | None
    reply: Reply
    """Gets one action per row; once it is done the job leaves before its batch."""
    states: list[str | None] | None = None
    """As in :class:`Call`; brought up to date before the reply."""
    is_many: bool = False
    """The request has a list of observations."""
    extras: Extras | None = None
    """Brought up to date before the reply."""
    queued_at: float = 0.0
    """When it began to wait, on :func:`time.perf_counter`; 0 where it did not."""


@dataclass
class Spent:
    """How often something happened, and how long it took in all."""

    count: int = 0
    seconds: float = 0.0

    def add(self, seconds: float, count: int = 1) -> None:
        """Once more, or so many times together."""
        self.count += count
        self.seconds += seconds


@dataclass
class Statistics:
    """What one agent has done since it was loaded."""

    answered: Spent = field(default_factory=Spent)
    """Jobs that got actions, from their submission."""
    failed: Spent = field(default_factory=Spent)
    """Jobs that got none, of those that were submitted."""
    waited: Spent = field(default_factory=Spent)
    """Of the answered ones, until their forward began."""
    forwards: dict[int, Spent] = field(default_factory=dict)
    """By their rows."""
    last_at: float = 0.0
    """Of the last forward, seconds since 1970; 0 where there was none."""

    def forward(self, n_rows: int, seconds: float) -> None:
        """Count one."""
        self.forwards.setdefault(n_rows, Spent()).add(seconds)
        self.last_at = time.time()


class Batcher:
    """Collects the jobs of one agent and computes them, group by group."""

    def __init__(
        self,
        act: Callable[[Call], Action] | None,
        act_async: Callable[[Call], Awaitable[Action]],
        metrics: ActionMetrics,
        limits: QueueLimits = QueueLimits(),  # noqa: B008 -- it never changes
        statistics: Statistics | None = None,
    ) -> None:
        """Bind an agent.

        Args:
            act: computes on the event loop; None for an agent that would hold it up.
            act_async: computes elsewhere.
            metrics: counts every forward, its rows and seconds.
            limits: of what waits.
            statistics: of the agent, where another batcher counts there as well.
        """
        self.statistics = statistics or Statistics()
        self._act = act
        self._act_async = act_async
        self._metrics = metrics
        self._limits = limits
        self._groups: dict[Hashable, list[Job]] = {}
        self._waiting_rows = 0
        self._is_due = False
        self._n_this_turn = 0
        self._is_quiet = False
        self._running: asyncio.Task[None] | None = None
        self._is_closed = False

    def submit(self, job: Job) -> None:
        """Let a job join the next batch; its reply gets the actions.

        Raises:
            CapacityError: too many observations wait already.
            AgentGoneError: the agent was evicted a moment ago.
        """
        if self._is_closed:
            raise AgentGoneError("The agent was evicted; try again.")
        waiting_rows = self._waiting_rows + len(job.rows)
        if waiting_rows > self._limits.rows:
            self.statistics.failed.add(0.0)
            raise self._full()
        if self._act is not None:
            self._n_this_turn += 1
            if self._is_quiet and not self._is_due:
                self._is_due = True
                asyncio.get_running_loop().call_soon(self._turn)
                self._compute([job])
                return
        self._waiting_rows = waiting_rows
        job.queued_at = time.perf_counter()
        key = job.reader if job.deterministic and job.extras is None else _group_key(job)
        group = self._groups.get(key)
        if group is None:
            self._groups[key] = [job]
        else:
            group.append(job)
        if not self._is_due:
            self._is_due = True
            asyncio.get_running_loop().call_soon(self._turn if self._act is not None else self._start)

    def _full(self) -> CapacityError:
        """What is told where too much waits already."""
        now = time.perf_counter()
        age_s = now - min((jobs[0].queued_at for jobs in self._groups.values()), default=now)
        message = (
            f"{self._waiting_rows} observations wait for this agent, the first of them for {age_s:.2g} s, and"
        )
        waits = {"queue_rows": self._waiting_rows, "queue_age_s": round(age_s, 3)}
        return CapacityError(f"{message} {self._limits.rows} may; try again.", max(1.0, age_s), **waits)

    async def drain(self) -> None:
        """Take no more jobs, and return when those taken are computed."""
        self._is_closed = True
        while self._is_due:
            await (self._running or asyncio.sleep(0))

    def _turn(self) -> None:
        """Compute one group on the event loop, and leave the rest to the loop's next turn."""
        if group := self._next_group():
            self._compute(group)
        self._is_quiet = self._n_this_turn <= 1
        self._n_this_turn = 0
        if self._groups:
            asyncio.get_running_loop().call_soon(self._turn)
        else:
            self._is_due = False

    def _compute(self, group: list[Job]) -> None:
        """One forward; when it fails every job is tried alone, and one that fails alone fails."""
        assert self._act is not None
        began = time.perf_counter()
        try:
            call = stacked(group)
            actions = self._act(call)
            self._deliver(group, actions, call, began)
        except Exception as error:
            if len(group) == 1:
                self._fail(group[0], error)
            else:
                for job in group:
                    self._compute([job])

    def _start(self) -> None:
        self._running = asyncio.get_running_loop().create_task(self._run())

    async def _run(self) -> None:
        while group := self._next_group():
            await self._compute_elsewhere(group)
        self._is_due = False
        self._running = None

    async def _compute_elsewhere(self, group: list[Job]) -> None:
        """As :meth:`_compute`; but a process that is gone fails them all at once."""
        began = time.perf_counter()
        try:
            call = stacked(group)
            actions = await self._act_async(call)
            self._deliver(group, actions, call, began)
        except Exception as error:
            if len(group) == 1 or isinstance(error, AgentGoneError):
                for job in group:
                    self._fail(job, error)
            else:
                for job in group:
                    await self._compute_elsewhere([job])

    def _count(self, call: Call, began: float) -> float:
        n_rows = len(next(iter(call.observations.values())))
        seconds = time.perf_counter() - began
        self._metrics.forward_seconds.add(seconds)
        self._metrics.batch_rows.add(n_rows)
        self.statistics.forward(n_rows, seconds)
        return seconds

    def _deliver(self, group: Sequence[Job], actions: Action, call: Call, began: float) -> None:
        """Give every job the actions of its rows, what they carry then, and what else it asked for."""
        seconds = self._count(call, began)
        form = group[0].reader.action_form
        values, finite = action_rows(actions, form)
        states, start = call.states, 0
        answered, waited = self.statistics.answered, self.statistics.waited
        for job in group:
            end = start + len(job.rows)
            if finite is not None and not finite[start:end].all():
                self._fail(job, Problem("action_not_finite", NOT_FINITE))
            elif not job.reply.done():
                waited_s = began - job.queued_at if job.queued_at else 0.0
                waited.add(waited_s)
                answered.add(waited_s + seconds)
                job.states = None if states is None else states[start:end]
                if job.extras is None:
                    job.reply.set_result(values[start:end])
                else:
                    _tell(job, call, slice(start, end), len(values), seconds)
                    whole = array_rows(actions, form) if job.extras.as_arrays else values
                    job.reply.set_result(whole[start:end])
            start = end

    def _fail(self, job: Job, error: Exception) -> None:
        if not job.reply.done():
            now = time.perf_counter()
            self.statistics.failed.add(now - (job.queued_at or now))
            job.reply.set_exception(state_problem(job, error) if isinstance(error, StateError) else error)

    def _next_group(self) -> list[Job]:
        """Take the oldest jobs that are computed together; those that nobody waits for leave, or are too old."""
        while self._groups:
            key = next(iter(self._groups))
            jobs = self._groups.pop(key)
            n_rows = sum([len(job.rows) for job in jobs])
            self._waiting_rows -= n_rows
            group = [job for job in jobs if not job.reply.done()]
            if group:
                waited_s = time.perf_counter() - group[0].queued_at
                self._metrics.queue_seconds.add(waited_s)
                if waited_s > self._limits.age_s:
                    group = self._in_time(group)
            if n_rows > MAX_ROWS:
                group, rest = _split(group)
                if rest:
                    self._groups[key] = rest
                    self._waiting_rows += sum([len(job.rows) for job in rest])
            if group:
                return group
        return []

    def _in_time(self, jobs: Sequence[Job]) -> list[Job]:
        """The jobs that have not waited for too long; the others are told so."""
        now, kept = time.perf_counter(), []
        for job in jobs:
            age_s = now - job.queued_at
            if age_s <= self._limits.age_s:
                kept.append(job)
                continue
            message = f"The request waited {age_s:.2g} s for this agent, which is too long; try again."
            waits = {"queue_rows": self._waiting_rows, "queue_age_s": round(age_s, 3)}
            self._fail(job, CapacityError(message, max(1.0, age_s), **waits))
        return kept


def _group_key(job: Job) -> Hashable:
    """Jobs share a forward with their like; a seeded random one with nothing."""
    if not job.deterministic and job.seed is not None:
        return job
    wanted = None if job.extras is None else job.extras.wanted
    if job.deterministic and wanted is None:
        return job.reader
    return job.reader, job.deterministic, wanted


def _split(jobs: Sequence[Job]) -> tuple[list[Job], list[Job]]:
    """As many of the first jobs as fit into one forward, at least one, and the others."""
    totals = list(accumulate(len(job.rows) for job in jobs))
    n_jobs = max(1, bisect_right(totals, MAX_ROWS))
    return list(jobs[:n_jobs]), list(jobs[n_jobs:])


def stacked(group: Sequence[Job]) -> Call:
    """The forward of jobs of one actor."""
    first = group[0]
    rows = first.rows if len(group) == 1 else [row for job in group for row in job.rows]
    states = None if first.states is None else [state for job in group for state in job.states or ()]
    wanted = None if first.extras is None else first.extras.wanted
    reader = first.reader
    return Call(reader.stack(rows), reader.actor, first.deterministic, first.seed, states, wanted, [])


def _tell(job: Job, call: Call, rows: slice, n_rows: int, seconds: float) -> None:
    """Bring the extras of a job up to date, whose rows are these of a batch."""
    assert job.extras is not None
    job.extras.decisions, job.extras.n_rows, job.extras.forward_s = call.decisions[rows], n_rows, seconds
    if job.queued_at:
        job.extras.queue_s = time.perf_counter() - job.queued_at - seconds


def action_rows(actions: Action, form: JSON) -> tuple[list[JSON], BoolArray | None]:
    """A batch of actions as JSON, row by row, in the environment's own form.

    Args:
        actions: head → ``[B, …]``.
        form: the environment's (:mod:`maze_core.data.flat_space`).

    Returns:
        The rows, and which of them are finite; None where all are.
    """
    columns = {head: np.asarray(values) for head, values in actions.items()}
    rows = rows_of(form, columns)
    finite = [
        np.isfinite(values.reshape(len(values), -1)).all(axis=1)
        for values in columns.values()
        if values.dtype.kind == "f"
    ]
    together = np.logical_and.reduce(finite) if finite else None
    return rows, None if together is None or together.all() else together


def array_rows(actions: Action, form: JSON) -> list[Any]:
    """As the rows of :func:`action_rows`, with arrays and numbers of NumPy."""
    columns = {head: list(np.asarray(values)) for head, values in actions.items()}
    return [
        put_together(form, dict(zip(columns, row, strict=True)))
        for row in zip(*columns.values(), strict=True)
    ]


def state_problem(job: Job, error: StateError) -> Problem:
    """What is told where nothing finite comes of a state; where there was none, of the observation."""
    row = int(error.pointer.removeprefix("/") or 0)
    if job.states is None or job.states[row] is None:
        return Problem("action_not_finite", NOT_FINITE)
    return Problem.at(f"/states/{row}" if job.is_many else "/state", "state_mismatch", str(error))
