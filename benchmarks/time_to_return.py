"""How long a whole training takes until an evaluation of CartPole-v1 has a mean return of 475.

Ours as shipped, with its evaluations and checkpoints on disk; Stable-Baselines3's PPO with RL-Zoo3's settings for
CartPole and its EvalCallback, which keeps the best model as well. The two take turns, seed by seed, in one process on
one thread; imports are not counted, everything else is. Medians over the seeds are compared.

    python -m benchmarks.time_to_return [--seeds 5]
"""

import argparse
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from statistics import median

import torch

from benchmarks.report import write_report
from maze_core import RunContext
from maze_core.threads import one_thread

ENV, GOAL = "CartPole-v1", 475.0
Outcome = tuple[bool, int]
"""Whether the goal was reached, and after how many environment steps."""


def ours(seed: int, directory: Path) -> Outcome:
    """The shipped configuration."""
    context = RunContext(
        overrides={"env.name": ENV, "algorithm.target_return": GOAL},
        seed=seed,
        silent=True,
        run_dir=directory / "ours",
    )
    report = context.train()
    return report.stop_reason == "target_reached", report.counters.env_steps


def stable_baselines3(seed: int, directory: Path) -> Outcome:
    """RL-Zoo3's settings; evaluation every 10,000 steps over 5 episodes, the callback's own."""
    from stable_baselines3 import PPO
    from stable_baselines3.common.callbacks import EvalCallback, StopTrainingOnRewardThreshold
    from stable_baselines3.common.env_util import make_vec_env

    stop = StopTrainingOnRewardThreshold(GOAL)
    callback = EvalCallback(
        make_vec_env(ENV, seed=seed + 1000),
        callback_on_new_best=stop,
        eval_freq=10_000 // 8,
        n_eval_episodes=5,
        best_model_save_path=str(directory / "sb3"),
        verbose=0,
    )
    model = PPO(
        "MlpPolicy",
        make_vec_env(ENV, n_envs=8, seed=seed),
        n_steps=32,
        batch_size=256,
        n_epochs=20,
        gamma=0.98,
        gae_lambda=0.8,
        learning_rate=lambda left: left * 1e-3,
        clip_range=lambda left: left * 0.2,
        ent_coef=0.0,
        seed=seed,
        device="cpu",
    )
    model.learn(100_000, callback=callback)
    return bool(callback.best_mean_reward >= GOAL), int(model.num_timesteps)


CONTENDERS: dict[str, Callable[[int, Path], Outcome]] = {
    "maze_core": ours,
    "stable-baselines3": stable_baselines3,
}


def main() -> None:
    """Measure, print the table, write the JSON."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("--seeds", type=int, default=5)
    n_seeds = parser.parse_args().seeds
    runs: dict[str, list[dict[str, float]]] = {name: [] for name in CONTENDERS}
    torch.set_num_threads(1)
    with one_thread(), tempfile.TemporaryDirectory() as folder:
        for seed in range(n_seeds + 1):  # the first warms up
            for name, contender in CONTENDERS.items():
                wall, cpu = time.perf_counter(), time.process_time()
                reached, steps = contender(seed, Path(folder) / str(seed))
                took = {"wall_s": time.perf_counter() - wall, "cpu_s": time.process_time() - cpu}
                if seed:
                    runs[name].append({**took, "steps": steps, "reached": reached})
    rows = []
    for name, made in runs.items():
        medians = {key: median(run[key] for run in made) for key in ("wall_s", "cpu_s", "steps")}
        n_reached = sum(run["reached"] for run in made)
        rows.append({"contender": name, "reached": f"{n_reached:.0f} of {n_seeds}", **medians, "runs": made})
    columns = ["contender", "reached", "wall_s", "cpu_s", "steps"]
    write_report("time_to_return", rows, columns=columns, settings={"env": ENV, "goal": GOAL})


if __name__ == "__main__":
    main()
