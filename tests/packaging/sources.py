"""The project's own Python sources as syntax trees: what they import and what they call."""

import ast
from collections.abc import Iterator
from functools import cache
from pathlib import Path
from typing import NamedTuple

ROOT = Path(__file__).resolve().parents[2]
_IMPORTERS = ("import_module", "__import__", "files")
"""Functions that take the name of a module; the last one is that of importlib.resources."""


class Use(NamedTuple):
    """A name that a source imports or calls, and where."""

    name: str
    path: str
    line: int

    def __str__(self) -> str:
        """``maze_core/rundir.py:17 yaml.load``."""
        return f"{self.path}:{self.line} {self.name}"


def parsed(path: str) -> ast.Module:
    """Tree of the source at a path below the root."""
    return ast.parse((ROOT / path).read_text(), path)


def imports(path: str, tree: ast.Module) -> Iterator[Use]:
    """Modules that a source imports, relative ones left out; so do ``import_module("…")`` and ``files("…")``."""
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            yield from (Use(alias.name, path, node.lineno) for alias in node.names)
        elif isinstance(node, ast.ImportFrom) and node.level == 0 and node.module:
            yield Use(node.module, path, node.lineno)
        elif isinstance(node, ast.Call) and _last(node.func) in _IMPORTERS and node.args:
            named = node.args[0]
            if isinstance(named, ast.Constant) and isinstance(named.value, str):
                yield Use(named.value, path, node.lineno)


def calls(path: str, tree: ast.Module) -> Iterator[Use]:
    """Dotted names that a source calls, with imported names spelled out: ``load(f)`` is ``yaml.load``."""
    known = _imported_names(tree)
    for node in ast.walk(tree):
        if isinstance(node, ast.Call):
            first, dot, rest = _dotted(node.func).partition(".")
            yield Use(known.get(first, first) + dot + rest, path, node.lineno)


def all_imports(*folders: str) -> list[Use]:
    """Imports of every source in these folders."""
    return [use for folder in folders for use in _uses(folder)[0]]


def all_calls(*folders: str) -> list[Use]:
    """Calls of every source in these folders."""
    return [use for folder in folders for use in _uses(folder)[1]]


@cache
def _uses(folder: str) -> tuple[list[Use], list[Use]]:
    """Imports and calls of a folder's sources, which are parsed once and not kept."""
    found: tuple[list[Use], list[Use]] = [], []
    for file in sorted((ROOT / folder).rglob("*.py")):
        path = str(file.relative_to(ROOT))
        tree = parsed(path)
        found[0].extend(imports(path, tree))
        found[1].extend(calls(path, tree))
    return found


def public_imports(tree: ast.Module) -> dict[str, str]:
    """Name → module of the imports that only a type checker reads."""
    guarded = [node for node in tree.body if isinstance(node, ast.If) and _last(node.test) == "TYPE_CHECKING"]
    return {
        alias.asname or alias.name: item.module
        for block in guarded
        for item in block.body
        if isinstance(item, ast.ImportFrom) and item.module
        for alias in item.names
    }


def _imported_names(tree: ast.Module) -> dict[str, str]:
    """What the names that a source imports stand for, in any scope."""
    known: dict[str, str] = {}
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            known |= {alias.asname: alias.name for alias in node.names if alias.asname}
        elif isinstance(node, ast.ImportFrom) and node.module:
            known |= {alias.asname or alias.name: f"{node.module}.{alias.name}" for alias in node.names}
    return known


def _dotted(node: ast.expr) -> str:
    """``a.b.c`` of an attribute chain; ``?`` stands for what is no name."""
    if isinstance(node, ast.Attribute):
        return f"{_dotted(node.value)}.{node.attr}"
    return node.id if isinstance(node, ast.Name) else "?"


def _last(node: ast.expr) -> str:
    return _dotted(node).rpartition(".")[2]
