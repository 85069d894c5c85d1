"""The resolved description of one run: frozen, validated, JSON-able, and hashed to ``config_sha256``.

:func:`normal_form` says which parts there are, of which kind, each with canonical names and every default spelled out.
``wrappers`` is a list of nodes, because the order of wrappers matters and the order of keys in JSON does not; in files
and arguments it may be a mapping ``{class: arguments}``.
"""

import copy
import functools
import hashlib
import json
import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Literal, TypeAlias

from maze_core.checkpoint import canonical_bytes
from maze_core.config.components import ALIASES, PLACES, canonical_target
from maze_core.config.instantiate import Builder, instantiate
from maze_core.config.nodes import OPAQUE, TARGET, is_node, is_within, join, opaque_parts, part_at, shown
from maze_core.config.targets import gym_wrapper_problem
from maze_core.config.words import unknown_word
from maze_core.errors import InvalidSpecificationError, Problem, ProblemList
from maze_core.seeding import SEED_LIMIT
from maze_core.types import Tree

if TYPE_CHECKING:
    from maze_core.config.provenance import Origin, Provenance

Mode: TypeAlias = Literal["train", "rollout"]

PARTS: Mapping[Mode, tuple[str, ...]] = {
    "train": ("env", "wrappers", "algorithm", "model", "runner", "seeding", "project", "dataset", "initial"),
    "rollout": ("env", "wrappers", "policy", "model", "runner", "seeding", "project"),
}
"""Top-level keys of a resolved configuration."""
SEEDS = ("env_base_seed", "agent_base_seed")
BUDGETS = ("n_epochs", "max_env_steps", "max_wall_s", "patience", "target_return")
"""Settings of every algorithm that only say when to stop; arguments of their own on every face."""
SOURCES = ("dataset", "initial")
"""Parts that name what lies elsewhere; a run that takes nothing from there does not have them."""
_PLACES = ("run", "checkpoint")
"""Their settings that say where it lies, which is no part of a run's identity: its digest is."""

COMPARED = "compared"
"""Of a comparison: the policies that play, by the content digests of their checkpoints, and over HTTP their places."""

OTHER_RUNNER: Mapping[Mode, str] = {
    "train": "maze_core.RolloutRunnerConfig",
    "rollout": "maze_core.TrainingRunnerConfig",
}
_EXECUTIONS: Mapping[Mode, tuple[str, ...]] = {
    "train": ("dev", "local", "isolated"),
    "rollout": ("sequential", "parallel"),
}
"""The runner modules of each mode, which are also what their runners call themselves."""


def _has(*names: str) -> Callable[[object], bool]:
    return lambda value: all(hasattr(value, name) for name in names)


_KINDS: Mapping[str, tuple[str, Callable[[object], bool]]] = {
    "env": ("an environment", lambda value: callable(value) or _has("make", "vector")(value)),
    "algorithm": ("an algorithm", _has("build", "n_epochs")),
    "model": (
        "a model",
        lambda value: isinstance(value, functools.partial) or _has("build", "policy", "critic")(value),
    ),
    "runner": ("a runner", _has("execution", "n_envs")),
    "policy": (
        "a rollout policy",
        lambda value: _has("checkpoint")(value) or (_has("build")(value) and not _has("n_epochs")(value)),
    ),
    "wrapper": ("a wrapper", _has("bind", "observation", "action")),
    "dataset": ("a dataset", _has("located", "load")),
    "initial": ("a trained policy", _has("located", "load")),
}
"""What each part must offer; this package knows the parts by nothing else."""
_LIVE_KINDS = {
    **_KINDS,
    "model": ("a model", _has("build")),
    "policy": ("a rollout policy", lambda value: _has("act")(value) or _has("build")(value)),
}


def normal_form(tree: Tree, objects: Mapping[str, object], mode: Mode, found: ProblemList) -> Tree:
    """The tree in normal form; parts with problems stay as they are.

    Args:
        tree: resolved configuration; not changed.
        objects: live objects by path. Parts whose live objects are missing stay as they are.
        mode: what the run does.
        found: takes every problem.
    """
    normal: Tree = {}
    parts = (*PARTS[mode], COMPARED) if mode == "rollout" and COMPARED in tree else PARTS[mode]
    for name in parts:
        value = tree.get(name)
        if name == "seeding":
            normal[name] = _seeding(value, found)
        elif name == "project":
            normal[name] = _project(value, found)
        elif name in SOURCES and value is None:
            continue
        elif name == COMPARED:
            normal[name] = _compared(value, found)
        else:
            normal[name] = _kept_part(name, value, objects, found)
    for name in tree:
        if name not in parts and tree[name] is not None:
            message = f"{shown(name)} is no part of a {mode} run."
            found.problems.append(unknown_word(str(name), message, name, PARTS[mode]))
    _check_runner(normal["runner"], mode, found)
    return normal


def wrapper_list(value: Any) -> Any:
    """Wrappers as a list of nodes, from ``{class: arguments}`` or a list; anything else as it is."""
    if is_node(value):
        return [value]
    if isinstance(value, Mapping):
        return [_wrapper_node(str(name), arguments) for name, arguments in value.items()]
    return [] if value is None else value


def _wrapper_node(name: str, arguments: Any) -> Any:
    if arguments is None or isinstance(arguments, Mapping):
        return {**(arguments or {}), TARGET: name}
    return arguments  # no arguments at all, as will be said where nodes are checked


_KEPT: dict[tuple[str, str], str] = {}
"""Part and its JSON → the JSON of its normal form: what was validated once need not be again."""
_MOST_KEPT = 512
_TARGETS = re.compile(r'"_target_": "([^"]*)"')


def _kept_part(name: str, value: Any, objects: Mapping[str, object], found: ProblemList) -> Any:
    """The normal form of a part; remembered where it is made of this library's components alone."""
    make = _wrappers if name == "wrappers" else functools.partial(_part, name)
    try:
        text = json.dumps(value)
        is_plain = json.loads(text) == value
    except (TypeError, ValueError):  # it holds what JSON does not
        is_plain = False
    if not is_plain:
        return make(copy.deepcopy(value), objects, found)
    if (kept := _KEPT.get((name, text))) is not None:
        return json.loads(kept)
    before = len(found.problems)
    normal = make(json.loads(text), objects, found)
    is_ours = OPAQUE not in text and all(
        target in PLACES or target in ALIASES for target in _TARGETS.findall(text)
    )
    if is_ours and "_target_" in text and len(found.problems) == before:
        if len(_KEPT) >= _MOST_KEPT:
            _KEPT.clear()
        _KEPT[name, text] = json.dumps(normal)
    return normal


def _part(name: str, value: Any, objects: Mapping[str, object], found: ProblemList) -> Any:
    if name in objects:
        _check_kind(objects[name], name, _LIVE_KINDS[name], found)
        return value
    if _waits_for_objects(value, name, objects) or (name == "model" and value is None):
        return value
    if not is_node(value):
        found.add(name, f"needs a {TARGET!r} that names {_KINDS[name][0]}.", code="missing_key")
        return value
    return _built(value, name, name, objects, found)


def _wrappers(value: Any, objects: Mapping[str, object], found: ProblemList) -> Any:
    nodes = wrapper_list(value)
    if not isinstance(nodes, list):
        found.add(
            "wrappers",
            f"takes a mapping of class to arguments or a list, not {shown(value)}.",
            code="wrong_type",
        )
        return value
    normal = []
    for index, node in enumerate(nodes):
        path = join("wrappers", index)
        if (problem := gym_wrapper_problem(objects.get(path), path)) is not None:
            found.problems.append(problem)
            normal.append(node)
        elif path in objects:
            _check_kind(objects[path], path, _KINDS["wrapper"], found)
            normal.append(node)
        elif _waits_for_objects(node, path, objects):
            normal.append(node)
        elif not is_node(node):
            found.add(path, f"needs a {TARGET!r} that names a wrapper.", code="missing_key")
        else:
            normal.append(_built(node, path, "wrapper", objects, found))
    return normal


def _built(node: Any, path: str, kind: str, objects: Mapping[str, object], found: ProblemList) -> Any:
    builder = Builder(objects)
    built = builder.build(node, path, nested=kind == "env")
    found.problems.extend(builder.problems.problems)
    if built is None:
        return node
    wanted, fits = _KINDS[kind]
    if not fits(built.value):
        found.add(join(path, TARGET), f"{shown(node[TARGET])} is not {wanted}.", code="wrong_kind")
    return built.tree


def _check_kind(
    value: object, path: str, kind: tuple[str, Callable[[object], bool]], found: ProblemList
) -> None:
    wanted, fits = kind
    if not fits(value):
        found.add(path, f"A {type(value).__name__} is not {wanted}.", code="wrong_kind")


def _waits_for_objects(value: Any, path: str, objects: Mapping[str, object]) -> bool:
    """Whether a live object was recorded here that is not at hand."""
    return any(not any(is_within(place, known) for known in objects) for place in opaque_parts(value, path))


def _seeding(value: Any, found: ProblemList) -> Any:
    if not isinstance(value, Mapping):
        found.add("seeding", f"needs {' and '.join(SEEDS)}.", code="missing_key")
        return value
    _known_keys(value, "seeding", SEEDS, found)
    seeds = {name: _whole(value.get(name)) for name in SEEDS}
    for name, seed in seeds.items():
        check_seed(seed, join("seeding", name), found)
    return seeds


def _whole(value: Any) -> Any:
    """A number as JSON has it, where 1.0 is the whole number 1."""
    return int(value) if isinstance(value, float) and value.is_integer() else value


def check_seed(value: object, path: str, found: ProblemList) -> None:
    """Note a problem unless this is a whole number in [0, 2³²)."""
    if isinstance(value, bool) or not isinstance(value, int):
        found.add(path, f"{shown(value)} is not a whole number.", code="wrong_type")
    elif not 0 <= value < SEED_LIMIT:
        found.add(path, f"{shown(value)} is outside [0, {SEED_LIMIT - 1}].", code="out_of_range")


def _project(value: Any, found: ProblemList) -> Any:
    if value is None:
        return {"name": None}
    if not isinstance(value, Mapping):
        found.add("project", f"takes a mapping with a name, not {shown(value)}.", code="wrong_type")
        return value
    _known_keys(value, "project", ("name",), found)
    name = value.get("name")
    if name is not None and not isinstance(name, str):
        found.add("project.name", f"{shown(name)} is not a text.", code="wrong_type")
    return {"name": name}


def _compared(value: Any, found: ProblemList) -> Any:
    is_list = isinstance(value, list) and all(
        isinstance(node, Mapping) and "sha256" in node for node in value
    )
    if not is_list or not all(isinstance(text, str) for node in value for text in node.values()):
        found.add(COMPARED, "takes a list of checkpoints, each with its sha256.", code="wrong_type")
        return value
    for place, node in enumerate(value):
        _known_keys(node, join(COMPARED, place), ("sha256", *_PLACES), found)
    return [dict(node) for node in value]


def _known_keys(value: Mapping[str, Any], path: str, known: tuple[str, ...], found: ProblemList) -> None:
    for key in value:
        if key not in known:
            message = f"There is no setting {shown(key)} here."
            found.problems.append(unknown_word(join(path, key), message, key, known))


def _check_runner(value: Any, mode: Mode, found: ProblemList) -> None:
    if is_node(value) and canonical_target(str(value[TARGET])) == OTHER_RUNNER[mode]:
        verb = {"train": "plays episodes and cannot train", "rollout": "trains and cannot play episodes"}[
            mode
        ]
        choices = _EXECUTIONS[mode]
        execution, target = value.get("execution"), str(value[TARGET])
        is_its_own = (
            execution in (*_EXECUTIONS["train"], *_EXECUTIONS["rollout"]) and execution not in choices
        )
        named = shown(execution) if is_its_own else target.rpartition(".")[2]
        way_out = {
            "train": "; to play, give a rollout policy beside it: policy='random_policy'",
            "rollout": "",
        }[mode]
        found.add("runner", f"{named} {verb}{way_out}.", code="wrong_mode", allowed=choices)


CALLABLE_ENV = "maze_core.CallableEnvConfig"
CALLABLE_MODEL = "maze_core.CallableModelConfig"
_CALLABLES = {"env": CALLABLE_ENV, "model": CALLABLE_MODEL}

NOT_IDENTITY = ("project", "launcher", "run_dir", "log_base_dir", "log", "silent")
"""Top-level keys that say nothing about the numbers of a run."""


@dataclass(frozen=True, kw_only=True)
class RunConfig:
    """One run, resolved: the same specification gives the same tree, however it was given."""

    mode: Mode
    """``train`` for training, ``rollout`` for playing episodes."""
    tree: Tree
    """Every component with every value; not to be changed. Live objects stand as ``{"_opaque_": name}``."""
    objects: Mapping[str, object] = field(default_factory=dict)
    """Dotted path → live object that is used there."""
    origins: "Provenance | None" = field(default=None, compare=False, repr=False)
    """What :attr:`provenance` is found from; None of a configuration that was read again (:meth:`from_tree`)."""

    @property
    def provenance(self) -> "dict[str, Origin]":
        """Dotted path → where the value comes from, of every value that has no keys of its own."""
        return {} if self.origins is None else self.origins.of(self.tree)

    def beside_recorded(self, given: Mapping[str, Any]) -> "RunConfig":
        """The same, of which only these arguments were the caller's; all others a resolved configuration gave."""
        if self.origins is not None:
            overrides = given.get("overrides")
            self.origins.beside = [*given, *(overrides if isinstance(overrides, Mapping) else ())]
        return self

    def identity(self) -> Tree:
        """What decides the numbers of a run: the tree without names and places."""
        kept = {key: value for key, value in self.tree.items() if key not in NOT_IDENTITY}
        if "sinks" in (runner := kept.get("runner") or {}):
            kept["runner"] = {name: value for name, value in runner.items() if name != "sinks"}
        sources = {key: node for key, node in self.sources.items() if isinstance(node, Mapping)}
        if COMPARED in kept:
            kept[COMPARED] = [node["sha256"] for node in kept[COMPARED]]
        return kept | {
            key: {name: value for name, value in node.items() if name not in _PLACES}
            for key, node in sources.items()
        }

    @property
    def sources(self) -> Tree:
        """The parts of the tree that name what lies elsewhere, places and all."""
        return {key: self.tree[key] for key in SOURCES if key in self.tree}

    @property
    def config_sha256(self) -> str:
        """SHA-256 of the canonical JSON of the identity, in hex."""
        return hashlib.sha256(canonical_json(self.identity())).hexdigest()

    @property
    def undescribed(self) -> dict[str, str]:
        """Path → name of every part that was given as a live object and that no tree describes."""
        return opaque_parts(self.tree)

    def build(self, path: str) -> Any:
        """The typed object at a path; ``wrappers`` gives the list of wrappers, in order.

        Args:
            path: dotted path, such as ``algorithm`` or ``model.policy``.

        Raises:
            InvalidSpecificationError: there is no such path, or a live object that belongs there is gone.
        """
        if path in self.objects:
            return self.objects[path]
        node = part_at(self.tree, path, OPAQUE)
        if node is OPAQUE:
            problem = Problem(path=path, message="The configuration has no such part.", code="unknown_key")
            raise InvalidSpecificationError([problem])
        built = instantiate(node, path, self.objects, call=path != "env")
        if path in _CALLABLES and isinstance(built, functools.partial):  # a function or class of the user's
            factory = f"{path}.factory"
            return instantiate({TARGET: _CALLABLES[path], "factory": {}}, path, {factory: built})
        return built

    @classmethod
    def from_tree(cls, tree: Tree, mode: Mode = "train") -> "RunConfig":
        """A stored configuration again: checked as strictly as a new one, with the same ``config_sha256``.

        Parts that hold a live object stay as they are; building them needs the object.

        Raises:
            InvalidSpecificationError: with every problem found.
        """
        found = ProblemList()
        normal = normal_form(tree, {}, mode, found)
        found.raise_if_any()
        return cls(mode=mode, tree=normal)


def canonical_json(value: Any) -> bytes:
    """The one JSON text of a tree: sorted keys, no spaces, UTF-8, shortest numbers.

    Raises:
        ValueError: a number is not finite, a text is no Unicode, or two keys are the same text.
    """
    return canonical_bytes(_with_text_keys(value))


def _with_text_keys(value: Any) -> Any:
    if isinstance(value, Mapping):
        named = {
            str(key): _with_text_keys(child) if isinstance(child, _HAVE_KEYS) else child
            for key, child in value.items()
        }
        if len(named) < len(value):
            raise ValueError("two keys of a mapping are the same text")
        return named
    if isinstance(value, (list, tuple)):
        return [_with_text_keys(child) if isinstance(child, _HAVE_KEYS) else child for child in value]
    return value


_HAVE_KEYS = (Mapping, list, tuple)
