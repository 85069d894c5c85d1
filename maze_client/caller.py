"""What speaks to a service: requests that are sent again, submissions that count once, lists page by page."""

import uuid
from collections.abc import AsyncIterator, Mapping
from typing import Any, TypeVar

from maze_client.answers import read
from maze_client.arguments import plain, query
from maze_client.following import answered

T = TypeVar("T")


class Caller:
    """What speaks to a service."""

    _transport: Any  # of Sync or Async, which say which one
    _max_retries: int

    async def _send(self, method: str, path: str, body: Any = None, **parts: Any) -> Any:
        """The JSON of the answer; None where it has no body."""
        parts |= {"json": plain(body)} if body is not None else {}
        response = await answered(self._transport, self._max_retries, method, path, **parts)
        return response.json() if response.content else None

    async def _create(self, path: str, body: Mapping[str, Any]) -> Any:
        """As :meth:`_send`, of what makes a run: one, however often it has to be sent."""
        return await self._send("POST", path, body, headers={"Idempotency-Key": uuid.uuid4().hex})

    async def _list(
        self, path: str, kind: type[T], params: Mapping[str, Any] | None = None
    ) -> AsyncIterator[T]:
        """The items of a list, page by page."""
        page = {"next_cursor": None, "has_more": True}
        while page.get("has_more"):
            params = {**(params or {}), "cursor": page["next_cursor"]}
            page = await self._send("GET", path, params=query(params))
            for item in page["data"]:
                yield read(item, kind)

    async def _all(self, path: str, kind: type[T], **params: Any) -> list[T]:
        return [item async for item in self._list(path, kind, params)]
