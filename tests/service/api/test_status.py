"""Workers, queue and storage over HTTP: what each worker runs now, and what waits for what."""

from service.domain.run import RunKind
from service.store import Stores
from tests.contracts.builders import start, submit
from tests.service.api.client import Client


def test_a_worker_is_told_with_what_it_runs(client: Client, stores: Stores) -> None:
    facts = {
        "host": "box",
        "slots": 2,
        "versions": {"torch": "2"},
        "extras": ["video"],
        "environments": "published",
    }
    stores.registry.beat_worker("w1", facts)
    run, _ = start(stores, worker="w1", name="mine")
    (told,) = client.get("/v1/workers").json()["data"]
    assert (told["id"], told["host"], told["versions"], told["extras"]) == (
        "w1",
        "box",
        {"torch": "2"},
        ["video"],
    )
    assert (told["n_slots"], told["n_training_slots"], told["n_free"]) == (2, 1, 1)
    (held,) = told["runs"]
    assert (held["id"], held["kind"], held["name"], held["state"]) == (run.id, "train", "mine", "running")
    assert client.get(held["links"]["self"]).json()["started_at"] == held["started_at"]


def test_a_worker_that_cannot_say_what_it_has_is_told_without_the_trace(
    client: Client, stores: Stores
) -> None:
    stores.registry.beat_worker("w1", {"slots": 1, "environments": "Traceback\n  File secret\nno module m"})
    (told,) = client.get("/v1/workers").json()["data"]
    assert (told["environments"], told["versions"], told["extras"]) == ("no module m", {}, [])


def test_the_queue_is_told_by_kind_with_what_it_waits_for(client: Client, stores: Stores) -> None:
    submit(stores)
    before = client.get("/v1/status").json()
    assert (before["n_workers"], before["slots"]) == (0, {"total": 0, "busy": 0, "free": 0})
    stores.registry.beat_worker("w1", {"slots": 1})
    start(stores, worker="w1")
    after = client.get("/v1/status").json()
    of = {each["kind"]: each for each in after["queue"]}
    assert [
        {each["kind"]: each for each in before["queue"]}["train"]["waits_for"],
        of["train"]["waits_for"],
    ] == [
        "worker",
        "slot",
    ]
    assert (of["train"]["queued"], of["train"]["running"], of["train"]["n_free"]) == (1, 1, 0)
    assert of["train"]["oldest_s"] >= 0
    assert of["rollout"] == {
        "kind": "rollout", "queued": 0, "oldest_s": None, "waits_for": None, "running": 0, "n_free": 0,
    }  # fmt: skip
    assert after["slots"] == {"total": 1, "busy": 1, "free": 0}
    assert set(of) == set(RunKind)


def test_where_the_database_lies_is_not_told(client: Client, stores: Stores) -> None:
    answer = client.get("/v1/status")
    assert answer.json()["database"]["free_bytes"] > 0
    assert str(stores.database.path) not in answer.text
