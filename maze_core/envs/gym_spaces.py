"""Gymnasium spaces as named leaves: how any observation or action becomes a dict of arrays, and back.

A space that is no Dict or Tuple has one leaf, named ``observation`` or ``action``. Dict and Tuple spaces have
one leaf per entry; nested ones are joined with a dot (``arm.angle``), Tuple entries are numbered
(``action_0``). The leaves stand in the order of the original space and keep their dtype: a clock in float64 would lose
its digits in the float32 that networks compute in, before a wrapper could shift it. Text observations are left out.
"""

from typing import Any

import numpy as np
from gymnasium import Space, spaces

from maze_core.data.flat_space import FlatSpace
from maze_core.data.values import LEAF_SPACES
from maze_core.errors import EnvError
from maze_core.notices import Notices
from maze_core.types import JSON

_SUPPORTED = f"{', '.join(kind.__name__ for kind in LEAF_SPACES)}, and Dict and Tuple of them"
_WAYS_OUT: list[tuple[type[Space[Any]], str]] = [
    (spaces.Graph, "turn it into Boxes of a fixed size"),
    (spaces.Sequence, "turn it into a Box of its greatest length, padded"),
    (spaces.OneOf, "turn it into a Discrete that says which, beside a leaf for each"),
    (spaces.Text, "turn it into a Discrete or MultiDiscrete"),
]


def observation_layout(space: Space[Any]) -> FlatSpace:
    """The leaves of an observation space; says once which texts are left out.

    Raises:
        EnvError: the space holds a leaf that no policy can see, such as Graph, or none at all.
    """
    return _layout(space, "observation")


def action_layout(space: Space[Any]) -> FlatSpace:
    """The leaves of an action space.

    Raises:
        EnvError: the space holds a leaf that no policy can give, such as Text or Graph, or none at all.
    """
    return _layout(space, "action")


def _layout(space: Space[Any], root: str) -> FlatSpace:
    found: dict[str, Space[Any]] = {}
    form = _collect(space, root, None, found)
    if not found:
        raise EnvError(
            f"The {root} space {space} has no leaf that a policy could use. Supported: {_SUPPORTED}."
        )
    return FlatSpace(list(found.items()), form)


def _collect(space: Space[Any], root: str, name: str | None, found: dict[str, Space[Any]]) -> JSON:
    """The form of a space (:mod:`maze_core.data.flat_space`); its leaves are gathered in ``found``."""
    if isinstance(space, spaces.Dict):
        below = "" if name is None else f"{name}."
        parts = ((_key(key, root), inner) for key, inner in space.spaces.items())
        return {"dict": [[key, _collect(inner, root, f"{below}{key}", found)] for key, inner in parts]}
    if isinstance(space, spaces.Tuple):
        numbered = ((f"{name or root}_{i}", inner) for i, inner in enumerate(space.spaces))
        return {"tuple": [_collect(inner, root, its_name, found) for its_name, inner in numbered]}
    leaf = name or root
    if _is_text(space) and root == "observation" and name is not None:
        Notices.current().say(
            f"text {leaf}", f"The observation {leaf!r} is a text, which no network reads; it is left out."
        )
        return None
    if not isinstance(space, LEAF_SPACES):
        kind = type(space).__name__
        way_out = next((way for cls, way in _WAYS_OUT if isinstance(space, cls)), "turn it into one of these")
        raise EnvError(
            f"The {root} space holds a {kind} space at {name or 'its root'}, which is not supported. "
            f"Supported: {_SUPPORTED}; {way_out} in a wrapper around the environment."
        )
    if space.dtype == np.longdouble != np.float64:
        raise EnvError(f"The {root} {leaf!r} is {space}, whose numbers no checkpoint holds: use float64.")
    if 0 in (space.shape or ()):
        raise EnvError(
            f"The {root} {leaf!r} is {space}, which holds no number: leave it out, or give it a width of 1 or more."
        )
    if leaf in found:
        raise EnvError(f"The {root} space has two leaves named {leaf!r}.")
    found[leaf] = space
    return leaf


def _key(key: Any, root: str) -> str | int:
    """A key of a Dict as JSON can keep it."""
    if isinstance(key, str):
        return str(key)
    if isinstance(key, int | np.integer) and not isinstance(key, bool):
        return int(key)
    raise EnvError(f"The {root} space has the key {key!r}; keys are texts or whole numbers.")


def _is_text(space: Space[Any]) -> bool:
    """Whether its values are texts, which a space need not be a Text for."""
    return isinstance(space, spaces.Text) or (space.dtype is not None and np.dtype(space.dtype).kind == "U")
