"""Metrics of runs: as pages, as points of a chart, as a table, as a picture, and of many runs side by side."""

from collections import defaultdict
from collections.abc import Iterator, Mapping, Sequence
from typing import Annotated, Any

from fastapi import APIRouter, Header, Query, Response
from pydantic import BaseModel, Field
from starlette.responses import StreamingResponse

from maze_core.evaluation.evaluate import mean_interval
from maze_core.metrics import mean_of
from service.api.answers import Listing, MetricOut, MetricsFoundOut
from service.api.bodies import In, StrictRoute
from service.api.curve import svg
from service.api.delivery import preferred
from service.api.dependencies import RunDep, ServicesDep, invalid_cursor
from service.api.runs import begun
from service.api.tables import CSV, PARQUET, csv_table, parquet_table
from service.domain.cursors import decode_cursor, encode_cursor
from service.domain.errors import NotFoundError
from service.domain.ports import RunStore
from service.domain.run import MetricPoint, Page, Run
from service.domain.use_cases import BEST_METRICS
from service.problems import Problem

router = APIRouter(prefix="/v1", tags=["runs"], route_class=StrictRoute)

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
    """A label: runs with the same value are put together, with their mean and its 95 % interval."""


@router.post("/metrics/query", response_model=MetricsFoundOut)
def query_metrics(body: MetricsRequest, services: ServicesDep) -> dict[str, Any]:
    """Metrics of many runs side by side by epoch, each run by itself or put together by a label."""
    known = {run.id: run for run in services.runs.shown(body.runs)}
    for place, run_id in enumerate(body.runs):
        if run_id not in known:
            raise Problem.at(f"/runs/{place}", "not_found", f"There is no run {run_id}.")
    if len(body.runs) * len(body.names) * body.max_points > MOST_POINTS:
        message = f"Runs times names times points are {MOST_POINTS} at most; ask for fewer points."
        raise Problem.at("/max_points", "too_large", message)
    groups: dict[str, list[str]] = defaultdict(list)
    for run_id in dict.fromkeys(body.runs):
        groups[run_id if body.group_by is None else known[run_id].labels.get(body.group_by, "")].append(
            run_id
        )
    data = [
        {
            "name": name,
            "group": group,
            "runs": runs,
            **aligned(_series(services.runs, runs, name, body.max_points)),
        }
        for name in dict.fromkeys(body.names)
        for group, runs in groups.items()
    ]
    return {"data": data}


def _series(
    runs: RunStore, run_ids: Sequence[str], name: str, max_points: int
) -> Sequence[Sequence[MetricPoint]]:
    """Points of each run; of several at the same epochs where they have them: between the first and the last of all."""
    if len(run_ids) == 1:
        return [runs.chart(run_ids[0], name, max_points=max_points)]
    ends = [point.epoch for run_id in run_ids for point in runs.spaced(run_id, name, points=2)]
    if not ends:
        return []
    span = min(ends), max(ends)
    return [runs.spaced(run_id, name, points=max_points, span=span) for run_id in run_ids]


def aligned(series: Sequence[Sequence[MetricPoint]]) -> Mapping[str, list[Any]]:
    """Several runs of one metric, by the epochs that any of them has: mean and 95 % interval by Student's t.

    A run that has no point at an epoch is not counted there; an interval takes two runs at least, and finite values.
    """
    by_epoch: dict[int, list[MetricPoint]] = defaultdict(list)
    for points in series:
        for point in points:
            by_epoch[point.epoch].append(point)
    rows = []
    for epoch, points in sorted(by_epoch.items()):
        values = [point.value for point in points]
        low, high = mean_interval(values) or (None, None)
        rows.append((epoch, max(point.step for point in points), mean_of(values), low, high, len(values)))
    columns = zip(*rows, strict=True) if rows else ((),) * 6
    return {
        name: [*column]
        for name, column in zip(("epoch", "step", "mean", "low", "high", "n"), columns, strict=True)
    }
