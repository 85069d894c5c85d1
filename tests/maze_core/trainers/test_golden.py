"""The first updates of each algorithm in each kind of world give the numbers that were recorded in ``golden.json``.

They were recorded once and do not follow the code. Where numbers are meant to change, write them anew with
``python -m tests.maze_core.trainers.test_golden``, and say so in CHANGELOG.md under Numbers.
"""

import json
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from maze_core.models import module_network
from maze_core.models.config import (
    CustomModelConfig,
    ProbabilisticPolicyComposerConfig,
    StepStateCriticConfig,
)
from maze_core.threads import one_thread
from maze_core.trainers.a2c_config import A2CAlgorithmConfig
from maze_core.trainers.actor_critic import ActorCritic
from maze_core.trainers.es_config import ESAlgorithmConfig
from maze_core.trainers.impala_config import ImpalaAlgorithmConfig
from maze_core.trainers.ppo_config import PPOAlgorithmConfig
from tests.maze_core import recurrent
from tests.maze_core.recurrent import CueEnv
from tests.maze_core.trainers.small_worlds import WORLDS, PictureEnv, Pictures, flat, trainer_of
from tests.maze_core.trainers.test_off_policy import LEARNERS

RECORD = Path(__file__).with_name("golden.json")
SETTINGS = {"n_rollout_steps": 12, "lr": 0.003, "entropy_coef": 0.01, "gamma": 0.9}
ALGORITHMS = {
    "a2c": A2CAlgorithmConfig(gae_lambda=0.9, **SETTINGS),
    "a2c-plain": A2CAlgorithmConfig(
        normalize_advantages=False, max_grad_norm=None, lr_schedule="constant", **SETTINGS
    ),
    "impala": ImpalaAlgorithmConfig(gae_lambda=0.9, **SETTINGS),
    "impala-unclipped": ImpalaAlgorithmConfig(
        gae_lambda=1.0,
        queue_out_of_sync_factor=2,
        vtrace_clip_rho_threshold=None,
        vtrace_clip_pg_rho_threshold=None,
        vtrace_clip_c_threshold=None,
        normalize_advantages=False,
        **SETTINGS,
    ),
    "es": ESAlgorithmConfig(n_rollouts_per_update=5, n_timesteps_per_update=40, noise_stddev=0.1),
    "ppo": PPOAlgorithmConfig(batch_size=10, critic_burn_in_epochs=1, **SETTINGS),
    "ppo-target": PPOAlgorithmConfig(
        batch_size=8, target_kl=0.0005, normalize_advantages=False, clip_range=0.02, **SETTINGS
    ),
}
CASES = {
    f"{algorithm} {world}": (ALGORITHMS[algorithm], WORLDS[world], 3)
    for algorithm in ALGORITHMS
    for world in WORLDS
} | {name: (replace(config, n_rollout_steps=3), world, 6) for name, (config, world) in LEARNERS.items()}
"""Name → settings, world and number of updates."""
PICTURES = {f"{name} pictures": (ALGORITHMS[name], PictureEnv, 3) for name in ("a2c", "impala", "ppo")} | {
    "dqn pictures": (LEARNERS["dqn"][0], PictureEnv, 6)
}
"""The same, of networks that torch runs."""
MEMORIES = {
    f"{name} memory": (replace(ALGORITHMS[name], bptt_length=5), partial(CueEnv, 4), 3)
    for name in ("a2c", "impala", "ppo")
}
"""The same, of networks that carry a state."""


@one_thread()
def trace(case: str) -> list[dict[str, Any]]:
    """What each update reported, and where the weights were after it."""
    config, world, n_updates = (CASES | PICTURES | MEMORIES)[case]
    model = of_pictures(case) if case in PICTURES else recurrent.model() if case in MEMORIES else None
    trainer = trainer_of(config, world, n_envs=3, model=model)
    is_critic = isinstance(trainer, ActorCritic)
    others = getattr(trainer, "networks", {"policy": trainer.policy})
    learning = {"policy": trainer.policy, "critic": trainer.critic} if is_critic else others
    updates = []
    for i in range(n_updates):
        report = trainer.update(epoch=i, progress=i / n_updates)
        weights = {name: flat(networks) for name, networks in learning.items() if networks.parameters}
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


def of_pictures(case: str) -> CustomModelConfig:
    """One module for policy and critic; of DQN, for the policy alone."""
    module = Pictures()
    return CustomModelConfig(
        policy=ProbabilisticPolicyComposerConfig(networks=[module]),
        critic=None if case.startswith("dqn") else StepStateCriticConfig(networks=[module]),
    )


@pytest.mark.parametrize("case", PICTURES)
def test_parts_on_threads_give_the_same_updates_as_one(case, monkeypatch):
    """That rounding is another is all that the split may change; threads change nothing."""
    whole = trace(case)
    for name in ("_LARGE", "_PART_WORK", "_PIECE_WORK"):
        monkeypatch.setattr(module_network, name, 5000)
    in_parts = []
    for n in (1, 3):
        torch.set_num_threads(n)
        in_parts.append(trace(case))
    torch.set_num_threads(1)
    assert in_parts[0] == in_parts[1]
    for split, at_once in zip(in_parts[0], whole, strict=True):
        assert split == pytest.approx(at_once, rel=1e-3, abs=1e-4)


@pytest.mark.parametrize("case", [*CASES, *PICTURES, *MEMORIES])
def test_updates_give_the_recorded_numbers(case):
    recorded = json.loads(RECORD.read_text())[case]
    for now, then in zip(trace(case), recorded, strict=True):
        assert now == pytest.approx(then, rel=1e-4, abs=1e-6)


def written(found: dict[str, list[dict[str, float]]]) -> str:
    """A line per update."""
    cases = [
        f"{json.dumps(case)}: [\n  " + ",\n  ".join(map(json.dumps, updates)) + "]"
        for case, updates in found.items()
    ]
    return "{" + ",\n ".join(cases) + "}\n"


def rounded(update: dict[str, Any]) -> dict[str, float]:
    """What is recorded of an update."""
    return {name: float(f"{x:.7g}") for name, x in update.items()}


if __name__ == "__main__":
    found = {case: [rounded(update) for update in trace(case)] for case in (*CASES, *PICTURES, *MEMORIES)}
    RECORD.write_text(written(found))
