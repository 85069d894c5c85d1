"""A line chart in characters: eight dots to a character, as Unicode's braille patterns have them."""

import math
from collections.abc import Iterator, Sequence
from itertools import pairwise

_DOTS = ((0x01, 0x08), (0x02, 0x10), (0x04, 0x20), (0x40, 0x80))
"""Bit of a dot by row and column within its character (U+2800 is the one without dots)."""

Point = tuple[float, float]


def chart(points: Sequence[Point], *, title: str, columns: int, rows: int) -> str:
    """Draw points, joined by lines, with the ends of both axes.

    Args:
        points: x and y, in order of x; those that are not finite are gaps.
        title: the first line.
        columns: characters of a line, at least 20.
        rows: lines of the picture, at least 2.
    """
    finite = [point for point in points if all(map(math.isfinite, point))]
    if not finite:
        return f"{title}: nothing to draw"
    (left, right), (low, high) = (_ends([point[axis] for point in finite]) for axis in (0, 1))
    labels = [f"{high:.4g}", *[""] * (rows - 2), f"{low:.4g}"]
    margin = max(map(len, labels))
    width = max(columns, 20) - margin - 2
    cells = [[0] * width for _ in range(rows)]
    spots = [
        (
            round((x - left) / (right - left) * (2 * width - 1)),
            round((high - y) / (high - low) * (4 * rows - 1)),
        )
        if math.isfinite(x) and math.isfinite(y)
        else None
        for x, y in points
    ]
    for start, end in pairwise([spots[0], *spots]):  # the first one stands alone, too
        if end is not None:
            for column, row in _line(start or end, end):
                cells[row // 4][column // 2] |= _DOTS[row % 4][column % 2]
    picture = [
        f"{label:>{margin}} ┤" + "".join(chr(0x2800 + cell) for cell in line).rstrip("\u2800")
        for label, line in zip(labels, cells, strict=True)
    ]
    first, last = f"{finite[0][0]:.6g}", f"{finite[-1][0]:.6g}"
    return "\n".join([title, *picture, " " * (margin + 2) + f"{first}{last:>{width - len(first)}}"])


def _ends(values: Sequence[float]) -> tuple[float, float]:
    """The smallest and the largest value; apart from each other."""
    low, high = min(values), max(values)
    half = (abs(low) or 1.0) / 2
    return (low, high) if low < high else (low - half, high + half)


def _line(start: tuple[int, int], end: tuple[int, int]) -> Iterator[tuple[int, int]]:
    """The dots between two, both among them."""
    length = max(abs(end[0] - start[0]), abs(end[1] - start[1]), 1)
    for step in range(length + 1):
        yield tuple(round(a + (b - a) * step / length) for a, b in zip(start, end, strict=True))  # type: ignore[misc]
