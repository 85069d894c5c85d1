"""Phases, progress, metric points, log lines and events: what every run store must do."""

import math
from dataclasses import replace
from itertools import pairwise
from random import Random

import pytest

from service.domain.run import EventType, MetricPoint, Progress, RunKind, RunState, StopReason
from service.store import Stores, open_stores
from tests.contracts.builders import start, submit
from tests.contracts.threads import in_threads

ALL_KINDS = list(RunKind)


def point(name: str, epoch: int, value: float, step: int = 0) -> MetricPoint:
    return MetricPoint(name=name, epoch=epoch, step=step, value=value)


class ReportContract:
    """Phases, progress, metric points, log lines and events."""

    def test_a_phase_is_news_once(self, stores: Stores) -> None:
        run, lease = start(stores)
        for phase in ("building", "building", "training"):
            stores.runs.report(lease, phase=phase)
        assert stores.runs.get(run.id).phase == "training"
        phases = [event.data for event in stores.runs.events(run.id) if event.type is EventType.PHASE]
        assert phases == [{"phase": "building"}, {"phase": "training"}]

    def test_the_phase_is_over_when_nobody_works_on_the_run(self, stores: Stores) -> None:
        _, lease = start(stores)
        stores.runs.report(lease, phase="training")
        assert stores.runs.release(lease, reason="shutdown", charge_attempt=False).phase is None

    def test_progress_is_the_last_one_reported(self, stores: Stores) -> None:
        run, lease = start(stores)
        last = Progress(epoch=2, n_epochs=30, env_steps=2048, fraction=2 / 30, eta_s=12.5)
        for progress in (Progress(epoch=1), last):
            stores.runs.report(lease, progress=progress)
        assert stores.runs.get(run.id).progress == last

    @pytest.mark.parametrize(
        ("state", "fraction", "eta_s"),
        [
            (RunState.SUCCEEDED, 1.0, 0.0),  # also where a target or a budget ended it
            (RunState.FAILED, 0.5, None),
            (RunState.CANCELLED, 0.5, None),
        ],
    )
    def test_the_progress_of_an_ended_run_waits_for_nothing(
        self, stores: Stores, state: RunState, fraction: float, eta_s: float | None
    ) -> None:
        run, lease = start(stores)
        half = Progress(epoch=15, n_epochs=30, env_steps=2048, fraction=0.5, eta_s=12.5)
        stores.runs.report(lease, progress=half)
        if state is RunState.CANCELLED:
            stores.runs.request_stop(run.id, StopReason.CANCEL)
        stores.runs.finish(lease, state, reason="target_reached")
        assert stores.runs.get(run.id).progress == replace(half, fraction=fraction, eta_s=eta_s)

    def test_metric_points_come_by_epoch_then_name(self, stores: Stores) -> None:
        run, lease = start(stores)
        for epoch in (2, 1, 3):
            stores.runs.report(
                lease, metrics=[point("b", epoch, epoch), point("a", epoch, -epoch, step=epoch * 10)]
            )

        def keys(**filters: object) -> list[tuple[str, int]]:
            return [(p.name, p.epoch) for p in stores.runs.metrics(run.id, **filters)]  # type: ignore[arg-type]

        assert keys() == [("a", 1), ("b", 1), ("a", 2), ("b", 2), ("a", 3), ("b", 3)]
        assert keys(names=["a"]) == [("a", 1), ("a", 2), ("a", 3)]
        assert keys(after_epoch=2) == [("a", 3), ("b", 3)]
        assert keys(before_epoch=2) == [("a", 1), ("b", 1)]
        assert keys(after_epoch=1, before_epoch=3) == [("a", 2), ("b", 2)]
        assert keys(limit=3) == [("a", 1), ("b", 1), ("a", 2)]
        first = stores.runs.metrics(run.id)[0]
        assert (first.step, first.value, first.at is not None) == (10, -1.0, True)

    @pytest.mark.parametrize(("n_points", "points"), [(1, 2), (2, 2), (50, 7), (50, 50), (50, 400), (7, 3)])
    def test_spaced_points_are_the_first_the_last_and_evenly_between_as_they_are_stored(
        self, stores: Stores, n_points: int, points: int
    ) -> None:
        run, lease = start(stores)
        made = [
            MetricPoint(name=name, epoch=3 * epoch + 1, step=epoch, value=float(epoch))
            for epoch in range(n_points)
            for name in ("a", "b", "loss")
        ]
        stores.runs.report(lease, metrics=made)
        stored = stores.runs.metrics(run.id, names=["b"])
        found = stores.runs.spaced(run.id, "b", points=points)
        assert len(found) == min(points, n_points)
        assert [point for point in stored if point in found] == found
        assert (found[0], found[-1]) == (stored[0], stored[-1])
        gaps = [after.step - before.step for before, after in pairwise(found)]
        assert max(gaps, default=1) - min(gaps, default=1) <= 1
        assert stores.runs.spaced(run.id, "y", points=3) == []

    @pytest.mark.parametrize(
        ("max_points", "after_epoch", "before_epoch", "step"),
        [(8, None, None, 1), (40, None, None, 1), (40, 777, None, 1), (100, 12, None, 3), (40, 700, 4001, 1)],
    )
    @pytest.mark.parametrize("seed", range(3))
    def test_a_chart_has_the_extremes_of_the_whole_and_of_every_stretch(
        self,
        stores: Stores,
        max_points: int,
        after_epoch: int | None,
        before_epoch: int | None,
        step: int,
        seed: int,
    ) -> None:
        """Points come in reports of any size, some again with another value, as after a resume; some are not finite."""
        random = Random(seed)
        run, lease = start(stores)
        values: dict[int, float] = {}
        epoch = 0
        while epoch < 5000:
            begin = max(0, epoch - random.choice([0, 0, 300]))
            epoch += random.choice([1, 15, 700])
            fresh = {at: random.gauss(0, 1) for at in range(begin, epoch, step)}
            values |= fresh
            stores.runs.report(lease, metrics=[point("x", at, value, at) for at, value in fresh.items()])
        odd = {1500: math.inf, 2401: -math.inf, 3300: math.nan, 3301: math.nan}
        stores.runs.report(lease, metrics=[point("x", at, value, at) for at, value in odd.items()])
        stores.runs.report(lease, metrics=[point("other", at, 1e9, at) for at in (3, 4000)])
        values |= odd
        span = range(0 if after_epoch is None else after_epoch + 1, before_epoch or epoch)
        known = [at for at in sorted(values) if at in span]
        chart = stores.runs.chart(
            run.id, "x", max_points=max_points, after_epoch=after_epoch, before_epoch=before_epoch
        )
        shown = [found.epoch for found in chart]
        assert shown == sorted(set(shown))
        assert len(shown) <= max_points
        assert all(str(found.value) == str(values[found.epoch]) for found in chart)
        assert (shown[0], shown[-1]) == (known[0], known[-1])
        assert {at for at in (1500, 2401) if at in known} <= set(shown)
        assert any(math.isnan(found.value) for found in chart)
        stretch = 1.5 * (known[-1] - known[0]) / (max_points // 3 - 1) + 16
        for at in known[:: len(known) // 500 + 1]:
            near = [values[epoch] for epoch in shown if abs(epoch - at) <= stretch]
            if math.isfinite(values[at]):
                assert any(value >= values[at] for value in near)
                assert any(value <= values[at] for value in near)

    def test_a_chart_of_few_epochs_has_all_points_and_may_be_empty(self, stores: Stores) -> None:
        run, lease = start(stores)
        made = [MetricPoint(name="x", epoch=epoch, step=epoch, value=math.nan) for epoch in range(10)]
        stores.runs.report(lease, metrics=made)
        chart = stores.runs.chart(run.id, "x", max_points=8, after_epoch=5)
        assert [point.epoch for point in chart] == [6, 7, 8, 9]
        assert all(math.isnan(point.value) for point in chart)
        assert stores.runs.chart(run.id, "x", max_points=8, after_epoch=9) == []
        assert stores.runs.chart(run.id, "y", max_points=8) == []

    def test_a_chart_reaches_the_largest_epoch(self, stores: Stores) -> None:
        run, lease = start(stores)
        epochs = [0, 1, 2**31 - 1]
        made = [MetricPoint(name="x", epoch=epoch, step=epoch, value=float(epoch)) for epoch in epochs]
        stores.runs.report(lease, metrics=made)
        assert [point.epoch for point in stores.runs.chart(run.id, "x", max_points=1000)] == epochs

    def test_a_point_that_is_written_again_replaces_the_old(self, stores: Stores) -> None:
        run, lease = start(stores)
        stores.runs.report(lease, metrics=[point("a", 1, 1.0, step=5)])
        stores.runs.report(lease, metrics=[point("a", 1, 2.0, step=6), point("a", 1, 3.0, step=7)])
        assert [(p.value, p.step) for p in stores.runs.metrics(run.id)] == [(3.0, 7)]

    def test_values_that_are_not_finite_come_back_as_they_were(self, stores: Stores) -> None:
        run, lease = start(stores)
        given = {"inf": math.inf, "minus_inf": -math.inf, "nan": math.nan, "tiny": 5e-324, "third": 1 / 3}
        finite_or_infinite = {name: value for name, value in given.items() if name != "nan"}
        stores.runs.report(lease, metrics=[point(name, 1, value) for name, value in given.items()])
        stored = {p.name: p.value for p in stores.runs.metrics(run.id)}
        event = stores.runs.events(run.id)[-1]
        for values in (stored, stores.runs.get(run.id).latest_metrics, event.data["values"]):
            assert math.isnan(values["nan"])
            assert {name: value for name, value in values.items() if name != "nan"} == finite_or_infinite

    def test_the_latest_metrics_are_each_name_at_its_last_epoch(self, stores: Stores) -> None:
        run, lease = start(stores)
        stores.runs.report(lease, metrics=[point("loss", 1, 0.5), point("eval", 1, 10.0)])
        stores.runs.report(lease, metrics=[point("loss", 3, 0.3), point("loss", 2, 0.4)])
        assert stores.runs.get(run.id).latest_metrics == {"loss": 0.3, "eval": 10.0}

    def test_metrics_make_one_event_per_epoch(self, stores: Stores) -> None:
        run, lease = start(stores)
        stores.runs.report(
            lease, metrics=[point("a", 1, 1.0, 8), point("b", 1, 2.0, 8), point("a", 2, 3.0, 16)]
        )
        events = [event.data for event in stores.runs.events(run.id) if event.type is EventType.METRICS]
        assert events == [
            {"epoch": 1, "step": 8, "values": {"a": 1.0, "b": 2.0}},
            {"epoch": 2, "step": 16, "values": {"a": 3.0}},
        ]

    def test_log_lines_are_numbered_on_over_reports(self, stores: Stores) -> None:
        run, lease = start(stores)
        stores.runs.report(lease, logs=[("info", "one"), ("warning", "two")])
        stores.runs.report(lease, logs=[("error", "three")])
        lines = stores.runs.logs(run.id)
        assert [(line.seq, line.level, line.message) for line in lines] == [
            (1, "info", "one"),
            (2, "warning", "two"),
            (3, "error", "three"),
        ]
        assert [line.seq for line in stores.runs.logs(run.id, after=1, limit=1)] == [2]
        assert [line.seq for line in stores.runs.logs(run.id, before=3, limit=1)] == [2]
        assert [line.seq for line in stores.runs.logs(run.id, before=2**53 - 1, limit=2)] == [2, 3]

    @pytest.mark.parametrize("message", ["a\x00b", "half \ud800 pair", "\U0001f600 é \r\n \x1b[31m"])
    def test_a_log_line_of_any_characters_is_kept(self, stores: Stores, message: str) -> None:
        run, lease = start(stores)
        stores.runs.report(lease, logs=[("info", message)])
        (line,) = stores.runs.logs(run.id)
        assert line.message == message.replace("\x00", "\ufffd").replace("\ud800", "\ufffd" * 3)

    def test_given_events_follow_those_that_the_report_makes(self, stores: Stores) -> None:
        run, lease = start(stores)
        stores.runs.report(
            lease,
            phase="training",
            metrics=[point("a", 1, 1.0)],
            events=[(EventType.WARNING, {"message": "slow"})],
        )
        types = [event.type for event in stores.runs.events(run.id, after=2)]
        assert types == [EventType.PHASE, EventType.METRICS, EventType.WARNING]

    def test_events_are_numbered_without_gaps_whoever_writes(self, stores: Stores) -> None:
        run, lease = start(stores)

        def report() -> None:
            for _ in range(5):
                stores.runs.report(lease, events=[(EventType.PROGRESS, {}), (EventType.PROGRESS, {})])

        in_threads(report, 4)
        assert [event.seq for event in stores.runs.events(run.id)] == list(range(1, 43))
        assert [event.seq for event in stores.runs.events(run.id, after=40, limit=1)] == [41]

    def test_times_are_in_order_and_in_utc(self, stores: Stores) -> None:
        run, lease = start(stores)
        ended = stores.runs.finish(lease, RunState.SUCCEEDED, reason="completed")
        assert ended.started_at is not None
        assert ended.finished_at is not None
        assert ended.created_at <= ended.started_at <= ended.finished_at
        assert str(ended.created_at.tzinfo) == "UTC"
        moments = [event.at for event in stores.runs.events(run.id)]
        assert moments == sorted(moments)

    def test_the_change_marker_moves_with_every_write_of_anyone(
        self, stores: Stores, database_url: str
    ) -> None:
        other = open_stores(database_url)
        try:
            markers = [stores.runs.change_marker()]
            run = submit(other)
            markers.append(stores.runs.change_marker())
            submit(stores)
            markers.append(stores.runs.change_marker())
            other.runs.request_stop(run.id, StopReason.CANCEL)
            markers.append(stores.runs.change_marker())
        finally:
            other.close()
        assert len(set(markers)) == 4
