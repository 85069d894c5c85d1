"""A whole application behind one protocol, spoken to in bytes without a socket: every cut is chosen by the test."""

import asyncio
import re
import time
from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import asynccontextmanager
from functools import partial
from typing import Any

import uvicorn
from uvicorn.server import ServerState

from service.fast_path import FastProtocol
from service.http_server import Protocol
from service.main import Application, create_app
from service.settings import Settings
from service.store import Stores
from tests.service.api.client import lifespan

OURS = re.compile(rb"req_[0-9a-f]+_?[0-9a-f]*")


class Transport(asyncio.Transport):
    """Keeps what is written; what is closed is lost in the loop's next turn."""

    def __init__(self, protocol: asyncio.Protocol, client: str = "127.0.0.1") -> None:
        super().__init__()
        self.client = client
        self.sent = b""
        self.writes: list[bytes] = []
        self.is_closed = self.is_ended = self.is_paused = False
        self._protocol = protocol

    def get_extra_info(self, name: str, default: Any = None) -> Any:
        return {"peername": (self.client, 50_000), "sockname": ("127.0.0.1", 8000)}.get(name, default)

    def write(self, data: Any) -> None:
        assert not self.is_closed
        if self.is_ended:
            raise RuntimeError("Cannot call write() after write_eof()")
        self.writes.append(bytes(data))
        self.sent += data

    def get_write_buffer_size(self) -> int:
        return 65_536

    def write_eof(self) -> None:
        self.is_ended = True

    def is_closing(self) -> bool:
        return self.is_closed

    def pause_reading(self) -> None:
        self.is_paused = True

    def resume_reading(self) -> None:
        self.is_paused = False

    def close(self) -> None:
        if not self.is_closed:
            self.is_closed = True
            asyncio.get_running_loop().call_soon(self._protocol.connection_lost, None)

    abort = close


class Connection:
    """One connection; bytes go in by :meth:`send`."""

    def __init__(self, wire: "Wire") -> None:
        self.wire = wire
        self.protocol: Any = wire.make(config=wire.config, server_state=wire.state, app_state={})
        self.transport = Transport(self.protocol)
        self.protocol.connection_made(self.transport)

    async def send(self, *pieces: bytes, turns: int = 0) -> bytes:
        """What is answered to these pieces, each followed by so many turns of the loop."""
        before = len(self.transport.sent)
        for piece in pieces:
            await self._until(lambda: not self.transport.is_paused or self.transport.is_closed)
            if not self.transport.is_closed:
                self.protocol.data_received(piece)
            for _ in range(turns):
                await asyncio.sleep(0)
        await self._until(lambda: self.is_quiet)
        return OURS.sub(b"req_", self.transport.sent[before:])

    @staticmethod
    async def _until(is_true: Callable[[], bool]) -> None:
        ends = time.monotonic() + 60
        while not is_true():
            assert time.monotonic() < ends
            await asyncio.sleep(0)

    @property
    def is_quiet(self) -> bool:
        cycle = self.protocol.cycle
        waits_for_more = self.protocol.due is not None and not self.protocol.pipeline
        return self.transport.is_closed or cycle is None or cycle.response_complete or waits_for_more

    def lose(self) -> None:
        """The client goes away."""
        self.transport.is_closed = True
        self.protocol.connection_lost(None)


class Wire:
    """A running application and its connections."""

    def __init__(self, application: Application, settings: Settings) -> None:
        self.application = application
        self.make: Any = partial(FastProtocol, application=application) if settings.fast_path else Protocol
        self.config = uvicorn.Config(
            application, http=self.make, log_config=None, access_log=False, lifespan="off"
        )
        self.config.load()
        self.state = ServerState()
        self.state.default_headers = [(b"date", b"Sat, 01 Jan 2000 00:00:00 GMT")]

    def connect(self) -> Connection:
        return Connection(self)

    @property
    def counted(self) -> list[str]:
        """Everything that ``/metrics`` tells but times and what shared a forward."""
        from prometheus_client import generate_latest

        lines = generate_latest(self.application._app.telemetry.registry).decode().splitlines()

        return [
            line for line in lines if not re.search("^#|seconds|created|rows_bucket|rows_count|_bytes", line)
        ]


@asynccontextmanager
async def wire(stores: Stores, **settings: Any) -> AsyncIterator[Wire]:
    """The application on these stores; without tokens unless ``auth`` is set."""
    chosen = Settings(**{"auth": False, **settings})
    application = create_app(chosen, stores)
    async with lifespan(application):
        yield Wire(application, chosen)


def request(run: str, body: bytes, *fields: bytes, length: int | None = None) -> bytes:
    """The usual ``compute_action``, with further header fields."""
    return post(
        f"/v1/runs/{run}/compute_action".encode(),
        [b"Content-Type: application/json", *fields],
        body,
        length=length,
    )


def post(path: bytes, fields: Sequence[bytes], body: bytes, *, length: int | None = None) -> bytes:
    """A POST with a Host and a Content-Length."""
    size = len(body) if length is None else length
    lines = [b"POST %b HTTP/1.1" % path, b"Host: localhost:8000", *fields, b"Content-Length: %d" % size]
    return b"\r\n".join([*lines, b"", body])
