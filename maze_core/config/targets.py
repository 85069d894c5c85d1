"""From the name of a component to the component itself; :mod:`trust` decides what a client may name."""

import dataclasses
import importlib
import inspect
import types
import typing
from collections.abc import Callable, Mapping, Sequence
from functools import lru_cache
from typing import Any

from maze_core.config.components import ALIASES, PLACES, PUBLIC_TARGETS, canonical_target
from maze_core.config.nodes import shown
from maze_core.config.words import FOREIGN, closest
from maze_core.errors import USER_CODE_ERRORS, InvalidSpecificationError, Problem


def resolve_target(name: str) -> Callable[..., Any]:
    """Import what a ``_target_`` names, after its aliases.

    Raises:
        InvalidSpecificationError: nothing has this name, or it is neither a class nor a function.
    """
    canonical = canonical_target(name)
    found = _remembered(PLACES[canonical]) if canonical in PLACES else _locate(canonical)
    if callable(found):
        return found
    message = f"{shown(name)} names no class or function that can be imported."
    near = closest(name, [*PUBLIC_TARGETS, *ALIASES])
    if (meant := FOREIGN.get(name.rpartition(".")[2].lower())) is not None and meant.note:
        message += f" {meant.note}"
    raise InvalidSpecificationError(
        [Problem(path="", message=message, code="unknown_target", did_you_mean=near)]
    )


def is_description(target: object) -> bool:
    """Whether this is a config dataclass: built from its fields at once, its component only later."""
    return isinstance(target, type) and dataclasses.is_dataclass(target)


def gym_wrapper_problem(target: object, path: str) -> Problem | None:
    """What to do about a wrapper of gymnasium's or gym's in the place of one of ours; None for anything else."""
    cls: type = target if isinstance(target, type) else type(target)
    if not any(base.__name__ == "Wrapper" and base.__module__.startswith("gym") for base in cls.__mro__):
        return None
    name = cls.__name__
    message = (
        f"{name} is a wrapper of gymnasium's and belongs into the environment: env.wrappers=[{{'_target_': "
        f"'{cls.__module__}.{name}'}}], or env=lambda: {name}(gymnasium.make(…))."
    )
    return Problem(path=path, message=message, code="wrong_kind")


def settings_of(name: str) -> tuple[str, ...] | None:
    """The keys a component takes; None where it takes any, or is not known."""
    try:
        target = resolve_target(name)
    except InvalidSpecificationError:
        return None
    return parameters_of(target)


def parameters_of(target: Callable[..., Any]) -> tuple[str, ...] | None:
    """Field or parameter names in order; None where any key is taken."""
    if is_description(target):
        return tuple([field.name for field in dataclasses.fields(target) if field.init])  # type: ignore[arg-type]
    try:
        parameters = inspect.signature(target).parameters.values()
    except (TypeError, ValueError):
        return None
    if any(parameter.kind is parameter.VAR_KEYWORD for parameter in parameters):
        return None
    named = (inspect.Parameter.POSITIONAL_OR_KEYWORD, inspect.Parameter.KEYWORD_ONLY)
    return tuple(parameter.name for parameter in parameters if parameter.kind in named)


@lru_cache(maxsize=512)
def field_types(cls: type) -> dict[str, Any]:
    """Annotations of a dataclass's constructor fields, in order."""
    hints = typing.get_type_hints(cls, include_extras=True)
    return {field.name: hints.get(field.name, Any) for field in dataclasses.fields(cls) if field.init}


def only_type(annotation: Any) -> Any:
    """The one type that an annotation admits beside None; ``Any`` where there are several."""
    origin = typing.get_origin(annotation)
    if origin is typing.Annotated:
        return only_type(typing.get_args(annotation)[0])
    if origin in (typing.Union, types.UnionType):
        others = [only_type(arg) for arg in typing.get_args(annotation) if arg is not type(None)]
        return others[0] if len(others) == 1 else Any
    return annotation


def item_type(annotation: Any) -> Any:
    """The annotation of the items of a list, tuple or dict annotation."""
    bare = only_type(annotation)
    args = [arg for arg in typing.get_args(bare) if arg is not Ellipsis]
    origin = typing.get_origin(bare)
    if origin in (list, tuple, Sequence):
        return args[0] if len(set(args)) == 1 else Any
    return args[1] if origin in (dict, Mapping) and len(args) == 2 else Any


def list_depth(annotation: Any) -> int:
    """How many levels of lists an annotation admits; 0 where it admits none."""
    origin, args = typing.get_origin(annotation), typing.get_args(annotation)
    if origin is typing.Annotated:
        return list_depth(args[0])
    if origin in (typing.Union, types.UnionType):
        return max(map(list_depth, args))
    if (origin or annotation) in (list, tuple, Sequence):
        return 1 + max((list_depth(arg) for arg in args if arg is not Ellipsis), default=0)
    return 0


def _locate(name: str) -> object | None:
    parts = name.split(".")
    if len(parts) < 2 or not all(part.isidentifier() for part in parts):
        return None
    for length in range(len(parts) - 1, 0, -1):
        module_name = ".".join(parts[:length])
        try:
            found: object = importlib.import_module(module_name)
        except ModuleNotFoundError as error:
            if error.name and module_name.startswith(error.name):
                continue
            raise _import_problem(module_name, error) from error
        except USER_CODE_ERRORS as error:  # a module may raise anything while it is imported
            raise _import_problem(module_name, error) from error
        for part in parts[length:]:
            found = getattr(found, part, None)
        return found
    return None


_remembered = lru_cache(maxsize=1024)(_locate)
"""The object of a name of this library, which does not change."""


def _import_problem(module_name: str, error: BaseException) -> InvalidSpecificationError:
    reason = (str(error).strip().splitlines() or ["no reason given"])[0]
    message = f"Importing {module_name} failed: {type(error).__name__}: {reason.rstrip('.')}."
    return InvalidSpecificationError([Problem(path="", message=message, code="unknown_target")])
