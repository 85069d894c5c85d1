"""A sweep and its life: many trainings from one specification, as ``RunContext(multirun=True)`` makes them.

    running ──► succeeded | failed
      │  ▲  └─► stopping ──► succeeded | failed | cancelled
      ▼  │         ▲
     paused ───────┘

What is to be done next follows from the specification and the runs there are, and from nothing else
(:func:`next_step`): so it does not matter who asks, how often, or what was killed meanwhile.
"""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from enum import StrEnum
from typing import Any

from service.domain.errors import StateConflictError
from service.domain.run import RunState
from service.domain.sharing import DEFAULT_PROJECT


class SweepState(StrEnum):
    """Where a sweep stands."""

    RUNNING = "running"
    PAUSED = "paused"
    STOPPING = "stopping"
    """No run is made any more; some still have to end."""
    SUCCEEDED = "succeeded"
    FAILED = "failed"
    CANCELLED = "cancelled"

    @property
    def is_terminal(self) -> bool:
        """Terminal states are never left."""
        return self in (self.SUCCEEDED, self.FAILED, self.CANCELLED)


class SweepVerb(StrEnum):
    """What may be asked of a sweep."""

    PAUSE = "pause"
    """Make no run, and pause those there are."""
    RESUME = "resume"
    STOP = "stop"
    """Make no run, and let those there are end."""
    CANCEL = "cancel"
    """Make no run, and cancel those there are."""


class JobState(StrEnum):
    """Where a job of a sweep stands that has no run, or whose run has ended."""

    PLANNED = "planned"
    MADE = "made"
    """Its run says where it stands."""
    ASKED = "asked"
    """A client runs it elsewhere and will tell how good it was."""
    SUCCEEDED = "succeeded"
    FAILED = "failed"
    CANCELLED = "cancelled"
    PRUNED = "pruned"
    """Given up, since it did not keep up with the others."""


STOPPED = "user_stop"
"""Reason of a sweep that makes no more runs and lets those there are end."""
NO_VALUE = "no_value"
"""Reason of a sweep whose runs succeeded, none of them with what they are compared by."""
LIVE_JOBS = (JobState.MADE, JobState.ASKED)
ASKS_AT_ONCE = 10
"""Trials that are proposed from one look, so that what ends meanwhile is not seen too late."""
MOST_JOBS = 1000
"""Jobs of one sweep."""


@dataclass(frozen=True, kw_only=True)
class SweepSpec:
    """What a sweep runs, resolved when it was submitted."""

    fixed: Mapping[str, Any]
    """Arguments of RunContext that all jobs share, ``overrides`` among them."""
    seeds: Sequence[int] | None = None
    """Each trial of a search runs once with every one; None where all jobs share one."""
    search: Mapping[str, Any] | None = None
    """``OptunaSearchConfig`` with its seed; None for a grid, whose jobs are known from the beginning."""
    sources: Sequence[str] = field(default_factory=list)
    """Runs that left what jobs begin with or learn from; they are kept until the sweep has ended."""
    is_asked: bool = False
    """Trials are proposed to clients that ask, and to nobody else."""
    metric: str | None = None
    """Its best value in a run is the run's; None takes what the run's best checkpoint is judged by."""
    minimize: bool = False

    @property
    def metric_name(self) -> str:
        """What runs are compared by on the way."""
        return self.metric or "eval/mean_return"

    @property
    def n_seeds(self) -> int:
        """Jobs per trial."""
        return len(self.seeds or (None,))

    @property
    def has_pruner(self) -> bool:
        """Whether runs may be given up before their end."""
        return self.search is not None and self.search.get("pruner", "none") != "none"

    @property
    def n_trials(self) -> int:
        """Trials of a search; 0 of a grid."""
        return int(self.search["n_trials"]) if self.search else 0


@dataclass(frozen=True, kw_only=True)
class NewJob:
    """A job as it is planned."""

    job: int
    """Its number, as in a multirun."""
    trial: int
    """Jobs with one number differ in their seeds alone."""
    choices: Mapping[str, Any]
    plan: Mapping[str, Any] | None = None
    """``config``, ``config_sha256`` and ``seed`` of the run to be made; None where there is none."""
    error: str | None = None
    """Why its values are no valid configuration."""


@dataclass(frozen=True, kw_only=True)
class NewSweep:
    """What a submission hands to the store."""

    id: str
    request: Mapping[str, Any]
    spec: SweepSpec
    parallel: int | None = None
    name: str | None = None
    labels: Mapping[str, str] = field(default_factory=dict)
    priority: int = 0
    jobs: Sequence[NewJob] = ()
    """Of a grid."""
    project: str = DEFAULT_PROJECT


@dataclass(frozen=True, kw_only=True)
class SweepJob:
    """A job of a sweep, as it is shown."""

    job: int
    trial: int
    choices: Mapping[str, Any]
    state: str
    """That of its run; ``planned`` or ``asked`` where there is none."""
    value: float | None = None
    """How good it was, or where it was given up; None before its end, and where it has failed."""
    run: str | None = None
    reason: str | None = None
    pruned_at: int | None = None


@dataclass(frozen=True, kw_only=True)
class SweepTrial:
    """Values that were tried, with one seed or several."""

    trial: int
    choices: Mapping[str, Any]
    """Without the seed."""
    value: float | None
    """Mean over the seeds; None until all of them have ended well."""
    has_ended: bool
    runs: Sequence[str] = ()
    pruned_at: int | None = None
    """The epoch at which it was given up, with the value that it had there."""


@dataclass(frozen=True, kw_only=True)
class Sweep:
    """A sweep, as every face of the service shows it."""

    id: str
    state: SweepState
    reason: str | None = None
    name: str | None = None
    labels: Mapping[str, str] = field(default_factory=dict)
    priority: int = 0
    parallel: int | None = None
    """Runs of it that are waiting or at work at once; None is no limit."""
    request: Mapping[str, Any] = field(default_factory=dict)
    spec: SweepSpec
    counts: Mapping[str, int] = field(default_factory=dict)
    """State → jobs that are in it."""
    best: SweepTrial | None = None
    error: Mapping[str, Any] | None = None
    """``{code, message}`` of one that cannot go on."""
    revision: int = 0
    """Grows with everything that happens to its jobs."""
    created_at: datetime
    finished_at: datetime | None = None
    project: str = DEFAULT_PROJECT

    @property
    def n_jobs(self) -> int:
        """Jobs that there will be."""
        return self.spec.n_trials * self.spec.n_seeds or sum(self.counts.values())


@dataclass(frozen=True, kw_only=True)
class Curves:
    """What is known of the runs of a sweep that has a pruner."""

    spec: SweepSpec
    curves: Mapping[int, Mapping[int, float]]
    """Job → epoch → value; of one that was given up, up to there."""
    at_work: Sequence[int]
    """Jobs of which it is not known yet how they ended."""


@dataclass(frozen=True, kw_only=True)
class Wanted:
    """Trials that a search is to propose now."""

    sweep: str
    spec: SweepSpec
    trials: Sequence[SweepTrial]
    """Those there are."""
    n: int
    revision: int
    """The sweep's, which it has to have still when they are stored."""


@dataclass(frozen=True, kw_only=True)
class Step:
    """What is to be done with a sweep now."""

    make: Sequence[int] = ()
    """Jobs whose runs are to be made."""
    n_asks: int = 0
    """Trials that the search is to propose."""
    end: tuple[SweepState, str] | None = None
    """Its last state, and why."""


def next_step(
    state: SweepState,
    reason: str | None,
    spec: SweepSpec,
    parallel: int | None,
    jobs: Sequence[tuple[int, JobState, float | None]],
) -> Step:
    """What is to be done now.

    Args:
        state: of the sweep.
        reason: why it is in this state.
        spec: what it runs.
        parallel: how many of its runs may be waiting or at work at once.
        jobs: number, state and value of each job, in order.
    """
    n_live = sum(job_state in LIVE_JOBS for _, job_state, _ in jobs)
    planned = [number for number, job_state, _ in jobs if job_state is JobState.PLANNED]
    is_good = any(job_state is JobState.SUCCEEDED and value is not None for _, job_state, value in jobs)
    if state is SweepState.STOPPING and not n_live:
        is_success = reason == STOPPED and is_good
        return Step(end=(SweepState.SUCCEEDED if is_success else SweepState.CANCELLED, str(reason)))
    if state is not SweepState.RUNNING:
        return Step()
    n_unknown = spec.n_trials - len(jobs) // spec.n_seeds if spec.search else 0
    free = len(planned) + n_unknown * spec.n_seeds if parallel is None else max(0, parallel - n_live)
    if planned:
        return Step(make=planned[:free])
    if n_unknown > 0:
        n_asks = min(n_unknown, math.ceil(free / spec.n_seeds), ASKS_AT_ONCE)
        return Step(n_asks=0 if spec.is_asked else n_asks)
    if n_live:
        return Step()
    if is_good:
        return Step(end=(SweepState.SUCCEEDED, "completed"))
    has_success = any(job_state is JobState.SUCCEEDED for _, job_state, _ in jobs)
    return Step(end=(SweepState.FAILED, NO_VALUE if has_success else "all_failed"))


_LEADS: Mapping[SweepVerb, tuple[SweepState, frozenset[SweepState]]] = {
    SweepVerb.PAUSE: (SweepState.PAUSED, frozenset({SweepState.RUNNING})),
    SweepVerb.RESUME: (SweepState.RUNNING, frozenset({SweepState.PAUSED})),
    SweepVerb.STOP: (SweepState.STOPPING, frozenset({SweepState.RUNNING, SweepState.PAUSED})),
    SweepVerb.CANCEL: (
        SweepState.STOPPING,
        frozenset({SweepState.RUNNING, SweepState.PAUSED, SweepState.STOPPING}),
    ),
}
"""Verb → where it leads, and from where."""


def state_after(sweep_id: str, state: SweepState, verb: SweepVerb) -> SweepState:
    """Where a verb leads.

    Raises:
        StateConflictError: it does not apply to a sweep in this state.
    """
    leads, from_states = _LEADS[verb]
    if state not in from_states and state is not leads:
        ways = ", ".join(verb for verb, (_, states) in _LEADS.items() if state in states)
        way_out = f"what applies: {ways}" if ways else "it has ended"
        message = f"sweep {sweep_id} is {state}, to which {verb} does not apply; {way_out}."
        raise StateConflictError(message, state=state.value)
    return leads


def trials_of(jobs: Sequence[SweepJob], seed_key: str = "seed") -> list[SweepTrial]:
    """The trials that jobs, in order, belong to."""
    found: dict[int, list[SweepJob]] = {}
    for job in jobs:
        found.setdefault(job.trial, []).append(job)
    return [_trial(number, found[number], seed_key) for number in sorted(found)]


def _trial(number: int, jobs: Sequence[SweepJob], seed_key: str) -> SweepTrial:
    values = [job.value for job in jobs if job.value is not None]
    ended = {state.value for state in JobState} - {JobState.PLANNED.value, *LIVE_JOBS}
    return SweepTrial(
        trial=number,
        choices={key: value for key, value in jobs[0].choices.items() if key != seed_key},
        value=math.fsum(values) / len(values) if values and len(values) == len(jobs) else None,
        has_ended=all(job.state in ended for job in jobs),
        runs=[job.run for job in jobs if job.run is not None],
        pruned_at=jobs[0].pruned_at,
    )


def value_of(state: RunState, value: object) -> float | None:
    """How good an ended run was, as its own best evaluation says."""
    is_number = isinstance(value, int | float) and not isinstance(value, bool) and math.isfinite(value)
    return float(value) if state is RunState.SUCCEEDED and is_number else None  # type: ignore[arg-type]
