"""A run's event log: as JSON pages, or live as Server-Sent Events.

``id:`` of a Server-Sent Event is the event's ``seq``, so a client that reconnects with ``Last-Event-ID`` goes
on where it was, also after a restart of the service. The stream ends after the ``end`` event, and a client
that comes back after it is answered 204, which tells browsers to stop.
"""

import time
from collections.abc import AsyncGenerator, Collection
from typing import Annotated

from fastapi import APIRouter, Header, Query, Response
from fastapi.sse import format_sse_event
from pydantic import Field
from starlette.concurrency import run_in_threadpool
from starlette.responses import StreamingResponse

from service.api.answers import EventOut, Listing
from service.api.bodies import StrictRoute
from service.api.delivery import accepts
from service.api.dependencies import LogQuery, RunDep, Services, ServicesDep, require_scope
from service.api.runs import begun, last_seq
from service.domain.run import EventType, Page, Run
from service.domain.sharing import Scope

router = APIRouter(
    prefix="/v1/runs/{run_id}",
    tags=["runs"],
    route_class=StrictRoute,
    dependencies=[require_scope(Scope.RUNS_READ)],
)

EVENT_STREAM = "text/event-stream"
STREAM_HEADERS = {"Cache-Control": "no-store", "X-Accel-Buffering": "no"}
RETRY_MS = 2000
"""How long a browser waits before it connects again."""
HEARTBEAT_S = 15.0
"""A silent stream says so at this interval, so that nobody on the way closes it."""
BATCH = 500


class EventQuery(LogQuery):
    """Which events, and from where."""

    types: list[EventType] = Field(
        default=[], max_length=len(EventType), description="Only events of these types; all when left out."
    )


@router.get("/events", response_model=Listing[EventOut])
async def list_events(
    run: RunDep,
    query: Annotated[EventQuery, Query()],
    services: ServicesDep,
    accept: Annotated[str, Header(include_in_schema=False)] = "*/*",
    last_event_id: Annotated[str | None, Header()] = None,
) -> Page | Response:
    """Events in order; with `Accept: text/event-stream` a live stream that resumes by `Last-Event-ID`."""
    if accepts(accept, EVENT_STREAM):
        after = query.start if last_event_id is None else start_after(last_event_id)
        return await stream(run, services, after, query.types)
    events = await run_in_threadpool(
        services.runs.events, run.id, types=query.types, after=query.start, limit=query.limit + 1
    )
    return begun(events, query.limit, last_seq)


def start_after(last_event_id: str) -> int:
    """The seq that a client saw last; what is no seq of ours means that it starts again."""
    text = last_event_id.strip()
    return int(text) if text.isascii() and text.isdecimal() and len(text) <= 15 else 0


async def stream(run: Run, services: Services, after: int, types: Collection[EventType]) -> Response:
    """The events after ``after`` as they come; 204 when the run has ended and there are none."""
    if run.state.is_terminal and not await run_in_threadpool(
        services.runs.events, run.id, after=after, limit=1
    ):  # a browser stops at a 204; clients that look at the type alone read an empty stream
        return Response(status_code=204, headers=STREAM_HEADERS, media_type=EVENT_STREAM)
    events = follow(run.id, services, after, types)
    return StreamingResponse(
        services.changes.counted(events), headers=STREAM_HEADERS, media_type=EVENT_STREAM
    )


async def follow(
    run_id: str, services: Services, after: int, types: Collection[EventType] = ()
) -> AsyncGenerator[bytes]:
    """Server-Sent Events until the run's end, the client's, or the service's.

    What ends with a blank line always has data: to several clients a block without any is an empty event. So
    ``retry`` stands in the first event, and a comment is one line alone.
    """
    retry: int | None = RETRY_MS
    said_at = time.monotonic()
    while not services.changes.is_stopping:
        version = services.changes.version
        events = await run_in_threadpool(services.runs.events, run_id, after=after, limit=BATCH)
        for event in events:
            after = event.seq
            if types and event.type not in {*types, EventType.END}:
                continue
            data = EventOut.model_validate(event).model_dump_json()
            yield format_sse_event(id=str(after), event=event.type, data_str=data, retry=retry)
            retry, said_at = None, time.monotonic()
            if event.type is EventType.END:
                return
        if not events:
            await services.changes.wait(version, HEARTBEAT_S)
        if time.monotonic() - said_at >= HEARTBEAT_S:
            if not await run_in_threadpool(services.runs.shown, [run_id]):
                return  # it was deleted
            yield b": still here\n"
            said_at = time.monotonic()
