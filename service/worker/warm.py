"""What the forkserver imports once, so that a run's child starts in milliseconds. Nothing else imports it.

The forkserver is a process without threads: it imports and forks, and trains nothing. It lives in a session
of its own, for a signal to the worker's group is the worker's to handle. It ends a moment after its worker,
and the kernel ends with it the children that were too busy to see their pipe end.
"""

import contextlib
import importlib
import os
import pkgutil
import shutil
import signal
import time
from types import FrameType

import setproctitle

LOOK_S = 1.0
"""Time between two looks whether the worker is still there. (A signal of the kernel, as children get it, may
come while another thread of a killed worker still stands in as the parent.)"""
CLEANUP_S = 2.0
"""Time that children have to remove their directories when the worker was killed."""

WORKER = os.getppid()
WORKERS_DIRECTORY = os.environ["TMPDIR"]
"""Where its children have theirs, as the launcher says."""


def _look(_number: int, _frame: FrameType | None) -> None:
    if os.getppid() != WORKER:
        signal.setitimer(signal.ITIMER_REAL, 0.0)  # or this would interrupt the sleep, over and over
        time.sleep(CLEANUP_S)
        shutil.rmtree(WORKERS_DIRECTORY, ignore_errors=True)
        os._exit(0)


with contextlib.suppress(PermissionError):
    os.setsid()
signal.signal(signal.SIGTERM, signal.SIG_IGN)
signal.signal(signal.SIGALRM, _look)
signal.setitimer(signal.ITIMER_REAL, LOOK_S, LOOK_S)
setproctitle.setproctitle("maze: forkserver")

import encodings.cp437  # noqa: E402, F401  zipfile reads names with it

import gymnasium.envs.classic_control  # noqa: E402, F401
import numpy.ma  # noqa: E402, F401

import service.worker.child  # noqa: E402
import service.worker.films  # noqa: E402
import service.worker.jobs  # noqa: E402, F401
from maze_core.config.trust import trust_policy  # noqa: E402
from maze_core.runners.training import versions  # noqa: E402

PACKAGES = ("data", "envs", "evaluation", "models", "objectives", "rollout", "runners", "trainers")
"""Parts of the library that runs are made of; each imports most of itself only when it is used."""
NEED_TORCH = frozenset(f"maze_core.models.{name}" for name in ("blocks", "block_network", "module_network"))
"""For networks that are torch modules: a run that has one imports them, and torch, most of a process's memory."""


def _import_all(package: str) -> None:
    """Import a package and all within it, but for what needs torch."""
    for module in pkgutil.iter_modules(importlib.import_module(package).__path__, f"{package}."):
        if module.name in NEED_TORCH:
            continue
        if module.ispkg:
            _import_all(module.name)
        else:
            importlib.import_module(module.name)


for part in PACKAGES:
    _import_all(f"maze_core.{part}")

trust_policy(), versions()  # calls that children make, cached
