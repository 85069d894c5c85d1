"""Gymnasium spaces as JSON and back.

JSON has no infinity, so a bound that is not there is null, of integers too. A Dict space is written as a list of pairs,
because its order is that of a network's inputs and canonical JSON sorts keys.
"""

from typing import Any

import numpy as np
from gymnasium import Space, spaces

from maze_core.data.values import value_range
from maze_core.errors import SpaceMismatchError
from maze_core.types import JSON, Array, BoolArray, Tree

_NONE = np.array(None)


def space_to_json(space: Space[Any]) -> Tree:
    """Describe a space; :func:`space_from_json` gives an equal one.

    Raises:
        SpaceMismatchError: the space is none of Box, Discrete, MultiDiscrete, MultiBinary, Text, Dict, Tuple.
    """
    match space:
        case spaces.Box():
            low = _bound_to_json(space.low, space.bounded_below)
            high = _bound_to_json(space.high, space.bounded_above)
            shape = list(space.shape)
            return {"type": "Box", "dtype": space.dtype.name, "shape": shape, "low": low, "high": high}
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
            least, most = value_range(dtype)
            low, is_below = _bound_from_json(described["low"], least, shape, dtype)
            high, is_above = _bound_from_json(described["high"], most, shape, dtype)
            box = spaces.Box(low, high, shape=shape, dtype=dtype.type)
            box.bounded_below, box.bounded_above = is_below, is_above
            return box
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


def _bound_to_json(bound: Array, is_bounded: BoolArray) -> JSON:
    """One number where all are equal, else nested lists; null where there is no bound."""
    listed = np.where(is_bounded, bound.astype(object), _NONE)
    if listed.size and (listed == listed.flat[0]).all():
        return listed.flat[0]
    return listed.tolist()


def _bound_from_json(
    described: JSON, unbounded: float, shape: tuple[int, ...], dtype: np.dtype[Any]
) -> tuple[Array, BoolArray]:
    """The bounds, and where there are any."""
    listed = np.broadcast_to(np.array(described, dtype=object), shape)
    is_bounded = np.not_equal(listed, _NONE).astype(np.bool_)
    return np.where(is_bounded, listed, unbounded).astype(dtype), is_bounded
