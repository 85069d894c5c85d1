"""Configuration modules: which there are, and the chosen ones composed by Hydra into one plain tree.

A module is ``<group>/<name>.yaml`` in ``conf/`` or in a directory of the caller's. Its name belongs to one file: one
that repeats another's is refused, because one of the two would silently win.

Only here does Hydra compose. It keeps its state in process-wide singletons, so one lock guards a composition, and both
singletons are put back as they were found. A composition costs about 0.1 s; its result is kept per choice of modules
for as long as no file changes. Only names of modules reach Hydra: values never meet its grammar.
"""

import copy
import json
import os
import re
import threading
from collections import OrderedDict
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from functools import lru_cache
from operator import attrgetter
from os import PathLike
from pathlib import Path
from typing import Any, NamedTuple, TypeAlias

from maze_core.config.nodes import parts_in, shown
from maze_core.config.words import unknown_word
from maze_core.errors import InvalidSpecificationError, Problem, ProblemList
from maze_core.types import Tree

GROUPS = ("env", "wrappers", "algorithm", "model", "policy", "critic", "runner", "launcher")
"""The groups that are arguments of a run and take a module name, a dict or an object."""
PRESET_GROUPS = ("configuration", "experiment")
"""The groups that take a module name only and may touch every part of the configuration."""

_ENV_ID = re.compile(r"[\w./:-]+-v\d+")
_VARIABLE = "MAZE_CONFIG_DIRS"
MODULE_NAME = re.compile(r"[A-Za-z0-9_][A-Za-z0-9_.-]*")

Directories: TypeAlias = Sequence[str | PathLike[str]] | str | PathLike[str] | None
"""Folders of the caller's own modules: several, one, or none."""


@dataclass(frozen=True)
class ModuleIndex:
    """The modules found, and a fingerprint that changes when one of their files does."""

    directories: tuple[Path, ...]
    """``conf_root()`` first, then the caller's."""
    files: dict[str, dict[str, Path]]
    """Group → module name → file."""
    fingerprint: tuple[tuple[str, int, int], ...]
    """File, modification time in ns and size in bytes of every module."""

    def names(self, group: str) -> list[str]:
        """Module names of a group, sorted."""
        return sorted(self.files.get(group, {}))


@lru_cache(maxsize=1)
def conf_root() -> Path:
    """The built-in ``conf/``: inside the package in an installed wheel, beside it in a checkout."""
    package = Path(__file__).resolve().parents[1]
    inside = package / "conf"
    return inside if inside.is_dir() else package.parent / "conf"


def module_index(config_dirs: Directories = ()) -> ModuleIndex:
    """Read the names of all modules.

    Raises:
        InvalidSpecificationError: a directory does not exist, or a module name belongs to two files.
    """
    found = ProblemList()
    directories = list(dict.fromkeys([conf_root(), *_folders(config_dirs, found)]))
    files: dict[str, dict[str, Path]] = {}
    stats: list[tuple[str, int, int]] = []
    for directory in directories:
        if not directory.is_dir():
            found.add("config_dirs", f"{directory} is not a directory.", code="unknown_directory")
            continue
        for group, name, file in _module_files(directory, stats):
            if name in files.setdefault(group, {}):
                found.add(
                    "config_dirs",
                    f"{file.relative_to(directory)} in {directory} has the name of another module; give it a name of "
                    "its own.",
                    code="duplicate_module",
                )
            files[group].setdefault(name, file)
    found.raise_if_any()
    return ModuleIndex(tuple(directories), files, tuple(sorted(stats)))


_path = lru_cache(maxsize=4096)(Path)
"""Making a path takes longer than looking at its file."""


def _module_files(directory: Path, stats: list[tuple[str, int, int]]) -> Iterator[tuple[str, str, Path]]:
    """Group, name and file of every module, root files first; what makes the fingerprint is added to ``stats``."""
    with os.scandir(directory) as entries:
        names = sorted(entries, key=lambda entry: (entry.is_dir(), entry.name))
    for entry in names:
        inside = [entry] if not entry.is_dir() else sorted(os.scandir(entry.path), key=attrgetter("name"))
        for file in inside:
            if file.name.endswith(".yaml") and file.is_file():
                stat = file.stat()
                stats.append((file.path, stat.st_mtime_ns, stat.st_size))
                yield "" if file is entry else entry.name, file.name.removesuffix(".yaml"), _path(file.path)


def searched_directories(config_dirs: Directories = ()) -> list[str]:
    """The caller's directories, absolute, and those of the variable ``MAZE_CONFIG_DIRS``, which adds to them.

    The variable is read with each call, as the service reads it: names separated by commas, or JSON.

    Raises:
        InvalidSpecificationError: something given is no path, or one of the variable's no directory.
    """
    found = ProblemList()
    folders, more = _folders(config_dirs, found), []
    try:
        more = _folders(listed(os.environ.get(_VARIABLE, "")), found)
    except ValueError as error:
        found.add(_VARIABLE, f"cannot be read: {error}.", code="wrong_type")
    for folder in more:
        if not folder.is_dir():
            found.add(_VARIABLE, f"{folder} is not a directory.", code="unknown_directory")
    found.raise_if_any()
    return [str(folder) for folder in dict.fromkeys([*folders, *more])]


def listed(text: str) -> list[str]:
    """The names in an environment variable: JSON when it starts with a bracket, else separated by commas.

    Raises:
        ValueError: it starts with a bracket and is no JSON list of texts.
    """
    if not text.strip().startswith("["):
        return [part.strip() for part in text.split(",") if part.strip()]
    names = json.loads(text)
    if not all(isinstance(name, str) for name in names):
        raise ValueError("takes a JSON list of texts")
    return list(names)


def _folders(config_dirs: object, found: ProblemList) -> list[Path]:
    """The caller's directories, resolved."""
    if isinstance(config_dirs, (str, PathLike)):
        config_dirs = [config_dirs]
    several = () if config_dirs is None else config_dirs
    if not isinstance(several, Sequence) or isinstance(several, bytes):
        message = f"takes a directory or a list of directories, not {shown(config_dirs)}."
        found.add("config_dirs", message, code="wrong_type")
        return []
    folders = []
    for directory in several:
        is_path = isinstance(directory, (str, PathLike)) and isinstance(os.fspath(directory), str)
        if not is_path or not os.fspath(directory).strip() or "\0" in os.fspath(directory):
            found.add("config_dirs", f"{shown(directory)} is no directory.", code="wrong_type")
        else:
            folders.append(Path(directory).expanduser().resolve())
    return folders


def config_groups(config_dirs: Directories = ()) -> dict[str, list[str]]:
    """Every group a run can choose from, with the names of its modules."""
    index = module_index(config_dirs)
    return {group: index.names(group) for group in (*GROUPS, *PRESET_GROUPS)}


def config_module(group: str, name: str, config_dirs: Directories = ()) -> Tree:
    """One module: ``name, group, description, config`` and the file's own text as ``yaml``.

    Raises:
        InvalidSpecificationError: there is no such group or module.
    """
    index = module_index(config_dirs)
    groups = [known for known in index.files if known]
    if group not in groups:
        raise InvalidSpecificationError([unknown_name("group", group, sorted(groups), path="group")])
    if name not in index.files[group]:
        raise InvalidSpecificationError(
            [unknown_name(f"{group} module", name, index.names(group), path=group)]
        )
    return module_of(index, group, name)


def module_of(index: ModuleIndex, group: str, name: str) -> Tree:
    """A module that is in the index; see :func:`config_module`.

    Raises:
        InvalidSpecificationError: its file cannot be read.
    """
    file = index.files[group][name]
    try:
        text = file.read_text(encoding="utf-8")
        config = parsed(text)
    except Exception as error:  # of the file, of YAML or of interpolations
        raise InvalidSpecificationError([_unreadable(file, index, error)]) from error
    return {
        "name": name,
        "group": group,
        "description": _leading_comment(text),
        "config": config,
        "yaml": text,
    }


def _unreadable(file: Path, index: ModuleIndex, error: Exception) -> Problem:
    """The problem of a module's file that is no text or no YAML."""
    mark, said = getattr(error, "problem_mark", None), getattr(error, "problem", None) or _first_line(error)
    where = "" if mark is None else f", line {mark.line + 1}"
    if isinstance(error, UnicodeDecodeError):
        said = "it is no UTF-8 text"
    group = file.parent.name if file.parent not in index.directories else "config_dirs"
    name = file.relative_to(next(folder for folder in index.directories if file.is_relative_to(folder)))
    return Problem(path=group, message=f"{name}{where} cannot be read: {said}.", code="unreadable_module")


def unknown_name(kind: str, name: str, allowed: Sequence[str], *, path: str) -> Problem:
    """The problem of a name that is not in the index."""
    message = f"There is no {kind} {shown(name)}."
    if path == "env" and _ENV_ID.fullmatch(name):
        message += f" An id is a value: overrides={{'env.name': {name!r}}}, or env.name={name} in maze-run."
        return Problem(path=path, message=message, code="unknown_module", allowed=tuple(allowed))
    return unknown_word(path, message, name, allowed, code="unknown_module")


def _leading_comment(text: str) -> str:
    lines = []
    for line in text.splitlines():
        if not line.startswith("#"):
            break
        if not line.startswith("# @package"):
            lines.append(line.lstrip("#").strip())
    return " ".join(lines)


def parsed(text: str) -> Any:
    """What a YAML text says, interpolations unresolved; the caller may change it."""
    return copy.deepcopy(_parsed(text))


@lru_cache(maxsize=256)
def _parsed(text: str) -> object:
    from omegaconf import OmegaConf  # reads 1e-3 as a number, as the composition does

    return OmegaConf.to_container(OmegaConf.create(text), resolve=False)


Choices: TypeAlias = Mapping[str, str]
"""Group → module name."""


class Composition(NamedTuple):
    """What modules say together."""

    tree: Tree
    """Interpolations are unresolved."""
    modules: dict[str, str | None]
    """Group → the module taken, by the caller, an experiment or the root file; None where none is."""


_MOST_KEPT = 128
_lock = threading.RLock()
_compositions: OrderedDict[tuple[object, ...], Composition] = OrderedDict()


def composition(root: str, choices: Choices, index: ModuleIndex) -> Composition:
    """The modules together; the caller may change what comes.

    Args:
        root: name of the root file, ``conf_train`` or ``conf_rollout``.
        choices: modules that are in the index, instead of the root's own choice.
        index: where the modules are.

    Raises:
        InvalidSpecificationError: a module's file cannot be read or does not fit the others.
    """
    key = (root, tuple(sorted(choices.items())), index.directories, index.fingerprint)
    with _lock:
        if key not in _compositions:
            _compositions[key] = _compose(root, choices, index)
            while len(_compositions) > _MOST_KEPT:
                _compositions.popitem(last=False)
        _compositions.move_to_end(key)
        return copy.deepcopy(_compositions[key])


def interpolates(tree: Any) -> bool:
    """Whether a text in the tree has an interpolation."""
    return any(isinstance(part, str) and "${" in part for _, part in parts_in(tree))


def resolve_interpolations(tree: Tree) -> Tree:
    """Evaluate ``${…}`` that a module's file contains, with the values the tree has now.

    Raises:
        InvalidSpecificationError: an interpolation names a key that is not there.
    """
    if not interpolates(tree):
        return tree
    from omegaconf import OmegaConf
    from omegaconf.errors import OmegaConfBaseException

    try:
        resolved = OmegaConf.to_container(OmegaConf.create(tree), resolve=True)
    except OmegaConfBaseException as error:
        raise InvalidSpecificationError(
            f"An interpolation cannot be resolved: {_first_line(error)}."
        ) from error
    assert isinstance(resolved, dict)
    return {str(key): value for key, value in resolved.items()}


def _compose(root: str, choices: Choices, index: ModuleIndex) -> Composition:
    from hydra import compose, initialize_config_dir
    from hydra.errors import HydraException
    from omegaconf import OmegaConf
    from omegaconf.errors import OmegaConfBaseException
    from yaml import YAMLError

    try:
        with own_hydra(), initialize_config_dir(str(index.directories[0]), version_base="1.3"):
            config = compose(root, overrides=_words(choices, index), return_hydra_config=True)
            modules = dict(config.hydra.runtime.choices)
            tree = OmegaConf.to_container(config, resolve=False)
    except (HydraException, OmegaConfBaseException, YAMLError, UnicodeDecodeError, OSError) as error:
        for group, names in index.files.items():
            for name in names:
                module_of(index, group, name)  # raises where a file is the cause
        chosen = ", ".join(f"{group}={name}" for group, name in sorted(choices.items())) or "the defaults"
        message = f"The modules of {root} with {chosen} do not compose: {_first_line(error)}"
        for directory in index.directories:
            message = message.replace(str(directory), directory.name)
        raise InvalidSpecificationError(message) from error
    assert isinstance(tree, dict)
    return Composition({str(key): value for key, value in tree.items() if key != "hydra"}, modules)


def _words(choices: Choices, index: ModuleIndex) -> list[str]:
    """The choices, and where modules lie, in Hydra's grammar."""
    words = [f"{group}={name}" for group, name in sorted(choices.items())]
    if index.directories[1:]:
        places = ",".join(_quoted(f"file://{directory}") for directory in index.directories[1:])
        words.append(f"hydra.searchpath=[{places}]")
    return words


class MergedFile(NamedTuple):
    """A file of a composition."""

    name: str
    """``algorithm/ppo``, or ``conf_train``."""
    package: tuple[str, ...]
    """Keys of the place in the tree where its values stand."""
    values: Tree
    """What it says; interpolations are unresolved."""


def merged_files(root: str, choices: Choices, index: ModuleIndex) -> list[MergedFile]:
    """The files that :func:`composition` merges, in that order: a later one wins.

    Raises:
        InvalidSpecificationError: the modules do not compose.
    """
    from hydra import initialize_config_dir
    from hydra.core.global_hydra import GlobalHydra
    from hydra.types import RunMode

    composition(root, choices, index)  # says what is wrong
    with own_hydra(), initialize_config_dir(str(index.directories[0]), version_base="1.3"):
        loader = GlobalHydra.instance().config_loader()
        entries = loader.compute_defaults_list(root, _words(choices, index), RunMode.RUN).defaults
    files = []
    for entry in entries:
        group, _, name = str(entry.config_path).rpartition("/")
        if name in index.files.get(group, {}):  # Hydra's own are not
            values = module_of(index, group, name)["config"]
            package = tuple((entry.package or "").split(".")) if entry.package else ()
            kept = {key: value for key, value in (values or {}).items() if key != "defaults"}
            files.append(MergedFile(str(entry.config_path), package, kept))
    return files


@contextmanager
def own_hydra() -> Iterator[None]:
    """Give Hydra's singletons to us for a moment, whoever else uses them in this process."""
    from hydra import version
    from hydra.core.global_hydra import GlobalHydra

    with _lock:
        found, versions = GlobalHydra.instance(), version.VersionBase.instance()
        hydra, base = found.hydra, versions.version_base
        found.hydra = None
        version.setbase("1.3")
        try:
            yield
        finally:
            GlobalHydra.set_instance(found)
            found.hydra, versions.version_base = hydra, base


def _quoted(text: str) -> str:
    escaped = text.replace("\\", "\\\\").replace("'", "\\'")
    return f"'{escaped}'"


def _first_line(error: Exception) -> str:
    lines: list[Any] = str(error).strip().splitlines() or [type(error).__name__]
    return str(lines[0])
