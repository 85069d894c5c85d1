"""One specification → one :class:`RunConfig`. The same function serves Python, the command line and HTTP.

    names ──► Hydra ──► tree ──► dicts and objects ──► overrides ──► seeds ──► validated, in normal form

Nothing is built but config dataclasses and wrappers, and every problem is reported at once.
"""

import copy
import dataclasses
from collections.abc import Callable, Mapping, Set
from functools import partial
from typing import Any

import numpy as np

from maze_core.config.arguments import (
    LAUNCHER_NEEDS_MULTIRUN,
    ROOTS,
    Arguments,
    argument_of,
    refuse_below_object,
    sorted_arguments,
)
from maze_core.config.components import RENAMED
from maze_core.config.environments import misplaced
from maze_core.config.instantiate import Describer, instantiate, settings_in_place
from maze_core.config.modules import (
    Directories,
    ModuleIndex,
    config_module,
    interpolates,
    merged_files,
    module_index,
    resolve_interpolations,
)
from maze_core.config.nodes import TARGET, is_node, is_within, mapped, part_at, shown
from maze_core.config.overrides import DESTINATIONS, REMOVED, apply_values, canonical_key, merged
from maze_core.config.presets import MULTIRUN_PARTS, composed
from maze_core.config.provenance import Origin, Provenance
from maze_core.config.schema import (
    BUDGETS,
    SEEDS,
    SOURCES,
    Mode,
    RunConfig,
    check_seed,
    normal_form,
    wrapper_list,
)
from maze_core.config.targets import resolve_target
from maze_core.errors import InvalidSpecificationError, ProblemList
from maze_core.seeding import draw_seed
from maze_core.types import Tree


def compose_run(
    mode: Mode = "train",
    *,
    env: Any = None,
    wrappers: Any = None,
    algorithm: Any = None,
    model: Any = None,
    policy: Any = None,
    critic: Any = None,
    runner: Any = None,
    launcher: Any = None,
    overrides: Mapping[str, Any] | None = None,
    configuration: str | None = None,
    experiment: str | None = None,
    seed: int | None = None,
    n_epochs: int | None = None,
    max_env_steps: int | None = None,
    max_wall_s: float | None = None,
    patience: int | None = None,
    target_return: float | None = None,
    config_dirs: Directories = (),
    within_multirun: bool = False,
    locate: Callable[[str, Tree], Tree] | None = None,
) -> RunConfig:
    """Resolve a specification. No argument is changed.

    A group argument is a module name, a dict or an object. A dict merges onto the module's values, or takes
    their place where its ``_target_`` names another component. ``policy`` and ``critic`` stand for
    ``model.policy`` and ``model.critic`` in training; in a rollout ``policy`` is the policy that plays.

    Args:
        mode: ``train`` or ``rollout``.
        env: environment; also a function that makes one.
        wrappers: wrapper stack; also a list of wrappers.
        algorithm: training algorithm.
        model: networks of policy and critic.
        policy: see above.
        critic: see above; a name loads a module of the group ``critic`` into the model.
        runner: how it is carried out.
        launcher: name of a launcher module.
        overrides: dotted key → value, applied last; see :mod:`maze_core.config.overrides`.
        configuration: ``test`` for small, quick settings.
        experiment: a named set of choices and values.
        seed: both seeds of ``seeding``; absent ones are drawn and recorded.
        n_epochs: ``algorithm.n_epochs``, as each of the following is the setting of the algorithm with its name.
        max_env_steps: see above.
        max_wall_s: see above.
        patience: see above.
        target_return: see above.
        config_dirs: directories with modules of the caller's own.
        within_multirun: this is one job of a multirun, which has the launcher and the experiment's search.
        locate: ``dataset`` or ``initial``, and its node → the node with the digest of what lies there; None looks
            for files.

    Raises:
        InvalidSpecificationError: with every problem found.
    """
    if mode not in ROOTS:
        raise InvalidSpecificationError(f"mode: {shown(mode)} is neither 'train' nor 'rollout'.")
    given = {
        "env": env,
        "wrappers": wrappers,
        "algorithm": algorithm,
        "model": model,
        "policy": policy,
        "critic": critic,
        "runner": runner,
        "launcher": launcher,
        "configuration": configuration,
        "experiment": experiment,
    }
    index = module_index(config_dirs)
    found = ProblemList()
    arguments = sorted_arguments(given, mode, index, found)
    composition = _Composition(mode, arguments, index, found, locate)
    composition.take_multirun_parts(is_job=within_multirun)
    composition.apply_arguments(config_dirs)
    composition.apply_overrides(overrides)
    overridden = {str(key) for key in overrides} if isinstance(overrides, Mapping) else set()
    budgets = (n_epochs, max_env_steps, max_wall_s, patience, target_return)
    composition.apply_budgets(dict(zip(BUDGETS, budgets, strict=True)), overridden)
    composition.apply_seeds(seed, overridden)
    return composition.config()


class _Composition:
    """A tree on its way from the modules' values to the resolved configuration."""

    def __init__(
        self,
        mode: Mode,
        arguments: Arguments,
        index: ModuleIndex,
        found: ProblemList,
        locate: Callable[[str, Tree], Tree] | None,
    ) -> None:
        self._mode = mode
        self._arguments = arguments
        self._found = found
        self._locate = locate or self._located
        self._texts: dict[str, str] = {}
        self._n_epochs: object = None  # as the caller gave it
        self._composed = composed(mode, arguments, index, found)
        choices = self._composed.choices
        self._origins = Provenance(partial(merged_files, ROOTS[mode], choices, index))
        self._tree = self._composed.tree
        self._tree["wrappers"] = wrapper_list(self._tree.get("wrappers"))

    def take_multirun_parts(self, *, is_job: bool) -> None:
        """Take out what belongs to a multirun as a whole; it is an error in a run of its own."""
        has = {name: self._tree.pop(name, None) is not None for name in MULTIRUN_PARTS}
        if is_job:
            return
        if has["sweep"]:
            message = (
                "This experiment is a search over several runs; give multirun=True (maze-run --multirun)."
            )
            self._found.add("experiment", message, code="needs_multirun")
        elif has["launcher"]:
            self._found.add("launcher", LAUNCHER_NEEDS_MULTIRUN, code="needs_multirun")

    def apply_arguments(self, config_dirs: Directories) -> None:
        """Put dicts and objects in their places; spell every default out, so that overrides find its key."""
        arguments = self._arguments
        for path, value in arguments.values.items():
            if any(is_within(path, failed) for failed in arguments.failed):
                continue
            value = self._kept_literal(value)
            replaces = path == "wrappers" or path in arguments.live
            current = part_at(self._tree, path)
            below = self._composed.below(path, value, current)
            self._note_argument(path, value, None if replaces else below, is_small=below is not current)
            self._put(path, value if replaces else merged(below, value))
        critic = arguments.choices.get("critic")
        if critic and "model" in arguments.values and not arguments.failed:
            given = config_module("critic", critic, config_dirs)["config"].get("critic")
            current = part_at(self._tree, "model.critic")
            self._origins.note("model.critic", current, given, Origin("module", f"critic/{critic}"))
            self._put("model.critic", merged(current, given))
        if not interpolates(self._tree):
            self._tree = normal_form(self._tree, arguments.objects, self._mode, ProblemList())

    def apply_overrides(self, overrides: object) -> None:
        """Write the values at their keys."""
        if overrides is None:
            return
        if not isinstance(overrides, Mapping):
            self._found.add("overrides", f"takes a dict, not {shown(overrides)}.", code="wrong_type")
            return
        values: dict[str, Any] = {}
        origins: dict[str, str] = {}
        written: dict[str, str] = {}
        for key, value in overrides.items():
            if key in RENAMED and not value:
                continue
            path = canonical_key(key, self._tree, self._mode, self._found)
            if path is None or refuse_below_object(
                self._arguments, path, f"override {shown(key)}", self._found
            ):
                continue
            if (other := origins.get(path) or argument_of(path, self._arguments, self._mode)) is not None:
                message = (
                    f"is given twice, by the override {shown(key)} and by {other}; leave one of them out."
                )
                self._found.add(path, message, code="contradiction")
                continue
            origins[path], written[path] = f"the override {shown(key)}", str(key)
            values[path] = value if value is REMOVED else self._described(path, value)
        self._refuse_below_given_objects(values)
        known = {path: value for path, value in values.items() if not self._is_failed(path)}
        for path, value in sorted(known.items(), key=lambda item: item[0].count(".")):
            if value is REMOVED:
                self._origins.note_taken(path, part_at(self._tree, path.rpartition(".")[0]))
            else:
                origin = Origin("override", written[path])
                self._origins.note(path, part_at(self._tree, path), value, origin)
        apply_values(self._tree, known, self._found)

    def apply_budgets(self, budgets: Mapping[str, object], overridden: Set[str]) -> None:
        """Set when the algorithm stops."""
        given = self._arguments.values.get("algorithm")
        if "algorithm" in self._arguments.live or not isinstance(given, dict):
            given = {}
        n_epochs = budgets["n_epochs"]
        if "n_epochs" in given or "algorithm.n_epochs" in overridden or n_epochs is not None:
            self._n_epochs = n_epochs if n_epochs is not None else part_at(self._tree, "algorithm.n_epochs")
        for name, value in budgets.items():
            if value is None:
                continue
            if self._mode != "train":
                self._found.add(name, "has no meaning in a rollout run.", code="wrong_mode")
            elif (key := f"algorithm.{name}") in overridden:
                self._found.add(name, f"is given beside the override {key!r}.", code="contradiction")
            elif not self._is_failed("algorithm"):
                apply_values(self._tree, {key: Describer().tree(value, "")}, self._found)
                self._origins.note_replaced(key, value, Origin("argument", name))

    def apply_seeds(self, seed: object, overridden: Set[str]) -> None:
        """Set both seeds, or draw those that are absent."""
        seeding = self._tree.get("seeding")
        if not isinstance(seeding, dict):
            return
        if seed is not None:
            if isinstance(seed, np.integer):
                seed = int(seed)
            before = len(self._found.problems)
            check_seed(seed, "seed", self._found)
            for key in sorted(overridden):
                if key.startswith("seeding."):
                    message = f"is given beside the override {shown(key)}; give one of them."
                    self._found.add("seed", message, code="contradiction")
            if len(self._found.problems) == before:
                seeding.update(dict.fromkeys(SEEDS, seed))
                for name in SEEDS:
                    self._origins.note_replaced(f"seeding.{name}", seed, Origin("argument", "seed"))
        for name in SEEDS:
            if seeding.get(name) is None:
                seeding[name] = draw_seed()
                self._origins.note_replaced(f"seeding.{name}", seeding[name], Origin("drawn"))

    def config(self) -> RunConfig:
        """The result, validated.

        Raises:
            InvalidSpecificationError: with every problem of the whole way.
        """
        tree = resolve_interpolations(self._tree)
        if self._texts:
            tree = mapped(tree, lambda part: self._texts.get(part, part) if isinstance(part, str) else part)
        last = ProblemList()
        normal = normal_form(tree, self._arguments.objects, self._mode, last)
        if not last.problems and not self._found.problems:
            self._derive_epochs(normal)
            if _resolve_vectorization(normal, self._arguments.objects):
                self._origins.note_replaced("env.vectorization", None, Origin("derived", "auto"))
            self._find_sources(normal)
            self._expect_family(normal["env"])
        reported = {problem.path for problem in self._found.problems}
        for problem in last.problems:
            if problem.path not in reported and not self._is_failed(problem.path):
                self._found.problems.append(problem)
        self._found.raise_if_any()
        return RunConfig(
            mode=self._mode, tree=normal, objects=dict(self._arguments.objects), origins=self._origins
        )

    def _note_argument(self, path: str, value: Any, below: Any, *, is_small: bool) -> None:
        """Note where the values at a path come from, once the argument that gives it is merged onto ``below``."""
        if is_small:  # the module's values are gone, those of the configuration are not
            origin = Origin("configuration", f"configuration/{self._composed.configuration}")
            self._origins.note_replaced(path, below, origin)
        names = {destination: group for group, destination in DESTINATIONS[self._mode].items()}
        self._origins.note(path, below, value, Origin("argument", names.get(path, path)))

    def _derive_epochs(self, tree: Tree) -> None:
        """``n_epochs`` from the length of the run in steps, where that is given."""
        algorithm, runner = tree.get("algorithm"), tree["runner"]
        if not isinstance(algorithm, dict) or not algorithm.get("total_env_steps"):
            return
        per_epoch = runner["n_envs"] * algorithm["n_rollout_steps"] * algorithm["epoch_length"]
        derived = -(-algorithm["total_env_steps"] // per_epoch)
        if self._n_epochs not in (None, 0, derived):
            message = (
                f"{shown(self._n_epochs)} contradicts total_env_steps: {derived} epochs of {per_epoch} steps are the "
                "run's length; leave one of them out."
            )
            self._found.add("algorithm.n_epochs", message, code="contradiction")
        algorithm["n_epochs"] = derived
        origin = Origin("derived", "algorithm.total_env_steps")
        self._origins.note_replaced("algorithm.n_epochs", derived, origin)

    def _expect_family(self, env: Any) -> None:
        """Note an environment that the module chosen for it is not made for."""
        name = env.get("name") if isinstance(env, Mapping) else None
        module = self._composed.choices.get("env")
        if isinstance(name, str) and module and (problem := misplaced(module, name)) is not None:
            self._found.add("env.name", problem, code="wrong_module")

    def _find_sources(self, tree: Tree) -> None:
        """Say what lies where ``dataset`` and ``initial`` point, or take them out where they name nothing."""
        nodes = {name: tree.pop(name, None) for name in SOURCES}
        named = {name: node for name, node in nodes.items() if node and (node["run"] or node["sha256"])}
        for name, node in named.items():
            with self._found.collecting():
                tree[name] = self._locate(name, node)
                self._origins.note(name, node, _changed(node, tree[name]), Origin("derived", f"{name}.run"))
        if self._mode == "train" and is_node(algorithm := tree["algorithm"]):
            learns = getattr(resolve_target(algorithm[TARGET]), "LEARNS_FROM_EPISODES", False)
            if learns and "dataset" not in named:
                message = "This algorithm learns from recorded episodes: name the rollout that recorded them."
                self._found.add("dataset.run", message, code="missing_key")
            elif "dataset" in named and not learns:
                message = (
                    "names episodes, and this algorithm learns from none: take bc or sacfd, or leave it out."
                )
                self._found.add("dataset.run", message, code="contradiction")

    def _located(self, name: str, node: Tree) -> Tree:
        found = instantiate(node, name, self._arguments.objects).located()
        run = found.run if isinstance(found.run, str) else node["run"]
        return {**node, "run": run, "sha256": found.sha256}

    def _described(self, path: str, value: Any) -> Any:
        describer = Describer()
        tree = describer.tree(value, path)
        self._found.problems.extend(describer.problems.problems)
        self._arguments.objects.update(describer.live)
        is_object = (dataclasses.is_dataclass(value) and not isinstance(value, type)) or settings_in_place(
            value
        ) is not None
        for live in {*describer.live, *([path] if is_object else ())}:
            self._arguments.live.setdefault(live, f"the live object at {live!r}")
        return self._kept_literal(tree)

    def _kept_literal(self, value: Any) -> Any:
        """Hide texts that look like an interpolation: only a module's file may contain one."""
        return mapped(value, self._hidden) if interpolates(value) else value

    def _hidden(self, value: Any) -> Any:
        if not (isinstance(value, str) and "${" in value):
            return value
        token = f"\x00{len(self._texts)}"
        self._texts[token] = value
        return token

    def _refuse_below_given_objects(self, values: dict[str, Any]) -> None:
        for path in list(values):
            parent = path.rpartition(".")[0]
            if parent and refuse_below_object(
                self._arguments, parent, f"override {shown(path)}", self._found
            ):
                del values[path]

    def _is_failed(self, path: str) -> bool:
        return any(is_within(path, failed) for failed in self._arguments.failed)

    def _put(self, path: str, value: Any) -> None:
        *parents, last = path.split(".")
        node: Any = self._tree
        for depth, key in enumerate(parents):
            if not isinstance(node.get(key), dict):
                here = ".".join(parents[: depth + 1])
                self._found.add(path, f"{here} is not a dict, so {last} cannot be set.", code="no_parent")
                return
            node = node[key]
        node[last] = copy.deepcopy(value)


def _changed(before: Tree, after: Tree) -> Tree:
    """What a part has now that it had not before."""
    return {name: value for name, value in after.items() if before.get(name) != value}


def _resolve_vectorization(tree: Tree, objects: Mapping[str, object]) -> bool:
    """Say which way of stepping ``auto`` is, once everything that decides it is known; whether it was auto."""
    env = tree["env"]
    is_open = isinstance(env, dict) and env.get("vectorization") == "auto"
    if is_open:
        env["vectorization"] = instantiate(env, "env", objects).resolved_vectorization()
    return is_open
