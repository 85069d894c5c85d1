"""Any space as a Dict of named leaves that knows the form which its values have in the environment.

Inside, everything is name → array, in the order of the space. A space that is no Dict or Tuple has one leaf, named
``observation`` or ``action``; nested names are joined with a dot (``arm.angle``), Tuple entries are numbered
(``action_0``). Leaves keep their dtype: a clock in float64 would lose its digits in the float32 that networks compute
in, before a wrapper could shift it.

Outside, an observation or action has the form of the environment's own space, nested Dicts and Tuples and all. A
*form* is JSON, as a checkpoint keeps it:

* the name of a leaf stands for the value of that leaf,
* ``{"dict": [[key, form], …]}`` for a Dict, whose keys may be whole numbers, ``{"tuple": [form, …]}`` for a Tuple,
* ``{"text": name, "characters": "abc…"}`` for a text that is read: a leaf with the number of each character, from 1,
  and 0 after the last, which networks see as indicators,
* None for a part that was left out, as texts are unless asked for.
"""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from gymnasium import Space, spaces

from maze_core.data.values import LEAF_SPACES, LeafReader, as_array
from maze_core.errors import EnvError, SpaceMismatchError
from maze_core.notices import Notices
from maze_core.types import JSON, Action, Array, BoolArray, Observation

_SUPPORTED = f"{', '.join(kind.__name__ for kind in LEAF_SPACES)}, and Dict and Tuple of them"
_WAYS_OUT: list[tuple[type[Space[Any]], str]] = [
    (spaces.Graph, "turn it into Boxes of a fixed size"),
    (spaces.Sequence, "turn it into a Box of its greatest length, padded"),
    (spaces.OneOf, "turn it into a Discrete that says which, beside a leaf for each"),
    (
        spaces.Text,
        "read it by env=gym_text_env (observations only), or turn it into a Discrete or MultiDiscrete",
    ),
]

USUAL_NAMES = ("observation", "action")
"""What the one leaf of a space that is no Dict or Tuple is called."""


class FlatSpace(spaces.Dict):
    """Leaves by name, and their form."""

    def __init__(self, leaves: Sequence[tuple[str, Space[Any]]], form: JSON) -> None:
        """Take the leaves in their order, and the form that the original value has."""
        super().__init__(list(leaves))
        self.form = form

    @property
    def is_bare(self) -> bool:
        """The original space is its own single leaf."""
        return isinstance(self.form, str)


def observation_layout(space: Space[Any], *, reads_texts: bool = False) -> FlatSpace:
    """The leaves of an observation space; says once which texts are left out.

    Args:
        space: what is observed.
        reads_texts: Text spaces are leaves too, character by character.

    Raises:
        EnvError: the space holds a leaf that no policy can see, such as Graph, or none at all.
    """
    return _layout(space, "observation", reads_texts=reads_texts)


def action_layout(space: Space[Any]) -> FlatSpace:
    """The leaves of an action space.

    Raises:
        EnvError: the space holds a leaf that no policy can give, such as Text or Graph, or none at all.
    """
    return _layout(space, "action")


def _layout(space: Space[Any], root: str, *, reads_texts: bool = False) -> FlatSpace:
    found = _Leaves(reads_texts=reads_texts)
    form = _collect(space, root, None, found)
    if not found:
        raise EnvError(
            f"The {root} space {space} has no leaf that a policy could use. Supported: {_SUPPORTED}."
        )
    return FlatSpace(list(found.items()), form)


class _Leaves(dict[str, Space[Any]]):
    """Name → leaf, and whether texts are among them."""

    def __init__(self, *, reads_texts: bool) -> None:
        super().__init__()
        self.reads_texts = reads_texts


def _collect(space: Space[Any], root: str, name: str | None, found: _Leaves) -> JSON:
    """The form of a space (:mod:`maze_core.data.flat_space`); its leaves are gathered in ``found``."""
    if isinstance(space, spaces.Dict):
        below = "" if name is None else f"{name}."
        parts = ((_key(key, root), inner) for key, inner in space.spaces.items())
        return {"dict": [[key, _collect(inner, root, f"{below}{key}", found)] for key, inner in parts]}
    if isinstance(space, spaces.Tuple):
        numbered = ((f"{name or root}_{i}", inner) for i, inner in enumerate(space.spaces))
        return {"tuple": [_collect(inner, root, its_name, found) for its_name, inner in numbered]}
    leaf = name or root
    form: JSON = leaf
    if found.reads_texts and isinstance(space, spaces.Text):
        form = {"text": leaf, "characters": "".join(sorted(space.character_set))}
        space = spaces.MultiDiscrete([len(form["characters"]) + 1] * space.max_length)
    if _is_text(space) and root == "observation" and name is not None:
        Notices.current().say(
            f"text {leaf}", f"The observation {leaf!r} is a text, which no network reads; it is left out."
        )
        return None
    if not isinstance(space, LEAF_SPACES):
        kind = type(space).__name__
        way_out = next((way for cls, way in _WAYS_OUT if isinstance(space, cls)), "turn it into one of these")
        raise EnvError(
            f"The {root} space holds a {kind} space at {name or 'its root'}, which is not supported. "
            f"Supported: {_SUPPORTED}; {way_out} in a wrapper around the environment."
        )
    if space.dtype == np.longdouble != np.float64:
        raise EnvError(f"The {root} {leaf!r} is {space}, whose numbers no checkpoint holds: use float64.")
    if 0 in (space.shape or ()):
        raise EnvError(
            f"The {root} {leaf!r} is {space}, which holds no number: leave it out, or give it a width of 1 or more."
        )
    if leaf in found:
        raise EnvError(f"The {root} space has two leaves named {leaf!r}.")
    found[leaf] = space
    return form


def _key(key: Any, root: str) -> str | int:
    """A key of a Dict as JSON can keep it."""
    if isinstance(key, str):
        return str(key)
    if isinstance(key, int | np.integer) and not isinstance(key, bool):
        return int(key)
    raise EnvError(f"The {root} space has the key {key!r}; keys are texts or whole numbers.")


def _is_text(space: Space[Any]) -> bool:
    """Whether its values are texts, which a space need not be a Text for."""
    return isinstance(space, spaces.Text) or (space.dtype is not None and np.dtype(space.dtype).kind == "U")


def form_of(space: spaces.Dict) -> JSON:
    """The form of a Dict space of leaves; one leaf of a usual name stands for itself, unless the space knows better."""
    if isinstance(space, FlatSpace):
        return space.form
    names = list(space.spaces)
    return names[0] if len(names) == 1 and names[0] in USUAL_NAMES else _flat_form(names)


def usual_form(space: spaces.Dict) -> JSON:
    """The form that names alone tell, so that a checkpoint need not keep it: a Tuple where they are numbered."""
    names = list(space.spaces)
    for usual in USUAL_NAMES:
        if names == [f"{usual}_{i}" for i in range(len(names))]:
            return {"tuple": names}
    return form_of(spaces.Dict(list(space.spaces.items())))


def is_flat(space: spaces.Dict) -> bool:
    """Whether values have the names of the leaves, or are bare, in the environment too."""
    form = form_of(space)
    return isinstance(form, str) or bool(form == _flat_form(list(space.spaces)))


def _flat_form(names: Sequence[str]) -> JSON:
    return {"dict": [[name, name] for name in names]}


def put_together(form: JSON, leaves: Action) -> Any:
    """The original value from its leaves; parts that were left out are missing, in a Tuple None."""
    if isinstance(form, str):
        return leaves[form]
    if form is None:
        return None
    if "text" in form:
        return "".join(form["characters"][code - 1] for code in leaves[form["text"]] if code)
    if "dict" in form:
        return {key: put_together(inner, leaves) for key, inner in form["dict"] if inner is not None}
    return tuple(put_together(inner, leaves) for inner in form["tuple"])


def rows_of(form: JSON, leaves: Action) -> list[JSON]:
    """A batch ``[B, …]`` per leaf as JSON, row by row: see :func:`put_together`."""
    if isinstance(form, str):
        rows: list[JSON] = np.asarray(leaves[form]).tolist()
        return rows
    lists = (np.asarray(values).tolist() for values in leaves.values())
    return [put_together(form, dict(zip(leaves, row, strict=True))) for row in zip(*lists, strict=True)]


class SpaceReader:
    """Reads an observation or action: in the environment's own form, by flat names, or bare where there is one leaf."""

    def __init__(self, space: spaces.Dict, what: str, notices: Notices | None = None) -> None:
        """Prepare to read.

        Args:
            space: named leaves.
            what: "observation" or "action", for messages.
            notices: says once what is taken although it was not declared; None looks for the run's.
        """
        self.space = space
        self.leaves = {name: LeafReader(leaf) for name, leaf in space.spaces.items()}
        self._what = what
        self._notices = notices or Notices.current()
        form = form_of(space)
        self._own = _compiled(form, "")
        self._flat = _compiled(_flat_form(list(self.leaves)), "")
        self._is_bare = self._own.name is not None
        self._characters = dict(_texts(form))
        self._takes_bare = len(self.leaves) == 1 and not has_tuple(form)
        self._bare = next(iter(self.leaves.items())) if self._takes_bare else None

    def read(self, value: Any, pointer: str = "") -> Observation:
        """Name → new array of the leaf's dtype, in the order of the space.

        Args:
            value: in any of the forms.
            pointer: where it stands in the document it came from, as a JSON pointer.

        Raises:
            SpaceMismatchError: it does not fit; its ``pointer`` names the place.
        """
        if self._bare is not None and (array := self._bare[1].quickly(value)) is not None:
            return {self._bare[0]: array}
        try:
            parts, pointers = self.take_apart(value)
            read: Observation = {}
            for name, leaf in self.leaves.items():
                if (array := leaf.quickly(parts[name])) is None:
                    array = leaf.read(parts[name], pointers[name])
                    if (outside := leaf.beyond(array)) is not None:
                        self.say_beyond(name, array, outside)
                read[name] = array
        except SpaceMismatchError as error:
            error.pointer = pointer + error.pointer
            raise
        return read

    def takes(self, values: Array) -> bool:
        """Whether an array ``[B, …]`` holds values that fit as they are, of one leaf; false is no refusal."""
        return self._bare is not None and self._bare[1].takes(values)

    def take_apart(self, value: Any) -> tuple[dict[str, Any], Mapping[str, str]]:
        """Name → what stands there, unread; and name → its JSON pointer within the value.

        Raises:
            SpaceMismatchError: a part is missing, or is no object or list.
        """
        found: dict[str, Any] = {}
        if self._takes_bare and not isinstance(value, Mapping):
            name = next(iter(self.leaves))
            found[name], pointers = value, {name: ""}
        else:
            node = self._flat if self._is_flat(value) else self._own
            self._take(node, value, found)
            pointers = node.leaf_pointers
        for name, characters in self._characters.items():
            if isinstance(found[name], str):
                found[name] = _codes(found[name], characters, self.leaves[name].shape[0], pointers[name])
        return found, pointers

    def refusal(self, name: str, error: SpaceMismatchError) -> str:
        """What is wrong with a leaf, in a sentence that names it."""
        place = f" at {error.pointer}" if error.pointer else ""
        return f"the {self._what} {name!r} does not fit {self.space[name]}{place}: {error}"

    def say_beyond(self, name: str, array: Array, outside: BoolArray) -> None:
        """Say once that a leaf oversteps its declared bounds."""
        where = self.leaves[name].beyond_text(array, outside)
        self._notices.say(
            f"bounds of {self._what} {name}",
            f"The {self._what} {name!r} oversteps its declared bounds ({where}); it is taken as it is.",
        )

    def say_extra(self, key: Any) -> None:
        """Say once that values have parts that the space does not declare."""
        text = f"The {self._what} has {key!r:.64}, which its space does not declare; such parts are left out."
        self._notices.say(f"extra {self._what}", text)

    def _is_flat(self, value: Any) -> bool:
        """Whether a value is given by the names of the leaves, and not in another form of its own."""
        if not isinstance(value, Mapping) or self._own.is_tuple or self._is_bare:
            return isinstance(value, Mapping)
        is_own = all(_key_in(key, value) for key, part in self._own.parts if part is not None)
        return not is_own and all(name in value for name in self.leaves)

    def _take(self, node: "_Node", value: Any, found: dict[str, Any]) -> None:
        if node.name is not None:
            found[node.name] = value
        elif node.is_tuple:
            if hasattr(value, "__array__"):
                array = as_array(value, node.pointer)
                value = list(array) if array.ndim else array
            if not isinstance(value, Sequence) or isinstance(value, str) or len(value) != len(node.parts):
                raise SpaceMismatchError(f"Expected a list of {len(node.parts)} values.", node.pointer)
            for (_, part), its_value in zip(node.parts, value, strict=True):
                if part is not None:
                    self._take(part, its_value, found)
        else:
            self._take_dict(node, value, found)

    def _take_dict(self, node: "_Node", value: Any, found: dict[str, Any]) -> None:
        listed = ", ".join(repr(key) for key, _ in node.parts) or "nothing"
        if not isinstance(value, Mapping):
            raise SpaceMismatchError(f"Expected an object with {listed}.", node.pointer)
        known = []
        for key, part in node.parts:
            given = _key_in(key, value)
            if given is not None:
                known.append(given[0])
                if part is not None:
                    self._take(part, value[given[0]], found)
            elif part is not None:
                raise SpaceMismatchError(f"{key!r} is missing; expected {listed}.", node.pointer)
        if len(value) > len(known):
            self.say_extra(next(key for key in value if key not in known))


@dataclass(slots=True, kw_only=True)
class _Node:
    """A form with the place of each part."""

    pointer: str
    name: str | None = None
    """Of a leaf."""
    is_tuple: bool = False
    parts: list[tuple[Any, "_Node | None"]] = field(default_factory=list)
    """Key and part, None for what was left out."""
    leaf_pointers: dict[str, str] = field(default_factory=dict)
    """Leaf → its JSON pointer, of all leaves below."""


def _texts(form: JSON) -> Iterator[tuple[str, str]]:
    """The leaves that are texts in the environment, each with its characters."""
    if isinstance(form, dict) and "text" in form:
        yield form["text"], form["characters"]
    elif isinstance(form, dict):
        for part in form["tuple"] if "tuple" in form else (inner for _, inner in form["dict"]):
            yield from _texts(part)


def _codes(text: str, characters: str, length: int, pointer: str) -> list[int]:
    """The number of each character, from 1; 0 after the last."""
    if len(text) > length:
        raise SpaceMismatchError(f"Expected at most {length} characters, got {len(text)}.", pointer)
    codes = [characters.find(character) + 1 for character in text]
    if 0 in codes:
        raise SpaceMismatchError(
            f"{text[codes.index(0)]!r} is none of the characters that its space has.", pointer
        )
    return codes + [0] * (length - len(text))


def _compiled(form: JSON, pointer: str) -> _Node:
    if isinstance(form, dict) and "text" in form:
        form = form["text"]
    if isinstance(form, str):
        return _Node(pointer=pointer, name=form, leaf_pointers={form: pointer})
    is_tuple = "tuple" in form
    node = _Node(pointer=pointer, is_tuple=is_tuple)
    for key, inner in enumerate(form["tuple"]) if is_tuple else form["dict"]:
        part = None if inner is None else _compiled(inner, f"{pointer}/{_escape(key)}")
        node.parts.append((key, part))
        node.leaf_pointers |= part.leaf_pointers if part is not None else {}
    return node


def _key_in(key: Any, value: Mapping[Any, Any]) -> tuple[Any] | None:
    """The key under which a value has this entry; JSON writes whole numbers as text."""
    if key in value:
        return (key,)
    return (str(key),) if not isinstance(key, str) and str(key) in value else None


def has_tuple(form: JSON) -> bool:
    """Whether a list may stand for several leaves."""
    parts = form.get("dict", ()) if isinstance(form, dict) else ()
    return (isinstance(form, dict) and "tuple" in form) or any(has_tuple(inner) for _, inner in parts)


def _escape(name: Any) -> str:
    """A name as a token of a JSON pointer (RFC 6901, section 3)."""
    return str(name).replace("~", "~0").replace("/", "~1")
