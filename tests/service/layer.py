"""The security layer around an application that only notes what reaches it, called without a server."""

import asyncio
import json
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any

from starlette.types import ASGIApp, Message, Receive, Scope, Send

from service.domain.sharing import Caller as Identity
from service.domain.sharing import Grant
from service.security import SecurityLayer
from service.settings import Settings


@dataclass
class Answer:
    status: int
    headers: dict[str, str]
    body: bytes

    @property
    def problem(self) -> dict[str, Any]:
        assert self.headers["content-type"] == "application/problem+json"
        problem: dict[str, Any] = json.loads(self.body)
        assert problem["status"] == self.status
        assert problem["request_id"] == self.headers["x-request-id"]
        return problem


@dataclass
class Inner:
    """The application behind the layer: reads the body and notes what reached it."""

    bodies: list[bytes] = field(default_factory=list)
    scopes: list[Scope] = field(default_factory=list)
    error: Exception | None = None
    fails_after_start: bool = False
    start: Message = field(
        default_factory=lambda: {"type": "http.response.start", "status": 200, "headers": []}
    )

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        self.scopes.append(scope)
        if scope["type"] != "http":
            await send({"type": "websocket.accept"})
            return
        body, more = b"", True
        while more:
            message = await receive()
            body += message.get("body", b"")
            more = message.get("more_body", False)
        self.bodies.append(body)
        if self.error is not None and not self.fails_after_start:
            raise self.error
        await send(self.start)
        if self.error is not None:
            raise self.error
        await send({"type": "http.response.body", "body": b"ok"})


@dataclass
class Caller:
    inner: Inner
    layer: ASGIApp
    runner: asyncio.Runner

    def __call__(
        self,
        method: str = "GET",
        path: str = "/",
        headers: dict[str, str] | list[tuple[str, str]] | None = None,
        body: bytes | list[bytes] = b"",
        *,
        client: str = "192.0.2.1",
        kind: str = "http",
        extensions: dict[str, Any] | None = None,
    ) -> Answer:
        return self.runner.run(self._call(method, path, headers or {}, body, client, kind, extensions or {}))

    async def _call(
        self,
        method: str,
        path: str,
        headers: Any,
        body: Any,
        client: str,
        kind: str,
        extensions: dict[str, Any],
    ) -> Answer:
        pairs = list(headers.items()) if isinstance(headers, dict) else headers
        if not any(name.lower() == "host" for name, _ in pairs):
            pairs = [("host", "127.0.0.1:8000"), *pairs]
        scope: Scope = {
            "type": kind,
            "path": path,
            "headers": [(name.lower().encode("latin-1"), value.encode("latin-1")) for name, value in pairs],
            "client": (client, 1),
            "extensions": extensions,
        }
        if kind == "http":
            scope["method"] = method
        chunks = list(body) if isinstance(body, list) else [body]
        sent: list[Message] = []

        async def receive() -> Message:
            return {"type": "http.request", "body": chunks.pop(0), "more_body": bool(chunks)}

        async def send(message: Message) -> None:
            sent.append(message)

        await self.layer(scope, receive, send)
        self.sent = sent
        start = next(
            (message for message in sent if message["type"].endswith("response.start")), {"status": 0}
        )
        fields = {name.decode(): value.decode() for name, value in start.get("headers", ())}
        return Answer(start["status"], fields, b"".join(message.get("body", b"") for message in sent))


Make = Callable[..., Caller]


def granting(digests: dict[str, str]) -> Callable[[str], Grant | None]:
    """What finds tokens of these digests, each one of an admin."""

    def find(token_id: str) -> Grant | None:
        sha256 = digests.get(token_id)
        return None if sha256 is None else Grant(sha256=sha256, caller=Identity(token_id))

    return find


@contextmanager
def layers() -> Iterator[Make]:
    """Makes layers with these settings, each around an :class:`Inner`; tokens turn the asking for them on."""
    with asyncio.Runner() as runner:

        def make(tokens: dict[str, str] | None = None, **settings: Any) -> Caller:
            inner = Inner()
            known = {} if tokens is None else tokens
            options = {"auth": tokens is not None} | settings
            return Caller(inner, SecurityLayer(inner, Settings(**options), granting(known)), runner)

        yield make
