"""An agent that remembers, from step to step: a session over HTTP, or over one WebSocket.

A step that has to be sent again, because its answer was lost, gets the same answer and moves nothing.
"""

from collections.abc import Mapping
from types import TracebackType
from typing import Any, Self

import msgspec

from maze_client.answers import SessionFacts, StepEnd, read
from maze_client.arguments import at, encoded
from maze_client.caller import Caller
from maze_client.errors import ConnectionFailed, MazeClientError, ProblemError, problem_error
from maze_client.transport import Async, Sync, Verb

PATH, PROTOCOL = "/v1/sessions", "maze.act.v1.json"
GONE, TOO_MANY = 410, 429


class SessionMethods(Caller):
    """A session; :meth:`begin` begins it, as does ``with``, which closes it, too."""

    def __init__(self, caller: Caller, body: Mapping[str, Any], *, websocket: bool) -> None:
        self._transport, self._max_retries = caller._transport, caller._max_retries
        self._body, self._is_socket = body, websocket
        self._socket: Any = None
        self._facts: SessionFacts | None = None
        self._next_seq = 0

    @property
    def facts(self) -> SessionFacts:
        """What the service said when it began, or was reset: its id, and the exact checkpoint that acts.

        Raises:
            MazeClientError: it has not begun.
        """
        if self._facts is None:
            raise MazeClientError("This session has not begun; use it with `with`, or call begin().")
        return self._facts

    @property
    def id(self) -> str:
        """Its id."""
        return self.facts.id

    @Verb
    async def begin(self) -> None:
        """Begin it."""
        self._take(read(await self._send("POST", PATH, self._body), SessionFacts))

    @Verb
    async def step(self, observation: Any, /, **step: Any) -> Any:
        """The action for the next observation, both in the environment's own form; numpy is taken.

        Args:
            observation: as the environment gives it.
            **step: ``reward`` of the action before, and ``actor_id`` where several act.
        """
        return (await self._stepped(observation, step))["action"]

    @Verb
    async def end(
        self, observation: Any, /, *, terminated: bool = False, truncated: bool = False, **step: Any
    ) -> StepEnd:
        """End the episode with its last observation; the next step begins another one.

        Args:
            observation: the last one.
            terminated: it ended by itself.
            truncated: it was cut, as by a time limit.
            **step: as of :meth:`step`.
        """
        ends = {"terminated": terminated, "truncated": truncated}
        return read((await self._stepped(observation, {**step, **ends}))["ended"], StepEnd)

    @Verb
    async def reset(self, /, *, seed: int | None = None, repin: bool = False) -> None:
        """Begin an episode; with ``seed`` the stream of drawn actions anew, with ``repin`` what an alias names now."""
        self._take(
            read(
                await self._send("POST", at(PATH, self.id, "reset"), {"seed": seed, "repin": repin}),
                SessionFacts,
            )
        )

    @Verb
    async def feedback(self, seq: int, reward: float) -> None:
        """Say what came of a step of the open episode that is recorded, late or once more."""
        await self._send("POST", at(PATH, self.id, "feedback"), {"seq": seq, "reward": reward})

    @Verb
    async def close(self) -> None:
        """Close it; a run that records it has its result then."""
        await self._hang_up()
        try:
            await self._send("DELETE", at(PATH, self.id))
        except ProblemError as error:
            if error.status != GONE:
                raise

    def _take(self, facts: SessionFacts) -> None:
        self._facts, self._next_seq = facts, facts.next_seq

    async def _stepped(self, observation: Any, step: Mapping[str, Any]) -> Mapping[str, Any]:
        body = {"seq": self._next_seq, "observation": observation, **step}
        if self._is_socket:
            answer = await self._asked(encoded({"op": "step", **body}))
        else:
            answer = await self._send("POST", at(PATH, self.id, "step"), body)
        self._next_seq = read(answer["next_seq"], int)
        return answer

    async def _asked(self, frame: bytes) -> Mapping[str, Any]:
        """The answer to a frame; sent again on a new connection where one breaks."""
        failure = "it was never tried"
        for tries in range(self._max_retries + 1):
            await self._transport.sleep(min(8.0, 0.5 * 2.0 ** (tries - 1)) if tries else 0.0)
            try:
                if self._socket is None:
                    self._socket = await self._transport.connect(at(PATH, self.id, "ws"), PROTOCOL)
                    await self._transport.hear(self._socket)  # hello
                await self._transport.say(self._socket, frame.decode())
                while (answer := msgspec.json.decode(await self._transport.hear(self._socket)))[
                    "op"
                ] == "drain":
                    pass
            except OSError as error:
                failure = str(error)
                await self._hang_up()
                continue
            if answer["op"] == "error":
                if answer["problem"]["status"] == TOO_MANY and tries < self._max_retries:
                    await self._transport.sleep(answer["problem"].get("retry_after_s", 1.0))
                    continue
                raise problem_error(answer["problem"], tries)
            found: Mapping[str, Any] = answer
            return found
        raise ConnectionFailed(f"The WebSocket of session {self.id} broke: {failure}. Is the service up?")

    async def _hang_up(self) -> None:
        if self._socket is not None:
            socket, self._socket = self._socket, None
            await self._transport.hang_up(socket)


class Session(SessionMethods, Sync):
    """A session of a client that waits."""

    def __enter__(self) -> Self:
        self.begin()
        return self

    def __exit__(self, kind: type | None, error: BaseException | None, trace: TracebackType | None) -> None:
        self.close()


class AsyncSession(SessionMethods, Async):
    """A session of a client that is awaited."""

    async def __aenter__(self) -> Self:
        await self.begin()
        return self

    async def __aexit__(
        self, kind: type | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self.close()
