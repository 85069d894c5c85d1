"""A client of the application: whole answers through httpx, streams and raw requests through ASGI itself."""

import asyncio
import json
from collections.abc import AsyncIterator, Coroutine, Iterator
from contextlib import AsyncExitStack, asynccontextmanager, contextmanager
from dataclasses import dataclass, field
from typing import Any, TypeVar

import httpx
from starlette.types import ASGIApp, Message, Scope

from service.main import create_app
from service.settings import Settings
from service.store import Stores

T = TypeVar("T")

HOST = "localhost:8000"


@asynccontextmanager
async def lifespan(app: ASGIApp) -> AsyncIterator[None]:
    """The application between its startup and its shutdown, as a server runs it."""
    to_app: asyncio.Queue[Message] = asyncio.Queue()
    from_app: asyncio.Queue[Message] = asyncio.Queue()
    task = asyncio.create_task(app({"type": "lifespan", "state": {}}, to_app.get, from_app.put))
    for phase in ("startup", "shutdown"):
        await to_app.put({"type": f"lifespan.{phase}"})
        answer = await from_app.get()
        assert answer["type"] == f"lifespan.{phase}.complete", answer
        if phase == "startup":
            try:
                yield
            except BaseException:
                task.cancel()
                raise
    await task


class Client:
    """Calls an application on one event loop; every method is synchronous."""

    def __init__(self, app: ASGIApp, runner: asyncio.Runner) -> None:
        self.app, self.runner = app, runner

    def request(self, method: str, path: str, **options: Any) -> httpx.Response:
        async def call() -> httpx.Response:
            transport = httpx.ASGITransport(self.app)
            async with httpx.AsyncClient(transport=transport, base_url=f"http://{HOST}") as http:
                return await http.request(method, path, **options)

        return self.runner.run(call())

    def together(self, requests: list[dict[str, Any]]) -> list[httpx.Response]:
        """Send all of them at the same time; each as ``httpx`` takes it."""

        async def call() -> list[httpx.Response]:
            transport = httpx.ASGITransport(self.app)
            async with httpx.AsyncClient(transport=transport, base_url=f"http://{HOST}") as http:
                return await asyncio.gather(*(http.request(**request) for request in requests))

        return self.runner.run(call())

    def get(self, path: str, **options: Any) -> httpx.Response:
        return self.request("GET", path, **options)

    def post(self, path: str, body: Any = None, **options: Any) -> httpx.Response:
        return self.request("POST", path, **({} if body is None else {"json": body}), **options)

    def post_text(self, path: str, text: bytes | str, **headers: str) -> httpx.Response:
        """A body that is not made by a JSON encoder."""
        return self.request(
            "POST", path, content=text, headers={"Content-Type": "application/json"} | headers
        )

    def run(self, work: Coroutine[Any, Any, T]) -> T:
        return self.runner.run(work)


@contextmanager
def running(settings: Settings, stores: Stores) -> Iterator[Client]:
    """A client of the application with its lifespan running."""
    with asyncio.Runner() as runner:
        app = create_app(settings, stores)
        stack = AsyncExitStack()
        runner.run(stack.enter_async_context(lifespan(app)))
        yield Client(app, runner)
        runner.run(stack.aclose())


@dataclass
class Stream:
    """A live answer, read piece by piece; ``disconnect`` is the client going away."""

    app: ASGIApp
    path: str
    headers: dict[str, str] = field(default_factory=dict)

    async def __aenter__(self) -> "Stream":
        self._from_app: asyncio.Queue[Message] = asyncio.Queue()
        self._to_app: asyncio.Queue[Message] = asyncio.Queue()
        await self._to_app.put({"type": "http.request", "body": b"", "more_body": False})
        scope = http_scope("GET", self.path, {"host": HOST, **self.headers})
        self.task = asyncio.create_task(self.app(scope, self._to_app.get, self._from_app.put))
        start = await self._from_app.get()
        self.status, self.fields = start["status"], dict(start["headers"])
        return self

    async def __aexit__(self, *_: object) -> None:
        await self._to_app.put({"type": "http.disconnect"})
        self.task.cancel()
        await asyncio.gather(self.task, return_exceptions=True)

    async def pieces(self) -> AsyncIterator[str]:
        """Blocks of the stream as they come, until its end."""
        while True:
            message = await self._from_app.get()
            for block in message.get("body", b"").decode().split("\n\n"):
                if block:
                    yield block
            if not message.get("more_body"):
                return


def http_scope(method: str, path: str, headers: dict[str, str]) -> Scope:
    """The scope that an HTTP server makes of a request."""
    plain, _, query = path.partition("?")
    return {
        "type": "http",
        "asgi": {"version": "3.0", "spec_version": "2.3"},
        "http_version": "1.1",
        "method": method,
        "scheme": "http",
        "path": plain,
        "raw_path": plain.encode(),
        "query_string": query.encode(),
        "root_path": "",
        "headers": [(name.lower().encode(), value.encode()) for name, value in headers.items()],
        "client": ("127.0.0.1", 50000),
        "server": ("127.0.0.1", 8000),
        "state": {},
    }


def events_of(text: str) -> list[dict[str, Any]]:
    """The events of a whole stream: ``id``, ``event`` and the decoded ``data``."""
    return [parsed for block in text.split("\n\n") if (parsed := event_of(block)) is not None]


def event_of(block: str) -> dict[str, Any] | None:
    """One block of a stream as an event; None when it has no data."""
    fields = dict(line.split(": ", 1) for line in block.splitlines() if not line.startswith(":"))
    return {**fields, "data": json.loads(fields["data"])} if "data" in fields else None
