"""Three updates of each algorithm in each kind of world give the numbers that were recorded in ``golden.json``.

They were recorded once and do not follow the code. Where numbers are meant to change, write them anew with
``python -m tests.maze_core.trainers.test_golden``, and say so in CHANGELOG.md under Numbers.
"""

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from maze_core.threads import one_thread
from maze_core.trainers.a2c_config import A2CAlgorithmConfig
from maze_core.trainers.ppo_config import PPOAlgorithmConfig
from tests.maze_core.trainers.small_worlds import WORLDS, flat, trainer_of

RECORD = Path(__file__).with_name("golden.json")
SETTINGS = {"n_rollout_steps": 12, "lr": 0.003, "entropy_coef": 0.01, "gamma": 0.9}
ALGORITHMS = {
    "a2c": A2CAlgorithmConfig(gae_lambda=0.9, **SETTINGS),
    "a2c-plain": A2CAlgorithmConfig(
        normalize_advantages=False, max_grad_norm=None, lr_schedule="constant", **SETTINGS
    ),
    "ppo": PPOAlgorithmConfig(batch_size=10, critic_burn_in_epochs=1, **SETTINGS),
    "ppo-target": PPOAlgorithmConfig(
        batch_size=8, target_kl=0.0005, normalize_advantages=False, clip_range=0.02, **SETTINGS
    ),
}
CASES = [(algorithm, world) for algorithm in ALGORITHMS for world in WORLDS]


@one_thread()
def trace(algorithm: str, world: str) -> list[dict[str, Any]]:
    """What each of three updates reported, and where the weights were after it."""
    trainer = trainer_of(ALGORITHMS[algorithm], WORLDS[world], n_envs=3)
    updates = []
    for i in range(3):
        report = trainer.update(epoch=i, progress=i / 3)
        weights = {"policy": flat(trainer.policy), "critic": flat(trainer.critic)}
        updates.append(
            {
                **report.metrics,
                "env_steps": report.env_steps,
                "return": sum(report.episode_returns),
                "length": sum(report.episode_lengths),
                **{f"{name}/norm": float(np.linalg.norm(x)) for name, x in weights.items()},
                **{f"{name}/sum": x.sum().item() for name, x in weights.items()},
                **{f"{name}/{at}": x[at].item() for name, x in weights.items() for at in (0, -1)},
            }
        )
    return updates


@pytest.mark.parametrize(("algorithm", "world"), CASES)
def test_three_updates_give_the_recorded_numbers(algorithm, world):
    recorded = json.loads(RECORD.read_text())[f"{algorithm} {world}"]
    for now, then in zip(trace(algorithm, world), recorded, strict=True):
        assert now == pytest.approx(then, rel=1e-4, abs=1e-6)


if __name__ == "__main__":
    found = {f"{algorithm} {world}": trace(algorithm, world) for algorithm, world in CASES}
    rounded = {
        case: [{name: float(f"{x:.7g}") for name, x in update.items()} for update in updates]
        for case, updates in found.items()
    }
    RECORD.write_text(json.dumps(rounded, indent=1) + "\n")
