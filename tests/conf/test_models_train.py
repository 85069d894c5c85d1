"""Every model and critic module trains, and goes on from its checkpoint with the same bits."""

import shutil
from typing import Any

import gymnasium
import numpy as np
import pytest
from gymnasium import spaces

from maze_core import RunContext
from maze_core.config import config_groups
from maze_core.envs.gym_env import GymMazeEnv

IMAGE = "model.model_builder.modality_config.image"
QUICK = {
    "algorithm.n_epochs": 2,
    "algorithm.epoch_length": 1,
    "algorithm.checkpoint_every": 1,
    "algorithm.n_rollout_steps": 6,
    "algorithm.rollout_evaluator.n_episodes": None,
    "runner.n_envs": 2,
}
OF_ACTIONS = {"algorithm.n_warmup_steps": 4, "algorithm.batch_size": 4, "algorithm.n_gradient_steps": 1}
TRAINED = [
    ("vector_obs", "template_state", "ppo"),
    ("vector_obs_rnn", "template_state", "ppo"),
    ("pixel_obs", "template_state", "ppo"),
    ("pixel_obs_rnn", "template_state", "a2c"),
    ("nature_cnn", None, "ppo"),
    ("flatten_concat", "flatten_concat_shared", "ppo"),
    ("vector_obs", "template_delta", "a2c"),
    ("flatten_concat_shared_embedding", None, "ppo"),
    ("flatten_concat", "flatten_concat_state_action", "sac"),
    ("pixel_obs", "template_state_action", "sac"),
]


class Screen(gymnasium.Env[np.ndarray, Any]):
    """A picture of noise, one side of it lit; episodes of 4 steps."""

    def __init__(self, action: spaces.Space[Any], side: int = 8) -> None:
        self.observation_space = spaces.Box(0, 255, (side, side, 1), np.uint8)
        self.action_space = action

    def reset(self, *, seed=None, options=None):
        super().reset(seed=seed)
        self._time = 0
        return self._see(), {}

    def step(self, action):
        self._time += 1
        return self._see(), float(np.sum(action)), self._time == 4, False, {}

    def _see(self):
        return self.np_random.integers(0, 255, self.observation_space.shape, np.uint8)


def context(run_dir, model: str, critic: str | None, algorithm: str) -> RunContext:
    is_continuous = algorithm == "sac"
    overrides = {**QUICK, **(OF_ACTIONS if is_continuous else {})}
    if model in ("pixel_obs", "pixel_obs_rnn", "nature_cnn"):
        overrides[IMAGE] = None  # the published kernels are for larger pictures
    action = spaces.Box(-1, 1, (1,), np.float32) if is_continuous else spaces.Discrete(2)
    return RunContext(
        env=lambda: GymMazeEnv(Screen(action)),
        model=model,
        critic=critic,
        algorithm=algorithm,
        overrides=overrides,
        run_dir=run_dir,
        seed=1,
        silent=True,
    )


def acted(run: RunContext) -> Any:
    """What it does at a dark screen, and what it carries from there."""
    dark = np.zeros((8, 8, 1), np.uint8)
    if not run.policy.policy.state_widths:
        return run.compute_action(dark)
    return run.compute_action(dark, state=run.initial_state())


def test_every_module_is_trained_here():
    groups = config_groups()
    assert {model for model, _, _ in TRAINED} == set(groups["model"])
    assert {critic for _, critic, _ in TRAINED} - {None} == set(groups["critic"])


@pytest.mark.parametrize(("model", "critic", "algorithm"), TRAINED)
def test_a_module_trains_and_a_run_that_is_resumed_ends_with_the_same_bits(
    model: str, critic: str | None, algorithm: str, tmp_path
):
    with context(tmp_path / "whole", model, critic, algorithm) as run:
        first = run.train(1)
        shutil.copytree(tmp_path / "whole", tmp_path / "copy")
        whole = run.train(1)
        action = acted(run)
    assert whole.content_sha256 != first.content_sha256
    with context(tmp_path / "copy", model, critic, algorithm) as resumed:
        assert resumed.train(1).content_sha256 == whole.content_sha256
        assert acted(resumed) == action


@pytest.mark.parametrize("model", ["pixel_obs", "pixel_obs_rnn", "nature_cnn"])
def test_published_kernels_fit_pictures_of_atari(model: str):
    from maze_core.config.instantiate import instantiate
    from maze_core.config.modules import config_module

    config = instantiate(config_module("model", model)["config"])
    picture = {0: spaces.Dict({"observation": spaces.Box(0, 255, (84, 84, 4), np.uint8)})}
    action = {0: spaces.Dict({"action": spaces.Discrete(6)})}
    built = config.build(picture, action, {0: 1}, generator_seed=0)
    (network,) = built.policy.steps[0].networks
    shown = {"observation": np.zeros((1, 84, 84, 4), np.uint8)}
    if width := network.logits.state_width:
        shown["state"] = np.zeros((1, width), np.float32)
    assert network.logits(shown).shape == (1, 6 + width)
