"""Helper processes: started afresh with an inherited socket and one thread, ended by closing it, or by force.

They import neither torch nor the caller's main module, so no script needs an ``if __name__ == "__main__"`` guard; they
look for modules where this process does; and they end with this one, however it ends, since they read a socket that
then is closed.
"""

import os
import resource
import signal
import socket
import subprocess
import sys
from collections.abc import Mapping
from multiprocessing.connection import Connection
from typing import Any

from maze_core.errors import MazeError

CLOSE_TIMEOUT_S = 5.0
ONE_THREAD = {"OMP_NUM_THREADS": "1", "OPENBLAS_NUM_THREADS": "1", "MKL_NUM_THREADS": "1"}

PLAIN_NAMES = frozenset(
    {"PATH", "HOME", "LANG", "LC_ALL", "LC_CTYPE", "TZ", "TMPDIR", "LD_LIBRARY_PATH", "CUDA_VISIBLE_DEVICES"}
)
"""Variables that hold no secrets; those that begin with PYTHON go with them."""

_ANCESTORS = "_MAZE_CORE_HELPERS"
"""Variable that tells a helper process which kinds of helpers it descends from."""


def plain_environment() -> dict[str, str]:
    """Variables for a process that must not know the others, among which are passwords."""
    kept = {name: os.environ[name] for name in os.environ if name in PLAIN_NAMES or name.startswith("PYTHON")}
    return kept | ONE_THREAD


def start(
    module: str, *descriptors: int, environment: Mapping[str, str] | None = None
) -> "tuple[subprocess.Popen[bytes], Any]":
    """Start ``python -m module``; its arguments are the socket and further descriptors. With our end of the socket.

    Args:
        module: what runs.
        descriptors: further ones that it inherits.
        environment: its variables; by default those of this process.

    Raises:
        MazeError: this process descends from a helper of that kind, so it would go on without an end.
    """
    ancestors = os.environ.get(_ANCESTORS, "").split()
    if module in ancestors:
        raise MazeError(
            "A helper process starts no helpers of its own kind. A module that it imports starts a run while it is "
            "imported: put that under `if __name__ == '__main__':`."
        )
    ours, theirs = socket.socketpair()
    with ours, theirs:
        passed = (theirs.fileno(), *descriptors)
        process = subprocess.Popen(
            [sys.executable, "-m", module, *map(str, passed)],
            pass_fds=passed,
            stdin=subprocess.DEVNULL,
            env={
                **(os.environ if environment is None else environment),
                **ONE_THREAD,
                "PYTHONPATH": os.pathsep.join(filter(None, sys.path)),
                _ANCESTORS: " ".join([*ancestors, module]),
            },
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


def usable_cores() -> int:
    """Cores that this process may use."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def peak_memory_bytes() -> int:
    """Peak resident memory of this process."""
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return peak if sys.platform == "darwin" else peak * 1024
