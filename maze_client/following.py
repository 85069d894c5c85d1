"""When a request is worth sending again, and how a run's events are followed through everything that breaks."""

import random
import time
from collections.abc import AsyncGenerator, Awaitable, Callable, Collection, Sequence
from contextlib import aclosing
from typing import Any

import httpx

from maze_client.answers import Answer, Event, read
from maze_client.errors import error_of, unexpected
from maze_client.transport import Outcome, Transport

FIRST_RETRY_S, LONGEST_RETRY_S = 0.5, 8.0
LONGEST_TOLD_S = 60.0
"""A service that asks for more patience than this is not waited for."""
WORTH_A_RETRY = frozenset({408, 429, 502, 503, 504})
SILENCE_S = 30.0
"""Without a sign of life for so long a stream is dead; the service gives one every 15 s."""
POLL_S = 1.0
ALL_EVENTS = "/v1/events"
"""Path of the log that has no end."""
_EMPTY_STREAMS = 3
"""After so many in a row something on the way holds streams back."""


def retry_in_s(outcome: Outcome, tries: int, max_retries: int) -> float | None:
    """Seconds until a request is worth sending again; None where it is not.

    Exponential with jitter, so that the clients of a service that comes back do not all come at once; not before the
    time that ``Retry-After`` names. ``X-Should-Retry`` decides where it is said.

    Args:
        outcome: the answer, or how the connection broke.
        tries: how often it was sent again so far.
        max_retries: how often it may be.
    """
    told_s = 0.0
    if isinstance(outcome, httpx.Response):
        should = outcome.headers.get("x-should-retry")
        if should == "false" or (should != "true" and outcome.status_code not in WORTH_A_RETRY):
            return None
        told = outcome.headers.get("retry-after", "")
        told_s = float(told) if told.isdecimal() else 0.0  # its other form, a date, no service of ours writes
    if tries >= max_retries or told_s > LONGEST_TOLD_S:
        return None
    return told_s + min(FIRST_RETRY_S * 2.0**tries, LONGEST_RETRY_S) * random.uniform(0.5, 1.0)


async def answered(
    transport: Transport, max_retries: int, method: str, path: str, **parts: Any
) -> httpx.Response:
    """The answer to a request, which is sent again as long as that may help.

    Raises:
        ProblemError: the service refused it.
        ConnectionFailed: it was not reached.
    """
    tries = 0
    while True:
        outcome = await transport.send(method, path, **parts)
        if isinstance(outcome, httpx.Response):
            was_deleted = tries > 0 and method == "DELETE" and outcome.status_code == 404
            if outcome.is_success or was_deleted:  # by a try whose answer was lost
                outcome.extensions["tries"] = tries
                return outcome
        if (wait_s := retry_in_s(outcome, tries, max_retries)) is None:
            raise error_of(outcome, tries)
        await transport.sleep(wait_s)
        tries += 1


async def asked(transport: Transport, max_retries: int, method: str, path: str, **parts: Any) -> Answer:
    """The JSON object that is answered to a request; an empty one where something was deleted.

    Raises:
        MazeClientError: as :func:`answered`, or it is none.
    """
    response = await answered(transport, max_retries, method, path, **parts)
    if method == "DELETE" and response.status_code in (204, 404):
        return Answer()
    try:
        answer = Answer(response.json())
    except (TypeError, ValueError) as error:
        raise unexpected(response) from error
    answer.tries = response.extensions["tries"]
    return answer


async def recent_seq(page: Callable[[int], Awaitable[Sequence[Any]]], near: int = 1024) -> int:
    """A ``seq`` behind which at most ``near`` events stand by now, of a log that is read by ``page(after)``.

    By halving: who waits for the end of a long run does not read it all.
    """
    low, high = 0, near
    while await page(high):
        low, high = high, 2 * high
    while high - low > near:  # there are events behind low, and none behind high
        middle = (low + high) // 2
        low, high = (middle, high) if await page(middle) else (low, middle)
    return low


class EventDecoder:
    """Server-Sent Events from bytes, however they were cut. Only ``data`` is needed: it says the rest again."""

    def __init__(self) -> None:
        self._rest, self._data = b"", b""

    def feed(self, chunk: bytes) -> list[Event]:
        """The events that are whole by now."""
        *lines, self._rest = (self._rest + chunk).split(b"\n")
        events = []
        for line in lines:
            if line.startswith(b"data:"):
                self._data += line.removeprefix(b"data:")
            elif not line.strip() and self._data:
                events.append(read(self._data, Event))
                self._data = b""
        return events


class EventLog:
    """Events of a run, or of all, in order, each once, whatever becomes of connections: behind the last one it had.

    It reads a stream; it polls where something on the way holds streams back, and where a deadline is so near that
    a silent stream would pass it.
    """

    def __init__(
        self, transport: Transport, path: str, *, after: int, types: Collection[str], max_retries: int
    ) -> None:
        """Take the path of the events, the place to begin behind, and the types that are wanted; all when empty."""
        self._transport, self._path, self._after = transport, path, after
        self._ends = path != ALL_EVENTS
        ends = {"end"} if self._ends else set()
        self._types = {"types": sorted({*types} | ends)} if types else {}
        self._max_retries = max_retries
        self._tries = self._n_empty = 0
        self.is_ended = False
        """There is nothing more to come."""

    async def until(self, deadline: float | None) -> AsyncGenerator[Event]:
        """Events as they come, to the run's end, or to this time of the monotonic clock."""
        while not self.is_ended:
            left_s = float("inf") if deadline is None else deadline - time.monotonic()
            if left_s <= 0:
                return
            streams = self._n_empty < _EMPTY_STREAMS and left_s > SILENCE_S
            events = self._stream(deadline) if streams else self._poll(min(left_s, POLL_S))
            async with aclosing(events):
                async for event in events:
                    self._after = event.seq if event.position is None else event.position
                    self.is_ended = self._ends and event.type == "end"
                    yield event

    async def _stream(self, deadline: float | None) -> AsyncGenerator[Event]:
        headers = {"Accept": "text/event-stream"}
        if self._after >= 0:
            headers["Last-Event-ID"] = str(self._after)
        timeout = httpx.Timeout(SILENCE_S)
        outcome = await self._transport.send(
            "GET",
            self._path,
            params=self._types | ({"after": self._after} if self._after < 0 else {}),
            headers=headers,
            timeout=timeout,
            stream=True,
        )
        if isinstance(outcome, httpx.Response) and outcome.is_success:
            self.is_ended = outcome.status_code == 204
            is_stream = outcome.headers.get("content-type", "").startswith("text/event-stream")
            self._n_empty = self._n_empty + 1 if is_stream else _EMPTY_STREAMS
            decoder = EventDecoder()
            try:
                async with aclosing(self._transport.chunks(outcome)) as chunks:
                    async for chunk in chunks:
                        if is_stream:
                            self._n_empty = self._tries = 0
                        for event in decoder.feed(chunk):
                            yield event
                        if deadline is not None and deadline - time.monotonic() <= SILENCE_S:
                            return
                outcome = httpx.RemoteProtocolError("the stream ended", request=outcome.request)
            except httpx.RequestError as error:
                outcome = error
        if not self.is_ended:
            await self._wait(outcome)

    async def _poll(self, wait_s: float) -> AsyncGenerator[Event]:
        params = {**self._types, "after": self._after}
        answer = await asked(self._transport, self._max_retries, "GET", self._path, params=params)
        events = read(answer["data"], list[Event])
        for event in events:
            yield event
        if not events:
            await self._transport.sleep(wait_s)

    async def _wait(self, outcome: Outcome) -> None:
        if (wait_s := retry_in_s(outcome, self._tries, self._max_retries)) is None:
            raise error_of(outcome)
        self._tries += 1
        await self._transport.sleep(wait_s)
