"""A pytest plug-in that writes what the tests of each figure reached: ``pytest -p tests.faults.recording``."""

import json
import os
import platform
from collections import defaultdict
from typing import Any

import pytest

from tests.faults.figures import FIGURES, HELD_BY, REACHED

_found: dict[str, dict[str, Any]] = defaultdict(
    lambda: {"passed": 0, "failed": 0, "skipped": 0, "generated": 0, "seconds": 0.0, "said": [], "tests": []}
)


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


def place_of(item: pytest.Item) -> str:
    """The file of a test, as seen from the repository, and its name without classes and parameters."""
    function = getattr(item, "function", None)
    file = getattr(function, "__code__", None)
    path = os.path.relpath(file.co_filename, item.config.rootpath) if file else item.location[0]
    return f"{path}::{getattr(item, 'originalname', item.name)}"


@pytest.hookimpl(wrapper=True)
def pytest_runtest_makereport(item: pytest.Item, call: pytest.CallInfo[None]) -> Any:
    """Count what a test of a figure comes to."""
    report = yield
    for mark in item.iter_markers("figure"):
        for figure in mark.args:
            _count(_found[figure], item, report)
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


def pytest_sessionfinish() -> None:
    """Write a file for every figure that was run."""
    REACHED.mkdir(exist_ok=True)
    machine = {"cores": os.cpu_count(), "system": platform.platform(), "python": platform.python_version()}
    for figure, found in _found.items():
        assert figure in FIGURES, f"there is no figure {figure}"
        text = json.dumps(found | {"machine": machine}, indent=1, ensure_ascii=False)
        (REACHED / f"{figure}.json").write_text(text + "\n", encoding="utf-8")
