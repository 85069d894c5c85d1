"""How soon a submitted run shows its first metrics, and how much memory the service's processes hold.

Starts the real ``maze serve`` on a fresh database, and as soon as it is ready submits PPO on CartPole-v1 run after run,
and asks for each until ``latest_metrics`` is there. The first one waits for what is still being imported.

    python -m benchmarks.first_metrics [--starts 3] [--runs 4]
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
from collections import defaultdict
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
    parser.add_argument("--starts", type=int, default=3, help="of the service")
    parser.add_argument("--runs", type=int, default=4, help="per start, after the first one")
    arguments = parser.parse_args()
    found: dict[str, list[float]] = defaultdict(list)
    for _ in range(arguments.starts):
        begun = time.perf_counter()
        with running_service() as (client, pid):
            found["start to ready, s"].append(time.perf_counter() - begun)
            found["API without a policy, MB"].append(processes(pid)["maze: api"].memory_info().rss / 1e6)
            for i in range(arguments.runs + 1):
                waited, child = _first_metrics(client, pid)
                found["POST to first metrics, s" if i else "the same right after ready, s"].append(waited)
                found["training process, MB"].append(child.rss / 1e6)
                found["of that its own, MB"].append(child.uss / 1e6)
    rows = [_row(what, values, 3 if what.endswith(" s") else 0) for what, values in found.items()]
    write_report("first_metrics", rows, settings={"spec": SPEC, **vars(arguments)})


@contextmanager
def running_service(*arguments: str) -> Iterator[tuple[httpx.Client, int]]:
    """``maze serve`` on a fresh database: a client of it that waited until it is ready, and its process id."""
    with tempfile.TemporaryDirectory() as folder, socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
        probe.close()
        command = [sys.executable, "-m", "service.cli", "serve", "--no-auth", "--port", str(port)]
        command += ["--database-url", f"sqlite:///{folder}/maze.db", *arguments]
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


def _first_metrics(client: httpx.Client, pid: int) -> tuple[float, Any]:
    """Seconds from POST to the first metrics, and psutil's word on the child's memory; waits for the run's end."""
    begun = time.perf_counter()
    run = client.post("/v1/train", json=SPEC).raise_for_status().json()["id"]
    until(lambda: _run(client, run)["latest_metrics"])
    waited = time.perf_counter() - begun
    held = processes(pid)[f"maze: run {run}"].memory_full_info()
    until(lambda: _run(client, run)["state"] == "succeeded")
    return waited, held


def _run(client: httpx.Client, run: str) -> dict[str, Any]:
    found: dict[str, Any] = client.get(f"/v1/runs/{run}").raise_for_status().json()
    return found


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
