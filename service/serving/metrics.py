"""Counters of the hot route: plain integers that one event loop adds to, read by ``GET /metrics``.

No run ids as labels: their number has no bound.
"""

from bisect import bisect_left
from collections.abc import Iterator, Sequence
from typing import Any

from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, HistogramMetricFamily, Metric

_OUTCOMES = {404: "not_found", 409: "conflict", 503: "unavailable"}
_SECONDS = (2e-05, 5e-05, 0.0001, 0.0002, 0.0005, 0.001, 0.002, 0.005, 0.01, 0.05, 0.25, 1.0, 5.0)
_ROWS = (1, 2, 4, 8, 16, 32, 64, 128, 256, 512, 1024)


class Histogram:
    """Counts per bucket; ``bounds`` are inclusive upper bounds, and one bucket without bound follows."""

    __slots__ = ("bounds", "counts", "total")

    def __init__(self, bounds: Sequence[float]) -> None:
        self.bounds = tuple(bounds)
        self.counts = [0] * (len(bounds) + 1)
        self.total = 0.0

    def add(self, value: float) -> None:
        """Count one value."""
        self.counts[bisect_left(self.bounds, value)] += 1
        self.total += value

    def cumulative(self) -> list[tuple[str, float]]:
        """Prometheus buckets: ``(le, count of values up to it)``, ending with ``+Inf``."""
        labels = [*(f"{bound:g}" for bound in self.bounds), "+Inf"]
        running = 0
        buckets: list[tuple[str, float]] = []
        for label, count in zip(labels, self.counts, strict=True):
            running += count
            buckets.append((label, running))
        return buckets

    def to_dict(self) -> dict[str, Any]:
        """``{count, sum, buckets: {le: count}}``."""
        return {"count": sum(self.counts), "sum": self.total, "buckets": dict(self.cumulative())}


class ActionMetrics:
    """What the hot route counts; a collector for a ``prometheus_client`` registry."""

    def __init__(self) -> None:
        self.n_ok = 0
        self.refusals: dict[str, int] = dict.fromkeys(("invalid", *_OUTCOMES.values()), 0)
        self.forward_seconds = Histogram(_SECONDS)
        """Seconds per forward; those of a whole request are counted for every route alike, elsewhere."""
        self.batch_rows = Histogram(_ROWS)
        """Observations per forward."""
        self.agents_loaded = 0
        self.loads = 0
        self.evictions = 0

    def count_refusal(self, status: int) -> None:
        """Note one request that got a problem."""
        self.refusals[_OUTCOMES.get(status, "invalid")] += 1

    def outcomes(self) -> dict[str, int]:
        """Requests by outcome."""
        return {"ok": self.n_ok, **self.refusals}

    def to_dict(self) -> dict[str, Any]:
        """Everything as plain JSON."""
        return {
            "requests": self.outcomes(),
            "forward_seconds": self.forward_seconds.to_dict(),
            "batch_rows": self.batch_rows.to_dict(),
            "agents_loaded": self.agents_loaded,
            "agent_loads": self.loads,
            "agent_evictions": self.evictions,
        }

    def collect(self) -> Iterator[Metric]:
        """Metric families for ``CollectorRegistry.register``."""
        requests = CounterMetricFamily("maze_act_requests", "compute_action requests.", labels=["outcome"])
        for outcome, count in self.outcomes().items():
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
