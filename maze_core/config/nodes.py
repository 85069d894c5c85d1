"""The words of a configuration tree, shared by everything that reads or writes one.

A *node* is a dict with ``_target_``: the description of one component. Paths are dotted, list items by
number: ``model.policy.networks.0.non_lin``.
"""

import reprlib
from collections.abc import Callable, Mapping
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


def part_at(tree: Any, path: str, default: Any = None) -> Any:
    """What stands at a path of keys and numbers of items; ``default`` where there is nothing."""
    for key in path.split("."):
        try:
            tree = tree[int(key)] if isinstance(tree, list) and key.isdecimal() else tree[key]
        except (KeyError, IndexError, TypeError):
            return default
    return tree


def parts_in(value: Any, path: str = "") -> list[tuple[str, Any]]:
    """Path and value of everything in a tree, itself first, parents before children."""
    found = [(path, value)]
    for at, part in found:  # which grows meanwhile
        if isinstance(part, (Mapping, list)):
            children = part.items() if isinstance(part, Mapping) else enumerate(part)
            found += [(f"{at}.{key}" if at else str(key), child) for key, child in children]
    return found


def mapped(value: Any, change: Callable[[Any], Any]) -> Any:
    """A tree again, with ``change`` applied to everything that is no dict and no list."""
    if isinstance(value, Mapping):
        return {key: mapped(child, change) for key, child in value.items()}
    return [mapped(child, change) for child in value] if isinstance(value, list) else change(value)


def opaque_parts(value: object, path: str = "") -> dict[str, str]:
    """Path → qualified name of every live object recorded in this tree."""
    return {
        at: str(part[OPAQUE])
        for at, part in parts_in(value, path)
        if isinstance(part, Mapping) and OPAQUE in part
    }


def shown(value: object) -> str:
    """``repr``, short enough for a message and quick whatever the value."""
    try:
        return _brief.repr(value)
    except ValueError:  # a whole number of more digits than Python writes
        return f"a very long {type(value).__name__}"


_brief = reprlib.Repr()
_brief.maxstring = _brief.maxother = 64
_brief.maxlevel = 3
