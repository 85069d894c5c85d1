"""Bodies decoded strictly, before any model sees them: what JSON does not know never gets further."""

from collections.abc import Callable, Coroutine
from typing import Any

from fastapi import Request, Response
from fastapi.routing import APIRoute
from starlette.concurrency import run_in_threadpool

from service.api.json_values import MalformedJSONError, decode_json, find_unusable
from service.api.problems import RequestProblem

_DECODE_ON_LOOP_BYTES = 65_536
"""Longer bodies are decoded in a thread."""


class StrictRoute(APIRoute):
    """A route whose body is strict JSON; it is kept in the scope, so that problems can point into it."""

    def get_route_handler(self) -> Callable[[Request], Coroutine[Any, Any, Response]]:
        """FastAPI's handler, given our request."""
        handle = super().get_route_handler()

        async def handle_strictly(request: Request) -> Response:
            return await handle(_StrictRequest(request.scope, request.receive))

        return handle_strictly


class _StrictRequest(Request):
    async def json(self) -> Any:
        """The decoded body; raises :class:`RequestProblem`."""
        body = await self.body()
        if len(body) > _DECODE_ON_LOOP_BYTES:
            value = await run_in_threadpool(_decode, body)
        else:
            value = _decode(body)
        self.scope["maze.body"] = value
        return value


def _decode(body: bytes) -> Any:
    try:
        value = decode_json(body)
    except MalformedJSONError as error:
        raise RequestProblem(400, "malformed_json", str(error)) from error
    if unusable := find_unusable(value):
        raise RequestProblem.at(unusable.pointer, "unusable_value", unusable.message)
    return value
