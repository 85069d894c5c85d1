"""Where each value of a resolved configuration comes from.

What a caller gives is noted while it is composed. What the modules' files say is read only when somebody asks, in the
order in which Hydra merges them.
"""

from collections.abc import Callable, Collection, Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any, Literal, NamedTuple, TypeAlias

from maze_core.config.modules import MergedFile
from maze_core.config.nodes import TARGET
from maze_core.config.overrides import replaces
from maze_core.types import Tree

Source: TypeAlias = Literal[
    "module",
    "configuration",
    "experiment",
    "argument",
    "override",
    "config",
    "drawn",
    "derived",
    "default",
    "changed",
]
Keys: TypeAlias = tuple[str, ...]


class Origin(NamedTuple):
    """Where a value comes from."""

    source: Source
    """``module``, ``configuration`` and ``experiment`` are files; ``argument``, ``override`` and ``config`` were given
    by the caller; ``drawn`` is a seed, ``derived`` follows from other values, ``default`` is the code's own;
    ``changed`` was another one when the run was submitted."""
    name: str | None = None
    """The file, ``algorithm/ppo``; the argument or the override as it was written; what it follows from."""


CODE = Origin("default")


@dataclass
class Provenance:
    """The origins of a configuration's values, noted in the order in which they were given."""

    files: Callable[[], list[MergedFile]] = list
    """The files of the composition, those that win last."""
    beside: Collection[str] | None = None
    """The arguments and overrides that stand beside a resolved configuration, which gives all others; None without."""
    is_drawn: bool = False
    """The seed that was given is no choice of the caller's."""
    _given: dict[Keys, Origin] = field(default_factory=dict)
    _replaced: set[Keys] = field(default_factory=set)
    """Below these, what files say counts no more."""
    _taken: dict[Keys, list[int]] = field(default_factory=dict)
    """List → numbers of the items that were taken out of it."""

    def note(self, path: str, current: Any, value: Any, origin: Origin) -> None:
        """Note that ``value`` is given for ``current``, which it replaces or is merged onto."""
        self._note(tuple(path.split(".")), current, value, origin)

    def note_replaced(self, path: str, value: Any, origin: Origin) -> None:
        """Note that ``value`` takes the place of all that stood there."""
        self.note(path, None, value, origin)

    def note_taken(self, path: str, parent: object) -> None:
        """Note that a setting, or an item of a list, was taken away."""
        *above, last = path.split(".")
        if isinstance(parent, list):
            self._taken.setdefault(tuple(above), []).append(int(last))
        else:
            self._forget(tuple(path.split(".")))

    def of(self, tree: Tree) -> dict[str, Origin]:
        """Dotted path → origin of every value of a resolved configuration that is no part with keys of its own."""
        in_files = self._in_files()
        return {
            ".".join(keys).removesuffix("."): self._origin(self._before(keys), in_files)
            for keys in leaves(tree)
        }

    def _note(self, keys: Keys, current: Any, value: Any, origin: Origin) -> None:
        if not replaces(current, value):
            for key, child in value.items():
                self._note((*keys, str(key)), current.get(key), child, origin)
            return
        self._forget(keys)
        self._given |= {(*keys, *below): origin for below in leaves(value)}

    def _forget(self, keys: Keys) -> None:
        self._given = {known: origin for known, origin in self._given.items() if known[: len(keys)] != keys}
        self._replaced.add(keys)

    def _in_files(self) -> dict[Keys, Origin]:
        found: dict[Keys, Origin] = {}
        wrappers: list[str] = []
        for file in self.files():
            group = file.name.partition("/")[0]
            source: Source = "experiment" if group == "experiment" else "module"
            origin = Origin("configuration" if group.endswith("configuration") else source, file.name)
            for below in leaves(file.values):
                keys = (*file.package, *below)
                if keys[0] == "wrappers" and len(keys) > 1 and keys[1] and not keys[1].isdecimal():
                    wrappers += [keys[1]] * (
                        keys[1] not in wrappers
                    )  # by class in files, by number in the tree
                    number = str(wrappers.index(keys[1]))
                    found[("wrappers", number, TARGET)] = origin
                    keys = ("wrappers", number, *keys[2:])
                    if len(keys) == 2:  # no settings beside its name
                        continue
                found = {known: of for known, of in found.items() if known[: len(keys)] != keys}
                found[keys] = origin
        return found

    def _before(self, keys: Keys) -> Keys:
        """Where a value stood before items of lists were taken out."""
        for above, numbers in self._taken.items():
            if keys[: len(above)] == above and len(keys) > len(above):
                number = int(keys[len(above)])
                for taken in sorted(numbers):
                    number += taken <= number
                keys = (*above, str(number), *keys[len(above) + 1 :])
        return keys

    def _origin(self, keys: Keys, in_files: Mapping[Keys, Origin]) -> Origin:
        """The origin of the longest known part of keys: a value may have become a part with keys of its own."""
        parts = [keys[:length] for length in range(len(keys), 0, -1)]
        for part in parts:
            if part in self._given:
                return self._named(self._given[part])
            if part in self._replaced:
                return CODE
        return next((in_files[part] for part in [(*keys, _EMPTY), *parts] if part in in_files), CODE)

    def _named(self, origin: Origin) -> Origin:
        if self.is_drawn and origin == Origin("argument", "seed"):
            return Origin("drawn")
        is_recorded = self.beside is not None and origin.source in ("argument", "override")
        return Origin("config") if is_recorded and origin.name not in (self.beside or ()) else origin


_EMPTY = ""
"""Stands for what is in an empty mapping: it replaces nothing that it is merged onto."""


def leaves(value: Any, keys: Keys = ()) -> Iterator[Keys]:
    """Keys of all that is no mapping or list with something in it."""
    if not (isinstance(value, (Mapping, list)) and value):
        yield (*keys, _EMPTY) if isinstance(value, Mapping) else keys
        return
    for key, child in value.items() if isinstance(value, Mapping) else enumerate(value):
        yield from leaves(child, (*keys, str(key)))
