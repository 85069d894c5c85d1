"""Python values as configuration trees, and the typed objects that trees describe.

*Describing*: what can be written down is, the rest is recorded by name. A config dataclass becomes a node (``_target_``
and its fields), or the fields alone where a field admits only that class. An object with ``as_config()`` is written as
the settings or the node that this gives, and a network class that can be imported as a node. Anything else that is not
data (a function, a module, recorded episodes) stays a live object: it is put into ``live`` under its path, and the tree
gets ``{"_opaque_": name}``.

*Building*: every problem is found on the way, not only the first. A node whose ``_target_`` is a config dataclass is
validated and built. Any other class or function is *called* when it stands at the top (a wrapper) and handed on as
``functools.partial`` when it is part of another node (a network, which is called later with its shapes). Building also
gives the *normal form* of the tree: canonical names, every default, validated values (1 becomes 1.0 in a float field,
0 becomes null where 0 means "off").
"""

import dataclasses
import functools
import inspect
import math
import os
import re
from collections.abc import Callable, Mapping
from enum import Enum
from typing import Any, NamedTuple

import numpy as np

from maze_core.config.components import PLACES, in_our_words, qualified_name, target_name
from maze_core.config.nodes import OPAQUE, TARGET, is_node, join, shown
from maze_core.config.targets import (
    field_types,
    gym_wrapper_problem,
    is_description,
    item_type,
    only_type,
    parameters_of,
    resolve_target,
)
from maze_core.config.validation import argument_problems, checked, says_mistakes
from maze_core.config.words import unknown_word
from maze_core.errors import USER_CODE_ERRORS, InvalidSpecificationError, Problem, ProblemList

_MAX_DEPTH = 64


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
        if declared is Any and path.startswith("env.") and _arrives_changed(value):
            message = (
                f"is a {type(value).__name__}, of which the environment would get what JSON has: give plain "
                "values (its tolist(), value or text), or make the environment in a function, env=lambda: …."
            )
            self.problems.add(path, message, code="wrong_type")
            return None
        if isinstance(value, (Enum, os.PathLike, np.ndarray)):
            return self.tree(_plainer(value), path)
        if isinstance(value, (int, float, str, np.integer, np.floating)):
            return self._scalar(value, path)
        if isinstance(value, Mapping):
            return self._mapping(value, path, declared)
        if _is_content(value):
            return self._live(value, path)
        if isinstance(value, (list, tuple)):
            item = item_type(declared)
            return [self.tree(child, join(path, index), item) for index, child in enumerate(value)]
        return self._object(value, path, declared)

    def _scalar(self, value: Any, path: str) -> Any:
        if isinstance(value, str):
            return str(value)
        if isinstance(value, (int, np.integer)):
            return int(value)
        if not math.isfinite(value):
            self.problems.add(path, f"is {float(value)}, which is not a finite number.", code="not_finite")
        return float(value)

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
            if (_NETWORK.search(path) or _ENV_WRAPPER.fullmatch(path)) and _leads_to(
                qualified_name(value), value
            ):
                return {TARGET: target_name(value)}
        elif (settings := settings_in_place(value)) is not None:
            return self.tree(settings, path, declared)
        return self._live(value, path)

    def _live(self, value: object, path: str) -> Any:
        if id(value) in self._known:
            return self._known[id(value)]
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


def _arrives_changed(value: object) -> bool:
    """Whether an argument would reach an environment as something else; that tuples come as lists is documented."""
    is_named_tuple = isinstance(value, tuple) and hasattr(value, "_fields")
    return is_named_tuple or isinstance(value, (Enum, os.PathLike, np.ndarray))


def _plainer(value: "Enum | os.PathLike[Any] | np.ndarray[Any, Any]") -> Any:
    if isinstance(value, Enum):
        return value.value
    return value.tolist() if isinstance(value, np.ndarray) else os.fspath(value)


def _is_content(value: object) -> bool:
    """Whether this is content that a digest stands for, such as a checkpoint, or a list of it."""
    items = value if isinstance(value, (list, tuple)) else [value]
    return bool(items) and all(hasattr(type(item), "content_sha256") for item in items)


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


COMPOSER_ARGUMENTS = (
    "observation_spaces_dict",
    "action_spaces_dict",
    "agent_counts_dict",
    "distribution_mapper",
)
"""Handed to composers and model functions, as far as they have parameters for them."""
POLICY_NETWORK_ARGUMENTS = ("obs_shapes", "action_logits_shapes")
"""Handed to the networks of a policy: name → shape, action head → shape of its logits."""
CRITIC_NETWORK_ARGUMENTS = ("obs_shapes",)
"""Handed to the networks of a critic."""

_COMPOSER = re.compile(r"model(\.policy|\.critic)?")
_NETWORK = re.compile(r"model\.(policy|critic)\.networks\.[^.]+")
_ENV_WRAPPER = re.compile(r"env\.wrappers\.[^.]+")


def late_call_problem(target: object, given: Mapping[str, object], path: str) -> Problem | None:
    """Why calling ``target`` with ``given`` and with what belongs to ``path`` would fail; None where it would not.

    Args:
        target: a class or function.
        given: the arguments that the configuration gives.
        path: where it stands; places that are not called later have no problem.
    """
    if not (isinstance(target, type) or inspect.isroutine(target)):
        return None
    try:
        signature = inspect.signature(target)
    except (TypeError, ValueError):  # it does not tell its parameters
        return None
    handed, first = _handed(signature, path), (None,) * bool(_ENV_WRAPPER.fullmatch(path))
    if handed is None:
        return None
    try:
        signature.bind(*first, **{**dict.fromkeys(handed), **given})
    except TypeError as error:
        name = getattr(target, "__name__", "It")
        way_out = f" Give a function that calls it: env=lambda: {name}(…)." if path == "env.factory" else ""
        given_too = f" with {' and '.join(handed)}" if handed else " with an environment" if first else ""
        message = f"{name} cannot be called{given_too}: {error}.{way_out}"
        return Problem(path=path, message=message, code="signature")
    return None


def _handed(signature: inspect.Signature, path: str) -> tuple[str, ...] | None:
    if path in ("env", "env.factory") or _ENV_WRAPPER.fullmatch(path):
        return ()
    if network := _NETWORK.fullmatch(path):
        return POLICY_NETWORK_ARGUMENTS if network[1] == "policy" else CRITIC_NETWORK_ARGUMENTS
    if _COMPOSER.fullmatch(path):
        takes_all = any(p.kind is p.VAR_KEYWORD for p in signature.parameters.values())
        return tuple(name for name in COMPOSER_ARGUMENTS if takes_all or name in signature.parameters)
    return None


_MOST_SUGGESTIONS = 32
_MADE_COMPOSERS = ("model.policy", "model.critic")
"""Where a class given as an object is called by nobody, as its field says."""


class Built(NamedTuple):
    """An object and the normal form of the tree it was built from."""

    value: Any
    tree: Any


def instantiate(
    node: Any, path: str = "", objects: Mapping[str, object] | None = None, *, call: bool = True
) -> Any:
    """Build what a tree describes.

    Args:
        node: a node, or lists and dicts of nodes and plain values.
        path: where the node stands, for messages and for ``objects``.
        objects: live objects by path, used instead of what the tree has there.
        call: call a function or class that is no config dataclass; False gives it as ``functools.partial``.

    Raises:
        InvalidSpecificationError: with every problem in the tree.
    """
    if not objects and (made := _made_straight(node)) is not None:
        return made
    builder = Builder(objects or {})
    built = builder.build(node, path, nested=not call)
    builder.problems.raise_if_any()
    assert built is not None
    return built.value


_PLAIN = frozenset({bool, int, float, str, type(None)})


def _made_straight(node: Any) -> Any:
    """Settings of this library with plain values alone: they check themselves. None where more has to be looked at."""
    name = node.get(TARGET) if isinstance(node, Mapping) else None
    if not (isinstance(name, str) and name in PLACES):
        return None
    target = resolve_target(name)
    given = {key: value for key, value in node.items() if key != TARGET}
    for value in given.values():
        if not (type(value) in _PLAIN or (isinstance(value, list) and _PLAIN.issuperset(map(type, value)))):
            return None
    try:
        return target(**given) if says_mistakes(target) else None
    except (InvalidSpecificationError, TypeError):  # the builder says where
        return None


def _waits_for_spaces(target: Callable[..., Any], arguments: Mapping[str, Any]) -> bool:
    """Whether a composer of the user's still lacks arguments, which it is given with the environment's spaces."""
    try:
        inspect.signature(target).bind(**arguments)
    except TypeError:
        return True
    except ValueError:
        return False
    return False


class Builder:
    """Builds trees and collects their problems. One instance serves one specification."""

    def __init__(self, objects: Mapping[str, object]) -> None:
        """Take the live objects, by path."""
        self.problems = ProblemList()
        self._objects = objects
        self._trees: dict[int, Any] = {}
        self._kept: list[object] = []  # ids in _trees stay valid as long as their objects live

    def build(self, node: Any, path: str, *, nested: bool = False) -> Built | None:
        """The object and its normal tree; None when a problem was found."""
        if path in self._objects:
            if not (isinstance(self._objects[path], type) and path in _MADE_COMPOSERS):
                self._check_late_call(self._objects[path], {}, path)
            return self._keep(Built(self._objects[path], node))
        if isinstance(node, Mapping):
            if OPAQUE in node:
                message = f"was a live object, {node[OPAQUE]}; it has to be passed again."
                self.problems.add(path, message, code="live_object_missing")
                return None
            if is_node(node):
                return self._build_node(node, path, nested=nested)
            refuse_other_keys(node, path, self.problems)
        if not isinstance(node, (Mapping, list, tuple)):
            return Built(node, node)
        items = node.items() if isinstance(node, Mapping) else enumerate(node)
        children = {key: self.build(child, join(path, key), nested=nested) for key, child in items}
        good = {key: child for key, child in children.items() if child is not None}
        if len(good) < len(children):
            return None
        values, trees = {k: c.value for k, c in good.items()}, {str(k): c.tree for k, c in good.items()}
        return (
            Built(values, trees)
            if isinstance(node, Mapping)
            else Built([*values.values()], [*trees.values()])
        )

    def _build_node(self, node: Mapping[str, Any], path: str, *, nested: bool) -> Built | None:
        node = in_our_words(node)
        target = self._target(node, path)
        if target is None:
            return None
        if path.startswith("wrappers.") and (problem := gym_wrapper_problem(target, path)) is not None:
            self.problems.problems.append(problem)
            return None
        given = {str(key): child for key, child in node.items() if key != TARGET}
        before = len(self.problems.problems)
        self._take_nulls(target, given, path)
        unknown = self._unknown_keys(target, given, path)
        children = {
            key: self.build(child, join(path, key), nested=True)
            for key, child in given.items()
            if key not in unknown
        }
        failed = {key for key, child in children.items() if child is None}
        arguments = {key: child.value for key, child in children.items() if child is not None}
        value = self._checked(target, arguments, path, failed)
        if unknown or failed or len(self.problems.problems) > before:
            return None
        if is_description(target):
            tree = Describer(self._trees).tree(value, path)
        else:
            tree = {TARGET: target_name(target), **Describer(self._trees).tree(value, path)}
            value = self._called(target, value, path, nested=nested)
        return self._keep(Built(value, tree))

    def _target(self, node: Mapping[str, Any], path: str) -> Callable[..., Any] | None:
        name = node[TARGET]
        if not isinstance(name, str):
            self.problems.add(join(path, TARGET), f"{shown(name)} is no dotted name.", code="wrong_type")
            return None
        try:
            return resolve_target(name)
        except InvalidSpecificationError as error:
            problem = dataclasses.replace(error.problems[0], path=join(path, TARGET), code="unknown_target")
            self.problems.problems.append(problem)
            return None

    def _take_nulls(self, target: Callable[..., Any], given: dict[str, Any], path: str) -> None:
        """Take out what the published form of settings names and ours have no meaning for."""
        for key, reason in getattr(target, "ALWAYS_NULL", {}).items() if is_description(target) else ():
            if given.pop(key, None):
                self.problems.add(join(path, key), reason, code="contradiction")

    def _unknown_keys(self, target: Callable[..., Any], given: Mapping[str, Any], path: str) -> set[str]:
        known = parameters_of(target)
        unknown = set() if known is None else set(given).difference(known)
        for index, key in enumerate(sorted(unknown)):
            message = f"{qualified_name(target).rpartition('.')[2]} has no setting {shown(key)}."
            few = index < _MOST_SUGGESTIONS
            self.problems.problems.append(
                unknown_word(join(path, key), message, key, known or (), beside=given, is_suggested=few)
            )
        return unknown

    def _checked(
        self, target: Callable[..., Any], arguments: dict[str, Any], path: str, failed: set[str]
    ) -> Any:
        """The dataclass built, or the validated arguments of anything else."""
        value, found = checked(target, arguments, path)
        # what failed itself was reported there, and its absence may upset the others
        known = {join(path, key) for key in failed}
        self.problems.problems += [p for p in found if not failed or (p.path != path and p.path not in known)]
        return value

    def _called(
        self, target: Callable[..., Any], arguments: dict[str, Any], path: str, *, nested: bool
    ) -> Any:
        if nested or (path == "model" and _waits_for_spaces(target, arguments)):
            self._check_late_call(target, arguments, path)
            return functools.partial(target, **arguments)
        try:
            return target(**arguments)
        except USER_CODE_ERRORS as error:  # a constructor may raise anything
            self.problems.problems += argument_problems(error, target, arguments, path)
            return None

    def _check_late_call(self, target: object, arguments: Mapping[str, object], path: str) -> None:
        if (problem := late_call_problem(target, arguments, path)) is not None:
            self.problems.problems.append(problem)

    def _keep(self, built: Built) -> Built:
        if not isinstance(built.value, (type(None), bool, int, float, str)):
            self._kept.append(built.value)
            self._trees[id(built.value)] = built.tree
        return built
