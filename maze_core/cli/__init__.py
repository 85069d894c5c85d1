"""maze-run: a run from the command line; the words are the arguments of RunContext."""

import os
import sys
from collections.abc import Sequence

_THREADS = ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS")
_DISPLAYS = ("DISPLAY", "WAYLAND_DISPLAY")


def main(argv: Sequence[str] | None = None) -> int:
    """Run one command line; returns the exit code.

    The process is ours, so it computes with one thread unless the environment says otherwise: the same words then
    give the same bits on any number of cores, and small networks are faster. That has to be said before NumPy and
    torch are imported, hence the import below. Where there is no display, SDL is told not to look for one, or
    environments that are filmed print about it. Modules are also looked for in the current folder, as ``python -m``
    does.
    """
    if not {"", os.getcwd()} & set(sys.path):
        sys.path.insert(0, os.getcwd())
    for name in _THREADS:
        os.environ.setdefault(name, "1")
    if not any(name in os.environ for name in _DISPLAYS):
        os.environ.setdefault("SDL_VIDEODRIVER", "dummy")
    from maze_core.cli.command import run
    from maze_core.seeding import own_process

    with own_process():
        return run(argv)
