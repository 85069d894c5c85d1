"""Runs: listed, looked at, and what they left: metrics, logs, checkpoints and episodes."""

from collections.abc import Callable, Sequence
from dataclasses import asdict
from typing import Annotated, Any, Literal

import yaml
from fastapi import APIRouter, Path, Query, Response
from pydantic import AfterValidator, ConfigDict, Field, WithJsonSchema

from service.api.answers import (
    CheckpointOut,
    EpisodeDetailOut,
    EpisodeOut,
    Listing,
    LogOut,
    Moment,
    RunConfigOut,
    RunOut,
    origins_out,
)
from service.api.dependencies import (
    LABEL,
    SWEEP_ID,
    LogDep,
    PageDep,
    PageQuery,
    RunDep,
    ServicesDep,
    page_of,
    require_scope,
)
from service.api.origins import run_provenance
from service.domain.run import Event, LogLine, MetricOrder, Page, Run, RunKind, RunOrder, RunState
from service.domain.sharing import Scope
from service.problems import Problem

router = APIRouter(prefix="/v1/runs", tags=["runs"], dependencies=[require_scope(Scope.RUNS_READ)])


SweepId = Annotated[str, Field(pattern=f"^{SWEEP_ID}$")]


METRIC = "metric:"


def _order(text: str) -> RunOrder | MetricOrder:
    name = text.removeprefix("-")
    if name.startswith(METRIC) and name != METRIC:
        return MetricOrder(name.removeprefix(METRIC), text.startswith("-"))
    try:
        return RunOrder(text)
    except ValueError:
        raise ValueError(f"Sort by {', '.join(RunOrder)} or metric:NAME") from None


Sort = Annotated[
    Annotated[str, Field(max_length=200)],
    AfterValidator(_order),
    WithJsonSchema({"type": "string", "maxLength": 200, "examples": [*RunOrder, "-metric:eval/mean_return"]}),
]


class RunsQuery(PageQuery):
    """Which runs are listed; ``label.KEY=VALUE`` is another way to write ``label=KEY=VALUE``."""

    model_config = ConfigDict(extra="allow")

    state: RunState | None = None
    kind: RunKind | None = None
    name: str | None = Field(
        default=None, min_length=1, max_length=200, description="Part of the name, in any case."
    )
    sweep: SweepId | None = Field(default=None, description="Only those that this sweep made.")
    created_after: Moment | None = Field(default=None, description="Submitted then or later (RFC 3339).")
    created_before: Moment | None = Field(default=None, description="Submitted before (RFC 3339).")
    sort: Sort = Field(
        default=RunOrder.NEWEST,
        description=(
            "Order; a minus is from high to low. By name, best value or `metric:NAME` (its latest value, NaN "
            "last), runs without one are left out."
        ),
    )
    label: list[Annotated[str, WithJsonSchema({"type": "string", "pattern": "^[^=]+="})]] = Field(
        default=[], max_length=32, description="`KEY=VALUE`, as often as wanted: only runs with all of them."
    )

    def labels(self) -> dict[str, str]:
        """The wanted labels."""
        extra = self.model_extra or {}
        pairs = [(name.removeprefix(LABEL), str(value)) for name, value in extra.items()]
        for text in self.label:
            key, equals, value = text.partition("=")
            pairs.append((key if equals else "", value))
        if not all(key for key, _ in pairs):
            message = "Write a label as label=KEY=VALUE or label.KEY=VALUE."
            raise Problem.in_query("label", "invalid_value", message)
        labels = dict(pairs)
        if len(labels) < len(pairs):
            message = "A label is given twice, and a run has one value of each."
            raise Problem.in_query("label", "doubled", message)
        return labels


RUN_FILTERS = ("state", "kind", "name", "sweep", "created_after", "created_before", "sort")


@router.get("", response_model=Listing[RunOut])
def list_runs(query: Annotated[RunsQuery, Query()], services: ServicesDep) -> Page:
    """Runs, newest first, or by `sort`. Filter by `state`, `kind`, `name`, time and labels: `?label=team=a`."""
    filters = {name: getattr(query, name) for name in RUN_FILTERS}
    return page_of(services.runs.list, query=query, labels=query.labels(), **filters)


@router.get("/{run_id}", response_model=RunOut)
async def get_run(run: RunDep) -> Run:
    """One run."""
    return run


@router.get("/{run_id}/config", response_model=RunConfigOut)
def get_run_config(
    run: RunDep, services: ServicesDep, format: Literal["json", "yaml"] = "json", provenance: bool = False
) -> RunConfigOut | Response:
    """The resolved configuration, with every default; `format=yaml` gives it as a file to keep.

    `provenance=true` tells of every value where it comes from.
    """
    config = dict(run.config)
    if format == "yaml":
        text = yaml.safe_dump(config, sort_keys=False, allow_unicode=True)
        return Response(text, media_type="application/yaml")
    found = run_provenance(services, run) if provenance else None
    return RunConfigOut(
        config=config,
        config_sha256=run.config_sha256,
        provenance=origins_out(found),
        request=dict(run.request),
    )


EpisodeIndex = Annotated[int, Path(ge=0, lt=2**31, description="Number of the episode, from 0.")]


@router.get("/{run_id}/logs", response_model=Listing[LogOut])
def list_logs(
    run: RunDep,
    query: LogDep,
    services: ServicesDep,
    before: Annotated[
        int | None,
        Query(ge=1, lt=2**53, description="The last entries that have a smaller seq, on one page."),
    ] = None,
) -> Page:
    """Log lines in order; a failed run's traceback is among them."""
    if before is not None:
        lines = services.runs.logs(run.id, after=query.start, before=before, limit=query.limit)
        return Page(data=list(lines), next_cursor=None)
    lines = services.runs.logs(run.id, after=query.start, limit=query.limit + 1)
    return begun(lines, query.limit, last_seq)


@router.get("/{run_id}/checkpoints", response_model=Listing[CheckpointOut])
def list_checkpoints(run: RunDep, query: PageDep, services: ServicesDep) -> Page:
    """Checkpoints, newest epoch first; `best` and `last` are marked."""
    return page_of(services.checkpoints.list, run.id, query=query)


@router.get("/{run_id}/episodes", response_model=Listing[EpisodeOut])
def list_episodes(run: RunDep, query: PageDep, services: ServicesDep) -> Page:
    """Episodes of a rollout, or those that a training filmed, by index: in the order of their epochs."""
    return page_of(services.episodes.list, run.id, query=query)


@router.get("/{run_id}/episodes/{index}", response_model=EpisodeDetailOut)
def get_episode(run: RunDep, index: EpisodeIndex, services: ServicesDep) -> dict[str, Any]:
    """One episode with its trajectory, where it was recorded."""
    info = services.episodes.get(run.id, index)
    trajectory = decoded(services.episodes.trajectory(run.id, index)) if info.has_trajectory else None
    return {**asdict(info), "trajectory": trajectory}


def decoded(trajectory: bytes) -> dict[str, Any]:
    """A recorded trajectory as plain JSON."""
    from maze_core.rollout.recording import trajectory_from_bytes

    return dict(trajectory_from_bytes(trajectory).to_json())


def begun(items: Sequence[Any], limit: int, cursor: Callable[[Any], str]) -> Page:
    """A page of a list from one entry more than it shows."""
    shown = list(items[:limit])
    return Page(data=shown, next_cursor=cursor(shown[-1]) if len(items) > limit else None)


def last_seq(entry: Event | LogLine) -> str:
    """Cursor of the page of a log that begins behind this entry."""
    return str(entry.seq)
