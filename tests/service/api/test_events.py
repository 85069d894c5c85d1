"""The event log as pages and as Server-Sent Events: order, resumption, live delivery, and the end."""

import asyncio

import httpx
import pytest

from service.api import events
from service.domain.errors import StoreUnavailableError
from service.domain.run import EventType, Lease, Run, RunState
from service.store import Stores
from tests.contracts.builders import start, submit
from tests.service.api.client import Client, Stream, event_of, events_of

SSE = {"Accept": "text/event-stream"}


@pytest.fixture
def ended(stores: Stores) -> Run:
    """A run with the events 1 to 6: queued, running, two warnings, succeeded, end."""
    _, lease = start(stores)
    warnings = [(EventType.WARNING, {"text": "a\nb: c\r\nä"}), (EventType.WARNING, {"value": float("nan")})]
    stores.runs.report(lease, events=warnings)
    return stores.runs.finish(lease, RunState.SUCCEEDED, reason="completed")


def stream(client: Client, run: Run, **headers: str) -> httpx.Response:
    return client.get(f"/v1/runs/{run.id}/events", headers=SSE | headers)


class TestPages:
    def test_events_come_in_order_without_gaps(self, client: Client, ended: Run) -> None:
        page = client.get(f"/v1/runs/{ended.id}/events").json()
        assert [event["seq"] for event in page["data"]] == [1, 2, 3, 4, 5, 6]
        assert page["data"][-1]["type"] == "end"
        assert page["data"][3]["data"] == {"value": "NaN"}

    def test_pages_follow_one_another(self, client: Client, ended: Run) -> None:
        first = client.get(f"/v1/runs/{ended.id}/events?limit=4").json()
        rest = client.get(f"/v1/runs/{ended.id}/events", params={"cursor": first["next_cursor"]}).json()
        assert [event["seq"] for event in first["data"] + rest["data"]] == [1, 2, 3, 4, 5, 6]

    def test_events_of_some_types_alone(self, client: Client, ended: Run) -> None:
        path = f"/v1/runs/{ended.id}/events?types=state&types=end"
        first = client.get(f"{path}&limit=2").json()
        rest = client.get(f"{path}&cursor={first['next_cursor']}").json()
        assert [event["seq"] for event in first["data"] + rest["data"]] == [1, 2, 5, 6]
        streamed = client.get(f"/v1/runs/{ended.id}/events?types=warning", headers=SSE).text
        assert [line for line in streamed.splitlines() if line.startswith("event:")] == [
            "event: warning", "event: warning", "event: end",
        ]  # fmt: skip

    @pytest.mark.parametrize(
        "query", ["after=-1", "after=x", "limit=0", "limit=1001", "cursor=x", "afer=1", "types=x"]
    )
    def test_wrong_parameters_are_named(self, client: Client, ended: Run, query: str) -> None:
        answer = client.get(f"/v1/runs/{ended.id}/events?{query}")
        assert answer.json()["errors"][0]["parameter"] == query.partition("=")[0]


class TestStreamOfAnEndedRun:
    @pytest.mark.parametrize(
        "accept", ["text/event-stream;q=0", "application/json, text/event-stream; q=0.0"]
    )
    def test_a_client_that_wants_no_stream_gets_none(self, client: Client, ended: Run, accept: str) -> None:
        answer = client.get(f"/v1/runs/{ended.id}/events", headers={"Accept": accept})
        assert answer.headers["content-type"] == "application/json"

    def test_every_event_has_its_seq_its_type_and_json(self, client: Client, ended: Run) -> None:
        answer = stream(client, ended)
        assert answer.headers["content-type"].startswith("text/event-stream")
        assert answer.headers["cache-control"] == "no-store"
        blocks = answer.text.removesuffix("\n\n").split("\n\n")
        assert all(
            "\ndata: " in block for block in blocks
        )  # to some clients one without data is an empty event
        assert [block for block in blocks if "retry: 2000" in block] == blocks[:1]
        streamed = events_of(answer.text)
        assert [event["id"] for event in streamed] == ["1", "2", "3", "4", "5", "6"]
        assert [event["event"] for event in streamed][-2:] == ["state", "end"]
        pages = client.get(f"/v1/runs/{ended.id}/events").json()["data"]
        assert [event["data"] for event in streamed] == pages

    @pytest.mark.parametrize("seen", range(6))
    def test_it_goes_on_where_the_client_was(self, client: Client, ended: Run, seen: int) -> None:
        streamed = events_of(stream(client, ended, **{"Last-Event-ID": str(seen)}).text)
        assert [int(event["id"]) for event in streamed] == list(range(seen + 1, 7))

    @pytest.mark.parametrize("seen", ["6", "7", "999999999999"])
    def test_a_client_that_has_seen_the_end_is_told_to_stop(
        self, client: Client, ended: Run, seen: str
    ) -> None:
        answer = stream(client, ended, **{"Last-Event-ID": seen})
        assert (answer.status_code, answer.content) == (204, b"")
        assert answer.headers["content-type"].startswith(
            "text/event-stream"
        )  # httpx-sse looks at nothing else

    @pytest.mark.parametrize("seen", ["", "x", "-1", "1.5", "9" * 400, "0x1"])
    def test_an_id_that_is_none_starts_again(self, client: Client, ended: Run, seen: str) -> None:
        assert len(events_of(stream(client, ended, **{"Last-Event-ID": seen}).text)) == 6

    def test_more_events_than_one_batch_all_come(
        self, client: Client, stores: Stores, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setattr(events, "BATCH", 3)
        _, lease = start(stores)
        stores.runs.report(lease, events=[(EventType.WARNING, {"n": n}) for n in range(10)])
        run = stores.runs.finish(lease, RunState.FAILED, reason="error")
        assert [int(event["id"]) for event in events_of(stream(client, run).text)] == list(range(1, 15))


class TestLiveStream:
    def follow(self, client: Client, stores: Stores, run: Run, lease: Lease) -> list[str]:
        """Types of the events of a stream that is opened before most of them happen."""

        async def scenario() -> list[str]:
            types = []
            async with Stream(client.app, f"/v1/runs/{run.id}/events", {"accept": SSE["Accept"]}) as live:
                async for piece in live.pieces():
                    event = event_of(piece)
                    if event is None:
                        continue
                    types.append(event["event"])
                    if types == ["state", "state"]:
                        stores.runs.report(lease, phase="training")
                    if event["event"] == "phase":
                        stores.runs.finish(lease, RunState.SUCCEEDED, reason="completed")
            return types

        return client.run(asyncio.wait_for(scenario(), 60))

    def test_events_arrive_as_they_happen_and_the_end_closes_it(self, client: Client, stores: Stores) -> None:
        run, lease = start(stores)
        assert self.follow(client, stores, run, lease) == ["state", "state", "phase", "state", "end"]

    def test_a_database_that_is_away_for_a_moment_does_not_end_it(
        self, client: Client, stores: Stores, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        run, lease = start(stores)
        marker, calls = stores.runs.change_marker, iter(range(1000))

        def failing() -> int:
            if next(calls) in (1, 2):
                raise StoreUnavailableError("away")
            return marker()

        watcher = client.app._app._services.changes  # type: ignore[attr-defined]
        monkeypatch.setattr(watcher, "_marker", failing)
        assert self.follow(client, stores, run, lease)[-1] == "end"

    def test_a_silent_stream_says_that_it_lives(
        self, client: Client, stores: Stores, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setattr(events, "HEARTBEAT_S", 0.05)
        run = submit(stores)

        async def comment() -> str:
            async with Stream(client.app, f"/v1/runs/{run.id}/events", {"accept": SSE["Accept"]}) as live:
                return await anext(piece async for piece in live.pieces() if piece.startswith(":"))

        assert client.run(asyncio.wait_for(comment(), 60)).startswith(": ")

    def test_a_client_that_goes_away_ends_it(self, client: Client, stores: Stores) -> None:
        run = submit(stores)

        async def leave() -> bool:
            async with Stream(client.app, f"/v1/runs/{run.id}/events", {"accept": SSE["Accept"]}) as live:
                await anext(live.pieces())
                await live._to_app.put({"type": "http.disconnect"})
                await asyncio.wait_for(live.task, 60)
                return live.task.done()

        assert client.run(leave())

    def test_the_end_of_the_service_ends_it(self, client: Client, stores: Stores) -> None:
        run = submit(stores)

        async def stop() -> list[str]:
            async with Stream(client.app, f"/v1/runs/{run.id}/events", {"accept": SSE["Accept"]}) as live:
                pieces = live.pieces()
                first = await anext(pieces)
                client.app._app._services.changes.stop()  # type: ignore[attr-defined]
                return [first] + [piece async for piece in pieces]

        (queued,) = client.run(asyncio.wait_for(stop(), 60))
        assert "event: state" in queued
