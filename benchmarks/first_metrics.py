"""How soon a submitted run shows its first metrics, and how much memory the service's processes hold.

Starts the real ``maze serve`` on a fresh database, waits until its worker is warm, then submits PPO on CartPole-v1 run
after run, and asks for each until ``latest_metrics`` is there. The first one warms the composition and is not counted.

    python -m benchmarks.first_metrics [--runs 6]
"""

import argparse
import os
import signal
import socket
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from typing import Any

import httpx
import psutil

from benchmarks.report import write_report

SPEC = {
    "algorithm": "ppo",
    "overrides": {"env.name": "CartPole-v1", "algorithm.n_epochs": 5},
    "seed": 1,
}
PATIENCE_S = 120.0


def main() -> None:
    """Measure, print the table, write the JSON."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("--runs", type=int, default=6, help="runs after one to warm up")
    arguments = parser.parse_args()
    with running_service() as (client, pid):
        without_policy = memory(pid)["maze: api"]
        waits, training = zip(*(_first_metrics(client, pid) for _ in range(arguments.runs + 1)), strict=True)
    rows = [
        _row("POST to first metrics, s", waits[1:], 3),
        _row("API without a policy, MB", [without_policy], 0),
        _row("training child, MB", training[1:], 0),
    ]
    write_report("first_metrics", rows, settings={"spec": SPEC, "runs": arguments.runs})


@contextmanager
def running_service() -> Iterator[tuple[httpx.Client, int]]:
    """``maze serve`` on a fresh database: a client of it that waited until it is ready, and its process id."""
    with tempfile.TemporaryDirectory() as folder, socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
        probe.close()
        command = [sys.executable, "-m", "service.cli", "serve", "--no-auth", "--port", str(port)]
        command += ["--database-url", f"sqlite:///{folder}/maze.db"]
        process = subprocess.Popen(
            command, cwd=folder, env={**os.environ, "MAZE_LOG_LEVEL": "error"}, stdout=subprocess.DEVNULL
        )
        try:
            with httpx.Client(base_url=f"http://127.0.0.1:{port}", timeout=60) as client:
                until(lambda: _is_ready(client))
                yield client, process.pid
        finally:
            process.send_signal(signal.SIGTERM)
            process.wait(60)


def _is_ready(client: httpx.Client) -> bool:
    try:
        return client.get("/health/ready").status_code == 200
    except httpx.TransportError:
        return False


def _first_metrics(client: httpx.Client, pid: int) -> tuple[float, float]:
    """Seconds from POST to the first metrics, and the child's memory then, in MB; waits for the run's end."""
    begun = time.perf_counter()
    run = client.post("/v1/train", json=SPEC).raise_for_status().json()["id"]
    until(lambda: _run(client, run)["latest_metrics"])
    waited = time.perf_counter() - begun
    held = memory(pid).get(f"maze: run {run}", float("nan"))
    until(lambda: _run(client, run)["state"] == "succeeded")
    return waited, held


def _run(client: httpx.Client, run: str) -> dict[str, Any]:
    found: dict[str, Any] = client.get(f"/v1/runs/{run}").raise_for_status().json()
    return found


def memory(pid: int) -> dict[str, float]:
    """Title → resident MB of the service's processes."""
    return {title: process.memory_info().rss / 1e6 for title, process in processes(pid).items()}


def processes(pid: int) -> dict[str, psutil.Process]:
    """Title → process of the service."""
    found = {}
    for process in psutil.Process(pid).children(recursive=True):
        with suppress(psutil.Error, IndexError):  # it ended meanwhile
            found[process.cmdline()[0].strip()] = process
    return found


def until(condition: Callable[[], object]) -> None:
    """Wait; raises TimeoutError."""
    deadline = time.monotonic() + PATIENCE_S
    while not condition():
        if time.monotonic() > deadline:
            raise TimeoutError("the service did not get there")
        time.sleep(0.01)


def _row(what: str, values: Any, digits: int) -> dict[str, object]:
    low, middle, high = min(values), statistics.median(values), max(values)
    return {
        "what": what,
        "min": round(low, digits),
        "median": round(middle, digits),
        "max": round(high, digits),
    }


if __name__ == "__main__":
    main()
