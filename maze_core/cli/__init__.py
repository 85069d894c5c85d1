"""maze-run: a run from the command line; the words are the arguments of RunContext."""

import os
import sys
from collections.abc import Sequence
from pathlib import Path

_THREADS = ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS")
_HELP = (["-h"], ["--help"])
GENERAL_HELP = Path(__file__).with_name("help.txt")
"""What ``--help`` alone shows: as a file, because composing it takes half a second."""
_DISPLAYS = ("DISPLAY", "WAYLAND_DISPLAY")


def main(argv: Sequence[str] | None = None) -> int:
    """Run one command line; returns the exit code.

    The process is ours, so it computes with one thread unless the environment says otherwise: the same words then
    give the same bits on any number of cores, and small networks are faster. That has to be said before NumPy and
    torch are imported, hence the import below. Where there is no display, SDL is told not to look for one, or
    environments that are filmed print about it. Modules are also looked for in the current folder, as ``python -m``
    does.
    """
    if not os.environ.get("MAZE_CONFIG_DIRS") and list(sys.argv[1:] if argv is None else argv) in _HELP:
        try:
            print(GENERAL_HELP.read_text(encoding="utf-8"), end="", flush=True)
        except BrokenPipeError:
            had_enough()
        return 0
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


def had_enough() -> None:
    """The reader of our output ended, as ``| head`` does: nobody is told of it, nor when Python flushes at its end."""
    os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
