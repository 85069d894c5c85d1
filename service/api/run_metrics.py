"""Metrics of runs: as pages, as points of a chart, as a table, as a picture, and of many runs side by side."""

from collections import defaultdict
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from statistics import fmean
from typing import Annotated, Any, Literal

from fastapi import APIRouter, Header, Query, Response
from pydantic import BaseModel, Field
from starlette.responses import StreamingResponse

from maze_core.config.schema import canonical_json
from maze_core.evaluation.evaluate import mean_interval
from maze_core.evaluation.interquartile import interquartile_interval, interquartile_mean
from maze_core.metrics import mean_of
from service.api.answers import Listing, MetricOut, MetricsFoundOut
from service.api.bodies import In, StrictRoute
from service.api.curve import svg
from service.api.delivery import preferred
from service.api.dependencies import RunDep, ServicesDep, invalid_cursor, require_scope
from service.api.runs import begun
from service.api.tables import CSV, PARQUET, csv_table, parquet_table
from service.domain.cursors import decode_cursor, encode_cursor
from service.domain.errors import NotFoundError
from service.domain.ports import RunStore
from service.domain.run import MetricPoint, Page, Run, RunState
from service.domain.sharing import Scope
from service.domain.use_cases import BEST_METRICS
from service.problems import Problem

router = APIRouter(
    prefix="/v1", tags=["runs"], route_class=StrictRoute, dependencies=[require_scope(Scope.RUNS_READ)]
)

MOST_NAMES = 64
JSON = "application/json"
SVG = "image/svg+xml"
TABLE_ROWS = 10_000
"""That are read at a time."""
CURVE_POINTS = 400
FEWEST_POINTS = 8
"""Of a chart."""
MOST_POINTS = 100_000
"""That one request puts side by side."""


class MetricsQuery(BaseModel):
    """Which metric points are listed."""

    names: list[str] = Field(
        default=[], max_length=MOST_NAMES, description="Metric names; all when left out."
    )
    after_epoch: int | None = Field(default=None, ge=-1, lt=2**31, description="Only later epochs.")
    before_epoch: int | None = Field(default=None, ge=0, lt=2**31, description="Only earlier epochs.")
    cursor: str | None = Field(default=None, max_length=65_536, description="next_cursor of the page before.")
    limit: int = Field(default=10_000, ge=1, le=10_000, description="Points per page.")
    max_points: int | None = Field(
        default=None,
        ge=FEWEST_POINTS,
        le=1000,
        description="For charts: at most so many points of each name, extremes among them, on one page.",
    )

    def after(self) -> tuple[int, str] | None:
        """Epoch and name of the point that the page begins behind."""
        if self.cursor is None:
            return None
        try:
            epoch, name = decode_cursor(self.cursor, "metrics", int, str)
        except ValueError as error:
            raise invalid_cursor() from error
        return epoch, name

    def span(self) -> dict[str, int | None]:
        """The epochs that are wanted."""
        return {"after_epoch": self.after_epoch, "before_epoch": self.before_epoch}

    def wanted_names(self) -> list[str] | None:
        """The names, which may also be given as one text with commas; None is all."""
        names = [name.strip() for text in self.names for name in text.split(",")]
        if len(names) > MOST_NAMES:
            raise Problem.in_query("names", "too_long", f"Give {MOST_NAMES} names at most, or none for all.")
        return [name for name in names if name] or None


@router.get("/runs/{run_id}/metrics", response_model=Listing[MetricOut])
def list_metrics(
    run: RunDep,
    query: Annotated[MetricsQuery, Query()],
    services: ServicesDep,
    accept: Annotated[str, Header(include_in_schema=False)] = "*/*",
) -> Page | Response:
    """Metric points by epoch: `?names=train/episode_return&names=eval/mean_return`; `&max_points=400` for a chart.

    With `Accept: text/csv`, or Parquet, all of them as a table with the columns name, epoch, step, value and at.
    """
    form = preferred(accept, (JSON, CSV, PARQUET))
    if form in (CSV, PARQUET):
        if query.max_points is not None:
            message = "A table has all points; leave max_points out."
            raise Problem.in_query("max_points", "contradiction", message)
        pages = _pages(services.runs, run.id, query.wanted_names(), query.span(), query.after())
        table = csv_table(pages) if form == CSV else parquet_table(pages)
        return StreamingResponse(table, media_type=form)
    if query.max_points is not None:
        return _chart(run, query, query.max_points, services.runs)
    points = services.runs.metrics(
        run.id,
        names=query.wanted_names(),
        **query.span(),
        after=query.after(),
        limit=query.limit + 1,
    )
    return begun(points, query.limit, lambda last: encode_cursor("metrics", last.epoch, last.name))


def _chart(run: Run, query: MetricsQuery, max_points: int, runs: RunStore) -> Page:
    """Fewer points of each name where there are so many names that they would fill more than a page."""
    if query.cursor is not None:
        raise Problem.in_query("cursor", "invalid_value", "max_points gives one page; leave cursor out.")
    names = query.wanted_names() or sorted(run.latest_metrics)
    each = max(FEWEST_POINTS, min(max_points, query.limit // max(1, len(names))))
    found = [
        point
        for name in dict.fromkeys(names)
        for point in runs.chart(run.id, name, max_points=each, **query.span())
    ]
    return Page(data=sorted(found, key=lambda point: (point.epoch, point.name)), next_cursor=None)


def _pages(
    runs: RunStore,
    run_id: str,
    names: list[str] | None,
    span: Mapping[str, int | None],
    behind: tuple[int, str] | None,
) -> Iterator[Sequence[MetricPoint]]:
    """All points, some at a time."""
    while True:
        found = runs.metrics(run_id, names=names, **span, after=behind, limit=TABLE_ROWS)
        yield found
        if len(found) < TABLE_ROWS:
            return
        behind = found[-1].epoch, found[-1].name


@router.get("/runs/{run_id}/curve.svg", response_class=Response, responses={200: {"content": {SVG: {}}}})
def draw_curve(
    run: RunDep,
    services: ServicesDep,
    name: Annotated[
        str | None,
        Query(max_length=200, description="A metric; what the best policy is judged by when left out."),
    ] = None,
) -> Response:
    """A learning curve as a picture."""
    wanted = [name] if name else BEST_METRICS
    for metric in wanted:
        if points := services.runs.chart(run.id, metric, max_points=CURVE_POINTS):
            title = f"{run.name or run.id}: {metric}"
            return Response(svg([(point.epoch, point.value) for point in points], title), media_type=SVG)
    known = ", ".join(sorted(run.latest_metrics)) or "none yet"
    raise NotFoundError(f"run {run.id} has no points of {' or '.join(wanted)}; it has {known}", run_id=run.id)


class MetricsRequest(In):
    """Which metrics of which runs."""

    runs: list[str] = Field(min_length=1, max_length=200)
    """Ids of runs."""
    names: list[Annotated[str, Field(max_length=200)]] = Field(min_length=1, max_length=16)
    """Names of metrics."""
    max_points: Annotated[int, Field(ge=FEWEST_POINTS, le=1000)] = 200
    """Of each metric of each run: of one by itself extremes are among them, of several they are at the same epochs."""
    group_by: Annotated[str, Field(min_length=1, max_length=64)] | None = None
    """A label: runs with the same value are put together."""
    fold_seeds: bool = False
    """Put runs together whose configurations differ in nothing but the seed; of the same label, if that is asked.

    One run of each seed counts: the newest that succeeded, else the one that came furthest."""
    statistic: Literal["mean", "iqm"] = "mean"
    """Of runs that are put together: their mean and its interval by Student's t; or their interquartile mean and its
    interval by a bootstrap, stratified by environment, which one run out of line does not decide."""


@router.post("/metrics/query", response_model=MetricsFoundOut)
def query_metrics(body: MetricsRequest, services: ServicesDep) -> dict[str, Any]:
    """Metrics of many runs side by side by epoch, each run by itself or put together by a label or but for the seed."""
    if len(body.runs) * len(body.names) * body.max_points > MOST_POINTS:
        message = f"Runs times names times points are {MOST_POINTS} at most; ask for fewer points."
        raise Problem.at("/max_points", "too_large", message)
    known = _known(body, services.runs)
    groups: dict[tuple[str, str], list[Run]] = defaultdict(list)
    for run in known.values():
        label = "" if body.group_by is None else run.labels.get(body.group_by, "")
        alone = "" if body.group_by else run.id
        groups[label, _but_seed(run) if body.fold_seeds else alone].append(run)
    counted = {key: _one_of_each_seed(runs) if body.fold_seeds else runs for key, runs in groups.items()}
    data = [
        {
            "name": name,
            "group": runs[0].id if body.group_by is None else label,
            "runs": [run.id for run in runs],
            "counted": [run.id for run in counted[label, rest]],
            **aligned(_series(services.runs, counted[label, rest], name, body.max_points), body.statistic),
        }
        for name in dict.fromkeys(body.names)
        for (label, rest), runs in groups.items()
    ]
    return {"data": data}


def _known(body: MetricsRequest, runs: RunStore) -> dict[str, Run]:
    """The runs that are asked for, in this order; with their configurations where these count."""
    shown = {run.id: run for run in runs.shown(body.runs)}
    for place, run_id in enumerate(body.runs):
        if run_id not in shown:
            raise Problem.at(f"/runs/{place}", "not_found", f"There is no run {run_id}.")
    is_full = body.fold_seeds or body.statistic == "iqm"
    return {run_id: runs.get(run_id) if is_full else shown[run_id] for run_id in dict.fromkeys(body.runs)}


def _but_seed(run: Run) -> str:
    """What runs have in common that differ in their seeds alone."""
    config = {part: node for part, node in run.config.items() if part != "seeding"}
    return f"{run.kind} {canonical_json(config).decode()}"


def _one_of_each_seed(runs: Sequence[Run]) -> list[Run]:
    """A run that was made twice says nothing more about how far seeds differ."""
    by_seed: dict[bytes, list[Run]] = defaultdict(list)
    for run in runs:
        by_seed[canonical_json(run.config.get("seeding"))].append(run)
    return [_telling(same) for same in by_seed.values()]


def _telling(same: Sequence[Run]) -> Run:
    """Of runs with one seed the newest that succeeded, else the one that came furthest."""
    succeeded = [run for run in same if run.state is RunState.SUCCEEDED]
    if succeeded:
        return max(succeeded, key=lambda run: (run.created_at, run.id))
    return max(same, key=lambda run: run.progress.epoch or 0)


@dataclass(frozen=True)
class Series:
    """A metric of one run."""

    points: Sequence[MetricPoint]
    task: str = ""
    """What it was trained in."""
    begin: datetime | None = None
    """When the run began."""


def _series(runs: RunStore, found: Sequence[Run], name: str, max_points: int) -> Sequence[Series]:
    """Points of each run; of several at the same epochs where they have them: between the first and the last of all."""
    points: list[Sequence[MetricPoint]]
    if len(found) == 1:
        points = [runs.chart(found[0].id, name, max_points=max_points)]
    else:
        ends = [point.epoch for run in found for point in runs.spaced(run.id, name, points=2)]
        span = (min(ends), max(ends)) if ends else None
        points = [runs.spaced(run.id, name, points=max_points, span=span) for run in found]
    tasks = [canonical_json(run.config.get("env")).decode() for run in found]
    return [Series(one, task, run.started_at) for one, task, run in zip(points, tasks, found, strict=True)]


def aligned(series: Sequence[Series], statistic: str = "mean") -> Mapping[str, list[Any]]:
    """Several runs of one metric, by the epochs that any of them has: mean or interquartile mean, and 95 % interval.

    A run that has no point at an epoch is not counted there; an interval takes two runs at least, and finite values.
    """
    by_epoch: dict[int, list[tuple[Series, MetricPoint]]] = defaultdict(list)
    for one in series:
        for point in one.points:
            by_epoch[point.epoch].append((one, point))
    columns: dict[str, list[Any]] = {name: [] for name in _COLUMNS}
    for epoch, found in sorted(by_epoch.items()):
        middle, low, high = _summary(found, statistic)
        step = max(point.step for _, point in found)
        for name, value in zip(
            _COLUMNS, (epoch, step, _seconds(found), middle, low, high, len(found)), strict=True
        ):
            columns[name].append(value)
    return columns


_COLUMNS = ("epoch", "step", "seconds", "mean", "low", "high", "n")


def _summary(
    found: Sequence[tuple[Series, MetricPoint]], statistic: str
) -> tuple[float, float | None, float | None]:
    """What runs have in the middle at an epoch, and the ends of the interval where there is one."""
    values = [point.value for _, point in found]
    if statistic == "mean":
        return mean_of(values), *(mean_interval(values) or (None, None))
    by_task: dict[str, list[float]] = defaultdict(list)
    for one, point in found:
        by_task[one.task].append(point.value)
    return interquartile_mean(values), *(interquartile_interval([*by_task.values()]) or (None, None))


def _seconds(found: Sequence[tuple[Series, MetricPoint]]) -> float | None:
    """From the begin of a run to its point; of several runs the mean."""
    known = [
        (point.at - one.begin).total_seconds()
        for one, point in found
        if one.begin is not None and point.at is not None
    ]
    return max(0.0, fmean(known)) if known else None
