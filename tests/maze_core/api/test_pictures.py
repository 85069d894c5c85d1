"""A run whose networks torch runs, on pictures: it resumes bit by bit, and threads change nothing."""

from typing import Any

import gymnasium
import numpy as np
import pytest
import torch

from maze_core import RunContext
from maze_core.models import module_network
from tests.maze_core.trainers.small_worlds import PICTURES, Pictures


class Bright(gymnasium.Env):
    """Half of a noisy picture is brighter; naming the half pays 1. An episode has 5 steps."""

    observation_space, action_space = PICTURES, gymnasium.spaces.Discrete(2)

    def reset(self, *, seed: int | None = None, options: Any = None) -> Any:
        super().reset(seed=seed)
        self._left = 5
        return self._show(), {}

    def step(self, action: Any) -> Any:
        reward, self._left = float(action == self._half), self._left - 1
        return self._show(), reward, self._left == 0, False, {}

    def _show(self) -> np.ndarray:
        picture = self.np_random.integers(0, 100, PICTURES.shape, np.uint8)
        self._half = int(self.np_random.integers(2))
        picture[:, 4 * self._half :][:, :4] += 100
        return picture


def settings_of(algorithm: str) -> dict[str, Any]:
    """A short run with one module for policy and critic; of DQN, for the policy alone."""
    module = Pictures()
    critic = {} if algorithm == "dqn" else {"model.critic.networks": [module]}
    return {
        "model.policy.networks": [module],
        "algorithm.epoch_length": 2,
        "algorithm.n_rollout_steps": 16,
        "algorithm.checkpoint_every": 2,
        "algorithm.n_epochs": 4,
        "runner.n_envs": 3,
        **critic,
    }


def run(*epochs: int, algorithm: str = "ppo") -> str:
    """The content of the last checkpoint of a run that is trained so many epochs at a time."""
    with RunContext(
        env=Bright,
        algorithm=algorithm,
        model="flatten_concat",
        overrides=settings_of(algorithm),
        seed=1,
        silent=True,
    ) as context:
        for n in epochs:
            report = context.train(n)
    return report.content_sha256


@pytest.mark.parametrize("algorithm", ["ppo", "dqn"])
def test_a_run_in_two_parts_on_three_threads_is_the_run_at_once_on_one(
    algorithm: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in ("_LARGE", "_PART_WORK", "_PIECE_WORK"):
        monkeypatch.setattr(module_network, name, 5000)
    at_once = run(4, algorithm=algorithm)
    torch.set_num_threads(3)
    in_two = run(2, 2, algorithm=algorithm)
    torch.set_num_threads(1)
    assert in_two == at_once
