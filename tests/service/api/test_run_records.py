"""What a run leaves behind: metrics, logs, checkpoints, episodes and their trajectories."""

import numpy as np
import pytest

from maze_core.rollout.recording import Trajectory, trajectory_to_bytes
from service.domain.run import MetricPoint, RunKind
from service.store import Stores
from tests.contracts.builders import new_checkpoint, new_episode, start
from tests.service.api.client import Client


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
