"""Python values as configuration trees: what can be written down is, the rest is recorded by name.

A config dataclass becomes a node (``_target_`` and its fields), or the fields alone where a field admits
only that class. An object with ``as_config()`` is written as the settings or the node that this gives, and a
network class that can be imported as a node. Anything else that is not data (a function, a module) stays a live
object: it is put into ``live`` under its path, and the tree gets ``{"_opaque_": name}``.
"""

import dataclasses
import math
import os
import re
from collections.abc import Mapping
from enum import Enum
from typing import Any

import numpy as np

from maze_core.config.components import in_our_words, qualified_name, target_name
from maze_core.config.nodes import OPAQUE, TARGET, join
from maze_core.config.targets import field_types, item_type, only_type, resolve_target
from maze_core.errors import InvalidSpecificationError, ProblemList

_MAX_DEPTH = 64
_NETWORK = re.compile(r"(^|\.)networks\.[^.]+$")


class Describer:
    """Turns values into trees. One instance serves one specification."""

    def __init__(self, known: Mapping[int, Any] | None = None) -> None:
        """Take the trees that are already known of objects that are no data, by ``id()``."""
        self.problems = ProblemList()
        self.live: dict[str, object] = {}
        self._known = known or {}

    def tree(self, value: object, path: str, declared: Any = Any) -> Any:
        """The tree of any value; problems and live objects are collected on the way.

        Args:
            value: what to write down; never changed.
            path: where it stands.
            declared: the annotation of the field it stands in. A config dataclass that the annotation leaves
                no choice about is written without ``_target_``.
        """
        if path.count(".") > _MAX_DEPTH:
            self.problems.add(path[:200], f"is nested deeper than {_MAX_DEPTH} levels.", code="too_deep")
            return None
        if value is None or isinstance(value, (bool, np.bool_)):
            return None if value is None else bool(value)
        if isinstance(value, Enum):
            return self.tree(value.value, path)
        if isinstance(value, (int, float, str, np.integer, np.floating)):
            return self._scalar(value, path)
        if isinstance(value, os.PathLike):
            return os.fspath(value)
        if isinstance(value, np.ndarray):
            return self.tree(value.tolist(), path)
        if isinstance(value, Mapping):
            return self._mapping(value, path, declared)
        if isinstance(value, (list, tuple)):
            item = item_type(declared)
            return [self.tree(child, join(path, index), item) for index, child in enumerate(value)]
        return self._object(value, path, declared)

    def _scalar(self, value: Any, path: str) -> Any:
        if isinstance(value, str):
            return str(value)
        if isinstance(value, (int, np.integer)):
            return int(value)
        number = float(value)
        if not math.isfinite(number):
            self.problems.add(path, f"is {number}, which is not a finite number.", code="not_finite")
        return number

    def _mapping(self, value: Mapping[Any, Any], path: str, declared: Any) -> Any:
        keys = [str(key) for key in value]
        refuse_other_keys(value, path, self.problems)
        if len(set(keys)) < len(keys):
            self.problems.add(path, "has two keys that are the same text.", code="duplicate_key")
        if OPAQUE in keys:
            self.problems.add(path, f"{OPAQUE!r} is written by this library only.", code="reserved_key")
        item = item_type(declared)
        value = in_our_words(value)
        return {str(key): self.tree(child, join(path, key), item) for key, child in value.items()}

    def _object(self, value: object, path: str, declared: Any) -> Any:
        if is_describable(value):
            cls: Any = type(value)
            hints = field_types(cls)
            tree = {} if only_type(declared) is cls else {TARGET: target_name(cls)}
            for name, annotation in hints.items():
                field = getattr(value, name)
                is_plain = field is None or type(field) in (bool, int, str)
                tree[name] = field if is_plain else self.tree(field, join(path, name), annotation)
            return tree
        if id(value) in self._known:
            return self._known[id(value)]
        if isinstance(value, type):
            if _NETWORK.search(path) and _leads_to(qualified_name(value), value):
                return {TARGET: target_name(value)}
        elif (settings := settings_in_place(value)) is not None:
            return self.tree(settings, path, declared)
        self.live[path] = value
        return {OPAQUE: qualified_name(value)}


def refuse_other_keys(value: Mapping[Any, Any], path: str, found: ProblemList) -> None:
    """Note that an argument of an environment has a key that is no text, and would arrive as one."""
    other = [key for key in value if not isinstance(key, str)]
    if other and path.startswith("env."):
        message = (
            f"has the key {other[0]!r}; keys are text here, which the environment would get instead. "
            "Make the environment in a function, env=lambda: …, to give it such a dict."
        )
        found.add(path, message, code="wrong_type")


def is_describable(value: object) -> bool:
    """Whether this is a dataclass instance whose class can be found again by its name."""
    if not dataclasses.is_dataclass(value) or isinstance(value, type):
        return False
    return _leads_to(qualified_name(type(value)), type(value))


def settings_in_place(value: object) -> Any:
    """The settings that say the same as an object, from its ``as_config()``; None where there are none."""
    as_config = getattr(value, "as_config", None)
    return as_config() if callable(as_config) and not isinstance(value, type) else None


def _leads_to(name: str, found: object) -> bool:
    if name.startswith("__main__."):  # what a script defines, no other process finds
        return False
    try:
        return resolve_target(name) is found
    except InvalidSpecificationError:
        return False
