"""The service about itself: health, metrics, the way in, and problems that the framework would answer otherwise."""

import errno
import logging
import os
from pathlib import Path
from typing import Any

import pytest
from prometheus_client.parser import text_string_to_metric_families

from service.domain.errors import StoreUnavailableError
from service.domain.run import RunKind, RunState
from service.store import Stores, engine
from tests.contracts.builders import start, submit
from tests.service.api.client import Client


class TestHealth:
    def test_live_needs_nothing(self, client: Client, stores: Stores) -> None:
        stores.close()
        assert client.get("/health/live").json()["status"] == "ok"

    def test_ready_warns_when_no_worker_is_alive(self, client: Client, stores: Stores) -> None:
        answer = client.get("/health/ready")
        assert answer.status_code == 200
        assert answer.json()["checks"]["workers"]["status"] == "warning"
        stores.registry.beat_worker("w", {})
        assert client.get("/health/ready").json()["checks"]["workers"] == {"status": "ok", "alive": 1}

    def test_a_database_that_does_not_answer_is_not_ready(
        self, client: Client, stores: Stores, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        def away(*_: Any) -> None:
            raise StoreUnavailableError("host db.internal does not answer")

        monkeypatch.setattr(stores.database, "change_marker", away)
        answer = client.get("/health/ready")
        assert (answer.status_code, answer.json()["checks"]["database"]["status"]) == (503, "failed")
        assert "db.internal" not in answer.text

    def test_a_database_whose_file_was_deleted_takes_nothing_and_says_restart(
        self, client: Client, stores: Stores, tmp_path: Path
    ) -> None:
        assert client.post("/v1/train", {}).status_code == 202
        (tmp_path / "maze.db").unlink()
        for answer in (client.get("/health/ready"), client.post("/v1/train", {})):
            assert answer.status_code == 503
            assert "restart the service" in answer.text

    def test_a_full_disk_is_not_ready(self, client: Client, monkeypatch: pytest.MonkeyPatch) -> None:
        def full(**_: object) -> None:
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

        monkeypatch.setattr(engine.tempfile, "TemporaryFile", full)
        answer = client.get("/health/ready")
        assert (answer.status_code, answer.json()["checks"]["database"]["status"]) == (503, "failed")
        assert "disk of the database is full" in answer.text

    def test_another_schema_is_not_ready(self, client: Client, stores: Stores) -> None:
        from sqlalchemy import text

        with stores.database.writing() as connection:
            connection.execute(text("UPDATE alembic_version SET version_num = 'of another version'"))
        answer = client.get("/health/ready")
        assert (answer.status_code, answer.json()["checks"]["migrations"]["status"]) == (503, "failed")


class TestMetrics:
    def samples(self, client: Client) -> dict[tuple[str, tuple[str, ...]], float]:
        text = client.get("/metrics").text
        return {
            (sample.name, tuple(value for _, value in sorted(sample.labels.items()))): sample.value
            for family in text_string_to_metric_families(text)
            for sample in family.samples
        }

    def test_runs_are_counted_by_kind_and_state(self, client: Client, stores: Stores) -> None:
        start(stores)
        for _ in range(2):
            submit(stores, kind=RunKind.ROLLOUT)
        samples = self.samples(client)
        assert samples["maze_runs", ("train", "running")] == 1
        assert samples["maze_runs", ("rollout", "queued")] == 2

    def test_workers_slots_the_queue_and_durations_are_told(self, client: Client, stores: Stores) -> None:
        stores.registry.beat_worker("w", {"slots": 3})
        stores.registry.beat_worker("v", {"slots": 2})
        start(stores, worker="w")
        _, lease = start(stores)
        stores.runs.finish(lease, RunState.SUCCEEDED, reason="completed")
        submit(stores, kind=RunKind.ROLLOUT)
        samples = self.samples(client)
        assert samples["maze_workers", ()] == 2
        assert samples["maze_worker_slots", ("busy",)] == 1
        assert samples["maze_worker_slots", ("free",)] == 4
        assert (
            samples["maze_queue_age_seconds", ("rollout",)]
            >= 0
            == samples["maze_queue_age_seconds", ("train",)]
        )
        assert samples["maze_run_seconds_count", ("train", "succeeded")] == 1
        assert samples["maze_run_seconds_sum", ("train", "succeeded")] >= 0

    def test_requests_are_counted_under_their_template(self, client: Client, stores: Stores) -> None:
        run = submit(stores)
        for _ in range(3):
            client.get(f"/v1/runs/{run.id}")
        client.get("/v1/runs/run_0")
        client.get("/nowhere/at/all")
        client.request("BREW", "/v1/runs")
        samples = self.samples(client)
        assert samples["maze_http_requests_total", ("GET", "/v1/runs/{run_id}", "200")] == 3
        assert samples["maze_http_requests_total", ("GET", "/v1/runs/{run_id}", "404")] == 1
        assert samples["maze_http_requests_total", ("GET", "none", "404")] == 1
        assert samples["maze_http_request_seconds_count", ("/v1/runs/{run_id}",)] == 4
        assert not any(run.id in str(key) or "BREW" in str(key) for key in samples)

    def test_buckets_are_cumulative(self, client: Client) -> None:
        client.get("/health/live")
        found = {
            float(bound): count
            for (name, (bound, *route)), count in (
                (key, value) for key, value in self.samples(client).items() if key[0].endswith("_bucket")
            )
            if name == "maze_http_request_seconds_bucket" and route == ["/health/live"]
        }
        counts = [found[bound] for bound in sorted(found)]
        assert counts == sorted(counts)
        assert counts[-1] == 1

    def test_the_hot_route_is_among_them(self, client: Client) -> None:
        client.post("/v1/runs/run_0/compute_action", {"observation": [0]})
        samples = self.samples(client)
        route = "/v1/runs/{run_id}/compute_action"
        assert samples["maze_http_requests_total", ("POST", route, "404")] == 1
        assert samples["maze_act_requests_total", ("not_found",)] == 1


class TestDiscovery:
    def test_every_link_leads_somewhere(self, client: Client) -> None:
        for name, path in client.get("/").json()["links"].items():
            status = client.get(path).status_code
            assert status == (
                405 if path.endswith(("train", "rollout", "evaluate", "compare", "compose")) else 200
            ), name

    def test_the_documentation_needs_no_other_network(self, client: Client) -> None:
        page = client.get("/docs")
        assert page.headers["content-type"].startswith("text/html")
        assert "https://" not in page.text
        assert "/openapi.json" in page.text
        for asset in ("swagger-ui.css", "swagger-ui-bundle.js"):
            assert f"/docs/{asset}" in page.text
            assert len(client.get(f"/docs/{asset}").content) > 100_000

    @pytest.mark.parametrize("asset", ["main.py", "..%2fmain.py", "%2fetc%2fpasswd", "favicon-32x32.png"])
    def test_nothing_but_the_assets_is_served_there(self, client: Client, asset: str) -> None:
        assert client.get(f"/docs/{asset}").status_code == 404

    def test_the_type_of_a_problem_is_an_address(self, client: Client) -> None:
        problem = client.get("/v1/runs/run_0").json()
        kind = client.get(problem["type"]).json()
        assert (kind["code"], kind["status"], kind["type"]) == ("not_found", 404, problem["type"])
        assert client.get("/problems/no-such-kind").status_code == 404


class TestProblems:
    @pytest.mark.parametrize(
        ("method", "path", "status"),
        [
            ("GET", "/nowhere", 404),
            ("GET", "/v1/runs/", 404),
            ("DELETE", "/v1/runs", 405),
            ("TRACE", "/v1/runs", 405),
            ("PUT", "/v1/runs/run_0/compute_action", 405),
            ("GET", "/v1/runs?limit=x", 422),
        ],
    )
    def test_the_framework_s_own_errors_are_problems_too(
        self, client: Client, method: str, path: str, status: int
    ) -> None:
        answer = client.request(method, path, headers={"X-Request-Id": "mine-1"})
        assert answer.status_code == status
        assert answer.headers["content-type"] == "application/problem+json"
        problem = answer.json()
        assert problem["status"] == status
        assert problem["type"] == "/problems/" + problem["code"].replace("_", "-")
        assert problem["instance"] == path.partition("?")[0]
        assert problem["request_id"] == answer.headers["x-request-id"] == "mine-1"

    def test_a_405_says_what_the_path_takes(self, client: Client) -> None:
        answer = client.get("/v1/train")
        assert answer.headers["allow"] == "POST"
        assert "POST" in answer.json()["detail"]

    def test_a_method_that_a_path_does_not_take_is_answered_with_all_it_takes(
        self, client: Client, stores: Stores
    ) -> None:
        answer = client.post(f"/v1/runs/{submit(stores).id}")
        assert (answer.status_code, answer.headers["allow"]) == (405, "DELETE, GET, HEAD, PATCH, PUT")
        assert "GET, HEAD, PATCH, PUT, not POST" in answer.json()["detail"]

    @pytest.mark.parametrize("method", ["GET", "PUT", "OPTIONS"])
    def test_a_path_that_is_written_out_takes_nothing_from_one_with_an_id_in_its_place(
        self, client: Client, method: str
    ) -> None:
        answer = client.request(method, "/v1/runs/bulk", json={})
        assert (answer.status_code, answer.headers["allow"]) == (405, "POST")

    def test_a_mistake_of_the_service_tells_nothing_but_its_id(
        self,
        client: Client,
        stores: Stores,
        monkeypatch: pytest.MonkeyPatch,
        caplog: pytest.LogCaptureFixture,
    ) -> None:
        def broken(_store: Any, project: str, **_: Any) -> None:
            raise RuntimeError("secret words")

        monkeypatch.setattr(type(stores.runs), "list", broken)
        with caplog.at_level(logging.ERROR):
            answer = client.get("/v1/runs")
        assert (answer.status_code, answer.json()["code"]) == (500, "internal")
        assert "secret" not in answer.text
        assert answer.json()["request_id"] in caplog.text
        assert "secret words" in caplog.text

    def test_a_database_that_does_not_answer_is_a_503_without_its_words(
        self, client: Client, stores: Stores, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        def away(_store: Any, project: str, **_: Any) -> None:
            raise StoreUnavailableError("connection to db.internal failed")

        monkeypatch.setattr(type(stores.runs), "list", away)
        answer = client.get("/v1/runs")
        assert (answer.status_code, answer.json()["code"]) == (503, "store_unavailable")
        assert int(answer.headers["retry-after"]) >= 1
        assert "db.internal" not in answer.text


def test_the_api_leaves_torch_out(sqlite_url: str) -> None:
    import subprocess
    import sys

    script = f"""
import asyncio, sys
from service.settings import Settings
from service.store import open_stores
from service.main import create_app
from tests.service.api.client import Client
url = {sqlite_url!r}
stores = open_stores(url)
with asyncio.Runner() as runner:
    client = Client(create_app(Settings(database_url=url, auth=False), stores), runner)
    assert client.post("/v1/train", {{"overrides": {{"env.name": "CartPole-v1"}}}}).status_code == 202
    assert client.get("/v1/config/targets").status_code == 200
    assert client.get("/v1/config/schema").status_code == 200
    assert client.get("/openapi.json").status_code == 200
stores.close()
print("torch" in sys.modules)
"""
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=False)
    assert done.stdout.strip() == "False", done.stderr
