"""Polls of a run: the bytes that FastAPI would answer, always of the present, and one look for many."""

import asyncio
import gzip
from typing import Any

import pytest

from service.api import polling
from service.api.polling import RunPolls
from service.domain.errors import StoreUnavailableError
from service.domain.run import EventType, MetricPoint, Progress, RunState
from service.store import Stores
from tests.contracts.builders import start, submit
from tests.service.api.client import Client

WANTS = [
    *({}, {"accept-encoding": "gzip"}, {"accept-encoding": "gzip;q=0"}),
    *({"if-none-match": '"x"'}, {"if-none-match": "*"}),
]


def both(client: Client, method: str, path: str, **headers: str) -> Any:
    """What is answered on the short way and by FastAPI."""
    root: Any = client.app._app  # type: ignore[attr-defined]
    headers["x-request-id"] = "mine"
    fast = client.request(method, path, headers=headers)
    polls, root._polls = root._polls, None
    plain = client.request(method, path, headers=headers)
    root._polls = polls
    assert (fast.status_code, fast.headers.raw, fast.content) == (
        plain.status_code,
        plain.headers.raw,
        plain.content,
    )
    return fast


def some_run(stores: Stores) -> str:
    """A run with everything in it."""
    run, lease = start(stores, name="ä", labels={"team": "a", "b": "\u2028"}, source_run="run_1")
    stores.runs.report(
        lease,
        phase="training",
        progress=Progress(epoch=1, n_epochs=3, env_steps=100, fraction=1 / 3, eta_s=float("inf")),
        metrics=[
            MetricPoint(name=name, epoch=1, step=100, value=value)
            for name, value in {"train/x": float("nan"), "train/y": 0.1}.items()
        ],
        events=[(EventType.PHASE, {"phase": "training"})],
    )
    return run.id


@pytest.mark.parametrize("method", ["GET", "HEAD"])
@pytest.mark.parametrize("headers", WANTS)
def test_a_poll_is_answered_byte_for_byte_as_fastapi_answers(
    client: Client, stores: Stores, method: str, headers: dict[str, str]
) -> None:
    for run_id in (submit(stores).id, some_run(stores)):
        for _ in range(2):
            answer = both(client, method, f"/v1/runs/{run_id}", **headers)
            assert answer.status_code == (304 if headers.get("if-none-match") == "*" else 200)


def test_a_known_answer_is_a_304_until_the_run_changes(client: Client, stores: Stores) -> None:
    run, lease = start(stores)
    etag = client.get(f"/v1/runs/{run.id}").headers["etag"]
    for _ in range(2):
        both(client, "GET", f"/v1/runs/{run.id}", **{"if-none-match": etag})
        assert client.get(f"/v1/runs/{run.id}", headers={"if-none-match": etag}).status_code == 304
    stores.runs.report(lease, progress=Progress(epoch=1))
    changed = client.get(f"/v1/runs/{run.id}", headers={"if-none-match": etag})
    assert (changed.status_code, changed.json()["progress"]["epoch"]) == (200, 1)


def test_a_long_answer_is_compressed_where_that_is_wanted(client: Client, stores: Stores) -> None:
    run_id = submit(stores, labels={f"label-{i}": "x" * 60 for i in range(20)}).id
    both(client, "GET", f"/v1/runs/{run_id}", **{"accept-encoding": "gzip"})
    root: Any = client.app._app  # type: ignore[attr-defined]
    ((_, message),) = [
        form for (_, wanted), form in root._polls._kept[run_id].forms.items() if wanted == b"gzip"
    ]
    assert b"label-19" in gzip.decompress(message["body"])


@pytest.mark.parametrize(
    "path", ["/v1/runs/run_none", "/v1/runs/other", "/v1/runs/", "/v1/runs/RUN_1", "/v1/runs/run_1?x=1"]
)
def test_what_is_no_run_or_no_usual_question_is_answered_by_fastapi(client: Client, path: str) -> None:
    both(client, "GET", path)


def test_a_poll_sees_all_that_was_stored_before_it_came(client: Client, stores: Stores) -> None:
    run, lease = start(stores)
    for epoch in range(1, 20):
        stores.runs.report(lease, progress=Progress(epoch=epoch))
        assert client.get(f"/v1/runs/{run.id}").json()["progress"]["epoch"] == epoch
    assert client.post(f"/v1/runs/{run.id}/cancel").json()["state"] == "stopping"
    assert client.get(f"/v1/runs/{run.id}").json()["state"] == "stopping"
    stores.runs.finish(lease, RunState.CANCELLED, reason="user_cancel")
    assert client.get(f"/v1/runs/{run.id}").json()["state"] == "cancelled"


def test_polls_of_one_moment_share_a_look_and_others_are_answered_in_their_turn(
    client: Client, stores: Stores, monkeypatch: pytest.MonkeyPatch
) -> None:
    runs, looks, answered = [submit(stores).id for _ in range(3)], [], []
    root: Any = client.app._app  # type: ignore[attr-defined]
    shown = stores.runs.shown

    def counted(run_ids: Any) -> Any:
        looks.append(list(run_ids))
        return shown(run_ids)

    monkeypatch.setattr(stores.runs, "shown", counted)
    monkeypatch.setattr(polling, "POLLS_PER_S", 1e9)

    async def poll(number: int) -> None:
        answer = await root._polls._read(runs[number % 3])
        assert runs[number % 3].encode() in answer.body
        answered.append(number)

    async def ask() -> None:
        await asyncio.gather(*map(poll, range(30)))
        await root._polls.close()
        assert root._polls._looking is None

    client.run(ask())
    assert sorted(answered) == list(range(30))
    assert looks == [runs]


def test_between_two_answers_there_is_time_for_others(client: Client, stores: Stores) -> None:
    run_id = submit(stores).id
    root: Any = client.app._app  # type: ignore[attr-defined]
    turns = 0

    async def others() -> None:
        nonlocal turns
        while True:
            turns += 1
            await asyncio.sleep(0)

    async def ask() -> None:
        task = asyncio.create_task(others())
        await asyncio.gather(*(root._polls._read(run_id) for _ in range(40)))
        task.cancel()

    client.run(ask())
    assert turns >= 40 / polling.PER_TURN


def test_a_database_that_does_not_answer_is_told_to_everyone_and_asked_again(
    client: Client, stores: Stores, monkeypatch: pytest.MonkeyPatch
) -> None:
    run_id = submit(stores).id

    def fails() -> int:
        raise StoreUnavailableError("not now")

    with monkeypatch.context() as patched:
        patched.setattr(stores.runs, "change_marker", fails)
        answer = client.get(f"/v1/runs/{run_id}")
        assert (answer.status_code, answer.json()["code"]) == (503, "store_unavailable")
    assert client.get(f"/v1/runs/{run_id}").status_code == 200


def test_who_went_away_is_not_waited_for(client: Client, stores: Stores) -> None:
    polls = RunPolls(stores.runs, client.app)
    run_id = submit(stores).id

    async def ask() -> bytes:
        gone, stays = polls._read(run_id), polls._read(run_id)
        gone.cancel()
        answer = await stays
        assert answer is not None
        return answer.body

    assert run_id.encode() in client.run(ask())
