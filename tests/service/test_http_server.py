"""What a stranger may make the server hold, how long, and how it ends: over real sockets."""

import asyncio
import json
import logging
import socket
import threading
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from typing import Any

import pytest
import uvicorn

from service import http_server
from service.http_server import MAX_HEAD_BYTES, Protocol, Server

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
        self.server = Server(
            uvicorn.Config(self.app, http=Protocol, ws="none", lifespan="off", log_config=None)
        )
        self.listener = socket.create_server(("127.0.0.1", 0))
        self.thread = threading.Thread(
            target=asyncio.run, args=(self.server.serve(sockets=[self.listener]),), daemon=True
        )

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
def running(monkeypatch: pytest.MonkeyPatch) -> Iterator[Running]:
    running = Running()
    running.thread.start()
    wait_until(lambda: running.server.started)
    yield running
    running.server.should_exit = True
    monkeypatch.setattr(http_server, "DRAIN_S", 0.0)
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


def test_what_is_no_http_is_a_problem_too(running: Running) -> None:
    status, headers, body = running.tell(b"\x16\x03\x01 this is TLS\r\n\r\n")
    assert (status, json.loads(body)["code"]) == (400, "bad_request")
    assert headers["content-type"] == "application/problem+json"


def test_a_request_that_does_not_come_is_not_waited_for(
    running: Running, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(http_server, "REQUEST_S", 0.1)
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


def test_one_byte_now_and_then_does_not_keep_a_connection(
    running: Running, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(http_server, "REQUEST_S", 0.2)
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


def test_a_connection_between_two_requests_is_answered_when_the_server_ends(
    running: Running, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(http_server, "DRAIN_S", 60.0)
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
    monkeypatch.setattr(http_server, "STALLED_S", 0.1)
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
                any(kept._stalled_at for kept in list(running.server.server_state.connections))
                and len(running.server.server_state.tasks) == 2
            )
        )
        running.server.should_exit = True
        assert answer_on(half)[0] == 408
        running.thread.join(60)
        assert not running.thread.is_alive()
    assert "ASGI" not in caplog.text


def wait_until(is_true: Callable[[], bool]) -> None:
    waiting = threading.Event()
    while not is_true():
        waiting.wait(0.01)
