"""Runs as clients see them, and what they left: listed, looked at, cancelled; metrics, logs, checkpoints, episodes."""

import json
from datetime import UTC, datetime

import numpy as np
import pytest
import yaml

from maze_core.rollout.recording import Trajectory, trajectory_to_bytes
from service.domain.run import EventType, MetricPoint, Progress, RunKind, RunState, StopReason
from service.store import Stores
from tests.contracts.builders import new_checkpoint, new_episode, start, submit
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
                "environment",
                "algorithm",
                "best",
            ),
            *("result", "error", "seed", "config_sha256", "source_run", "source_checkpoint", "attempt"),
            *(
                "parent_run",
                "continues",
                "priority",
                "sweep",
                "queue",
                "notes",
                "videos",
                "resources",
                "revision",
                "traceparent",
            ),
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
                if name not in ("cancel", "pause", "compute_action"):
                    assert client.get(path).status_code == 200, (kind, name)

    def test_an_ended_run_has_no_cancel_link(self, client: Client, stores: Stores) -> None:
        run = submit(stores)
        stores.runs.request_stop(run.id, StopReason.CANCEL)
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

    @pytest.mark.parametrize("verb", ["cancel", "pause", "resume"])
    def test_an_unknown_one_is_not_found(self, client: Client, verb: str) -> None:
        assert client.post(f"/v1/runs/run_0/{verb}").status_code == 404


class TestPause:
    def test_a_queued_run_is_paused_at_once_and_resumed(self, client: Client, stores: Stores) -> None:
        run = submit(stores)
        paused = client.post(f"/v1/runs/{run.id}/pause")
        assert (paused.status_code, paused.json()["state"]) == (200, "paused")
        assert {"cancel", "resume"} == {*paused.json()["links"]} & {"cancel", "pause", "resume"}
        resumed = client.post(f"/v1/runs/{run.id}/resume")
        assert (resumed.status_code, resumed.json()["state"]) == (202, "queued")
        assert {"cancel", "pause"} == {*resumed.json()["links"]} & {"cancel", "pause", "resume"}

    def test_a_running_one_stops_first(self, client: Client, stores: Stores) -> None:
        run, _ = start(stores)
        answer = client.post(f"/v1/runs/{run.id}/pause")
        assert (answer.status_code, answer.json()["state"]) == (202, "stopping")

    def test_what_is_not_paused_is_not_resumed(self, client: Client, stores: Stores) -> None:
        answer = client.post(f"/v1/runs/{submit(stores).id}/resume")
        assert (answer.status_code, answer.json()["code"]) == (409, "state_conflict")
        assert answer.json()["state"] == "queued"


class TestChange:
    def test_what_is_named_changes_and_the_rest_stays(self, client: Client, stores: Stores) -> None:
        run = submit(stores, name="old", labels={"team": "a", "old": "x"})
        body = {"labels": {"old": None, "new": "y"}, "notes": "n", "priority": 5}
        changed = client.request("PATCH", f"/v1/runs/{run.id}", json=body)
        assert changed.status_code == 200
        expected = {
            "name": "old",
            "labels": {"team": "a", "new": "y"},
            "notes": "n",
            "priority": 5,
            "revision": 1,
        }
        assert changed.json() | expected == changed.json()
        cleared = client.request(
            "PATCH", f"/v1/runs/{run.id}", json={"name": None}, headers={"If-Match": '"1"'}
        )
        assert (cleared.json()["name"], cleared.json()["notes"], cleared.json()["revision"]) == (None, "n", 2)

    def test_a_change_that_another_one_overtook_is_refused(self, client: Client, stores: Stores) -> None:
        run = submit(stores)
        client.request("PATCH", f"/v1/runs/{run.id}", json={"name": "first"})
        answer = client.request(
            "PATCH", f"/v1/runs/{run.id}", json={"name": "second"}, headers={"If-Match": '"0"'}
        )
        assert (answer.status_code, answer.json()["code"]) == (412, "revision_conflict")
        assert client.get(f"/v1/runs/{run.id}").json()["name"] == "first"

    @pytest.mark.parametrize(
        ("body", "pointer"),
        [
            ({"labels": {"a b": "x"}}, "/labels/a b"),
            ({"priority": 1001}, "/priority"),
            ({"name": ""}, "/name"),
            ({"state": "failed"}, "/state"),
        ],
    )
    def test_what_no_submission_could_say_is_refused(
        self, client: Client, stores: Stores, body: dict[str, object], pointer: str
    ) -> None:
        answer = client.request("PATCH", f"/v1/runs/{submit(stores).id}", json=body)
        assert answer.status_code == 422
        assert answer.json()["errors"][0]["pointer"] == pointer

    def test_an_if_match_that_is_no_revision_is_refused(self, client: Client, stores: Stores) -> None:
        answer = client.request(
            "PATCH", f"/v1/runs/{submit(stores).id}", json={}, headers={"If-Match": "abc"}
        )
        assert (answer.status_code, answer.json()["code"]) == (400, "bad_request")


class TestDelete:
    def test_an_ended_run_is_gone_with_what_it_left(self, client: Client, stores: Stores) -> None:
        run, lease = start(stores)
        stores.runs.finish(lease, RunState.FAILED, reason="x")
        assert client.request("DELETE", f"/v1/runs/{run.id}").status_code == 204
        assert client.get(f"/v1/runs/{run.id}").status_code == 404
        assert client.request("DELETE", f"/v1/runs/{run.id}").status_code == 404

    def test_one_that_has_not_ended_stays(self, client: Client, stores: Stores) -> None:
        run = submit(stores)
        answer = client.request("DELETE", f"/v1/runs/{run.id}")
        assert (answer.status_code, answer.json()["state"]) == (409, "queued")
        assert "cancel it first" in answer.json()["detail"]


class TestBulk:
    def test_each_run_is_answered_as_its_own_request_would_be(self, client: Client, stores: Stores) -> None:
        ended, _ = start(stores)
        waiting = submit(stores)
        body = {"action": "cancel", "filter": {"ids": [waiting.id, ended.id, "run_none", waiting.id]}}
        answer = client.post("/v1/runs/bulk", body).json()
        assert [(row["id"], row["state"]) for row in answer["data"]] == [
            (waiting.id, "cancelled"), (ended.id, "stopping"), ("run_none", None),
        ]  # fmt: skip
        assert answer["data"][2]["error"]["code"] == "not_found"

    def test_a_filter_means_all_of_its_members(self, client: Client, stores: Stores) -> None:
        submit(stores, labels={"bulk": "b"}, kind=RunKind.ROLLOUT)
        run = submit(stores, labels={"bulk": "b"})
        wanted = {"labels": {"bulk": "b"}, "kind": "train", "state": "queued"}
        for action, state in (("pause", "paused"), ("resume", None)):
            answer = client.post("/v1/runs/bulk", {"action": action, "filter": wanted}).json()
            assert [(row["id"], row["state"]) for row in answer["data"]] == (
                [(run.id, state)] if state else []
            )

    def test_labels_are_set_and_taken_away(self, client: Client, stores: Stores) -> None:
        run = submit(stores, labels={"bulk": "l", "old": "x"})
        body = {
            "action": "label",
            "labels": {"old": None, "new": "y"},
            "filter": {"ids": [run.id, "run_none"]},
        }
        answer = client.post("/v1/runs/bulk", body).json()
        assert [(row["state"], row["error"] is None) for row in answer["data"]] == [
            ("queued", True),
            (None, False),
        ]
        assert stores.runs.get(run.id).labels == {"bulk": "l", "new": "y"}

    @pytest.mark.parametrize(
        ("action", "labels"), [("label", None), ("label", {}), ("label", {"a b": "c"}), ("pause", {"a": "b"})]
    )
    def test_labels_go_with_their_action_alone(
        self, client: Client, action: str, labels: dict[str, str] | None
    ) -> None:
        body = {"action": action, "labels": labels, "filter": {"ids": ["run_none"]}}
        answer = client.post("/v1/runs/bulk", body)
        assert answer.status_code == 422
        assert answer.json()["errors"][0]["pointer"].startswith("/labels")

    def test_a_cursor_leads_through_all_of_them(self, client: Client, stores: Stores) -> None:
        runs = [submit(stores, labels={"bulk": "c"}).id for _ in range(201)]
        stores.runs.request_stop(runs[-1], StopReason.CANCEL)
        body = {"action": "pause", "filter": {"labels": {"bulk": "c"}}}
        first = client.post("/v1/runs/bulk", body).json()
        assert (len(first["data"]), first["has_more"]) == (199, True)
        rest = client.post("/v1/runs/bulk", {**body, "cursor": first["next_cursor"]}).json()
        assert ([row["id"] for row in rest["data"]], rest["has_more"]) == (runs[:1], False)

    @pytest.mark.parametrize(
        "query", ["created_after=0001-01-01T00:00:00%2B14:00", "created_before=9999-12-31T23:59:59-14:00"]
    )
    def test_a_time_that_is_none_in_utc_is_refused(self, client: Client, query: str) -> None:
        answer = client.get(f"/v1/runs?{query}")
        assert (answer.status_code, answer.json()["errors"][0]["parameter"]) == (422, query.partition("=")[0])

    @pytest.mark.parametrize("wanted", [{}, {"labels": {}}, {"ids": None}])
    def test_a_filter_that_says_nothing_is_refused(self, client: Client, wanted: dict[str, object]) -> None:
        answer = client.post("/v1/runs/bulk", {"action": "delete", "filter": wanted})
        assert answer.status_code == 422


class TestConfig:
    def test_as_json_with_its_sum_and_what_was_asked_for(self, client: Client, stores: Stores) -> None:
        run = submit(stores, config={"env": {"name": "CartPole-v1"}})
        shown = client.get(f"/v1/runs/{run.id}/config").json()
        config = {"env": {"name": "CartPole-v1"}}
        assert shown == {
            "config": config,
            "config_sha256": run.config_sha256,
            "provenance": None,
            "request": dict(run.request),
        }

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


class TestMetrics:
    @pytest.fixture
    def run_id(self, stores: Stores) -> str:
        run, lease = start(stores)
        for epoch in range(4):
            values = {
                "train/loss": float("nan") if epoch == 1 else epoch / 2,
                "eval/mean_return": -float("inf"),
            }
            points = [MetricPoint(name=n, epoch=epoch, step=10 * epoch, value=v) for n, v in values.items()]
            stores.runs.report(lease, metrics=points)
        return run.id

    def test_points_come_by_epoch_with_their_names(self, client: Client, run_id: str) -> None:
        points = client.get(f"/v1/runs/{run_id}/metrics").json()["data"]
        assert [(point["epoch"], point["name"]) for point in points[:3]] == [
            (0, "eval/mean_return"),
            (0, "train/loss"),
            (1, "eval/mean_return"),
        ]
        assert [point["value"] for point in points[2:4]] == ["-Infinity", "NaN"]

    @pytest.mark.parametrize("query", ["names=train/loss", "names=train/loss,", "names=train/loss&names=no"])
    def test_names_choose(self, client: Client, run_id: str, query: str) -> None:
        points = client.get(f"/v1/runs/{run_id}/metrics?{query}&after_epoch=1").json()["data"]
        assert [(point["name"], point["value"]) for point in points] == [
            ("train/loss", 1.0),
            ("train/loss", 1.5),
        ]

    @pytest.mark.parametrize("query", ["", "&max_points=8"])
    def test_a_part_lies_between_two_epochs(self, client: Client, run_id: str, query: str) -> None:
        path = f"/v1/runs/{run_id}/metrics?names=train/loss&after_epoch=0&before_epoch=3{query}"
        assert [point["epoch"] for point in client.get(path).json()["data"]] == [1, 2]

    @pytest.mark.parametrize("limit", [1, 2, 3, 7, 8])
    def test_pages_lose_nothing(self, client: Client, run_id: str, limit: int) -> None:
        names = "names=train/loss" if limit == 1 else "limit=10000"
        everything = client.get(f"/v1/runs/{run_id}/metrics?{names}").json()["data"]
        seen, cursor = [], ""
        while cursor is not None:
            url = f"/v1/runs/{run_id}/metrics?{names.replace('limit=10000', '')}&limit={limit}"
            page = client.get(url.replace("?&", "?") + (f"&cursor={cursor}" if cursor else "")).json()
            seen += page["data"]
            cursor = page["next_cursor"]
        assert seen == everything


class TestLogs:
    def test_lines_come_in_order_and_in_pages(self, client: Client, stores: Stores) -> None:
        run, lease = start(stores)
        stores.runs.report(lease, logs=[("info", f"line {number}\n\x1b[1m<b>") for number in range(5)])
        first = client.get(f"/v1/runs/{run.id}/logs?limit=3").json()
        rest = client.get(f"/v1/runs/{run.id}/logs", params={"cursor": first["next_cursor"]}).json()
        assert [line["seq"] for line in first["data"] + rest["data"]] == [1, 2, 3, 4, 5]
        assert (first["has_more"], rest["has_more"], rest["next_cursor"]) == (True, False, None)
        assert rest["data"][0]["message"] == "line 3\n\x1b[1m<b>"
        end = client.get(f"/v1/runs/{run.id}/logs?before={2**53 - 1}&limit=2").json()
        assert ([line["seq"] for line in end["data"]], end["has_more"]) == ([4, 5], False)
        after = client.get(f"/v1/runs/{run.id}/logs?after=4").json()["data"]
        assert [line["seq"] for line in after] == [5]


class TestCheckpoints:
    def test_rows_carry_what_identifies_them(self, client: Client, stores: Stores) -> None:
        run, lease = start(stores)
        infos = [
            stores.checkpoints.put(
                lease, new_checkpoint(epoch, is_best=epoch == 1, is_last=True), b"x" * epoch
            )
            for epoch in (1, 2)
        ]
        rows = client.get(f"/v1/runs/{run.id}/checkpoints").json()["data"]
        assert [row["id"] for row in rows] == [info.id for info in infos[::-1]]
        assert [(row["is_best"], row["is_last"]) for row in rows] == [(False, True), (True, False)]
        assert rows[1]["content_sha256"] == infos[0].content_sha256
        assert rows[1]["weights_sha256"] == infos[0].weights_sha256
        assert rows[1]["run"] == run.id
        assert (rows[1]["size_bytes"], rows[1]["step"], rows[1]["metrics"]) == (
            1,
            1000,
            {"eval/mean_return": 1.0},
        )


class TestEpisodes:
    @pytest.fixture
    def run_id(self, stores: Stores) -> str:
        run, lease = start(stores, kind=RunKind.ROLLOUT)
        trajectory = Trajectory(
            step_keys=[0, 0],
            agent_ids=np.zeros(2, np.int64),
            flat_steps=np.arange(2),
            rewards=np.array([1.0, float("nan")]),
            observations={0: {"observation": np.array([[0.5, 1.0], [2.0, float("inf")]], np.float32)}},
            actions={0: {"action": np.array([1, 0])}},
            final_step_key=0,
            final_observation={"observation": np.array([3.0, 4.0], np.float32)},
            terminated=True,
            truncated=False,
        )
        stores.episodes.add(lease, new_episode(0), None)
        stores.episodes.add(lease, new_episode(1), trajectory_to_bytes(trajectory))
        return run.id

    def test_they_are_listed_by_index(self, client: Client, run_id: str) -> None:
        page = client.get(f"/v1/runs/{run_id}/episodes?limit=1").json()
        rest = client.get(f"/v1/runs/{run_id}/episodes", params={"cursor": page["next_cursor"]}).json()
        rows = page["data"] + rest["data"]
        assert [(row["index"], row["seed"], row["has_trajectory"]) for row in rows] == [
            (0, 100, False),
            (1, 101, True),
        ]

    def test_a_recorded_one_shows_its_trajectory(self, client: Client, run_id: str) -> None:
        episode = client.get(f"/v1/runs/{run_id}/episodes/1").json()
        steps = episode["trajectory"]["steps"]
        assert steps[1] == {
            "actor_id": [0, 0],
            "flat_step": 1,
            "observation": {"observation": [2.0, "Infinity"]},
            "action": {"action": 0},
            "reward": "NaN",
        }
        assert episode["trajectory"]["final_observation"] == {"observation": [3.0, 4.0]}
        assert episode["episode_return"] == 10.0

    def test_one_that_was_not_recorded_has_none(self, client: Client, run_id: str) -> None:
        assert client.get(f"/v1/runs/{run_id}/episodes/0").json()["trajectory"] is None

    @pytest.mark.parametrize("index", ["2", "-1", "x", "99999999999999999999"])
    def test_one_that_is_not_there_is_not_found(self, client: Client, run_id: str, index: str) -> None:
        assert client.get(f"/v1/runs/{run_id}/episodes/{index}").status_code == 404
