"""Helper processes: started afresh with an inherited socket and one thread, ended by closing it, or by force.

They import neither torch nor the caller's main module, so no script needs an ``if __name__ == "__main__"`` guard; they
look for modules where this process does; and they end with this one, however it ends, since they read a socket that
then is closed.
"""

import contextlib
import os
import pickle
import signal
import socket
import subprocess
import sys
from collections.abc import Mapping
from multiprocessing.connection import Connection
from typing import Any

CLOSE_TIMEOUT_S = 5.0
ONE_THREAD = {"OMP_NUM_THREADS": "1", "OPENBLAS_NUM_THREADS": "1", "MKL_NUM_THREADS": "1"}


def start(module: str, *descriptors: int) -> "tuple[subprocess.Popen[bytes], Any]":
    """Start ``python -m module``; its arguments are the socket and further descriptors. With our end of the socket."""
    ours, theirs = socket.socketpair()
    with ours, theirs:
        passed = (theirs.fileno(), *descriptors)
        process = subprocess.Popen(
            [sys.executable, "-m", module, *map(str, passed)],
            pass_fds=passed,
            stdin=subprocess.DEVNULL,
            env={**os.environ, **ONE_THREAD, "PYTHONPATH": os.pathsep.join(filter(None, sys.path))},
        )
        return process, Connection(ours.detach())


def end(process: "subprocess.Popen[bytes]") -> int:
    """Wait for a process whose socket was closed, and kill it where it does not end; its exit code."""
    try:
        return process.wait(CLOSE_TIMEOUT_S)
    except subprocess.TimeoutExpired:
        process.kill()
        return process.wait()


def leave_signals_to_the_other_side() -> None:
    """In a helper process: Ctrl-C, and SIGTERM, which Slurm sends to all, are for the other side, which will close."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    # a handler, since a program started here would inherit SIG_IGN
    signal.signal(signal.SIGTERM, lambda number, frame: None)


def surroundings() -> dict[str, Any]:
    """What a helper process takes over with :func:`settle`: where modules are, and what was registered."""
    import gymnasium

    specs = []
    for spec in gymnasium.registry.values():
        if not str(spec.entry_point).startswith("gymnasium."):
            with contextlib.suppress(
                pickle.PicklingError, AttributeError, TypeError
            ):  # made by a function: nobody has it
                specs.append(pickle.dumps(spec))
    return {"sys_path": sys.path, "specs": specs}


def settle(given: Mapping[str, Any]) -> None:
    """In a helper process: look for modules where the other side does, and know the environments that it knows."""
    import gymnasium

    sys.path[:] = given["sys_path"]
    for data in given["specs"]:
        with contextlib.suppress(
            Exception
        ):  # of the other side's main module, or one that cannot be imported here
            spec = pickle.loads(data)
            gymnasium.registry.setdefault(spec.id, spec)


def usable_cores() -> int:
    """Cores that this process may use."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
