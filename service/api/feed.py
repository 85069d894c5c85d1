"""The events of all runs in one log: as JSON pages, or live as Server-Sent Events that resume by ``Last-Event-ID``."""

import time
from collections.abc import AsyncGenerator, Sequence
from typing import Annotated

from fastapi import APIRouter, Header, Query, Response
from fastapi.sse import format_sse_event
from pydantic import Field
from starlette.concurrency import run_in_threadpool
from starlette.responses import StreamingResponse

from service.api.answers import FeedEventOut, Listing
from service.api.bodies import StrictRoute
from service.api.delivery import accepts
from service.api.dependencies import Services, ServicesDep, require_scope
from service.api.events import (
    BATCH,
    EVENT_STREAM,
    HEARTBEAT_S,
    RETRY_MS,
    STREAM_HEADERS,
    EventQuery,
    start_after,
)
from service.api.runs import begun
from service.domain.run import Event, EventType, Page
from service.domain.sharing import Scope

router = APIRouter(
    prefix="/v1", tags=["runs"], route_class=StrictRoute, dependencies=[require_scope(Scope.RUNS_READ)]
)

NOW = -1


class FeedQuery(EventQuery):
    """Which events, and from where."""

    after: int = Field(
        default=0,
        ge=NOW,
        lt=2**53,
        description="Only events with a larger `position`; -1 only those to come.",
    )


@router.get("/events", response_model=Listing[FeedEventOut])
async def list_all_events(
    query: Annotated[FeedQuery, Query()],
    services: ServicesDep,
    accept: Annotated[str, Header(include_in_schema=False)] = "*/*",
    last_event_id: Annotated[str | None, Header()] = None,
) -> Page | Response:
    """Events of all runs in order; with `Accept: text/event-stream` a live stream that resumes by `Last-Event-ID`."""
    after = query.start
    if accepts(accept, EVENT_STREAM) and last_event_id is not None:
        after = start_after(last_event_id)
    if after == NOW:
        after = await run_in_threadpool(services.runs.feed_end)
    if accepts(accept, EVENT_STREAM):
        events = _follow(services, after, query.types)
        return StreamingResponse(
            services.changes.counted(events), headers=STREAM_HEADERS, media_type=EVENT_STREAM
        )
    found = await run_in_threadpool(services.runs.feed, types=query.types, after=after, limit=query.limit + 1)
    return begun(found, query.limit, _position)


def _position(event: Event) -> str:
    return str(event.position)


async def _follow(services: Services, after: int, types: Sequence[EventType]) -> AsyncGenerator[bytes]:
    """Server-Sent Events until the client's end, or the service's; see :func:`service.api.events.follow`."""
    retry: int | None = RETRY_MS
    said_at = time.monotonic()
    while not services.changes.is_stopping:
        version = services.changes.version
        events = await run_in_threadpool(services.runs.feed, types=types, after=after, limit=BATCH)
        for event in events:
            after = event.position
            data = FeedEventOut.model_validate(event).model_dump_json()
            yield format_sse_event(id=str(after), event=event.type, data_str=data, retry=retry)
            retry, said_at = None, time.monotonic()
        if not events:
            await services.changes.wait(version, HEARTBEAT_S)
        if time.monotonic() - said_at >= HEARTBEAT_S:
            yield b": still here\n"
            said_at = time.monotonic()
