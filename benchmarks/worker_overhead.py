"""What a training costs more through HTTP and a worker than in a Python process of its own.

    python -m benchmarks.worker_overhead [--epochs 40] [--rounds 3]

PPO on CartPole-v1 with one seed, in turn: ``RunContext.train`` in a fresh process, imports not counted, then the same
through ``maze serve`` on a fresh database. ``cpu_s`` is what the run's process used, ``service_cpu_s`` what API, worker
and forkserver used meanwhile, ``wall_s`` from start to end of the run. Ratios are medians over rounds: of the run's CPU
time, of all CPU time, and of the time, to those in process. Both have to end in the same ``content_sha256``.
"""

import argparse
import json
import statistics
import subprocess
import sys
import time
from datetime import datetime
from typing import Any

import httpx

from benchmarks.first_metrics import processes, running_service, until
from benchmarks.report import write_report

COLUMNS = ("where", "cpu_s", "service_cpu_s", "wall_s", "cpu_ratio", "all_cpu_ratio", "wall_ratio")
IN_PROCESS = """
import json, sys, tempfile, time
from maze_core import RunContext
import maze_core.trainers.ppo
spec = json.loads(sys.argv[1])
cpu, wall = time.process_time(), time.perf_counter()
with tempfile.TemporaryDirectory() as folder, RunContext(run_dir=folder, silent=True, **spec) as context:
    context.train()
    used = {"cpu_s": time.process_time() - cpu, "wall_s": time.perf_counter() - wall}
    from maze_core.checkpoint import Checkpoint
    from pathlib import Path
    digest = Checkpoint.read(context.save(Path(folder) / "last", "last")).content_sha256
print(json.dumps({**used, "content_sha256": digest}))
"""


def main() -> None:
    """Measure, print the table, write the JSON."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--epochs", type=int, default=40)
    parser.add_argument("--rounds", type=int, default=3)
    options = parser.parse_args()
    rounds = []
    with running_service() as (client, pid):
        until(lambda: client.get("/health/ready").json()["checks"]["workers"]["status"] == "ok")
        _served(client, pid, 1)  # composes once, and warms the forkserver
        for _ in range(options.rounds):
            alone, served = _alone(options.epochs), _served(client, pid, options.epochs)
            if alone["content_sha256"] != served["content_sha256"]:
                raise RuntimeError(f"another result: {alone['content_sha256']}, {served['content_sha256']}")
            rounds.append((alone, served))
    write_report(
        "worker_overhead",
        _rows(rounds),
        columns=COLUMNS,
        settings=vars(options) | {"spec": _spec(options.epochs)},
    )


def _spec(n_epochs: int) -> dict[str, Any]:
    overrides = {"env.name": "CartPole-v1", "algorithm.n_epochs": n_epochs}
    return {"algorithm": "ppo", "overrides": overrides, "seed": 1}


def _alone(n_epochs: int) -> dict[str, Any]:
    command = [sys.executable, "-c", IN_PROCESS, json.dumps(_spec(n_epochs))]
    output = subprocess.run(command, check=True, capture_output=True, text=True).stdout
    used: dict[str, Any] = json.loads(output.splitlines()[-1])
    return used | {"service_cpu_s": 0.0}


def _served(client: httpx.Client, pid: int, n_epochs: int) -> dict[str, Any]:
    before = _service_cpu_s(pid)
    run = client.post("/v1/train", json=_spec(n_epochs)).raise_for_status().json()
    path = f"/v1/runs/{run['id']}"
    while run["finished_at"] is None:
        time.sleep(0.1)
        run = client.get(path).json()
    if run["state"] != "succeeded":
        raise RuntimeError(f"the run {run['state']}: {run['error']}")
    (last,) = (item for item in client.get(f"{path}/checkpoints").json()["data"] if item["is_last"])
    begun, ended = (datetime.fromisoformat(run[name]) for name in ("started_at", "finished_at"))
    return {
        "cpu_s": run["result"]["usage"]["cpu_s"],
        "service_cpu_s": _service_cpu_s(pid) - before,
        "wall_s": (ended - begun).total_seconds(),
        "content_sha256": last["content_sha256"],
    }


def _service_cpu_s(pid: int) -> float:
    """CPU seconds of the service's processes, those of runs left out."""
    own = [process for title, process in processes(pid).items() if not title.startswith("maze: run")]
    times = [process.cpu_times() for process in own]
    return sum(float(time.user + time.system) for time in times)


def _rows(rounds: list[tuple[dict[str, Any], dict[str, Any]]]) -> list[dict[str, Any]]:
    rows: list[dict[str, Any]] = []
    shown = ("cpu_s", "service_cpu_s", "wall_s")
    for i, name in enumerate(("in process", "through HTTP")):
        samples = [pair[i] for pair in rounds]
        row: dict[str, Any] = {"where": name}
        row |= {what: statistics.median(sample[what] for sample in samples) for what in shown}
        if i:
            row["cpu_ratio"] = statistics.median(ours["cpu_s"] / base["cpu_s"] for base, ours in rounds)
            row["all_cpu_ratio"] = statistics.median(
                (ours["cpu_s"] + ours["service_cpu_s"]) / base["cpu_s"] for base, ours in rounds
            )
            row["wall_ratio"] = statistics.median(ours["wall_s"] / base["wall_s"] for base, ours in rounds)
        rows.append(row)
    return rows


if __name__ == "__main__":
    main()
