"""What PPO learns of MinAtar's games (Young and Tian 2019, arXiv:1903.03176), beside Stable-Baselines3's PPO.

The same network, settings, steps and seeds, sticky actions and all; nothing was tuned for one of the two. A policy is
judged by the episodes that follow training, with the actions it is likeliest to take. Runs are remembered in
``benchmarks/learning_runs/minatar.json``. Needs ``minatar`` (and ``stable-baselines3``) beside this library.

    python -m benchmarks.minatar [--games Breakout SpaceInvaders] [--seeds 1 2 3] [--steps 1000000] [--by ours peer]
"""

import argparse
import fcntl
import json
import time
from collections.abc import Callable, Mapping
from importlib import import_module
from statistics import fmean
from typing import Any

import gymnasium
import torch
from torch import Tensor, nn

from benchmarks.learning import RESULTS, summary, versions
from benchmarks.report import table

FILE = RESULTS / "minatar.json"
N_ENVS, N_STEPS, BATCH, N_PASSES, LR = 32, 64, 256, 4, 1e-3
GAMMA, LAMBDA, CLIP, ENTROPY, VALUE, MAX_NORM, EPS = 0.99, 0.95, 0.2, 0.01, 0.5, 0.5, 1e-5
MAX_STEPS, N_EPISODES = 5000, 100
Run = dict[str, Any]


def game(name: str) -> gymnasium.Env[Any, Any]:
    """A game with its least set of actions."""
    import_module("minatar.gym").register_envs()
    env: gymnasium.Env[Any, Any] = gymnasium.make(f"MinAtar/{name}-v1", max_episode_steps=MAX_STEPS)
    return env


class Trunk(nn.Module):
    """What ours has, for the peer: 16 kernels of 3 × 3, then 128 units; pictures ``[N, 10, 10, channels]``."""

    def __init__(self, n_channels: int) -> None:
        super().__init__()
        self.layers = nn.Sequential(
            nn.Conv2d(n_channels, 16, 3), nn.ReLU(), nn.Flatten(), nn.Linear(16 * 64, 128), nn.ReLU()
        )

    def forward(self, pictures: Tensor) -> Tensor:
        """``[N, 128]``."""
        features: Tensor = self.layers(pictures.permute(0, 3, 1, 2))
        return features


def ours(name: str, seed: int, n_env_steps: int) -> list[float]:
    """Returns of the last policy's episodes."""
    from maze_core import RunContext

    settings = {
        "runner.n_envs": N_ENVS,
        "algorithm.n_rollout_steps": N_STEPS,
        "algorithm.n_epochs": 1,  # so that the last policy is the best one
        "algorithm.epoch_length": -(-n_env_steps // (N_ENVS * N_STEPS)),
        "algorithm.rollout_evaluator.n_episodes": None,
        "algorithm.lr": LR,
        "algorithm.gamma": GAMMA,
        "algorithm.gae_lambda": LAMBDA,
        "algorithm.clip_range": CLIP,
        "algorithm.entropy_coef": ENTROPY,
        "algorithm.value_loss_coef": 2 * VALUE,  # of ½ (V - R)²
        "algorithm.max_grad_norm": MAX_NORM,
        "algorithm.optimizer.eps": EPS,
        "algorithm.batch_size": BATCH,
        "algorithm.n_optimization_epochs": N_PASSES,
        "model.model_builder.modality_config.image": None,  # convolutions that fit: 16 of 3 × 3
        "model.model_builder.modality_config.hidden.block_params.hidden_units": [128],
    }
    with RunContext(
        env=lambda: game(name), model="nature_cnn", overrides=settings, seed=seed, silent=True
    ) as context:
        context.train()
        return [float(x) for x in context.evaluate(N_EPISODES).returns]


def peer(name: str, seed: int, n_env_steps: int) -> list[float]:
    """The same of Stable-Baselines3."""
    from stable_baselines3 import PPO
    from stable_baselines3.common.env_util import make_vec_env
    from stable_baselines3.common.evaluation import evaluate_policy
    from stable_baselines3.common.torch_layers import BaseFeaturesExtractor

    class Extractor(BaseFeaturesExtractor):  # type: ignore[misc]
        def __init__(self, observation_space: Any) -> None:
            super().__init__(observation_space, 128)
            self.trunk = Trunk(observation_space.shape[-1])

        def forward(self, pictures: Tensor) -> Tensor:
            features: Tensor = self.trunk(pictures)
            return features

    model = PPO(
        "MlpPolicy",
        make_vec_env(lambda: game(name), n_envs=N_ENVS, seed=seed),
        n_steps=N_STEPS,
        batch_size=BATCH,
        n_epochs=N_PASSES,
        learning_rate=lambda left: LR * max(left, 0.0),  # its last update lies past the end
        gamma=GAMMA,
        gae_lambda=LAMBDA,
        clip_range=CLIP,
        ent_coef=ENTROPY,
        vf_coef=VALUE,
        max_grad_norm=MAX_NORM,
        policy_kwargs={
            "features_extractor_class": Extractor,
            "net_arch": [],
            "optimizer_kwargs": {"eps": EPS},
        },
        device="cpu",
        seed=seed,
    )
    model.learn(n_env_steps, log_interval=None)
    judged = make_vec_env(lambda: game(name), n_envs=8, seed=10_000 + seed)
    returns, _ = evaluate_policy(model, judged, N_EPISODES, return_episode_rewards=True)
    return [float(x) for x in returns]


def remember(run: Run) -> None:
    """Add a run to the file, which other processes may write too."""
    RESULTS.mkdir(exist_ok=True)
    with (RESULTS / "minatar.lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        runs = [known for known in known_runs() if _key(known) != _key(run)] + [run]
        lines = ",\n".join(json.dumps(run) for run in sorted(runs, key=_key))
        FILE.write_text(f"[\n{lines}\n]\n")


def known_runs() -> list[Run]:
    """All that were made."""
    return json.loads(FILE.read_text()) if FILE.exists() else []


def _key(run: Run) -> tuple[Any, ...]:
    return run["game"], run["n_env_steps"], run["by"], run["seed"]


def rows() -> list[dict[str, str]]:
    """The table: mean over seeds ± half of the 95 % interval (and the mean of the middle half)."""
    found: dict[tuple[str, int, str], list[Run]] = {}
    for run in known_runs():
        found.setdefault((run["game"], run["n_env_steps"], run["by"]), []).append(run)
    return [
        {
            "game": name,
            "steps": f"{steps:,}",
            "by": by,
            "return": summary([run["mean_return"] for run in runs]),
            "seeds": str(len(runs)),
            "CPU-s": f"{fmean(run['cpu_s'] for run in runs):,.0f}",
        }
        for (name, steps, by), runs in found.items()
    ]


BY: Mapping[str, Callable[[str, int, int], list[float]]] = {"ours": ours, "peer": peer}


def main() -> None:
    """Make the runs that are missing; print the table."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--games", nargs="*", default=["Breakout", "SpaceInvaders"])
    parser.add_argument("--seeds", nargs="*", type=int, default=[1, 2, 3])
    parser.add_argument("--steps", type=int, default=1_000_000)
    parser.add_argument("--by", nargs="*", choices=BY, default=[*BY])
    chosen = parser.parse_args()
    torch.set_num_threads(1)
    known = {_key(run) for run in known_runs()}
    for seed in chosen.seeds:
        for name in chosen.games:
            for by in chosen.by:
                if (name, chosen.steps, by, seed) in known:
                    continue
                begun = time.process_time()
                returns = BY[by](name, seed, chosen.steps)
                run = {"game": name, "n_env_steps": chosen.steps, "by": by, "seed": seed}
                run |= {
                    "mean_return": fmean(returns),
                    "cpu_s": round(time.process_time() - begun, 1),
                    "versions": versions("stable-baselines3" if by == "peer" else "torch", "minatar"),
                }
                remember(run)
                print(run, flush=True)
    if made := rows():
        print(table(made, list(made[0])))


if __name__ == "__main__":
    main()
