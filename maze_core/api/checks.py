"""Checks of arguments of a RunContext and its methods: paths, directories, functions to call.

Each gives the value in its proper type, or raises :class:`InvalidSpecificationError` with the argument's name.
"""

import os
from os import PathLike
from pathlib import Path
from typing import Any

import numpy as np

from maze_core.config.nodes import shown
from maze_core.errors import InvalidSpecificationError, ProblemList
from maze_core.rundir import RunDir


def path_of(value: Any, name: str) -> Path:
    """``value`` as a path."""
    is_path = isinstance(value, str | PathLike) and isinstance(os.fspath(value), str)
    if not is_path or not os.fspath(value).strip() or "\0" in os.fspath(value):
        raise InvalidSpecificationError(f"{shown(value)} is not a path.", path=name, code="wrong_type")
    return Path(value)


def place_of(save: Any, n_videos: int) -> bool | Path:
    """Where a rollout is saved: at a path, in a new folder (True), or nowhere; videos are saved in any case."""
    if isinstance(save, bool | np.bool_):
        return bool(save) or n_videos > 0
    return path_of(save, "save")


def run_dir_of(value: Any) -> RunDir:
    """The run directory at a path, which need not exist yet."""
    path = path_of(value, "run_dir").absolute()
    try:
        path = path.resolve()
        is_free = not path.exists() or path.is_dir()
    except (OSError, RuntimeError) as error:  # RuntimeError: a symbolic link that leads to itself
        message = f"{shown(str(value))} cannot be a directory: {getattr(error, 'strerror', error)}."
        raise InvalidSpecificationError(message, path="run_dir") from error
    if not is_free:
        message = f"{path} is a file; a run is written into a directory."
        raise InvalidSpecificationError(message, path="run_dir")
    return RunDir(path)


def refuse_wrong_callbacks(reporter: Any, cancelled: Any) -> None:
    """Make sure that a verb can report and can ask."""
    found = ProblemList()
    if reporter is not None and not hasattr(reporter, "phase"):
        message = f"{shown(reporter)} is no Reporter; SilentReporter in maze_core.metrics is a base for one."
        found.add("reporter", message, code="wrong_type")
    if not callable(cancelled):
        message = f"{shown(cancelled)} is no function; it is asked, and answers whether to end."
        found.add("cancelled", message, code="wrong_type")
    found.raise_if_any()
