"""Checks the arguments of one component and says in one sentence each what is wrong with them.

pydantic validates; this module runs it for config dataclasses, plain dataclasses and signatures alike, and
turns its findings into :class:`Problem`. Stricter than pydantic in one point: text is never read as a
number, nor a truth value as one.
"""

import dataclasses
import inspect
import re
import typing
from collections.abc import Callable, Mapping, Sequence
from functools import lru_cache
from typing import Any

from pydantic import ConfigDict, TypeAdapter, ValidationError
from pydantic.dataclasses import is_pydantic_dataclass
from pydantic.errors import PydanticSchemaGenerationError, PydanticUserError

from maze_core.config.nodes import join, shown
from maze_core.config.targets import field_types, is_description, item_type, only_type, parameters_of
from maze_core.config.words import closest, unknown_word
from maze_core.errors import USER_CODE_ERRORS, InvalidSpecificationError, Problem, reason_of

_SCALARS = frozenset({bool, int, float, str, type(None)})
_CODES = {
    "missing": "missing_key",
    "missing_argument": "missing_key",
    "missing_keyword_only_argument": "missing_key",
    "unexpected_keyword_argument": "unknown_key",
    "extra_forbidden": "unknown_key",
    "literal_error": "not_allowed",
    "enum": "not_allowed",
    "greater_than": "out_of_range",
    "greater_than_equal": "out_of_range",
    "less_than": "out_of_range",
    "less_than_equal": "out_of_range",
    "too_long": "out_of_range",
    "too_short": "out_of_range",
    "finite_number": "not_finite",
}


def checked(target: Callable[..., Any], arguments: Mapping[str, Any], path: str) -> tuple[Any, list[Problem]]:
    """The config dataclass built from these arguments, or the checked arguments of another callable.

    Returns:
        It, or None where that failed, and everything that is wrong with the arguments.
    """
    if not is_description(target):
        value, found = _checked_call(target, arguments, path)
        return value, found or coerced_keys(arguments, value, path)
    make: Any = target if is_pydantic_dataclass(target) else _validating(target)  # type: ignore[arg-type]
    try:
        value = make(**arguments)
    except USER_CODE_ERRORS as error:  # a component's own check may raise anything
        return None, argument_problems(error, target, arguments, path)
    return value, [] if says_mistakes(target) else coerced_keys(arguments, vars(value), path)


def _validating(target: Any) -> Callable[..., Any]:
    """A plain dataclass, validated as pydantic's are."""
    return lambda **arguments: TypeAdapter(target).validate_python(arguments)


def argument_problems(
    error: BaseException, target: Callable[..., Any], arguments: Mapping[str, Any], path: str
) -> list[Problem]:
    """What went wrong while checking or calling ``target`` with these arguments."""
    if isinstance(error, ValidationError):
        found = _problems(error, target, arguments, path, ())
        known = {problem.path for problem in found}
        return found + [
            problem for problem in _misread_keys(target, arguments, path) if problem.path not in known
        ]
    if isinstance(error, InvalidSpecificationError):
        return _below(path, error)
    return [
        Problem(path=path, message=f"{_name(target)} refused its arguments: {_sentence(reason_of(error))}")
    ]


def says_mistakes(target: object) -> bool:
    """Whether a call of these settings says all mistakes itself; see :mod:`settings`."""
    return getattr(target, "SAYS_MISTAKES", False) is True


def coerced_keys(arguments: Mapping[str, Any], results: Mapping[str, Any], path: str) -> list[Problem]:
    """Text that was read as a number, and truth values as numbers or the other way round."""
    return [
        problem
        for key, value in arguments.items()
        if key in results and not _has_same_kinds(value, results[key])
        for problem in _coerced(value, results[key], join(path, key))
    ]


def _misread_keys(target: Callable[..., Any], arguments: Mapping[str, Any], path: str) -> list[Problem]:
    """Text in number fields and the like, from the annotations, where no result can be compared."""
    if not is_description(target):
        return []
    samples = {bool: True, int: 1, float: 1.0}
    hints = field_types(target)
    wanted = {key: samples.get(only_type(hints.get(key))) for key in arguments}
    return coerced_keys(
        arguments, {key: sample for key, sample in wanted.items() if sample is not None}, path
    )


def _checked_call(
    target: Callable[..., Any], arguments: Mapping[str, Any], path: str
) -> tuple[dict[str, Any], list[Problem]]:
    adapters, defaults = _signature(target)
    values, found = dict(defaults), []
    for key, value in arguments.items():
        try:
            values[key] = adapters[key].validate_python(value) if key in adapters else value
        except ValidationError as error:
            found += _problems(error, target, arguments, path, (key,))
    return values, found


@lru_cache(maxsize=256)
def _signature(target: Callable[..., Any]) -> tuple[dict[str, TypeAdapter[Any]], dict[str, Any]]:
    """What can be checked of a signature: adapters of the annotations, and plain default values."""
    called = target.__init__ if isinstance(target, type) else target  # type: ignore[misc]
    try:
        hints = typing.get_type_hints(called, include_extras=True)
    except (NameError, TypeError, AttributeError):
        hints = {}
    names = parameters_of(target) or ()
    adapters = {name: adapter for name in names if (adapter := _adapter(hints.get(name, Any))) is not None}
    try:
        parameters = inspect.signature(target).parameters
    except (TypeError, ValueError):
        return adapters, {}
    plain = (type(None), bool, int, float, str, list, tuple, dict)
    defaults = {
        name: parameters[name].default for name in names if isinstance(parameters[name].default, plain)
    }
    return adapters, defaults


def _adapter(annotation: Any) -> TypeAdapter[Any] | None:
    try:
        return TypeAdapter(annotation, config=ConfigDict(arbitrary_types_allowed=True))
    except PydanticUserError:
        pass
    try:
        return TypeAdapter(annotation)
    except (PydanticSchemaGenerationError, PydanticUserError):
        return None


def _problems(
    error: ValidationError,
    target: Callable[..., Any],
    arguments: Mapping[str, Any],
    path: str,
    prefix: tuple[str, ...],
) -> list[Problem]:
    found: dict[str, Problem] = {}
    empty: set[str] = set()
    """Lists that are too short maybe only because what is wrong in them does not count."""
    for item in error.errors(include_url=False):
        keys = _keys_within(arguments, (*prefix, *item["loc"]))
        if len(item["loc"]) > 1 and _CODES.get(item["type"]) == "missing_key":
            keys.append(str(item["loc"][-1]))
        where = join(path, ".".join(keys)) if keys else path
        cause = item.get("ctx", {}).get("error")
        if isinstance(cause, InvalidSpecificationError):  # a check that says itself where
            found |= {p.path: p for p in _below(where, cause)}
            continue
        if item["type"] == "too_short":
            empty.add(where)
        problem = _problem(item, where, target, keys, arguments)
        if where not in found:
            found[where] = problem
        elif problem.message not in found[where].message:  # the alternatives of a union, one finding each
            message = f"{found[where].message.removesuffix('.')}; or: {problem.message}"
            found[where] = dataclasses.replace(found[where], message=message)
    return [
        p
        for where, p in found.items()
        if where not in empty or not any(q.startswith(f"{where}.") for q in found)
    ]


def _keys_within(arguments: Any, location: tuple[int | str, ...]) -> list[str]:
    """The part of pydantic's location that is a place in the value; the rest names members of a union."""
    keys: list[str] = []
    value = arguments
    for position, key in enumerate(location):
        if position == 0:
            keys.append(str(key))
            value = value.get(key) if isinstance(value, Mapping) else None
        elif isinstance(value, Mapping):
            keys += [str(key)] if key in value else []
            value = value.get(key, value)
        elif isinstance(value, (list, tuple)) and isinstance(key, int) and key < len(value):
            keys.append(str(key))
            value = value[key]
    return keys


def _below(path: str, error: InvalidSpecificationError) -> list[Problem]:
    """The problems of a part, where it stands."""
    return [dataclasses.replace(p, path=join(path, p.path) if p.path else path) for p in error.problems]


def _settings_at(target: Callable[..., Any], keys: Sequence[str]) -> Any:
    """The config dataclass that has the last of these keys; None where the annotations do not say."""
    found: Any = target
    for position, key in enumerate(keys):
        if is_description(found):
            if position == len(keys) - 1:
                return found
            found = field_types(found).get(key)
        else:
            found = item_type(found)
        found = only_type(found)
    return None


def _siblings(arguments: Any, keys: Sequence[str]) -> tuple[str, ...]:
    """The other keys of the mapping in which the last key stands; the settings that are known there."""
    if not keys:
        return ()
    value = arguments
    for key in keys[:-1]:
        value = value[int(key)] if isinstance(value, (list, tuple)) else value[key]
    return tuple(str(key) for key in value if key != keys[-1]) if isinstance(value, Mapping) else ()


def _problem(
    item: Any, where: str, target: Callable[..., Any], keys: Sequence[str], arguments: Mapping[str, Any]
) -> Problem:
    kind, given = item["type"], item["input"]
    code = _CODES.get(
        kind, "wrong_type" if kind.endswith(("_type", "_parsing", "_from_float")) else "invalid_value"
    )
    if code == "missing_key":
        inner = _settings_at(target, keys)
        return Problem(path=where, message=f"{_name(inner or target)} needs it.", code=code)
    settings = _settings_at(target, keys)
    beside = () if settings is None else parameters_of(settings) or ()
    if code == "unknown_key":
        name = str(item["loc"][-1])
        known = beside if settings is not None else _siblings(arguments, keys)
        place = "This" if settings is None else _name(settings)
        message = f"{place} has no setting {shown(name)}."
        return unknown_word(where, message, name, known, beside=map(str, arguments))
    if code == "not_allowed":
        allowed = tuple(re.findall(r"'([^']*)'", item.get("ctx", {}).get("expected", "")))
        near = closest(given, allowed) if isinstance(given, str) else None
        message = f"{shown(given)} is not one of the choices."
        amount = f"{keys[-1].rpartition('_')[0]}_std" if keys else ""
        if type(given) in (int, float) and amount in beside:
            message += f" How much there is of it is {amount}={given}."
        return Problem(path=where, message=message, code=code, allowed=allowed, did_you_mean=near)
    reason = item["msg"].removeprefix("Value error, ").removeprefix("Assertion failed, ")
    reason = reason.replace("Input should be", "must be").replace("Input should", "must")
    if kind in ("value_error", "assertion_error"):
        return Problem(path=where, message=_sentence(reason), code=code)
    message = f"{shown(given)} is not valid: {_sentence(reason)}{_hint(given, kind, keys, beside)}"
    return Problem(path=where, message=message, code=code)


def _hint(given: Any, kind: str, keys: Sequence[str], beside: Sequence[str]) -> str:
    """The way out of mistakes that other libraries' settings suggest."""
    if isinstance(given, str) and given.startswith(("lin_", "linear_")):
        key, number = keys[-1] if keys else "lr", given.partition("_")[2]
        if f"{key}_schedule" in beside:
            return (
                f" A schedule is a setting of its own: {key}={number} and {key}_schedule='linear' fall to 0."
            )
        scheduled = ", ".join(name for name in beside if f"{name}_schedule" in beside)
        return f" Give a number, {key}={number}" + (
            f": schedules are there for {scheduled}." if scheduled else "."
        )
    if kind == "tuple_type" and isinstance(given, (int, float)):
        return f" Give both ends, such as [{-abs(given)}, {abs(given)}]."
    return ""


def _has_same_kinds(given: Any, got: Any) -> bool:
    """Whether two plain values, or lists of them, are of the same types: the usual case, told without a walk."""
    if type(given) is list and isinstance(got, (list, tuple)):
        kinds = list(map(type, given))
        return kinds == list(map(type, got)) and _SCALARS.issuperset(kinds)
    return type(given) is type(got) and type(given) in _SCALARS


def _coerced(given: Any, got: Any, path: str) -> list[Problem]:
    if isinstance(given, Mapping) and (isinstance(got, Mapping) or dataclasses.is_dataclass(got)):
        results = got if isinstance(got, Mapping) else {key: getattr(got, str(key), None) for key in given}
        pairs = [(key, given[key], results.get(key)) for key in given]
    elif isinstance(given, (list, tuple)) and isinstance(got, (list, tuple)) and len(given) == len(got):
        pairs = [(index, *pair) for index, pair in enumerate(zip(given, got, strict=True))]
    elif isinstance(given, (str, bool, int, float)) and _is_other_kind(given, got):
        kind = "truth value (true or false)" if isinstance(got, bool) else "number"
        return [Problem(path=path, message=f"{shown(given)} is not a {kind}.", code="wrong_type")]
    else:
        return []
    return [problem for key, a, b in pairs for problem in _coerced(a, b, join(path, key))]


def _is_other_kind(given: Any, got: Any) -> bool:
    if not isinstance(got, (bool, int, float)):
        return False
    return isinstance(given, str) or isinstance(given, bool) != isinstance(got, bool)


def _name(target: Callable[..., Any]) -> str:
    return getattr(target, "__name__", type(target).__name__)


def _sentence(text: str) -> str:
    line = (text.strip().splitlines() or ["no reason given"])[0]
    return line if line.endswith((".", "!", "?")) else f"{line}."
