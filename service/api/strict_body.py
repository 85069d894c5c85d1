"""Bodies decoded strictly, before any model sees them: what JSON does not know never gets further."""

from collections.abc import Callable, Coroutine
from typing import Any

from fastapi import Request, Response
from fastapi.routing import APIRoute
from starlette.concurrency import run_in_threadpool

from service.json_values import decode_json, find_unusable
from service.problems import Problem

_DECODE_ON_LOOP_BYTES = 65_536
"""Longer bodies are decoded in a thread."""


class StrictRoute(APIRoute):
    """A route whose body is strict JSON; it is kept in the scope, so that problems can point into it."""

    def get_route_handler(self) -> Callable[[Request], Coroutine[Any, Any, Response]]:
        """FastAPI's handler, given our request."""
        handle = super().get_route_handler()

        async def handle_strictly(request: Request) -> Response:
            strict = _StrictRequest(request.scope, request.receive)
            if body := await strict.body():
                is_long = len(body) > _DECODE_ON_LOOP_BYTES
                value = await run_in_threadpool(_decode, body) if is_long else _decode(body)
                request.scope["maze.body"] = value
            return await handle(strict)

        return handle_strictly


class _StrictRequest(Request):
    async def json(self) -> Any:
        """The decoded body."""
        return self.scope["maze.body"]


def _decode(body: bytes) -> Any:
    value = decode_json(body)
    if unusable := find_unusable(value):
        raise Problem.at(unusable.pointer, "unusable_value", unusable.message)
    return value
