"""What a stranger may make the server hold, how long, and how it ends: over real sockets."""

import asyncio
import json
import logging
import re
import socket
import threading
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import ExitStack, asynccontextmanager, contextmanager
from functools import partial
from typing import Any

import pytest
import uvicorn
from uvicorn.protocols.utils import ClientDisconnected
from uvicorn.server import ServerState

from service import http_server
from service.http_server import MAX_HEAD_BYTES, MAX_HEADERS, Connections, Limits, Protocol, Server, WebSocket
from tests.service.wire import Transport

HEAD = b"POST / HTTP/1.1\r\nhost: localhost\r\n"


class App:
    """Answers with the size of what came."""

    def __init__(self) -> None:
        self.paths: list[str] = []

    async def __call__(self, scope: Any, receive: Any, send: Any) -> None:
        size, more = 0, True
        while more:
            message = await receive()
            if message["type"] == "http.disconnect":
                return
            size += len(message["body"])
            more = message["more_body"]
        self.paths.append(scope["path"])
        body = b"%d" % size
        headers = [(b"content-length", b"%d" % len(body))]
        await send({"type": "http.response.start", "status": 200, "headers": headers})
        await send({"type": "http.response.body", "body": body})


class Running:
    def __init__(self) -> None:
        self.app = App()
        self.shared = Connections()
        protocol: Any = partial(Protocol, shared=self.shared)
        config = uvicorn.Config(self.app, http=protocol, ws="none", lifespan="off", log_config=None)
        self.server = Server(config, self.shared)
        self.listener = socket.create_server(("127.0.0.1", 0))
        self.thread = threading.Thread(
            target=asyncio.run, args=(self.server.serve(sockets=[self.listener]),), daemon=True
        )

    def limit(self, **limits: Any) -> None:
        """Of connections that come from now on."""
        self.shared.limits = Limits(**limits)

    @contextmanager
    def connected(self) -> Iterator[socket.socket]:
        with socket.create_connection(self.listener.getsockname()) as connection:
            connection.settimeout(60)
            yield connection

    def tell(self, sent: bytes) -> tuple[int, dict[str, str], bytes]:
        with self.connected() as connection:
            connection.sendall(sent)
            return answer_on(connection)


def answer_on(connection: socket.socket) -> tuple[int, dict[str, str], bytes]:
    """Status, headers and body of the next answer; status 0 when the server closed without one."""
    data = b""
    while b"\r\n\r\n" not in data:
        piece = connection.recv(65_536)
        if not piece:
            return 0, {}, data
        data += piece
    head, _, body = data.partition(b"\r\n\r\n")
    status, *lines = head.decode().split("\r\n")
    headers = dict(line.split(": ", 1) for line in lines)
    while len(body) < int(headers["content-length"]):
        body += connection.recv(65_536)
    return int(status.split()[1]), headers, body


@pytest.fixture
def running() -> Iterator[Running]:
    running = Running()
    running.thread.start()
    wait_until(lambda: running.server.started)
    yield running
    running.server.should_exit = True
    running.limit(drain_s=0.0)
    running.thread.join(60)
    assert not running.thread.is_alive()


@pytest.mark.parametrize(
    "sent",
    [
        HEAD + b"".join(b"x-%d: %s\r\n" % (i, b"a" * 1000) for i in range(100)) + b"\r\n",
        HEAD + b"x: " + b"a" * 4_000_000,
        HEAD + b"a" * 4_000_000,
        b"GET /" + b"a" * 4_000_000,
        HEAD + b"transfer-encoding: chunked\r\n\r\n1\r\na\r\n0\r\nx: " + b"a" * 4_000_000,
        HEAD + b"transfer-encoding: chunked\r\n\r\n1;" + b"a" * 4_000_000,
    ],
    ids=["many headers", "one header", "a name", "a path", "a trailer", "a chunk extension"],
)
def test_what_is_no_body_is_never_held_beyond_its_bound(running: Running, sent: bytes) -> None:
    status, headers, body = running.tell(sent)
    assert status == 431
    assert json.loads(body)["code"] == "headers_too_large"
    assert headers["connection"] == "close"
    assert running.app.paths == []


@pytest.mark.parametrize("chunk", [1, 7, 65_536])
def test_a_long_body_is_no_long_head_however_it_is_cut(running: Running, chunk: int) -> None:
    body = b"a" * 200_000
    pieces = [body[i : i + chunk] for i in range(0, len(body), chunk)]
    chunked = b"".join(b"%x\r\n%s\r\n" % (len(piece), piece) for piece in pieces) + b"0\r\n\r\n"
    assert running.tell(HEAD + b"transfer-encoding: chunked\r\n\r\n" + chunked)[::2] == (200, b"200000")
    assert running.tell(HEAD + b"content-length: 200000\r\n\r\n" + body)[::2] == (200, b"200000")
    near = b"x: " + b"a" * (MAX_HEAD_BYTES - 200) + b"\r\ncontent-length: 200000\r\n\r\n"
    assert running.tell(HEAD + near + body)[::2] == (200, b"200000")


def test_what_is_no_http_is_a_problem_too_and_no_news(
    running: Running, caplog: pytest.LogCaptureFixture
) -> None:
    status, headers, body = running.tell(b"\x16\x03\x01 this is TLS\r\n\r\n")
    assert (status, json.loads(body)["code"]) == (400, "bad_request")
    assert headers["content-type"] == "application/problem+json"
    assert caplog.records == []


@asynccontextmanager
async def websocket(limits: Limits | None = None) -> AsyncIterator[tuple[Any, Transport]]:
    """One that was accepted, and hears no message."""
    is_accepted, is_over = asyncio.Event(), asyncio.Event()

    async def app(scope: Any, receive: Any, send: Any) -> None:
        await send({"type": "websocket.accept"})
        is_accepted.set()
        await is_over.wait()

    config = uvicorn.Config(app, lifespan="off", log_config=None)
    config.load()
    state = ServerState()
    shared = Connections(limits)
    protocol: Any = WebSocket(config=config, server_state=state, app_state={}, shared=shared)
    transport = Transport(protocol)
    protocol.connection_made(transport)
    protocol.data_received(
        b"GET / HTTP/1.1\r\nhost: localhost\r\nupgrade: websocket\r\nconnection: upgrade\r\n"
        b"sec-websocket-version: 13\r\nsec-websocket-key: AAAAAAAAAAAAAAAAAAAAAA==\r\n\r\n"
    )
    await is_accepted.wait()
    transport.sent = b""
    yield protocol, transport
    is_over.set()
    await asyncio.gather(*state.tasks)


def test_text_on_a_websocket_that_is_none_closes_it_and_is_no_news(caplog: pytest.LogCaptureFixture) -> None:
    async def scenario() -> bytes:
        async with websocket() as (protocol, transport):
            protocol.data_received(b"\x81\x82\x00\x00\x00\x00\xff\xfe")
            return transport.sent

    assert asyncio.run(scenario())[:4] == b"\x88\x02\x03\xef"  # 1007
    assert caplog.records == []


def test_pings_of_one_who_reads_no_pongs_are_not_read_either() -> None:
    async def scenario() -> list[bool]:
        async with websocket() as (protocol, transport):
            paused = []
            await protocol.receive()
            for turn in (protocol.pause_writing, protocol.resume_writing):
                turn()
                paused.append(transport.is_paused)
            protocol.data_received(b"\x81\x80\x00\x00\x00\x00")  # a message that nobody takes
            protocol.pause_writing()
            await protocol.receive()
            paused.append(transport.is_paused)
            protocol.resume_writing()
            return [*paused, transport.is_paused]

    assert asyncio.run(scenario()) == [True, False, True, False]


def test_one_who_does_not_read_a_websocket_gets_no_more_written_and_is_cut_off(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(http_server, "BYTES_PER_S", 1e9)

    async def scenario() -> None:
        async with websocket(Limits(read_s=0.05)) as (protocol, transport):
            protocol.pause_writing()
            with pytest.raises(ClientDisconnected):
                await asyncio.wait_for(protocol.send({"type": "websocket.send", "text": "a"}), 60)
            assert transport.is_closed
            assert transport.sent == b""

    asyncio.run(scenario())


def test_a_request_that_does_not_come_is_not_waited_for(running: Running) -> None:
    running.limit(head_s=0.1, body_s=0.1)
    expected = {
        b"": 0,
        b"\r\n\r\n": 0,
        b"GET / HT": 408,
        HEAD + b"content-length: 9\r\n\r\nhalf": 408,
        HEAD + b"transfer-encoding: chunked\r\n\r\n4\r\nha": 408,
        b"GET / HTTP/1.1\r\nhost: a\r\n\r\n": 200,
    }
    with ExitStack() as stack:
        connections = {sent: stack.enter_context(running.connected()) for sent in expected}
        for sent, connection in connections.items():
            connection.sendall(sent)
        assert {sent: answer_on(connection)[0] for sent, connection in connections.items()} == expected
        for connection in connections.values():
            while connection.recv(1000):  # what is closed ends here; one that were not would time out
                pass


def test_one_byte_now_and_then_does_not_keep_a_connection(running: Running) -> None:
    running.limit(head_s=0.2)
    with running.connected() as connection:
        connection.settimeout(0.05)
        for byte in HEAD * 100:
            try:
                connection.sendall(bytes([byte]))
                if connection.recv(12) == b"HTTP/1.1 408":
                    return
            except TimeoutError:
                continue
    pytest.fail("the connection lived on")


def test_a_connection_between_two_requests_is_answered_when_the_server_ends(running: Running) -> None:
    running.limit(drain_s=60.0)
    request = b"GET /%d HTTP/1.1\r\nhost: localhost\r\n\r\n"
    with running.connected() as first, running.connected() as second:
        for connection in (first, second):
            connection.sendall(request % 1)
            assert answer_on(connection)[0] == 200
        running.server.should_exit = True
        wait_until(lambda: all(kept._is_draining for kept in list(running.server.server_state.connections)))
        for connection in (first, second):
            connection.sendall(request % 2)
            status, headers, _ = answer_on(connection)
            assert (status, headers["connection"]) == (200, "close")
            assert connection.recv(1) == b""
        running.server.force_exit = True
    assert running.app.paths == ["/1", "/1", "/2", "/2"]


@pytest.mark.parametrize("n_requests", [1, 2, 3])
def test_whoever_is_answered_is_told_that_the_client_went_away(running: Running, n_requests: int) -> None:
    told = threading.Event()
    begun: list[str] = []

    async def waits(scope: Any, receive: Any, send: Any) -> None:
        begun.append(scope["path"])
        while (await receive())["type"] != "http.disconnect":
            pass
        told.set()

    running.server.config.loaded_app = waits
    with running.connected() as connection:
        connection.sendall(b"".join(b"GET /%d HTTP/1.1\r\nhost: a\r\n\r\n" % i for i in range(n_requests)))
        wait_until(lambda: bool(begun))
    assert told.wait(60)
    assert begun == ["/0"]


def test_a_client_that_does_not_read_its_answer_is_not_waited_for(
    running: Running, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(http_server, "BYTES_PER_S", 1e9)
    running.limit(read_s=0.1)
    ended = threading.Event()

    async def endless(scope: Any, receive: Any, send: Any) -> None:
        await send({"type": "http.response.start", "status": 200, "headers": []})
        while running.server.server_state.connections:
            await send({"type": "http.response.body", "body": b"a" * 65_536, "more_body": True})
            await asyncio.sleep(0)
        ended.set()

    running.server.config.loaded_app = endless
    with running.connected() as connection:
        connection.sendall(b"GET / HTTP/1.1\r\nhost: a\r\n\r\n")
        assert ended.wait(60)


def test_a_wish_for_another_protocol_is_answered_in_this_one(
    running: Running, caplog: pytest.LogCaptureFixture
) -> None:
    wish = b"connection: upgrade\r\nupgrade: websocket\r\nsec-websocket-version: 13\r\n"
    assert running.tell(b"GET / HTTP/1.1\r\nhost: a\r\n" + wish + b"\r\n")[0] == 200
    said = caplog.record_tuples
    warned = [text for name, level, text in said if name == "uvicorn.error" and level >= logging.WARNING]
    assert warned == [], "a stranger fills no log"


def test_the_end_of_the_server_waits_for_nobody_who_sends_or_reads_slowly(
    running: Running, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr(http_server, "SLOW_S", 0.1)

    async def app(scope: Any, receive: Any, send: Any) -> None:
        if scope["path"] == "/read":
            await send({"type": "http.response.start", "status": 200, "headers": []})
            while running.server.server_state.connections:
                await send({"type": "http.response.body", "body": b"a" * 65_536, "more_body": True})
                await asyncio.sleep(0)
            return
        while (await receive())["type"] != "http.disconnect":
            pass

    running.server.config.loaded_app = app
    with running.connected() as half, running.connected() as reader:
        half.sendall(HEAD + b"content-length: 9\r\n\r\nhalf")
        reader.sendall(b"GET /read HTTP/1.1\r\nhost: a\r\n\r\n")
        wait_until(
            lambda: (
                any(kept._read_by for kept in list(running.server.server_state.connections))
                and len(running.server.server_state.tasks) == 2
            )
        )
        running.server.should_exit = True
        assert answer_on(half)[0] == 408
        running.thread.join(60)
        assert not running.thread.is_alive()
    assert "ASGI" not in caplog.text


class Wired:
    """A protocol without a socket; its time is the test's."""

    def __init__(self, app: Any, shared: Connections | None = None, client: str = "127.0.0.1") -> None:
        config = uvicorn.Config(app, log_config=None, lifespan="off", access_log=False)
        config.load()
        self.protocol = Protocol(config=config, server_state=ServerState(), app_state={}, shared=shared)
        self.transport = Transport(self.protocol, client)
        self.protocol.connection_made(self.transport)

    def receive(self, data: bytes) -> None:
        self.protocol.data_received(data)

    def wait(self, seconds: float) -> bytes:
        """What has been sent when so many seconds are over."""
        self.protocol.check_due(self.protocol.loop.time() + seconds)
        return self.transport.sent


async def turns(n: int = 20) -> None:
    for _ in range(n):
        await asyncio.sleep(0)


def test_head_and_body_have_each_their_own_time_and_a_long_body_has_more() -> None:
    async def scenario() -> None:
        head = Wired(App())
        head.receive(HEAD)
        assert head.wait(9.0) == b""
        assert head.wait(10.1).startswith(b"HTTP/1.1 408 ")
        body = Wired(App())
        body.receive(HEAD + b"content-length: 999999\r\n\r\n")
        assert body.wait(29.0) == b""
        body.receive(b"a" * http_server.BYTES_PER_S)  # a second's worth
        assert body.wait(30.5) == b""
        assert body.wait(31.1).startswith(b"HTTP/1.1 408 ")

    asyncio.run(scenario())


def test_a_sender_whom_we_do_not_read_is_not_late() -> None:
    async def scenario() -> None:
        begun = asyncio.Event()

        async def busy(scope: Any, receive: Any, send: Any) -> None:
            begun.set()
            await asyncio.Event().wait()

        wired = Wired(busy)
        wired.receive(HEAD + b"content-length: 999999\r\n\r\n" + b"a" * 70_000)
        await begun.wait()
        assert wired.transport.is_paused
        assert wired.wait(1000.0) == b""

    asyncio.run(scenario())


def test_half_a_body_behind_another_request_is_not_waited_for_either() -> None:
    async def scenario() -> None:
        app = App()
        wired = Wired(app)
        wired.receive(b"GET /1 HTTP/1.1\r\nhost: a\r\n\r\n" + HEAD + b"content-length: 9\r\n\r\nhalf")
        await turns()
        assert app.paths == ["/1"]
        assert re.findall(rb"HTTP/1.1 (\d+)", wired.wait(31.0)) == [b"200", b"408"]

    asyncio.run(scenario())


def test_a_request_that_came_whole_is_answered_before_what_is_wrong_behind_it() -> None:
    async def scenario() -> None:
        wired = Wired(App())
        wired.receive(b"GET /1 HTTP/1.1\r\nhost: a\r\n\r\nwhat is this\r\n\r\n")
        await turns()
        assert re.findall(rb"HTTP/1.1 (\d+)", wired.transport.sent) == [b"200", b"400"]
        assert wired.transport.is_ended

    asyncio.run(scenario())


@pytest.mark.parametrize(
    ("sent", "status"),
    [
        (HEAD + b"x: 1\r\n" * (MAX_HEADERS - 1) + b"\r\n", 200),
        (HEAD + b"x: 1\r\n" * MAX_HEADERS + b"\r\n", 431),
        (b"GET /" + b"a" * 8191 + b" HTTP/1.1\r\nhost: a\r\n\r\n", 200),
        (b"GET /" + b"a" * 8192 + b" HTTP/1.1\r\nhost: a\r\n\r\n", 414),
    ],
)
def test_headers_are_counted_and_a_path_has_a_length(running: Running, sent: bytes, status: int) -> None:
    before = running.shared.answered.copy()
    assert running.tell(sent)[0] == status
    assert running.shared.answered - before == ({} if status == 200 else {status: 1})


def test_trailers_do_not_become_headers(running: Running) -> None:
    seen: list[Any] = []

    async def app(scope: Any, receive: Any, send: Any) -> None:
        while (await receive())["more_body"]:
            pass
        seen.extend(name for name, _ in scope["headers"])
        await send({"type": "http.response.start", "status": 200, "headers": [(b"content-length", b"0")]})
        await send({"type": "http.response.body"})

    running.server.config.loaded_app = app
    chunked = b"transfer-encoding: chunked\r\n\r\n1\r\na\r\n0\r\nx-api-key: mine\r\n\r\n"
    assert running.tell(HEAD + chunked)[0] == 200
    assert seen == [b"host", b"transfer-encoding"]


def test_a_client_of_http_1_0_gets_no_chunks_and_no_100_continue(running: Running) -> None:
    async def streams(scope: Any, receive: Any, send: Any) -> None:
        await receive()
        await send({"type": "http.response.start", "status": 200, "headers": []})
        for piece in (b"one ", b"", b"two"):
            await send({"type": "http.response.body", "body": piece, "more_body": True})
        await send({"type": "http.response.body"})

    old = b"POST / HTTP/1.0\r\nhost: a\r\nexpect: 100-continue\r\ncontent-length: 2\r\n\r\nhi"
    assert running.tell(old)[::2] == (200, b"2"), "a length that is known is said"
    running.server.config.loaded_app = streams
    with running.connected() as connection:
        connection.sendall(old)
        answer = b"".join(iter(lambda: connection.recv(1000), b""))
    head, _, body = answer.partition(b"\r\n\r\n")
    assert body == b"one two"
    assert head.startswith(b"HTTP/1.1 200 OK")
    assert b"transfer-encoding" not in head


class TestConnections:
    def test_beyond_their_number_are_told_so_until_others_have_gone(self) -> None:
        async def scenario() -> None:
            shared = Connections(Limits(connections=2))
            kept = [Wired(App(), shared) for _ in range(2)]
            refused = Wired(App(), shared)
            assert refused.transport.sent.startswith(b"HTTP/1.1 503 ")
            assert b"retry-after: 1" in refused.transport.sent.lower()
            refused.receive(b"GET / HTTP/1.1\r\nhost: a\r\n\r\n")
            for gone in (refused, kept[0]):
                gone.transport.close()
            await turns()
            later = Wired(App(), shared)
            later.receive(b"GET / HTTP/1.1\r\nhost: a\r\n\r\n")
            await turns()
            assert later.transport.sent.startswith(b"HTTP/1.1 200 ")
            assert shared.n == 2

        asyncio.run(scenario())

    def test_far_beyond_it_are_closed_at_once(self) -> None:
        async def scenario() -> None:
            shared = Connections(Limits(connections=1))
            made = [Wired(App(), shared) for _ in range(http_server.N_REFUSALS + 2)]
            assert [wired.transport.is_closed for wired in made] == [False] * (len(made) - 1) + [True]
            assert made[-1].transport.sent == b""

        asyncio.run(scenario())

    @pytest.mark.parametrize(
        ("address", "neighbour", "other"),
        [
            ("192.0.2.7", "192.0.2.7", "192.0.2.8"),
            ("2001:db8::1", "2001:db8::ffff:2", "2001:db8:0:1::1"),
            ("::ffff:192.0.2.7", "192.0.2.7", "::ffff:192.0.2.8"),
        ],
    )
    def test_of_one_address_are_bounded_and_leave_room_for_others(
        self, address: str, neighbour: str, other: str
    ) -> None:
        shared = Connections(Limits(connections_per_address=2))
        assert [shared.add((each, 1)) for each in (address, address, neighbour, other)] == [
            *(True, True, False, True)
        ]
        shared.remove((address, 1))
        shared.remove((neighbour, 1))
        assert shared.add((neighbour, 1))

    def test_of_this_machine_are_bounded_by_the_number_of_all_alone(self) -> None:
        shared = Connections(Limits(connections=5, connections_per_address=1))
        assert [shared.add((each, 1)) for each in ("127.0.0.1", "::1", "127.0.0.1")] == [True] * 3
        assert [shared.add(None) for _ in range(3)] == [True, True, False]


def test_who_reads_slowly_has_longer_for_more_and_is_then_cut_off() -> None:
    async def scenario() -> None:
        wired = Wired(App())
        wired.receive(b"GET / HTTP/1.1\r\nhost: a\r\n\r\n")
        await turns()
        wired.protocol.pause_writing()
        wired.wait(30.0 + 3.9)
        assert not wired.transport.is_closed
        wired.wait(30.0 + 4.1)  # 64 KiB wait, at 16 KiB/s
        assert wired.transport.is_closed

    asyncio.run(scenario())


class TestTheEnd:
    def test_takes_up_who_is_connected_and_whoever_comes_within_its_time(self, running: Running) -> None:
        running.limit(drain_s=60.0)
        with running.connected() as early:
            wait_until(lambda: running.shared.n == 1)
            running.server.should_exit = True
            wait_until(lambda: running.shared.is_ending)
            with running.connected() as late:
                for connection in (early, late):
                    connection.sendall(b"GET / HTTP/1.1\r\nhost: a\r\n\r\n")
                    status, headers, _ = answer_on(connection)
                    assert (status, headers["connection"]) == (200, "close")
            running.server.force_exit = True

    def test_takes_up_whoever_the_kernel_has_connected(self) -> None:
        async def scenario() -> None:
            shared = Connections(Limits(drain_s=0.0))
            protocol: Any = partial(Protocol, shared=shared)
            config = uvicorn.Config(App(), http=protocol, ws="none", lifespan="off", log_config=None)
            config.load()
            server = Server(config, shared)
            server.lifespan = config.lifespan_class(config)
            listener = socket.create_server(("127.0.0.1", 0))
            await server.startup([listener])
            with socket.create_connection(listener.getsockname()) as connection:
                connection.sendall(b"GET / HTTP/1.1\r\nhost: a\r\n\r\n")
                await server.shutdown([listener])
                assert connection.recv(12) == b"HTTP/1.1 200"

        asyncio.run(scenario())

    def test_does_not_cut_an_answer_that_has_begun_nor_what_follows_it(self) -> None:
        async def scenario() -> None:
            go_on = asyncio.Event()

            async def app(scope: Any, receive: Any, send: Any) -> None:
                headers = [(b"content-length", b"1")]
                await send({"type": "http.response.start", "status": 200, "headers": headers})
                await go_on.wait()
                await send({"type": "http.response.body", "body": b"a"})

            wired = Wired(app)
            wired.receive(b"GET / HTTP/1.1\r\nhost: a\r\n\r\n")
            await turns()
            wired.protocol.shutdown()
            go_on.set()
            await turns()
            assert not wired.transport.is_closed, "nobody has told the client that no other answer follows"
            wired.receive(b"GET / HTTP/1.1\r\nhost: a\r\n\r\n")
            await turns()
            assert wired.transport.sent.count(b"HTTP/1.1 200") == 2
            assert wired.transport.sent.count(b"connection: close") == 1
            assert wired.transport.is_closed

        asyncio.run(scenario())

    def test_of_an_idle_connection_resets_no_request_that_comes_at_the_same_time(self) -> None:
        async def scenario() -> None:
            wired = Wired(App())
            wired.receive(b"GET / HTTP/1.1\r\nhost: a\r\n\r\n")
            await turns()
            wired.protocol.timeout_keep_alive_handler()
            assert (wired.transport.is_ended, wired.transport.is_closed) == (True, False)
            before = wired.transport.sent
            wired.receive(b"GET / HTTP/1.1\r\nhost: a\r\n\r\n")
            await turns()
            assert wired.transport.sent == before

        asyncio.run(scenario())


def wait_until(is_true: Callable[[], bool]) -> None:
    waiting = threading.Event()
    while not is_true():
        waiting.wait(0.01)
