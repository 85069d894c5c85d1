"""``POST /v1/runs/{id}/compute_action`` as a bare ASGI application: the route that is called at every step.

``/v1/policies/{name@alias}/compute_action`` is the same with a policy by its name.

No routing table, no pydantic, no response object; a warm request costs one JSON decode, a check against the
space, its share of a batched forward and one JSON encode. The security layer stands before it as before every
other route. :mod:`service.fast_path` answers the common request with its parts, and without ASGI.
"""

import asyncio
import logging
import re
import time
from collections.abc import Callable
from functools import partial
from typing import Any, NamedTuple, TypeAlias, TypeVar

import msgspec
import numpy as np
from starlette.types import Receive, Scope, Send

from maze_core.config.trust import trust_policy
from maze_core.types import JSON as Value
from service.domain.errors import AgentGoneError, NotFoundError, ServiceError
from service.domain.policies import POLICY_NAME, is_policy
from service.domain.ports import Stores
from service.domain.sharing import Caller, key_of, name_of
from service.domain.sharing import Scope as Right
from service.metrics import ActionMetrics
from service.problems import INTERNAL, Problem, scope_missing
from service.security import media_type_of
from service.serving.agents import Acting, AgentCache, Version
from service.serving.batching import Extras, Job, QueueLimits, Reply
from service.serving.forms import JSON, MSGPACK, OCTETS, laid_out
from service.serving.request import (
    DTYPE_HEADER,
    SHAPE_HEADER,
    ActionRequest,
    ClientDisconnectedError,
    decode_request,
    read_body,
)
from service.serving.served import ServedAgent
from service.serving.traffic import Chosen
from service.settings import Settings

logger = logging.getLogger(__name__)

T = TypeVar("T")
_RUNS, _POLICIES = "/v1/runs/", "/v1/policies/"
_SUFFIX = "/compute_action"
RUN_ACTION_PATH, POLICY_ACTION_PATH = (
    "/v1/runs/{run_id}/compute_action",
    "/v1/policies/{policy}/compute_action",
)
_SOURCE = re.compile(rf"[A-Za-z0-9][A-Za-z0-9_-]{{0,63}}|{POLICY_NAME}(@({POLICY_NAME})?|:\d{{1,9}})")
READ_ON_LOOP_BYTES = 65_536
"""Longer bodies are checked in a thread."""
Whole: TypeAlias = tuple[int, list[tuple[bytes, bytes]], bytes]
"""Status, headers and body of an answer."""

_encode = msgspec.json.Encoder().encode


def json_headers(length: bytes) -> list[tuple[bytes, bytes]]:
    """Headers of an answer in JSON whose body has this length."""
    return [(b"content-type", b"application/json"), (b"content-length", length)]


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
        limits = QueueLimits(settings.action_queue_rows, settings.action_queue_age_s)
        load = partial(ServedAgent.load, trust=trust, limits=limits)
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

    def decoded(self, scope: Scope, body: bytes) -> tuple[ActionRequest, Acting | None]:
        """The request of JSON, and who can act on it at once.

        Raises:
            Problem: as :func:`~service.serving.request.decode_request`, and where the caller may not act.
        """
        _require_act(scope)
        request = decode_request(body)
        return request, self._at_once(source_of(scope), request, len(body))

    def _at_once(self, source: str, request: ActionRequest, n_bytes: int) -> Acting | None:
        """The agent that can act on a request now; None where it has to be loaded or waited for, or tells more."""
        acting = self.agents.warm(source, request.checkpoint)
        if acting is None or acting.served.is_remote or n_bytes > READ_ON_LOOP_BYTES or not request.is_common:
            return None
        return acting

    def body(self, version: Version, is_many: bool, actions: list[Value]) -> bytes:
        """Body of the answer that gives actions and no more; it is counted."""
        self.metrics.outcomes["ok"] += 1
        if is_many:
            return b'{"actions":' + _encode(actions) + version.tail
        return b'{"action":' + _encode(actions[0]) + version.tail

    def plain_job(
        self, key: tuple[str, str], now: float, body: bytes, reply: Reply
    ) -> tuple[Acting, Job] | None:
        """Who acts and the job, where (source, ``best``) was found a moment ago and the body says one observation."""
        acting = self.agents.hot(key, now)
        job = None if acting is None or acting.served.is_remote else acting.served.plain_job(body, reply)
        return None if acting is None or job is None else (acting, job)

    def refused(self, scope: Scope, error: Problem | ServiceError) -> Whole:
        """The answer that says what is wrong; it is counted."""
        problem = error if isinstance(error, Problem) else Problem.of(error)
        self.metrics.count_refusal(problem.status)
        return problem.status, *problem.answer(scope)

    async def _answer(self, scope: Scope, receive: Receive) -> Whole:
        began = time.perf_counter()
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
        headers = dict(scope["headers"])
        given = body, media_type_of(headers).decode("latin-1"), headers, scope.get("query_string", b"")
        is_long = len(body) > READ_ON_LOOP_BYTES
        request = await asyncio.to_thread(decode_request, *given) if is_long else decode_request(*given)
        form = answer_form(headers.get(b"accept", b""))
        asked = _Asked(source_of(scope), request, form, is_long, began, scope, receive)
        acting = self._at_once(asked.source, request, len(body)) if form == JSON.media_type else None
        try:
            if acting is None:
                return await self._acted(await self._chosen(asked), asked)
            future: asyncio.Future[list[Value]] = asyncio.get_running_loop().create_future()
            acting.served.batcher.submit(acting.served.job(request, future))
            whole = self.body(acting.version, request.is_many, await future)
            return 200, json_headers(b"%d" % len(whole)), whole
        except AgentGoneError:  # evicted or died a moment ago: loading it again usually helps
            return await self._acted(await self._chosen(asked), asked)

    async def _chosen(self, asked: "_Asked") -> Chosen:
        if not _SOURCE.fullmatch(name_of(asked.source)):
            raise NotFoundError(
                "There is no such run or policy; this is no id of ours, and no name@alias or name:3."
            )
        request = asked.request
        return await self.agents.choose(asked.source, request.checkpoint, request.traffic_key)

    async def _acted(self, chosen: Chosen, asked: "_Asked") -> Whole:
        """The way with detours: the agent was loaded or acts elsewhere, the body is long, or more is to be told."""
        if asked.form == OCTETS and not asked.request.is_common:
            raise _not_acceptable()
        if asked.request.errors is not None:
            answer: dict[str, Any] = {"results": await self._results(chosen, asked)}
            return self._whole(chosen.version, answer, asked.form)
        future = asyncio.get_running_loop().create_future()
        job = await asked.read(chosen.served.job, asked.request, future)
        if asked.form != JSON.media_type:
            job.extras = job.extras or Extras(decisions=[])
            job.extras.as_arrays = True
        if asked.form == OCTETS and not isinstance(job.reader.action_form, str):
            raise _not_acceptable()
        chosen.submit(job, future)
        if chosen.served.is_remote or (job.extras is not None and job.extras.wanted is not None):
            await _cancel_on_disconnect(future, asked.receive)
        answer = _members(asked, job, await future, is_many=asked.request.is_many)
        return self._whole(chosen.version, answer, asked.form)

    async def _results(self, chosen: Chosen, asked: "_Asked") -> list[dict[str, Any]]:
        """What comes of each observation."""
        new_future = asyncio.get_running_loop().create_future
        jobs = await asked.read(chosen.served.jobs, asked.request, new_future)
        waiting: list[asyncio.Future[list[Value]]] = []
        for index, job in enumerate(jobs):
            if isinstance(job, Job):
                reply: Any = job.reply
                try:
                    chosen.submit(job, reply)
                    waiting.append(reply)
                except ServiceError as error:
                    jobs[index] = Problem.of(error)
        together = asyncio.gather(*waiting, return_exceptions=True)
        await _cancel_on_disconnect(together, asked.receive)
        outcomes = iter(await together)
        results = []
        for index, job in enumerate(jobs):
            outcome: Any = job if isinstance(job, Problem) else next(outcomes)
            if isinstance(job, Problem) or isinstance(outcome, BaseException):
                results.append({"index": index, "problem": _item_problem(outcome, index, asked.scope)})
            else:
                results.append({"index": index, **_members(asked, job, outcome, is_many=False)})
        return results

    def _whole(self, version: Version, answer: dict[str, Any], form: str) -> Whole:
        """The answer in one of the forms; it is counted."""
        self.metrics.outcomes["ok"] += 1
        if form == OCTETS:
            action = np.asarray(answer["action"] if "action" in answer else answer["actions"])
            data, dtype = laid_out(action)
            said = {DTYPE_HEADER: dtype, SHAPE_HEADER: ",".join(map(str, action.shape))}
            said |= {f"X-{name.replace('_', '-').title()}": text for name, text in version.members().items()}
            headers = [(name.lower().encode(), text.encode()) for name, text in said.items()]
            return (
                200,
                [(b"content-type", OCTETS.encode()), (b"content-length", b"%d" % len(data)), *headers],
                data,
            )
        encode = MSGPACK.encode if form == MSGPACK.media_type else JSON.encode
        body = encode(answer | version.members())
        return 200, [(b"content-type", form.encode()), (b"content-length", b"%d" % len(body))], body


class _Asked(NamedTuple):
    """A request and how it is answered."""

    source: str
    request: ActionRequest
    form: str
    """Media type of the answer."""
    is_long: bool
    """The body is checked in a thread."""
    began: float
    scope: Scope
    receive: Receive

    async def read(self, check: Callable[..., T], *given: Any) -> T:
        """What comes of checking the body."""
        return await asyncio.to_thread(check, *given) if self.is_long else check(*given)


def _members(asked: _Asked, job: Job, actions: list[Any], *, is_many: bool) -> dict[str, Any]:
    """The answer to one observation or to many, but for who answered."""
    request, extras, s = asked.request, job.extras, "s" if is_many else ""

    def told(rows: list[Any]) -> Any:
        return rows if is_many else rows[0]

    answer = {f"action{s}": told(actions)}
    if extras is not None and extras.wanted is not None:
        answer[f"decision{s}"] = told(extras.decisions)
    if request.gives_state:
        answer[f"state{s}"] = told(job.states or [None] * len(actions))
    if extras is not None and extras.is_masked:
        answer["mask_applied"] = True
    if extras is not None and request.timing:
        spent = {
            "queue": extras.queue_s,
            "forward": extras.forward_s,
            "total": time.perf_counter() - asked.began,
        }
        answer["timing_us"] = {name: round(1e6 * seconds) for name, seconds in spent.items()}
        answer["batch_size"] = extras.n_rows
    return answer


def _not_acceptable() -> Problem:
    detail = "Only an action that is one array comes as bytes, and nothing beside it: accept msgpack or JSON."
    return Problem("not_acceptable", detail)


def _item_problem(error: BaseException, index: int, scope: Scope) -> dict[str, Any]:
    """What is told of one observation of many."""
    if isinstance(error, ServiceError):
        error = Problem.of(error)
    if not isinstance(error, Problem):
        logger.error("item %d of a request to %r failed", index, scope["path"], exc_info=error)
        error = Problem("internal", INTERNAL)
    request_id = scope.get("state", {}).get("request_id", "")
    problem = error.body(instance=scope["path"], request_id=request_id)
    for mistake in problem["errors"]:
        if mistake["pointer"] == "/state":  # of a job on its own
            mistake["pointer"] = f"/states/{index}"
    return problem


def answer_form(accept: bytes) -> str:
    """The media type of the answer: the first in an Accept header that actions come in, else JSON's."""
    for part in accept.split(b","):
        name = part.partition(b";")[0].strip().lower().decode("latin-1")
        if name in (JSON.media_type, "*/*", "application/*"):
            break
        if name in (MSGPACK.media_type, OCTETS):
            return name
    return JSON.media_type


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


async def _cancel_on_disconnect(future: asyncio.Future[Any], receive: Receive) -> None:
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
