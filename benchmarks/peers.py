"""Other people's training loops at the settings of a case."""

from collections.abc import Callable
from typing import Any

import torch

from benchmarks.cases import Case

Advance = Callable[[int], int]
"""Number of updates → environment steps taken."""


def stable_baselines3(case: Case) -> Advance:
    """Stable-Baselines3 on its DummyVecEnv, the faster of its two for environments as small as these."""
    from stable_baselines3 import A2C, PPO
    from stable_baselines3.common.env_util import make_vec_env

    net = {"pi": [case.hidden] * 2, "vf": [case.hidden] * 2}
    settings: dict[str, Any] = {
        "n_steps": case.n_steps,
        "learning_rate": case.lr,
        "gae_lambda": case.gae_lambda,
        "policy_kwargs": {"net_arch": net, "activation_fn": torch.nn.Tanh},
        "device": "cpu",
        "seed": 1,
    }
    if case.is_ppo:
        settings |= {"batch_size": case.batch_size, "n_epochs": case.n_passes}
    else:
        settings |= {"use_rms_prop": False}
    env = make_vec_env(case.env, n_envs=case.n_envs, seed=1)
    model = (PPO if case.is_ppo else A2C)("MlpPolicy", env, **settings)

    def advance(n_updates: int) -> int:
        before, steps = model.num_timesteps, n_updates * case.rows
        model.learn(steps, reset_num_timesteps=before == 0, log_interval=1_000_000)
        return steps

    return advance


PEERS: dict[str, Callable[[Case], Advance]] = {"stable-baselines3": stable_baselines3}
