"""``GET /v1/sessions/{id}/ws``: a session over one WebSocket, as JSON or msgpack.

    S→ hello   {session, run, checkpoint, …, policy, next_seq, limits}
    C→ step    {seq, observation, reward, …}      S→ action {action, seq, next_seq, …}
    C→ reset   {seed, repin}                      S→ ready  {next_seq, episode, checkpoint}
    C→ feedback {seq, reward}                     S→ error  {problem, seq}, where something is wrong
    S→ drain   {reconnect_after_ms}               before the service ends

Steps are those of HTTP: a client that lost its connection connects again, and sends the step that was not answered
once more. Frames are answered in the order in which they come; each counts toward the caller's rate, and one that comes
too early is an ``error`` whose problem says ``retry_after_s``. A frame that waits for no other one and for no other
process is answered at once, without a task.
"""

import asyncio
import logging
import time
from collections import deque
from collections.abc import Awaitable, Callable
from enum import IntEnum
from functools import partial
from typing import Annotated, Any, NamedTuple

import msgspec
from starlette.types import Message, Receive, Scope, Send

from service.domain.errors import NotFoundError, ServiceError
from service.domain.ports import Stores
from service.domain.projects import stores_of
from service.domain.sessions import SequenceConflictError, SessionEnd, SessionGoneError
from service.problems import INTERNAL, Problem
from service.security import rate_limited
from service.serving.forms import JSON, MSGPACK
from service.serving.sessions.registry import Sessions
from service.serving.sessions.route import awaited, project_of
from service.serving.sessions.session import (
    READ_ON_LOOP_BYTES,
    Session,
    Stepped,
    StepRequest,
    check_reward,
)
from service.settings import Settings

logger = logging.getLogger(__name__)

JSON_PROTOCOL, MSGPACK_PROTOCOL = "maze.act.v1.json", "maze.act.v1.msgpack"
MAX_IN_FLIGHT = 4
"""Frames of one connection that wait for their answers."""
IDLE_S = 60.0
"""A connection on which the client says nothing for longer is closed; its session is not."""
RECONNECT_MS = 500


class Close(IntEnum):
    """Why a connection is closed."""

    BAD_FRAME = 4400
    NO_SESSION = 4404
    IDLE = 4408
    SEQUENCE = 4409
    GONE = 4410
    TOO_MANY = 4429
    FAILED = 1011
    RESTART = 1012


class StepFrame(StepRequest, tag_field="op", tag="step", forbid_unknown_fields=True, gc=False):
    """As the body of a step over HTTP."""


class PackedStepFrame(StepFrame, tag_field="op", tag="step", gc=False):
    """The same in msgpack."""

    form = MSGPACK


class ResetFrame(msgspec.Struct, tag_field="op", tag="reset", forbid_unknown_fields=True, gc=False):
    """Begin an episode."""

    seed: Annotated[int, msgspec.Meta(ge=0, lt=2**32)] | None = None
    repin: bool = False


class FeedbackFrame(msgspec.Struct, tag_field="op", tag="feedback", forbid_unknown_fields=True, gc=False):
    """Say what came of a step."""

    seq: Annotated[int, msgspec.Meta(ge=0, lt=2**53)]
    reward: float

    def __post_init__(self) -> None:
        """As of a step."""
        check_reward(self.reward)


Frame = StepFrame | ResetFrame | FeedbackFrame


class Wire(NamedTuple):
    """How frames are written."""

    subprotocol: str
    read: Callable[[bytes], Frame]
    encode: Callable[[Any], bytes]
    action: Callable[[Stepped], bytes]
    """The answer to a step."""
    is_text: bool


_FRAMES: Any = Frame
_PACKED_FRAMES: Any = PackedStepFrame | ResetFrame | FeedbackFrame
_WIRES = (
    Wire(
        JSON_PROTOCOL,
        JSON.reader(_FRAMES),
        JSON.encode,
        lambda answer: b'{"op":"action",' + answer.body()[1:],
        is_text=True,
    ),
    Wire(
        MSGPACK_PROTOCOL,
        MSGPACK.reader(_PACKED_FRAMES),
        MSGPACK.encode,
        lambda answer: MSGPACK.encode({"op": "action", **answer.members()}),
        is_text=False,
    ),
)


class SessionSocket:
    """The WebSockets of sessions."""

    def __init__(self, sessions: Sessions, stores: Stores, settings: Settings) -> None:
        """Bind the sessions, and where a new pin is looked for."""
        self._sessions, self._stores = sessions, stores
        self._max_bytes = settings.max_action_body_bytes

    @staticmethod
    def handles(scope: Scope) -> bool:
        """Whether this is a connection to a session."""
        path: str = scope["path"]
        is_ours = path.startswith("/v1/sessions/") and path.endswith("/ws") and path.count("/") == 4
        return scope["type"] == "websocket" and is_ours

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Serve one connection until it is closed.

        Raises:
            Problem: it asks for another form than ours; nothing is accepted then.
        """
        project = project_of(scope)
        wire = _wire_of(scope["subprotocols"])
        await receive()
        connection = _Connection(self._sessions, self._stores, wire, send, scope)
        await connection.accept()
        try:
            session = await self._sessions.get(scope["path"].split("/")[3], project)
        except (Problem, ServiceError) as error:
            await connection.refuse(error, None)
            return
        await connection.serve(session, receive, self._max_bytes)


def _wire_of(subprotocols: list[str]) -> Wire:
    for wanted in subprotocols:
        for wire in _WIRES:
            if wanted == wire.subprotocol:
                return wire
    if subprotocols:
        detail = (
            f"Ask for the sub-protocol {JSON_PROTOCOL} or {MSGPACK_PROTOCOL}, or for none, which is JSON."
        )
        raise Problem("bad_request", detail)
    return _WIRES[0]


class _Connection:
    """One client on its session."""

    def __init__(self, sessions: Sessions, stores: Stores, wire: Wire, send: Send, scope: Scope) -> None:
        self._sessions, self._stores, self._wire, self._send_message = sessions, stores, wire, send
        self._scope = scope
        self._wait_s: Callable[[], float] = scope["state"]["wait_s"]
        """Counts a frame for its sender; the seconds that it comes too early."""
        self._waiting: deque[bytes] = deque()
        self._answering: asyncio.Task[None] | None = None
        self._closing: asyncio.Task[None] | None = None
        self._heard_at = time.monotonic()
        self._idle: asyncio.TimerHandle | None = None
        self._is_closed = False

    async def accept(self) -> None:
        """Take the connection, with the sub-protocol that was asked for."""
        subprotocol = self._wire.subprotocol if self._scope["subprotocols"] else None
        await self._say({"type": "websocket.accept", "subprotocol": subprotocol, "headers": []})

    async def serve(self, session: Session, receive: Receive, max_bytes: int) -> None:
        """Answer frames until the connection is closed."""
        self._session = session
        session.listeners.add(self._told)
        self._watch()
        version = session.version
        facts = {"session": session.id, "policy": version.policy, **version.members()}
        limits = {"max_inflight": MAX_IN_FLIGHT, "idle_s": IDLE_S, "max_bytes": max_bytes}
        hello = {"op": "hello", **facts, "next_seq": session.next_seq, "limits": limits}
        try:
            await self._send(hello)
            while (message := await receive())["type"] == "websocket.receive":
                await self._hear(message)
        finally:
            session.listeners.discard(self._told)
            if self._idle is not None:
                self._idle.cancel()
            if self._answering is not None:
                self._answering.cancel()

    async def refuse(self, error: Exception, seq: int | None) -> None:
        """Say what is wrong; close the connection where nothing can follow."""
        if isinstance(error, Problem | ServiceError):
            problem = error if isinstance(error, Problem) else Problem.of(error)
        else:
            logger.error("a frame to %r failed", self._scope["path"], exc_info=error)
            problem = Problem("internal", INTERNAL)
        request_id = self._scope.get("state", {}).get("request_id", "")
        body = problem.body(instance=self._scope["path"], request_id=request_id)
        await self._send({"op": "error", "seq": seq, "problem": body})
        for kind, code in _CLOSING.items():
            if isinstance(error, kind):
                await self._close(code, problem.code)
        if problem.code == "internal":
            await self._close(Close.FAILED, problem.code)

    async def _hear(self, message: Message) -> None:
        self._heard_at = time.monotonic()
        text = message.get("text")
        data = message.get("bytes") if text is None else text.encode()
        assert data is not None
        if self._answering is None:
            answer = self._begun(data)
            if isinstance(answer, Stepped):
                await self._send_action(answer)
            else:
                self._answering = asyncio.get_running_loop().create_task(self._answer(answer))
        elif len(self._waiting) < MAX_IN_FLIGHT - 1:
            self._waiting.append(data)
        else:
            await self._close(Close.TOO_MANY, f"{MAX_IN_FLIGHT} frames wait already")

    def _begun(self, data: bytes) -> "Stepped | Callable[[], Awaitable[None]]":
        """The answer to a frame, where it is there at once; else what gives it."""
        if len(data) > READ_ON_LOOP_BYTES:
            return partial(self._read_slowly, data)
        try:
            return self._taken(self._wire.read(data))
        except Problem as error:
            return partial(self._bad, error)

    async def _read_slowly(self, data: bytes) -> None:
        try:
            begun = self._taken(await asyncio.to_thread(self._wire.read, data))
        except Problem as error:
            begun = partial(self._bad, error)
        await self._give(begun)

    def _taken(self, frame: Frame) -> "Stepped | Callable[[], Awaitable[None]]":
        if (wait_s := self._wait_s()) > 0:
            return partial(self.refuse, rate_limited(wait_s), getattr(frame, "seq", None))
        if isinstance(frame, ResetFrame):
            return partial(self._reset, frame)
        if isinstance(frame, FeedbackFrame):
            return partial(self._feedback, frame)
        try:
            answer = self._sessions.step(self._session, frame)
        except Exception as error:
            return partial(self.refuse, error, frame.seq)
        return answer if isinstance(answer, Stepped) else partial(self._stepped, answer, frame.seq)

    async def _give(self, begun: "Stepped | Callable[[], Awaitable[None]]") -> None:
        await (self._send_action(begun) if isinstance(begun, Stepped) else begun())

    async def _answer(self, begun: Callable[[], Awaitable[None]]) -> None:
        """Answer a frame that takes time, and then those that have come meanwhile."""
        await begun()
        while self._waiting and not self._is_closed:
            await self._give(self._begun(self._waiting.popleft()))
        self._answering = None

    async def _stepped(self, answer: "asyncio.Future[Stepped]", seq: int) -> None:
        try:
            await self._send_action(await awaited(answer))
        except Exception as error:
            await self.refuse(error, seq)

    async def _reset(self, frame: ResetFrame) -> None:
        session = self._session
        repin_in = stores_of(self._stores, session.project) if frame.repin else None
        try:
            await self._sessions.reset(session, seed=frame.seed, repin_in=repin_in)
        except Exception as error:
            await self.refuse(error, None)
        else:
            facts = {"episode": session.episode, **session.version.members()}
            await self._send({"op": "ready", "next_seq": session.next_seq, **facts})

    async def _feedback(self, frame: FeedbackFrame) -> None:
        try:
            self._sessions.feedback(self._session, frame.seq, frame.reward)
        except Exception as error:
            await self.refuse(error, frame.seq)

    async def _bad(self, problem: Problem) -> None:
        await self.refuse(problem, None)
        await self._close(Close.BAD_FRAME, problem.code)

    async def _send(self, frame: Any) -> None:
        await self._send_bytes(self._wire.encode(frame))

    async def _send_action(self, answer: Stepped) -> None:
        await self._send_bytes(self._wire.action(answer))

    async def _send_bytes(self, data: bytes) -> None:
        if not self._is_closed:
            content = {"text": data.decode()} if self._wire.is_text else {"bytes": data}
            await self._say({"type": "websocket.send", **content})

    async def _close(self, code: Close, reason: str = "") -> None:
        if not self._is_closed:
            self._is_closed = True
            await self._say({"type": "websocket.close", "code": int(code), "reason": reason[:120]})

    async def _say(self, message: Message) -> None:
        try:
            await self._send_message(message)
        except OSError:  # the client is gone, as the next message says
            self._is_closed = True

    def _watch(self) -> None:
        """Close the connection when nothing was said for a while, or look again."""
        if self._answering is not None:  # it is the client who waits
            self._heard_at = time.monotonic()
        left_s = self._heard_at + IDLE_S - time.monotonic()
        if left_s <= 0:
            self._end(Close.IDLE, f"nothing was said for {IDLE_S:g} s")
        else:
            self._idle = asyncio.get_running_loop().call_later(left_s, self._watch)

    def _told(self, reason: SessionEnd | None) -> None:
        """The session ends; without a reason it is the service."""
        if reason is None:
            self._end(Close.RESTART, "the service ends")
        else:
            self._end(Close.GONE, reason.value)

    def _end(self, code: Close, reason: str) -> None:
        if self._closing is None:
            self._closing = asyncio.get_running_loop().create_task(self._ended(code, reason))

    async def _ended(self, code: Close, reason: str) -> None:
        if code is Close.RESTART:
            await self._send({"op": "drain", "reconnect_after_ms": RECONNECT_MS})
        await self._close(code, reason)


_CLOSING: dict[type[Exception], Close] = {
    SequenceConflictError: Close.SEQUENCE,
    SessionGoneError: Close.GONE,
    NotFoundError: Close.NO_SESSION,
}
