"""What ``configuration`` and ``experiment`` say beside the modules, and what of it cannot be.

A configuration such as ``test`` brings small settings for the component that learns or plays:
``algorithm_configuration/<module>-test.yaml`` when training, ``runner_configuration/<module>-test.yaml`` otherwise.
Hydra loads the file of the chosen module. Where that has none, or where a dict names another component, the file of
the module with that component is taken. What a configuration cannot make small is a problem, never left as it was.
"""

import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from maze_core.config.arguments import ROOTS, TAKEN, Arguments
from maze_core.config.components import canonical_target, target_name
from maze_core.config.modules import (
    GROUPS,
    PRESET_GROUPS,
    ModuleIndex,
    composition,
    conf_root,
    module_of,
)
from maze_core.config.nodes import TARGET, is_node, part_at, shown
from maze_core.config.overrides import merged
from maze_core.config.schema import PARTS, Mode
from maze_core.config.targets import resolve_target, settings_of
from maze_core.config.words import unknown_word
from maze_core.errors import InvalidSpecificationError, ProblemList
from maze_core.types import Tree

MULTIRUN_PARTS = ("launcher", "sweep")
"""Keys of a composed tree that belong to a multirun as a whole, and to none of its jobs."""

_SUBJECT: Mapping[Mode, str] = {"train": "algorithm", "rollout": "runner"}
"""The group whose module says which small settings are loaded."""
_GLOBAL = re.compile(r"^#\s*@package\s+_global_\s*$", re.MULTILINE)
_CHOICE = re.compile(r"(?:override\s+)?/?(\w+)")


@dataclass
class Composed:
    """The modules' values, and what the configuration said among them."""

    tree: Tree
    """Interpolations are unresolved."""
    small: Tree = field(default_factory=dict)
    """The part of the tree that comes from the configuration."""
    choices: Mapping[str, str] = field(default_factory=dict)
    """Group → module of which the tree is composed."""
    configuration: str | None = None
    """The configuration, whoever chose it."""

    def below(self, path: str, given: Any, current: Any) -> Any:
        """What a dict given for ``path`` is merged onto.

        Args:
            path: such as ``algorithm``.
            given: the dict.
            current: what the tree has there.

        Returns:
            ``current``; or the configuration's values alone, where the dict names another component.
        """
        if not (is_node(given) and is_node(current)) or _component(given) == _component(current):
            return current
        small = part_at(self.small, path)
        if not isinstance(small, Mapping):
            return current
        known = settings_of(str(given[TARGET]))
        kept = {key: value for key, value in small.items() if known is None or key in known}
        return {**kept, TARGET: given[TARGET]}


def composed(mode: Mode, arguments: Arguments, index: ModuleIndex, found: ProblemList) -> Composed:
    """The tree of the chosen modules, with the small settings that a configuration asks for; problems are noted.

    Raises:
        InvalidSpecificationError: the modules do not compose.
    """
    choices = dict(arguments.choices)
    experiment = choices.get("experiment")
    if experiment is not None and not choices_fit(experiment, mode, index, found):
        del choices["experiment"]
    root = ROOTS[mode]
    tree, modules = composition(root, choices, index)
    configuration = modules.get("configuration")
    if configuration is None:
        _refuse_unknown_parts(tree, mode, modules, index, found)
        return Composed(tree, choices=choices)
    twin, group = _twin(mode, arguments, tree, modules, index), f"{_SUBJECT[mode]}_configuration"
    if twin is not None and twin != modules.get(group):
        choices[group] = twin
        tree, modules = composition(root, choices, index)
    small = _global_values("configuration", configuration, index)
    if twin is not None:
        small = merged(small, _global_values(group, twin, index))
    elif any(name.endswith(f"-{configuration}") for name in index.names(group)):  # but not for this one
        small = {_SUBJECT[mode]: {}, **small}
        _refuse_missing_twin(mode, arguments, tree, configuration, found)
    _refuse_objects(arguments, small, configuration, found)
    _refuse_unknown_parts(tree, mode, modules, index, found)
    return Composed(tree, small, choices, configuration)


def choices_fit(experiment: str, mode: Mode, index: ModuleIndex, found: ProblemList) -> bool:
    """Whether an experiment chooses only modules that this mode has; a problem is noted where it does not."""
    config = module_of(index, "experiment", experiment)["config"]
    defaults = config.get("defaults") if isinstance(config, Mapping) else None
    fits = True
    for entry in defaults if isinstance(defaults, list) else ():
        for key, module in entry.items() if isinstance(entry, Mapping) else ():
            group = _CHOICE.fullmatch(str(key))
            if group is not None and group[1] in GROUPS and group[1] not in TAKEN[mode]:
                message = (
                    f"The experiment {experiment!r} chooses {group[1]}={module}, and a {mode} run has no {group[1]}. "
                    f"{_WAY_OUT[mode]}"
                )
                found.add("experiment", message, code="wrong_mode")
                fits = False
    return fits


_WAY_OUT: Mapping[Mode, str] = {
    "train": "Leave the experiment out, or play with it: policy='random_policy'.",
    "rollout": "Leave the experiment out, or train with it: no rollout policy and no rollout runner.",
}


def _twin(
    mode: Mode, arguments: Arguments, tree: Tree, modules: Mapping[str, str | None], index: ModuleIndex
) -> str | None:
    """The file with the small settings of the component that this run has; None where there is none."""
    subject, configuration = _SUBJECT[mode], modules["configuration"]
    files = index.files.get(f"{subject}_configuration", {})
    given, current = arguments.values.get(subject), tree.get(subject)
    own = f"{modules.get(subject)}-{configuration}"
    component = _component(given) or _component(current)
    if own in files and component == _component(current):
        return own
    if component is None:
        return None
    named = [name for name in index.names(subject) if f"{name}-{configuration}" in files]
    named.sort(key=lambda name: not index.files[subject][name].is_relative_to(conf_root()))
    modules_of = {_component(module_of(index, subject, name)["config"]): name for name in reversed(named)}
    alike = [modules_of[base] for base in _lineage(component) if base in modules_of]
    return f"{alike[0]}-{configuration}" if alike else None


def _component(node: Any) -> str | None:
    return canonical_target(str(node[TARGET])) if is_node(node) else None


def _lineage(component: str) -> list[str]:
    """A component and those that its class extends, by name."""
    try:
        target = resolve_target(component)
    except InvalidSpecificationError:  # is said where the component is built
        return [component]
    return [component, *(target_name(base) for base in getattr(target, "__mro__", ()))]


def _refuse_missing_twin(
    mode: Mode, arguments: Arguments, tree: Tree, configuration: str, found: ProblemList
) -> None:
    """A configuration that has small settings for other components must not leave this one as it is."""
    subject = _SUBJECT[mode]
    if subject in arguments.live or subject in arguments.failed:
        return
    component = _component(arguments.values.get(subject)) or _component(tree.get(subject))
    message = (
        f"{configuration!r} has no small settings for {shown(component)}. Leave it out and give the values yourself, "
        f"or add {subject}_configuration/<module>-{configuration}.yaml to a directory of your own (config_dirs)."
    )
    found.add("configuration", message, code="no_small_settings")


def _refuse_objects(arguments: Arguments, small: Tree, configuration: str, found: ProblemList) -> None:
    """An object is complete, so small settings for what it stands for have no place."""
    for path, description in arguments.live.items():
        if part_at(small, path) is not None:
            message = (
                f"configuration={configuration!r} contradicts {description}, which is complete. Give a module name or "
                "a dict, or leave configuration out and make the object small yourself."
            )
            found.add(path, message, code="contradiction")


def _refuse_unknown_parts(
    tree: Tree,
    mode: Mode,
    modules: Mapping[str, str | None],
    index: ModuleIndex,
    found: ProblemList,
) -> None:
    """Take out the sections that no run has: each is a mistake of the file it stands in."""
    known = (*PARTS[mode], *MULTIRUN_PARTS)
    for name in [part for part in tree if part not in known]:
        if tree.pop(name) in (None, {}):
            continue
        if name in PRESET_GROUPS or name.endswith("_configuration"):
            message = (
                f"The {name} {modules.get(name)!r} sets values at no part of the run: "
                "its file has to begin with '# @package _global_'."
            )
            found.add(name, message, code="unknown_key")
            continue
        said = _origin(name, modules, index)
        message = f"{said} sets {shown(name)}, which is no part of a {mode} run."
        found.problems.append(unknown_word(name, message, name, PARTS[mode]))


def _origin(part: str, modules: Mapping[str, str | None], index: ModuleIndex) -> str:
    """The file that has a section, in words."""
    for group, name in modules.items():
        if name is not None and name in index.files.get(group, {}):
            config = module_of(index, group, name)["config"]
            if isinstance(config, Mapping) and part in config and group not in GROUPS:
                return f"The {group} {name!r}"
    return "A module"


def _global_values(group: str, name: str, index: ModuleIndex) -> Tree:
    """What a file says of the run as a whole."""
    module = module_of(index, group, name)
    config = module["config"]
    if not (isinstance(config, Mapping) and _GLOBAL.search(module["yaml"])):
        return {}
    return {str(key): value for key, value in config.items() if key != "defaults"}
