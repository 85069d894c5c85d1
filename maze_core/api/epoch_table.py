"""A training on the terminal as a table: one row per epoch, its header every so often, as wide as there is room."""

from collections.abc import Mapping
from dataclasses import dataclass

NO_VALUE = "–"
_HEADER_EVERY = 25


@dataclass(frozen=True)
class _Column:
    title: str
    key: str
    """Name of a metric; of a progress value where there is no ``/`` in it."""
    digits: int = 1
    width: int = 9
    is_needed: bool = False
    """Shown whatever the room."""


_COLUMNS = (
    _Column("epoch", "epoch", width=9, is_needed=True),
    _Column("env steps", "step", digits=0, width=11),
    _Column("return", "train/episode_return", is_needed=True),
    _Column("eval", "eval/mean_return", is_needed=True),
    _Column("±", "eval/std_return", width=8),
    _Column("policy loss", "train/policy_loss", digits=4, width=11),
    _Column("value loss", "train/value_loss", digits=3, width=11),
    _Column("entropy", "train/entropy", digits=3, width=8),
    _Column("steps/s", "time/env_steps_per_s", digits=0, width=9, is_needed=True),
    _Column("ETA", "eta", width=8, is_needed=True),
)


class EpochTable:
    """Gives the lines of the table."""

    def __init__(self, room: int | None) -> None:
        """Fit into ``room`` columns; None is as much as is needed."""
        self._room = room
        self._columns: list[_Column] = []
        self._n_rows = 0

    def lines(self, values: Mapping[str, float], *, epoch: str, eta: str) -> list[str]:
        """The row of an epoch, with the header above it where it is due.

        Args:
            values: what was measured, and ``step``.
            epoch: such as ``7/30``.
            eta: time left.
        """
        if not self._columns:
            self._columns = _fitting(values, self._room)
        cells = {"epoch": epoch, "eta": eta}
        row = [
            cells.get(column.key) or number(values.get(column.key), digits=column.digits)
            for column in self._columns
        ]
        is_due = self._n_rows % _HEADER_EVERY == 0
        self._n_rows += 1
        return [
            *([self._line([column.title for column in self._columns])] if is_due else []),
            self._line(row),
        ]

    def _line(self, cells: list[str]) -> str:
        return " ".join(cell.rjust(column.width) for cell, column in zip(cells, self._columns, strict=True))


def number(value: float | None, *, digits: int = 1) -> str:
    """A number for people; a dash where there is none."""
    return NO_VALUE if value is None or value != value else f"{value:,.{digits}f}"


def _fitting(values: Mapping[str, float], room: int | None) -> list[_Column]:
    """The columns that have something to show, as many of the optional ones as fit."""
    columns = [column for column in _COLUMNS if column.is_needed or column.key in values]
    optional = [column for column in columns if not column.is_needed]
    while room is not None and optional and sum(column.width + 1 for column in columns) - 1 > room:
        columns.remove(optional.pop())
    return columns
