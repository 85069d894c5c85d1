"""What the operating system takes away from a run's child, and how processes end with their parents.

``prctl`` exists on Linux only; elsewhere those locks are left out and end of file on the pipe remains.
"""

import contextlib
import ctypes
import os
import resource
import signal
import sys
from collections.abc import Iterator

from maze_core.subprocesses import plain_environment

PR_SET_PDEATHSIG = 1
PR_SET_DUMPABLE = 4
PR_SET_NO_NEW_PRIVS = 38


def prctl(option: int, value: int) -> bool:
    """Tell the kernel something about this process; False where it is not there or refused."""
    if sys.platform != "linux":
        return False
    function = getattr(ctypes.CDLL(None, use_errno=True), "prctl", None)
    return function is not None and function(option, ctypes.c_ulong(value), 0, 0, 0) == 0


def die_with_parent(signal_number: int = signal.SIGKILL) -> None:
    """Ask the kernel to send this process a signal when the thread that started it ends."""
    prctl(PR_SET_PDEATHSIG, signal_number)


def hide_environment() -> None:
    """Keep other processes of this user from reading this one's environment and memory under /proc.

    A worker's database URL may hold a password, and its children run as the same user.
    """
    prctl(PR_SET_DUMPABLE, 0)


@contextlib.contextmanager
def clean_environment() -> Iterator[None]:
    """Within, ``os.environ`` is what a run's child may see; for one thread, at the start of a process."""
    saved = dict(os.environ)
    kept = plain_environment()
    os.environ.clear()
    os.environ.update(kept)
    try:
        yield
    finally:
        os.environ.clear()
        os.environ.update(saved)


def isolate(directory: str, memory_bytes: int | None) -> None:
    """Put this process into its own session and directory, and give up what a run does not need.

    Args:
        directory: becomes the working directory and the place of temporary files.
        memory_bytes: limit of the address space; None leaves it as it is.
    """
    with contextlib.suppress(PermissionError):  # already the leader of a process group
        os.setsid()
    os.umask(0o077)
    os.chdir(directory)
    os.environ["TMPDIR"] = directory
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    if memory_bytes is not None:
        _, hard = resource.getrlimit(resource.RLIMIT_AS)
        limit = memory_bytes if hard == resource.RLIM_INFINITY else min(memory_bytes, hard)
        resource.setrlimit(resource.RLIMIT_AS, (limit, limit))
    prctl(PR_SET_NO_NEW_PRIVS, 1)
    die_with_parent()


def end_group() -> None:
    """End this process at once, and with it what it started, provided it leads its own process group."""
    if os.getpgrp() == os.getpid():
        os.killpg(0, signal.SIGKILL)
    os._exit(1)


def kill_group(pid: int) -> bool:
    """Kill the process group that ``pid`` leads; False when there is none."""
    try:
        os.killpg(pid, signal.SIGKILL)
    except (ProcessLookupError, PermissionError):
        return False
    return True
