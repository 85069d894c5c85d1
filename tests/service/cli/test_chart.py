"""A chart shows where values are high and low, and what its axes begin and end with."""

import math

import pytest

from service.cli.chart import chart


def picture(points: list[tuple[float, float]], columns: int = 30, rows: int = 4) -> list[str]:
    title, *lines = chart(points, title="t", columns=columns, rows=rows).splitlines()
    assert title == "t"
    return lines


def test_a_rising_line_goes_from_the_lower_left_to_the_upper_right() -> None:
    assert picture([(0, 0.0), (1, 1.0)], columns=22, rows=2) == [
        "1 ┤⠀⠀⠀⠀⠀⠀⠀⠀⠀⢀⣀⣀⠤⠤⠤⠒⠒⠊⠉",
        "0 ┤⣀⡠⠤⠤⠒⠒⠒⠉⠉⠁",
        "   0                 1",
    ]


def test_one_point_is_drawn() -> None:
    lines = picture([(3, 7.0)])
    assert dots(lines) == 1


def dots(lines: list[str]) -> int:
    """The characters with something in them."""
    return sum("\u2800" < character <= "\u28ff" for line in lines for character in line)


@pytest.mark.parametrize("value", [math.nan, math.inf, -math.inf])
def test_what_is_not_finite_is_a_gap(value: float) -> None:
    lines = picture([(0, 1.0), (1, value), (2, 1.0)])
    assert (
        sum(character > "\u2800" for character in "".join(lines[:-1]))
        - sum(character in "┤" for character in "".join(lines))
        <= 4
    )
    assert chart([(0, value)], title="t", columns=30, rows=4) == "t: nothing to draw"


@pytest.mark.parametrize("columns", [20, 80, 100])
def test_no_line_is_wider_than_it_may_be(columns: int) -> None:
    points = [(float(x), 1e6 * math.sin(x)) for x in range(500)]
    assert max(map(len, picture(points, columns=columns))) <= columns
