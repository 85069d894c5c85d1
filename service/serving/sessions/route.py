"""``POST /v1/sessions/{id}/step`` as a bare ASGI application; the rest of a session's life is FastAPI's."""

import asyncio
from collections.abc import Callable
from functools import partial

from starlette.types import Receive, Scope, Send

from service.domain.errors import ServiceError
from service.domain.sharing import Caller
from service.domain.sharing import Scope as Right
from service.problems import Problem, query_problem, scope_missing
from service.security import media_type_of
from service.serving.forms import JSON, MSGPACK, OCTETS
from service.serving.hot_route import Whole, json_headers
from service.serving.request import ClientDisconnectedError, read_body
from service.serving.sessions.registry import Sessions
from service.serving.sessions.session import (
    READ_ON_LOOP_BYTES,
    Answer,
    PackedStepRequest,
    Stepped,
    StepRequest,
)
from service.settings import Settings

STEP_PATH = "/v1/sessions/{session_id}/step"

_READERS: dict[str, Callable[[bytes], StepRequest]] = {
    JSON.media_type: JSON.reader(StepRequest),
    MSGPACK.media_type: MSGPACK.reader(PackedStepRequest),
}


def project_of(scope: Scope) -> str:
    """Whose sessions the caller uses.

    Raises:
        Problem: 403, its token may not act.
    """
    caller: Caller = scope["state"]["caller"]
    if not caller.may(Right.ACT):
        raise scope_missing(Right.ACT)
    return caller.project


def decode_step(body: bytes, media_type: str = JSON.media_type) -> StepRequest:
    """The body as a step.

    Raises:
        Problem: 400 where it is not of its form, 415 where there is no such form, 422 with the pointer of a mistake.
    """
    reader = _READERS.get(media_type)
    if reader is None and media_type == OCTETS:
        detail = "A step is JSON or msgpack; in both an array may stand as its bytes."
        raise Problem("unsupported_media_type", detail, headers={"Accept": ", ".join(_READERS)})
    return (reader or _READERS[JSON.media_type])(body)


async def awaited(answer: Answer) -> Stepped:
    """The answer to a step; who stops waiting for it stops nothing else."""
    return answer if isinstance(answer, Stepped) else await asyncio.shield(answer)


class SessionRoute:
    """The steps of sessions."""

    def __init__(self, sessions: Sessions, settings: Settings) -> None:
        """Bind the sessions; bodies have the settings' limit."""
        self._sessions = sessions
        self._max_body_bytes = settings.max_action_body_bytes

    @staticmethod
    def handles(scope: Scope) -> bool:
        """Whether this route answers the request, whatever its method."""
        return scope["type"] == "http" and scope["path"].endswith("/step") and _is_step(scope["path"])

    def read_step(self, scope: Scope, body: bytes) -> Callable[[], Answer] | None:
        """What takes the step of a body of JSON, as :meth:`Sessions.step`; None where no such session is open.

        Raises:
            Problem: as :func:`project_of` and :func:`decode_step`.
        """
        project = project_of(scope)
        request = decode_step(body)
        session = self._sessions.peek(_session_id(scope), project)
        return None if session is None else partial(self._sessions.step, session, request)

    @staticmethod
    def refused(scope: Scope, error: Problem | ServiceError) -> Whole:
        """The answer that says what is wrong."""
        problem = error if isinstance(error, Problem) else Problem.of(error)
        return problem.status, *problem.answer(scope)

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer one request; errors of the service and of the request become problems, others are raised."""
        scope["maze.route"] = STEP_PATH
        try:
            status, headers, body = await self._answer(scope, receive)
        except ClientDisconnectedError:
            return
        except (Problem, ServiceError) as error:
            status, headers, body = self.refused(scope, error)
        await send({"type": "http.response.start", "status": status, "headers": headers})
        await send({"type": "http.response.body", "body": body})

    async def _answer(self, scope: Scope, receive: Receive) -> Whole:
        if scope["method"] != "POST":
            detail = f"{scope['method']} does not step; send POST with an observation."
            raise Problem("method_not_allowed", detail, headers={"Allow": "POST"})
        project = project_of(scope)
        if (query := scope.get("query_string")) and (problem := query_problem(query, ())):
            raise problem
        body = await read_body(await receive(), receive, self._max_body_bytes)
        media_type = media_type_of(dict(scope["headers"])).decode("latin-1")
        is_long = len(body) > READ_ON_LOOP_BYTES
        request = (
            await asyncio.to_thread(decode_step, body, media_type)
            if is_long
            else decode_step(body, media_type)
        )
        session_id = _session_id(scope)
        session = self._sessions.peek(session_id, project) or await self._sessions.get(session_id, project)
        answer = self._sessions.step(session, request)
        answered = (answer if isinstance(answer, Stepped) else await awaited(answer)).body()
        return 200, json_headers(b"%d" % len(answered)), answered


def _is_step(path: str) -> bool:
    return path.startswith("/v1/sessions/") and path.count("/") == 4


def _session_id(scope: Scope) -> str:
    path: str = scope["path"]
    return path.split("/")[3]
