"""What an HTTP client may say. Python and the command line are trusted; HTTP is not.

Two checks, one on each side of the composition: :func:`check_arguments` reads what the client sent, before
any file is opened or anything imported; :func:`check_tree` reads the resolved tree, and reads it again in
the process that builds it. A component is named exactly or not at all: the name is translated by the alias
table, looked up in the allow list, and only then is it imported, and its own qualified name must be on the
list too.
"""

import contextlib
import dataclasses
import inspect
import os
import re
import typing
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import lru_cache
from pathlib import PurePath
from types import ModuleType
from typing import Any

from maze_core.config.components import PUBLIC_TARGETS, canonical_target, target_name
from maze_core.config.environments import (
    env_kwargs_of_modules,
    extra_of,
    open_kwargs,
    wrapper_kwargs_of_modules,
)
from maze_core.config.instantiate import Describer
from maze_core.config.modules import (
    GROUPS,
    MODULE_NAME,
    PRESET_GROUPS,
    Directories,
    config_module,
    module_index,
)
from maze_core.config.nodes import OPAQUE, TARGET, is_node, join, parts_in, shown
from maze_core.config.plain_values import MOST_PROBLEMS, Dicts, Limits, plain_dicts
from maze_core.config.schema import BUDGETS, COMPARED, PARTS, SOURCES
from maze_core.config.settings import OPERATOR_ONLY
from maze_core.config.targets import field_types, is_description, resolve_target
from maze_core.config.words import closest, unknown_word
from maze_core.errors import InvalidSpecificationError, ProblemList
from maze_core.types import Tree

_CLOSED_TYPES = (PurePath, os.PathLike, ModuleType, type)


@lru_cache(maxsize=256)
def closed_fields(target: Callable[..., Any]) -> dict[str, Any]:
    """Closed field of a config dataclass → its default, the one value it may have."""
    if not is_description(target):
        return {}
    types = field_types(target)
    return {
        field.name: None if field.default is dataclasses.MISSING else field.default
        for field in dataclasses.fields(target)  # type: ignore[arg-type]
        if field.init and is_closed(types[field.name])
    }


def is_closed(annotation: Any) -> bool:
    """Whether a type admits a path, a callable, a class or a module, or is marked."""
    if annotation is OPERATOR_ONLY or annotation is Callable or annotation is typing.Callable:
        return True
    origin = typing.get_origin(annotation)
    if origin is not None:
        return is_closed(origin) or any(is_closed(part) for part in typing.get_args(annotation))
    return isinstance(annotation, type) and issubclass(annotation, _CLOSED_TYPES)


HTTP_ARGUMENTS = (
    "env",
    "wrappers",
    "algorithm",
    "model",
    "policy",
    "critic",
    "runner",
    "experiment",
    "configuration",
    "overrides",
    "seed",
    *BUDGETS,
)
"""The arguments of a run that HTTP takes; none of them names a path, a launcher or a Python module."""

_FRACTIONAL = ("max_wall_s", "target_return")

RUN_ID = "run_[0-9a-z]{1,40}"
"""The pattern of a run's id, which is all that a client says of where something lies."""
_SOURCE = rf"{RUN_ID}|[A-Za-z0-9_.-]{{1,64}}[@:][A-Za-z0-9_.-]{{1,64}}"
"""The same, or a policy that the service knows by a name: ``name@alias`` or ``name:3``."""
ENV_ID = re.compile(r"[A-Za-z0-9_][A-Za-z0-9_./-]*")
_RUNS = tuple(join(name, "run") for name in SOURCES)
_GYM_ENVS = tuple(
    map(
        canonical_target,
        ("GymEnvConfig", "GymTextEnvConfig", "LegacyGymEnvConfig", "PettingZooEnvConfig"),
    )
)


@dataclass(frozen=True)
class TrustPolicy:
    """What clients of one service may name."""

    targets: frozenset[str]
    """Canonical names of components, exact."""
    env_ids: frozenset[str] | None = None
    """Environment ids; None allows every registered one."""
    env_ids_are_complete: bool = True
    """False while a worker has still to say which environments it has."""
    env_kwargs: Mapping[str, frozenset[str]] = field(default_factory=dict)
    """Environment id → arguments that modules name, open beside those of :func:`open_kwargs`."""
    wrapper_kwargs: Mapping[str, frozenset[str]] = field(default_factory=dict)
    """Wrapper inside an environment → the arguments that may be given to it."""
    limits: Limits = field(default_factory=Limits)
    """Sizes and ceilings."""


def trust_policy(extra: Sequence[str] = (), config_dirs: Sequence[str] = ()) -> TrustPolicy:
    """The policy of a service: built-in components, those of the operator's modules, and ``extra``; any environment.

    Made anew when a file of the operator's changes; the built-in ones belong to the installed package.
    """
    fingerprint = module_index(config_dirs).fingerprint if config_dirs else ()
    return _trust_policy(tuple(extra), tuple(config_dirs), fingerprint)


@lru_cache(maxsize=4)
def _trust_policy(extra: tuple[str, ...], config_dirs: tuple[str, ...], _fingerprint: object) -> TrustPolicy:
    targets = frozenset(entry["target"] for entry in allowed_targets(extra, config_dirs))
    return TrustPolicy(
        targets=targets,
        env_kwargs=env_kwargs_of_modules(config_dirs),
        wrapper_kwargs=wrapper_kwargs_of_modules(config_dirs),
    )


def allowed_targets(extra: Sequence[str] = (), config_dirs: Directories = ()) -> list[dict[str, str]]:
    """The exact allow list, sorted: each ``target`` with its ``source``.

    Args:
        extra: names that the operator adds.
        config_dirs: the operator's directories; what their modules name is allowed.
    """
    sources = {canonical_target(name): "settings" for name in extra}
    index = module_index(config_dirs)
    for group in (*GROUPS, *PRESET_GROUPS):
        for name in index.names(group):
            for target in _named_targets(config_module(group, name, config_dirs)["config"], group):
                sources.setdefault(canonical_target(target), f"conf/{group}/{name}.yaml")
    for target in PUBLIC_TARGETS:
        sources.setdefault(target, "built in")
    return [{"target": target, "source": sources[target]} for target in sorted(sources)]


def check_arguments(arguments: Mapping[str, Any], policy: TrustPolicy) -> None:
    """Check what a client sent for :func:`compose_run`, without importing or opening anything it names.

    Raises:
        InvalidSpecificationError: with every problem found.
    """
    found = ProblemList()
    if (dicts := plain_dicts(arguments, policy.limits, found)) is not None:
        for name, value in arguments.items():
            _check_argument(str(name), value, policy, found)
        _check_targets(dicts, policy, found)
        _check_values(dicts, policy, found)
    found.raise_if_any()


def check_tree(tree: Tree, policy: TrustPolicy) -> None:
    """Check a resolved configuration before anything in it is built.

    Raises:
        InvalidSpecificationError: with every problem found.
    """
    found = ProblemList()
    if (dicts := plain_dicts(tree, policy.limits, found, _granted(tree, policy))) is not None:
        parts = {*PARTS["train"], *PARTS["rollout"], COMPARED}
        for name in tree:
            if name not in parts:
                found.add(name, "is no part of a configuration.", code="unknown_key")
        _check_targets(dicts, policy, found)
        found.raise_if_any()
        for path, node in dicts:
            if TARGET in node:
                _check_component(node, path, policy, found)
        _check_values(dicts, policy, found)
    found.raise_if_any()


def check_names(tree: Tree, policy: TrustPolicy) -> None:
    """Check that every component a stored configuration names is on the list, without importing any.

    Raises:
        InvalidSpecificationError: with every problem found.
    """
    found = ProblemList()
    if (dicts := plain_dicts(tree, policy.limits, found, _granted(tree, policy))) is not None:
        _check_targets(dicts, policy, found)
    found.raise_if_any()


def _granted(tree: Tree, policy: TrustPolicy) -> list[str]:
    """Where arguments stand that may be called as nothing else may, since modules have to name them."""
    env = tree.get("env")
    name = env.get("name") if isinstance(env, Mapping) else None
    return ["env.wrappers", *(f"env.kwargs.{key}" for key in policy.env_kwargs.get(str(name), ()))]


def _check_argument(name: str, value: Any, policy: TrustPolicy, found: ProblemList) -> None:
    if name not in HTTP_ARGUMENTS:
        message = f"There is no argument {shown(name)} here."
        found.problems.append(unknown_word(name, message, name, HTTP_ARGUMENTS))
    elif value is None:
        return
    elif name == "overrides":
        _check_overrides(value, policy, found)
    elif name in ("seed", *BUDGETS):
        kind, what = (int | float, "number") if name in _FRACTIONAL else (int, "whole number")
        if isinstance(value, bool) or not isinstance(value, kind):
            found.add(name, f"{shown(value)} is not a {what}.", code="wrong_type")
    elif isinstance(value, str):
        if not MODULE_NAME.fullmatch(value):
            found.add(name, f"{shown(value)} is not the name of a module.", code="unknown_module")
    elif name in PRESET_GROUPS:
        found.add(name, f"takes the name of a module, not {shown(value)}.", code="wrong_type")
    elif not isinstance(value, Mapping) and not (name == "wrappers" and isinstance(value, list)):
        found.add(name, f"takes the name of a module or an object, not {shown(value)}.", code="wrong_type")


def _check_overrides(value: Any, policy: TrustPolicy, found: ProblemList) -> None:
    if not isinstance(value, Mapping):
        found.add("overrides", f"takes an object of dotted keys, not {shown(value)}.", code="wrong_type")
    elif len(value) > policy.limits.override_keys:
        message = f"has {len(value)} keys; {policy.limits.override_keys} are the limit."
        found.add("overrides", message, code="too_large")


def _check_targets(dicts: Dicts, policy: TrustPolicy, found: ProblemList) -> None:
    """Refuse every named component that is not on the list; bounded by the checks before."""
    allowed = policy.targets
    for path, node in dicts:
        for key, child in node.items():
            if key == OPAQUE:
                found.add(join(path, key), "A live object cannot be named here.", code="reserved_key")
            elif str(key).rpartition(".")[2] == TARGET:
                if not (isinstance(child, str) and (child in allowed or canonical_target(child) in allowed)):
                    _refuse_name(child, key if path == "overrides" else join(path, key), policy, found)
            elif path == "wrappers" and TARGET not in node and canonical_target(str(key)) not in allowed:
                _refuse_name(key, join(path, key), policy, found)


def _refuse_name(name: Any, path: str, policy: TrustPolicy, found: ProblemList) -> None:
    if len(found.problems) >= MOST_PROBLEMS:
        return
    near = closest(name, policy.targets) if isinstance(name, str) else None
    message = f"{shown(name)} is not on the list of components that may be named."
    if str(name).startswith(("gymnasium.", "gym.")):
        message += " Wrappers of gymnasium's belong into an environment of the operator's own modules."
    found.add(path, message, code="target_not_allowed", did_you_mean=near)


def _check_values(dicts: Dicts, policy: TrustPolicy, found: ProblemList) -> None:
    """Environments and ceilings, in a tree or in what a client sent."""
    for path, node in dicts:
        if path == "env" or (TARGET in node and canonical_target(str(node[TARGET])) in _GYM_ENVS):
            _check_env(node, path, policy, found)
        for key, child in node.items():
            last = str(key).rpartition(".")[2]
            where = str(key) if path == "overrides" else join(path, key)
            if where in _RUNS and not (
                child is None or (isinstance(child, str) and re.fullmatch(_SOURCE, child))
            ):
                found.add(where, f"{shown(child)} is not the id of a run.", code="closed_field")
            if path == "overrides" and key == "env.name":
                _check_env({"name": child}, "env", policy, found)
            if last in policy.limits.ceilings or last == "hidden_units":
                _check_ceiling(last, child, where, policy.limits, found)


def _check_component(node: Mapping[str, Any], path: str, policy: TrustPolicy, found: ProblemList) -> None:
    name = canonical_target(str(node[TARGET]))
    try:
        target = resolve_target(name)
    except InvalidSpecificationError as error:
        found.add(join(path, TARGET), error.problems[0].message, code="unknown_target")
        return
    real = target_name(target)
    if real != name and real not in policy.targets:
        found.add(join(path, TARGET), f"{shown(name)} is another component.", code="target_not_allowed")
        return
    for key, default in closed_fields(target).items():
        if node.get(key, default) != default:
            message = "names a path, a function or a module, which only the operator may."
            found.add(join(path, key), message, code="closed_field")
    wrappers = node.get("wrappers") if name in _GYM_ENVS else None
    for index, wrapper in enumerate(wrappers if isinstance(wrappers, list) else ()):
        if is_node(wrapper):
            _check_env_wrapper(wrapper, join(path, f"wrappers.{index}"), policy, found)


def _check_env_wrapper(node: Mapping[str, Any], path: str, policy: TrustPolicy, found: ProblemList) -> None:
    """Refuse arguments that no module names beside this wrapper; a tree has its defaults too."""
    name = canonical_target(str(node[TARGET]))
    allowed = policy.wrapper_kwargs.get(name, frozenset())
    parameters: Mapping[str, inspect.Parameter] = {}
    with contextlib.suppress(
        InvalidSpecificationError, TypeError, ValueError
    ):  # the first is noted elsewhere
        parameters = inspect.signature(resolve_target(name)).parameters
    for key, value in node.items():
        if key in allowed or key == TARGET:
            continue
        if key not in parameters or Describer().tree(parameters[key].default, key) != value:
            message = f"No module names {shown(key)} beside {shown(name)}."
            where = join(path, key)
            found.add(where, message, code="wrapper_kwarg_not_allowed", allowed=tuple(sorted(allowed)))


def _check_env(node: Mapping[str, Any], path: str, policy: TrustPolicy, found: ProblemList) -> None:
    name, kwargs = node.get("name"), node.get("kwargs")
    if name is not None:
        where = join(path, "name")
        if not isinstance(name, str) or not ENV_ID.fullmatch(name):
            message = f"{shown(name)} is not an environment id; a module cannot be named."
            found.add(where, message, code="env_not_allowed")
        elif policy.env_ids is not None and name not in policy.env_ids:
            near = closest(name, policy.env_ids)
            message = f"There is no environment {shown(name)} here: {_way_to(name)}"
            code = "env_not_allowed" if policy.env_ids_are_complete else "env_not_published"
            found.add(where, message, code=code, did_you_mean=near)
    if kwargs and isinstance(kwargs, Mapping) and name is not None:
        allowed = open_kwargs(str(name)) | policy.env_kwargs.get(str(name), frozenset())
        for key in kwargs:
            if key not in allowed:
                message = f"{shown(name)} does not take {shown(key)} here."
                where = join(path, f"kwargs.{key}")
                found.add(where, message, code="env_kwarg_not_allowed", allowed=tuple(sorted(allowed)))


def _way_to(env_id: str) -> str:
    extra = extra_of(env_id)
    if extra is None:
        return "GET /v1/environments lists those that workers offer."
    return f"no worker has the extra {extra.name!r}, which its operator installs with {extra.install}."


def _check_ceiling(key: str, value: Any, path: str, limits: Limits, found: ProblemList) -> None:
    if key == "hidden_units" and isinstance(value, list):
        wide = [width for width in value if isinstance(width, (int, float)) and width > limits.hidden_width]
        if len(value) > limits.hidden_layers or wide:
            message = f"At most {limits.hidden_layers} layers of {limits.hidden_width} units are allowed."
            found.add(path, message, code="out_of_range")
    ceiling = limits.ceilings.get(key)
    if (
        ceiling is not None
        and isinstance(value, (int, float))
        and not isinstance(value, bool)
        and value > ceiling
    ):
        found.add(path, f"{shown(value)} is above the limit of {ceiling:,.0f}.", code="out_of_range")


def _named_targets(config: Any, group: str) -> set[str]:
    """The components a module of the operator names; wrappers are also the keys of a mapping."""
    named = set()
    for path, part in parts_in(config, group):
        if is_node(part):
            named.add(str(part[TARGET]))
        elif isinstance(part, Mapping) and path.rpartition(".")[2] == "wrappers":
            named |= {str(key) for key in part if key != "defaults"}
    return named
