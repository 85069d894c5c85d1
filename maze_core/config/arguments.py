"""What a caller gives for the groups, sorted out but not yet applied: module names, dicts, live objects."""

import dataclasses
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from os import PathLike
from pathlib import Path
from types import MappingProxyType
from typing import Any

from maze_core.config.components import qualified_name, with_our_keys
from maze_core.config.instantiate import Describer
from maze_core.config.modules import GROUPS, PRESET_GROUPS, ModuleIndex, parsed, unknown_name
from maze_core.config.nodes import OPAQUE, TARGET, is_node, is_within, join, opaque_parts, shown
from maze_core.config.overrides import DESTINATIONS
from maze_core.config.schema import CALLABLE_ENV, PARTS, SOURCES, Mode, wrapper_list
from maze_core.config.targets import gym_wrapper_problem
from maze_core.config.words import unknown_word
from maze_core.errors import InvalidSpecificationError, Problem, ProblemList

ROOTS: Mapping[Mode, str] = {"train": "conf_train", "rollout": "conf_rollout"}

TAKEN: Mapping[Mode, tuple[str, ...]] = {
    "train": (*GROUPS, *PRESET_GROUPS),
    "rollout": ("env", "wrappers", "policy", "model", "runner", "launcher", *PRESET_GROUPS),
}
"""The groups that a run takes."""
LAUNCHER_NEEDS_MULTIRUN = (
    "A launcher starts the jobs of a multirun; give multirun=True (maze-run --multirun), or leave it out."
)
_DESCRIBED_ONLY = ("algorithm", "runner")
_MAY_BE_CLASSES = ("env", "policy", "critic")
"""A class of environments makes them; classes of the other two are refused where their kind is checked."""


@dataclass
class Arguments:
    """The group arguments of one specification."""

    choices: dict[str, str] = field(default_factory=dict)
    """Group → module name."""
    values: dict[str, Any] = field(default_factory=dict)
    """Path in the tree → tree given by a dict or object, parents before children."""
    objects: dict[str, object] = field(default_factory=dict)
    """Path → live object."""
    live: dict[str, str] = field(default_factory=dict)
    """Path of every object given → how to name it in a message; nothing may be set below."""
    failed: set[str] = field(default_factory=set)
    """Paths whose argument has a problem."""


def sorted_arguments(
    given: Mapping[str, Any], mode: Mode, index: ModuleIndex, found: ProblemList
) -> Arguments:
    """Sort the arguments that are not None; every problem is noted."""
    arguments = Arguments()
    for group, value in given.items():
        if value is None:
            continue
        before = len(found.problems)
        if group not in TAKEN[mode]:
            message = f"{group} has no meaning in a {mode} run."
            found.add(group, message, code="wrong_mode", allowed=TAKEN[mode])
        elif isinstance(value, str):
            _take_name(arguments, group, value, mode, index, found)
        elif group == "launcher":
            found.add(group, LAUNCHER_NEEDS_MULTIRUN, code="needs_multirun")
        elif group in PRESET_GROUPS:
            found.add(group, f"takes the name of a module, not {shown(value)}.", code="wrong_type")
        else:
            _take_value(arguments, group, value, DESTINATIONS[mode].get(group, group), found)
        if len(found.problems) > before:
            arguments.failed.add(DESTINATIONS[mode].get(group, group))
    _refuse_children_of_objects(arguments, found)
    _refuse_other_trainer(given, arguments, found)
    return arguments


def recorded_arguments(recorded: Any, beside: Mapping[str, Any] = MappingProxyType({})) -> dict[str, Any]:
    """The arguments of :func:`~maze_core.config.compose.compose_run` that give a resolved configuration again.

    Args:
        recorded: a resolved configuration, what ``config.yaml`` or the service say of one, or the path of a file with
            either. Not changed.
        beside: arguments that replace its parts, and ``overrides`` that replace its values.

    Raises:
        InvalidSpecificationError: it is no configuration; or it names a live object that is not in ``beside``.
    """
    tree = read_recorded(recorded)
    if isinstance(tree, Mapping) and isinstance(tree.get("config"), Mapping):
        tree = tree["config"]
    found = ProblemList()
    known = dict.fromkeys(name for parts in PARTS.values() for name in parts)
    if not isinstance(tree, Mapping) or not ("algorithm" in tree or "policy" in tree):
        message = (
            f"takes a resolved configuration, as rc.config or config.yaml has it, not {shown(recorded)}: "
            "it needs an algorithm (or a policy, to play)."
        )
        found.add("config", message, code="wrong_type")
        found.raise_if_any()
    for name in tree:
        if name not in known:
            message = f"{shown(name)} is no part of a configuration."
            found.problems.append(unknown_word(str(name), message, name, known))
    for name in [group for group in PRESET_GROUPS if beside.get(group) is not None]:
        message = "chooses values that a resolved configuration has already; give overrides, or leave one of them out."
        found.add(name, message, code="contradiction")
    taken = TAKEN["train" if "algorithm" in tree else "rollout"]
    given = {name: value for name, value in beside.items() if value is not None}
    parts = {name: tree[name] for name in taken if tree.get(name) is not None and name not in given}
    if isinstance(env := parts.get("env"), Mapping) and env.get("vectorization") == "builtin":
        parts["env"] = {**env, "vectorization": "auto"}  # other values may be given beside it
    if "policy" in parts:  # a model beside it would be trained
        parts.pop("model", None)
    overrides = given.get("overrides") or {}
    sources = {name: _items_of(tree, name) for name in SOURCES if f"{name}.run" not in overrides}
    for path, name in opaque_parts({**parts, **{key: dict(items) for key, items in sources.items()}}).items():
        again = path if path.partition(".")[0] in SOURCES else path.partition(".")[0]
        message = f"was a live object, {name}, which no configuration describes; pass {again} again."
        found.add(path, message, code="live_object_missing")
    found.raise_if_any()
    seeds = {} if "seed" in given else {f"seeding.{name}": seed for name, seed in _items_of(tree, "seeding")}
    named = {f"project.{name}": value for name, value in _items_of(tree, "project")}
    elsewhere = {
        f"{part}.{name}": value for part, items in sources.items() for name, value in items if name != TARGET
    }
    return {**parts, **given, "overrides": {**seeds, **named, **elsewhere, **overrides}}


def _items_of(tree: Mapping[str, Any], part: str) -> list[tuple[str, Any]]:
    values = tree.get(part)
    return [item for item in values.items() if item[1] is not None] if isinstance(values, Mapping) else []


def read_recorded(recorded: Any) -> Any:
    """A resolved configuration, of the file where a path is given.

    Raises:
        InvalidSpecificationError: the file cannot be read.
    """
    if not isinstance(recorded, (str, PathLike)):
        return getattr(recorded, "tree", recorded)  # of a RunConfig
    try:
        return parsed(Path(recorded).read_text(encoding="utf-8"))
    except Exception as error:  # of the file, of its text or of YAML
        reason = (str(error).strip().splitlines() or [type(error).__name__])[0]
        message = f"{shown(str(recorded))} cannot be read: {reason}."
        raise InvalidSpecificationError(
            [Problem(path="config", message=message, code="unreadable")]
        ) from error


def refuse_below_object(arguments: Arguments, path: str, name: str, found: ProblemList) -> bool:
    """Note a problem, and say so, when ``path`` lies within a live object that was given."""
    for parent, description in arguments.live.items():
        if is_within(path, parent):
            found.add(
                path,
                f"{name} contradicts {description}, which is complete. Change the object, or give a dict.",
                code="contradiction",
            )
            return True
    return False


def given_class(value: type) -> str:
    """What to do about a class that was given in place of one of its instances."""
    name = value.__name__
    return f"{name} is a class; give an instance: {name}(…)."


def argument_of(path: str, arguments: Arguments, mode: Mode) -> str | None:
    """The argument that gives exactly what stands at ``path``, in words; None where none does."""
    if path not in arguments.values:
        return None
    names = {destination: group for group, destination in DESTINATIONS[mode].items()}
    return f"the argument {names.get(path, path)}=…"


def _take_name(
    arguments: Arguments, group: str, name: str, mode: Mode, index: ModuleIndex, found: ProblemList
) -> None:
    if group == "policy" and mode == "train":
        found.add(
            "policy",
            "Policy modules are for rollouts; to train, give a dict or a composer, or choose a model.",
            code="wrong_mode",
        )
    elif "," in name:
        message = "Several modules are several runs; give multirun=True (maze-run --multirun)."
        found.add(group, message, code="needs_multirun")
    elif name not in index.files.get(group, {}):
        found.problems.append(unknown_name(f"{group} module", name, index.names(group), path=group))
    else:
        arguments.choices[group] = name


def _take_value(arguments: Arguments, group: str, value: Any, path: str, found: ProblemList) -> None:
    describer = Describer()
    if group == "wrappers":
        tree = _wrappers(arguments, value, describer, found)
    elif isinstance(value, Mapping):
        tree = describer.tree(with_our_keys(path, value), path)
    elif isinstance(value, (bool, int, float, bytes, list, tuple, set)):
        found.add(group, f"takes a module name, a dict or an object, not {shown(value)}.", code="wrong_type")
        return
    else:
        tree = _object(arguments, group, value, path, describer, found)
    found.problems.extend(describer.problems.problems)
    arguments.values[path] = tree
    arguments.objects.update(describer.live)


def _object(
    arguments: Arguments, group: str, value: Any, path: str, describer: Describer, found: ProblemList
) -> Any:
    arguments.live[path] = f"argument {group!r}, a live {qualified_name(value).rpartition('.')[2]}"
    if dataclasses.is_dataclass(value) and not isinstance(value, type):
        return describer.tree(value, path)
    if isinstance(value, type) and (group not in _MAY_BE_CLASSES or _is_description(value)):
        found.add(group, given_class(value), code="wrong_type")
        return None
    if group == "env":
        return _callable_env(value, path, describer, found)
    if group in _DESCRIBED_ONLY:
        found.add(group, f"takes a config dataclass, not a {qualified_name(value)}.", code="wrong_type")
    return describer.tree(value, path)


def _callable_env(
    value: Callable[[], Any] | object, path: str, describer: Describer, found: ProblemList
) -> Any:
    if _is_description(value):  # that is no dataclass
        return describer.tree(value, path)
    if not callable(value):
        found.add(
            "env",
            f"A {qualified_name(value)} is an environment in instantiated form; give a function that makes "
            "one: env=lambda: …",
            code="wrong_type",
        )
        return None
    return {TARGET: CALLABLE_ENV, "factory": describer.tree(value, join(path, "factory"))}


def _is_description(value: object) -> bool:
    """Whether this describes an environment, or is a class of such descriptions."""
    return hasattr(value, "make") and hasattr(value, "vector")


def _wrappers(arguments: Arguments, value: Any, describer: Describer, found: ProblemList) -> list[Any]:
    given = wrapper_list(value if isinstance(value, (Mapping, list, tuple)) else [value])
    nodes: list[Any] = []
    for index, item in enumerate(given):
        path = join("wrappers", index)
        if isinstance(item, type):
            message = given_class(item)
            found.problems.append(
                gym_wrapper_problem(item, path) or Problem(path=path, message=message, code="wrong_type")
            )
            continue
        node = describer.tree(item, path)
        if not isinstance(item, Mapping):
            arguments.live[path] = f"argument 'wrappers', a live {qualified_name(item).rpartition('.')[2]}"
        if not (is_node(node) or (isinstance(node, Mapping) and OPAQUE in node)):
            found.add(
                path, f"takes a wrapper or a dict with {TARGET!r}, not {shown(item)}.", code="wrong_type"
            )
        nodes.append(node)
    return nodes


def _refuse_other_trainer(given: Mapping[str, Any], arguments: Arguments, found: ProblemList) -> None:
    """A published runner names its trainer, which has to be that of the algorithm."""
    runner, algorithm = given.get("runner"), arguments.values.get("algorithm")
    if not (isinstance(runner, Mapping) and runner.get("trainer_class")):
        return
    named = runner["trainer_class"]
    trainer = getattr(named, "__name__", str(named)).rpartition(".")[2]
    other = algorithm[TARGET] if is_node(algorithm) else arguments.choices.get("algorithm", "ppo")
    if not str(other).rpartition(".")[2].lower().startswith(trainer.lower()):
        message = (
            f"is the runner of {trainer}, and the algorithm is {other}; give algorithm={trainer.lower()!r}."
        )
        found.add("runner", message, code="contradiction")


def _refuse_children_of_objects(arguments: Arguments, found: ProblemList) -> None:
    for path in arguments.values:
        parent = path.rpartition(".")[0]
        if parent and refuse_below_object(arguments, parent, f"argument {path.rpartition('.')[2]!r}", found):
            arguments.failed.add(path)
    if "critic" in arguments.choices and refuse_below_object(arguments, "model", "argument 'critic'", found):
        arguments.failed.add("model.critic")
