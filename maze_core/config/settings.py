"""The types of all settings: pydantic's dataclass that tells mistakes as a specification does, and field types.

``@dataclass`` here takes what ``pydantic.dataclasses.dataclass`` takes, and gives what that gives: fields, ``replace``,
``TypeAdapter`` and validation within other settings are pydantic's own. Only a call of the class differs:
``PPOAlgorithmConfig(lr=-1)`` raises :class:`InvalidSpecificationError`, and text is never read as a number. Where the
reference framework writes 0 for "off", 0 is accepted and stored as null.
"""

import ast
import dataclasses
import functools
import inspect
import itertools
import operator
import textwrap
from collections.abc import Callable, Mapping
from typing import Annotated, Any, ClassVar, Protocol, TypeAlias, TypeVar, dataclass_transform

import numpy as np
import pydantic
from pydantic import BeforeValidator, ConfigDict, Field, ValidationError
from pydantic.json_schema import JsonSchemaValue

from maze_core.config.components import canonical_target, target_name
from maze_core.config.nodes import TARGET, shown
from maze_core.config.targets import parameters_of
from maze_core.config.validation import argument_problems, coerced_keys
from maze_core.errors import InvalidSpecificationError, Problem

STRICT = ConfigDict(extra="forbid", allow_inf_nan=False)
"""Unknown keys and numbers that are not finite are refused."""


OPERATOR_ONLY = object()
"""Marks an annotation whose values no client may give: ``run: Annotated[str | None, OPERATOR_ONLY]``."""


OTHER_COMPONENT = "OtherComponent"
"""Definition in a JSON Schema of what is no component of this library."""


class Components:
    """Says in JSON Schema which settings may stand in a field of any type: these, and components of others.

    ``policy: Annotated[Any, Components(ProbabilisticPolicyComposerConfig)]``.
    """

    def __init__(self, *kinds: type[Any]) -> None:
        """Take the classes of settings; that of None is null."""
        self._kinds = kinds

    def __get_pydantic_json_schema__(self, schema: Any, handler: object) -> JsonSchemaValue:
        known = [
            {"type": "null"}
            if kind is type(None)
            else {"$ref": f"#/$defs/{kind.__name__}", "required": [TARGET]}
            for kind in self._kinds
        ]
        return {"anyOf": [*known, {"$ref": f"#/$defs/{OTHER_COMPONENT}"}]}


def _zero_is_off(value: Any) -> Any:
    return None if value == 0 and not isinstance(value, bool) else value


ZeroIsOff = BeforeValidator(_zero_is_off)
"""0 means "off" and becomes null."""

MOST = 10**15
"""Largest whole number of a setting: below 2⁵³, so every reader of JSON has it exactly."""

PositiveInt: TypeAlias = Annotated[int, Field(ge=1, le=MOST)]
NonNegativeInt: TypeAlias = Annotated[int, Field(ge=0, le=MOST)]
EnvCount: TypeAlias = Annotated[int, Field(ge=1, le=65_536)]
"""Environments, each an object in memory."""
RolloutSteps: TypeAlias = Annotated[int, Field(ge=1, le=1_000_000)]
"""Steps of every environment that are in memory together."""
ReplayCapacity: TypeAlias = Annotated[int, Field(ge=1, le=10_000_000)]
"""Transitions that are in memory together."""
OptionalPositiveInt: TypeAlias = Annotated[PositiveInt | None, ZeroIsOff]
OptionalPositiveFloat: TypeAlias = Annotated[Annotated[float, Field(gt=0.0)] | None, ZeroIsOff]


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


def whole_number(value: Any, name: str, *, least: int = 1) -> int:
    """``value`` as an int ≥ ``least``.

    Raises:
        InvalidSpecificationError: it is none; the problem's path is ``name``.
    """
    is_truth = isinstance(value, (bool, np.bool_))
    number = None if is_truth or not hasattr(value, "__index__") else operator.index(value)
    if number is None or number < least:
        message = f"{shown(value)} is not a whole number of at least {least}."
        raise InvalidSpecificationError([Problem(path=name, message=message, code="out_of_range")])
    return number


def truth(value: Any, name: str) -> bool:
    """``value`` as a bool.

    Raises:
        InvalidSpecificationError: it is neither True nor False; the problem's path is ``name``.
    """
    if not isinstance(value, (bool, np.bool_)):
        message = f"takes True or False, not {shown(value)}."
        raise InvalidSpecificationError([Problem(path=name, message=message, code="wrong_type")])
    return bool(value)


def field_docs(cls: type) -> dict[str, str]:
    """Field → the text below it in the source; those of bases, too.

    Read when asked for: pydantic would read the source of every class of settings as it is made.
    """
    docs: dict[str, str] = {}
    for base in reversed(cls.__mro__):
        if "__pydantic_fields__" not in vars(base):
            continue
        try:
            source = inspect.getsource(base)
        except (OSError, TypeError):  # typed at a prompt
            continue
        (tree,) = ast.parse(textwrap.dedent(source)).body
        assert isinstance(tree, ast.ClassDef)
        for field, text in itertools.pairwise(tree.body):
            match field, text:
                case (
                    ast.AnnAssign(target=ast.Name(id=name)),
                    ast.Expr(value=ast.Constant(value=str(words))),
                ):
                    docs[name] = " ".join(words.split())
    return docs
