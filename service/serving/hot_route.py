"""``POST /v1/runs/{id}/compute_action`` as a bare ASGI application: the route that is called at every step.

``/v1/policies/{name@alias}/compute_action`` is the same with a policy by its name.

No routing table, no pydantic, no response object; a warm request costs one JSON decode, a check against the
space, its share of a batched forward and one JSON encode. The security layer stands before it as before every
other route. :mod:`service.fast_path` answers the common request with its parts, and without ASGI.
"""

import asyncio
import re
from functools import partial
from typing import TypeAlias

import msgspec
from starlette.types import Receive, Scope, Send

from maze_core.config.trust import trust_policy
from maze_core.types import JSON
from service.domain.errors import AgentGoneError, NotFoundError, ServiceError
from service.domain.policies import POLICY_NAME, is_policy
from service.domain.ports import Stores
from service.domain.sharing import Caller, key_of, name_of
from service.domain.sharing import Scope as Right
from service.metrics import ActionMetrics
from service.problems import Problem, scope_missing
from service.security import media_type_of
from service.serving.agents import AgentCache
from service.serving.batching import Job, Reply
from service.serving.request import ActionRequest, ClientDisconnectedError, decode_request, read_body
from service.serving.served import ServedAgent
from service.serving.traffic import Chosen
from service.settings import Settings

_RUNS, _POLICIES = "/v1/runs/", "/v1/policies/"
_SUFFIX = "/compute_action"
RUN_ACTION_PATH, POLICY_ACTION_PATH = (
    "/v1/runs/{run_id}/compute_action",
    "/v1/policies/{policy}/compute_action",
)
_SOURCE = re.compile(rf"[A-Za-z0-9][A-Za-z0-9_-]{{0,63}}|{POLICY_NAME}(@({POLICY_NAME})?|:\d{{1,9}})")
READ_ON_LOOP_BYTES = 65_536
"""Longer bodies are checked in a thread."""
_JSON = (b"content-type", b"application/json")

Whole: TypeAlias = tuple[int, list[tuple[bytes, bytes]], bytes]
"""Status, headers and body of an answer."""

_encode = msgspec.json.Encoder().encode


class ActionRoute:
    """The hot route; ``metrics`` is what it counts."""

    def __init__(self, stores: Stores, settings: Settings, agents: AgentCache | None = None) -> None:
        """Bind stores and settings.

        Args:
            stores: where runs and checkpoints are.
            settings: how many agents are kept and how long a body may be.
            agents: the loaded agents, where the caller has made them.
        """
        trust = partial(trust_policy, settings.extra_targets, settings.config_dirs)
        load = partial(ServedAgent.load, trust=trust)
        self.agents = agents or AgentCache(stores, settings.agents_cached, ActionMetrics(), load)
        self.metrics = self.agents.metrics
        self._max_body_bytes = settings.max_action_body_bytes

    @staticmethod
    def handles(scope: Scope) -> bool:
        """Whether this route answers the request, whatever its method."""
        if scope["type"] != "http":
            return False
        path: str = scope["path"]
        if not path.endswith(_SUFFIX):
            return False
        start = _prefix(path)
        return 0 < start <= len(path) - len(_SUFFIX) and "/" not in path[start : -len(_SUFFIX)]

    async def close(self) -> None:
        """Let go of every agent and serving child; the application's lifespan calls it."""
        await self.agents.close()

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer one request; errors of the service and of the request become problems, others are raised."""
        try:
            status, headers, body = await self._answer(scope, receive)
        except ClientDisconnectedError:
            return
        except (Problem, ServiceError) as error:
            status, headers, body = self.refused(scope, error)
        await send({"type": "http.response.start", "status": status, "headers": headers})
        await send({"type": "http.response.body", "body": body})

    def decoded(self, scope: Scope, body: bytes) -> tuple[ActionRequest, ServedAgent | None]:
        """The request of JSON, and who can act on it at once.

        Raises:
            Problem: as :func:`~service.serving.request.decode_request`, and where the caller may not act.
        """
        _require_act(scope)
        request = decode_request(body)
        return request, self._at_once(source_of(scope), request, len(body))

    def _at_once(self, source: str, request: ActionRequest, n_bytes: int) -> ServedAgent | None:
        """The agent that can act on a request now; None where it has to be loaded or waited for."""
        served = self.agents.warm(source, request.checkpoint)
        is_plain = n_bytes <= READ_ON_LOOP_BYTES and not (request.explain or request.gives_state)
        return served if served is not None and not served.is_remote and is_plain else None

    def acted(
        self,
        served: ServedAgent,
        request: ActionRequest,
        actions: list[JSON],
        states: list[str | None] | None,
    ) -> Whole:
        """The answer that gives the actions, and what is carried where that was given; it is counted."""
        body = self.body(served, request.is_many, actions, _states(request, states, len(actions)))
        return 200, self.headers(b"%d" % len(body)), body

    def body(self, served: ServedAgent, is_many: bool, actions: list[JSON], more: bytes = b"") -> bytes:
        """Body of the answer that gives the actions, and more members; it is counted."""
        if is_many:
            body = b'{"actions":' + _encode(actions) + more + served.answer_tail
        else:
            body = b'{"action":' + _encode(actions[0]) + more + served.answer_tail
        self.metrics.outcomes["ok"] += 1
        return body

    @staticmethod
    def headers(length: bytes) -> list[tuple[bytes, bytes]]:
        """Headers of the answer whose body has this length."""
        return [_JSON, (b"content-length", length)]

    def plain_job(
        self, key: tuple[str, str], now: float, body: bytes, reply: Reply
    ) -> tuple[ServedAgent, Job] | None:
        """Who acts and the job, where (source, ``best``) was found a moment ago and the body says one observation."""
        served = self.agents.hot(key, now)
        job = None if served is None or served.is_remote else served.plain_job(body, reply)
        return None if served is None or job is None else (served, job)

    def refused(self, scope: Scope, error: Problem | ServiceError) -> Whole:
        """The answer that says what is wrong; it is counted."""
        problem = error if isinstance(error, Problem) else Problem.of(error)
        self.metrics.count_refusal(problem.status)
        return problem.status, *problem.answer(scope)

    async def _answer(self, scope: Scope, receive: Receive) -> Whole:
        if scope["method"] != "POST":
            detail = f"{scope['method']} does not act; send POST with an observation."
            raise Problem("method_not_allowed", detail, headers={"Allow": "POST"})
        _require_act(scope)
        message = await receive()
        body = message.get("body", b"")
        if (
            message.get("more_body", False)
            or message["type"] != "http.request"
            or len(body) > self._max_body_bytes
        ):
            body = await read_body(message, receive, self._max_body_bytes)
        request, source = await _decoded(scope, body), source_of(scope)
        served = self._at_once(source, request, len(body))
        if request.explain:
            return await self._explained(source, request, len(body))
        future: asyncio.Future[list[JSON]] = asyncio.get_running_loop().create_future()
        try:
            if served is None:
                served, job, actions = await self._act_off_loop(source, request, receive, len(body))
            else:
                job = served.job(request, future)
                served.batcher.submit(job)
                actions = await future
        except AgentGoneError:  # evicted or died a moment ago: loading it again usually helps
            served, job, actions = await self._act_off_loop(source, request, receive, len(body))
        return self.acted(served, request, actions, job.states)

    async def _explained(self, source: str, request: ActionRequest, n_bytes: int) -> Whole:
        """The answer with what the policy thought."""
        served = (await self._chosen(source, request)).served
        job = await self._job(served, request, n_bytes, asyncio.get_running_loop().create_future())
        actions, decisions = await served.explain(job)
        told = b',"decisions":' + _encode(decisions)
        if not request.is_many:
            told = b',"decision":' + _encode(decisions[0])
        body = self.body(served, request.is_many, actions, told + _states(request, job.states, len(actions)))
        return 200, self.headers(b"%d" % len(body)), body

    async def _chosen(self, source: str, request: ActionRequest) -> Chosen:
        if not _SOURCE.fullmatch(name_of(source)):
            raise NotFoundError(
                "There is no such run or policy; this is no id of ours, and no name@alias or name:3."
            )
        return await self.agents.choose(source, request.checkpoint, request.traffic_key)

    @staticmethod
    async def _job(served: ServedAgent, request: ActionRequest, n_bytes: int, reply: Reply) -> Job:
        is_long = n_bytes > READ_ON_LOOP_BYTES
        return await asyncio.to_thread(served.job, request, reply) if is_long else served.job(request, reply)

    async def _act_off_loop(
        self, source: str, request: ActionRequest, receive: Receive, n_bytes: int
    ) -> tuple[ServedAgent, Job, list[JSON]]:
        """The way with detours: the agent has to be loaded or acts elsewhere, or the observation is long."""
        chosen = await self._chosen(source, request)
        served = chosen.served
        future: asyncio.Future[list[JSON]] = asyncio.get_running_loop().create_future()
        job = await self._job(served, request, n_bytes, future)
        chosen.submit(job, future)
        if served.is_remote:
            await _cancel_on_disconnect(future, receive)
        return served, job, await future


async def _decoded(scope: Scope, body: bytes) -> ActionRequest:
    headers = dict(scope["headers"])
    given = body, media_type_of(headers).decode("latin-1"), headers, scope.get("query_string", b"")
    is_long = len(body) > READ_ON_LOOP_BYTES
    return await asyncio.to_thread(decode_request, *given) if is_long else decode_request(*given)


def _states(request: ActionRequest, states: list[str | None] | None, n_rows: int) -> bytes:
    """The member of an answer that has what is carried, where that was given."""
    if not request.gives_state:
        return b""
    states = states or [None] * n_rows
    return b',"states":' + _encode(states) if request.is_many else b',"state":' + _encode(states[0])


def _require_act(scope: Scope) -> None:
    """Pass a caller who may act; raises :class:`Problem`."""
    caller: Caller = scope["state"]["caller"]
    if not caller.may(Right.ACT):
        raise scope_missing(Right.ACT)


def source_of(scope: Scope) -> str:
    """The run, or the policy by its name, that a request to this route names; a name alone ends in ``@``.

    A policy under ``/v1/runs`` is nothing. In another project than the default one it stands behind the project, so
    that what is remembered of it is remembered for this project alone.
    """
    path: str = scope["path"]
    start = _prefix(path)
    source = path[start : -len(_SUFFIX)]
    if start == len(_RUNS):
        source = "" if is_policy(source) else source
    elif not is_policy(source):
        source = f"{source}@"
    caller: Caller = scope["state"]["caller"]
    return key_of(caller.project, source)


def action_path(scope: Scope) -> str:
    """The route of a request, without what it names."""
    return RUN_ACTION_PATH if scope["path"].startswith(_RUNS) else POLICY_ACTION_PATH


def _prefix(path: str) -> int:
    """Where the name begins in a path; 0 in no path of this route."""
    if path.startswith(_RUNS):
        return len(_RUNS)
    return len(_POLICIES) if path.startswith(_POLICIES) else 0


async def _cancel_on_disconnect(future: asyncio.Future[list[JSON]], receive: Receive) -> None:
    """Wait for the actions; a client that goes away meanwhile takes its job out of the queue.

    Raises:
        ClientDisconnectedError: it went away.
    """
    gone = asyncio.ensure_future(receive())
    try:
        await asyncio.wait((future, gone), return_when=asyncio.FIRST_COMPLETED)
        if not future.done():
            raise ClientDisconnectedError
    finally:
        gone.cancel()
        if not future.done():
            future.cancel()
