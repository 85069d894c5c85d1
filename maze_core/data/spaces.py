"""Gymnasium spaces as JSON and back.

JSON has no infinity, so a bound that is not there is null. A Dict space is written as a list of pairs,
because its order is that of a network's inputs and canonical JSON sorts keys.
"""

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
    bound = np.array(described, dtype=object)
    bound[bound == np.array(None)] = unbounded
    return np.broadcast_to(bound.astype(dtype), shape).copy()
