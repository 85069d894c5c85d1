"""The common ``compute_action`` and step of a session, answered where they arrive: no task, one write.

uvicorn starts a task for every request as soon as its head is whole. :class:`FastProtocol` holds a request back
where its head is the usual one of a request to act. When its body is there too, it is decoded, joins the
micro-batch, and the batch writes its answer. What turns out to be unusual only then, and everything else, becomes
the task that it would have been, with the same body. The rules stay where they are: who may ask in
:mod:`service.security`, what is asked and answered in :mod:`service.serving.hot_route` and
:mod:`service.serving.sessions.route`.

It rests on names that uvicorn does not promise to keep, :data:`NAMES`; without one of them it is not used.
"""

import asyncio
import logging
import time
from collections.abc import Callable, Mapping
from functools import partial
from typing import Any

from uvicorn.protocols.http.flow_control import FlowControl
from uvicorn.protocols.http.httptools_impl import HttpToolsProtocol, RequestResponseCycle

from maze_core.types import JSON
from service.domain.errors import ServiceError
from service.http_server import Protocol, rendered
from service.main import Application
from service.problems import Problem
from service.security import Answer, HeaderList, Pass, given_request_id, new_request_id
from service.serving.agents import Acting
from service.serving.batching import Job
from service.serving.hot_route import (
    READ_ON_LOOP_BYTES,
    ActionRoute,
    Whole,
    action_path,
    json_headers,
    source_of,
)
from service.serving.sessions.route import STEP_PATH, SessionRoute
from service.serving.sessions.session import Answer as StepAnswer
from service.serving.sessions.session import Stepped
from service.settings import Settings

logger = logging.getLogger(__name__)

MAX_KNOWN, MAX_KNOWN_BYTES = 32, 2048
"""Heads that a connection remembers, and the longest of them."""
_USUAL_ACCEPT = frozenset({b"*/*", b"application/json"})
_GAP = b"\x00"
"""In the place of a length and an id; no header holds it."""

NAMES: Mapping[type, tuple[str, ...]] = {
    HttpToolsProtocol: (
        *("_start_asgi_task", "on_message_begin", "on_message_complete", "pipeline"),
        *("timeout_keep_alive", "timeout_keep_alive_handler", "timeout_keep_alive_task"),
        *("on_response_complete", "access_log", "app", "cycle"),
        *("default_headers", "flow", "limit_concurrency", "server_state", "transport"),
    ),
    RequestResponseCycle: (
        *("body", "disconnected", "keep_alive", "more_body", "response_complete"),
        *("response_started", "scope"),
    ),
    FlowControl: ("write_paused",),
}
"""What is used of uvicorn's classes; every name stands in them as a method, or in the code of one."""


def missing_names() -> list[str]:
    """Which of :data:`NAMES` this uvicorn does not have."""
    missing = []
    for kind, names in NAMES.items():
        known = set(vars(kind))
        for member in vars(kind).values():
            known |= set(getattr(member, "__code__", missing_names.__code__).co_names)
        missing += [f"{kind.__name__}.{name}" for name in names if name not in known]
    return missing


def protocol_of(application: Application, settings: Settings) -> Any:
    """What reads the connections of an application: :class:`FastProtocol` where it is wanted and possible."""
    if not settings.fast_path or settings.access_log:
        return Protocol
    if missing := missing_names():
        logger.warning("this uvicorn has no %s: actions are computed, but more slowly", ", ".join(missing))
        return Protocol
    return partial(FastProtocol, application=application)


class FastProtocol(Protocol):
    """One connection; see the module."""

    def __init__(self, *args: Any, application: Application, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self._application = application
        self._held: _Exchange | None = None
        self._known: dict[bytes, _Exchange] = {}
        """By its head, what was answered here at once."""
        self._is_between = True
        """The last byte that came was a request's last one."""
        self._n_begun = 0
        self._acted: _Exchange | None = None
        self._used_at = 0.0

    def data_received(self, data: bytes) -> None:
        """Act on a request that has, byte for byte, a head that was read before; read every other one."""
        if self._acts_again(data):
            return
        was_between, self._n_begun = self._is_between, 0
        super().data_received(data)
        if was_between and self._is_between and self._n_begun == 1 and self._acted is not None:
            self._remember(data, self._acted)

    def on_message_begin(self) -> None:
        """A request begins."""
        self._is_between = False
        self._n_begun += 1
        self._acted = None
        super().on_message_begin()

    def on_message_complete(self) -> None:
        """The request is whole: act on one that was held back."""
        super().on_message_complete()
        self._is_between = True
        held, self._held = self._held, None
        if held is None:
            return
        if held.acts(bytes(held.cycle.body)):
            self._acted = held
        else:
            super()._start_asgi_task(held.cycle, self.app)

    def connection_lost(self, exc: Exception | None) -> None:
        """Let go of what refers to the connection."""
        self._known.clear()
        super().connection_lost(exc)

    def timeout_keep_alive_handler(self) -> None:
        """Close the connection, or look again when it has been idle for as long as that takes."""
        rest_s = self._used_at + self.timeout_keep_alive - self.loop.time()
        if not self.cycle.response_complete:
            self.timeout_keep_alive_task = None  # the answer sets it anew
        elif rest_s > 0:
            self.timeout_keep_alive_task = self.loop.call_later(rest_s, self.timeout_keep_alive_handler)
        else:
            super().timeout_keep_alive_handler()

    def answered(self) -> None:
        """Go on after an answer; a timer that runs already is left to find out that the connection was used."""
        if self.pipeline or self.timeout_keep_alive_task is None:
            self.on_response_complete()
        else:
            self.server_state.total_requests += 1
            self._used_at = self.loop.time()

    def _start_asgi_task(self, cycle: RequestResponseCycle, app: Any) -> None:
        """Hold the request back, or start it.

        One that waited behind another is whole already, and is started: so no chain of answers grows the stack.
        """
        if cycle.more_body and (passed := self._passes(cycle)) is not None:
            kind = _StepExchange if SessionRoute.handles(passed.scope) else _ActionExchange
            self._held = kind(self, cycle, passed)
        else:
            super()._start_asgi_task(cycle, app)

    def _passes(self, cycle: RequestResponseCycle) -> Pass | None:
        """Whether the head is the usual one."""
        scope: Any = cycle.scope
        if (
            scope["method"] != "POST"
            or scope["query_string"]
            or scope["http_version"] != "1.1"
            or not (ActionRoute.handles(scope) or SessionRoute.handles(scope))
            or self.flow.write_paused
            or self.access_log
            or self.limit_concurrency is not None
        ):
            return None
        passed = self._application.passes(scope, READ_ON_LOOP_BYTES)
        is_usual = passed is not None and passed.headers.get(b"accept", b"*/*") in _USUAL_ACCEPT
        return passed if is_usual else None

    def _acts_again(self, data: bytes) -> bool:
        end = data.find(b"\r\n\r\n") + 4
        known = self._known.get(data[:end])
        return (
            known is not None
            and len(data) == end + known.n_bytes
            and self._is_between
            and self.cycle.response_complete
            and not (self.flow.write_paused or self._is_draining or self._is_refused)
            and known.acts_again(data[end:])
        )

    def _remember(self, data: bytes, acted: "_Exchange") -> None:
        """Note the head of a request that was acted on, and was all that came.

        With no byte more than the body behind its first empty line, that line ended its head.
        """
        end = data.find(b"\r\n\r\n") + 4
        if end <= MAX_KNOWN_BYTES and len(data) == end + acted.n_bytes and acted.cycle.keep_alive:
            if len(self._known) >= MAX_KNOWN:
                del self._known[next(iter(self._known))]
            self._known[data[:end]] = acted


class _Exchange:
    """One request that was held back, and its reply; then the next one with the same head.

    A next one whose body is *plain* is answered by what its head decides, which is known: the answer is three pieces
    of a head that is kept, with a length and an id between them.
    """

    def __init__(self, protocol: FastProtocol, cycle: RequestResponseCycle, passed: Pass) -> None:
        self.cycle = cycle
        self.n_bytes = 0
        """Length of the body."""
        self._protocol, self._passed = protocol, passed
        self._scope: Any = passed.scope
        self._answer: Answer | None = passed.answer()
        """None where it is not needed: for a plain request that succeeds."""
        self._began = 0.0
        self._request_id = given_request_id(passed.headers)
        self._count: Callable[[float], object] | None = None
        """Of plain answers, from the first one on."""
        self._kept_for: object = None
        """The default headers that :attr:`_kept` has; uvicorn makes new ones every second."""
        self._kept = b"", b"", b""

    def acts_again(self, body: bytes) -> bool:
        """As :meth:`acts`, for the next request."""
        now = time.monotonic()
        if now >= self._passed.until:
            return False
        begin = self._plain(now, body)
        if begin is None:
            self._answer = self._passed.answer()
            return self.acts(body)
        if not self._passed.is_in_time():
            return False
        self._answer, self._began = None, now
        self._begin(begin)
        return True

    def acts(self, body: bytes) -> bool:
        """Let the request act; false, and nothing has happened, where it is no usual one."""
        try:
            begin = self._read(body)
        except Exception:  # whatever it is, the task meets it too, and answers it
            return False
        if begin is None or not self._passed.is_in_time():
            return False
        self.n_bytes = len(body)
        self._scope["maze.route"] = self._path()
        self.cycle.body.clear()
        self._begin(begin)
        return True

    def set_exception(self, error: Exception) -> None:
        """Answer with what went wrong."""
        answer = self._answer = self._answer or self._passed.answer()
        if isinstance(error, Problem | ServiceError):
            self._write(*self._refused(error))
        else:
            problem = answer.problem_of(error)
            self._write(problem.status, *problem.answer(self._scope))

    def _path(self) -> str:
        """The route, without what it names."""
        raise NotImplementedError

    def _read(self, body: bytes) -> Callable[[], object] | None:
        """What lets a usual request act; None, or any error, for another one. Nothing happens yet."""
        raise NotImplementedError

    def _plain(self, now: float, body: bytes) -> Callable[[], object] | None:
        """The same of a plain one; None for another one, and never an error."""
        raise NotImplementedError

    def _refused(self, error: Problem | ServiceError) -> Whole:
        raise NotImplementedError

    def _begin(self, begin: Callable[[], object]) -> None:
        protocol, cycle = self._protocol, self.cycle
        protocol.cycle = protocol._running = cycle
        cycle.response_started = cycle.response_complete = False
        try:
            begin()
        except Exception as error:
            self.set_exception(error)

    def _write(self, status: int, headers: HeaderList | None, body: bytes) -> None:
        """As uvicorn's cycle sends it, in one piece; the headers of what was done are those of JSON."""
        protocol, cycle = self._protocol, self.cycle
        answer, is_kept = self._answer, cycle.keep_alive
        if answer is not None or not is_kept:
            answer = answer or self._passed.answer()
            headers = json_headers(b"%d" % len(body)) if headers is None else headers
            headers = protocol.server_state.default_headers + answer.head(status, headers)
            whole = rendered(status, headers, body, closes=not is_kept)
        else:
            if self._count is None:
                self._count = protocol._application.counter(self._path(), "POST", 200).add
            self._count(time.monotonic() - self._began)
            whole = self._plain_answer(body)
        if cycle.disconnected:
            return  # nothing is written any more
        cycle.response_started = cycle.response_complete = True
        protocol.transport.write(whole)
        if not is_kept:
            protocol.transport.close()
        protocol.answered()

    def _plain_answer(self, body: bytes) -> bytes:
        """The answer that says what was done, to one who keeps the connection."""
        defaults = self._protocol.server_state.default_headers
        if defaults is not self._kept_for:
            headers = self._passed.answer(_GAP).completed(json_headers(_GAP))
            pieces = rendered(200, defaults + headers, b"", closes=False).split(_GAP)
            self._kept, self._kept_for = (pieces[0], pieces[1], pieces[2]), defaults
        first, second, third = self._kept
        return b"%b%d%b%b%b%b" % (first, len(body), second, self._request_id or new_request_id(), third, body)


class _ActionExchange(_Exchange):
    """A ``compute_action``, the reply of its job; plain is a body that says one observation and no more."""

    def __init__(self, protocol: FastProtocol, cycle: RequestResponseCycle, passed: Pass) -> None:
        super().__init__(protocol, cycle, passed)
        route = protocol._application.action_route
        assert route is not None  # it is made before the first connection
        self._route = route
        self._key = source_of(passed.scope), "best"
        self._acting: tuple[Acting, bool] | None = None
        """While the request is acted on: who acts, and whether on many observations."""

    def done(self) -> bool:
        """It was answered."""
        return self._acting is None

    def set_result(self, actions: list[JSON]) -> None:
        """Answer with the actions."""
        assert self._acting is not None
        try:
            acting, is_many = self._acting
            body = self._route.body(acting.version, is_many, actions)
        except Exception as error:  # this request's own, and not the batch's
            self.set_exception(error)
        else:
            self._write(200, None, body)

    def _path(self) -> str:
        return action_path(self._scope)

    def _read(self, body: bytes) -> Callable[[], object] | None:
        request, acting = self._route.decoded(self._scope, body)
        if acting is None:
            return None
        return self._submission(acting, acting.served.job(request, self), is_many=request.is_many)

    def _plain(self, now: float, body: bytes) -> Callable[[], object] | None:
        plain = self._route.plain_job(self._key, now, body, self)
        return None if plain is None else self._submission(plain[0], plain[1], is_many=False)

    def _submission(self, acting: Acting, job: Job, *, is_many: bool) -> Callable[[], object]:
        self._acting = acting, is_many
        return partial(acting.served.batcher.submit, job)

    def _refused(self, error: Problem | ServiceError) -> Whole:
        return self._route.refused(self._scope, error)

    def _write(self, status: int, headers: HeaderList | None, body: bytes) -> None:
        self._acting = None  # no connection keeps an agent
        super()._write(status, headers, body)


class _StepExchange(_Exchange):
    """A step of a session; plain is every body that can be read."""

    def _path(self) -> str:
        return STEP_PATH

    def _read(self, body: bytes) -> Callable[[], object] | None:
        route = self._protocol._application.session_route
        step = None if route is None else route.read_step(self._scope, body)
        return None if step is None else partial(self._take, step)

    def _plain(self, now: float, body: bytes) -> Callable[[], object] | None:
        try:
            return self._read(body)
        except Exception:  # as in :meth:`acts`
            return None

    def _take(self, step: Callable[[], StepAnswer]) -> None:
        answer = step()
        if isinstance(answer, Stepped):
            self._write(200, None, answer.body())
        else:
            answer.add_done_callback(self._told)

    def _told(self, answer: "asyncio.Future[Stepped]") -> None:
        if answer.cancelled():
            return
        error = answer.exception()
        if isinstance(error, Exception):
            self.set_exception(error)
        else:
            self._write(200, None, answer.result().body())

    def _refused(self, error: Problem | ServiceError) -> Whole:
        return SessionRoute.refused(self._scope, error)
