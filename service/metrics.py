"""What ``GET /metrics`` tells Prometheus: HTTP, acting, runs, workers, and what is stored.

Requests and forwards are counted in plain integers of one event loop; requests under the template of their route and
never their path, so that the number of series has a bound. Runs, workers and stores are asked when somebody asks.
A part that has figures of its own registers a collector with :attr:`Telemetry.registry`.
"""

import threading
from bisect import bisect_left
from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from datetime import datetime
from typing import Protocol

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

from service.domain.fleet import Storage, look
from service.domain.ports import RegistryStore, RunStore
from service.domain.run import Event, EventType, RunKind, RunState
from service.domain.sessions import SessionEnd
from service.http_server import Connections

METHODS = frozenset({"GET", "POST", "PUT", "PATCH", "DELETE", "HEAD", "OPTIONS"})
UNROUTED = "none"
"""Route of requests that were refused before routing, or that have no route."""
_REQUEST_S = (0.0005, 0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 10.0, 60.0)
_FORWARD_S = (2e-05, 5e-05, 0.0001, 0.0002, 0.0005, 0.001, 0.002, 0.005, 0.01, 0.05, 0.25, 1.0, 5.0)
_RUN_S = (0.1, 0.5, 1.0, 5.0, 15.0, 60.0, 300.0, 900.0, 3600.0, 4 * 3600.0, 24 * 3600.0)
_PAGE = 500
_TIMED = (RunState.QUEUED, RunState.RUNNING, RunState.STOPPING)
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
        self.queue_seconds = Histogram(_FORWARD_S)
        """Seconds that the first observations of a forward have waited; those computed at once are not counted."""
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
            ("maze_act_queue_seconds", "Seconds in which the first of a batch waited.", self.queue_seconds),
            ("maze_act_forward_seconds", "Seconds per forward of a policy.", self.forward_seconds),
            ("maze_act_batch_rows", "Observations per forward.", self.batch_rows),
        ):
            yield HistogramMetricFamily(name, text, buckets=histogram.cumulative(), sum_value=histogram.total)
        yield GaugeMetricFamily("maze_act_agents_loaded", "Agents in memory.", value=self.agents_loaded)
        yield CounterMetricFamily("maze_act_agent_loads", "Agents loaded from checkpoints.", value=self.loads)
        yield CounterMetricFamily("maze_act_agent_evictions", "Agents evicted.", value=self.evictions)


class SessionMetrics(Collector):
    """Sessions of acting."""

    def __init__(self, n_open: Callable[[], int]) -> None:
        """Start at zero; ``n_open`` says how many are open now."""
        self._n_open = n_open
        self.opened = 0
        self.ended = dict.fromkeys(SessionEnd, 0)
        """Sessions by why they ended."""
        self.steps = 0
        """That were answered, each once."""

    def collect(self) -> Iterator[Metric]:
        """The counters as metric families."""
        yield GaugeMetricFamily("maze_sessions", "Open sessions.", value=self._n_open())
        yield CounterMetricFamily("maze_sessions_opened", "Sessions that began.", value=self.opened)
        ended = CounterMetricFamily("maze_sessions_ended", "Sessions that ended, by why.", labels=["reason"])
        for reason, count in self.ended.items():
            ended.add_metric([reason], count)
        yield ended
        text = "Steps of sessions; one that is sent again is one."
        yield CounterMetricFamily("maze_session_steps", text, value=self.steps)


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
        silent_s = max((worker.silent_s for worker in fleet.workers), default=0.0)
        text = "Seconds since the last sign of life of the live worker that is silent for longest."
        yield GaugeMetricFamily("maze_worker_silent_seconds", text, value=silent_s)
        slots = GaugeMetricFamily("maze_worker_slots", "Run slots of live workers.", labels=["state"])
        slots.add_metric(["busy"], fleet.n_busy)
        slots.add_metric(["free"], fleet.n_free())
        yield slots


class RunMetrics(Collector):
    """What happened to runs since this was first asked: the feed of all runs' events is read on from there."""

    def __init__(self, runs: RunStore) -> None:
        """Read the feed of this store."""
        self._runs = runs
        self._lock = threading.Lock()
        self._position: int | None = None
        self._since: dict[str, datetime] = {}
        """When a run came into the queue, or to a worker."""
        self._moves: Counter[tuple[str, str, str]] = Counter()
        self._wait_seconds, self._attempt_seconds = Histogram(_RUN_S), Histogram(_RUN_S)

    def collect(self) -> Iterator[Metric]:
        """The counts as metric families."""
        with self._lock:
            self._read()
            moves = CounterMetricFamily(
                "maze_run_transitions", "Changes of runs' states.", labels=["from", "to", "reason"]
            )
            for labels, count in self._moves.items():
                moves.add_metric(labels, count)
            yield moves
            expired = sum(count for (*_, why), count in self._moves.items() if why == "lease_expired")
            text = "Runs taken from workers that fell silent."
            yield CounterMetricFamily("maze_leases_expired", text, value=expired)
            for name, text, histogram in (
                (
                    "maze_queue_wait_seconds",
                    "Seconds in the queue, of runs that left it.",
                    self._wait_seconds,
                ),
                (
                    "maze_attempt_seconds",
                    "Seconds with a worker, of attempts that ended.",
                    self._attempt_seconds,
                ),
            ):
                buckets, total = histogram.cumulative(), histogram.total
                yield HistogramMetricFamily(name, text, buckets=buckets, sum_value=total)

    def _read(self) -> None:
        if self._position is None:
            self._position = self._runs.feed_end()
        while events := self._runs.feed(types=[EventType.STATE], after=self._position, limit=_PAGE):
            for event in events:
                self._count(event)
            self._position = events[-1].position

    def _count(self, event: Event) -> None:
        before, state = event.data["from"], event.data["state"]
        self._moves[before or "none", state, event.data["reason"] or "none"] += 1
        if state == RunState.STOPPING:
            return  # it is still with its worker
        since = self._since.pop(event.run_id, None) or self._entered(event)
        if since is not None and before in _TIMED:
            histogram = self._wait_seconds if before == RunState.QUEUED else self._attempt_seconds
            histogram.add(max(0.0, (event.at - since).total_seconds()))
        if not RunState(state).is_terminal:
            self._since[event.run_id] = event.at

    def _entered(self, event: Event) -> datetime | None:
        """When a run came to where it left, of one that was there when counting began."""
        if event.data["from"] is None:
            return None
        known = self._runs.events(event.run_id, types=[EventType.STATE], limit=_PAGE)
        earlier = [
            each.at for each in known if each.seq < event.seq and each.data["state"] != RunState.STOPPING
        ]
        return earlier[-1] if earlier else None


class Transactions(Protocol):
    """Those of one kind, since the process began."""

    n: int
    n_unavailable: int
    seconds: float


class StoreMetrics(Collector):
    """The database, and how much is stored."""

    def __init__(self, transactions: Mapping[str, Transactions], storage: Callable[[], Storage]) -> None:
        """Tell what this process did with the database, by kind, and what ``storage`` measures."""
        self._transactions, self._storage = transactions, storage

    def collect(self) -> Iterator[Metric]:
        """The counts as metric families."""
        text = "Seconds of this process's transactions, with the time that they waited for their turn."
        seconds = SummaryMetricFamily("maze_db_transaction_seconds", text, labels=["kind"])
        text = "Transactions for which the database was busy, full or away."
        unavailable = CounterMetricFamily("maze_db_unavailable", text, labels=["kind"])
        for kind, found in self._transactions.items():
            seconds.add_metric([kind], found.n, found.seconds)
            unavailable.add_metric([kind], found.n_unavailable)
        yield seconds
        yield unavailable
        storage = self._storage()
        stored = GaugeMetricFamily("maze_stored_bytes", "What is stored.", labels=["what"])
        stored.add_metric(["database"], storage.size_bytes)
        stored.add_metric(["blobs"], storage.blob_bytes)
        yield stored
        if storage.free_bytes is not None:
            text = "Room left where database and blobs lie."
            yield GaugeMetricFamily("maze_disk_free_bytes", text, value=storage.free_bytes)


class ConnectionMetrics(Collector):
    """Open connections and streams."""

    def __init__(self, connections: Connections, n_streams: Callable[[], int]) -> None:
        """Tell of these."""
        self._connections, self._n_streams = connections, n_streams

    def collect(self) -> Iterator[Metric]:
        """The counts as metric families."""
        yield GaugeMetricFamily("maze_connections", "Open connections.", value=self._connections.n)
        text = "Connections that were too many."
        yield CounterMetricFamily("maze_connections_refused", text, value=self._connections.n_refused)
        text = "Requests that were answered before the application saw them: unreadable, late or too large."
        answered = CounterMetricFamily("maze_http_edge_answers", text, labels=["status"])
        for status, count in self._connections.answered.items():
            answered.add_metric([str(status)], count)
        yield answered
        text = "Connections that were closed because their client was too slow."
        yield CounterMetricFamily("maze_connections_late", text, value=self._connections.n_late)
        yield GaugeMetricFamily("maze_event_streams", "Open event streams.", value=self._n_streams())


class Telemetry:
    """The registry of one application; nothing process-wide."""

    def __init__(self) -> None:
        """Start with the HTTP counters alone."""
        self.http = HttpMetrics()
        self.registry = CollectorRegistry()
        self.registry.register(self.http)
