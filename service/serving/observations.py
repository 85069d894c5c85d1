"""Observations into rows that an agent takes, checked against the agent's space.

``Agent.check_observation`` decides what fits and says what does not. Before it stands a shortcut for the
common case, one small one-dimensional Box: it only ever accepts what the agent would accept, and leaves every
doubt to it.
"""

from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import TYPE_CHECKING, Annotated, Any, TypeAlias, cast

import msgspec
import numpy as np
from gymnasium import spaces

from maze_core.data.flat_space import form_of, has_tuple
from maze_core.errors import MaskError, SpaceMismatchError
from maze_core.types import ActorID, Array, Observation
from service.problems import Problem
from service.serving.forms import JSON, Form

if TYPE_CHECKING:
    from maze_core.agent import Agent

MAX_ROWS = 1024
"""Most observations in one request."""
_MAX_MISTAKES = 16
_SHORTCUT_SIZE = 64
_SHORTCUT_TYPES = ("float32", "float64", "int8", "uint8", "int16", "uint16", "int32", "uint32", "int64")

Numbers = tuple[float, ...]
Row: TypeAlias = Numbers | Array | Observation
"""One checked observation: the numbers or the array where there is one leaf, else the agent's named arrays."""
Rows: TypeAlias = Sequence[Row] | Array
"""Of a batch; one array ``[B, …]`` where there is one leaf and it came so."""


class ObservationReader:
    """Reads observations for one actor of one agent."""

    def __init__(self, agent: "Agent", actor: ActorID) -> None:
        self.actor = actor
        self._agent = agent
        self.space = space = agent.observation_spaces[actor.step_key]
        self.action_space = agent.action_spaces[actor.step_key]
        self._dtypes = {name: leaf.dtype for name, leaf in space.spaces.items()}
        self._shortcut = _BoxShortcut.of(space)
        self._only = next(iter(self._dtypes)) if len(self._dtypes) == 1 else None
        self.action_form = form_of(self.action_space)
        """How actions are answered: as the environment takes them."""

    def one(self, raw: msgspec.Raw, form: Form = JSON, mask: Any = None) -> Rows:
        """The observation as a batch of one row; raises :class:`Problem` (422)."""
        if self._shortcut is not None and form is JSON and mask is None:
            row = self._shortcut.one(raw)
            if row is not None:
                return [row]
        value = form.value(raw, "/observation")
        if isinstance(value, np.ndarray) and mask is None and self._agent.takes(value[None], self.actor):
            return value[None]
        try:
            return [self._check(value, mask)]
        except SpaceMismatchError as error:
            raise _refusal([_mistake(error, "/observation", "/action_mask")]) from error

    def plain(self, body: bytes) -> list[Row] | None:
        """The batch of one row of a request that has one member, ``observation``, of the plainest form, else None.

        What is read here :meth:`one` reads as well: where there is one colon, no key is there twice.
        """
        if self._shortcut is None or body.count(b":") != 1:
            return None
        row = self._shortcut.plain(body)
        return None if row is None else [row]

    def many(
        self, raw: msgspec.Raw, form: Form = JSON, masks_of: Callable[[int], list[Any]] | None = None
    ) -> Rows:
        """The observations as rows.

        Args:
            raw: a list of them, or one array.
            form: in which they came.
            masks_of: gives the masks of so many observations.

        Raises:
            Problem: 422, naming every one that does not fit.
        """
        whole, found = self._rows(raw, form, masks_of)
        if whole is not None:
            return whole
        checked: list[Row] = []
        mistakes: list[Any] = []
        for row in found:
            if not isinstance(row, Problem):
                checked.append(row)
            elif len(mistakes) < _MAX_MISTAKES:
                mistakes += row.errors
            else:
                break
        if mistakes:
            raise _refusal(mistakes)
        return checked

    def each(self, raw: msgspec.Raw, form: Form, masks_of: Callable[[int], list[Any]] | None) -> list[Any]:
        """As :meth:`many`, row by row; a :class:`Problem` stands in the place of one that does not fit."""
        whole, found = self._rows(raw, form, masks_of)
        return list(found if whole is None else whole)

    def _rows(
        self, raw: msgspec.Raw, form: Form, masks_of: Callable[[int], list[Any]] | None
    ) -> tuple[Rows | None, Iterator[Row | Problem]]:
        """All rows, where they fit at once, else one after the other."""
        shortcut = self._shortcut if form is JSON and masks_of is None else None
        if shortcut is not None and (rows := shortcut.many(raw)) is not None:
            return rows, iter(())
        values = form.value(raw, "/observations")
        is_list = isinstance(values, list) or (isinstance(values, np.ndarray) and values.ndim > 0)
        if not is_list or not 0 < len(values) <= MAX_ROWS:
            raise Problem.at(
                "/observations", "invalid_value", f"Give a list of 1 to {MAX_ROWS} observations."
            )
        if masks_of is None and isinstance(values, np.ndarray) and self._agent.takes(values, self.actor):
            return values, iter(())
        masks = [None] * len(values) if masks_of is None else masks_of(len(values))
        return None, (self._row(index, *given) for index, given in enumerate(zip(values, masks, strict=True)))

    def _row(self, index: int, value: Any, mask: Any) -> Row | Problem:
        try:
            return self._check(value, mask)
        except SpaceMismatchError as error:
            return _refusal([_mistake(error, f"/observations/{index}", f"/action_masks/{index}")])

    def stack(self, rows: Rows) -> Observation:
        """Rows as one batch, name → ``[B, ...]``; an array of them is not copied, and may be read-only."""
        if self._only is not None:
            return {self._only: np.asarray(rows, self._dtypes[self._only])}
        named = cast("Sequence[Observation]", rows)
        return {name: np.array([row[name] for row in named], dtype) for name, dtype in self._dtypes.items()}

    def named(self, arrays: Mapping[str, Array]) -> Rows:
        """Rows of arrays ``[B, …]`` by leaf; raises :class:`SpaceMismatchError`, its pointer begins with the row."""
        if self._only is not None and self._agent.takes(arrays[self._only], self.actor):
            return arrays[self._only]
        each = (dict(zip(arrays, parts, strict=True)) for parts in zip(*arrays.values(), strict=True))
        return [self._check_row(i, value) for i, value in enumerate(each)]

    def _check_row(self, i: int, value: Mapping[str, Array]) -> Row:
        try:
            return self._check(value)
        except SpaceMismatchError as error:
            error.pointer = f"/{i}{error.pointer}"
            raise

    def _check(self, value: Any, mask: Any = None) -> Row:
        try:
            observation = self._agent.check_observation(value, self.actor, mask)
        except RecursionError:
            raise SpaceMismatchError("The value is nested too deeply.") from None
        return observation if self._only is None else observation[self._only]


class _BoxShortcut:
    """Reads ``[…]`` or ``{"<name>": […]}`` for a one-dimensional Box of at most 64 numbers.

    Length and bounds are part of the type that msgspec decodes into. Bounds are compared in float64, before the
    value is rounded to the space's type: what passes still lies within them after rounding, which is monotonic.
    Numbers beyond 2^62 are left to the agent, which refuses integers above 64 bits and what overflows the type.
    """

    def __init__(self, name: str, space: spaces.Box) -> None:
        number, limit = (float, 2.0**62) if space.dtype.kind == "f" else (int, 2**62)
        bounds = zip(space.low.tolist(), space.high.tolist(), strict=True)
        numbers = tuple(
            Annotated[number, msgspec.Meta(ge=max(low, -limit), le=min(high, limit))] for low, high in bounds
        )
        row: Any = tuple.__class_getitem__(numbers)
        row_or_named: Any = row | dict[str, row]
        self.name = name
        plain: Any = msgspec.defstruct("Plain", [("observation", row)], forbid_unknown_fields=True, gc=False)
        self._plain = msgspec.json.Decoder(plain).decode
        self._one = msgspec.json.Decoder(row_or_named).decode
        self._many = msgspec.json.Decoder(list[row_or_named]).decode

    @classmethod
    def of(cls, space: spaces.Dict) -> "_BoxShortcut | None":
        """The shortcut for this space, or None where there is none."""
        if len(space.spaces) != 1:
            return None
        [(name, leaf)] = space.spaces.items()
        if not isinstance(leaf, spaces.Box) or has_tuple(form_of(space)):
            return None
        if len(leaf.shape) != 1 or not 0 < leaf.shape[0] <= _SHORTCUT_SIZE:
            return None
        return cls(name, leaf) if leaf.dtype.name in _SHORTCUT_TYPES else None

    def plain(self, body: bytes) -> Numbers | None:
        """The numbers of ``{"observation": […]}``, or None."""
        try:
            row: Numbers = self._plain(body).observation
        except (ValueError, RecursionError):
            return None
        return row

    def one(self, raw: msgspec.Raw) -> Numbers | None:
        """The numbers, or None where the agent has to look."""
        try:
            value = self._one(raw)
        except (ValueError, RecursionError):
            return None
        return value if type(value) is tuple else self._named(value)

    def many(self, raw: msgspec.Raw) -> list[Row] | None:
        """The numbers of every observation, or None where the agent has to look."""
        try:
            values = self._many(raw)
        except (ValueError, RecursionError):
            return None
        rows: list[Any] = [value if type(value) is tuple else self._named(value) for value in values]
        return rows if 0 < len(rows) <= MAX_ROWS and None not in rows else None

    def _named(self, value: dict[str, Numbers]) -> Numbers | None:
        return value.get(self.name) if len(value) == 1 else None


def _mistake(error: SpaceMismatchError, pointer: str, mask_pointer: str) -> dict[str, str]:
    code = "space_mismatch"
    if isinstance(error, MaskError):
        pointer, code = mask_pointer, error.code
    return {"pointer": pointer + error.pointer, "code": code, "message": str(error)}


def _refusal(mistakes: list[dict[str, str]]) -> Problem:
    detail = mistakes[0]["message"]
    if len(mistakes) > 1:
        detail = f"{len(mistakes)} observations or more do not fit the space; see errors."
    return Problem("invalid_request", detail, errors=mistakes)
