"""What the service answers, as frozen dataclasses; members that a newer service adds are left out.

Durations are seconds. Numbers that JSON cannot say come as texts and are floats here.
"""

import importlib
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, field, fields
from datetime import datetime
from typing import Any, Literal, TypeVar

import msgspec

from maze_client.errors import MazeClientError

T = TypeVar("T")
Kind = Literal["train", "rollout", "evaluate", "smoke", "import", "replay", "compare", "record"]
State = Literal["queued", "running", "stopping", "paused", "succeeded", "failed", "cancelled"]
ENDED = ("succeeded", "failed", "cancelled")


def read(value: Any, kind: type[T]) -> T:
    """An answer, or the bytes of its JSON, as its type.

    Raises:
        MazeClientError: it is none.
    """
    try:
        value = msgspec.json.decode(value) if isinstance(value, bytes) else value
        return msgspec.convert(value, kind, strict=False)
    except msgspec.MsgspecError as error:
        name = getattr(kind, "__name__", kind)
        message = (
            f"What the service answered is no {name}: {error}. Is it of another version than this client?"
        )
        raise MazeClientError(message) from error


def acted(answer: Any, how: Collection[str]) -> Any:
    """The action, or the list of them, of an answer; a pair with what is carried, where ``how`` gave that."""
    one = "action" in answer
    done = answer["action"] if one else read(answer["actions"], list[Any])
    if "state" in how or "states" in how:
        return done, answer["state"] if one else read(answer["states"], list[str | None])
    return done


def explained(answer: Mapping[str, Any]) -> dict[str, Any]:
    """An action and what was told beside it; or the ``problem`` of an observation that got none."""
    beside = ("state", "mask_applied", "timing_us", "batch_size")
    told = {name: answer[name] for name in ("action", "problem", *beside) if name in answer}
    return {**told, **answer.get("decision", {})}


class Answer(dict[str, Any]):
    """A JSON object that was answered."""

    tries = 0
    """How often it had been asked for before, with an answer that was lost."""

    def __missing__(self, name: str) -> Any:
        raise MazeClientError(
            f"The answer has no {name!r}. Is the service of another version than this client?"
        )


@dataclass(frozen=True, kw_only=True)
class SessionFacts:
    """An open session."""

    id: str
    run: str
    """The training whose policy acts."""
    checkpoint: str
    checkpoint_sha256: str
    policy: str | None = None
    """The version, as ``name:3``, where a policy was named."""
    deterministic: bool
    seed: int
    episode: int
    next_seq: int
    recording: str | None = None
    """Id of the run that keeps its episodes."""
    n_recorded: int = 0
    ttl_s: float
    created_at: datetime
    expires_at: datetime


@dataclass(frozen=True, kw_only=True)
class StepEnd:
    """An episode of a session that ended."""

    episode: int
    length: int
    recorded: int | None = None
    """Its index in the recording run."""


@dataclass(frozen=True, kw_only=True)
class Progress:
    """How far a run is; None where it cannot be said."""

    epoch: int | None = None
    n_epochs: int | None = None
    env_steps: int | None = None
    fraction: float | None = None
    """Done part in [0, 1]."""
    eta_s: float | None = None


@dataclass(frozen=True, kw_only=True)
class Best:
    """The best evaluation of a training so far, and the id of its checkpoint."""

    metric: str
    value: float
    checkpoint: str


@dataclass(frozen=True, kw_only=True)
class RunError:
    """Why a run failed; its log has the traceback."""

    code: str
    message: str


@dataclass(frozen=True, kw_only=True)
class QueuePlace:
    """Where a waiting run stands: runs ahead of it, and whether it waits for a worker, its turn or a slot."""

    ahead: int
    waits_for: str


@dataclass(frozen=True, kw_only=True, eq=False, repr=False)
class RunFacts:
    """What is known of a run."""

    id: str
    kind: Kind
    state: State
    reason: str | None = None
    """Why it is in its state: ``completed``, ``target_reached``, ``user_cancel``, …"""
    phase: str | None = None
    name: str | None = None
    labels: Mapping[str, str]
    notes: str | None = None
    sweep: str | None = None
    """The sweep that made it."""
    priority: int = 0
    revision: int = 0
    progress: Progress
    queue: QueuePlace | None = None
    latest_metrics: Mapping[str, float] = field(default_factory=dict)
    best: Best | None = None
    result: Mapping[str, Any] | None = None
    """What a succeeded run found; of an evaluation ``mean_return``, ``ci95``, ``returns``, …"""
    error: RunError | None = None
    seed: int | None = None
    config_sha256: str | None = None
    """Equal for equal runs, in Python, on the command line and over HTTP."""
    environment: str | None = None
    algorithm: str | None = None
    source_run: str | None = None
    """Of a rollout or evaluation: the run whose policy acts."""
    source_checkpoint: str | None = None
    parent_run: str | None = None
    """The run that this one continues, tries again or is forked from."""
    continues: Mapping[str, Any] | None = None
    """Where a training goes on that another run began: ``checkpoint``, ``first_epoch``, ``until_epoch``, ``limits``."""
    videos: int | None = None
    """Episodes that it films: of a rollout, or of each policy of a training."""
    resources: Mapping[str, float] | None = None
    """What it was submitted to take of its machine: ``cpus``, ``gpus``, ``memory_mib``."""
    attempt: int = 0
    created_at: datetime
    started_at: datetime | None = None
    finished_at: datetime | None = None

    @property
    def is_ended(self) -> bool:
        """It has succeeded, failed or been cancelled, and stays so."""
        return self.state in ENDED

    def __repr__(self) -> str:
        """``<run_… train running epoch=3/10>``."""
        epoch = f" epoch={self.progress.epoch}/{self.progress.n_epochs or '…'}" if self.progress.epoch else ""
        return f"<{self.id} {self.kind} {self.state}{epoch}>"


@dataclass(frozen=True, kw_only=True)
class Event:
    """An entry of a run's event log; ``data`` depends on ``type`` (``state``, ``progress``, ``metrics``, ``end``)."""

    seq: int
    """Position in the log, from 1."""
    at: datetime
    type: str
    data: Mapping[str, Any]
    run: str | None = None
    """Of the events of all runs: whose it is."""
    position: int | None = None
    """Of the events of all runs: its place among them."""


@dataclass(frozen=True, kw_only=True)
class Metric:
    """One value of one metric at one epoch; ``step`` counts environment steps."""

    name: str
    epoch: int
    step: int
    value: float
    at: datetime | None = None


class Metrics(list[Metric]):
    """Points by epoch, as a list or as a table with a row for each."""

    def to_pandas(self) -> Any:
        """As a ``pandas.DataFrame`` with the members of :class:`Metric` as columns."""
        return self._table("pandas")

    def to_polars(self) -> Any:
        """As a ``polars.DataFrame`` with the members of :class:`Metric` as columns."""
        return self._table("polars")

    def _table(self, library: str) -> Any:
        try:
            module = importlib.import_module(library)
        except ImportError as error:
            message = f"A table needs {library}, which is not installed: pip install {library}"
            raise MazeClientError(message) from error
        columns = [field.name for field in fields(Metric)]
        return module.DataFrame({column: [getattr(point, column) for point in self] for column in columns})


@dataclass(frozen=True, kw_only=True)
class LogLine:
    """One line of a run's log."""

    seq: int
    at: datetime
    level: str
    message: str


@dataclass(frozen=True, kw_only=True)
class Checkpoint:
    """A stored checkpoint."""

    id: str
    run: str
    epoch: int
    step: int
    kind: str
    """``scheduled`` (a run resumes from it exactly), ``best``, ``last`` or ``continued``."""
    metrics: Mapping[str, float]
    content_sha256: str
    weights_sha256: str
    size_bytes: int
    servable: bool
    not_servable_reason: str | None = None
    is_best: bool
    is_last: bool
    created_at: datetime


@dataclass(frozen=True, kw_only=True)
class Episode:
    """One episode of a rollout; ``trajectory`` is there where one recorded episode is asked for."""

    index: int
    seed: int | None = None
    episode_return: float
    length: int
    terminated: bool
    truncated: bool
    has_trajectory: bool
    has_video: bool = False
    epoch: int | None = None
    """Of an episode that a training filmed: epochs that its policy had learnt for; ``epoch:N`` is its checkpoint."""
    moment: str | None = None
    """And which policy that is: ``begin``, ``scheduled``, ``best`` or ``last``."""
    trajectory: Mapping[str, Any] | None = None


@dataclass(frozen=True, kw_only=True)
class Origin:
    """Where a value of a configuration comes from."""

    source: str
    """A file: ``module``, ``configuration``, ``experiment``; given: ``argument``, ``override``, ``config``; ``drawn``,
    ``derived``, ``default`` of the code; ``changed`` since the run was submitted."""
    name: str | None = None
    """The file, such as ``algorithm/ppo``; the argument or override."""


@dataclass(frozen=True, kw_only=True)
class Gate:
    """What a version has to show before an alias moves to it; ``aliases`` is None where all are guarded."""

    aliases: Sequence[str] | None = None
    n_episodes: int
    seed: int | None = None


@dataclass(frozen=True, kw_only=True)
class Policy:
    """A name for the versions of a policy."""

    name: str
    description: str | None = None
    gate: Gate | None = None
    n_versions: int
    aliases: Mapping[str, int]
    """Alias → number of the version that it names."""
    created_at: datetime
    created_by: str | None = None


@dataclass(frozen=True, kw_only=True)
class PolicyVersion:
    """A version of a policy, which never changes."""

    policy: str
    version: int
    run: str
    checkpoint: str
    content_sha256: str
    note: str | None = None
    created_at: datetime
    created_by: str | None = None


@dataclass(frozen=True, kw_only=True)
class PolicyAlias:
    """Which version an alias names; ``revision`` grows with every move."""

    policy: str
    alias: str
    version: int
    revision: int
    moved_at: datetime


@dataclass(frozen=True, kw_only=True)
class AliasMove:
    """A move of an alias: ``set``, ``rollback``, ``delete``, or ``traffic``, which ``evidence`` has."""

    seq: int
    kind: str
    from_version: int | None = None
    to_version: int | None = None
    reason: str | None = None
    by: str | None = None
    at: datetime
    evidence: Mapping[str, Any] | None = None


@dataclass(frozen=True, kw_only=True)
class VersionTraffic:
    """What a version has done since the traffic of an alias was split as it is."""

    role: str
    """``holder``, ``canary`` or ``shadow``."""
    version: int
    requests: int
    errors: int
    mean_latency_ms: float | None = None
    steps: int = 0
    mean_reward: float | None = None
    compared: int = 0
    """Of a shadow: observations whose action was compared ..."""
    agreement: float | None = None
    """... and the part of them whose action was the one that was answered."""
    dropped: int = 0


@dataclass(frozen=True, kw_only=True)
class Traffic:
    """How the requests to an alias are split."""

    policy: str
    alias: str
    version: int
    revision: int
    canary: Mapping[str, Any] | None = None
    """``version`` and ``weight``."""
    shadow: Mapping[str, Any] | None = None
    """``version``."""
    versions: list[VersionTraffic] = field(default_factory=list)


@dataclass(frozen=True, kw_only=True)
class Trial:
    """A set of values that a sweep has tried, or is to try."""

    trial: int
    choices: Mapping[str, Any]
    value: float | None = None
    """Mean over the seeds; None until all of its runs have succeeded."""
    runs: list[str] = field(default_factory=list)


@dataclass(frozen=True, kw_only=True)
class SweepRun:
    """One run of a sweep: what it chose, its id once it is made, and how good it was."""

    job: int
    trial: int
    choices: Mapping[str, Any]
    state: str
    value: float | None = None
    run: str | None = None
    reason: str | None = None
    pruned_at: int | None = None
    """The epoch at which the run was given up."""


@dataclass(frozen=True, kw_only=True)
class PlannedRun:
    """A run that a sweep would make."""

    job: int
    trial: int
    choices: Mapping[str, Any]
    config_sha256: str | None = None
    error: str | None = None


@dataclass(frozen=True, kw_only=True)
class Preview:
    """What a sweep would run: how many, and the first ones."""

    n_jobs: int
    jobs: list[PlannedRun]
    search: Mapping[str, Any] | None = None


@dataclass(frozen=True, kw_only=True)
class Importance:
    """How much each parameter decides: shares that sum to 1, by whom, and from how many trials."""

    evaluator: str
    n_trials: int
    importance: Mapping[str, float]


@dataclass(frozen=True, kw_only=True, eq=False, repr=False)
class SweepFacts:
    """What is known of a sweep."""

    id: str
    state: Literal["running", "paused", "stopping", "succeeded", "failed", "cancelled"]
    reason: str | None = None
    error: Mapping[str, Any] | None = None
    name: str | None = None
    labels: Mapping[str, str]
    priority: int = 0
    parallel: int | None = None
    n_jobs: int
    """Runs that there will be."""
    counts: Mapping[str, int]
    """State → runs that are in it."""
    best: Trial | None = None
    """The best set of values so far."""
    search: Mapping[str, Any] | None = None
    metric: str | None = None
    """What a run is judged by: its best value of this metric."""
    direction: Literal["maximize", "minimize"] = "maximize"
    created_at: datetime
    finished_at: datetime | None = None

    @property
    def is_ended(self) -> bool:
        """It has succeeded, failed or been cancelled, and stays so."""
        return self.state in ENDED

    def __repr__(self) -> str:
        """``<sweep_… running {'succeeded': 3, 'planned': 1}>``."""
        return f"<{self.id} {self.state} {dict(self.counts)}>"


@dataclass(frozen=True, kw_only=True)
class Composed:
    """What a submission would run; give ``seed`` to get that very run."""

    config: Mapping[str, Any]
    config_sha256: str
    seed: int
    provenance: Mapping[str, Origin] | None = None
    """Dotted path → where the value comes from, where that was asked for."""


@dataclass(frozen=True, kw_only=True)
class Group:
    """A configuration group and its modules."""

    group: str
    modules: list[str]


@dataclass(frozen=True, kw_only=True)
class Module:
    """A configuration module: its values as they stand in its file, and that file."""

    group: str
    name: str
    description: str
    config: Any
    yaml: str


@dataclass(frozen=True, kw_only=True)
class Difference:
    """A value that two configurations do not share; ``added`` is what only the right one has."""

    key: str
    """Dotted path."""
    kind: Literal["added", "removed", "changed"]
    left: Any = None
    right: Any = None


@dataclass(frozen=True, kw_only=True)
class Differences:
    """What two configurations differ in, and their digests."""

    data: list[Difference]
    left_sha256: str
    right_sha256: str


@dataclass(frozen=True, kw_only=True)
class Changed:
    """What became of one run of many: its state now, or ``error`` with ``code`` and ``message``."""

    id: str
    state: State | None = None
    error: Mapping[str, str] | None = None


@dataclass(frozen=True, kw_only=True)
class Environment:
    """An environment that some worker knows; ``reason`` says why it is not available, or not trainable.

    Arguments, spaces and limits are there where one environment is asked for.
    """

    id: str
    source: str
    is_available: bool
    is_trainable: bool | None = None
    reason: str | None = None
    install: str | None = None
    workers: list[str] | None = None
    max_episode_steps: int | None = None
    reward_threshold: float | None = None
    kwargs: Mapping[str, Any] | None = None
    """Its constructor's arguments with their defaults."""
    open_kwargs: list[str] | None = None
    """Those that may be given as ``env.kwargs``."""
    observation_space: Mapping[str, Any] | None = None
    action_space: Mapping[str, Any] | None = None
    sub_steps: list[Mapping[str, Any]] | None = None
    """Of one with several agents: ``step_key``, ``agents``, ``observation`` and ``action`` of each sub-step."""


@dataclass(frozen=True, kw_only=True)
class Webhook:
    """Who is told of the ends of runs; ``secret`` is there when it is made, and never again."""

    id: str
    url: str
    types: list[str]
    created_at: datetime
    disabled_at: datetime | None = None
    disabled_reason: str | None = None
    secret: str | None = None


@dataclass(frozen=True, kw_only=True)
class Delivery:
    """A message for a webhook: ``waiting``, ``delivered`` or ``failed``, and how its last attempt ended."""

    id: str
    type: str
    run: str | None = None
    state: str
    attempts: int
    created_at: datetime
    due_at: datetime
    delivered_at: datetime | None = None
    status: int | None = None
    error: str | None = None
    response: str | None = None


@dataclass(frozen=True, kw_only=True)
class Me:
    """Whoever asks; ``token_id`` is None where the service asks for no token."""

    token_id: str | None
    project: str
    scopes: list[str]


@dataclass(frozen=True, kw_only=True)
class Token:
    """What is known of a token; ``token``, its text, is there when it is made, and never again."""

    id: str
    name: str
    project: str
    scopes: list[str]
    created_at: datetime
    created_by: str | None = None
    expires_at: datetime | None = None
    last_used_at: datetime | None = None
    """To the hour."""
    revoked_at: datetime | None = None
    token: str | None = field(default=None, repr=False)


@dataclass(frozen=True, kw_only=True)
class Project:
    """A project and its quotas; None is no limit."""

    name: str
    created_at: datetime
    share: int
    max_running: int | None = None
    max_queued: int | None = None
    max_stored_mib: int | None = None


@dataclass(frozen=True, kw_only=True)
class AuditEntry:
    """One change (``done``), or one that somebody lacked the scope for (``refused``)."""

    id: str
    at: datetime
    token_id: str | None = None
    """None is the command line, and everybody where the service asks for no token."""
    token_name: str | None = None
    project: str
    action: str
    subject: str
    """Path of what was changed or made."""
    request_id: str | None = None
    outcome: str


@dataclass(frozen=True, kw_only=True)
class Ticket:
    """Opens an event stream or a WebSocket once, as ``?ticket=…``."""

    ticket: str = field(repr=False)
    path: str
    expires_at: datetime


@dataclass(frozen=True, kw_only=True)
class Worker:
    """A worker that is alive, and what it runs now."""

    id: str
    host: str | None = None
    versions: Mapping[str, str]
    extras: list[str]
    environments: str
    """``published``, ``pending``, or why it cannot say which it has."""
    n_slots: int
    n_training_slots: int
    n_free: int
    silent_s: float
    """Seconds since its last sign of life."""
    runs: list[Mapping[str, Any]]
    """``id``, ``kind``, ``state``, ``name``, ``phase`` and ``started_at`` of each."""


@dataclass(frozen=True, kw_only=True)
class KindQueue:
    """The runs of a kind that have not ended; ``waits_for`` a ``worker``, a ``slot`` or their ``turn``."""

    kind: Kind
    queued: int
    oldest_s: float | None = None
    waits_for: str | None = None
    running: int
    n_free: int
    """Free slots that take this kind."""


@dataclass(frozen=True, kw_only=True)
class Status:
    """Workers, queue and storage at a glance."""

    version: str
    n_workers: int
    slots: Mapping[str, int]
    """``total``, ``busy`` and ``free``."""
    queue: list[KindQueue]
    database: Mapping[str, Any]
    """``kind``, ``size_bytes``, ``n_blobs``, ``blob_bytes``, and ``free_bytes``, None where it is not known."""


@dataclass(frozen=True, kw_only=True)
class Health:
    """Whether the service can work, and what was found of database, migrations, workers and environments."""

    is_ready: bool
    checks: Mapping[str, Mapping[str, Any]]
