"""JSON observations into rows that an agent takes, checked against the agent's space.

``Agent.check_observation`` decides what fits and says what does not. Before it stands a shortcut for the
common case, one small one-dimensional Box: it only ever accepts what the agent would accept, and leaves every
doubt to it.
"""

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any, cast

import msgspec
import numpy as np
from gymnasium import spaces

from maze_core.errors import SpaceMismatchError
from maze_core.types import ActorID, Array, Observation
from service.serving.problems import RequestError
from service.serving.request import malformed

if TYPE_CHECKING:
    from maze_core.agent import Agent

MAX_ROWS = 1024
"""Most observations in one request."""
_MAX_MISTAKES = 16
_SHORTCUT_SIZE = 64
_LARGEST = 2.0**62
"""Larger numbers are left to the agent, which refuses integers above 64 bits and what overflows the type."""

Row = list[float] | Array | Observation
"""One checked observation: the numbers of the one Box that the shortcut reads, or the agent's named arrays."""

_decode_any = msgspec.json.Decoder().decode


class ObservationReader:
    """Reads observations for one actor of one agent."""

    def __init__(self, agent: "Agent", actor: ActorID) -> None:
        self.actor = actor
        self._agent = agent
        space = agent.observation_spaces[actor.step_key]
        self._dtypes = {name: leaf.dtype for name, leaf in space.spaces.items()}
        self._shortcut = _BoxShortcut.of(space)

    def one(self, raw: msgspec.Raw) -> list[Row]:
        """The observation as a batch of one row; raises :class:`RequestError` (422)."""
        if self._shortcut is not None:
            row = self._shortcut.one(raw)
            if row is not None:
                return [row]
        try:
            return [self._check(_decode_json(raw, "/observation"))]
        except SpaceMismatchError as error:
            raise _refusal([_mistake(error, "/observation")]) from error

    def many(self, raw: msgspec.Raw) -> list[Row]:
        """The observations as rows; raises :class:`RequestError` (422) naming every one that does not fit."""
        if self._shortcut is not None and (rows := self._shortcut.many(raw)) is not None:
            return rows
        values = _decode_json(raw, "/observations")
        if not isinstance(values, list) or not 0 < len(values) <= MAX_ROWS:
            raise RequestError.at(
                "/observations", "invalid_value", f"Give a list of 1 to {MAX_ROWS} observations."
            )
        checked: list[Row] = []
        mistakes: list[dict[str, str]] = []
        for index, value in enumerate(values):
            try:
                checked.append(self._check(value))
            except SpaceMismatchError as error:
                mistakes.append(_mistake(error, f"/observations/{index}"))
                if len(mistakes) == _MAX_MISTAKES:
                    break
        if mistakes:
            raise _refusal(mistakes)
        return checked

    def stack(self, rows: Sequence[Row]) -> Observation:
        """Rows as one batch, name → ``[B, ...]``."""
        if self._shortcut is not None:
            return {self._shortcut.name: np.array(rows, self._dtypes[self._shortcut.name])}
        named = cast("Sequence[Observation]", rows)
        return {name: np.array([row[name] for row in named], dtype) for name, dtype in self._dtypes.items()}

    def _check(self, value: Any) -> Row:
        try:
            observation = self._agent.check_observation(value, self.actor)
        except RecursionError:
            raise SpaceMismatchError("The value is nested too deeply.") from None
        return observation if self._shortcut is None else observation[self._shortcut.name]


class _BoxShortcut:
    """Reads ``[…]`` or ``{"<name>": […]}`` for a one-dimensional Box of at most 64 numbers.

    Bounds are compared in float64 before the value is rounded to the space's type: what passes still lies
    within them after rounding, which is monotonic.
    """

    def __init__(self, name: str, space: spaces.Box) -> None:
        is_float = space.dtype.kind == "f"
        numbers: Any = list[float] if is_float else list[int]
        either: Any = numbers | dict[str, numbers]
        self.name = name
        self._one = msgspec.json.Decoder(either).decode
        self._many = msgspec.json.Decoder(list[either]).decode
        low, high = space.low, space.high
        if is_float:
            low, high = np.maximum(low, -_LARGEST), np.minimum(high, _LARGEST)
        self._bounds = list(zip(low.tolist(), high.tolist(), strict=True))

    @classmethod
    def of(cls, space: spaces.Dict) -> "_BoxShortcut | None":
        """The shortcut for this space, or None where there is none."""
        if len(space.spaces) != 1:
            return None
        [(name, leaf)] = space.spaces.items()
        if type(leaf) is not spaces.Box or len(leaf.shape) != 1 or not 0 < leaf.shape[0] <= _SHORTCUT_SIZE:
            return None
        return cls(name, leaf) if leaf.dtype.kind in "iu" or leaf.dtype.itemsize >= 4 else None

    def one(self, raw: msgspec.Raw) -> list[float] | None:
        """The numbers, or None where the agent has to look."""
        try:
            value = self._one(raw)
        except (ValueError, RecursionError):
            return None
        return self._fitting(value)

    def many(self, raw: msgspec.Raw) -> list[Row] | None:
        """The numbers of every observation, or None where the agent has to look."""
        try:
            values = self._many(raw)
        except (ValueError, RecursionError):
            return None
        rows: list[Row] = []
        for value in values:
            if (row := self._fitting(value)) is None:
                return None
            rows.append(row)
        return rows if 0 < len(rows) <= MAX_ROWS else None

    def _fitting(self, value: Any) -> list[float] | None:
        if type(value) is dict:
            value = value.get(self.name) if len(value) == 1 else None
        if value is None or len(value) != len(self._bounds):
            return None
        index = 0
        for low, high in self._bounds:
            if not low <= value[index] <= high:
                return None
            index += 1  # noqa: SIM113 — half the time of a strict zip, and this runs for every request
        row: list[float] = value
        return row


def _decode_json(raw: msgspec.Raw, pointer: str) -> Any:
    try:
        return _decode_any(raw)
    except (ValueError, RecursionError) as error:
        raise malformed(error, pointer) from error


def _mistake(error: SpaceMismatchError, pointer: str) -> dict[str, str]:
    return {"pointer": pointer + error.pointer, "code": "space_mismatch", "message": str(error)}


def _refusal(mistakes: list[dict[str, str]]) -> RequestError:
    detail = mistakes[0]["message"]
    if len(mistakes) > 1:
        detail = f"{len(mistakes)} observations or more do not fit the space; see errors."
    return RequestError(422, "invalid_request", detail, errors=mistakes)
