"""A pytest plug-in that writes what the tests of each figure reached: ``pytest -p tests.faults.recording``."""

import json
import os
import platform
from collections import Counter, defaultdict
from typing import Any

import pytest

from tests.faults.figures import FIGURES, HELD_BY, REACHED

_found: dict[str, dict[str, Any]] = defaultdict(
    lambda: {"passed": 0, "failed": 0, "skipped": 0, "generated": 0, "seconds": 0.0, "said": [], "tests": []}
)
_left: Counter[str] = Counter()
"""Figure that is asked for → tests of it that have not ended."""


def pytest_addoption(parser: pytest.Parser) -> None:
    """``--figures R01,R02``: these alone."""
    parser.addoption("--figures", default="")


@pytest.hookimpl(tryfirst=True)
def pytest_collection_modifyitems(items: list[pytest.Item], config: pytest.Config) -> None:
    """Mark the tests that stand elsewhere with their figures, and leave out what belongs to none that is asked for."""
    figures = defaultdict(list)
    for figure, tests in HELD_BY.items():
        for test in tests:
            figures[test].append(figure)
    for item in items:
        if found := figures.get(place_of(item)):
            item.add_marker(pytest.mark.figure(*found))
    wanted = set(filter(None, config.getoption("figures").split(","))) or set(FIGURES)
    items[:] = [
        item for item in items if any(wanted.intersection(mark.args) for mark in item.iter_markers("figure"))
    ]
    found_in = (figure for item in items for mark in item.iter_markers("figure") for figure in mark.args)
    _left.update(figure for figure in found_in if figure in wanted)


def place_of(item: pytest.Item) -> str:
    """The file of a test, as seen from the repository, and its name without classes and parameters."""
    function = getattr(item, "function", None)
    file = getattr(function, "__code__", None)
    path = os.path.relpath(file.co_filename, item.config.rootpath) if file else item.location[0]
    return f"{path}::{getattr(item, 'originalname', item.name)}"


@pytest.hookimpl(wrapper=True)
def pytest_runtest_makereport(item: pytest.Item, call: pytest.CallInfo[None]) -> Any:
    """Count what a test of a figure comes to, and write the figure after its last one."""
    report = yield
    for mark in item.iter_markers("figure"):
        for figure in mark.args:
            _count(_found[figure], item, report)
            _left[figure] -= report.when == "teardown"
            if report.when == "teardown" and _left[figure] == 0:
                write(figure, _found[figure])
    return report


def _count(found: dict[str, Any], item: pytest.Item, report: pytest.TestReport) -> None:
    found["seconds"] = round(found["seconds"] + report.duration, 1)
    if report.when != "call" and report.passed:
        return
    found[report.outcome] += 1
    if drawn := getattr(getattr(item, "function", None), "_hypothesis_internal_use_settings", None):
        found["generated"] += drawn.max_examples
    test = place_of(item)
    if test not in found["tests"]:
        found["tests"].append(test)
    found["said"] += [
        value for name, value in report.user_properties if name == "reached" and value not in found["said"]
    ]


def write(figure: str, found: dict[str, Any]) -> None:
    """Write what was found of a figure, and where."""
    assert figure in FIGURES, f"there is no figure {figure}"
    machine = {
        "cores": os.cpu_count(),
        "load": round(os.getloadavg()[1], 1),
        "system": platform.platform(),
        "python": platform.python_version(),
    }
    text = json.dumps(found | {"machine": machine}, indent=1, ensure_ascii=False)
    REACHED.mkdir(exist_ok=True)
    (REACHED / f"{figure}.json").write_text(text + "\n", encoding="utf-8")
