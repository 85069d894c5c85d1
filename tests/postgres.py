"""``make test-postgres``: the suites of stores, workers and whole services on PostgreSQL, started for them alone."""

import os
import signal
import subprocess
import sys
import tempfile
from collections import Counter
from collections.abc import Sequence
from pathlib import Path
from types import FrameType
from typing import Any, NoReturn
from xml.etree import ElementTree

from tests.faults.recording import write
from tests.service.databases import SOCKET_DIR, postgres_programs, running_postgres

SUITES = ("tests/service/store", "tests/service/worker", "tests/migrations", "tests/acceptance")


def main(*arguments: str) -> int:
    """Run pytest with these arguments, or on all the suites, and write the figure of suites; returns its exit code."""
    suites = arguments or SUITES
    programs = postgres_programs()
    if programs is None:
        sys.stderr.write("PostgreSQL is not installed here: apt-get install postgresql\n")
        return 1
    signal.signal(signal.SIGTERM, _end)
    with running_postgres(programs) as cluster, tempfile.TemporaryDirectory() as folder:
        report = Path(folder) / "report.xml"
        command = [sys.executable, "-m", "pytest", "-q", "-m", "not faults", f"--junitxml={report}", *suites]
        ran = subprocess.Popen(command, env={**os.environ, SOCKET_DIR: str(cluster.socket_dir)})
        try:
            code = ran.wait()
        finally:
            if ran.poll() is None:
                ran.send_signal(signal.SIGINT)  # it ends what it has started
                ran.wait()
        if set(suites) <= {*SUITES}:
            write("R22", found_in(report, suites))
        return code


def _end(number: int, _frame: FrameType | None) -> NoReturn:
    sys.exit(128 + number)


def found_in(report: Path, suites: Sequence[str]) -> dict[str, Any]:
    """What pytest's report comes to, as a figure."""
    counts: Counter[str] = Counter()
    for suite in ElementTree.parse(report).iter("testsuite"):
        counts.update({name: int(suite.get(name, 0)) for name in ("tests", "failures", "errors", "skipped")})
    failed = counts["failures"] + counts["errors"]
    passed = counts["tests"] - failed - counts["skipped"]
    said = ", ".join(suite.removeprefix("tests/").removeprefix("service/") for suite in suites)
    return {"passed": passed, "failed": failed, "skipped": counts["skipped"], "said": [said], "tests": []}


if __name__ == "__main__":
    sys.exit(main(*sys.argv[1:]))
