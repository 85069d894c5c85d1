"""A run and its life, drawn and then written as data.

    queued ──► running ──► succeeded | failed
      │  ▲        │  └──► stopping ──► cancelled | succeeded | failed | paused
      │  └────────┘           ├──► queued   (lease lost or worker shut down: the run goes on later)
      │                       └──► running  (its pause was taken back)
      ├──► cancelled
      └──► paused ──► queued | cancelled

A *wish* to stop turns ``running`` into ``stopping``; the run is cancelled or paused only when its last checkpoint
is stored. Every other detail is a ``reason``, never a state.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import datetime
from enum import StrEnum
from typing import Any, Literal, TypeAlias

from service.domain.sharing import DEFAULT_PROJECT


class RunKind(StrEnum):
    """What a run does."""

    TRAIN = "train"
    ROLLOUT = "rollout"
    EVALUATE = "evaluate"
    SMOKE = "smoke"
    """A training that is built and tried out, and leaves nothing but what was found."""
    IMPORT = "import"
    """Checks an uploaded checkpoint, whose run it is from then on."""
    REPLAY = "replay"
    """Plays a recorded episode again, or asks for one of its decisions again."""
    COMPARE = "compare"
    """Plays the same episodes with several policies."""
    RECORD = "record"
    """Keeps the episodes that a session acts in. No worker takes it: it runs for as long as its session is open."""


KINDS_WITH_POLICY = frozenset({RunKind.TRAIN, RunKind.IMPORT})
"""Runs whose checkpoints act, and are gone on from."""


class RunState(StrEnum):
    """Where a run stands."""

    QUEUED = "queued"
    RUNNING = "running"
    STOPPING = "stopping"
    PAUSED = "paused"
    SUCCEEDED = "succeeded"
    FAILED = "failed"
    CANCELLED = "cancelled"

    @property
    def is_terminal(self) -> bool:
        """Terminal states are never left."""
        return not NEXT_STATES[self]


NEXT_STATES: Mapping[RunState, frozenset[RunState]] = {
    RunState.QUEUED: frozenset({RunState.RUNNING, RunState.PAUSED, RunState.CANCELLED, RunState.FAILED}),
    RunState.RUNNING: frozenset({RunState.STOPPING, RunState.QUEUED, RunState.SUCCEEDED, RunState.FAILED}),
    RunState.STOPPING: frozenset(
        {
            *(RunState.CANCELLED, RunState.SUCCEEDED, RunState.FAILED, RunState.PAUSED, RunState.QUEUED),
            RunState.RUNNING,
        }
    ),
    RunState.PAUSED: frozenset({RunState.QUEUED, RunState.CANCELLED}),
    RunState.SUCCEEDED: frozenset(),
    RunState.FAILED: frozenset(),
    RunState.CANCELLED: frozenset(),
}


class RunOrder(StrEnum):
    """What runs are sorted by; a minus is from high to low."""

    NEWEST = "-created_at"
    OLDEST = "created_at"
    BEST = "-best"
    WORST = "best"
    NAME = "name"
    NAME_REVERSED = "-name"


@dataclass(frozen=True)
class MetricOrder:
    """Runs sorted by the latest value of a metric, those where it is NaN last; those without it are left out."""

    metric: str
    falls: bool
    """From high to low."""

    def __str__(self) -> str:
        """As it is asked for."""
        return f"{'-' if self.falls else ''}metric:{self.metric}"


class StopReason(StrEnum):
    """Why a run is asked to stop. A cancel outweighs the others."""

    CANCEL = "user_cancel"
    PAUSE = "user_pause"
    PRUNE = "pruned"
    """Of a sweep: the run does not keep up with the others. It ends as one that is cancelled."""
    SHUTDOWN = "worker_shutdown"
    """No wish of a client: the run goes on when another worker takes it."""


ENDING_WISHES = frozenset({StopReason.CANCEL, StopReason.PRUNE})
"""Wishes after which a run is cancelled."""


class EventType(StrEnum):
    """Type of an entry in a run's event log; the ``event:`` field of the SSE stream."""

    STATE = "state"
    PHASE = "phase"
    METRICS = "metrics"
    DISTRIBUTIONS = "distributions"
    PROGRESS = "progress"
    CHECKPOINT = "checkpoint"
    EPISODE = "episode"
    LOG = "log"
    WARNING = "warning"
    END = "end"


@dataclass(frozen=True, kw_only=True)
class Progress:
    """How far a run is; None where it cannot be said."""

    epoch: int | None = None
    n_epochs: int | None = None
    env_steps: int | None = None
    fraction: float | None = None
    """Done part in [0, 1]; 1 of every run that has succeeded, whatever ended it."""
    eta_s: float | None = None


@dataclass(frozen=True, kw_only=True)
class Best:
    """The best evaluation of a training run so far."""

    metric: str
    value: float
    checkpoint: str
    """Id of the checkpoint that reached it."""


@dataclass(frozen=True, kw_only=True)
class Retention:
    """How much of what has ended is kept; None keeps all."""

    age_s: float | None = None
    """Seconds since the end of a run."""
    runs: int | None = None
    size_bytes: int | None = None
    """Of checkpoints and episodes together."""


@dataclass(frozen=True, kw_only=True)
class QueuePlace:
    """Where a waiting run stands."""

    ahead: int
    """Runs that are to start before it."""
    waits_for: str
    """``worker`` when none has been seen for a while, ``turn`` behind others, ``slot`` as the first in line,
    ``filming`` where it is filmed and no worker can film."""


@dataclass(frozen=True, kw_only=True)
class Continuation:
    """Where a training goes on that another run began, and how far."""

    checkpoint: str
    """Id of the checkpoint it goes on from: of the other run when submitted, of this run's copy from then on."""
    first_epoch: int
    """Epoch of that checkpoint."""
    until_epoch: int | None
    """None without a limit."""
    limits: Mapping[str, Any] = field(default_factory=dict)
    """When to stop sooner, as ``train()`` takes it."""


@dataclass(frozen=True, kw_only=True)
class Run:
    """One run of any kind, as every face of the service shows it."""

    id: str
    kind: RunKind
    state: RunState
    name: str | None = None
    labels: Mapping[str, str] = field(default_factory=dict)
    reason: str | None = None
    """Why the run is in its state: ``user_cancel``, ``completed``, ``target_reached``, …"""
    phase: str | None = None
    """What the running child does: ``starting, building, training, evaluating, checkpointing, finishing``."""
    progress: Progress = field(default_factory=Progress)
    latest_metrics: Mapping[str, float] = field(default_factory=dict)
    best: Best | None = None
    result: Mapping[str, Any] | None = None
    error: Mapping[str, Any] | None = None
    """``{code, message, …}``; the full traceback is in the run's log."""
    seed: int | None = None
    request: Mapping[str, Any] = field(default_factory=dict)
    """The arguments as they were posted (checked), for display."""
    config: Mapping[str, Any] = field(default_factory=dict)
    """The resolved configuration that the child builds from."""
    config_sha256: str | None = None
    environment: str | None = None
    """Name of what the configuration trains or plays in, where it has one."""
    algorithm: str | None = None
    """Of a training, as its module is called: ``ppo``."""
    source_run: str | None = None
    """For rollout and evaluate: the run whose policy acts; for train: the one whose policy it begins with."""
    source_checkpoint: str | None = None
    """Id of that policy's checkpoint, fixed at submission."""
    parent_run: str | None = None
    """The run that this one continues, tries again or is forked from."""
    continues: Continuation | None = None
    """Of a training that does not begin anew."""
    arguments: Mapping[str, Any] = field(default_factory=dict)
    """What decides no number of the run and so is no part of its configuration: ``videos`` of a rollout or a training,
    ``episode`` and ``step`` of a replay, ``resources``."""
    priority: int = 0
    """Of two waiting runs, the one with the higher number starts first."""
    sweep: str | None = None
    """The sweep that made it."""
    notes: str | None = None
    revision: int = 0
    """Grows with every change of name, labels, notes or priority."""
    attempt: int = 0
    """How often the run was claimed."""
    free_attempts: int = 0
    """Attempts that do not count: those up to the last one in which the run stored a new scheduled checkpoint."""
    queue: QueuePlace | None = None
    """Of a waiting run that is looked at by itself, not in a list."""
    stop_wish: StopReason | None = None
    """What a client wants the run's worker to do: cancel it or pause it."""
    worker: str | None = None
    epoch_token: int = 0
    """Fencing epoch of the current lease; grows with every claim."""
    traceparent: str | None = None
    """W3C trace context of the request that submitted it."""
    tracestate: str | None = None
    created_at: datetime
    started_at: datetime | None = None
    finished_at: datetime | None = None
    project: str = DEFAULT_PROJECT

    @property
    def resources(self) -> Mapping[str, float] | None:
        """What it takes of its machine: ``cpus``, ``gpus``, ``memory_mib``."""
        found: Mapping[str, float] | None = self.arguments.get("resources")
        return found

    @property
    def videos(self) -> int | None:
        """Episodes that it films: of a rollout, or of each policy of a training."""
        found: int | None = self.arguments.get("videos")
        return found

    @property
    def counted_attempts(self) -> int:
        """Attempts that count against the run: those since it last got further."""
        return self.attempt - self.free_attempts


@dataclass(frozen=True, kw_only=True)
class RunStatistics:
    """Of the runs of one kind and state."""

    count: int
    oldest_s: float
    """Seconds since the oldest one was submitted."""
    seconds: float
    """From start to end, of all that have ended together."""


@dataclass(frozen=True, kw_only=True)
class NewRun:
    """What a submission hands to the store."""

    id: str
    kind: RunKind
    request: Mapping[str, Any]
    config: Mapping[str, Any]
    config_sha256: str | None
    seed: int | None
    name: str | None = None
    labels: Mapping[str, str] = field(default_factory=dict)
    source_run: str | None = None
    source_checkpoint: str | None = None
    parent_run: str | None = None
    continues: Continuation | None = None
    arguments: Mapping[str, Any] = field(default_factory=dict)
    priority: int = 0
    notes: str | None = None
    sweep: str | None = None
    traceparent: str | None = None
    tracestate: str | None = None
    project: str = DEFAULT_PROJECT


@dataclass(frozen=True, kw_only=True)
class Lease:
    """The right to write a run's rows, until it lapses or is taken over.

    Every write of a worker carries ``epoch_token``; the store refuses it when the run has a newer one.
    """

    run_id: str
    worker: str
    epoch_token: int


@dataclass(frozen=True, kw_only=True)
class Event:
    """One entry of a run's event log; ``seq`` is gapless per run and starts at 1."""

    run_id: str
    seq: int
    at: datetime
    type: EventType
    data: Mapping[str, Any]
    position: int = 0
    """Among the events of all runs."""


@dataclass(frozen=True, kw_only=True)
class CheckpointInfo:
    """A stored checkpoint, without its bytes."""

    id: str
    run_id: str
    epoch: int
    step: int
    """Environment steps taken when it was made."""
    kind: str
    """``scheduled`` (exact resume), ``best``, ``last``, ``continued`` (made at pause or cancel), ``imported``, or
    ``begin``: a copy of what a continuing run goes on from, or ``held …``: kept for a policy, though the run has made
    another one in its place."""
    metrics: Mapping[str, float]
    content_sha256: str
    weights_sha256: str
    size_bytes: int
    servable: bool
    not_servable_reason: str | None
    created_at: datetime
    is_best: bool = False
    is_last: bool = False


FILMED = "filmed"
"""Kind of a checkpoint that keeps what acts in a film, and no more: no training goes on from it."""


@dataclass(frozen=True, kw_only=True)
class NewCheckpoint:
    """A checkpoint as the child reports it; the bundle's bytes travel beside it."""

    epoch: int
    step: int
    kind: str
    metrics: Mapping[str, float]
    content_sha256: str
    weights_sha256: str
    servable: bool
    not_servable_reason: str | None
    is_best: bool
    is_last: bool


@dataclass(frozen=True, kw_only=True)
class Imported:
    """What an imported checkpoint says of the run that made it, which is then that of the run that imported it."""

    config: Mapping[str, Any]
    config_sha256: str
    seed: int


@dataclass(frozen=True, kw_only=True)
class MetricPoint:
    """One value of one metric at one epoch; ``value`` may be NaN or infinite."""

    name: str
    epoch: int
    step: int
    value: float
    at: datetime | None = None


@dataclass(frozen=True, kw_only=True)
class LogLine:
    """One line of a run's log."""

    seq: int
    at: datetime
    level: str
    message: str


Picture: TypeAlias = Literal["video", "thumbnail", "trajectory"]


@dataclass(frozen=True, kw_only=True)
class EpisodeInfo:
    """One episode of a rollout, or one that a training filmed, without its trajectory."""

    index: int
    seed: int | None
    episode_return: float
    length: int
    terminated: bool
    truncated: bool
    has_trajectory: bool
    has_video: bool = False
    epoch: int | None = None
    """Of an episode that a training filmed: epochs that its policy had learnt for."""
    moment: str | None = None
    """And which one that is: ``begin``, ``scheduled``, ``best`` or ``last``."""


@dataclass(frozen=True, kw_only=True)
class Page:
    """A page of a list: every list of the service has this shape."""

    data: list[Any]
    next_cursor: str | None

    @property
    def has_more(self) -> bool:
        """Another page follows."""
        return self.next_cursor is not None
