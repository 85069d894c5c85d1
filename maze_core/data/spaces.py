"""Gymnasium spaces as JSON and back, and values of unknown origin checked against them.

JSON has no infinity, so a bound that is not there is null. A Dict space is written as a list of pairs,
because its order is that of a network's inputs and canonical JSON sorts keys.
"""

import re
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from gymnasium import Space, spaces

from maze_core.errors import SpaceMismatchError
from maze_core.types import JSON, Array, Tree


def space_to_json(space: Space[Any]) -> Tree:
    """Describe a space; :func:`space_from_json` gives an equal one.

    Raises:
        SpaceMismatchError: the space is none of Box, Discrete, MultiDiscrete, MultiBinary, Text, Dict, Tuple.
    """
    match space:
        case spaces.Box():
            bounds = {"low": _bound_to_json(space.low), "high": _bound_to_json(space.high)}
            return {"type": "Box", "dtype": space.dtype.name, "shape": list(space.shape), **bounds}
        case spaces.Discrete():
            limits = {"n": int(space.n), "start": int(space.start)}
            return {"type": "Discrete", "dtype": space.dtype.name, **limits}
        case spaces.MultiDiscrete():
            limits = {"nvec": space.nvec.tolist(), "start": space.start.tolist()}
            return {"type": "MultiDiscrete", "dtype": space.dtype.name, **limits}
        case spaces.MultiBinary():
            return {"type": "MultiBinary", "shape": list(space.shape)}
        case spaces.Text():
            lengths = {"min_length": space.min_length, "max_length": space.max_length}
            return {"type": "Text", "characters": "".join(sorted(space.character_set)), **lengths}
        case spaces.Dict():
            return {"type": "Dict", "spaces": [[name, space_to_json(inner)] for name, inner in space.items()]}
        case spaces.Tuple():
            return {"type": "Tuple", "spaces": [space_to_json(inner) for inner in space.spaces]}
    raise SpaceMismatchError(f"A {type(space).__name__} space cannot be described as JSON.")


def space_from_json(described: JSON) -> Space[Any]:
    """The space that :func:`space_to_json` described.

    Raises:
        SpaceMismatchError: it describes no space.
    """
    try:
        return _space_from_json(described)
    except (KeyError, TypeError, ValueError, AttributeError, AssertionError) as error:
        raise SpaceMismatchError(f"This describes no space: {error!r}.") from error


def check_value(space: Space[Any], value: Any, pointer: str = "") -> Any:
    """One value of a space, from JSON or arrays.

    Args:
        space: what it must belong to.
        value: numbers, nested lists or arrays; for Dict and Tuple spaces objects and lists of them.
        pointer: where the value stands in the document it came from, as a JSON pointer.

    Returns:
        A new array of the space's shape and dtype; a dict or tuple of arrays for a Dict or Tuple space, a str
        for a Text space.

    Raises:
        SpaceMismatchError: wrong names, shape, type, bounds, or a number that is not finite; its ``pointer``
            names the leaf.
    """
    if isinstance(space, spaces.Dict):
        return _check_dict(space, value, pointer)
    if isinstance(space, spaces.Tuple):
        if not isinstance(value, Sequence) or isinstance(value, str) or len(value) != len(space.spaces):
            raise SpaceMismatchError(f"Expected a list of {len(space.spaces)} values.", pointer)
        inner = zip(space.spaces, value, strict=True)
        return tuple(check_value(leaf, part, f"{pointer}/{i}") for i, (leaf, part) in enumerate(inner))
    if isinstance(space, spaces.Text):
        if not space.contains(value):
            raise SpaceMismatchError(f"Expected a text of {space}.", pointer)
        return value
    return _check_array(space, value, pointer)


def _check_dict(space: spaces.Dict, value: Any, pointer: str) -> dict[str, Any]:
    if not isinstance(value, Mapping):
        raise SpaceMismatchError(f"Expected an object with {_listed(space)}.", pointer)
    for name in value:
        if name not in space.spaces:
            raise SpaceMismatchError(
                f"{name!r} is not one of {_listed(space)}.", f"{pointer}/{_escape(name)}"
            )
    for name in space.spaces:
        if name not in value:
            raise SpaceMismatchError(f"{name!r} is missing; expected {_listed(space)}.", pointer)
    return {
        name: check_value(inner, value[name], f"{pointer}/{_escape(name)}") for name, inner in space.items()
    }


def _check_array(space: Space[Any], value: Any, pointer: str) -> Array:
    if space.shape is None or space.dtype is None:
        raise SpaceMismatchError(
            f"A {type(space).__name__} space has no values that could be checked.", pointer
        )
    is_binary = isinstance(space, spaces.MultiBinary) or space.dtype.kind == "b"
    raw = _numbers(value, space.shape, pointer, allow_bools=is_binary)
    if raw.shape != space.shape:
        raise SpaceMismatchError(f"Expected shape {_shape(space.shape)}, got {_shape(raw.shape)}.", pointer)
    if raw.dtype.kind == "f":
        _refuse(~np.isfinite(raw), raw, "is not finite", pointer)
        if space.dtype.kind != "f":
            _refuse(raw != np.trunc(raw), raw, "is no integer", pointer)
    low, high = _limits(space)
    with np.errstate(over="ignore", invalid="ignore"):
        fitted = raw.astype(space.dtype)
    # integers are compared before the cast, which would wrap them around; floats after, in the bounds' dtype
    compared = fitted if space.dtype.kind == "f" else raw
    if space.dtype.kind == "f":
        _refuse(~np.isfinite(fitted), raw, f"does not fit into {space.dtype}", pointer)
    outside = (compared < low) | (compared > high)
    if outside.any():
        index = tuple(int(i) for i in np.argwhere(outside)[0])
        bounds = (
            f"[{np.broadcast_to(low, outside.shape)[index]}, {np.broadcast_to(high, outside.shape)[index]}]"
        )
        _refuse(outside, raw, f"is outside {bounds}", pointer)
    return fitted


def _numbers(value: Any, shape: tuple[int, ...], pointer: str, *, allow_bools: bool) -> Array:
    """The value as an array of numbers, whatever its shape."""
    if not isinstance(value, np.ndarray | np.generic):
        _refuse_other_than_numbers(value, pointer, allow_bools=allow_bools, depth=len(shape) + 2)
    try:
        array = np.array(value)
    except ValueError:
        raise SpaceMismatchError(
            f"Expected shape {_shape(shape)}, got lists of unequal lengths.", pointer
        ) from None
    if array.size == 0 and array.shape == shape:
        return array
    if array.dtype.kind not in ("fiub" if allow_bools else "fiu"):
        raise SpaceMismatchError("Expected numbers that fit into 64 bits.", pointer)
    return array


def _refuse_other_than_numbers(value: Any, pointer: str, *, allow_bools: bool, depth: int) -> None:
    """Refuse strings, nulls and truth values, which numpy would take for numbers here and there."""
    allowed = {int, float, bool} if allow_bools else {int, float}
    if isinstance(value, list | tuple):
        if depth == 0:
            raise SpaceMismatchError("The lists are nested too deep.", pointer)
        if set(map(type, value)) <= allowed:
            return
        for i, part in enumerate(value):
            _refuse_other_than_numbers(part, f"{pointer}/{i}", allow_bools=allow_bools, depth=depth - 1)
    elif type(value) not in allowed and not isinstance(value, np.ndarray | np.generic):
        raise SpaceMismatchError(f"Expected a number, got {_described(value)}.", pointer)


def _limits(space: Space[Any]) -> tuple[Any, Any]:
    match space:
        case spaces.Box():
            return space.low, space.high
        case spaces.Discrete():
            return int(space.start), int(space.start + space.n) - 1
        case spaces.MultiDiscrete():
            return space.start, space.start + space.nvec - 1
        case spaces.MultiBinary():
            return 0, 1
    raise SpaceMismatchError(f"A {type(space).__name__} space has no values that could be checked.")


def _refuse(wrong: Array, raw: Array, what: str, pointer: str) -> None:
    """Name the first wrong element, if there is one."""
    if wrong.any():
        index = tuple(int(i) for i in np.argwhere(wrong)[0])
        leaf = "".join(f"/{i}" for i in index)
        raise SpaceMismatchError(f"{raw[index].item()} {what}.", pointer + leaf)


def _space_from_json(described: Any) -> Space[Any]:
    match described["type"]:
        case "Box":
            dtype, shape = np.dtype(described["dtype"]), tuple(described["shape"])
            low = _bound_from_json(described["low"], -np.inf, shape, dtype)
            high = _bound_from_json(described["high"], np.inf, shape, dtype)
            return spaces.Box(low, high, shape=shape, dtype=dtype.type)
        case "Discrete":
            dtype = np.dtype(described["dtype"])
            return spaces.Discrete(described["n"], start=described["start"], dtype=dtype.type)
        case "MultiDiscrete":
            dtype = np.dtype(described["dtype"])
            nvec, start = (np.array(described[key], dtype=dtype) for key in ("nvec", "start"))
            return spaces.MultiDiscrete(nvec, dtype=dtype.type, start=start)
        case "MultiBinary":
            shape = described["shape"]
            return spaces.MultiBinary(shape[0] if len(shape) == 1 else shape)
        case "Text":
            limits = {"min_length": described["min_length"], "charset": described["characters"]}
            return spaces.Text(described["max_length"], **limits)
        case "Dict":
            return spaces.Dict([(name, _space_from_json(inner)) for name, inner in described["spaces"]])
        case "Tuple":
            return spaces.Tuple([_space_from_json(inner) for inner in described["spaces"]])
    raise ValueError(f"{described['type']!r} is no kind of space")


def _bound_to_json(bound: Array) -> JSON:
    """One number where all are equal, else nested lists; null where there is no bound."""
    if bound.size and (bound == bound.flat[0]).all():
        bound = np.asarray(bound.flat[0])
    return _without_infinity(bound.tolist())


def _without_infinity(value: Any) -> JSON:
    if isinstance(value, list):
        return [_without_infinity(part) for part in value]
    return value if np.isfinite(value) else None


def _bound_from_json(
    described: JSON, unbounded: float, shape: tuple[int, ...], dtype: np.dtype[Any]
) -> Array:
    bound = np.array(_with_infinity(described, unbounded), dtype=dtype)
    return np.broadcast_to(bound, shape).copy()


def _with_infinity(described: JSON, unbounded: float) -> Any:
    if isinstance(described, list):
        return [_with_infinity(part, unbounded) for part in described]
    return unbounded if described is None else described


def _shape(shape: tuple[int, ...]) -> str:
    return f"[{', '.join(map(str, shape))}]"


def _described(value: Any) -> str:
    return (
        "null"
        if value is None
        else f"{value!r:.40}"
        if isinstance(value, str | bool)
        else type(value).__name__
    )


def _listed(space: spaces.Dict) -> str:
    return ", ".join(repr(name) for name in space.spaces)


def _escape(name: Any) -> str:
    """A name as a token of a JSON pointer (RFC 6901, section 3)."""
    return re.sub("/", "~1", re.sub("~", "~0", str(name)))
