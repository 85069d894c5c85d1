"""``GET /metrics`` for Prometheus: runs, HTTP requests, and what other parts register.

Requests are counted in plain integers of one event loop, under the template of their route and never their
path, so that the number of series has a bound.
"""

from bisect import bisect_left
from collections.abc import Iterator, Sequence

from fastapi import APIRouter, Request, Response
from prometheus_client import CONTENT_TYPE_LATEST, CollectorRegistry, generate_latest
from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, HistogramMetricFamily, Metric
from prometheus_client.registry import Collector
from starlette.types import Scope

from service.domain.ports import RunStore

BUCKETS_S = (0.0005, 0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 10.0, 60.0)
METHODS = frozenset({"GET", "POST", "PUT", "PATCH", "DELETE", "HEAD", "OPTIONS"})
UNROUTED = "none"
"""Route of requests that were refused before routing, or that have no route."""

router = APIRouter(tags=["service"])


class HttpMetrics(Collector):
    """Counts answers and how long their first byte took."""

    def __init__(self) -> None:
        """Start at zero."""
        self._answers: dict[tuple[str, str, int], int] = {}
        self._seconds: dict[str, list[int]] = {}
        self._totals: dict[str, float] = {}

    def observe(self, scope: Scope, status: int, seconds: float) -> None:
        """Count one answer."""
        route = str(scope.get("maze.route") or getattr(scope.get("route"), "path", UNROUTED))
        method: str = scope.get("method", "")
        key = (route, method if method in METHODS else "other", status)
        self._answers[key] = self._answers.get(key, 0) + 1
        counts = self._seconds.get(route)
        if counts is None:
            counts = self._seconds[route] = [0] * (len(BUCKETS_S) + 1)
        counts[bisect_left(BUCKETS_S, seconds)] += 1
        self._totals[route] = self._totals.get(route, 0.0) + seconds

    def collect(self) -> Iterator[Metric]:
        """The counters as metric families."""
        answers = CounterMetricFamily(
            "maze_http_requests", "Answered requests.", labels=["route", "method", "status"]
        )
        for (route, method, status), count in list(self._answers.items()):
            answers.add_metric([route, method, str(status)], count)
        yield answers
        seconds = HistogramMetricFamily(
            "maze_http_request_seconds", "Seconds until the answer's first byte.", labels=["route"]
        )
        for route, counts in list(self._seconds.items()):
            seconds.add_metric([route], _cumulative(counts), self._totals[route])
        yield seconds


class RunMetrics(Collector):
    """Number of runs by kind and state, counted when asked."""

    def __init__(self, runs: RunStore) -> None:
        """Count the runs of this store."""
        self._runs = runs

    def collect(self) -> Iterator[Metric]:
        """The counts as a metric family."""
        family = GaugeMetricFamily("maze_runs", "Runs by kind and state.", labels=["kind", "state"])
        for (kind, state), count in self._runs.counts().items():
            family.add_metric([kind.value, state.value], count)
        yield family


class Telemetry:
    """The registry of one application; nothing process-wide."""

    def __init__(self) -> None:
        """Start with the HTTP counters alone."""
        self.http = HttpMetrics()
        self.registry = CollectorRegistry()
        self.registry.register(self.http)


@router.get("/metrics", response_class=Response)
def get_prometheus_metrics(request: Request) -> Response:
    """Metrics of this process and the runs, in Prometheus' text format."""
    telemetry: Telemetry = request.app.state.telemetry
    return Response(generate_latest(telemetry.registry), media_type=CONTENT_TYPE_LATEST)


def _cumulative(counts: Sequence[int]) -> list[tuple[str, float]]:
    total = 0.0
    buckets = []
    for bound, count in zip([*map(str, BUCKETS_S), "+Inf"], counts, strict=True):
        total += count
        buckets.append((bound, total))
    return buckets
