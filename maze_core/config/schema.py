"""The resolved description of one run: frozen, validated, JSON-able, and hashed to ``config_sha256``."""

import functools
import hashlib
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from maze_core.checkpoint import canonical_bytes
from maze_core.config.instantiate import instantiate
from maze_core.config.nodes import TARGET, opaque_parts
from maze_core.config.normal_form import Mode, normal_form
from maze_core.errors import InvalidSpecificationError, Problem, ProblemList
from maze_core.types import Tree

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

    def identity(self) -> Tree:
        """What decides the numbers of a run: the tree without names and places."""
        return {key: value for key, value in self.tree.items() if key not in NOT_IDENTITY}

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
        node: Any = self.tree
        for key in path.split("."):
            try:
                node = node[int(key)] if isinstance(node, list) else node[key]
            except (KeyError, IndexError, ValueError, TypeError):
                raise InvalidSpecificationError([_missing(path, key)]) from None
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


def _missing(path: str, key: str) -> Problem:
    return Problem(path=path, message=f"The configuration has no {key!r} here.", code="unknown_key")


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
