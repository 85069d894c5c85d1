"""Runs looked at, listed and cancelled, and everything they leave behind."""

import json
from datetime import UTC, datetime

import pytest
import yaml

from service.domain.run import EventType, MetricPoint, Progress, RunKind, RunState
from service.store import Stores
from tests.contracts.builders import new_checkpoint, start, submit
from tests.service.api.client import Client


class TestRun:
    def test_a_run_shows_what_the_contract_names(self, client: Client, stores: Stores) -> None:
        run, lease = start(stores, name="n", labels={"team": "a"})
        progress = Progress(epoch=2, n_epochs=10, env_steps=2000, fraction=0.2, eta_s=float("inf"))
        points = [MetricPoint(name="train/policy_loss", epoch=2, step=2000, value=float("nan"))]
        stores.runs.report(lease, phase="training", progress=progress, metrics=points)
        shown = client.get(f"/v1/runs/{run.id}").json()
        assert set(shown) == {
            *(
                "id",
                "kind",
                "state",
                "name",
                "labels",
                "reason",
                "phase",
                "progress",
                "latest_metrics",
                "best",
            ),
            *("result", "error", "seed", "config_sha256", "source_run", "source_checkpoint", "attempt"),
            *("created_at", "started_at", "finished_at", "links"),
        }
        assert (shown["state"], shown["phase"], shown["attempt"]) == ("running", "training", 1)
        assert shown["progress"]["eta_s"] == "Infinity"
        assert shown["latest_metrics"] == {"train/policy_loss": "NaN"}
        assert datetime.fromisoformat(shown["started_at"]).tzinfo == UTC
        assert shown["created_at"].endswith("Z")
        assert shown["finished_at"] is None

    def test_links_lead_somewhere(self, client: Client, stores: Stores) -> None:
        for kind in RunKind:
            run = submit(stores, kind=kind)
            links = client.get(f"/v1/runs/{run.id}").json()["links"]
            for name, path in links.items():
                if name not in ("cancel", "compute_action"):
                    assert client.get(path).status_code == 200, (kind, name)

    def test_an_ended_run_has_no_cancel_link(self, client: Client, stores: Stores) -> None:
        run = submit(stores)
        stores.runs.request_cancel(run.id)
        assert "cancel" not in client.get(f"/v1/runs/{run.id}").json()["links"]

    def test_the_best_evaluation_names_its_checkpoint(self, client: Client, stores: Stores) -> None:
        run, lease = start(stores)
        info = stores.checkpoints.put(lease, new_checkpoint(4, is_best=True), b"bundle")
        best = client.get(f"/v1/runs/{run.id}").json()["best"]
        assert best == {"metric": "eval/mean_return", "value": 4.0, "checkpoint": info.id}

    def test_an_unknown_run_is_not_found(self, client: Client) -> None:
        answer = client.get("/v1/runs/run_00000000000000000000000000")
        assert (answer.status_code, answer.json()["code"]) == (404, "not_found")


class TestList:
    def test_pages_follow_one_another_newest_first(self, client: Client, stores: Stores) -> None:
        runs = [submit(stores).id for _ in range(5)]
        seen, cursor = [], None
        while True:
            page = client.get("/v1/runs", params={"limit": 2} | ({"cursor": cursor} if cursor else {})).json()
            seen += [run["id"] for run in page["data"]]
            cursor = page["next_cursor"]
            assert page["has_more"] == (cursor is not None)
            if cursor is None:
                break
        assert seen == runs[::-1]

    def test_state_kind_and_labels_choose(self, client: Client, stores: Stores) -> None:
        wanted = submit(stores, kind=RunKind.ROLLOUT, labels={"team": "a", "x.y": "1"})
        submit(stores, kind=RunKind.ROLLOUT, labels={"team": "b"})
        submit(stores, kind=RunKind.TRAIN, labels={"team": "a"})
        for labels in ("label.team=a&label.x.y=1", "label=team=a&label=x.y%3D1", "label=team=a&label.x.y=1"):
            query = f"state=queued&kind=rollout&{labels}"
            assert [run["id"] for run in client.get(f"/v1/runs?{query}").json()["data"]] == [wanted.id]
        assert client.get("/v1/runs?state=failed").json() == {
            "data": [],
            "next_cursor": None,
            "has_more": False,
        }

    @pytest.mark.parametrize(
        ("query", "parameter"),
        [
            ("label.team=a&label.team=a", "label.team"),
            ("label=team=a&label=team=b", "label"),
            ("label=team=a&label.team=a", "label"),
            ("state=queued&state=failed", "state"),
            ("limit=1&kind=train&limit=1", "limit"),
            ("label=team", "label"),
            ("label==a", "label"),
        ],
    )
    def test_what_is_said_twice_is_refused_rather_than_chosen_from(
        self, client: Client, query: str, parameter: str
    ) -> None:
        answer = client.get(f"/v1/runs?{query}")
        assert answer.status_code == 422
        assert answer.json()["errors"][0]["parameter"] == parameter

    @pytest.mark.parametrize(
        ("query", "parameter", "allowed"),
        [
            ("state=done", "state", "queued"),
            ("kind=training", "kind", "train"),
            ("stat=queued", "stat", "state"),
            ("limit=0", "limit", None),
            ("limit=201", "limit", None),
            ("limit=x", "limit", None),
            ("cursor=nonsense", "cursor", None),
            ("cursor=" + "x" * 600, "cursor", None),
        ],
    )
    def test_a_wrong_parameter_is_named(
        self, client: Client, query: str, parameter: str, allowed: str | None
    ) -> None:
        answer = client.get(f"/v1/runs?{query}")
        assert answer.status_code == 422
        (mistake,) = answer.json()["errors"]
        assert mistake["parameter"] == parameter
        assert allowed is None or allowed in mistake["allowed"]


class TestCancel:
    def test_a_queued_run_is_cancelled_at_once(self, client: Client, stores: Stores) -> None:
        answer = client.post(f"/v1/runs/{submit(stores).id}/cancel")
        assert (answer.status_code, answer.json()["state"]) == (200, "cancelled")

    def test_a_running_one_stops_first(self, client: Client, stores: Stores) -> None:
        run, _ = start(stores)
        for _ in range(2):
            answer = client.post(f"/v1/runs/{run.id}/cancel")
            assert (answer.status_code, answer.json()["state"]) == (202, "stopping")
            assert answer.json()["reason"] == "user_cancel"

    def test_an_ended_one_is_a_conflict_that_trying_again_does_not_mend(
        self, client: Client, stores: Stores
    ) -> None:
        run, lease = start(stores)
        stores.runs.finish(lease, RunState.SUCCEEDED, reason="completed")
        answer = client.post(f"/v1/runs/{run.id}/cancel")
        assert (answer.status_code, answer.json()["code"]) == (409, "state_conflict")
        assert answer.json()["state"] == "succeeded"
        assert answer.headers["x-should-retry"] == "false"

    def test_an_unknown_one_is_not_found(self, client: Client) -> None:
        assert client.post("/v1/runs/run_0/cancel").status_code == 404


class TestConfig:
    def test_as_json_with_its_sum(self, client: Client, stores: Stores) -> None:
        run = submit(stores, config={"env": {"name": "CartPole-v1"}})
        shown = client.get(f"/v1/runs/{run.id}/config").json()
        assert shown == {"config": {"env": {"name": "CartPole-v1"}}, "config_sha256": run.config_sha256}

    def test_as_yaml_that_reads_back(self, client: Client, stores: Stores) -> None:
        config = {"wrappers": [{"b": 1, "a": None}], "env": {"name": "Pendulum-v1 ä"}}
        answer = client.get(f"/v1/runs/{submit(stores, config=config).id}/config?format=yaml")
        assert answer.headers["content-type"].startswith("application/yaml")
        assert yaml.safe_load(answer.text) == config

    def test_in_no_other_format(self, client: Client, stores: Stores) -> None:
        answer = client.get(f"/v1/runs/{submit(stores).id}/config?format=toml")
        assert answer.json()["errors"][0]["allowed"] == ["json", "yaml"]


def test_every_part_of_an_unknown_run_is_not_found(client: Client) -> None:
    parts = ("events", "metrics", "logs", "config", "checkpoints", "episodes", "episodes/0")
    for part in parts:
        assert client.get(f"/v1/runs/run_0/{part}").status_code == 404, part


def test_every_answer_is_json_that_every_reader_takes(client: Client, stores: Stores) -> None:
    run, lease = start(stores)
    stores.runs.report(lease, events=[(EventType.WARNING, {"x": float("nan"), "y": [float("inf")]})])
    stores.runs.finish(lease, RunState.FAILED, reason="error", error={"code": "x", "value": float("nan")})

    def refuse(text: str) -> None:
        raise AssertionError(text)

    for part in ("", "/events", "/metrics", "/logs"):
        json.loads(client.get(f"/v1/runs/{run.id}{part}").text, parse_constant=refuse)
    assert client.get(f"/v1/runs/{run.id}").json()["error"]["value"] == "NaN"
