"""``make test-postgres``: the suites of stores, workers and whole services on PostgreSQL, started for them alone."""

import os
import subprocess
import sys

from tests.service.databases import SOCKET_DIR, postgres_programs, running_postgres

SUITES = ("tests/service/store", "tests/service/worker", "tests/migrations", "tests/acceptance")


def main(*arguments: str) -> int:
    """Run pytest with these arguments, or on all the suites; returns its exit code."""
    programs = postgres_programs()
    if programs is None:
        sys.stderr.write("PostgreSQL is not installed here: apt-get install postgresql\n")
        return 1
    with running_postgres(programs) as cluster:
        command = [sys.executable, "-m", "pytest", "-q", "-m", "not faults", *(arguments or SUITES)]
        return subprocess.run(
            command, env={**os.environ, SOCKET_DIR: str(cluster.socket_dir)}, check=False
        ).returncode


if __name__ == "__main__":
    sys.exit(main(*sys.argv[1:]))
