"""What PPO learns with and without normalised observations, beside Stable-Baselines3 with the same settings.

The settings are RL-Zoo3's, without state-dependent noise and reward scaling, which are not here yet; the budgets are
shortened to minutes. A cell is the mean return of 20 episodes, played with the policy as it is after the last update.

    python -m benchmarks.learning [--seeds 3] [--tasks Acrobot-v1 …] [--without-sb3]
"""

import argparse
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from statistics import fmean
from typing import Any

import numpy as np
import torch

from benchmarks.report import write_report

N_EPISODES, EVALUATION_SEED = 20, 99
HIDDEN = [64, 64]


@dataclass(frozen=True, kw_only=True)
class Task:
    """One environment and RL-Zoo3's settings of PPO for it."""

    env: str
    n_env_steps: int
    n_envs: int
    n_steps: int
    n_passes: int
    gamma: float
    gae_lambda: float
    lr: float = 3e-4
    entropy_coef: float = 0.0
    batch_size: int = 64

    @property
    def n_updates(self) -> int:
        """Updates within the budget."""
        return self.n_env_steps // (self.n_envs * self.n_steps)


TASKS = {
    task.env: task
    for task in (
        Task(env="Acrobot-v1", n_env_steps=100_000, n_envs=16, n_steps=256, n_passes=4, gamma=0.99, gae_lambda=0.94),
        Task(env="MountainCar-v0", n_env_steps=300_000, n_envs=16, n_steps=16, n_passes=4, gamma=0.99, gae_lambda=0.98),
        Task(env="Pendulum-v1", n_env_steps=100_000, n_envs=4, n_steps=1024, n_passes=10, gamma=0.9, gae_lambda=0.95,
             lr=1e-3),
        Task(env="LunarLander-v3", n_env_steps=200_000, n_envs=16, n_steps=1024, n_passes=4, gamma=0.999,
             gae_lambda=0.98, entropy_coef=0.01),
    )
}  # fmt: skip


def ours(task: Task, wrappers: str, seed: int) -> float:
    """Mean return after training with these wrappers."""
    from maze_core.config import compose_run
    from maze_core.envs.wrappers.wrapper import WrappedVectorEnv
    from maze_core.evaluation.evaluate import evaluate
    from maze_core.runners.training import Training
    from maze_core.seeding import EpisodeSeeds, Stream

    n_epochs = 4
    target = "maze_core.models.config.FlattenConcat{}Config"
    overrides: Mapping[str, Any] = {
        "env.name": task.env,
        "runner.n_envs": task.n_envs,
        "algorithm.n_epochs": n_epochs,
        "algorithm.epoch_length": task.n_updates // n_epochs,
        "algorithm.rollout_evaluator.n_episodes": 1,
        "algorithm.n_rollout_steps": task.n_steps,
        "algorithm.batch_size": task.batch_size,
        "algorithm.n_optimization_epochs": task.n_passes,
        "algorithm.lr": task.lr,
        "algorithm.lr_schedule": "constant",
        "algorithm.gamma": task.gamma,
        "algorithm.gae_lambda": task.gae_lambda,
        "algorithm.entropy_coef": task.entropy_coef,
        "algorithm.value_loss_coef": 1.0,  # SB3's 0.5 has no half of the squared error
        "model.policy.networks": [{"_target_": target.format("PolicyNet"), "hidden_units": HIDDEN}],
        "model.critic.networks": [{"_target_": target.format("StateValueNet"), "hidden_units": HIDDEN}],
    }
    config = compose_run(
        "train", algorithm="ppo", model="flatten_concat", wrappers=wrappers, overrides=overrides, seed=seed
    )
    with Training(config) as training:
        training.run()
        agent = training.agent("last")
        raw = training.world.env_config.vector(N_EPISODES, has_own_episodes=True)
        env = WrappedVectorEnv(raw, agent.wrappers)
        try:
            seeds = EpisodeSeeds(EVALUATION_SEED, Stream.EVAL_ENV, N_EPISODES)
            return evaluate(agent.policy, env, seeds, deterministic=True, action_seed=0).mean_return
        finally:
            env.close()


def stable_baselines3(task: Task, seed: int) -> float:
    """Mean return after training with its running normalisation of observations."""
    from stable_baselines3 import PPO
    from stable_baselines3.common.env_util import make_vec_env
    from stable_baselines3.common.evaluation import evaluate_policy
    from stable_baselines3.common.vec_env import VecNormalize

    env = VecNormalize(
        make_vec_env(task.env, n_envs=task.n_envs, seed=seed), norm_reward=False, gamma=task.gamma
    )
    model = PPO(
        "MlpPolicy",
        env,
        n_steps=task.n_steps,
        batch_size=task.batch_size,
        n_epochs=task.n_passes,
        learning_rate=task.lr,
        gamma=task.gamma,
        gae_lambda=task.gae_lambda,
        ent_coef=task.entropy_coef,
        policy_kwargs={"net_arch": {"pi": HIDDEN, "vf": HIDDEN}, "activation_fn": torch.nn.Tanh},
        device="cpu",
        seed=seed,
    )
    model.learn(task.n_updates * task.n_envs * task.n_steps)
    env.training = False
    env.seed(EVALUATION_SEED)
    mean, _ = evaluate_policy(model, env, N_EPISODES, warn=False)
    return float(np.mean(mean))


COLUMNS: Mapping[str, Callable[[Task, int], float]] = {
    "none": lambda task, seed: ours(task, "no_wrappers", seed),
    "vector_obs": lambda task, seed: ours(task, "vector_obs", seed),
    "SB3": stable_baselines3,
}


def measure(tasks: Sequence[str], seeds: Sequence[int], columns: Sequence[str]) -> list[dict[str, Any]]:
    """A row per task: the mean return per column, and those of the seeds beside it."""
    rows = []
    for name in tasks:
        row: dict[str, Any] = {"task": name}
        for column in columns:
            returns = [COLUMNS[column](TASKS[name], seed) for seed in seeds]
            row |= {
                column: fmean(returns),
                f"{column} by seed": " ".join(f"{value:.0f}" for value in returns),
            }
        rows.append(row)
    return rows


def main(arguments: Sequence[str] | None = None) -> None:
    """Measure, print the table, write the report."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--seeds", type=int, default=3)
    parser.add_argument("--tasks", nargs="+", default=list(TASKS), choices=list(TASKS))
    parser.add_argument("--without-sb3", action="store_true")
    options = parser.parse_args(arguments)
    torch.set_num_threads(1)
    columns = [name for name in COLUMNS if not (options.without_sb3 and name == "SB3")]
    rows = measure(options.tasks, range(1, options.seeds + 1), columns)
    write_report("learning", rows, settings={name: TASKS[name].__dict__ for name in options.tasks})


if __name__ == "__main__":
    main()
