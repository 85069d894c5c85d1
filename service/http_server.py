"""The API process: one uvicorn server on a socket that is bound before it starts.

uvicorn's httptools protocol keeps whatever a stranger sends until a request is whole, and waits for it as long as the
stranger likes, as it does for one who does not read the answer; when it ends it closes idle connections, on which the
next request may be under way. :class:`Protocol` bounds the first three and waits a moment with the last.
"""

import contextlib
import signal
import socket
from collections.abc import Iterable
from types import FrameType
from typing import Any, NoReturn

import uvicorn
from starlette.types import ASGIApp
from uvicorn.protocols.http.httptools_impl import STATUS_LINE, HttpToolsProtocol, RequestResponseCycle

from service.problems import Problem

GRACEFUL_SHUTDOWN_S = 10
"""Time that open answers have to end."""
DRAIN_S = 0.5
"""Time in which a connection may still send a request after the end has begun; it is answered, then closed."""
SLOW_S = 3.0
"""Time in which one who sends or reads slowly may come to an end of it then."""
LINGER_S = 1.0
"""Time in which what is sent after a refusal is read and dropped."""
MAX_HEAD_BYTES = 65_536
"""Request line and headers together; also what may come between two pieces of a body."""
REQUEST_S = 20.0
"""Time to send a whole request, from the connection or the request's first byte on ..."""
BYTES_PER_S = 16_384
"""... and longer by what a body takes at this rate."""
STALLED_S = 60.0
"""Time in which a client has to read something of an answer that waits for it."""


class Protocol(HttpToolsProtocol):
    """One connection, with a bound on what a request may hold back and on the time that it may take."""

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self.due: float | None = self.loop.time() + REQUEST_S
        """When the request that is being sent has to be whole; None while none is."""
        self._n_loose = 0
        """Bytes since the last piece of a body: of a head, of trailers, of chunk extensions."""
        self._is_draining = self._is_refused = False
        self._stalled_at: float | None = None
        self._running: RequestResponseCycle | None = None

    def _start_asgi_task(self, cycle: RequestResponseCycle, app: Any) -> None:
        """Note whose answer is under way: uvicorn knows the latest request, and several may have come at once."""
        self._running = cycle
        super()._start_asgi_task(cycle, app)

    def connection_lost(self, exc: Exception | None) -> None:
        """Tell the request that is answered, and forget those behind it: a closed connection takes no answer."""
        self.pipeline.clear()
        if self._running is not None and not self._running.response_complete:
            self._running.disconnected = True
            self._running.message_event.set()
        super().connection_lost(exc)

    def pause_writing(self) -> None:
        """The client does not read."""
        self._stalled_at = self.loop.time()
        super().pause_writing()

    def resume_writing(self) -> None:
        """It has read enough for more."""
        self._stalled_at = None
        super().resume_writing()

    def _unsupported_upgrade_warning(self) -> None:
        """Nothing: a wish for another protocol may be left unanswered, and is no matter of the operator's."""

    def data_received(self, data: bytes) -> None:
        """Count, then parse."""
        if self._is_refused:
            return
        if self.due is None and (self.cycle is None or self.cycle.response_complete):
            self.due = self.loop.time() + REQUEST_S
        self._n_loose += len(data)
        super().data_received(data)
        if self._n_loose > MAX_HEAD_BYTES:
            self._refuse_head()

    def on_headers_complete(self) -> None:
        """The head is whole; a body may have come with it in one piece."""
        if self._n_loose > MAX_HEAD_BYTES:
            size = len(self.url) + sum(len(name) + len(value) for name, value in self.headers)
            if size > MAX_HEAD_BYTES:
                raise _HeadTooLargeError
        self._n_loose = 0
        super().on_headers_complete()
        if self._is_draining and self.cycle is not None:
            self.cycle.keep_alive = False

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
        if self._n_loose > MAX_HEAD_BYTES:
            self._refuse_head()
        else:
            self._refuse(Problem("bad_request", "This is no HTTP request that can be read."))

    def shutdown(self) -> None:
        """The server ends: what is under way is answered, and what comes within a moment too."""
        self._is_draining = True
        self.loop.call_later(SLOW_S, self._end_slow)
        if self.cycle is None or self.cycle.response_complete:
            self._unset_keepalive_if_required()
            self.loop.call_later(DRAIN_S, self._end_drained)
        else:
            self.cycle.keep_alive = False

    def check_due(self, now: float) -> None:
        """Close the connection when its request or its reader is late; nothing is said where nothing was."""
        if self._stalled_at is not None and now - self._stalled_at > STALLED_S:
            self.transport.abort()
            return
        if self.due is None or now < self.due or self._is_refused:
            return
        self.due = None
        if self.scope is None or (self.cycle is not None and self.cycle.response_started):
            self.transport.close()
        else:
            self._refuse(Problem("request_timeout", f"The request did not come within {REQUEST_S:g} s."))

    def _end_drained(self) -> None:
        if self.cycle is None or self.cycle.response_complete:
            self.transport.close()

    def _end_slow(self) -> None:
        if self._stalled_at is not None:
            self.transport.abort()
        elif self.due is not None:
            self._refuse(
                Problem("request_timeout", "The service ends, and the request did not come in time.")
            )

    def _refuse_head(self) -> None:
        detail = f"A request's line and headers may hold {MAX_HEAD_BYTES} bytes together."
        self._refuse(Problem("headers_too_large", detail))

    def _refuse(self, problem: Problem) -> None:
        """Answer without the application, unless it answers already, and close.

        What the client still sends is read for a moment: closed over it, the connection would be reset, and the
        answer lost.
        """
        if self._is_refused or self.transport.is_closing():
            return
        self._is_refused = True
        if self.cycle is None or self.cycle.response_complete or not self.cycle.response_started:
            headers, body = problem.answer({"path": ""})
            self.transport.write(rendered(problem.status, headers, body, closes=True))
        with contextlib.suppress(OSError):  # the client is gone already
            self.transport.write_eof()
        self.loop.call_later(LINGER_S, self.transport.close)


def rendered(status: int, headers: Iterable[tuple[bytes, bytes]], body: bytes, *, closes: bool) -> bytes:
    """A whole answer as it goes over the wire; ``closes`` tells the client that no other one follows."""
    lines = [name + b": " + value + b"\r\n" for name, value in headers]
    end = b"connection: close\r\n\r\n" if closes else b"\r\n"
    return b"".join([STATUS_LINE[status], *lines, end, body])


class _HeadTooLargeError(Exception):
    """Ends parsing."""


class Server(uvicorn.Server):
    """Looks once a second for connections that are late."""

    async def on_tick(self, counter: int) -> bool:
        """Uvicorn's own tick, ten a second, and the look."""
        if counter % 10 == 0:
            for connection in list(self.server_state.connections):
                if isinstance(connection, Protocol):
                    connection.check_due(connection.loop.time())
        return await super().on_tick(counter)


def _end(_number: int, _frame: FrameType | None) -> NoReturn:
    raise SystemExit(0)


def serve_api(application: ASGIApp, protocol: Any, listener: socket.socket) -> int:
    """Serve until SIGTERM or SIGINT; returns the exit code.

    Args:
        application: what answers.
        protocol: makes what reads each connection; :class:`Protocol`, or one that extends it.
        listener: the bound socket.
    """
    config = uvicorn.Config(
        application,
        http=protocol,
        log_config=None,
        log_level=None,
        access_log=False,
        lifespan="on",
        ws="none",  # whatever protocol for WebSockets is installed: nothing here speaks it
        server_header=False,
        timeout_graceful_shutdown=GRACEFUL_SHUTDOWN_S,
    )
    server = Server(config)
    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, _end)  # before uvicorn listens to it, and after, when it raises it once more
    server.run(sockets=[listener])
    return 0
