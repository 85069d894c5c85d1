"""A serving child: one agent that needs torch, in a process of its own; the API process never imports it.

``python -m service.serving.child FD`` speaks :mod:`service.serving.frames` over the socket FD: one
:class:`Load`, then one reply per :class:`Act`, in order, on one thread. It ends when the socket does, so it
never outlives the API process.
"""

import socket
import sys
from collections.abc import Callable
from typing import TYPE_CHECKING

import numpy as np

from maze_core.errors import MazeError
from maze_core.types import ActorID
from service.serving.frames import (
    HEADER,
    Act,
    Actions,
    Failed,
    Load,
    Ready,
    Reply,
    decode_request,
    framed,
    pack_arrays,
    unpack_arrays,
)

if TYPE_CHECKING:
    from maze_core.agent import Agent


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
    except MazeError as error:
        reply = Failed(True, str(error))
    except Exception as error:
        reply = Failed(False, f"{type(error).__name__}: {error}")
    connection.sendall(framed(reply))
    if agent is None:
        return
    rng = np.random.default_rng()
    while (frame := _receive(connection)) is not None:
        connection.sendall(framed(_answer(agent, frame, rng)))


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
    try:
        main()
    except (KeyboardInterrupt, ConnectionError):
        sys.exit(0)
