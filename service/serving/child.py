"""A serving child: one agent that needs torch, in a process of its own; the API process never imports it.

``python -m service.serving.child FD`` speaks typed msgpack frames over the socket FD, each after its length: one
:class:`Load`, then one reply per :class:`Act`, in order, on one thread. Arrays travel as dtype, shape and bytes;
nothing is ever unpickled. It ends when the socket does, so it never outlives the API process.
"""

import contextlib
import os
import socket
import struct
import sys
from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING, Any

import msgspec
import numpy as np

from maze_core.errors import CheckpointError
from maze_core.types import ActorID, Array, StepKey

if TYPE_CHECKING:
    from maze_core.agent import Agent

HEADER = struct.Struct("<I")
"""Length of the frame that follows, in bytes."""


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


class Ready(msgspec.Struct, frozen=True, tag="ready"):
    """Child → parent: loaded, and it acts as recorded."""


class Actions(msgspec.Struct, frozen=True, tag="actions"):
    """Child → parent: the batch's actions."""

    actions: dict[str, ArrayFrame]


class Failed(msgspec.Struct, frozen=True, tag="failed"):
    """Child → parent: this one call failed."""

    is_checkpoint_error: bool
    message: str


Request = Load | Act
Reply = Ready | Actions | Failed

encode = msgspec.msgpack.Encoder().encode
decode_request = msgspec.msgpack.Decoder(Request).decode
decode_reply = msgspec.msgpack.Decoder(Reply).decode


def framed(message: Request | Reply) -> bytes:
    """The message after its length."""
    body = encode(message)
    return HEADER.pack(len(body)) + body


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


def serve(connection: socket.socket, load: Callable[[bytes], "Agent"]) -> None:
    """Load the agent and answer until the other end closes."""
    first = _receive(connection)
    if first is None:
        return
    agent: Agent | None = None
    reply: Reply
    try:
        request = decode_request(first)
        if not isinstance(request, Load):
            raise TypeError("the first frame must be load")
        agent = load(request.bundle)
        reply = Ready()
    except Exception as error:
        is_fault = blames_checkpoint(error)
        reply = Failed(is_fault, str(error) if is_fault else f"{type(error).__name__}: {error}")
    connection.sendall(framed(reply))
    if agent is None:
        return
    rng = np.random.default_rng()
    while (frame := _receive(connection)) is not None:
        connection.sendall(framed(_answer(agent, frame, rng)))


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
        actions = agent.compute_actions(
            unpack_arrays(request.observations),
            actor_id=ActorID(request.step_key, request.agent_id),
            deterministic=request.deterministic,
            rng=rng if request.seed is None else np.random.default_rng(request.seed),
        )
        return Actions(pack_arrays(actions))
    except Exception as error:
        return Failed(False, f"{type(error).__name__}: {error}")


def _receive(connection: socket.socket) -> bytes | None:
    """The next frame, or None when the other end closed."""
    header = _read_exactly(connection, HEADER.size)
    return None if header is None else _read_exactly(connection, HEADER.unpack(header)[0])


def _read_exactly(connection: socket.socket, n_bytes: int) -> bytes | None:
    parts = bytearray()
    while len(parts) < n_bytes:
        part = connection.recv(min(n_bytes - len(parts), 1 << 20))
        if not part:
            return None
        parts += part
    return bytes(parts)


def _load(bundle: bytes) -> "Agent":
    import torch
    from setproctitle import setproctitle

    from maze_core.agent import load_agent

    torch.set_num_threads(1)
    agent = load_agent(bundle, check=True)
    setproctitle(f"maze: agent {(agent.checkpoint_sha256 or '')[:12]}")
    return agent


def main() -> None:
    """Serve over the socket whose number is the first argument."""
    with socket.socket(fileno=int(sys.argv[1])) as connection:
        serve(connection, _load)


if __name__ == "__main__":
    with contextlib.suppress(KeyboardInterrupt, ConnectionError):
        main()
    os._exit(0)  # nothing is left to save, and taking torch apart takes seconds on a busy machine
