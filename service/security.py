"""The one layer around everything: Host, Origin, token, rate, body. Pure ASGI, for all routes and WebSockets.

In the order in which a request meets them:

* **Host** must be a loopback name, the bind address or one of the operator's: a page that rebinds its own DNS
  name to this machine is refused (400). A name can be rebound, an address cannot: a service that listens
  beyond loopback takes address literals too.
* **Origin**, where a browser sends it, must be ours on unsafe methods and WebSockets (403). Origins that the
  operator lists may call and read (CORS); all others may not.
* **Token** as ``Authorization: Bearer`` or ``X-API-Key`` (401), never in a query string; event streams and WebSockets
  take a ticket there instead, which is taken out of it. Who it belongs to is ``scope["state"]["caller"]``, a
  :class:`~service.domain.sharing.Caller`; what he may do, each route says.
* **Rate** per token, or per address without one (429); frames of a WebSocket count as requests do, by the ``wait_s``
  in its scope's state.
* **Body** must be JSON, or bytes where a checkpoint is sent (415), and small (413), by its Content-Length and by
  counting.

A request that passes costs a few microseconds, and no database query: tokens are looked up every few seconds, also
while a request is answered, so that streams and long polls end with their token.
"""

import asyncio
import hmac
import ipaddress
import itertools
import logging
import math
import re
import secrets
import time
from collections import OrderedDict, defaultdict
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import replace
from functools import partial
from typing import NamedTuple, TypeAlias

from starlette.concurrency import run_in_threadpool
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from maze_core.config.trust import RUN_ID
from service import logs
from service.domain.errors import ServiceError
from service.domain.sessions import SESSION_ID
from service.domain.sharing import ANYBODY, NOBODY, PROJECT_NAME, Caller, Grant
from service.domain.sharing import Scope as Right
from service.domain.use_cases import token_digest, token_id_of
from service.problems import INTERNAL, V2_PREFIX, Problem, scope_missing, too_large
from service.settings import Settings, is_loopback
from service.trace import trace_of

logger = logging.getLogger(__name__)

Headers: TypeAlias = Mapping[bytes, bytes]
HeaderList: TypeAlias = list[tuple[bytes, bytes]]
FindToken: TypeAlias = Callable[[str], Grant | None]
TakeTicket: TypeAlias = Callable[[str, str], Caller | None]
Observe: TypeAlias = Callable[[Scope, int, float], None]

SAFE_METHODS = frozenset({"GET", "HEAD", "OPTIONS"})
OPEN_PATHS = frozenset(
    {"/health/live", "/health/ready", "/v2/health/live", "/v2/health/ready", "/openapi.json", "/docs"}
)
"""Read without a token: signs of life for probes, and documentation and page, which hold no data."""
OPEN_PREFIXES = ("/docs/", "/page/")
BYTES_PREFIX, BYTES = "/v1/checkpoints/", b"application/octet-stream"
"""Where bodies may be bytes."""
MSGPACK = b"application/msgpack"
ACTS = re.compile(r"/v1/(runs|policies)/[^/]+/compute_action|/v1/sessions/[^/]+/step")
"""Where bodies hold observations, and may be msgpack or bytes."""
PROBE_PREFIXES = ("/health/", "/v2/health/")
"""Never refused for its rate: a probe that gets a 429 would have a sound service restarted."""

TICKET_PATH = f"/v1/(events|runs/{RUN_ID}/events|sessions/{SESSION_ID}/ws)"
"""The pattern of what a ticket opens."""
_TICKETED = re.compile(TICKET_PATH)
_TICKET = re.compile(rb"(?:^|&)ticket=([^&]*)")

PROJECT_HEADER = b"x-maze-project"
"""By which an admin chooses a project."""
_ONCE = (
    *(b"host", b"origin", b"authorization", b"x-api-key", b"content-length", b"content-type"),
    *(b"idempotency-key", b"last-event-id", PROJECT_HEADER),
)
"""Headers of one value that decide something; what else is sent twice is a list in two lines."""
_UNUSUAL = frozenset({b"origin", b"transfer-encoding", b"expect", b"upgrade"})
"""Headers of requests that never pass at once; without tokens the rate is counted by who a proxy says has called."""
_CORS_METHODS = (b"access-control-allow-methods", b"GET, POST, PUT, PATCH, DELETE")
_CORS_HEADERS = (
    b"access-control-allow-headers",
    b"authorization, content-digest, content-type, idempotency-key, if-match, if-none-match, if-range, last-event-id, "
    b"prefer, range, repr-digest, traceparent, x-api-key, x-array-dtype, x-array-shape, x-maze-project, "
    b"x-request-id",
)
_CORS_EXPOSED = (
    b"access-control-expose-headers",
    b"content-disposition, content-range, etag, location, repr-digest, retry-after, x-request-id, idempotent-replayed, "
    b"preference-applied",
)
_NOSNIFF = (b"x-content-type-options", b"nosniff")
_SAFE_REQUEST_ID = re.compile(rb"[A-Za-z0-9._:-]{1,64}")
_PROCESS, _COUNT = f"req_{secrets.token_hex(5)}_".encode(), itertools.count(1)

TOKEN_TTL_S = 5.0
"""A token is looked up again after this many seconds: how long a revoked one may still work."""
RETRY_S = 1.0
"""Where a token cannot be looked up, it is tried again after this many seconds."""
REMEMBERED = 4096
"""Hosts, tokens and clients that are remembered at most; a stranger's names cannot fill the memory."""

UNAUTHORIZED_CLOSE = 4401
"""Code with which a WebSocket is closed whose token has ended."""
_LAST = frozenset({"http.response.body", "websocket.close"})
"""Messages that end an answer, unless they say that more follows."""

USE_NOTED_S = 3600.0
"""How old the note of a token's use may be."""
_PROJECT = re.compile(PROJECT_NAME)

LOOPBACK_NAMES = frozenset({"localhost", "127.0.0.1", "::1"})


class HostRule:
    """Which values of the Host header are ours.

    Names are compared without port, case and final dot. ``*`` allows all, ``*.example.com`` its subdomains.
    """

    def __init__(self, bind: str, allowed: Sequence[str]) -> None:
        """Take the bind address, which is ours as well, and the operator's further names."""
        self._names = LOOPBACK_NAMES | {_host_name(name) for name in (bind, *allowed)}
        self._suffixes = tuple(name[1:] for name in self._names if name.startswith("*."))
        self._addresses_too = not is_loopback(bind)
        self._known: set[bytes | None] = set()

    def check(self, host: bytes | None) -> None:
        """Pass a Host that is ours; raises :class:`Problem`."""
        if host in self._known:
            return
        name = _host_name((host or b"").decode("latin-1"))
        if not self._is_ours(name):
            detail = "This Host is not served here. Operators list further names in MAZE_ALLOWED_HOSTS."
            raise Problem("host_not_allowed", detail)
        if len(self._known) < REMEMBERED:
            self._known.add(host)

    def _is_ours(self, name: str) -> bool:
        if not name:
            return False
        if name in self._names or "*" in self._names or (self._suffixes and name.endswith(self._suffixes)):
            return True
        return self._addresses_too and _is_address(name)


class OriginRule:
    """Which web pages may call: our own, and those of the operator's origins."""

    def __init__(self, allowed: Sequence[str]) -> None:
        """Take the operator's origins, as ``https://board.example``."""
        self._allowed = frozenset(origin.rstrip("/").lower().encode() for origin in allowed)

    def lists(self, origin: bytes) -> bool:
        """Whether the operator named this origin."""
        return origin.lower() in self._allowed

    @staticmethod
    def is_own(origin: bytes, host: bytes) -> bool:
        """Whether the page came from this service: same name and port as in Host, checked before."""
        scheme, _, authority = origin.lower().partition(b"://")
        return scheme in (b"http", b"https") and authority == host.lower()


class TokenVerifier:
    """Recognises tokens by their digest, compared in constant time; what they grant is remembered for seconds."""

    def __init__(
        self,
        find_token: FindToken,
        ttl_s: float = TOKEN_TTL_S,
        note_use: Callable[[str], object] | None = None,
    ) -> None:
        """Take the look-up, which may block, how long its answers hold, and who writes down that a token was used."""
        self._find_token, self._ttl_s, self._note_use = find_token, ttl_s, note_use
        self._grants: OrderedDict[str, tuple[Grant | None, float]] = OrderedDict()

    async def caller(self, headers: Headers) -> Caller | None:
        """Who the valid token that the request carries belongs to, else None."""
        text, token_id = _token(headers)
        return None if token_id is None else _checked(text, await self._grant(token_id, text))

    async def owner(self, token_id: str) -> Caller | None:
        """Who a valid token belongs to that somebody was recognised by."""
        grant = await self._grant(token_id, None)
        return None if grant is None else grant.caller

    def remembered(self, headers: Headers) -> tuple[Caller | None, float]:
        """As :meth:`caller`, but nobody is asked; and until when, on :func:`time.monotonic`, that holds."""
        text, token_id = _token(headers)
        grant, until = self._grants.get(token_id or "", (None, 0.0))
        if token_id is None or until <= time.monotonic():
            return None, 0.0
        return _checked(text, grant), until

    def holds_s(self, token_id: str) -> float:
        """For how many seconds what is remembered of this token still holds."""
        return max(0.0, self._grants.get(token_id, (None, 0.0))[1] - time.monotonic())

    async def _grant(self, token_id: str, text: str | None) -> Grant | None:
        grant, until = self._grants.get(token_id, (None, 0.0))
        now = time.monotonic()
        if until > now:
            return grant
        grant = await run_in_threadpool(self._find_token, token_id)
        holds_s = self._ttl_s
        if grant is not None and grant.expires_in_s is not None:
            holds_s = min(holds_s, grant.expires_in_s)  # to the moment, also between two looks
        self._grants[token_id] = grant, now + holds_s
        while len(self._grants) > REMEMBERED:
            self._grants.popitem(last=False)
        if grant is not None and (text is None or _checked(text, grant) is not None):
            await self._note(grant, token_id)
        return grant

    async def _note(self, grant: Grant, token_id: str) -> None:
        """Have the use of a token written down, unless it was a while ago."""
        is_known = grant.unused_s is not None and grant.unused_s < USE_NOTED_S
        if not is_known and self._note_use is not None:
            await run_in_threadpool(self._note_use, token_id)


class _Vigil:
    """Ends the answer to a request whose token is revoked meanwhile; used in the task that answers."""

    def __init__(self, verifier: TokenVerifier, token_id: str, answer: "_Sent") -> None:
        self._verifier, self._token_id, self._answer = verifier, token_id, answer
        self._answering = asyncio.current_task()
        self._look: asyncio.Task[None] | None = None
        self.has_ended = False
        loop = asyncio.get_running_loop()
        self._timer = loop.call_later(verifier.holds_s(token_id), self._begin)

    def stop(self) -> None:
        """The answer is given."""
        self._timer.cancel()
        if self._look is not None:
            self._look.cancel()

    def _begin(self) -> None:
        self._look = asyncio.get_running_loop().create_task(self._watch())

    async def _watch(self) -> None:
        while await self._is_known():
            wait_s = self._verifier.holds_s(self._token_id) or RETRY_S
            await asyncio.sleep(wait_s)
        if self._answering is not None and not self._answer.is_over:
            self.has_ended = self._answering.cancel()

    async def _is_known(self) -> bool:
        try:
            return await self._verifier.owner(self._token_id) is not None
        except ServiceError:
            return True  # nobody can tell now


class RateLimiter:
    """One token bucket per client: ``rate_per_s`` requests per second, twice as many at once."""

    def __init__(self, rate_per_s: float, clock: Callable[[], float] | None = None) -> None:
        """Take the steady rate and the clock."""
        self._rate_per_s, self._clock = rate_per_s, clock or time.monotonic
        self._capacity = max(1.0, 2 * rate_per_s)
        self._buckets: OrderedDict[str, tuple[float, float]] = OrderedDict()

    def take(self, client: str) -> float:
        """Count one request of this client; seconds until the next one is allowed, 0 when this one is."""
        now = self._clock()
        level, since = self._buckets.pop(client, (self._capacity, now))
        level = min(self._capacity, level + (now - since) * self._rate_per_s)
        is_allowed = level >= 1
        self._buckets[client] = (level - 1 if is_allowed else level), now
        while len(self._buckets) > REMEMBERED:
            self._buckets.popitem(last=False)
        return 0.0 if is_allowed else (1 - level) / self._rate_per_s


def wants_page(path: str, accept: str) -> bool:
    """Whether a request is a browser's for the page, which asks for the token itself."""
    return path == "/" and "text/html" in accept.lower()


def _host_name(host: str) -> str:
    """Name of a Host header's value: without port, brackets and final dot, in lower case."""
    text = host.strip().lower()
    if text.startswith("["):
        return text[1:].partition("]")[0]
    if text.count(":") == 1:
        text = text.partition(":")[0]
    return text.removesuffix(".")


def _is_address(name: str) -> bool:
    try:
        ipaddress.ip_address(name)
    except ValueError:
        return False
    return True


def _token(headers: Headers) -> tuple[str, str | None]:
    """The token that a request carries, and its id; None where it has no token's form."""
    scheme, _, credentials = headers.get(b"authorization", b"").partition(b" ")
    token = credentials.strip() if scheme.lower() == b"bearer" else headers.get(b"x-api-key", b"").strip()
    text = token.decode("latin-1")
    return text, token_id_of(text) if len(text) <= 256 else None


def _checked(text: str, grant: Grant | None) -> Caller | None:
    is_known = hmac.compare_digest(token_digest(text), "" if grant is None else grant.sha256)
    return grant.caller if grant is not None and is_known else None


def _in_project(caller: Caller, headers: Headers) -> Caller:
    """The caller in the project that the request names, which an admin chooses; raises :class:`Problem`."""
    if (given := headers.get(PROJECT_HEADER)) is None:
        return caller
    project = given.decode("latin-1")
    if not _PROJECT.fullmatch(project):
        raise Problem("bad_request", "X-Maze-Project has to be the name of a project, such as 'default'.")
    if project != caller.project and not caller.may(Right.ADMIN):
        raise scope_missing(Right.ADMIN, "To choose another project than the token's")
    return replace(caller, project=project)


class SecurityLayer:
    """Wraps an ASGI application; see the module for what it checks."""

    def __init__(
        self,
        app: ASGIApp,
        settings: Settings,
        find_token: FindToken,
        observe: Observe | None = None,
        note_use: Callable[[str], object] | None = None,
        take_ticket: TakeTicket = lambda sha256, path: None,
    ) -> None:
        """Wrap ``app``.

        Args:
            app: what a request that passes is handed to.
            settings: hosts, origins, limits and whether tokens are asked for.
            find_token: what a token grants, by its id, None for an unknown or revoked one; may block.
            observe: told scope, status and seconds until the answer's first byte.
            note_use: told the id of a token that is used, once in a while; may block.
            take_ticket: whose ticket this is, by its digest and the path that it is for; it is used up; may block.
        """
        self._app, self._take_ticket = app, take_ticket
        self._hosts = HostRule(settings.host, settings.allowed_hosts)
        self._origins = OriginRule(settings.allowed_origins)
        self._verifier = TokenVerifier(find_token, note_use=note_use) if settings.auth else None
        self._limiter = RateLimiter(settings.rate_limit_per_s) if settings.rate_limit_per_s > 0 else None
        self._usual_bodies = _Bodies((), settings.max_body_bytes)
        self._bodies_of_bytes = _Bodies((BYTES,), settings.max_body_bytes)
        largest = settings.max_action_body_bytes, "MAZE_MAX_ACTION_BODY_BYTES"
        self._bodies_that_act = _Bodies((MSGPACK, BYTES), *largest)
        self._bodies_of_v2 = _Bodies(
            (BYTES, b""), *largest
        )  # its clients say bytes or nothing, whatever they send
        self._observe = observe
        self._unusual = _UNUSUAL if settings.auth else _UNUSUAL | {b"x-forwarded-for"}

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Check, then hand on; whatever escapes from below is answered as a problem."""
        if scope["type"] == "lifespan":
            await self._app(scope, receive, send)
            return
        headers = dict(scope["headers"])
        if is_repeated := len(headers) != len(scope["headers"]):
            headers = _joined(scope["headers"])
        answer = _Sent(scope, send, headers, self._observe)
        logs.request.set(scope)
        try:
            if is_repeated:
                _check_repeated(scope["headers"])
                scope["headers"] = list(headers.items())
            self._hosts.check(headers.get(b"host"))
            if b"origin" in headers and self._origin(scope, headers, answer):
                await answer.whole(204, [_CORS_METHODS, _CORS_HEADERS], b"")
                return
            await self._admit(scope, headers)
            is_http = scope["type"] == "http"
            if is_http and (scope["method"] not in SAFE_METHODS or _has_body(headers)):
                receive = self._bodies(scope["path"]).limited(headers, receive)
            await self._hand_on(scope, receive, answer)
        except Exception as error:  # the outermost handler: no bare traceback may reach the server
            await answer.fail(error)

    async def _hand_on(self, scope: Scope, receive: Receive, answer: "_Sent") -> None:
        """Let the application answer, for as long as the token is one."""
        caller: Caller = scope["state"]["caller"]
        if self._verifier is None or caller.token_id is None:
            await self._app(scope, receive, answer.send)
            return
        vigil = _Vigil(self._verifier, caller.token_id, answer)
        try:
            await self._app(scope, receive, answer.send)
        except asyncio.CancelledError:
            if not vigil.has_ended:
                raise
            await answer.end(_unauthorized())
        finally:
            vigil.stop()

    def passes(self, scope: Scope, max_bytes: int) -> "Pass | None":
        """What an HTTP request gets about whose sender nothing more is to be asked; None is no refusal.

        One that is unusual, wrong or of a token that has to be looked up is one for :meth:`__call__`. What passes
        is not yet counted for its sender (:meth:`Pass.is_in_time`).

        Args:
            scope: of a request with a body.
            max_bytes: the longest body that passes, beside the operator's limit.
        """
        headers = dict(scope["headers"])
        if len(headers) != len(scope["headers"]) or not self._unusual.isdisjoint(headers):
            return None
        try:
            self._hosts.check(headers.get(b"host"))
            self._bodies_that_act.check(headers)
        except Problem:
            return None
        if media_type_of(headers) in (MSGPACK, BYTES):
            return None
        if not 0 < _said_length(headers) <= max_bytes:
            return None
        caller, until = (ANYBODY, math.inf) if self._verifier is None else self._verifier.remembered(headers)
        if caller is None:
            return None
        try:
            scope["state"]["caller"] = _in_project(caller, headers)
        except Problem:
            return None
        take = None if self._limiter is None else partial(self._limiter.take, _client(scope))
        return Pass(scope, headers, self._observe, until, take)

    def _origin(self, scope: Scope, headers: Headers, answer: "Answer") -> bool:
        """Check the page that calls; true when it only asked whether it may (a CORS preflight)."""
        origin, is_http = headers[b"origin"], scope["type"] == "http"
        if self._origins.lists(origin):
            answer.cors = origin
            return bool(is_http and scope["method"] == "OPTIONS")
        is_unsafe = not is_http or scope["method"] not in SAFE_METHODS
        if is_unsafe and not self._origins.is_own(origin, headers.get(b"host", b"")):
            detail = "Web pages of this origin may not call; operators list origins in MAZE_ALLOWED_ORIGINS."
            raise Problem("origin_not_allowed", detail)
        return False

    async def _admit(self, scope: Scope, headers: Headers) -> None:
        """Say who calls, ask for the token where one is needed, and count the request for whoever sent it."""
        path, caller = scope["path"], ANYBODY if self._verifier is None else NOBODY
        ticket = _taken_out(scope)
        is_open = self._verifier is None or path in OPEN_PATHS or path.startswith(OPEN_PREFIXES)
        is_open = is_open or wants_page(path, headers.get(b"accept", b"").decode("latin-1"))
        if self._verifier is not None and not is_open:
            caller = await self._verifier.caller(headers) or await self._of_ticket(ticket, path) or NOBODY
        scope["state"]["caller"] = caller
        if (wait_s := self._wait_s(scope)) > 0:
            raise rate_limited(wait_s)
        if scope["type"] == "websocket":
            scope["state"]["wait_s"] = partial(self._wait_s, scope)
        if not is_open and caller is NOBODY:
            raise _unauthorized() if ticket is None else _ticket_over()
        if caller is not NOBODY:
            scope["state"]["caller"] = _in_project(caller, headers)

    async def _of_ticket(self, ticket: str | None, path: str) -> Caller | None:
        """Who made the ticket, with what his token may do still."""
        if ticket is None or self._verifier is None:
            return None
        maker = await run_in_threadpool(self._take_ticket, token_digest(ticket), path)
        if maker is None or maker.token_id is None:
            return None
        owner = await self._verifier.owner(maker.token_id)
        return owner and replace(owner, project=maker.project)

    def _wait_s(self, scope: Scope) -> float:
        """Count the request for whoever sent it; the seconds that it comes too early, and is not counted."""
        if self._limiter is None or scope["path"].startswith(PROBE_PREFIXES):
            return 0.0
        return self._limiter.take(_client(scope))

    def _bodies(self, path: str) -> "_Bodies":
        if path.startswith(V2_PREFIX):
            return self._bodies_of_v2
        if ACTS.fullmatch(path):
            return self._bodies_that_act
        return self._bodies_of_bytes if path.startswith(BYTES_PREFIX) else self._usual_bodies


class _Bodies(NamedTuple):
    """Which bodies are taken."""

    also: tuple[bytes, ...]
    """Media types, besides JSON."""
    max_bytes: int
    setting: str = "MAZE_MAX_BODY_BYTES"

    def check(self, headers: Headers) -> None:
        """Check type and length that a body is said to have."""
        if _has_body(headers):
            _check_media_type(headers, self.also)
            if _said_length(headers) > self.max_bytes:
                raise too_large(self.max_bytes, self.setting)

    def limited(self, headers: Headers, receive: Receive) -> Receive:
        """``receive`` that refuses a body above the limit; the type and length said are checked at once."""
        self.check(headers)
        left = self.max_bytes

        async def counted() -> Message:
            nonlocal left
            message = await receive()
            if body := message.get("body"):
                left -= len(body)
                if left < 0:
                    raise too_large(self.max_bytes, self.setting)
            return message

        return counted


class Answer:
    """The answer to one request: gets the headers that every answer has, and is told to the metrics."""

    __slots__ = ("_began", "_observe", "_request_id", "_scope", "_trace", "cors")

    def __init__(
        self, scope: Scope, headers: Headers, observe: Observe | None, request_id: bytes | None = None
    ) -> None:
        self._began = time.perf_counter()
        self._scope, self._observe = scope, observe
        self._trace = trace_of(headers) if b"traceparent" in headers else None
        self._request_id = request_id or given_request_id(headers) or new_request_id()
        scope.setdefault("state", {})["request_id"] = self._request_id.decode()
        if self._trace is not None:
            scope["state"]["trace"] = self._trace
        self.cors: bytes | None = None

    def head(self, status: int, headers: Iterable[tuple[bytes, bytes]]) -> HeaderList:
        """All headers of an answer that begins now; it is counted."""
        if self._observe is not None:
            self._observe(self._scope, status, time.perf_counter() - self._began)
        return self.completed(headers)

    def completed(self, headers: Iterable[tuple[bytes, bytes]]) -> HeaderList:
        """All headers of an answer that has these."""
        whole = [*headers, (b"x-request-id", self._request_id), _NOSNIFF]
        if self._trace is not None:
            whole.append((b"traceparent", self._trace.traceparent.encode()))
            if self._trace.tracestate is not None:
                whole.append((b"tracestate", self._trace.tracestate.encode()))
        if self.cors is not None:
            whole += [(b"access-control-allow-origin", self.cors), (b"vary", b"Origin"), _CORS_EXPOSED]
        return whole

    def problem_of(self, error: Exception) -> Problem:
        """What a client is told; of an error that nobody expected nothing but where to look."""
        if isinstance(error, Problem):
            return error
        if isinstance(error, ServiceError):
            return Problem.of(error)
        trace = "" if self._trace is None else f" (traceparent {self._trace.traceparent})"
        where = (self._request_id.decode(), trace, self._scope["path"])
        logger.error("request %s%s to %r failed", *where, exc_info=error)
        return Problem("internal", INTERNAL)


class Pass(NamedTuple):
    """A request that may be handed on at once, as may every one with the same head."""

    scope: Scope
    headers: Headers
    observe: Observe | None
    until: float
    """When its token has to be looked up again, on :func:`time.monotonic`."""
    take: Callable[[], float] | None
    """Counts one request for its sender, as :meth:`RateLimiter.take` does; None where nobody counts."""

    def is_in_time(self) -> bool:
        """Count the request for its sender; false where it comes too early, and it is not counted."""
        return self.take is None or self.take() <= 0

    def answer(self, request_id: bytes | None = None) -> Answer:
        """The answer to this request, or to the next one like it; it has this id where one is given."""
        return Answer(self.scope, self.headers, self.observe, request_id)


class _Sent(Answer):
    """An answer in ASGI's messages."""

    __slots__ = ("_send", "is_over", "is_started")

    def __init__(self, scope: Scope, send: Send, headers: Headers, observe: Observe | None) -> None:
        super().__init__(scope, headers, observe)
        self._send = send
        self.is_started = self.is_over = False

    async def send(self, message: Message) -> None:
        """Hand a message on; the first one gets our headers."""
        if message["type"] == "http.response.start":
            self.is_started = True
            status = message["status"]
            # a copy: the application may send one and the same message many times
            headers = self.head(status, message.get("headers", ()))
            message = {"type": "http.response.start", "status": status, "headers": headers}
        elif message["type"] in _LAST and not message.get("more_body"):
            self.is_over = True
        await self._send(message)

    async def whole(self, status: int, headers: HeaderList, body: bytes) -> None:
        """A complete answer; a WebSocket that was not accepted yet is denied with it."""
        if self._scope["type"] == "http":
            await self.send({"type": "http.response.start", "status": status, "headers": headers})
            await self.send({"type": "http.response.body", "body": body})
        elif "websocket.http.response" in self._scope.get("extensions", {}):
            await self._send({"type": "websocket.http.response.start", "status": status, "headers": headers})
            await self._send({"type": "websocket.http.response.body", "body": body})
        else:
            await self._send({"type": "websocket.close", "code": 1008, "reason": ""})

    async def fail(self, error: Exception) -> None:
        """Answer what escaped; an answer that is under way can only be cut."""
        problem = self.problem_of(error)
        if self.is_over:
            return
        if self.is_started or (problem is not error and self._scope["type"] == "websocket"):
            raise error
        await self.whole(problem.status, *problem.answer(self._scope))

    async def end(self, problem: Problem) -> None:
        """Answer no more than what was sent; with the problem, where nothing was. A WebSocket is closed."""
        task = asyncio.current_task()
        if task is not None:
            task.uncancel()  # whoever cancelled it has had what he wanted
        if self._scope["type"] == "websocket":
            await self.send({"type": "websocket.close", "code": UNAUTHORIZED_CLOSE, "reason": problem.code})
        elif self.is_started:
            await self.send({"type": "http.response.body", "body": b""})
        else:
            await self.fail(problem)


def rate_limited(wait_s: float) -> Problem:
    """The refusal of what comes so many seconds too early."""
    seconds = math.ceil(wait_s)
    detail = f"Too many requests; try again in {seconds} s."
    return Problem(
        "rate_limited", detail, headers={"Retry-After": str(seconds)}, details={"retry_after_s": seconds}
    )


def _unauthorized() -> Problem:
    detail = "Send a valid token as 'Authorization: Bearer TOKEN' or 'X-API-Key: TOKEN'; "
    detail += "`maze token create` makes one."
    return Problem("unauthorized", detail, headers={"WWW-Authenticate": 'Bearer realm="maze"'})


def _ticket_over() -> Problem:
    detail = "This ticket was used, is over, or is for another path; each opens one path, once, within 60 s. "
    return Problem("unauthorized", detail + "Make a new one: POST /v1/tickets.")


def _taken_out(scope: Scope) -> str | None:
    """The ticket in the query of what takes one; it stands there no more, for no log is to have it."""
    query: bytes = scope.get("query_string", b"")
    if b"ticket=" not in query or not _TICKETED.fullmatch(scope["path"]):
        return None
    found = _TICKET.search(query)
    if found is None or scope.get("method", "GET") != "GET":
        return None
    scope["query_string"] = (query[: found.start()] + query[found.end() :]).lstrip(b"&")
    return found[1].decode("latin-1")


def given_request_id(headers: Headers) -> bytes | None:
    """The id that a request brought, where it can be repeated."""
    given = headers.get(b"x-request-id")
    return given if given is not None and _SAFE_REQUEST_ID.fullmatch(given) else None


def new_request_id() -> bytes:
    """An id for a request that brought none."""
    return b"%b%x" % (_PROCESS, next(_COUNT))


def _client(scope: Scope) -> str:
    """Whose requests are counted together: those of a token, else of an address."""
    caller: Caller = scope["state"]["caller"]
    return caller.token_id or str((scope.get("client") or ("unknown",))[0])


def _joined(headers: HeaderList) -> dict[bytes, bytes]:
    """Every header once: lines of one name are the members of one list (RFC 9110 §5.3).

    A joined ``traceparent`` or ``X-Request-ID`` has no valid form, and is left out as any other such one is.
    """
    lines: defaultdict[bytes, list[bytes]] = defaultdict(list)
    for name, value in headers:
        lines[name].append(value)
    return {name: b", ".join(values) for name, values in lines.items()}


def _check_repeated(headers: HeaderList) -> None:
    """Refuse headers that have one value, decide something and are said twice."""
    names = [name for name, _ in headers]
    for name in _ONCE:
        if names.count(name) > 1:
            raise Problem("bad_request", f"The header {name.decode()} may be sent once only.")


def _has_body(headers: Headers) -> bool:
    return headers.get(b"content-length", b"0") != b"0" or b"transfer-encoding" in headers


def _said_length(headers: Headers) -> int:
    length = headers.get(b"content-length", b"0")
    if not length.isdigit():
        raise Problem("bad_request", "Content-Length must be a number of bytes.")
    return int(length) if len(length) < 19 else 2**63


def media_type_of(headers: Headers) -> bytes:
    """What Content-Type says, in lower case and without parameters."""
    return headers.get(b"content-type", b"").partition(b";")[0].strip().lower()


def _check_media_type(headers: Headers, also: Sequence[bytes]) -> None:
    media_type = media_type_of(headers)
    is_json = media_type.startswith(b"application/") and media_type.endswith((b"/json", b"+json"))
    if not (is_json or media_type in also) or b"content-encoding" in headers:
        other = f" (or {' or '.join(name.decode() for name in also if name)})" if also else ""
        detail = f"Bodies are plain JSON, with Content-Type: application/json{other} and no Content-Encoding."
        raise Problem("unsupported_media_type", detail, headers={"Accept": "application/json"})
