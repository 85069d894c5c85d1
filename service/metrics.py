"""What ``GET /metrics`` tells Prometheus: HTTP requests, acting, and what the database knows of runs and workers.

Requests and forwards are counted in plain integers of one event loop; requests under the template of their route and
never their path, so that the number of series has a bound. Runs and workers are counted when asked.
"""

from bisect import bisect_left
from collections.abc import Iterator, Sequence

from prometheus_client import CollectorRegistry
from prometheus_client.core import (
    CounterMetricFamily,
    GaugeMetricFamily,
    HistogramMetricFamily,
    Metric,
    SummaryMetricFamily,
)
from prometheus_client.registry import Collector
from starlette.types import Scope

from service.domain.fleet import look
from service.domain.ports import RegistryStore, RunStore
from service.domain.run import RunKind

METHODS = frozenset({"GET", "POST", "PUT", "PATCH", "DELETE", "HEAD", "OPTIONS"})
UNROUTED = "none"
"""Route of requests that were refused before routing, or that have no route."""
_REQUEST_S = (0.0005, 0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 10.0, 60.0)
_FORWARD_S = (2e-05, 5e-05, 0.0001, 0.0002, 0.0005, 0.001, 0.002, 0.005, 0.01, 0.05, 0.25, 1.0, 5.0)
_ROWS = (1, 2, 4, 8, 16, 32, 64, 128, 256, 512, 1024)
_OUTCOMES = {404: "not_found", 409: "conflict", 503: "unavailable"}


class Histogram:
    """Counts per bucket; ``bounds`` are inclusive upper bounds, and one bucket without bound follows."""

    __slots__ = ("bounds", "counts", "total")

    def __init__(self, bounds: Sequence[float]) -> None:
        self.bounds = bounds
        self.counts = [0] * (len(bounds) + 1)
        self.total = 0.0

    def add(self, value: float) -> None:
        """Count one value."""
        self.counts[bisect_left(self.bounds, value)] += 1
        self.total += value

    def cumulative(self) -> list[tuple[str, float]]:
        """Prometheus buckets: ``(le, count of values up to it)``, ending with ``+Inf``."""
        running = 0
        buckets: list[tuple[str, float]] = []
        for label, count in zip([*(f"{bound:g}" for bound in self.bounds), "+Inf"], self.counts, strict=True):
            running += count
            buckets.append((label, running))
        return buckets


class AnswerCounter:
    """Answers of one route, method and status; the seconds are those of the whole route."""

    __slots__ = ("_seconds", "count")

    def __init__(self, seconds: Histogram) -> None:
        self.count = 0
        self._seconds = seconds

    def add(self, seconds: float) -> None:
        """Count one answer."""
        self.count += 1
        self._seconds.add(seconds)


class HttpMetrics(Collector):
    """Counts answers and how long their first byte took."""

    def __init__(self) -> None:
        """Start at zero."""
        self._answers: dict[tuple[str, str, int], AnswerCounter] = {}
        self._seconds: dict[str, Histogram] = {}

    def observe(self, scope: Scope, status: int, seconds: float) -> None:
        """Count one answer."""
        route = str(scope.get("maze.route") or getattr(scope.get("route"), "path", UNROUTED))
        method: str = scope.get("method", "")
        self.counter(route, method, status).add(seconds)

    def counter(self, route: str, method: str, status: int) -> "AnswerCounter":
        """What counts the answers of one kind."""
        key = (route, method if method in METHODS else "other", status)
        counter = self._answers.get(key)
        if counter is None:
            counter = AnswerCounter(self._seconds.setdefault(route, Histogram(_REQUEST_S)))
            self._answers[key] = counter
        return counter

    def collect(self) -> Iterator[Metric]:
        """The counters as metric families."""
        answers = CounterMetricFamily(
            "maze_http_requests", "Answered requests.", labels=["route", "method", "status"]
        )
        for (route, method, status), counter in list(self._answers.items()):
            answers.add_metric([route, method, str(status)], counter.count)
        yield answers
        seconds = HistogramMetricFamily(
            "maze_http_request_seconds", "Seconds until the answer's first byte.", labels=["route"]
        )
        for route, histogram in list(self._seconds.items()):
            seconds.add_metric([route], histogram.cumulative(), histogram.total)
        yield seconds


class ActionMetrics(Collector):
    """What the hot route counts."""

    def __init__(self) -> None:
        """Start at zero."""
        self.outcomes = dict.fromkeys(("ok", "invalid", *_OUTCOMES.values()), 0)
        """Requests by outcome."""
        self.forward_seconds = Histogram(_FORWARD_S)
        """Seconds per forward; those of a whole request are counted for every route alike."""
        self.batch_rows = Histogram(_ROWS)
        """Observations per forward."""
        self.agents_loaded = 0
        self.loads = 0
        self.evictions = 0

    def count_refusal(self, status: int) -> None:
        """Note one request that got a problem."""
        self.outcomes[_OUTCOMES.get(status, "invalid")] += 1

    def collect(self) -> Iterator[Metric]:
        """The counters as metric families."""
        requests = CounterMetricFamily("maze_act_requests", "compute_action requests.", labels=["outcome"])
        for outcome, count in self.outcomes.items():
            requests.add_metric([outcome], count)
        yield requests
        for name, text, histogram in (
            ("maze_act_forward_seconds", "Seconds per forward of a policy.", self.forward_seconds),
            ("maze_act_batch_rows", "Observations per forward.", self.batch_rows),
        ):
            yield HistogramMetricFamily(name, text, buckets=histogram.cumulative(), sum_value=histogram.total)
        yield GaugeMetricFamily("maze_act_agents_loaded", "Agents in memory.", value=self.agents_loaded)
        yield CounterMetricFamily("maze_act_agent_loads", "Agents loaded from checkpoints.", value=self.loads)
        yield CounterMetricFamily("maze_act_agent_evictions", "Agents evicted.", value=self.evictions)


class FleetMetrics(Collector):
    """Runs, their queue and the workers, as the database knows them now."""

    def __init__(self, runs: RunStore, registry: RegistryStore, lease_s: float) -> None:
        """Ask these stores; a worker silent for longer than ``lease_s`` is none."""
        self._runs, self._registry, self._lease_s = runs, registry, lease_s

    def collect(self) -> Iterator[Metric]:
        """The counts as metric families."""
        fleet = look(self._runs, self._registry, self._lease_s)
        labels = ["kind", "state"]
        runs = GaugeMetricFamily("maze_runs", "Runs by kind and state.", labels=labels)
        seconds = SummaryMetricFamily(
            "maze_run_seconds", "Seconds from start to end of ended runs.", labels=labels
        )
        for (kind, state), found in fleet.statistics.items():
            runs.add_metric([kind, state], found.count)
            if state.is_terminal:
                seconds.add_metric([kind, state], found.count, found.seconds)
        yield runs
        yield seconds
        age = GaugeMetricFamily("maze_queue_age_seconds", "Age of the oldest queued run.", labels=["kind"])
        for kind in RunKind:
            age.add_metric([kind], fleet.oldest_s(kind) or 0.0)
        yield age
        yield GaugeMetricFamily("maze_workers", "Workers that are alive.", value=len(fleet.workers))
        slots = GaugeMetricFamily("maze_worker_slots", "Run slots of live workers.", labels=["state"])
        slots.add_metric(["busy"], fleet.n_busy)
        slots.add_metric(["free"], fleet.n_free())
        yield slots


class Telemetry:
    """The registry of one application; nothing process-wide."""

    def __init__(self) -> None:
        """Start with the HTTP counters alone."""
        self.http = HttpMetrics()
        self.registry = CollectorRegistry()
        self.registry.register(self.http)
