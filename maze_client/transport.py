"""The two transports, and how a method that is written once is one of both clients.

Every method is a coroutine over a transport. That of :class:`AsyncClient` is awaited as it is. That of :class:`Client`
does its work where it is asked, so that its coroutines never wait, and are run to their end at once.
"""

import asyncio
import functools
import time
from collections.abc import AsyncGenerator, AsyncIterator, Callable, Coroutine, Iterator
from contextlib import contextmanager
from types import MethodType
from typing import Any, Concatenate, Generic, ParamSpec, TypeAlias, TypeVar, overload

import httpx

from maze_client.errors import MazeClientError

P = ParamSpec("P")
T = TypeVar("T")
Outcome: TypeAlias = httpx.Response | httpx.RequestError

STREAMED = (200, 206)
"""Statuses whose body is read as it comes."""


def built(
    http: httpx.Client | httpx.AsyncClient, method: str, path: str, parts: dict[str, Any]
) -> httpx.Request:
    """A request.

    Raises:
        MazeClientError: it cannot be one, or nothing can be sent any more.
    """
    if http.is_closed:
        raise MazeClientError("This client is closed; make another one.")
    try:
        return http.build_request(method, path, **parts)
    except (httpx.InvalidURL, TypeError, ValueError) as error:
        raise MazeClientError(f"{method} {path} cannot be sent: {error}") from error


def _socket_of(http: httpx.Client | httpx.AsyncClient, path: str, subprotocol: str) -> dict[str, Any]:
    """Where and how a WebSocket is opened, by what HTTP is spoken with."""
    url = http.base_url.join(path)
    kept = ("authorization", "user-agent")
    return {
        "uri": str(url.copy_with(scheme="wss" if url.scheme == "https" else "ws")),
        "subprotocols": [subprotocol],
        "additional_headers": {name: http.headers[name] for name in kept if name in http.headers},
        "user_agent_header": None,
        "compression": None,
        "open_timeout": http.timeout.connect,
        "max_size": None,
    }


@contextmanager
def _broken() -> Iterator[None]:
    """Whatever ends a WebSocket, as OSError."""
    from websockets.exceptions import WebSocketException

    try:
        yield
    except WebSocketException as error:
        raise ConnectionError(str(error)) from error


class SyncTransport:
    """Does its work where it is asked."""

    def __init__(self, **settings: Any) -> None:
        self.http = httpx.Client(**settings)

    def __del__(self) -> None:  # `Client().train(…)` leaves nobody who would close it
        if http := self.__dict__.get("http"):
            http.close()

    async def send(self, method: str, path: str, *, stream: bool = False, **parts: Any) -> Outcome:
        """What comes of a request; of a stream the body of a 200 or 206 is left for :meth:`chunks`."""
        try:
            response = self.http.send(built(self.http, method, path, parts), stream=stream)
            if stream and response.status_code not in STREAMED:
                response.read()
        except httpx.RequestError as error:
            return error
        return response

    async def chunks(self, response: httpx.Response) -> AsyncGenerator[bytes]:
        """The body of a stream as it comes; closes it."""
        try:
            for chunk in response.iter_bytes():
                yield chunk
        finally:
            response.close()

    async def sleep(self, seconds: float) -> None:
        """Wait."""
        time.sleep(seconds)  # noqa: ASYNC251

    async def connect(self, path: str, subprotocol: str) -> Any:
        """A WebSocket; raises OSError, as do the next three."""
        from websockets.sync.client import connect

        with _broken():
            return connect(**_socket_of(self.http, path, subprotocol)).__enter__()

    async def say(self, socket: Any, text: str) -> None:
        """Send a message."""
        with _broken():
            socket.send(text)

    async def hear(self, socket: Any) -> Any:
        """The next message."""
        with _broken():
            return socket.recv(timeout=self.http.timeout.read)

    async def hang_up(self, socket: Any) -> None:
        """Close a WebSocket."""
        socket.close()

    def do(self, coroutine: Coroutine[Any, Any, T]) -> T:
        """Run to the end."""
        try:
            coroutine.send(None)
        except StopIteration as end:
            value: T = end.value
            return value
        raise AssertionError("it waits for something else than its transport")

    def each(self, items: AsyncGenerator[T]) -> Iterator[T]:
        """Iterate."""
        try:
            while True:
                yield self.do(items.__anext__())
        except StopAsyncIteration:
            return
        finally:
            self.do(items.aclose())


class AsyncTransport:
    """Works in an event loop of asyncio's."""

    def __init__(self, **settings: Any) -> None:
        self.http = httpx.AsyncClient(**settings)

    async def send(self, method: str, path: str, *, stream: bool = False, **parts: Any) -> Outcome:
        """Send a request."""
        try:
            response = await self.http.send(built(self.http, method, path, parts), stream=stream)
            if stream and response.status_code not in STREAMED:
                await response.aread()
        except httpx.RequestError as error:
            return error
        return response

    async def chunks(self, response: httpx.Response) -> AsyncGenerator[bytes]:
        """Read a stream."""
        try:
            async for chunk in response.aiter_bytes():
                yield chunk
        finally:
            await response.aclose()

    async def sleep(self, seconds: float) -> None:
        """Wait."""
        await asyncio.sleep(seconds)

    async def connect(self, path: str, subprotocol: str) -> Any:
        """Open a WebSocket."""
        from websockets.asyncio.client import connect

        with _broken():
            return await connect(**_socket_of(self.http, path, subprotocol))

    async def say(self, socket: Any, text: str) -> None:
        """Send a message."""
        with _broken():
            await socket.send(text)

    async def hear(self, socket: Any) -> Any:
        """Wait for a message."""
        with _broken():
            return await asyncio.wait_for(socket.recv(), self.http.timeout.read)

    async def hang_up(self, socket: Any) -> None:
        """Close a WebSocket."""
        await socket.close()

    def do(self, coroutine: Coroutine[Any, Any, T]) -> Coroutine[Any, Any, T]:
        """The caller awaits it."""
        return coroutine

    def each(self, items: AsyncGenerator[T]) -> AsyncGenerator[T]:
        """The caller iterates."""
        return items


Transport: TypeAlias = SyncTransport | AsyncTransport


class Sync:
    """Whose methods answer."""

    _transport: SyncTransport


class Async:
    """Whose methods are awaited."""

    _transport: AsyncTransport


class Verb(Generic[P, T]):
    """A method that answers in a :class:`Sync` caller, and is awaited in an :class:`Async` one."""

    def __init__(self, method: Callable[Concatenate[Any, P], Coroutine[Any, Any, T]]) -> None:
        self._method, self.__doc__ = method, method.__doc__

    @overload
    def __get__(self, caller: Sync, owner: type) -> Callable[P, T]: ...
    @overload
    def __get__(self, caller: Async, owner: type) -> Callable[P, Coroutine[Any, Any, T]]: ...
    def __get__(self, caller: Any, owner: type) -> Any:
        return bound(self._method, caller, "do")


class Listing(Generic[P, T]):
    """A method to iterate over: with ``for`` in a :class:`Sync` caller, with ``async for`` in an :class:`Async` one."""

    def __init__(self, method: Callable[Concatenate[Any, P], AsyncIterator[T]]) -> None:
        self._method, self.__doc__ = method, method.__doc__

    @overload
    def __get__(self, caller: Sync, owner: type) -> Callable[P, Iterator[T]]: ...
    @overload
    def __get__(self, caller: Async, owner: type) -> Callable[P, AsyncIterator[T]]: ...
    def __get__(self, caller: Any, owner: type) -> Any:
        return bound(self._method, caller, "each")


def bound(method: Callable[..., Any], caller: Any, how: str) -> Callable[..., Any]:
    """The method of a caller, as its transport does it; without a caller the function itself."""
    if caller is None:
        return method
    take = getattr(caller._transport, how)

    @functools.wraps(MethodType(method, caller))
    def of_caller(*args: Any, **kwargs: Any) -> Any:
        return take(method(caller, *args, **kwargs))

    return of_caller
