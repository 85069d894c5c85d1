"""Dotted keys and their values, applied to a tree without any grammar: the value is the value.

Specific beats general whatever the order. A dict merges onto what is there, key by key; a dict that names
another ``_target_`` replaces it. Keys must exist, unless they belong to a free mapping such as
``env.kwargs``. A wrapper is found by its number, its dotted class name or its class name:
``wrappers.RewardScalingWrapper.scale``.
"""

import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import replace
from typing import Any

from maze_core.config.components import ALIASES, RENAMED, canonical_target
from maze_core.config.modules import GROUPS, PRESET_GROUPS
from maze_core.config.nodes import OPAQUE, TARGET, is_node, is_within, join, shown
from maze_core.config.schema import SOURCES, Mode
from maze_core.config.targets import settings_of
from maze_core.config.words import unknown_word
from maze_core.errors import ProblemList
from maze_core.types import Tree


class _Removed:
    """Type of :data:`REMOVED`."""

    def __repr__(self) -> str:
        return "REMOVED"


REMOVED = _Removed()
"""A value that takes its key out: entries of lists and free mappings disappear, a setting gets its default."""

DESTINATIONS: Mapping[Mode, Mapping[str, str]] = {
    "train": {"policy": "model.policy", "critic": "model.critic"},
    "rollout": {},
}
"""Group → where its values stand in the tree, where that is not its own name."""
_MOST_SUGGESTIONS = 32  # comparing names is slow, and nobody reads the hundredth suggestion
_FIXED_PARTS = ("seeding", "project", *SOURCES)


def canonical_key(key: object, tree: Tree, mode: Mode, found: ProblemList) -> str | None:
    """The one spelling of an override key, or None with a problem.

    ``policy.`` and ``critic.`` lead to the model in training, and wrappers are numbered.
    """
    text = str(key)
    head, _, rest = text.partition(".")
    if text != text.strip(".") or ".." in text or not text:
        found.add(text[:200], f"{shown(text)} is not a dotted key.", code="unknown_key")
    elif head == "hydra" or head.startswith("hydra/"):
        found.add(text[:200], "Hydra's own settings are not part of a run; use run_dir.", code="reserved_key")
    elif head[:1] in ("+", "~"):
        found.add(
            text[:200], "takes no sign in front; the signs belong to the command line.", code="reserved_key"
        )
    elif refuse_argument(text, found):
        pass
    elif not rest and head in _FIXED_PARTS:
        found.add(head, f"Give its values one by one, such as {join(head, '…')}.", code="group_key")
    else:
        proxy = DESTINATIONS[mode].get(head)
        text = join(head, RENAMED[text]) if text in RENAMED else text
        return _numbered(join(proxy, rest) if proxy else text, tree)
    return None


def refuse_argument(key: str, found: ProblemList) -> bool:
    """Note a problem, and say so, when an override key is that of an argument: a bare group, or the seed."""
    if key in (*GROUPS, *PRESET_GROUPS):
        found.add(key, f"A group is chosen by its argument: {key}=…, not by overrides.", code="group_key")
    elif key == "seed":
        message = "Both seeds are given by the argument: seed=…, and one of them by 'seeding.…'."
        found.add(key, message, code="group_key")
    else:
        return False
    return True


def _numbered(key: str, tree: Tree) -> str:
    """Replace the name of a wrapper by its number."""
    key = re.sub(r"\[(\d+)\]", r".\1", key)
    head, _, rest = key.partition(".")
    wrappers = tree.get("wrappers")
    if head != "wrappers" or not isinstance(wrappers, list):
        return key
    for index, node in enumerate(wrappers):
        target = str(node.get(TARGET)) if isinstance(node, Mapping) else ""
        spellings = [target, *(alias for alias, name in ALIASES.items() if name == target)]
        for name in (*spellings, target.rpartition(".")[2]):
            if name and is_within(rest, name):
                return join("wrappers", index) + rest[len(name) :]
    return key


def apply_values(tree: Tree, values: Mapping[str, Any], found: ProblemList) -> None:
    """Write values at canonical keys into the tree; problems are noted and their keys left out."""
    parents = []
    for key in sorted(values, key=lambda key: key.count(".")):
        parent = _parent(tree, key, values, found)
        if parent is not None:
            _write(parent, key, values, found)
            parents.append(parent)
    for parent in parents:
        if isinstance(parent, list):  # only now, so that every key meant the number it was written with
            parent[:] = [item for item in parent if item is not REMOVED]


def replaces(current: Any, value: Any) -> bool:
    """Whether ``value`` takes the place of ``current``; else it is merged onto it, key by key."""
    if not isinstance(value, Mapping) or not isinstance(current, Mapping):
        return True
    if OPAQUE in value or OPAQUE in current:
        return True
    if {"block_type", "block_params"} <= value.keys() and value["block_type"] != current.get("block_type"):
        return True  # settings of another block
    return TARGET in value and canonical_target(str(value[TARGET])) != canonical_target(
        str(current.get(TARGET))
    )


def merged(current: Any, value: Any) -> Any:
    """What stands in a tree after ``value`` was given for ``current``."""
    if replaces(current, value):
        return value
    return {**current, **{key: merged(current.get(key), child) for key, child in value.items()}}


def _parent(tree: Tree, key: str, values: Mapping[str, Any], found: ProblemList) -> Any | None:
    """The dict or list that holds the last part of a key."""
    parts = key.split(".")
    node: Any = tree
    for depth, part in enumerate(parts[:-1]):
        here = ".".join(parts[:depth])
        if isinstance(node, list):
            if not (part.isdecimal() and int(part) < len(node)):
                _unknown(key, here, part, _item_names(node, here), found)
                return None
            node = node[int(part)]
        elif isinstance(node, Mapping) and part in node:
            node = node[part]
        elif isinstance(node, Mapping):
            _unknown(key, here, part, _known(node), found, tree=tree, beside=values)
            return None
        else:
            _not_a_parent(key, here, node, found)
            return None
    if isinstance(node, (dict, list)):
        return node
    _not_a_parent(key, ".".join(parts[:-1]), node, found)
    return None


def _write(parent: Any, key: str, values: Mapping[str, Any], found: ProblemList) -> None:
    here, _, name = key.rpartition(".")
    value = values[key]
    if isinstance(parent, list):
        if not (name.isdecimal() and int(name) < len(parent)):
            _unknown(key, here, name, _item_names(parent, here), found)
        else:
            parent[int(name)] = merged(parent[int(name)], value)
        return
    known = _known(parent)
    is_free = not is_node(parent) and here.partition(".")[0] not in ("", *_FIXED_PARTS)
    if name not in known and not (is_free and value is not REMOVED):
        _unknown(key, here, name, known, found, tree=parent, beside=values)
    elif value is REMOVED:
        parent.pop(name, None)
    else:
        parent[name] = merged(parent.get(name), value)


def _known(node: Mapping[str, Any]) -> list[str]:
    settings = settings_of(str(node[TARGET])) if is_node(node) else ()
    return list(dict.fromkeys([*node, *(settings or ())]))


def _item_names(items: Sequence[Any], here: str) -> list[str]:
    numbers = [str(number) for number in range(len(items))]
    nodes = items if here == "wrappers" else ()
    return numbers + [str(node[TARGET]).rpartition(".")[2] for node in nodes if is_node(node)]


def _unknown(
    key: str,
    here: str,
    part: str,
    names: Iterable[str],
    found: ProblemList,
    *,
    tree: Tree | None = None,
    beside: Iterable[str] = (),
) -> None:
    allowed = tuple(name for name in names if not name.startswith("_"))
    place = f"{here} has" if here else "There is"
    way_out = " A wrapper is added by the argument: wrappers=…." if here == "wrappers" else ""
    is_read = len(found.problems) < _MOST_SUGGESTIONS
    problem = unknown_word(
        key, f"{place} no setting {shown(part)}.{way_out}", part, allowed, beside=beside, is_suggested=is_read
    )
    if is_read and not here and tree and problem.did_you_mean is None:
        problem = replace(problem, did_you_mean=_elsewhere(tree, key))
    found.problems.append(problem)


def _elsewhere(tree: Tree, key: str) -> str | None:
    """A part of the tree that has this key: ``lr`` → ``algorithm.lr``."""
    places = [name for name, node in tree.items() if isinstance(node, Mapping) and key in node]
    return join(places[0], key) if places else None


def _not_a_parent(key: str, here: str, node: Any, found: ProblemList) -> None:
    found.add(
        key[:200],
        f"{here} is {shown(node)}, which has no settings; give {here} a dict first.",
        code="no_parent",
    )
