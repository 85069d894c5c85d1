"""The events of all runs: pages, live streams that resume, and what is yet to come."""

import asyncio

import pytest

from service.domain.run import EventType, RunState
from service.main import create_app
from service.settings import Settings
from service.store import Stores
from tests.contracts.builders import start, submit
from tests.service.api.client import Client, Stream, event_of, running

SSE = {"Accept": "text/event-stream"}


def ended(stores: Stores) -> str:
    """A run with five events."""
    run, lease = start(stores)
    stores.runs.report(lease, events=[(EventType.WARNING, {"value": float("nan")})])
    stores.runs.finish(lease, RunState.SUCCEEDED, reason="completed")
    return run.id


def test_pages_follow_one_another_over_all_runs(client: Client, stores: Stores) -> None:
    runs = [ended(stores), ended(stores)]
    found, path = [], "/v1/events?limit=3"
    while path:
        page = client.get(path).json()
        found += page["data"]
        path = f"/v1/events?limit=3&cursor={page['next_cursor']}" if page["has_more"] else ""
    assert [(event["run"], event["seq"]) for event in found] == [
        (run, seq) for run in runs for seq in range(1, 6)
    ]
    ends = client.get("/v1/events?types=end&types=warning").json()["data"]
    assert [event["type"] for event in ends] == ["warning", "end"] * 2
    assert ends[0]["data"] == {"value": "NaN"}
    assert client.get(f"/v1/events?after={found[-2]['position']}").json()["data"] == found[-1:]
    assert client.get("/v1/events?after=-1").json() == {"data": [], "next_cursor": None, "has_more": False}


@pytest.mark.parametrize("query", ["after=-2", "after=x", "types=x", "limit=1001", "afer=1"])
def test_wrong_parameters_are_named(client: Client, query: str) -> None:
    answer = client.get(f"/v1/events?{query}")
    assert answer.json()["errors"][0]["parameter"] == query.partition("=")[0]


def test_a_stream_goes_on_where_it_was_after_a_restart(settings: Settings, stores: Stores) -> None:
    async def first(client: Client, count: int, **headers: str) -> list[tuple[str, int, str]]:
        found = []
        async with Stream(client.app, "/v1/events?types=state", {**SSE, **headers}) as stream:
            async for block in stream.pieces():
                event = event_of(block)
                if event is not None:
                    found.append((event["data"]["run"], event["data"]["seq"], event["id"]))
                if len(found) == count:
                    return found
        return found

    run = ended(stores)
    with running(settings, stores) as client:
        seen = client.run(first(client, 2))
    assert [place[:2] for place in seen] == [(run, 1), (run, 2)]
    with running(settings, stores) as client:  # another process, as far as the client can tell
        other = submit(stores)
        rest = client.run(first(client, 2, **{"Last-Event-ID": seen[-1][2]}))
    assert [place[:2] for place in rest] == [(run, 4), (other.id, 1)]


def test_what_is_written_reaches_who_waits_and_the_service_can_stop(
    settings: Settings, stores: Stores
) -> None:
    ended(stores)
    with running(settings, stores) as client:

        async def wait() -> list[str]:
            async with Stream(client.app, "/v1/events?after=-1", SSE) as stream:
                assert stream.status == 200
                pieces = stream.pieces()
                waiting = asyncio.ensure_future(anext(pieces))
                await asyncio.sleep(0.3)
                run = await asyncio.to_thread(submit, stores)
                event = event_of(await waiting)
                assert event is not None
                return [event["data"]["run"], run.id]

        told, made = client.run(wait())
        assert told == made


def test_it_is_asked_for_with_a_token_where_tokens_are_on(sqlite_url: str, stores: Stores) -> None:
    app = create_app(Settings(database_url=sqlite_url), stores)
    with asyncio.Runner() as runner:
        assert Client(app, runner).get("/v1/events").status_code == 401
