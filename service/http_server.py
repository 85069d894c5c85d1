"""The API process: one uvicorn server on a socket that is bound before it starts.

uvicorn's httptools protocol keeps whatever a stranger sends until a request is whole, and waits for it as long as the
stranger likes, as it does for one who does not read the answer; it takes any number of connections. When it ends it
closes idle ones, on which the next request may be under way, and resets those that it has not yet accepted.
:class:`Protocol` has bounds for the first four (:class:`Limits`), :class:`Server` ends in good order.
"""

import asyncio
import contextlib
import ipaddress
import logging
import resource
import signal
import socket
import sys
from collections import Counter
from collections.abc import Callable, Coroutine, Iterable
from dataclasses import dataclass, replace
from functools import partial
from types import FrameType
from typing import Any, NoReturn

import httptools
import uvicorn
from starlette.types import ASGIApp
from uvicorn.protocols.http.httptools_impl import STATUS_LINE, HttpToolsProtocol, RequestResponseCycle
from uvicorn.protocols.websockets.websockets_sansio_impl import WebSocketsSansIOProtocol

from service.problems import Problem
from service.settings import Settings

logger = logging.getLogger(__name__)
_http, _websocket = logging.getLogger("service.http"), logging.getLogger("service.websocket")
_http.setLevel(logging.ERROR)  # uvicorn warns of every request that it cannot read
_websocket.setLevel(logging.WARNING)  # and tells of every connection, with the query

GRACEFUL_SHUTDOWN_S = 10
"""Time that open answers have to end."""
SLOW_S = 3.0
"""Time in which one who sends or reads slowly may come to an end of it then."""
LINGER_S = 1.0
"""Time in which what is sent after a refusal, or at the same time as an end, is read and dropped."""
TICK_S = 1.0
"""Time between two looks for connections that are late."""
MAX_HEAD_BYTES = 65_536
"""Request line and headers together; also what may come between two pieces of a body."""
MAX_HEADERS = 100
MAX_TARGET_BYTES = 8192
"""Path and query."""
BYTES_PER_S = 16_384
"""Slower bodies, and slower readers of an answer, have no longer time than :class:`Limits` gives."""
N_REFUSALS = 128
"""Connections beyond the limit that are told why; further ones are closed at once."""
SPARE_FILES = 256
"""Open files that are no connections."""


@dataclass(frozen=True, kw_only=True)
class Limits:
    """How many connections there may be, and how long each may take."""

    connections: int = 10_000
    connections_per_address: int = 1000
    """Of one address, or one /64 of IPv6; those of this machine are not counted: a proxy speaks for all."""
    head_s: float = 10.0
    """Time to send a request's line and headers, from the connection or the first byte on."""
    body_s: float = 30.0
    """Time to send its body, and longer by what comes at :data:`BYTES_PER_S`."""
    read_s: float = 30.0
    """Time to read what waits of an answer, and longer by what that takes at :data:`BYTES_PER_S`."""
    idle_s: float = 75.0
    """Time between two requests of a connection, or two messages of a WebSocket."""
    message_bytes: int = 16 * 2**20
    """Longest message on a WebSocket."""
    drain_s: float = 0.5
    """Time in which connections are still taken, and those that wait for a request kept, after the end has begun."""

    @classmethod
    def of(cls, settings: Settings) -> "Limits":
        """The operator's."""
        return cls(
            connections=settings.max_connections,
            connections_per_address=settings.max_connections_per_address,
            head_s=settings.head_timeout_s,
            body_s=settings.body_timeout_s,
            read_s=settings.read_timeout_s,
            idle_s=settings.idle_timeout_s,
            message_bytes=settings.max_action_body_bytes,
            drain_s=settings.drain_s,
        )


class Connections:
    """What the connections of one server share: limits, how many there are, and whether the end has begun."""

    def __init__(self, limits: Limits | None = None) -> None:
        """Start with none."""
        self.limits = limits or Limits()
        self.is_ending = False
        self.n = self.n_refused = self.n_late = 0
        self.answered: Counter[int] = Counter()
        """Requests that were answered before the application saw them, by status."""
        self._n_of: Counter[str] = Counter()

    def add(self, client: tuple[str, int] | None) -> bool:
        """Count one more; whether it may be served."""
        self.n += 1
        party = _party(client)
        self._n_of[party] += 1
        is_many = bool(party) and self._n_of[party] > self.limits.connections_per_address
        is_refused = is_many or self.n > self.limits.connections
        self.n_refused += is_refused
        return not is_refused

    def remove(self, client: tuple[str, int] | None) -> None:
        """Count one less."""
        self.n -= 1
        party = _party(client)
        self._n_of[party] -= 1
        if not self._n_of[party]:
            del self._n_of[party]


def _party(client: tuple[str, int] | None) -> str:
    """Whose connections are counted together; empty for those of this machine."""
    try:
        address = ipaddress.ip_address(client[0] if client else "")
    except ValueError:
        return ""
    if isinstance(address, ipaddress.IPv6Address):
        if address.ipv4_mapped is None:
            return "" if address.is_loopback else address.exploded[:19]
        address = address.ipv4_mapped
    return "" if address.is_loopback else str(address)


class Protocol(HttpToolsProtocol):
    """One connection, with a bound on what a request may hold back and on the time that it may take."""

    def __init__(self, *args: Any, shared: Connections | None = None, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self.logger = _http
        self._shared = shared or Connections()
        self._limits = self._shared.limits
        self.due: float | None = self.loop.time() + self._limits.head_s
        """When the part of a request that is being sent has to be whole; None while none is."""
        self._n_loose = 0
        """Bytes since the last piece of a body: of a head, of trailers, of chunk extensions."""
        self._is_draining = self._is_refused = False
        self._read_by: float | None = None
        """When the client has to have read what waits; None while nothing much does."""
        self._running: RequestResponseCycle | None = None
        self._postponed: Problem | None = None
        """What is answered when that request is."""

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        """Take the connection, where there are not too many."""
        super().connection_made(transport)
        if not self._shared.add(self.client):
            self.due = None
            if self._shared.n > self._limits.connections + N_REFUSALS:
                transport.abort()
                return
            detail = "There are too many connections, of this address or of all; try again later."
            self._refuse(Problem("capacity", detail, headers={"Retry-After": "1"}))
        elif self._shared.is_ending:
            self.shutdown()

    def _start_asgi_task(self, cycle: RequestResponseCycle, app: Any) -> None:
        """Note whose answer is under way: uvicorn knows the latest request, and several may have come at once."""
        self._running = cycle
        if cycle.scope["http_version"] == "1.0":
            cycle.waiting_for_100_continue = False
            cycle.send = _unchunked(cycle)  # type: ignore[assignment, method-assign]
        super()._start_asgi_task(cycle, app)

    def on_response_complete(self) -> None:
        """Go on after an answer, at the end not for long."""
        super().on_response_complete()
        if self._postponed is not None:
            self._refuse_now(self._postponed)
        elif self._is_draining and not self.pipeline:
            self.loop.call_later(self._limits.drain_s, self._end_idle)

    def timeout_keep_alive_handler(self) -> None:
        """No request came for a while."""
        self._end_idle()

    def connection_lost(self, exc: Exception | None) -> None:
        """Tell the request that is answered, and forget those behind it: a closed connection takes no answer."""
        self._shared.remove(self.client)
        self.pipeline.clear()
        self._disconnect()
        super().connection_lost(exc)

    def _disconnect(self) -> None:
        """Tell the request that is answered that the client is gone."""
        if self._running is not None and not self._running.response_complete:
            self._running.disconnected = True
            self._running.message_event.set()

    def pause_writing(self) -> None:
        """The client does not read."""
        waits_s = self.transport.get_write_buffer_size() / BYTES_PER_S
        self._read_by = self.loop.time() + self._limits.read_s + waits_s
        super().pause_writing()

    def resume_writing(self) -> None:
        """It has read enough for more."""
        self._read_by = None
        super().resume_writing()

    def handle_websocket_upgrade(self) -> None:
        """Hand the connection on to :class:`WebSocket`."""
        self._shared.remove(self.client)
        super().handle_websocket_upgrade()

    def _unsupported_upgrade_warning(self) -> None:
        """Nothing: a wish for another protocol may be left unanswered, and is no matter of the operator's."""

    def data_received(self, data: bytes) -> None:
        """Count, then parse."""
        if self._is_refused:
            return
        if self.due is None and (self.cycle is None or self.cycle.response_complete):
            self.due = self.loop.time() + self._limits.head_s
        self._n_loose += len(data)
        super().data_received(data)
        if self._n_loose > MAX_HEAD_BYTES:
            self._refuse(_head_too_large())

    def on_headers_complete(self) -> None:
        """The head is whole; a body may have come with it in one piece."""
        if self._n_loose > MAX_HEAD_BYTES:
            size = len(self.url) + sum(len(name) + len(value) for name, value in self.headers)
            if size > MAX_HEAD_BYTES:
                raise _HeadError(_head_too_large())
        if len(self.headers) > MAX_HEADERS:
            raise _HeadError(_head_too_large())
        if len(self.url) > MAX_TARGET_BYTES:
            raise _HeadError(Problem("uri_too_long", f"Path and query may hold {MAX_TARGET_BYTES} bytes."))
        self._n_loose, self.due = 0, self.loop.time() + self._limits.body_s
        super().on_headers_complete()
        if self._is_draining and self.cycle is not None:
            self.cycle.keep_alive = False
        if not self.parser.should_upgrade():
            self.headers = []  # trailers are no headers (RFC 9110 §6.5.1): whoever checks them has done so

    def on_body(self, body: bytes) -> None:
        """A piece of the body."""
        self._n_loose = 0
        if self.due is not None:
            self.due += len(body) / BYTES_PER_S
        super().on_body(body)

    def on_message_complete(self) -> None:
        """The request is whole."""
        self._n_loose, self.due = 0, None
        super().on_message_complete()

    def send_400_response(self, msg: str) -> None:
        """Answer what the parser refused, as every other mistake is answered."""
        error = sys.exception()
        if isinstance(error, httptools.HttpParserError) and isinstance(error.__context__, _HeadError):
            self._refuse(error.__context__.problem)
        elif self._n_loose > MAX_HEAD_BYTES:
            self._refuse(_head_too_large())
        else:
            self._refuse(Problem("bad_request", "This is no HTTP request that can be read."))

    def shutdown(self) -> None:
        """The server ends: what is under way is answered, and what comes within a moment too."""
        if self._is_draining:
            return
        self._is_draining = True
        self.loop.call_later(self._limits.drain_s + SLOW_S, self._end_slow)
        if self.cycle is None or self.cycle.response_complete:
            self._unset_keepalive_if_required()
            self.loop.call_later(self._limits.drain_s, self._end_idle)
        elif not self.cycle.response_started:  # else the client has been told that another answer may follow
            self.cycle.keep_alive = False

    def check_due(self, now: float) -> None:
        """Close the connection when its request or its reader is late; nothing is said where nothing was."""
        if self._read_by is not None and now > self._read_by:
            self._shared.n_late += 1
            self.transport.abort()
            return
        if self.due is None or self._is_refused:
            return
        if self.flow.read_paused:
            self.due += TICK_S  # it is us who do not read
        elif now >= self.due:
            self.due = None
            self._shared.n_late += 1
            begun: Any = self.scope
            if begun:
                self._refuse(Problem("request_timeout", "The request did not come in time."))
            else:
                self.transport.close()

    def _end_idle(self) -> None:
        """Close the connection where nothing is under way; what comes at this very time is read and dropped.

        Closed over it, the connection would be reset, and the client not know whether it was answered.
        """
        if (self.cycle is None or self.cycle.response_complete) and not self._is_refused:
            if self.due is not None and self.scope is not None:
                return  # a request has begun, and has its own time
            self._is_refused = True
            self._half_close()

    def _half_close(self) -> None:
        with contextlib.suppress(OSError):  # the client is gone already
            self.transport.write_eof()
        self.loop.call_later(LINGER_S, self.transport.close)

    def _end_slow(self) -> None:
        if self._read_by is not None:
            self.transport.abort()
        elif self.due is not None:
            self._refuse(
                Problem("request_timeout", "The service ends, and the request did not come in time.")
            )

    def _refuse(self, problem: Problem) -> None:
        """Answer without the application, and close; a whole request before this one is answered first."""
        if self._is_refused or self.transport.is_closing():
            return
        self._is_refused = True
        running = self._running
        if running is None or running.response_complete or running.more_body:
            self._refuse_now(problem)
        else:
            self.pipeline.clear()
            self._postponed = problem

    def _refuse_now(self, problem: Problem) -> None:
        """Answer, unless an answer has begun.

        What the client still sends is read for a moment: closed over it, the connection would be reset, and the
        answer lost.
        """
        running, self._postponed = self._running, None
        self._disconnect()
        if self.transport.is_closing():
            return
        if running is None or running.response_complete or not running.response_started:
            headers, body = problem.answer({"path": ""})
            self._shared.answered[problem.status] += 1
            self.transport.write(rendered(problem.status, headers, body, closes=True))
        self._half_close()


def rendered(status: int, headers: Iterable[tuple[bytes, bytes]], body: bytes, *, closes: bool) -> bytes:
    """A whole answer as it goes over the wire; ``closes`` tells the client that no other one follows."""
    lines = [name + b": " + value + b"\r\n" for name, value in headers]
    end = b"connection: close\r\n\r\n" if closes else b"\r\n"
    return b"".join([STATUS_LINE[status], *lines, end, body])


class _HeadError(Exception):
    """Ends parsing."""

    def __init__(self, problem: Problem) -> None:
        super().__init__()
        self.problem = problem


def _head_too_large() -> Problem:
    detail = f"A request's line and at most {MAX_HEADERS} headers may hold {MAX_HEAD_BYTES} bytes together."
    return Problem("headers_too_large", detail)


def _unchunked(cycle: RequestResponseCycle) -> Callable[[Any], Coroutine[Any, Any, None]]:
    """``cycle.send`` for a client of HTTP/1.0, which knows no chunks: what has no length ends with its connection."""
    send, has_length = cycle.send, True

    async def sent(message: Any) -> None:
        nonlocal has_length
        if message["type"] == "http.response.start":
            has_length = any(name.lower() == b"content-length" for name, _ in message.get("headers", ()))
            cycle.chunked_encoding = None if has_length else False
        elif not has_length:
            cycle.expected_content_length = len(message.get("body", b""))
        await send(message)

    return sent


class WebSocket(WebSocketsSansIOProtocol):
    """One WebSocket, which no client that does not read holds open."""

    def __init__(self, *args: Any, shared: Connections, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self.logger = _websocket
        self._shared = shared
        self._late: asyncio.TimerHandle | None = None
        self._is_ending = False

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        """Take over the connection."""
        super().connection_made(transport)
        self._shared.add(self.client)

    def connection_lost(self, exc: Exception | None) -> None:
        """Nobody waits any more."""
        self._shared.remove(self.client)
        self._read()
        super().connection_lost(exc)

    def pause_writing(self) -> None:
        """The client does not read."""
        waits_s = self.transport.get_write_buffer_size() / BYTES_PER_S
        self._late = self.loop.call_later(self._shared.limits.read_s + waits_s, self.transport.abort)
        self.transport.pause_reading()  # every ping would have a pong wait
        super().pause_writing()

    def resume_writing(self) -> None:
        """It has read enough for more."""
        self._read()
        if not self.read_paused:
            self.transport.resume_reading()
        super().resume_writing()

    def shutdown(self) -> None:
        """The server ends: the application has a moment to say so, and to close."""
        if not self._is_ending:
            self._is_ending = True
            self.loop.call_later(self._shared.limits.drain_s, super().shutdown)

    async def receive(self) -> Any:
        """The next event; uvicorn goes on reading then."""
        message = await super().receive()
        if self._late is not None:
            self.transport.pause_reading()
        return message

    def send_receive_event_to_app(self) -> None:
        """Hand a message on, where it is one: uvicorn logs with a traceback that a text is none."""
        if self.curr_msg_data_type == "text":
            try:
                b"".join(self.frames).decode()
            except UnicodeDecodeError:
                self.conn.fail(1007)
                self.handle_parser_exception()
                return
        super().send_receive_event_to_app()

    def _read(self) -> None:
        if self._late is not None:
            self._late.cancel()
            self._late = None


class Server(uvicorn.Server):
    """Looks once a second for connections that are late, and ends in good order."""

    def __init__(self, config: uvicorn.Config, shared: Connections | None = None) -> None:
        """Take what the connections share, where there is something."""
        super().__init__(config)
        self._shared = shared or Connections()

    async def on_tick(self, counter: int) -> bool:
        """Uvicorn's own tick, ten a second, and the look."""
        if counter % round(10 * TICK_S) == 0:
            for connection in list(self.server_state.connections):
                if isinstance(connection, Protocol):
                    connection.check_due(connection.loop.time())
        return await super().on_tick(counter)

    async def shutdown(self, sockets: list[socket.socket] | None = None) -> None:
        """Answer who is connected and who connects within a moment, then shut the door.

        Those that the kernel has accepted and nobody has taken up would be reset by that, so they are taken up.
        """
        self._shared.is_ending = True
        for connection in list(self.server_state.connections):
            connection.shutdown()
        loop = asyncio.get_running_loop()
        drained_at = loop.time() + self._shared.limits.drain_s
        while not self.force_exit and (rest_s := drained_at - loop.time()) > 0:  # noqa: ASYNC110 - by a signal
            await asyncio.sleep(min(rest_s, 0.1))
        accepted = [taken for listener in sockets or () for taken in _waiting(listener)]
        for server in self.servers:
            server.close()
        for each in accepted:
            await loop.connect_accepted_socket(self._protocol, each)
        await super().shutdown(sockets)

    def _protocol(self) -> asyncio.Protocol:
        made: asyncio.Protocol = self.config.http_protocol_class(  # type: ignore[call-arg]
            config=self.config, server_state=self.server_state, app_state=self.lifespan.state
        )
        return made


def _waiting(listener: socket.socket) -> Iterable[socket.socket]:
    """Connections that wait to be accepted."""
    listener.setblocking(False)
    with contextlib.suppress(BlockingIOError):
        while True:
            yield listener.accept()[0]


def _end(_number: int, _frame: FrameType | None) -> NoReturn:
    raise SystemExit(0)


def within_files(limits: Limits) -> Limits:
    """As many connections as there may be open files; as many of those as the system lets us have."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    wanted = limits.connections + N_REFUSALS + SPARE_FILES
    if wanted <= soft or soft == resource.RLIM_INFINITY:
        return limits
    soft = wanted if hard == resource.RLIM_INFINITY else min(wanted, hard)
    resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))
    if soft == wanted:
        return limits
    n_connections = max(1, soft - N_REFUSALS - SPARE_FILES)
    logger.warning("%d open files are %d connections (ulimit -n)", soft, n_connections)
    return replace(limits, connections=n_connections)


def serve_api(
    application: ASGIApp, protocol: Any, listener: socket.socket, shared: Connections | None = None
) -> int:
    """Serve until SIGTERM or SIGINT; returns the exit code.

    Args:
        application: what answers.
        protocol: makes what reads each connection; :class:`Protocol`, or one that extends it.
        listener: the bound socket.
        shared: by connections; with the usual limits where it is left out.
    """
    shared = shared or Connections(within_files(Limits()))
    http: Any = partial(protocol, shared=shared)
    web_socket: Any = partial(WebSocket, shared=shared)
    config = uvicorn.Config(
        application,
        http=http,
        timeout_keep_alive=shared.limits.idle_s,  # type: ignore[arg-type]  # seconds, whole or not
        log_config=None,
        log_level=None,
        access_log=False,
        lifespan="on",
        ws=web_socket,
        ws_max_size=shared.limits.message_bytes,
        ws_per_message_deflate=False,  # costs more than it saves on frames of a few hundred bytes
        server_header=False,
        timeout_graceful_shutdown=GRACEFUL_SHUTDOWN_S,
    )
    server = Server(config, shared)
    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, _end)  # before uvicorn listens to it, and after, when it raises it once more
    server.run(sockets=[listener])
    return 0
