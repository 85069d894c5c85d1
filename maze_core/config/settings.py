"""The dataclass of all settings: pydantic's, whose mistakes are said as those of a specification are.

``@dataclass`` here takes what ``pydantic.dataclasses.dataclass`` takes, and gives what that gives: fields, ``replace``,
``TypeAdapter`` and validation within other settings are pydantic's own. Only a call of the class differs:
``PPOAlgorithmConfig(lr=-1)`` raises :class:`InvalidSpecificationError`, and text is never read as a number.
"""

import dataclasses
import functools
from collections.abc import Callable, Mapping
from typing import Any, ClassVar, Protocol, TypeVar, dataclass_transform

import pydantic
from pydantic import ConfigDict, Field, ValidationError

from maze_core.config.components import canonical_target, target_name
from maze_core.config.nodes import TARGET, shown
from maze_core.config.targets import parameters_of
from maze_core.config.validation import argument_problems, coerced_keys
from maze_core.errors import InvalidSpecificationError, Problem

_T = TypeVar("_T")


class HasNulls(Protocol):
    """Settings whose published form names parts that have no meaning here."""

    ALWAYS_NULL: ClassVar[Mapping[str, str]]
    """Name → why it can only be null."""


@dataclass_transform(field_specifiers=(dataclasses.field, Field))
def dataclass(
    *, frozen: bool = False, kw_only: bool = False, eq: bool = True, config: ConfigDict
) -> Callable[[type[_T]], type[_T]]:
    """Make a class one of settings.

    Args:
        frozen: of :func:`dataclasses.dataclass`.
        kw_only: of :func:`dataclasses.dataclass`.
        eq: of :func:`dataclasses.dataclass`.
        config: of :func:`pydantic.dataclasses.dataclass`.
    """

    def decorate(cls: type[_T]) -> type[_T]:
        made: Any = pydantic.dataclasses.dataclass(frozen=frozen, kw_only=kw_only, eq=eq, config=config)(cls)
        _say_mistakes(made)
        return made  # type: ignore[no-any-return]

    return decorate


def plain_settings(cls: type[HasNulls], given: Mapping[str, Any]) -> dict[str, Any]:
    """The settings of ``cls`` in a dict that may have its ``_target_`` and null for what has no meaning here.

    Raises:
        InvalidSpecificationError: it names another component, or gives what has no meaning.
    """
    settings = {str(key): value for key, value in given.items()}
    target = settings.pop(TARGET, None)
    problems = []
    if target is not None and canonical_target(str(target)) != target_name(cls):
        message = f"{shown(target)} does not belong here."
        problems.append(Problem(path=TARGET, message=message, code="wrong_kind", allowed=(target_name(cls),)))
    for name, reason in cls.ALWAYS_NULL.items():
        if settings.pop(name, None):
            problems.append(Problem(path=name, message=reason, code="contradiction"))
    if problems:
        raise InvalidSpecificationError(problems)
    return settings


def _say_mistakes(cls: type[Any]) -> None:
    """Let a call of the class tell its mistakes as those of a specification."""
    initialise = cls.__init__

    @functools.wraps(initialise)
    def __init__(self: Any, /, *args: Any, **given: Any) -> None:
        kind = type(self)
        if args:
            message = f"takes its settings by name, not {shown(args[0])}: {kind.__name__}(name=value, …)."
            allowed = parameters_of(kind) or ()
            raise InvalidSpecificationError([Problem(path=kind.__name__, message=message, allowed=allowed)])
        try:
            initialise(self, **given)
        except ValidationError as error:
            found = argument_problems(error, kind, given, "")
            raise InvalidSpecificationError([_named(problem, kind) for problem in found]) from None
        if changed := coerced_keys(given, vars(self), ""):
            raise InvalidSpecificationError(changed)

    cls.__init__ = __init__
    cls.SAYS_MISTAKES = True


def _named(problem: Problem, kind: type[Any]) -> Problem:
    """A problem of the settings as a whole says whose it is."""
    return problem if problem.path else dataclasses.replace(problem, path=kind.__name__)
