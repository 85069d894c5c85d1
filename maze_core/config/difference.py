"""What two resolved configurations differ in, by dotted path."""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any, Literal

from maze_core.config.nodes import is_node, join


@dataclass(frozen=True, kw_only=True)
class Difference:
    """A value that two configurations do not share."""

    key: str
    """Dotted path; items of lists by number."""
    kind: Literal["added", "removed", "changed"]
    """``added``: only the right one has it; ``removed``: only the left one."""
    left: Any = None
    right: Any = None


def differences(left: Mapping[str, Any], right: Mapping[str, Any]) -> list[Difference]:
    """The values that two trees do not share, in the order of the left one, then of the right one.

    What only one of them has is one entry, whatever is below it.
    """
    return list(_differences(left, right, ""))


def _differences(left: Any, right: Any, path: str) -> Iterator[Difference]:
    mine, theirs = _items(left), _items(right)
    if mine is None or theirs is None:
        if not _is_same(left, right):
            yield Difference(key=path, kind="changed", left=left, right=right)
        return
    for key in dict.fromkeys([*mine, *theirs]):
        where = join(path, key)
        if key not in theirs:
            yield Difference(key=where, kind="removed", left=mine[key])
        elif key not in mine:
            yield Difference(key=where, kind="added", right=theirs[key])
        else:
            yield from _differences(mine[key], theirs[key], where)


def _items(value: Any) -> Mapping[Any, Any] | None:
    """What a value has below it: the keys of a mapping, the numbers of a list of components; None of any other."""
    if isinstance(value, Mapping):
        return value
    is_list = isinstance(value, list) and value and all(map(is_node, value))
    return dict(enumerate(value)) if is_list else None


def _is_same(left: Any, right: Any) -> bool:
    """Whether two values are one in JSON, where 1 and 1.0 are and true is no number."""
    return bool(left == right) and isinstance(left, bool) == isinstance(right, bool)
