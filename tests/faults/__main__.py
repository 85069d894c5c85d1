"""``python -m tests.faults [R01,S13…]``: run the tests of all figures or these, write what they reach."""

import sys

import pytest

from tests.faults.figures import HEADER, HELD_BY, rows

CONTRACTS = {"tests/contracts/run_life.py": "tests/service/store/test_run_store.py"}
"""File of a suite → the tests that hold the stores to it."""


def main(figures: str = "") -> int:
    """Run, write, print; returns pytest's exit code."""
    wanted = figures.split(",") if figures else list(HELD_BY)
    files = {test.partition("::")[0] for figure in wanted for test in HELD_BY.get(figure, ())}
    paths = ["tests/faults", *sorted({CONTRACTS.get(file, file) for file in files})]
    options = ["-q", "-p", "tests.faults.recording", "--hypothesis-profile", "faults", "--figures", figures]
    code = pytest.main([*options, *paths])
    for row in (HEADER, *rows()):
        sys.stdout.write(" · ".join(row[:4]) + "\n")
    return int(code)


if __name__ == "__main__":
    sys.exit(main(*sys.argv[1:]))
