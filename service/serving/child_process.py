"""The API's end of a serving child: starts it, asks it, notices when it is gone."""

import asyncio
import logging
import subprocess
from concurrent.futures import ThreadPoolExecutor
from multiprocessing.connection import Connection
from typing import Any

import msgspec

from maze_core import subprocesses
from maze_core.errors import StateError
from maze_core.types import Action
from service.domain.errors import AgentGoneError, DamagedCheckpointError
from service.serving.batching import Call
from service.serving.child import (
    Act,
    Actions,
    Failed,
    Load,
    Reply,
    Request,
    decode_reply,
    encode,
    pack_arrays,
    unpack_arrays,
)

LOAD_TIMEOUT_S = 120.0
"""Importing torch and loading, on a busy machine."""
ACT_TIMEOUT_S = 30.0
"""A forward that takes longer is stuck: its child is killed."""

LOAD_AGAIN_S = 5.0
"""When to ask again for a policy that could not be loaded."""

MODULE = "service.serving.child"

_log = logging.getLogger(__name__)


class ChildProcess:
    """One child and its agent; one call at a time, as the batcher makes them.

    A thread of its own waits for it, so that slow policies never take the threads of database queries.
    """

    def __init__(self, process: "subprocess.Popen[bytes]", connection: "Connection[Any, Any]") -> None:
        self._process = process
        self._connection = connection
        self._thread = ThreadPoolExecutor(1, thread_name_prefix=f"child-{process.pid}")

    @classmethod
    async def start(cls, bundle: bytes, module: str = MODULE) -> "ChildProcess":
        """Start a child, which learns no secret of this process, and let it load the bundle.

        Raises:
            DamagedCheckpointError: the child cannot make the recorded agent of it.
            AgentGoneError: the child could not load it for another reason, died, or did not answer in time.
        """
        environment = subprocesses.plain_environment()
        child = cls(*await asyncio.to_thread(subprocesses.start, module, environment=environment))
        try:
            reply = await child._ask(Load(bundle), LOAD_TIMEOUT_S)
            if isinstance(reply, Failed):
                raise _load_error(reply)
        except BaseException:
            child._process.kill()
            await child.close()
            raise
        return child

    async def act(self, call: Call) -> Action:
        """Actions for one batch.

        Raises:
            StateError: nothing can be carried on from one of the states.
            AgentGoneError: the child is gone.
        """
        actor, observations = call.actor, pack_arrays(call.observations)
        how = call.deterministic, call.seed, call.wanted, call.states
        request = Act(observations, actor.step_key, actor.agent_id, *how)
        reply = await self._ask(request, ACT_TIMEOUT_S)
        if isinstance(reply, Actions):
            if call.states is not None:
                call.states[:] = reply.states
            call.decisions[:] = reply.decisions
            return dict(unpack_arrays(reply.actions))
        if isinstance(reply, Failed) and reply.state_pointer is not None:
            raise StateError(reply.message, reply.state_pointer)
        raise RuntimeError(f"serving child: {reply}")

    @property
    def is_gone(self) -> bool:
        """Whether nothing will answer any more."""
        return self._process.poll() is not None

    async def close(self) -> None:
        """Close the socket, on which the child ends, and wait for it; a child that stays is killed."""
        self._thread.submit(self._connection.close)  # after the call that it may still wait for
        await asyncio.to_thread(subprocesses.end, self._process)
        self._thread.shutdown(wait=False)

    async def _ask(self, request: Request, timeout_s: float) -> Reply:
        try:
            async with asyncio.timeout(timeout_s):
                return await asyncio.get_running_loop().run_in_executor(self._thread, self._exchange, request)
        except (TimeoutError, OSError, EOFError, msgspec.MsgspecError) as error:
            self._process.kill()  # which ends the wait of the thread as well
            await asyncio.to_thread(self._process.wait)
            _log.warning("serving child %s is gone: %r", self._process.pid, error)
            raise AgentGoneError("The process that held this policy is gone; try again.") from error

    def _exchange(self, request: Request) -> Reply:
        self._connection.send_bytes(encode(request))
        reply: Reply = decode_reply(self._connection.recv_bytes())
        return reply


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
