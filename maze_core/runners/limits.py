"""When one call of ``train`` stops: the settings of an algorithm that may differ from call to call."""

from collections.abc import Mapping
from dataclasses import replace
from typing import Any

from maze_core.config.validation import argument_problems
from maze_core.config.words import unknown_word
from maze_core.errors import InvalidSpecificationError, ProblemList
from maze_core.trainers.config import FitConfig

LIMITS = ("max_env_steps", "max_wall_s", "patience", "target_return")
"""Settings of an algorithm that only say when to stop, so that each call of ``train`` may have its own."""


def with_limits(algorithm: FitConfig, limits: Mapping[str, Any]) -> FitConfig:
    """The same settings with other limits.

    Raises:
        InvalidSpecificationError: with every problem of ``limits``.
    """
    if not limits:
        return algorithm
    known = tuple(name for name in LIMITS if hasattr(algorithm, name))
    found = ProblemList()
    for name in limits:
        if name not in known:
            message = (
                f"train() does not take {name!r}; set what the run learns with when the context is made."
            )
            found.problems.append(unknown_word(name, message, name, ("n_epochs", *known)))
    found.raise_if_any()
    try:
        return replace(algorithm, **limits)
    except ValueError as error:
        raise InvalidSpecificationError(argument_problems(error, type(algorithm), limits, "")) from error
