"""What the service answers, as typed models: the response half of the OpenAPI document.

Times are RFC 3339 in UTC with milliseconds, durations are seconds, and numbers that JSON cannot say are the
strings ``NaN``, ``Infinity`` and ``-Infinity``. Clients must tolerate members they do not know.
"""

import re
from collections.abc import Mapping
from datetime import UTC, datetime
from typing import Annotated, Any, Generic, Literal, TypeVar

from pydantic import (
    AfterValidator,
    AliasChoices,
    AwareDatetime,
    BaseModel,
    BeforeValidator,
    ConfigDict,
    Field,
    PlainSerializer,
    WithJsonSchema,
)

from maze_core.files import json_safe
from service.domain.run import KINDS_WITH_POLICY, EventType, RunKind, RunState


def rfc3339(time: datetime) -> str:
    """``2026-01-31T12:00:00.123Z``."""
    return time.astimezone(UTC).isoformat(timespec="milliseconds").replace("+00:00", "Z")


Time = Annotated[
    datetime,
    PlainSerializer(rfc3339, return_type=str),
    WithJsonSchema({"type": "string", "format": "date-time"}),
]


def _in_utc(time: datetime) -> datetime:
    try:
        return time.astimezone(UTC)
    except OverflowError as error:
        raise ValueError("Give a time between the years 1 and 9999 in UTC") from error


def _written(text: object) -> object:
    if isinstance(text, str) and not re.match(r"\d{4}-\d\d-\d\d[Tt ]", text):  # a number of seconds
        raise ValueError("Write it as 2026-01-31T12:00:00Z")
    return text


Moment = Annotated[AwareDatetime, BeforeValidator(_written), AfterValidator(_in_utc)]
"""A time that a client asks for."""
Number = Annotated[
    float,
    PlainSerializer(json_safe, return_type=Any),
    WithJsonSchema({"anyOf": [{"type": "number"}, {"enum": ["NaN", "Infinity", "-Infinity"]}]}),
]
Object = Annotated[dict[str, Any], PlainSerializer(json_safe, return_type=dict[str, Any])]
Item = TypeVar("Item")


class Out(BaseModel):
    """Base of every answer; endpoints give what the domain has, and the answer takes the members that it shows."""

    model_config = ConfigDict(
        frozen=True,
        from_attributes=True,
        use_attribute_docstrings=True,
        json_schema_serialization_defaults_required=True,
    )


def again(model: type[Out]) -> dict[int | str, dict[str, Any]]:
    """What the document says of a route that makes something once: asked for again, it is answered as it is."""
    return {200: {"model": model, "description": "There is this very one already."}}


UNCHANGED: dict[int | str, dict[str, Any]] = {
    304: {"description": "What `If-None-Match` names has not changed."}
}


class Listing(Out, Generic[Item]):
    """A page of a list; every list has this shape."""

    # pydantic would look for docstrings anew at every Listing[...]: a sixth of the time to import the API
    model_config = ConfigDict(use_attribute_docstrings=False)

    data: list[Item]
    next_cursor: str | None = Field(
        default=None, description="Give it as ``cursor`` to get the next page; null on the last one."
    )
    has_more: bool = False


class ProgressOut(Out):
    """How far a run is; null where it cannot be said."""

    epoch: int | None = None
    n_epochs: int | None = None
    env_steps: int | None = None
    fraction: Number | None = None
    """Done part in [0, 1]; 1 of every run that has succeeded, whatever ended it."""
    eta_s: Number | None = None


class BestOut(Out):
    """The best evaluation of a training run so far."""

    metric: str
    value: Number
    checkpoint: str
    """Id of the checkpoint that reached it."""


class QueuePlaceOut(Out):
    """Where a waiting run stands."""

    ahead: int
    """Runs that are to start before it."""
    waits_for: str
    """``worker`` when none has been seen for a minute, ``turn`` behind others, ``slot`` as the first in line,
    ``filming`` where it is filmed and no worker can film."""


class ContinuationOut(Out):
    """Where a training goes on that another run began, and how far."""

    checkpoint: str
    """Id of this run's copy of the checkpoint that it goes on from."""
    first_epoch: int
    """Epoch of that checkpoint."""
    until_epoch: int | None
    """Null without a limit."""
    limits: Object
    """When to stop sooner."""


def run_path(run_id: str) -> str:
    """Path of a run."""
    return f"/v1/runs/{run_id}"


def _run_links(run: dict[str, Any]) -> dict[str, str]:
    """What belongs to a run, from its other members."""
    path = run_path(run["id"])
    links = {"self": path} | {part: f"{path}/{part}" for part in ("events", "metrics", "logs", "config")}
    if run["kind"] in KINDS_WITH_POLICY:
        links |= {"checkpoints": f"{path}/checkpoints", "compute_action": f"{path}/compute_action"}
    if run["kind"] in (RunKind.ROLLOUT, RunKind.RECORD):
        links["episodes"] = f"{path}/episodes"
    for other in ("source_run", "parent_run"):
        if run[other]:
            links[other] = run_path(run[other])
    if run["sweep"]:
        links["sweep"] = f"/v1/sweeps/{run['sweep']}"
    if not run["state"].is_terminal:
        verb = "resume" if run["state"] is RunState.PAUSED else "pause"
        links |= {name: f"{path}/{name}" for name in ("cancel", verb)}
    return links


class RunOut(Out):
    """A training, rollout or evaluation run."""

    id: str
    kind: RunKind
    state: RunState
    name: str | None
    labels: dict[str, str]
    reason: str | None
    """Why the run is in its state, such as ``completed``, ``target_reached``, ``user_cancel``."""
    phase: str | None
    """What the run does while it runs; the list of phases may grow."""
    progress: ProgressOut
    latest_metrics: dict[str, Number]
    best: BestOut | None
    result: Object | None
    """What a succeeded run found; of an evaluation mean_return, std_return, ci95, returns, lengths, seeds and
    truncated_by_limit."""
    error: Object | None
    """Of a failed run: ``code``, ``message`` and more; the traceback is in its log."""
    seed: int | None
    """The seed that was given, or drawn for this run."""
    config_sha256: str | None
    """SHA-256 of the resolved configuration; equal for equal runs on every face."""
    environment: str | None
    """Name of what it trains or plays in, where the configuration has one."""
    algorithm: str | None
    """Of a training, as its module is called: ``ppo``."""
    source_run: str | None
    """Of a rollout or evaluation: the run whose policy acts."""
    source_checkpoint: str | None
    parent_run: str | None
    """The run that this one continues, tries again or is forked from."""
    continues: ContinuationOut | None
    """Of a training that does not begin anew."""
    videos: int | None
    """Episodes that it films: of a rollout, or of each policy of a training."""
    resources: dict[str, float] | None
    """What it was submitted to take of its machine: ``cpus``, ``gpus``, ``memory_mib``."""
    priority: int
    """Of two waiting runs, the one with the higher number starts first."""
    sweep: str | None
    """The sweep that made it."""
    queue: QueuePlaceOut | None
    """Of a waiting run; null in lists."""
    notes: str | None
    revision: int
    """Grows with every change of name, labels, notes or priority; `If-Match` takes it."""
    attempt: int
    """How often a worker has started it."""
    traceparent: str | None
    """W3C trace context of the request that submitted it."""
    created_at: Time
    started_at: Time | None
    finished_at: Time | None
    links: dict[str, str] = Field(default_factory=_run_links)


class BulkItemOut(Out):
    """What became of one run."""

    id: str
    state: RunState | None
    """Its state now; null of one that is deleted or unknown."""
    error: Object | None
    """``code`` and ``message``, where it was not changed."""


class BulkOut(Out):
    """What became of many runs."""

    data: list[BulkItemOut]
    next_cursor: str | None = None
    """Give it as ``cursor`` to go on; null at the end."""
    has_more: bool


class EventOut(Out):
    """One entry of a run's event log; also the ``data:`` of its Server-Sent Event."""

    seq: int
    """Position in the log, without gaps, from 1."""
    at: Time
    type: EventType
    data: Object


class FeedEventOut(EventOut):
    """One entry of the event log of all runs."""

    position: int
    """Place in that log: what comes later has a larger one."""
    run: str = Field(validation_alias=AliasChoices("run_id", "run"))
    seq: int
    """Position in the run's own log."""


class MetricOut(Out):
    """One value of one metric at one epoch."""

    name: str
    epoch: int
    step: int
    """Environment steps taken by then."""
    value: Number
    at: Time | None


class SeriesOut(Out):
    """A metric of one run, or of several that were put together, by epoch."""

    name: str
    group: str
    """The value of the label, or the id of the first of the runs."""
    runs: list[str]
    counted: list[str]
    """Those of the runs that the values are of: with `fold_seeds` one of each seed, else all."""
    epoch: list[int]
    step: list[int]
    seconds: list[Number | None]
    """Since the run started; of several the mean."""
    mean: list[Number]
    """Of the runs; their interquartile mean where this is asked."""
    low: list[Number | None]
    """Ends of the 95 % interval, by Student's t or by the bootstrap; null where one run is known."""
    high: list[Number | None]
    n: list[int]
    """Runs that have a point at this epoch."""


class MetricsFoundOut(Out):
    """Metrics of many runs side by side."""

    data: list[SeriesOut]


class LogOut(Out):
    """One line of a run's log."""

    seq: int
    at: Time
    level: str
    message: str


class CheckpointOut(Out):
    """A stored checkpoint."""

    id: str
    run: str = Field(validation_alias=AliasChoices("run_id", "run"))
    epoch: int
    step: int
    """Environment steps taken when it was made."""
    kind: str
    """``scheduled`` (a run resumes from it exactly), ``best``, ``last``, ``continued``, ``imported``, ``filmed``: what
    acts in a film, from which no training goes on, ``begin``: the copy that a continuing run has of what it goes on
    from, or ``held …``: kept for a policy, out of its place."""
    metrics: dict[str, Number]
    content_sha256: str
    """Over everything that matters: equal runs have equal checkpoints."""
    weights_sha256: str
    size_bytes: int
    servable: bool
    not_servable_reason: str | None
    is_best: bool
    is_last: bool
    created_at: Time


class EpisodeOut(Out):
    """One episode of a rollout, or one that a training filmed."""

    index: int
    seed: int | None
    episode_return: Number
    length: int
    terminated: bool
    truncated: bool
    has_trajectory: bool
    """Whether it was recorded; the episode itself then has its ``trajectory``."""
    has_video: bool
    """Whether it was filmed; it then has a ``video`` and a ``thumbnail``."""
    epoch: int | None
    """Of an episode that a training filmed: epochs that its policy had learnt for; ``epoch:N`` is its checkpoint."""
    moment: Literal["begin", "scheduled", "best", "last"] | None
    """And which policy of the training that is; null in a rollout."""


class EpisodeDetailOut(EpisodeOut):
    """One episode with what was recorded of it."""

    trajectory: Object | None
    """``steps`` with observation, action and reward, and the final observation; null without a record."""


class OriginOut(Out):
    """Where a value of a configuration comes from."""

    source: str
    """A file: ``module``, ``configuration`` or ``experiment``; given: ``argument``, ``override`` or ``config``;
    ``drawn``, ``derived`` from other values, or ``default`` of the code."""
    name: str | None
    """The file, such as ``algorithm/ppo``; the argument or override; what it is derived from."""


def origins_out(origins: Mapping[str, Any] | None) -> dict[str, OriginOut] | None:
    """Origins as they are answered."""
    if origins is None:
        return None
    return {path: OriginOut.model_validate(origin) for path, origin in origins.items()}


class RunConfigOut(Out):
    """The resolved configuration of a run."""

    config: Object
    config_sha256: str | None
    provenance: dict[str, OriginOut] | None = None
    """Of every value by dotted path, with `provenance=true`: found by composing the request again, with the modules
    that there are now. A value that comes out otherwise today has the source ``changed``."""
    request: Object
    """What was asked for: the body that submitted the run, without what said nothing."""


class ComposedOut(Out):
    """What a submission would run."""

    config: Object
    config_sha256: str
    seed: int
    """The seed given, or one drawn for this answer; give it to get the same run."""
    provenance: dict[str, OriginOut] | None = None
    """Of every value by dotted path, with `provenance=true`."""


class DifferenceOut(Out):
    """A value that two configurations do not share."""

    key: str
    """Dotted path; items of lists by number."""
    kind: Literal["added", "removed", "changed"]
    """``added``: only the right one has it; ``removed``: only the left one."""
    left: Any
    right: Any


class DifferencesOut(Out):
    """What two configurations differ in."""

    data: list[DifferenceOut]
    left_sha256: str
    right_sha256: str
    """Of the configuration; equal where nothing that decides the numbers of a run differs."""


class ModuleSummaryOut(Out):
    """A configuration module of a group."""

    name: str
    description: str


class GroupOut(Out):
    """A configuration group and the modules to choose from."""

    group: str
    modules: list[str]
    links: dict[str, str]


class GroupDetailOut(Out):
    """A configuration group with a line about each module."""

    group: str
    modules: list[ModuleSummaryOut]


class ModuleOut(Out):
    """One configuration module."""

    group: str
    name: str
    description: str
    config: Any
    """The module's values as they stand in its file."""
    yaml: str


class TargetOut(Out):
    """A component that a dict with ``_target_`` may name."""

    target: str
    source: str
    """Who allows it: the library, an alias of it, or the operator."""


class HealthOut(Out):
    """A sign of life."""

    status: str
    checks: dict[str, dict[str, Any]] = Field(default_factory=dict)
    """``database``, ``migrations``, ``workers`` and ``environments``; a missing worker is a warning, not a failure."""


class DiscoveryOut(Out):
    """What this service is and where its parts are."""

    name: str
    version: str
    links: dict[str, str]
    limits: dict[str, Any]


class ProblemKindOut(Out):
    """A kind of problem."""

    type: str
    code: str
    status: int
    meaning: str


class ErrorOut(Out):
    """One mistake."""

    pointer: str | None = None
    """JSON pointer into the body; "" is the body as a whole."""
    parameter: str | None = None
    """Name of the query parameter, where the mistake is in the query string."""
    path: str | None = None
    """Key path in the configuration, the same on every face."""
    code: str
    message: str
    allowed: list[str] | None = None
    did_you_mean: str | None = None


class ProblemOut(Out):
    """RFC 9457 problem; kinds of problem may add members."""

    model_config = ConfigDict(extra="allow")

    type: str
    title: str
    status: int
    code: str
    """Stable name of the kind of problem."""
    detail: str
    """What happened and the way out."""
    instance: str
    request_id: str
    errors: list[ErrorOut]
