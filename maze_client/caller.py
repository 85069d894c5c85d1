"""What speaks to a service: requests that are sent again, what counts once, lists page by page."""

import uuid
from collections.abc import AsyncIterator, Callable, Coroutine, Mapping
from typing import Any, TypeVar

from maze_client.answers import Answer, read
from maze_client.arguments import encoded, packed, query
from maze_client.errors import ChangedError, ConflictError
from maze_client.following import asked

T = TypeVar("T")
FOLLOWING_PATIENCE = 10
"""So many times the retries of a request: what follows a run outlives a restart of the service."""


class Caller:
    """What speaks to a service."""

    _transport: Any  # of Sync or Async, which say which one
    _max_retries: int

    @property
    def _patience(self) -> int:
        """How often what follows a run or a sweep is sent again."""
        return self._max_retries * FOLLOWING_PATIENCE

    async def _send(
        self, method: str, path: str, body: Any = None, *, max_retries: int | None = None, **parts: Any
    ) -> Answer:
        """What is answered."""
        if body is not None:
            json = {"Content-Type": "application/json"}
            parts |= {"content": encoded(body), "headers": json | parts.get("headers", {})}
        retries = self._max_retries if max_retries is None else max_retries
        return await asked(self._transport, retries, method, path, **parts)

    async def _act(self, path: str, body: Mapping[str, Any]) -> Answer:
        """What a policy answers; arrays of NumPy go as their bytes."""
        content, media_type = packed(body)
        headers = {"Content-Type": media_type}
        return await asked(self._transport, self._max_retries, "POST", path, content=content, headers=headers)

    async def _create(self, path: str, body: Mapping[str, Any], **parts: Any) -> Answer:
        """As :meth:`_send`, of what counts once, however often it has to be sent."""
        return await self._send("POST", path, body, headers={"Idempotency-Key": uuid.uuid4().hex}, **parts)

    async def _list(
        self, path: str, kind: type[T], params: Mapping[str, Any] | None = None, **parts: Any
    ) -> AsyncIterator[T]:
        """The items of a list, page by page."""
        page: Mapping[str, Any] = {"next_cursor": None, "has_more": True}
        while page.get("has_more"):
            params = {**(params or {}), "cursor": page["next_cursor"]}
            page = await self._send("GET", path, params=query(params), **parts)
            for item in read(page["data"], list[Any]):
                yield read(item, kind)

    async def _all(self, path: str, kind: type[T], **params: Any) -> list[T]:
        return [item async for item in self._list(path, kind, params)]


async def unless_done(
    change: Coroutine[Any, Any, T], look: Callable[[], Coroutine[Any, Any, T]], is_done: Callable[[T], bool]
) -> T:
    """What comes of a change; where an earlier try made it, whose answer was lost, what there is now.

    Args:
        change: is sent, and sent again.
        look: gives what there is now.
        is_done: whether that is what was wanted.
    """
    try:
        return await change
    except (ChangedError, ConflictError) as error:
        if not error.tries or not is_done(now := await look()):
            raise
        return now
