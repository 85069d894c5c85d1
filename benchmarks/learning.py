"""What the shipped experiments learn, seed by seed, beside RL-Zoo3's own training and published results.

A run is made once and remembered in ``benchmarks/learning_runs/<experiment>.json``; one that was interrupted, or whose
experiment's file has changed since, is made anew. RL-Zoo3 trains by its own command with its own settings and equal
steps, in a virtual environment of its own (``make learning`` makes it): Stable-Baselines3 underneath.

    python -m benchmarks.learning [experiment …] [--seeds 5] [--zoo PYTHON] [--only-zoo]
"""

import argparse
import json
import math
import os
import subprocess
import tempfile
import time
from collections.abc import Sequence
from dataclasses import dataclass
from importlib.metadata import version
from pathlib import Path
from statistics import fmean, stdev
from typing import Any

import numpy as np

from benchmarks.report import table
from maze_core import RunContext
from maze_core.config.modules import config_module
from maze_core.evaluation.evaluate import t_quantile

RESULTS = Path(__file__).parent / "learning_runs"
N_EPISODES = 100
"""Episodes that a policy is judged by at the end, with seeds that no evaluation in training had."""
N_EVALUATIONS, N_EVALUATION_EPISODES = 10, 20
"""Of RL-Zoo3's training."""
Run = dict[str, Any]
"""``seed, best, last, env_steps, cpu_s, versions``."""


@dataclass(frozen=True)
class Task:
    """An experiment, and what is to be learnt by it."""

    experiment: str
    """Module of the group ``experiment``, named after the environment and the algorithm."""
    n_env_steps: int | None
    """How long RL-Zoo3 trains, where it has the algorithm; the experiment has the same number."""
    goal: float
    """Mean return over the seeds."""
    published: float | None
    """By RL-Zoo3's benchmark.md, one run."""
    n_seeds: int = 5
    hyperparams: tuple[str, ...] = ()
    """What RL-Zoo3 is told where it knows the environment under another version only."""

    @property
    def algorithm(self) -> str:
        """Its name, here and there."""
        return self.experiment.rpartition("_")[2]


TASKS = {
    task.experiment: task
    for task in (
        Task("cartpole_ppo", 100_000, 500, 500),
        Task("cartpole_a2c", 500_000, 500, 500),
        Task("cartpole_dqn", 50_000, 500, 500),
        Task("cartpole_impala", None, 500, None),
        Task("cartpole_es", None, 475, None),
        Task("acrobot_ppo", 300_000, -82, -73.5),
        Task("lunar_lander_ppo", 1_000_000, 240, 242.1, n_seeds=3),
        Task("lunar_lander_continuous_ppo", 1_000_000, 250, 270.9, n_seeds=3),
        Task("mountain_car_dqn", 120_000, -110, -100.8),
        Task("mountain_car_qrdqn", 120_000, -110, None),
        Task("pendulum_sac", 20_000, -160, -157.0),
        Task("pendulum_td3", 20_000, -160, -151.9),
        Task("pendulum_ppo", 100_000, -200, -172.2),
        Task("mountain_car_continuous_sac", 50_000, 93, 94.7),
        Task("swimmer_ppo", 1_000_000, 280, 281.6, n_seeds=3, hyperparams=(
            "normalize:True", "n_envs:4", "n_steps:1024", "batch_size:256", "gamma:0.9999", "learning_rate:6e-4",
            "gae_lambda:0.98",
        )),
    )
}  # fmt: skip


def ours(task: Task, seed: int) -> Run:
    """Train as the experiment says; judge the best and the last policy."""
    begun = time.process_time()
    with tempfile.TemporaryDirectory() as folder:
        run_dir = Path(folder) / "run"
        with RunContext(run_dir, experiment=task.experiment, seed=seed, silent=True) as context:
            report = context.train()
            taken = time.process_time() - begun
            best = context.evaluate(N_EPISODES).mean_return
        with RunContext.load(run_dir, "last") as context:
            last = context.evaluate(N_EPISODES).mean_return
    steps = report.counters.env_steps
    return {
        "best": best,
        "last": last,
        "env_steps": steps,
        "cpu_s": taken,
        "versions": versions("maze-service"),
    }


def of_zoo(task: Task, seed: int, python: str) -> Run:
    """Train as RL-Zoo3 says; the best and the last evaluation of its own callback."""
    n_env_steps = task.n_env_steps
    assert n_env_steps is not None
    env = config_module("experiment", task.experiment)["config"]["env"]["name"]
    words = ["--algo", task.algorithm, "--env", env, "--seed", seed, "-n", n_env_steps]
    words += ["--eval-freq", n_env_steps // N_EVALUATIONS, "--eval-episodes", N_EVALUATION_EPISODES]
    words += ["--n-eval-envs", 5, "--device", "cpu", "--num-threads", 1, "--verbose", 0]
    words += ["--hyperparams", *task.hyperparams] if task.hyperparams else []
    before = os.times()
    with tempfile.TemporaryDirectory() as folder:
        command = [python, "-m", "rl_zoo3.train", *map(str, words), "-f", folder]
        quiet = {**os.environ, "OMP_NUM_THREADS": "1"}
        subprocess.run(command, check=True, env=quiet, cwd=folder, stdout=subprocess.DEVNULL)
        (file,) = Path(folder).rglob("evaluations.npz")
        with np.load(file) as evaluations:
            means = evaluations["results"].mean(axis=1)
    after = os.times()
    taken = after.children_user + after.children_system - before.children_user - before.children_system
    shown = subprocess.run(
        [python, "-c", "import importlib.metadata as m; print(m.version('rl_zoo3'))"],
        check=True,
        capture_output=True,
        text=True,
    )
    return {
        "best": float(means.max()),
        "last": float(means[-1]),
        "env_steps": n_env_steps,
        "cpu_s": taken,
        "versions": {"rl_zoo3": shown.stdout.strip()},
    }


def versions(*packages: str) -> dict[str, str]:
    """Package → version."""
    return {name: version(name) for name in (*packages, "gymnasium", "numpy")}


class Results:
    """The runs of a task that are known."""

    def __init__(self, task: Task) -> None:
        self.task, self.path = task, RESULTS / f"{task.experiment}.json"
        self.settings = config_module("experiment", task.experiment)["config"]
        kept = json.loads(self.path.read_text()) if self.path.exists() else {}
        is_same = kept.get("settings") == self.settings
        self.runs: dict[str, list[Run]] = {
            "ours": kept["ours"] if is_same else [],
            "zoo": [run for run in kept.get("zoo", []) if run["env_steps"] == task.n_env_steps],
        }

    def lacks(self, by: str, seed: int) -> bool:
        """Whether a run is to be made."""
        return all(run["seed"] != seed for run in self.runs[by])

    def add(self, by: str, seed: int, run: Run) -> None:
        """Remember a run."""
        rounded = {key: float(f"{x:.6g}") if isinstance(x, float) else x for key, x in run.items()}
        self.runs[by] = sorted([*self.runs[by], {"seed": seed, **rounded}], key=lambda run: run["seed"])
        RESULTS.mkdir(exist_ok=True)
        lines = [f'  "settings": {json.dumps(self.settings)}']
        for name, runs in self.runs.items():
            each = ",\n".join(f"    {json.dumps(run)}" for run in runs)
            lines.append(f'  "{name}": [\n{each}\n  ]' if runs else f'  "{name}": []')
        written = self.path.with_suffix(".new")
        written.write_text("{\n" + ",\n".join(lines) + "\n}\n")
        written.replace(self.path)


def summary(values: Sequence[float]) -> str:
    """Mean, half of its 95 % interval by Student's t, and the mean of the middle half (IQM)."""
    n = len(values)
    if n < 2:
        return "".join(f"{value:.1f}" for value in values)
    half = t_quantile(0.975, n - 1) * stdev(values) / math.sqrt(n)
    return f"{fmean(values):.1f} ± {half:.1f} ({interquartile_mean(values):.1f})"


def interquartile_mean(values: Sequence[float]) -> float:
    """Mean of the middle half of the values; those on its edges count in part.

    Source: Agarwal et al. 2021, arXiv:2108.13264, section 4.3.
    """
    n = len(values)
    places = np.arange(n)
    weights = np.minimum(places + 1, 0.75 * n) - np.maximum(places, 0.25 * n)
    return float(np.average(np.sort(values), weights=weights.clip(min=0)))


HEADER = [
    *("experiment", "steps", "goal", "here: best", "here: last"),
    *("RL-Zoo3: best", "RL-Zoo3: last", "published", "seeds", "CPU-s"),
]


def rows(names: Sequence[str] = tuple(TASKS)) -> list[list[str]]:
    """The table's cells, of the tasks that have runs."""
    made = []
    for name in names:
        known, task = Results(TASKS[name]), TASKS[name]
        here, zoo = known.runs["ours"], known.runs["zoo"]
        if not here:
            continue
        cells = [
            summary([run[key] for run in runs]) if runs else ""
            for runs in (here, zoo)
            for key in ("best", "last")
        ]
        cost = " / ".join(f"{fmean(run['cpu_s'] for run in runs):,.0f}" for runs in (here, zoo) if runs)
        published = "" if task.published is None else f"{task.published:g}"
        seeds = " / ".join(str(len(runs)) for runs in (here, zoo) if runs)
        made.append([name, f"{here[0]['env_steps']:,}", f"{task.goal:g}", *cells, published, seeds, cost])
    return made


def main(arguments: Sequence[str] | None = None) -> None:
    """Make the runs that are missing; print the table."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("experiments", nargs="*", default=list(TASKS), metavar="experiment")
    parser.add_argument("--seeds", type=int, help="seeds per experiment; its own number by default")
    parser.add_argument("--zoo", metavar="PYTHON", help="an interpreter that has rl_zoo3; none: ours alone")
    parser.add_argument("--only-zoo", action="store_true", help="make no runs of ours")
    options = parser.parse_args(arguments)
    if unknown := set(options.experiments) - set(TASKS):
        parser.error(f"unknown: {', '.join(sorted(unknown))}; there are {', '.join(TASKS)}")
    for seed in range(1, 1 + max(options.seeds or task.n_seeds for task in TASKS.values())):
        for name in options.experiments:
            task = TASKS[name]
            if seed > (options.seeds or task.n_seeds):
                continue
            known = Results(task)
            if not options.only_zoo and known.lacks("ours", seed):
                known.add("ours", seed, ours(task, seed))
                print(name, known.runs["ours"][-1], flush=True)
            if options.zoo and task.n_env_steps is not None and known.lacks("zoo", seed):
                known.add("zoo", seed, of_zoo(task, seed, options.zoo))
                print(name, known.runs["zoo"][-1], flush=True)
    made = [dict(zip(HEADER, row, strict=True)) for row in rows(options.experiments)]
    if made:
        print(table(made, HEADER))


if __name__ == "__main__":
    main()
