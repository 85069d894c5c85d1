"""``GET /v1/runs/{id}``, asked over and over by whoever waits for a run: many polls share one look at the database.

An answer is kept with the state of the database that it was read in, and given again while nothing was written. Polls
that come while one look is under way share the next one, so that each sees all that was stored before it came. They
are answered few at a time and not more than :data:`POLLS_PER_S`, those beyond in their turn: between two of them
there is time for actions. What is unusual, and runs that are not there, are FastAPI's, as is how an answer reads.
"""

import asyncio
import re
from collections.abc import Callable, Iterable
from typing import Any, NamedTuple

from starlette.types import ASGIApp, Message, Receive, Scope, Send

from maze_core.config.trust import RUN_ID
from service.api.answers import RunOut
from service.api.delivery import finished
from service.domain.ports import RunStore
from service.domain.sharing import Caller
from service.domain.sharing import Scope as Right

ROUTE = "/v1/runs/{run_id}"
POLLS_PER_S = 2000.0
"""Answers a second, at less than a tenth of a millisecond each."""
PER_TURN = 2
"""Answers in one turn of the event loop."""
_PATH = re.compile(f"/v1/runs/{RUN_ID}")
_MAX_KEPT = 256
_MAX_FORMS = 16


class _Answer(NamedTuple):
    """A run as JSON, and that in the forms in which it was asked for."""

    project: str
    body: bytes
    forms: dict[tuple[bytes, bytes], tuple[Message, Message]]
    """By If-None-Match and Accept-Encoding: start and body of the answer."""


class RunPolls:
    """Answers those requests for runs that :meth:`handles` takes; used from one event loop."""

    def __init__(self, runs: RunStore, app: ASGIApp) -> None:
        """Take the runs, and what answers in all other cases."""
        self._runs, self._app = runs, app
        self._waiting: dict[str, list[asyncio.Future[_Answer | None]]] = {}
        self._looking: asyncio.Task[None] | None = None
        self._kept: dict[str, _Answer] = {}
        self._kept_at: int | None = None

    @staticmethod
    def handles(scope: Scope) -> bool:
        """Whether this is the usual request for one run."""
        return (
            scope["type"] == "http"
            and scope["method"] in ("GET", "HEAD")
            and not scope["query_string"]
            and _PATH.fullmatch(scope["path"]) is not None
        )

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer one request."""
        caller: Caller = scope["state"]["caller"]
        answer = await self._read(scope["path"].rpartition("/")[2]) if caller.may(Right.RUNS_READ) else None
        if answer is None or answer.project != caller.project:
            await self._app(scope, receive, send)
            return
        scope["maze.route"] = ROUTE
        start, message = await _form(answer, scope)
        await send(start)
        await send(message if scope["method"] == "GET" else {"type": "http.response.body"})

    async def close(self) -> None:
        """Wait for what is under way."""
        if self._looking is not None:
            await self._looking

    def _read(self, run_id: str) -> "asyncio.Future[_Answer | None]":
        loop = asyncio.get_running_loop()
        future: asyncio.Future[_Answer | None] = loop.create_future()
        self._waiting.setdefault(run_id, []).append(future)
        if self._looking is None:
            self._looking = loop.create_task(self._look())
        return future

    async def _look(self) -> None:
        """Look for all that wait, until nobody does."""
        loop = asyncio.get_running_loop()
        while self._waiting:
            began, waiting, self._waiting = loop.time(), self._waiting, {}
            tell = await self._found(list(waiting))
            count = 0
            for run_id, futures in waiting.items():
                for future in futures:
                    if not future.done():
                        tell(run_id, future)
                    count += 1
                    if count % PER_TURN == 0:
                        await asyncio.sleep(0)
            await asyncio.sleep(max(0.0, began + count / POLLS_PER_S - loop.time()))
        self._looking = None

    async def _found(self, run_ids: list[str]) -> "Callable[[str, asyncio.Future[_Answer | None]], None]":
        """What tells a future what was found of its run."""
        try:
            found = await asyncio.to_thread(self._answers, run_ids)
        except Exception as error:
            failure = error
            return lambda _, future: future.set_exception(failure)
        return lambda run_id, future: future.set_result(found.get(run_id))

    def _answers(self, run_ids: Iterable[str]) -> dict[str, _Answer]:
        """The answers that there are, read anew where anything was written since they were."""
        marker = self._runs.change_marker()
        if marker != self._kept_at or len(self._kept) > _MAX_KEPT:
            self._kept, self._kept_at = {}, marker
        if missing := [run_id for run_id in run_ids if run_id not in self._kept]:
            for run in self._runs.shown(missing):
                self._kept[run.id] = _Answer(
                    run.project, RunOut.model_validate(run).model_dump_json().encode(), {}
                )
        return {run_id: self._kept[run_id] for run_id in run_ids if run_id in self._kept}


async def _form(answer: _Answer, scope: Scope) -> tuple[Message, Message]:
    """Start and body of the answer, as this request takes it."""
    headers: dict[bytes, bytes] = dict(scope["headers"])
    key = headers.get(b"if-none-match", b""), headers.get(b"accept-encoding", b"")
    if (form := answer.forms.get(key)) is None:
        length = b"%d" % len(answer.body)
        start: dict[str, Any] = {
            "type": "http.response.start",
            "status": 200,
            "headers": [(b"content-length", length), (b"content-type", b"application/json")],
        }
        form = await finished(scope, start, answer.body)
        if len(answer.forms) < _MAX_FORMS:
            answer.forms[key] = form
    return form
