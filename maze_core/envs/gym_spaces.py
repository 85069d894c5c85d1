"""Gymnasium spaces as named leaves: how any observation or action becomes a dict of arrays, and back.

A space that is no Dict or Tuple has one leaf, named ``observation`` or ``action``. Dict and Tuple spaces have
one leaf per entry; nested ones are joined with a dot (``arm.angle``), Tuple entries are numbered
(``action_0``). Box observations of float64 become float32, because that is what a policy computes in; action
leaves keep their dtype.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
from gymnasium import Space, spaces

from maze_core.errors import EnvError
from maze_core.types import Action, Observation

Path = tuple[str | int, ...]

LEAF_SPACES = (spaces.Box, spaces.Discrete, spaces.MultiDiscrete, spaces.MultiBinary)


@dataclass(frozen=True)
class SpaceLayout:
    """The leaves of a gymnasium space, and where each lies within the original value."""

    space: spaces.Dict
    """One flat Dict of leaves."""
    paths: Mapping[str, Path]
    """Leaf name → keys that lead to it in the original value; empty for a space that is its own leaf."""
    original: Space[Any]

    @property
    def is_bare(self) -> bool:
        """The original space is its own single leaf."""
        return isinstance(self.original, LEAF_SPACES)

    def leaves(self, value: Any) -> Observation:
        """Take an original value apart: leaf name → array of the leaf's dtype."""
        return {
            name: np.asarray(_follow(value, path), dtype=self.space[name].dtype)
            for name, path in self.paths.items()
        }

    def assemble(self, leaves: Action) -> Any:
        """Put an original value together from its leaves; the reverse of :meth:`leaves`."""
        if self.is_bare:
            return leaves[next(iter(self.paths))]
        return _assemble(self.original, leaves, {path: name for name, path in self.paths.items()}, ())


def observation_layout(space: Space[Any]) -> SpaceLayout:
    """How observations of ``space`` are taken apart.

    Raises:
        EnvError: the space holds a leaf that no policy can see, such as Text or Graph.
    """
    return _layout(space, "observation", as_float32)


def action_layout(space: Space[Any]) -> SpaceLayout:
    """How actions of ``space`` are put together.

    Raises:
        EnvError: the space holds a leaf that no policy can give, such as Text or Graph.
    """
    return _layout(space, "action", lambda leaf: leaf)


def as_float32(space: Space[Any]) -> Space[Any]:
    """The same Box in float32 when it is of another float type; any other space unchanged."""
    if not isinstance(space, spaces.Box) or space.dtype.kind != "f" or space.dtype == np.float32:
        return space
    with np.errstate(over="ignore"):  # a bound beyond float32 is no bound: it becomes infinite
        return spaces.Box(space.low.astype(np.float32), space.high.astype(np.float32), dtype=np.float32)


def _layout(space: Space[Any], default_name: str, convert: Callable[[Space[Any]], Space[Any]]) -> SpaceLayout:
    found: dict[str, tuple[Path, Space[Any]]] = {}
    _collect(space, default_name, "", (), found)
    return SpaceLayout(
        space=spaces.Dict({name: convert(leaf) for name, (_, leaf) in found.items()}),
        paths={name: path for name, (path, _) in found.items()},
        original=space,
    )


def _collect(
    space: Space[Any], default_name: str, name: str, path: Path, found: dict[str, tuple[Path, Space[Any]]]
) -> None:
    if isinstance(space, spaces.Dict):
        for key, inner in space.spaces.items():
            _collect(inner, default_name, f"{name}.{key}" if name else str(key), (*path, key), found)
    elif isinstance(space, spaces.Tuple):
        for index, inner in enumerate(space.spaces):
            _collect(inner, default_name, f"{name or default_name}_{index}", (*path, index), found)
    elif not isinstance(space, LEAF_SPACES):
        kinds = ", ".join(kind.__name__ for kind in LEAF_SPACES)
        raise EnvError(
            f"The {default_name} space holds a {type(space).__name__} space at {name or 'its root'}, which "
            f"is not supported. Supported: {kinds}, and Dict and Tuple of them."
        )
    elif (name or default_name) in found:
        raise EnvError(f"The {default_name} space has two leaves named {name!r}.")
    else:
        found[name or default_name] = (path, space)


def _follow(value: Any, path: Path) -> Any:
    for key in path:
        value = value[key]
    return value


def _assemble(space: Space[Any], leaves: Action, names: Mapping[Path, str], path: Path) -> Any:
    if isinstance(space, spaces.Dict):
        return {key: _assemble(inner, leaves, names, (*path, key)) for key, inner in space.spaces.items()}
    if isinstance(space, spaces.Tuple):
        return tuple(
            _assemble(inner, leaves, names, (*path, index)) for index, inner in enumerate(space.spaces)
        )
    return leaves[names[path]]
