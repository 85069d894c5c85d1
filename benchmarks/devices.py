"""PPO on pictures by ``algorithm.device``: environment steps per second on the CPU and on a GPU, in turn.

The larger the batch, the more a GPU gains: parameters go there before each forward, gradients come back after it.

    python -m benchmarks.devices [--devices cpu cuda] [--batch-sizes 256 1024 4096] [--rounds 3] [--seconds 5]
"""

import argparse
from dataclasses import replace
from functools import partial
from statistics import median

from benchmarks.cases import CASES
from benchmarks.report import write_report
from benchmarks.train_throughput import compare, on_threads, ours


def main() -> None:
    """Measure, print the table, write the JSON."""
    import torch

    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("--devices", nargs="+", default=["cpu", "cuda"], choices=["cpu", "cuda"])
    parser.add_argument("--batch-sizes", nargs="+", type=int, default=[256, 1024, 4096])
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--seconds", type=float, default=5.0, help="CPU time of each in a round")
    chosen = parser.parse_args()
    base = next(case for case in CASES if case.name == "ppo-pixels")
    rows: list[dict[str, object]] = []
    for size in chosen.batch_sizes:
        case = replace(base, batch_size=size, n_envs=max(base.n_envs, size // base.n_steps))
        makers = {
            device: partial(
                on_threads,
                partial(ours, replace(case, overrides={"algorithm.device": device})),
                torch.get_num_threads(),
                alone=True,
            )
            for device in chosen.devices
        }
        for device, rates in compare(makers, chosen.rounds, chosen.seconds).items():
            row = {"batch_size": size, "n_envs": case.n_envs, "device": device}
            rows.append({**row, "per_s": round(median(rates.wall)), "per_cpu_s": round(median(rates.cpu))})
    name = torch.cuda.get_device_name() if "cuda" in chosen.devices else None
    write_report("devices", rows, settings={**vars(chosen), "gpu": name})


if __name__ == "__main__":
    main()
