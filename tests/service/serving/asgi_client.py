"""Calls the hot route as an HTTP server would."""

import asyncio
import json
from dataclasses import dataclass
from typing import Any

from service.domain.sharing import Caller
from service.serving.hot_route import ActionRoute


@dataclass
class Answer:
    """What a client gets."""

    status: int
    headers: dict[str, str]
    body: bytes

    @property
    def json(self) -> Any:
        return json.loads(self.body)


class Client:
    """Calls an :class:`ActionRoute` as a server would, on one event loop."""

    def __init__(self, route: ActionRoute, runner: asyncio.Runner) -> None:
        self.route = route
        self.run = runner.run

    def post(self, run_id: str, body: Any, **scope: Any) -> Answer:
        return self.run(self.send(run_id, body, **scope))

    def post_together(self, run_id: str, bodies: list[Any]) -> list[Answer]:
        """All requests within one turn of the event loop."""

        async def gather() -> list[Answer]:
            return await asyncio.gather(*(self.send(run_id, body) for body in bodies))

        return self.run(gather())

    async def send(self, run_id: str, body: Any, chunks: int = 1, **scope: Any) -> Answer:
        content = body if isinstance(body, bytes) else json.dumps(body).encode()
        size = -(-len(content) // chunks) or 1
        parts = [content[i : i + size] for i in range(0, len(content), size)] or [b""]
        incoming = [
            {"type": "http.request", "body": part, "more_body": i + 1 < len(parts)}
            for i, part in enumerate(parts)
        ]
        sent: list[Any] = []

        async def receive() -> Any:
            if not incoming:
                await asyncio.Event().wait()
            return incoming.pop(0)

        async def send(message: Any) -> None:
            sent.append(message)

        path = f"/v1/runs/{run_id}/compute_action"
        await self.route(
            {
                "type": "http",
                "method": "POST",
                "path": path,
                "headers": [],
                "state": {"caller": Caller()},
                **scope,
            },
            receive,
            send,
        )
        start, end = sent
        headers = {name.decode(): value.decode() for name, value in start["headers"]}
        assert headers["content-length"] == str(len(end["body"]))
        return Answer(start["status"], headers, end["body"])
