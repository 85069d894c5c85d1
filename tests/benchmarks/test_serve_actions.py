"""The benchmark's own parts: its load generator counts what a server answered, its table is aligned."""

import json
import socket
import subprocess
import sys
from collections.abc import Iterator

import pytest

from benchmarks.http_load import measure
from benchmarks.report import table


@pytest.fixture
def bare_port() -> Iterator[int]:
    """Port of the bare application, in a process of its own."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    process = subprocess.Popen([sys.executable, "-m", "benchmarks.action_servers", "bare", str(port)])
    try:
        while True:
            try:
                socket.create_connection(("127.0.0.1", port)).close()
                break
            except ConnectionRefusedError:
                assert process.poll() is None
        yield port
    finally:
        process.terminate()
        process.wait()


def test_the_own_client_measures_answered_requests(bare_port: int) -> None:
    result = measure(bare_port, "/", json.dumps({}), connections=3, seconds=0.3, generator="own")
    assert result.requests > 3
    assert result.failures == 0
    assert 0 < result.p50_us <= result.p99_us


def test_numbers_are_aligned_to_the_right_and_gaps_stay_empty() -> None:
    rows = [{"name": "a", "rate": 1234.5, "ratio": None}, {"name": "long", "rate": 7.0, "ratio": 0.5}]
    assert table(rows, ["name", "rate", "ratio"]).splitlines() == [
        "name   rate  ratio",
        "----  -----  -----",
        "a     1,234",
        "long      7    0.5",
    ]
