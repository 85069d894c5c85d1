"""What is printed: columns that nothing cuts, and JSON that every reader takes."""

import json
import math
from datetime import UTC, datetime

import pytest

from maze_client.answers import Metric
from service.cli.remote import Columns, print_facts, print_items, shown

POINTS: Columns = {"name": lambda point: point.name, "value": lambda point: point.value}


def metric(name: str, value: float) -> Metric:
    return Metric(name=name, epoch=1, step=2, value=value)


def test_columns_are_as_wide_as_what_is_in_them(capsys: pytest.CaptureFixture[str]) -> None:
    name = "n" * 200
    print_items([metric(name, 1.0), metric("b", 0.123456789)], POINTS, as_json=False)
    assert capsys.readouterr().out.splitlines() == [
        f"{'name':<200}  value",
        f"{name}  1",
        f"{'b':<200}  0.123457",
    ]


def test_nothing_is_a_header_alone(capsys: pytest.CaptureFixture[str]) -> None:
    print_items([], POINTS, as_json=False)
    assert capsys.readouterr().out == "name  value\n"
    print_items([], POINTS, as_json=True)
    print_facts(metric("a", 1.0), {"reason": lambda _: None}, as_json=False)
    assert capsys.readouterr().out == ""


def test_numbers_that_json_cannot_say_are_null(capsys: pytest.CaptureFixture[str]) -> None:
    print_items([metric("a", math.nan), metric("b", math.inf)], POINTS, as_json=True)
    rows = [json.loads(line, parse_constant=pytest.fail) for line in capsys.readouterr().out.splitlines()]
    assert [row["value"] for row in rows] == [None, None]


@pytest.mark.parametrize(
    ("value", "text"),
    [
        (None, "–"),
        (True, "yes"),
        (1e-7, "1e-07"),
        ({"a": 1.5, "b": [1, 2]}, "a=1.5 b=1 2"),
        ({}, "–"),
        (datetime(2026, 1, 2, 3, 4, 5, tzinfo=UTC), "2026-01-02 03:04:05"),
    ],
)
def test_values_are_short(value: object, text: str) -> None:
    assert shown(value) == text
