"""A serving child: one agent that needs torch, in a process of its own; the API process never imports it.

``python -m service.serving.child FD`` speaks typed msgpack frames over the socket FD: one :class:`Load`, then one
reply per :class:`Act`, in order, on one thread. Arrays travel as dtype, shape and bytes; nothing is ever unpickled.
It ends when the socket does, so it never outlives the API process.
"""

import contextlib
import os
import sys
from collections.abc import Callable, Mapping
from multiprocessing.connection import Connection
from typing import TYPE_CHECKING, Any

import msgspec
import numpy as np

from maze_core import subprocesses
from maze_core.errors import CheckpointError, StateError
from maze_core.models.decisions import Wanted
from maze_core.types import Array, StepKey

if TYPE_CHECKING:
    from maze_core.agent import Agent


class ArrayFrame(msgspec.Struct, frozen=True, array_like=True):
    """An array."""

    dtype: str
    shape: tuple[int, ...]
    data: bytes


class Load(msgspec.Struct, frozen=True, tag="load"):
    """Parent → child, the first frame: become this checkpoint's agent."""

    bundle: bytes


class Act(msgspec.Struct, frozen=True, tag="act"):
    """Parent → child: actions for a batch of checked raw observations."""

    observations: dict[str, ArrayFrame]
    step_key: StepKey
    agent_id: int
    deterministic: bool
    seed: int | None
    wanted: Wanted | None = None
    """What is to be told of each decision."""
    states: list[str | None] | None = None
    """What each row carries through its episode."""


class Ready(msgspec.Struct, frozen=True, tag="ready"):
    """Child → parent: loaded, and it acts as recorded."""


class Actions(msgspec.Struct, frozen=True, tag="actions"):
    """Child → parent: the batch's actions."""

    actions: dict[str, ArrayFrame]
    decisions: list[dict[str, Any]] = []
    """One for each row, where they were asked for."""
    states: list[str | None] = []
    """What each row carries then."""


class Failed(msgspec.Struct, frozen=True, tag="failed"):
    """Child → parent: this one call failed."""

    is_checkpoint_error: bool
    message: str
    state_pointer: str | None = None
    """Where, among the states of the call, is one that cannot go on."""


Request = Load | Act
Reply = Ready | Actions | Failed

encode = msgspec.msgpack.Encoder().encode
decode_request = msgspec.msgpack.Decoder(Request).decode
decode_reply = msgspec.msgpack.Decoder(Reply).decode


def pack_arrays(arrays: Mapping[str, Any]) -> dict[str, ArrayFrame]:
    """Named arrays (or numbers) for a frame."""
    packed = {}
    for name, value in arrays.items():
        array = np.ascontiguousarray(value)
        packed[name] = ArrayFrame(array.dtype.str, array.shape, array.tobytes())
    return packed


def unpack_arrays(packed: Mapping[str, ArrayFrame]) -> dict[str, Array]:
    """Named arrays of a frame; read-only views of its bytes."""
    return {
        name: np.frombuffer(frame.data, np.dtype(frame.dtype)).reshape(frame.shape)
        for name, frame in packed.items()
    }


def serve(connection: "Connection[Any, Any]", load: Callable[[bytes], "Agent"]) -> None:
    """Load the agent and answer until the other end closes."""
    with contextlib.suppress(EOFError, ConnectionError):
        agent: Agent | None = None
        reply: Reply = Ready()
        try:
            request = decode_request(connection.recv_bytes())
            if not isinstance(request, Load):
                raise TypeError("the first frame must be load")
            agent = load(request.bundle)
        except (EOFError, ConnectionError):
            raise
        except Exception as error:
            is_fault = blames_checkpoint(error)
            reply = Failed(is_fault, str(error) if is_fault else f"{type(error).__name__}: {error}")
        connection.send_bytes(encode(reply))
        rng = np.random.default_rng()
        while agent is not None:
            connection.send_bytes(encode(_answer(agent, connection.recv_bytes(), rng)))


def blames_checkpoint(error: BaseException) -> bool:
    """Whether what a load raised is the checkpoint's own fault.

    Where memory, a file or a library was missing it is this machine's, in whatever words that was told on the way.
    """
    cause: BaseException | None = error
    while cause is not None:
        if isinstance(cause, MemoryError | OSError | ImportError) or "allocate memory" in str(cause):
            return False
        cause = cause.__cause__ or cause.__context__
    return isinstance(error, CheckpointError)


def _answer(agent: "Agent", frame: bytes, rng: np.random.Generator) -> Reply:
    try:
        request = decode_request(frame)
        if not isinstance(request, Act):
            raise TypeError("the agent is loaded already")
        observations, actor = unpack_arrays(request.observations), (request.step_key, request.agent_id)
        if request.seed is not None:
            rng = np.random.default_rng(request.seed)
        if request.wanted is not None:
            given = agent.actor(actor), observations, request.states, request.deterministic, rng
            told = agent.explain_as(*given, wanted=request.wanted)
            return Actions(pack_arrays(told[0]), told[1], told[2])
        actions, states = agent.advance(
            agent.actor(actor), observations, request.states, request.deterministic, rng
        )
        return Actions(pack_arrays(actions), [], states)
    except StateError as error:
        return Failed(False, str(error), error.pointer)
    except Exception as error:
        return Failed(False, f"{type(error).__name__}: {error}")


def _load(bundle: bytes) -> "Agent":
    import torch
    from setproctitle import setproctitle

    from maze_core.agent import load_agent

    torch.set_num_threads(1)
    agent = load_agent(bundle, check=True)
    setproctitle(f"maze: agent {(agent.checkpoint_sha256 or '')[:12]}")
    return agent


if __name__ == "__main__":
    subprocesses.leave_signals_to_the_other_side()
    serve(Connection(int(sys.argv[1])), _load)
    os._exit(0)  # nothing is left to save, and taking torch apart takes seconds on a busy machine
