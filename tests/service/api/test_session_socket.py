"""Sessions over a WebSocket: frames, resuming, what closes a connection, and the same answers as over HTTP."""

import asyncio
import gc
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from types import SimpleNamespace
from typing import Any

import msgspec
import pytest

from service.domain.sharing import Caller, Scope
from service.domain.use_cases import create_token, token_id_of
from service.security import UNAUTHORIZED_CLOSE, RateLimiter, TokenVerifier
from service.serving.sessions import socket as session_socket
from service.settings import Settings
from service.store import Stores
from tests.contracts.builders import new_checkpoint, start
from tests.service.api.client import HOST, Client, running
from tests.service.api.test_sessions import (  # noqa: F401
    OBSERVATION,
    actions,
    begun,
    observations,
    sessions,
    source,
    step,
)
from tests.service.serving.checkpoints import make_checkpoint

JSON, MSGPACK = session_socket.JSON_PROTOCOL, session_socket.MSGPACK_PROTOCOL


class Socket:
    """A client's end of a connection."""

    def __init__(self, subprotocol: str | None) -> None:
        self.to_app: asyncio.Queue[Any] = asyncio.Queue()
        self.from_app: asyncio.Queue[Any] = asyncio.Queue()
        self._codec: Any = msgspec.msgpack if subprotocol == MSGPACK else msgspec.json
        self._is_text = subprotocol != MSGPACK

    def say(self, **frame: Any) -> None:
        self.say_bytes(self._codec.encode(frame))

    def say_bytes(self, data: bytes) -> None:
        content = {"text": data.decode()} if self._is_text else {"bytes": data}
        self.to_app.put_nowait({"type": "websocket.receive", **content})

    async def hear(self) -> Any:
        """The next frame, or the code of the close."""
        message = await self.from_app.get()
        if message["type"] == "websocket.close":
            self.to_app.put_nowait({"type": "websocket.disconnect", "code": message["code"]})
            return message["code"]
        return self._codec.decode(message["text"].encode() if self._is_text else message["bytes"])

    async def ask(self, **frame: Any) -> Any:
        self.say(**frame)
        return await self.hear()


@asynccontextmanager
async def connected(
    client: Client, path: str, subprotocol: str | None = JSON, query: str = "", **headers: str
) -> AsyncIterator[Socket]:
    """A connection that was accepted; its first frame is still to be heard."""
    socket = Socket(subprotocol)
    fields = {"host": HOST, **headers}
    scope = {
        "type": "websocket",
        "path": f"{path}/ws",
        "query_string": query.encode(),
        "headers": [(name.encode(), value.encode()) for name, value in fields.items()],
        "subprotocols": [] if subprotocol is None else [subprotocol],
        "client": ("127.0.0.1", 50000),
        "extensions": {"websocket.http.response": {}},
        "state": {},
    }
    task = asyncio.create_task(client.app(scope, socket.to_app.get, socket.from_app.put))
    socket.to_app.put_nowait({"type": "websocket.connect"})
    first = await socket.from_app.get()
    socket.accepted = first  # type: ignore[attr-defined]
    try:
        yield socket
    finally:
        socket.to_app.put_nowait({"type": "websocket.disconnect", "code": 1000})
        await task


@pytest.fixture
def path(client: Client, source: Any) -> str:  # noqa: F811
    return begun(client, source[0], deterministic=False, seed=3, record=True)


@pytest.mark.parametrize("subprotocol", [JSON, MSGPACK, None])
def test_a_connection_says_hello_and_steps_as_over_http(
    client: Client,
    source: Any,  # noqa: F811
    path: str,
    subprotocol: str | None,
) -> None:
    seen = observations(6)
    expected = actions(client, begun(client, source[0], deterministic=False, seed=3), seen)

    async def play() -> None:
        async with connected(client, path, subprotocol) as socket:
            assert socket.accepted["subprotocol"] == subprotocol  # type: ignore[attr-defined]
            hello = await socket.hear()
            assert (hello["op"], hello["next_seq"], hello["limits"]["max_inflight"]) == ("hello", 0, 4)
            for seq, observation in enumerate(seen):
                answer = await socket.ask(op="step", seq=seq, observation=observation, reward=1.0)
                assert (answer["op"], answer["action"], answer["next_seq"]) == (
                    "action",
                    expected[seq],
                    seq + 1,
                )
            socket.say(op="feedback", seq=5, reward=7.0)
            answer = await socket.ask(op="step", seq=6, observation=OBSERVATION, terminated=True)
            assert answer["ended"] == {"episode": 0, "length": 6, "recorded": 0}
            ready = await socket.ask(op="reset", seed=3)
            assert (ready["op"], ready["next_seq"], ready["episode"]) == ("ready", 0, 1)
            answer = await socket.ask(op="step", seq=0, observation=seen[0])
            assert answer["action"] == expected[0]

    client.run(play())


def test_a_lost_answer_is_given_again_to_the_next_connection_and_over_http(client: Client, path: str) -> None:
    async def lose() -> Any:
        async with connected(client, path) as socket:
            await socket.hear()
            return await socket.ask(op="step", seq=0, observation=OBSERVATION)

    async def resume() -> None:
        async with connected(client, path) as socket:
            assert (await socket.hear())["next_seq"] == 1
            assert await socket.ask(op="step", seq=0, observation=OBSERVATION) == lost
            assert (await socket.ask(op="step", seq=1, observation=OBSERVATION))["next_seq"] == 2

    lost = client.run(lose())
    answer = client.post_text(
        f"{path}/step", b'{"seq":0,"observation":%s}' % msgspec.json.encode(OBSERVATION)
    )
    assert {"op": "action", **answer.json()} == lost
    client.run(resume())


@pytest.mark.parametrize(
    ("frame", "code", "close"),
    [
        (b"{", "malformed_json", 4400),
        (b'{"op":"stop"}', "invalid_request", 4400),
        (b'{"op":"step","seq":0}', "invalid_request", 4400),
        (b'{"op":"step","seq":3,"observation":[0,0,0,0]}', "sequence_conflict", 4409),
    ],
)
def test_a_frame_that_nothing_can_follow_closes_the_connection(
    client: Client, path: str, frame: bytes, code: str, close: int
) -> None:
    async def play() -> None:
        async with connected(client, path) as socket:
            await socket.hear()
            socket.say_bytes(frame)
            answer = await socket.hear()
            assert (answer["op"], answer["problem"]["code"]) == ("error", code)
            assert await socket.hear() == close

    client.run(play())
    assert step(client, path, 0).status_code == 200


def test_an_observation_that_does_not_fit_is_said_so_and_sent_right(client: Client, path: str) -> None:
    async def play() -> None:
        async with connected(client, path) as socket:
            await socket.hear()
            answer = await socket.ask(op="step", seq=0, observation=[1.0])
            assert (answer["seq"], answer["problem"]["errors"][0]["pointer"]) == (0, "/observation")
            assert (await socket.ask(op="step", seq=0, observation=OBSERVATION))["next_seq"] == 1

    client.run(play())


def test_frames_that_wait_are_answered_in_order_and_more_than_four_close_the_connection(
    client: Client, path: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(
        "service.serving.sessions.session.READ_ON_LOOP_BYTES", 0
    )  # so that every step takes a thread

    async def play() -> None:
        async with connected(client, path) as socket:
            await socket.hear()
            for seq in range(4):
                socket.say(op="step", seq=seq, observation=OBSERVATION)
            assert [(await socket.hear())["seq"] for _ in range(4)] == [0, 1, 2, 3]
            for seq in range(4, 12):
                socket.say(op="step", seq=seq, observation=OBSERVATION)
            heard = [await socket.hear()]
            while isinstance(heard[-1], dict):
                heard.append(await socket.hear())
            assert heard[-1] == 4429

    client.run(play())


def test_long_frames_are_read_in_a_thread_and_answered_in_order(
    client: Client, path: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(session_socket, "READ_ON_LOOP_BYTES", 0)

    async def play() -> None:
        async with connected(client, path) as socket:
            await socket.hear()
            for seq in range(4):
                socket.say(op="step", seq=seq, observation=OBSERVATION)
            assert [(await socket.hear())["seq"] for _ in range(4)] == [0, 1, 2, 3]
            socket.say_bytes(b"{")
            assert [(await socket.hear())["problem"]["code"], await socket.hear()] == ["malformed_json", 4400]

    client.run(play())


def test_frames_count_toward_the_rate_and_one_too_early_is_told_when_to_come_again(
    sqlite_url: str, stores: Stores, monkeypatch: pytest.MonkeyPatch
) -> None:
    clock = SimpleNamespace(now=0.0)
    monkeypatch.setattr(RateLimiter.__init__, "__defaults__", (lambda: clock.now,))
    run, lease = start(stores)
    stores.checkpoints.put(lease, new_checkpoint(1, is_best=True), make_checkpoint().to_bytes())

    async def play(path: str) -> None:
        clock.now += 100.0
        async with connected(client, path) as socket:
            await socket.hear()
            for seq in range(7):  # the connection was the eighth
                assert (await socket.ask(op="step", seq=seq, observation=OBSERVATION))["op"] == "action"
            refused = await socket.ask(op="step", seq=7, observation=OBSERVATION)
            assert (refused["op"], refused["seq"], refused["problem"]["status"]) == ("error", 7, 429)
            clock.now += refused["problem"]["retry_after_s"]
            assert (await socket.ask(op="step", seq=7, observation=OBSERVATION))["next_seq"] == 8

    with running(Settings(database_url=sqlite_url, auth=False, rate_limit_per_s=4.0), stores) as client:
        client.run(play(client.post("/v1/sessions", {"run": run.id}).headers["location"]))


@pytest.mark.parametrize("place", ["step", "reset"])
def test_what_nobody_expected_is_told_and_closes_the_connection(
    client: Client,
    path: str,
    monkeypatch: pytest.MonkeyPatch,
    sessions: Any,  # noqa: F811
    place: str,
) -> None:
    def fail(*_: Any, **__: Any) -> None:
        raise RuntimeError("secret")

    monkeypatch.setattr(sessions, place, fail)

    async def play() -> tuple[dict[str, Any], int]:
        async with connected(client, path) as socket:
            await socket.hear()
            facts = {"seq": 0, "observation": OBSERVATION} if place == "step" else {}
            return await socket.ask(op=place, **facts), await socket.hear()

    answer, code = client.run(play())
    assert (answer["problem"]["code"], code) == ("internal", 1011)
    assert "secret" not in str(answer)


def test_a_client_that_goes_away_is_no_news(
    client: Client, path: str, caplog: pytest.LogCaptureFixture, recwarn: pytest.WarningsRecorder
) -> None:
    async def play() -> None:
        async with connected(client, path) as socket:
            await socket.hear()
            socket.say(op="reset")
        async with connected(client, path) as socket:
            await socket.hear()
            socket.from_app.put = gone  # type: ignore[method-assign]
            socket.say(op="step", seq=0, observation=OBSERVATION)

    async def gone(_: Any) -> None:
        raise OSError

    client.run(play())
    gc.collect()
    assert caplog.records == []
    assert [str(warning.message) for warning in recwarn] == []


def test_sessions_that_are_over_or_were_never_there_close_with_their_own_codes(
    client: Client, path: str
) -> None:
    async def codes(path: str) -> tuple[str, int]:
        async with connected(client, path) as socket:
            return (await socket.hear())["problem"]["code"], await socket.hear()

    assert client.run(codes(f"/v1/sessions/session_{'0' * 26}")) == ("not_found", 4404)
    client.request("DELETE", path)
    assert client.run(codes(path)) == ("session_ended", 4410)


def test_a_connection_ends_with_its_session_with_silence_and_with_the_service(
    client: Client,
    path: str,
    monkeypatch: pytest.MonkeyPatch,
    sessions: Any,  # noqa: F811
) -> None:
    async def close() -> None:
        async with connected(client, path) as socket:
            await socket.hear()
            sessions.warn()
            assert await socket.hear() == {"op": "drain", "reconnect_after_ms": 500}
            assert await socket.hear() == 1012
        async with connected(client, path) as socket:
            await socket.hear()
            sessions.clock.now += 1000
            await sessions.sweep()
            assert await socket.hear() == 4410

    async def idle() -> None:
        async with connected(client, path) as socket:
            await socket.hear()
            assert await socket.hear() == 4408

    with monkeypatch.context() as patched:
        patched.setattr(session_socket, "IDLE_S", 0.0)
        client.run(idle())
    client.run(close())


def test_nothing_is_accepted_of_another_origin_or_for_another_form(client: Client, path: str) -> None:
    async def refused(path: str, subprotocol: str | None = JSON, **headers: str) -> int:
        async with connected(client, path, subprotocol, **headers) as socket:
            first = socket.accepted  # type: ignore[attr-defined]
            assert first["type"] == "websocket.http.response.start"
            return int(first["status"])

    assert client.run(refused(path, origin="https://evil.example")) == 403
    assert client.run(refused(path, "chat")) == 400
    assert client.run(refused("/v1/runs/r")) == 404


def test_a_connection_ends_with_its_token_whatever_it_waits_for(
    sqlite_url: str, stores: Stores, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(TokenVerifier.__init__, "__defaults__", (0.05, None))
    run, lease = start(stores)
    stores.checkpoints.put(lease, new_checkpoint(1, is_best=True), make_checkpoint().to_bytes())
    text = create_token(stores.registry, "robot", Caller(scopes=frozenset({Scope.ACT})))
    token = {"x-api-key": text}

    async def play(path: str) -> list[Any]:
        async with connected(client, path, **token) as socket:
            heard = [await socket.hear(), await socket.ask(op="step", seq=0, observation=OBSERVATION)]
            stores.registry.revoke_token(token_id_of(text) or "")
            heard.append(await socket.hear())
        async with connected(client, path, **token) as socket:
            return [*heard, socket.accepted]  # type: ignore[attr-defined]

    with running(Settings(database_url=sqlite_url), stores) as client:
        made = client.post("/v1/sessions", {"run": run.id}, headers=token)
        hello, action, code, refused = client.run(play(made.headers["location"]))
    assert (hello["op"], action["op"], code) == ("hello", "action", UNAUTHORIZED_CLOSE)
    assert refused["status"] == 401
