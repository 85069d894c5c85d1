"""``make test-postgres``: the suites of stores, workers and whole services on PostgreSQL, started for them alone."""

import os
import signal
import subprocess
import sys
from types import FrameType
from typing import NoReturn

from tests.service.databases import SOCKET_DIR, postgres_programs, running_postgres

SUITES = ("tests/service/store", "tests/service/worker", "tests/migrations", "tests/acceptance")


def main(*arguments: str) -> int:
    """Run pytest with these arguments, or on all the suites; returns its exit code."""
    programs = postgres_programs()
    if programs is None:
        sys.stderr.write("PostgreSQL is not installed here: apt-get install postgresql\n")
        return 1
    signal.signal(signal.SIGTERM, _end)
    with running_postgres(programs) as cluster:
        command = [sys.executable, "-m", "pytest", "-q", "-m", "not faults", *(arguments or SUITES)]
        suites = subprocess.Popen(command, env={**os.environ, SOCKET_DIR: str(cluster.socket_dir)})
        try:
            return suites.wait()
        finally:
            if suites.poll() is None:
                suites.send_signal(signal.SIGINT)  # it ends what it has started
                suites.wait()


def _end(number: int, _frame: FrameType | None) -> NoReturn:
    sys.exit(128 + number)


if __name__ == "__main__":
    sys.exit(main(*sys.argv[1:]))
