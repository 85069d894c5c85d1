"""Submitting under the client's own id: once, whatever is sent again, and with mistakes at their fields."""

import pytest

from service.store import Stores
from tests.contracts.builders import submit
from tests.service.api.client import Client

BODY = {"kind": "train", "n_epochs": 1, "seed": 1}
PATH = "/v1/runs/run_mine1"


def test_a_run_is_made_once_and_another_body_is_a_conflict(client: Client, stores: Stores) -> None:
    answers = [client.request("PUT", PATH, json=BODY) for _ in range(2)]
    assert [answer.status_code for answer in answers] == [202, 202]
    assert {answer.json()["id"] for answer in answers} == {"run_mine1"}
    assert "idempotent-replayed" in answers[1].headers
    other = client.request("PUT", PATH, json={**BODY, "seed": 2})
    assert (other.status_code, other.json()["code"]) == (409, "state_conflict")
    assert stores.runs.get("run_mine1").seed == 1


def test_a_key_beside_the_id_is_refused(client: Client) -> None:
    answer = client.request("PUT", PATH, json=BODY, headers={"Idempotency-Key": "k"})
    assert (answer.status_code, answer.json()["code"]) == (400, "bad_request")
    assert client.get(PATH).status_code == 404


def test_an_id_that_another_submission_made_is_a_conflict(client: Client, stores: Stores) -> None:
    run = submit(stores)
    answer = client.request("PUT", f"/v1/runs/{run.id}", json=BODY)
    assert (answer.status_code, answer.json()["code"]) == (409, "state_conflict")


@pytest.mark.parametrize(
    ("body", "pointer"),
    [
        ({**BODY, "algoritm": "ppo"}, "/algoritm"),
        ({**BODY, "n_epochs": -1}, "/n_epochs"),
        ({**BODY, "overrides": {"algorithm.lr": "x"}}, "/overrides/algorithm.lr"),
        ({"n_epochs": 1}, "/kind"),
        ({**BODY, "kind": "sweep"}, "/kind"),
        ({"kind": "evaluate", "run": "run_0", "algorithm": "ppo"}, "/algorithm"),
    ],
)
def test_a_mistake_is_told_at_its_field(client: Client, body: dict[str, object], pointer: str) -> None:
    answer = client.request("PUT", PATH, json=body)
    assert answer.status_code == 422
    assert answer.json()["errors"][0]["pointer"] == pointer


@pytest.mark.parametrize("name", ["mine", "run_MINE", "run_", "run_" + "a" * 41])
def test_what_is_no_id_of_ours_is_not_found(client: Client, name: str) -> None:
    assert client.request("PUT", f"/v1/runs/{name}", json=BODY).status_code == 404
