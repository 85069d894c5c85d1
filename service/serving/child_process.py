"""The API's end of a serving child: starts it, asks it, notices when it is gone."""

import asyncio
import logging
import os
import socket
import subprocess
import sys
from collections.abc import Sequence

from maze_core.types import Action
from service.domain.errors import AgentGoneError, DamagedCheckpointError
from service.serving.batching import Call
from service.serving.child import (
    HEADER,
    Act,
    Actions,
    Failed,
    Load,
    Reply,
    Request,
    decode_reply,
    framed,
    pack_arrays,
    unpack_arrays,
)

LOAD_TIMEOUT_S = 120.0
"""Importing torch and loading, on a busy machine."""
ACT_TIMEOUT_S = 30.0
"""A forward that takes longer is stuck: its child is killed."""

LOAD_AGAIN_S = 5.0
"""When to ask again for a policy that could not be loaded."""

COMMAND = (sys.executable, "-m", "service.serving.child")
_PASSED_ON = ("HOME", "LANG", "LC_ALL", "LD_LIBRARY_PATH", "PATH", "PYTHONPATH", "TMPDIR", "VIRTUAL_ENV")

_log = logging.getLogger(__name__)


class ChildProcess:
    """One child and its agent; one call at a time, as the batcher makes them."""

    def __init__(
        self, process: subprocess.Popen[bytes], reader: asyncio.StreamReader, writer: asyncio.StreamWriter
    ) -> None:
        self._process = process
        self._reader = reader
        self._writer = writer

    @classmethod
    async def start(cls, bundle: bytes, command: Sequence[str] = COMMAND) -> "ChildProcess":
        """Start a child and let it load the bundle.

        Raises:
            DamagedCheckpointError: the child cannot make the recorded agent of it.
            AgentGoneError: the child could not load it for another reason, died, or did not answer in time.
        """
        ours, theirs = socket.socketpair()
        with theirs:
            process = await asyncio.to_thread(_popen, [*command, str(theirs.fileno())], theirs.fileno())
        reader, writer = await asyncio.open_unix_connection(sock=ours)
        child = cls(process, reader, writer)
        try:
            reply = await child._ask(Load(bundle), LOAD_TIMEOUT_S)
            if isinstance(reply, Failed):
                raise _load_error(reply)
        except BaseException:
            await child.close()
            raise
        return child

    async def act(self, call: Call) -> Action:
        """Actions for one batch; raises :class:`AgentGoneError` when the child is gone."""
        actor = call.actor
        request = Act(
            pack_arrays(call.observations), actor.step_key, actor.agent_id, call.deterministic, call.seed
        )
        reply = await self._ask(request, ACT_TIMEOUT_S)
        if isinstance(reply, Actions):
            return dict(unpack_arrays(reply.actions))
        raise RuntimeError(f"serving child: {reply}")

    @property
    def is_gone(self) -> bool:
        """Whether nothing will answer any more."""
        return self._writer.is_closing() or self._reader.at_eof()

    async def close(self) -> None:
        """Close the socket, on which the child ends, and wait for it; a child that stays is killed."""
        self._writer.close()
        try:
            await asyncio.to_thread(self._process.wait, 2.0)
        except subprocess.TimeoutExpired:
            self._process.kill()
            await asyncio.to_thread(self._process.wait)

    async def _ask(self, request: Request, timeout_s: float) -> Reply:
        try:
            async with asyncio.timeout(timeout_s):
                self._writer.write(framed(request))
                await self._writer.drain()
                header = await self._reader.readexactly(HEADER.size)
                reply: Reply = decode_reply(await self._reader.readexactly(HEADER.unpack(header)[0]))
                return reply
        except (TimeoutError, OSError, asyncio.IncompleteReadError) as error:
            self._writer.close()
            self._process.kill()
            _log.warning("serving child %s is gone: %r", self._process.pid, error)
            raise AgentGoneError("The process that held this policy is gone; try again.") from error


def _load_error(reply: Failed) -> DamagedCheckpointError | AgentGoneError:
    """The checkpoint's own fault, or one of this machine (memory, a missing library) that may pass."""
    return (
        DamagedCheckpointError(reply.message) if reply.is_checkpoint_error else could_not_load(reply.message)
    )


def could_not_load(cause: str) -> AgentGoneError:
    """The answer to a load that failed although the checkpoint is sound; ``cause`` is for the log alone."""
    _log.error("a policy could not be loaded: %s", cause)
    message = "The policy could not be loaded, and not by the checkpoint's fault; the service's log says why."
    return AgentGoneError(message, retry_after_s=LOAD_AGAIN_S)


def _popen(command: Sequence[str], descriptor: int) -> subprocess.Popen[bytes]:
    """Start the child with a clean environment: no database URL, no token, one thread."""
    environment = {name: os.environ[name] for name in _PASSED_ON if name in os.environ}
    environment |= {"OMP_NUM_THREADS": "1", "OPENBLAS_NUM_THREADS": "1", "MKL_NUM_THREADS": "1"}
    return subprocess.Popen(command, pass_fds=[descriptor], stdin=subprocess.DEVNULL, env=environment)
