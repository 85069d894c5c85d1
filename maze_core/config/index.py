"""Which configuration modules exist: the files of ``conf/`` and of the caller's own directories.

A module is ``<group>/<name>.yaml``. Its name belongs to one file: a directory of the caller that repeats a
built-in name, or a name of another directory, is refused, because one of the two would silently win.
"""

import copy
import os
import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import lru_cache
from os import PathLike
from pathlib import Path
from typing import Any, TypeAlias

from maze_core.config.nodes import shown
from maze_core.config.words import unknown_word
from maze_core.errors import InvalidSpecificationError, Problem, ProblemList
from maze_core.types import Tree

GROUPS = ("env", "wrappers", "algorithm", "model", "policy", "critic", "runner", "launcher")
"""The groups that are arguments of a run and take a module name, a dict or an object."""
PRESET_GROUPS = ("configuration", "experiment")
"""The groups that take a module name only and may touch every part of the configuration."""

_ENV_ID = re.compile(r"[\w./:-]+-v\d+")
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


def _module_files(directory: Path, stats: list[tuple[str, int, int]]) -> Iterator[tuple[str, str, Path]]:
    """Group, name and file of every module, root files first; what makes the fingerprint is added to ``stats``."""
    with os.scandir(directory) as entries:
        names = sorted(entries, key=lambda entry: (entry.is_dir(), entry.name))
    for entry in names:
        inside = [entry] if not entry.is_dir() else sorted(os.scandir(entry.path), key=lambda file: file.name)
        for file in inside:
            if file.name.endswith(".yaml") and file.is_file():
                stat = file.stat()
                stats.append((file.path, stat.st_mtime_ns, stat.st_size))
                yield "" if file is entry else entry.name, file.name.removesuffix(".yaml"), Path(file.path)


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
        if not isinstance(directory, (str, PathLike)) or "\0" in str(directory):
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
    try:
        text = index.files[group][name].read_text(encoding="utf-8")
        config = parsed(text)
    except Exception as error:  # of the file, of YAML or of interpolations
        known = unreadable_file(error, index, index.files[group][name])
        raise InvalidSpecificationError([known] if known else str(error)) from error
    return {
        "name": name,
        "group": group,
        "description": _leading_comment(text),
        "config": config,
        "yaml": text,
    }


def unreadable_file(error: Exception, index: ModuleIndex, file: Path | None = None) -> Problem | None:
    """The problem of a module's file that is no text or no YAML; None where the error says no file.

    Args:
        error: what reading gave.
        index: the modules.
        file: the file that was read, where that is known.
    """
    mark, reason = getattr(error, "problem_mark", None), getattr(error, "problem", None)
    files = [known for modules in index.files.values() for known in modules.values()]
    if mark is not None:
        named = file or next((known for known in files if str(known) == mark.name), None)
        where, said = f", line {mark.line + 1}", str(reason or "no YAML")
    elif isinstance(error, UnicodeDecodeError):
        named = file or next((known for known in files if not _is_text(known)), None)
        where, said = "", "it is no UTF-8 text"
    else:
        named, where = file, ""
        said = (str(error).strip().splitlines() or [type(error).__name__])[0]
    if named is None:
        return None
    group = named.parent.name if named.parent not in index.directories else "config_dirs"
    name = named.relative_to(next(folder for folder in index.directories if named.is_relative_to(folder)))
    return Problem(path=group, message=f"{name}{where} cannot be read: {said}.", code="unreadable_module")


def _is_text(file: Path) -> bool:
    try:
        file.read_text(encoding="utf-8")
    except UnicodeDecodeError:
        return False
    return True


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
