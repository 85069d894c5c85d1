"""The words of a configuration tree, shared by everything that reads or writes one.

A *node* is a dict with ``_target_``: the description of one component. Paths are dotted, list items by
number: ``model.policy.networks.0.non_lin``.
"""

import reprlib
from collections.abc import Mapping
from typing import Any, TypeGuard

TARGET = "_target_"
"""Key that names the component a node describes."""
OPAQUE = "_opaque_"
"""Key that stands for a live object: only its qualified name is recorded."""


def join(path: str, key: object) -> str:
    """``path.key``, without a dot in front when the path is empty."""
    return f"{path}.{key}" if path else str(key)


def is_within(path: str, ancestor: str) -> bool:
    """Whether ``path`` is ``ancestor`` or lies below it."""
    return path == ancestor or path.startswith(ancestor + ".")


def is_node(value: object) -> TypeGuard[Mapping[str, Any]]:
    """Whether this is a dict with a ``_target_``."""
    return isinstance(value, Mapping) and TARGET in value


def part_at(tree: Any, path: str) -> Any:
    """What stands at a path of keys; None where there is nothing."""
    for key in path.split("."):
        tree = tree.get(key) if isinstance(tree, Mapping) else None
    return tree


def opaque_parts(value: object, path: str = "") -> dict[str, str]:
    """Path → qualified name of every live object recorded in this tree."""
    if isinstance(value, Mapping):
        if OPAQUE in value:
            return {path: str(value[OPAQUE])}
        children = [(join(path, key), child) for key, child in value.items()]
    else:
        children = (
            [(join(path, i), child) for i, child in enumerate(value)] if isinstance(value, list) else []
        )
    return {where: name for at, child in children for where, name in opaque_parts(child, at).items()}


def shown(value: object) -> str:
    """``repr``, short enough for a message and quick whatever the value."""
    try:
        return _brief.repr(value)
    except ValueError:  # a whole number of more digits than Python writes
        return f"a very long {type(value).__name__}"


_brief = reprlib.Repr()
_brief.maxstring = _brief.maxother = 64
_brief.maxlevel = 3
