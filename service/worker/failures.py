"""What went wrong in a run, in words that its owner can act on."""

import traceback
from collections.abc import Mapping
from dataclasses import asdict
from typing import Any

from maze_core import errors
from service.worker import frames


class GraceOver(SystemExit):
    """Raised in a run that went on too long after the wish to stop, so that it cleans up and ends."""


CODES: Mapping[type[BaseException], str] = {
    errors.InvalidSpecificationError: "invalid_specification",
    errors.SpaceMismatchError: "space_mismatch",
    errors.NotServableError: "not_servable",
    errors.CheckpointError: "checkpoint_damaged",
    errors.EnvError: "env_error",
    errors.DivergedError: "diverged",
    MemoryError: "out_of_memory",
    GraceOver: "stopped",
}
"""Kind of error → its stable code; anything else is an ``exception`` of the run's own code."""

_MEMORY_WORDS = ("can't allocate memory", "not enough memory", "out of memory")
"""Torch says these in a plain RuntimeError."""


def failure_of(error: BaseException) -> frames.Failure:
    """The frame that tells the worker of an error."""
    problems: tuple[dict[str, Any], ...] = ()
    if isinstance(error, errors.InvalidSpecificationError):
        problems = tuple(asdict(problem) for problem in error.problems)
    return frames.Failure(
        code=_code(error),
        message=_sentence(error),
        traceback="".join(traceback.format_exception(error)),
        problems=problems,
    )


def _code(error: BaseException) -> str:
    for kind, code in CODES.items():
        if isinstance(error, kind):
            return code
    if isinstance(error, RuntimeError) and any(words in str(error).lower() for words in _MEMORY_WORDS):
        return "out_of_memory"
    return "exception"


def _sentence(error: BaseException) -> str:
    text = str(error).strip() or "no message"
    return text if isinstance(error, errors.MazeError) else f"{type(error).__name__}: {text}"
