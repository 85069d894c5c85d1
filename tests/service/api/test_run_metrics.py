"""Metrics as a table, as a picture and side by side: what is drawn is what was stored."""

import csv
import io
import math
import sys
from datetime import UTC, datetime, timedelta
from typing import Any
from xml.etree import ElementTree

import hypothesis.strategies as st
import pytest
from hypothesis import given

from maze_core.evaluation.interquartile import interquartile_interval
from service.api import run_metrics
from service.api.curve import nice_ticks, svg
from service.api.run_metrics import Series, aligned
from service.api.tables import PARQUET
from service.domain.run import MetricPoint, Progress, RunState
from service.store import Stores
from tests.contracts.builders import start
from tests.service.api.client import Client


@pytest.fixture
def parquet() -> Any:
    return pytest.importorskip("pyarrow.parquet")


def points(name: str, values: dict[int, float]) -> list[MetricPoint]:
    return [
        MetricPoint(name=name, epoch=epoch, step=10 * epoch, value=value) for epoch, value in values.items()
    ]


class TestTable:
    def test_every_point_is_a_line_whatever_the_page(self, client: Client, stores: Stores) -> None:
        run, lease = start(stores)
        metrics = points("a,b", {1: 0.5, 2: math.nan}) + points("c", {1: -math.inf, 3: 1e-300})
        stores.runs.report(lease, metrics=metrics)
        answer = client.get(f"/v1/runs/{run.id}/metrics?limit=1", headers={"Accept": "text/csv"})
        assert answer.headers["content-type"].startswith("text/csv")
        rows = list(csv.DictReader(io.StringIO(answer.text)))
        assert [(row["name"], row["epoch"], row["step"], row["value"]) for row in rows] == [
            ("a,b", "1", "10", "0.5"), ("c", "1", "10", "-inf"), ("a,b", "2", "20", "nan"), ("c", "3", "30", "1e-300"),
        ]  # fmt: skip

    def test_as_parquet_every_column_has_its_type_and_nan_stays_nan(
        self, client: Client, stores: Stores, parquet: Any
    ) -> None:
        run, lease = start(stores)
        metrics = points("a,b", {1: 0.5, 2: math.nan}) + points("c", {1: -math.inf, 3: 1e-300})
        stores.runs.report(lease, metrics=metrics)
        answer = client.get(f"/v1/runs/{run.id}/metrics", headers={"Accept": PARQUET})
        assert answer.headers["content-type"] == PARQUET
        table = parquet.read_table(io.BytesIO(answer.content))
        kinds = {field.name: str(field.type) for field in table.schema}
        assert kinds == {
            "name": "string", "epoch": "int32", "step": "int64", "value": "double", "at": "timestamp[us, tz=UTC]",
        }  # fmt: skip
        assert table["value"].null_count == 0
        stored = stores.runs.metrics(run.id)
        assert table["name"].to_pylist() == [point.name for point in stored]
        assert table["at"].to_pylist() == [point.at for point in stored]
        assert list(map(str, table["value"].to_pylist())) == ["0.5", "-inf", "nan", "1e-300"]
        empty = client.get(f"/v1/runs/{run.id}/metrics?names=none", headers={"Accept": PARQUET})
        assert parquet.read_table(io.BytesIO(empty.content)).num_rows == 0

    def test_more_points_than_one_row_group_are_all_there(
        self, client: Client, stores: Stores, parquet: Any, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setattr(run_metrics, "TABLE_ROWS", 3)
        run, lease = start(stores)
        stores.runs.report(lease, metrics=points("a", {epoch: epoch / 7 for epoch in range(10)}))
        answer = client.get(f"/v1/runs/{run.id}/metrics", headers={"Accept": PARQUET})
        assert parquet.read_table(io.BytesIO(answer.content))["epoch"].to_pylist() == list(range(10))

    def test_without_pyarrow_the_extra_is_named(
        self, client: Client, stores: Stores, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        run, _ = start(stores)
        monkeypatch.setitem(sys.modules, "pyarrow", None)
        answer = client.get(f"/v1/runs/{run.id}/metrics", headers={"Accept": PARQUET})
        assert (answer.status_code, answer.json()["code"]) == (406, "not_acceptable")
        assert "maze-service[parquet]" in answer.json()["detail"]

    @pytest.mark.parametrize(
        ("accept", "form"),
        [
            ("text/csv;q=0.5, application/json;q=0.4", "text/csv"),
            ("text/csv;q=0.4, application/json;q=0.5", "application/json"),
            ("text/*", "text/csv"),
            ("*/*;q=0.1, text/csv", "text/csv"),
            ("application/json;q=0, */*", "text/csv"),
            (f"{PARQUET};q=0, text/csv;q=0.001", "text/csv"),
            ("text/html", "application/json"),
            ("TEXT/CSV; header=present; q=1.0, application/json;q=0.999", "text/csv"),
            ("", "application/json"),
        ],
    )
    def test_the_form_that_is_wanted_most_is_taken(
        self, client: Client, stores: Stores, accept: str, form: str
    ) -> None:
        run, _ = start(stores)
        answer = client.get(f"/v1/runs/{run.id}/metrics", headers={"Accept": accept})
        assert answer.headers["content-type"].partition(";")[0] == form

    def test_who_takes_json_gets_json(self, client: Client, stores: Stores) -> None:
        run, _ = start(stores)
        for accept in ("*/*", "application/json, text/csv"):
            answer = client.get(f"/v1/runs/{run.id}/metrics", headers={"Accept": accept})
            assert answer.json()["data"] == []

    @pytest.mark.parametrize("query", ["cursor=zzz", "max_points=9", "names=" + "a," * 70])
    def test_a_mistake_is_told_before_the_table_begins(
        self, client: Client, stores: Stores, query: str
    ) -> None:
        run, _ = start(stores)
        answer = client.get(f"/v1/runs/{run.id}/metrics?{query}", headers={"Accept": "text/csv"})
        assert (answer.status_code, answer.json()["errors"][0]["parameter"]) == (422, query.partition("=")[0])


class TestCurve:
    def test_it_draws_what_the_best_policy_is_judged_by_and_escapes_names(
        self, client: Client, stores: Stores
    ) -> None:
        run, lease = start(stores, name="<script>&")
        stores.runs.report(
            lease, metrics=points("eval/mean_return", {1: 0.0, 2: 10.0}) + points("x", {1: 5.0})
        )
        answer = client.get(f"/v1/runs/{run.id}/curve.svg")
        assert answer.headers["content-type"] == "image/svg+xml"
        texts = {element.text for element in ElementTree.fromstring(answer.text).iter()}
        assert "<script>&: eval/mean_return" in texts
        assert "<script>&: x" in client.get(f"/v1/runs/{run.id}/curve.svg?name=x").text.replace(
            "&lt;script&gt;&amp;", "<script>&"
        )

    def test_a_metric_that_there_is_not_is_told_with_those_there_are(
        self, client: Client, stores: Stores
    ) -> None:
        run, lease = start(stores)
        stores.runs.report(lease, metrics=points("loss", {1: 0.0}))
        answer = client.get(f"/v1/runs/{run.id}/curve.svg")
        assert (answer.status_code, "it has loss" in answer.json()["detail"]) == (404, True)

    def test_a_line_has_a_gap_where_a_value_is_none(self) -> None:
        drawn = ElementTree.fromstring(svg([(1, 0.0), (2, math.nan), (3, 1.0), (5, 0.5)], "t"))
        line = [path.get("d") for path in drawn.iter("{http://www.w3.org/2000/svg}path")][-1]
        assert line is not None
        assert (line.count("M"), line.count("L")) == (2, 1)
        places = [
            tuple(map(float, place.split()))
            for place in line.replace("h0", "").replace("L", "M").split("M")[1:]
        ]
        assert places[0][1] > places[2][1] > places[1][1], "up is more"
        assert places[2][0] - places[1][0] == pytest.approx(places[1][0] - places[0][0], abs=0.2)

    @given(st.floats(-1e300, 1e300), st.floats(-1e300, 1e300))
    def test_ticks_are_few_and_hold_all_values(self, one: float, other: float) -> None:
        low, high = sorted((one, other))
        ticks = nice_ticks(low, high)
        assert 2 <= len(ticks) <= 7
        assert ticks[0] < ticks[-1]
        slack = 1e-6 * max(abs(low), abs(high))
        assert ticks[0] <= low + slack
        assert ticks[-1] >= high - slack

    @pytest.mark.parametrize(
        "values", [(1e17,), (1e16, 1e16), (-1.7e308, 1.7e308), (1e15, 1e15 + 0.125), (0.0, 5e-324)]
    )
    def test_any_finite_values_and_any_name_can_be_drawn(self, values: tuple[float, ...]) -> None:
        drawn = svg(list(enumerate(values)), "a\x01b\ud800")
        assert ElementTree.fromstring(drawn) is not None
        assert "nan" not in drawn


class TestSideBySide:
    def test_runs_of_a_label_are_put_together_with_mean_and_interval(
        self, client: Client, stores: Stores
    ) -> None:
        runs = []
        for team, values in (("a", {1: 1.0, 2: 4.0}), ("a", {1: 3.0}), ("b", {2: 7.0})):
            run, lease = start(stores, labels={"team": team})
            stores.runs.report(lease, metrics=points("loss", values))
            runs.append(run.id)
        body = {"runs": runs, "names": ["loss"], "group_by": "team"}
        a, b = client.post("/v1/metrics/query", body).json()["data"]
        assert (a["group"], a["runs"], a["epoch"], a["mean"], a["n"]) == (
            "a",
            runs[:2],
            [1, 2],
            [2.0, 4.0],
            [2, 1],
        )
        # half of the interval: t(0.975, 1) s / sqrt(2), with s = sqrt(2)
        assert a["high"][0] - a["mean"][0] == pytest.approx(12.7062, abs=1e-3)
        assert (a["low"][1], b["group"], b["mean"]) == (None, "b", [7.0])
        alone = client.post("/v1/metrics/query", {"runs": runs, "names": ["loss"]}).json()["data"]
        assert [series["group"] for series in alone] == runs

    def test_runs_of_different_lengths_have_points_at_the_same_epochs(
        self, client: Client, stores: Stores
    ) -> None:
        runs = []
        for length, value in ((100, 1.0), (91, 3.0)):
            run, lease = start(stores, labels={"team": "a"})
            stores.runs.report(lease, metrics=points("loss", dict.fromkeys(range(1, 1 + length), value)))
            runs.append(run.id)
        body = {"runs": runs, "names": ["loss"], "group_by": "team", "max_points": 12}
        (series,) = client.post("/v1/metrics/query", body).json()["data"]
        assert (series["epoch"][0], series["epoch"][-1], len(series["epoch"])) == (1, 100, 12)
        assert series["n"] == [2] * 11 + [1]
        assert series["mean"] == [2.0] * 11 + [1.0]

    @pytest.mark.parametrize(
        "values",
        [(math.nan, 1.0), (1.0, math.nan), (1.0, math.inf, 2.0), (math.inf, -math.inf), (1e308, 1e308)],
    )
    def test_what_has_no_finite_mean_has_no_interval(
        self, client: Client, stores: Stores, values: tuple[float, float]
    ) -> None:
        runs = []
        for value in values:
            run, lease = start(stores, labels={"team": "a"})
            stores.runs.report(lease, metrics=points("loss", {1: value}))
            runs.append(run.id)
        body = {"runs": runs, "names": ["loss"], "group_by": "team"}
        (series,) = client.post("/v1/metrics/query", body).json()["data"]
        assert series["mean"][0] in ("NaN", "Infinity")
        assert (series["low"], series["high"], series["n"]) == ([None], [None], [len(values)])

    def test_too_much_at_once_is_refused(self, client: Client, stores: Stores) -> None:
        run, _ = start(stores)
        body = {"runs": [run.id] * 101, "names": ["a"], "max_points": 1000}
        assert client.post("/v1/metrics/query", body).json()["errors"][0]["pointer"] == "/max_points"

    def test_a_run_that_there_is_not_is_named(self, client: Client, stores: Stores) -> None:
        run, _ = start(stores)
        answer = client.post("/v1/metrics/query", {"runs": [run.id, "run_0"], "names": ["loss"]})
        assert answer.json()["errors"][0]["pointer"] == "/runs/1"

    def test_nothing_known_is_empty(self) -> None:
        assert not any(aligned([Series([])]).values())

    def test_runs_that_differ_in_the_seed_alone_are_put_together(
        self, client: Client, stores: Stores
    ) -> None:
        runs = []
        for seed, n_epochs, value in ((1, 5, 1.0), (2, 5, 3.0), (3, 6, 7.0)):
            config = {"algorithm": {"n_epochs": n_epochs}, "seeding": {"env_base_seed": seed}}
            run, lease = start(stores, config=config)
            stores.runs.report(lease, metrics=points("loss", {1: value}))
            runs.append(run.id)
        body = {"runs": runs, "names": ["loss"], "fold_seeds": True}
        folded = client.post("/v1/metrics/query", body).json()["data"]
        assert [(series["group"], series["runs"], series["mean"]) for series in folded] == [
            (runs[0], runs[:2], [2.0]),
            (runs[2], runs[2:], [7.0]),
        ]

    def test_of_runs_with_one_seed_the_newest_that_succeeded_counts_else_the_one_that_came_furthest(
        self, client: Client, stores: Stores
    ) -> None:
        runs = []
        told = (
            (1, "succeeded", 9),
            (1, "succeeded", 4),
            (1, "failed", 9),
            (2, "failed", 7),
            (2, "failed", 3),
        )
        for value, (seed, state, epoch) in enumerate(told):
            run, lease = start(stores, config={"seeding": {"env_base_seed": seed}})
            stores.runs.report(lease, metrics=points("loss", {1: value}), progress=Progress(epoch=epoch))
            stores.runs.finish(lease, RunState(state), reason="completed")
            runs.append(run.id)
        body = {"runs": runs, "names": ["loss"], "fold_seeds": True}
        (series,) = client.post("/v1/metrics/query", body).json()["data"]
        assert (series["runs"], series["counted"]) == (runs, [runs[1], runs[3]])
        assert (series["mean"], series["n"]) == ([2.0], [2])
        for one in client.post("/v1/metrics/query", body | {"fold_seeds": False}).json()["data"]:
            assert one["counted"] == one["runs"]

    def test_runs_of_one_label_are_folded_within_it(self, client: Client, stores: Stores) -> None:
        runs = [start(stores, labels={"team": team})[0].id for team in "aba"]
        body = {"runs": runs, "names": ["loss"], "fold_seeds": True, "group_by": "team"}
        folded = client.post("/v1/metrics/query", body).json()["data"]
        assert [(series["group"], series["runs"]) for series in folded] == [
            ("a", [runs[0], runs[2]]),
            ("b", [runs[1]]),
        ]

    def test_an_interquartile_mean_leaves_out_the_run_out_of_line(
        self, client: Client, stores: Stores
    ) -> None:
        runs = []
        for seed, value in enumerate((1.0, 2.0, 3.0, 1000.0)):
            run, lease = start(stores, config={"seeding": {"env_base_seed": seed}})
            stores.runs.report(lease, metrics=points("loss", {1: value}))
            runs.append(run.id)
        body = {"runs": runs, "names": ["loss"], "fold_seeds": True, "statistic": "iqm"}
        (series,) = client.post("/v1/metrics/query", body).json()["data"]
        assert series["mean"] == [2.5]
        assert (series["low"], series["high"]) == tuple(
            [end] for end in interquartile_interval([[1.0, 2.0, 3.0, 1000.0]])
        )

    def test_a_bootstrap_keeps_the_runs_of_every_environment(self, client: Client, stores: Stores) -> None:
        runs = []
        for env, value in (("a", 0.0), ("a", 0.0), ("b", 8.0), ("b", 8.0)):
            run, lease = start(stores, config={"env": {"name": env}}, labels={"team": "a"})
            stores.runs.report(lease, metrics=points("loss", {1: value}))
            runs.append(run.id)
        body = {"runs": runs, "names": ["loss"], "group_by": "team", "statistic": "iqm"}
        (series,) = client.post("/v1/metrics/query", body).json()["data"]
        assert (series["mean"], series["low"], series["high"]) == ([4.0], [4.0], [4.0])

    def test_seconds_are_those_since_the_run_began(self) -> None:
        begin = datetime(2026, 1, 1, tzinfo=UTC)
        made = [
            Series(
                [MetricPoint(name="a", epoch=1, step=1, value=0.0, at=begin + timedelta(seconds=s))],
                begin=begin,
            )
            for s in (2, 5)
        ]
        assert aligned(made)["seconds"] == [3.5]
        assert aligned([Series(points("a", {1: 0.0}))])["seconds"] == [None]
