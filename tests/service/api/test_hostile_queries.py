"""Forged cursors and absurd numbers are the client's mistakes on every database, never the database's errors."""

import asyncio
import base64
import json
from collections.abc import Iterator

import pytest

from service.main import create_app
from service.settings import Settings
from service.store import Stores, open_stores
from tests.contracts.builders import start, submit
from tests.service.api.client import Client


@pytest.fixture
def stores(database_url: str) -> Iterator[Stores]:
    stores = open_stores(database_url)
    yield stores
    stores.close()


@pytest.fixture
def client(database_url: str, stores: Stores) -> Iterator[Client]:
    with asyncio.Runner() as runner:
        yield Client(create_app(Settings(database_url=database_url, auth=False), stores), runner)


def cursor(*parts: object) -> str:
    return base64.urlsafe_b64encode(json.dumps(parts).encode()).decode().rstrip("=")


FORGED = {
    "runs": [
        ("runs", "2026-01-01T00:00:00+00:00", "a\x00"),
        ("runs", "not a time", "a"),
        ("runs", "0001-01-01T00:00:00+23:59", "a"),
        ("runs", "9999-12-31T23:59:59-23:59", "a"),
        ("episodes", 1),
    ],
    "episodes": [
        ("episodes", 10**30),
        ("episodes", 2**40),
        ("episodes", True),
        ("episodes", "1"),
        ("runs", 1),
    ],
    "checkpoints": [
        ("checkpoints", 10**30, "x"),
        ("checkpoints", 1, "\x00"),
        ("checkpoints", 1),
        ("checkpoints",),
    ],
}


def test_a_forged_cursor_is_no_cursor(client: Client, stores: Stores) -> None:
    run, _ = start(stores)
    for part, forgeries in FORGED.items():
        path = "/v1/runs" if part == "runs" else f"/v1/runs/{run.id}/{part}"
        for forgery in forgeries:
            answer = client.get(path, params={"cursor": cursor(*forgery)})
            assert answer.status_code == 422, forgery
            assert answer.json()["errors"][0]["code"] == "invalid_cursor"


@pytest.mark.parametrize(
    "query",
    ["events?after=1&after=2", "metrics?limit=1&limit=2", "config?format=json&format=yaml", "logs?x=1&x=1"],
)
def test_a_doubled_parameter_is_refused_on_every_route(client: Client, stores: Stores, query: str) -> None:
    run, _ = start(stores)
    answer = client.get(f"/v1/runs/{run.id}/{query}")
    assert (answer.status_code, answer.json()["errors"][0]["code"]) == (422, "doubled")
    assert client.get(f"/v1/runs/{run.id}/metrics?names=a&names=b").status_code == 200


@pytest.mark.parametrize(
    ("path", "name", "near"),
    [
        ("/v1/runs/{run}", "statee", None),
        ("/v1/runs/{run}/config", "formt", "format"),
        ("/v1/runs/{run}/metrics", "name", "names"),
        ("/v1/runs/{run}/episodes/0", "record", None),
        ("/v1/runs", "lable", "label"),
        ("/v1/config/groups", "group", None),
        ("/v1/environments", "availble", "available"),
        ("/v1/environments/CartPole-v1", "available", None),
        ("/", "x", None),
        ("/problems", "limit", None),
    ],
)
def test_a_parameter_that_a_route_does_not_have_is_refused_by_name(
    client: Client, stores: Stores, path: str, name: str, near: str | None
) -> None:
    answer = client.get(path.format(run=submit(stores).id), params={name: "secret"})
    (mistake,) = answer.json()["errors"]
    assert (answer.status_code, mistake["parameter"], mistake["code"]) == (422, name, "unknown_field")
    assert mistake.get("did_you_mean") == near
    assert "secret" not in answer.text


@pytest.mark.parametrize("part", ["/v1/train", "/v1/runs/run_0/cancel", "/v1/runs/run_0/compute_action"])
def test_what_belongs_into_a_body_is_refused_in_a_query(client: Client, part: str) -> None:
    answer = client.post(f"{part}?deterministic=false", {})
    assert (answer.status_code, answer.json()["errors"][0]["parameter"]) == (422, "deterministic")


@pytest.mark.parametrize("path", ["/health/live", "/health/ready", "/metrics"])
def test_probes_may_add_parameters_of_their_own(client: Client, path: str) -> None:
    assert client.get(f"{path}?probe=1&probe=2").status_code == 200


@pytest.mark.parametrize("query", ["label=team", "label==a", "label.=a"])
def test_a_label_without_a_key_is_no_label(client: Client, query: str) -> None:
    answer = client.get(f"/v1/runs?{query}")
    assert (answer.status_code, answer.json()["errors"][0]["code"]) == (422, "invalid_value")


def test_no_query_makes_the_service_fail(client: Client, stores: Stores) -> None:
    run, _ = start(stores)
    path = f"/v1/runs/{run.id}"
    for query in (
        *(
            "/v1/runs?label.a=%00",
            "/v1/runs?label.%00=1",
            "/v1/runs?label.a=%ff",
            "/v1/runs?label.a=%ED%A0%80",
        ),
        *("/v1/runs?cursor=%00", "/v1/runs?limit=99999999999999999999", "/v1/runs?state=%00"),
        *(
            f"{path}/metrics?names=%00",
            f"{path}/metrics?cursor=999999999",
            f"{path}/metrics?cursor=99999999999",
        ),
        *(f"{path}/metrics?after_epoch={2**31 - 1}", f"{path}/metrics?after_epoch={2**53}"),
        *(f"{path}/metrics?before_epoch={2**31 - 1}&max_points=9", f"{path}/logs?before={2**53 - 1}"),
        *(f"{path}/events?after={2**53 - 1}", f"{path}/logs?after={2**53 - 1}", f"{path}/logs?after={2**64}"),
        *(f"{path}/episodes/999999", f"{path}/episodes/%00", "/v1/config/groups/%00/x", "/problems/%00"),
    ):
        assert client.get(query).status_code < 500, query
    for epoch in (0, 2**31, 2**40, 10**30, -1):
        body = {"run": run.id, "checkpoint": f"epoch:{epoch}"}
        assert 400 <= client.post("/v1/evaluate", body).status_code < 500, epoch
