"""How much trainings that run side by side get done together, and how much memory they hold.

    python -m benchmarks.side_by_side [--runs 1 2 4 8] [--seconds 5]

One ``maze serve`` with a slot more than the most runs; so many trainings of PPO on CartPole-v1 at once, looked at for
some seconds in the middle. ``steps_per_s`` is of all together; ``each_mb`` is what one more process costs: its own
pages and its share of those that it has from the forkserver (PSS), ``per_gb`` how many of them a gigabyte holds.
"""

import argparse
import statistics
import time
from typing import Any

import httpx

from benchmarks.first_metrics import processes, running_service, until
from benchmarks.report import write_report

SPEC = {"algorithm": "ppo", "overrides": {"env.name": "CartPole-v1", "algorithm.n_epochs": 100_000}}


def main() -> None:
    """Measure, print the table, write the JSON."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--runs", type=int, nargs="+", default=[1, 2, 4, 8], help="side by side")
    parser.add_argument("--seconds", type=float, default=5.0, help="length of one measurement")
    options = parser.parse_args()
    with running_service("--workers", str(max(options.runs) + 1)) as (client, pid):
        rows = [_together(client, pid, n, options.seconds) for n in options.runs]
    write_report("side_by_side", rows, settings=vars(options) | {"spec": SPEC})


def _together(client: httpx.Client, pid: int, n_runs: int, seconds: float) -> dict[str, Any]:
    paths = [
        f"/v1/runs/{client.post('/v1/train', json=SPEC | {'seed': i}).raise_for_status().json()['id']}"
        for i in range(n_runs)
    ]
    until(lambda: all(_steps(client, path) for path in paths))
    before, begun = sum(_steps(client, path) for path in paths), time.perf_counter()
    time.sleep(seconds)
    done, waited = sum(_steps(client, path) for path in paths) - before, time.perf_counter() - begun
    children = [child for title, child in processes(pid).items() if title.startswith("maze: run")]
    each_mb = statistics.mean(child.memory_full_info().pss for child in children) / 1e6
    for path in paths:
        client.post(f"{path}/cancel", json={})
    until(lambda: all(client.get(path).json()["finished_at"] for path in paths))
    return {
        "runs": n_runs,
        "steps_per_s": round(done / waited),
        "each_mb": round(each_mb),
        "per_gb": round(1000 / each_mb, 1),
    }


def _steps(client: httpx.Client, path: str) -> int:
    return int(client.get(path).raise_for_status().json()["progress"]["env_steps"] or 0)


if __name__ == "__main__":
    main()
