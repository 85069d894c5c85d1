"""``make test-postgres`` leaves nothing behind when it is told to end."""

import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from tests.service.databases import SOCKET_DIR, postgres_programs

ROOT = Path(__file__).parents[1]
SUITE = f"""
import os, pathlib, time

def test_it_takes_its_time():
    begun = pathlib.Path('{{begun}}')
    begun.with_suffix(".part").write_text(os.environ["{SOCKET_DIR}"])
    begun.with_suffix(".part").rename(begun)
    time.sleep(600)
"""


@pytest.mark.slow
@pytest.mark.skipif(postgres_programs() is None, reason="PostgreSQL is not installed here")
def test_a_run_that_is_told_to_end_ends_its_cluster(tmp_path: Path) -> None:
    begun = tmp_path / "begun"
    (tmp_path / "test_long.py").write_text(SUITE.format(begun=begun))
    command = [
        sys.executable,
        "-m",
        "tests.postgres",
        f"--rootdir={tmp_path}",
        str(tmp_path / "test_long.py"),
    ]
    with subprocess.Popen(command, cwd=ROOT, stdout=subprocess.PIPE, stderr=subprocess.STDOUT) as process:
        while not begun.exists():
            assert process.poll() is None, process.stdout and process.stdout.read()
            time.sleep(0.05)
        directory = Path(begun.read_text())
        assert (directory / "data/postmaster.pid").exists()
        process.send_signal(signal.SIGTERM)
        process.communicate()
    assert process.returncode == 128 + signal.SIGTERM
    assert not directory.exists()
