"""What processes gain where a step of the environment costs CPU time: IMPALA, also asynchronous, and ES.

    python -m benchmarks.slow_steps [--ms 1.0] [--seconds 5] [--repeats 3]

Eight environments that compute for so long in every step, one process per core. The ways take turns, and the table
has their medians: environment steps per second of wall time, evaluation left out, and over ``dev`` of the same
algorithm; and CPU time per step, which other load on the machine changes less.
"""

import argparse
import statistics
import time
from collections.abc import Sequence
from typing import Any

import psutil

from benchmarks.report import write_report
from maze_core.config import compose_run
from maze_core.runners.training import Training

_ES = {"algorithm.epoch_length": 1, "algorithm.n_rollouts_per_update": 16}
_LOCAL = {"runner.execution": "local"}
WAYS: dict[str, dict[str, Any]] = {
    "impala dev": {},
    "impala local": _LOCAL,
    "impala asynchronous": {**_LOCAL, "algorithm.mode": "asynchronous"},
    "es dev": _ES,
    "es local": {**_ES, **_LOCAL},
}


def main() -> None:
    """Measure, print the table, write the JSON."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--ms", type=float, default=1.0, help="CPU time of a step")
    parser.add_argument("--seconds", type=float, default=5.0, help="length of one measurement")
    parser.add_argument("--repeats", type=int, default=3, help="of each way, in turns")
    options = parser.parse_args()
    found: dict[str, list[list[float]]] = {way: [] for way in WAYS}
    for _ in range(options.repeats):
        for way in WAYS:
            found[way].append(_measured(way, options.ms, options.seconds))
    medians = {way: list(map(statistics.median, zip(*each, strict=True))) for way, each in found.items()}
    rows = [
        {
            "way": way,
            "steps_per_s": round(rate),
            "over_dev": round(rate / medians[f"{way.split()[0]} dev"][0], 2),
            "cpu_ms": round(own, 3),
            "cpu_ms_of_others": round(others, 3),
        }
        for way, (rate, own, others) in medians.items()
    ]
    write_report("slow_steps", rows, settings=vars(options))


def _measured(way: str, ms: float, seconds: float) -> list[float]:
    """Steps per second, and CPU time per step in ms: of this process, and of the busiest of the others."""
    algorithm = way.split()[0]
    overrides = {
        "env.name": "benchmarks.busy:Busy-v0",
        "env.kwargs": {"ms": ms},
        "algorithm.epoch_length": 20,
        "algorithm.rollout_evaluator.n_episodes": 0,
        "runner.normalization_samples": 1,
        **WAYS[way],
    }
    critic = "template_state" if algorithm == "impala" else None
    config = compose_run("train", algorithm=algorithm, critic=critic, overrides=overrides, seed=1)
    with Training(config) as training:
        training.run(1)
        processes = [psutil.Process(), *psutil.Process().children(recursive=True)]
        steps, begun, cpu = training.counters.env_steps, time.perf_counter(), _cpu_ms(processes)
        training.run(1_000_000, limits={"max_wall_s": seconds})
        elapsed, steps = time.perf_counter() - begun, training.counters.env_steps - steps
        own, *others = [(now - then) / steps for now, then in zip(_cpu_ms(processes), cpu, strict=True)]
    return [steps / elapsed, own, max(others, default=0.0)]


def _cpu_ms(processes: Sequence[psutil.Process]) -> list[float]:
    return [1000 * sum(process.cpu_times()[:2]) for process in processes]


if __name__ == "__main__":
    main()
