"""A rollout that is kept: what its folder holds, and that nothing is left of one that failed."""

import json

import numpy as np
import pytest
import yaml

from maze_core import GymMazeEnv, InvalidSpecificationError, RunContext, load_trajectory
from maze_core.errors import EnvError
from tests.maze_core.api.test_forms import QUICK

PLAY = {"env.name": "CartPole-v1"}


def player(run_dir, **arguments) -> RunContext:
    return RunContext(policy="random_policy", overrides=PLAY, seed=1, run_dir=run_dir, **arguments)


def test_a_saved_rollout_holds_what_was_played_and_how_it_went(tmp_path) -> None:
    context = player(tmp_path)
    report = context.rollout(3, record=True, save=True)
    assert report.saved_to == tmp_path / "rollouts" / "001"
    stored = json.loads((report.saved_to / "report.json").read_text())
    assert stored["returns"] == report.summary.returns
    assert set(stored["files"]) == {"report.json", "config.yaml", "trajectories/", "videos/"}
    config = yaml.safe_load((report.saved_to / "config.yaml").read_text())["config"]
    assert config["runner"]["n_episodes"] == 3
    for episode in report.episodes:
        path = report.saved_to / "trajectories" / f"episode-{episode.index:05d}.safetensors"
        read = load_trajectory(path)
        assert episode.trajectory is not None
        assert read.rewards.sum() == episode.episode_return
        np.testing.assert_array_equal(
            read.observations[0]["observation"], episode.trajectory.observations[0]["observation"]
        )


def test_every_rollout_has_a_folder_of_its_own(tmp_path) -> None:
    context = player(tmp_path)
    folders = [context.rollout(1, save=True).saved_to for _ in range(2)]
    assert folders == [tmp_path / "rollouts" / "001", tmp_path / "rollouts" / "002"]
    assert context.rollout(1).saved_to is None


def test_a_named_folder_lies_in_the_run_directory_and_must_be_empty(tmp_path) -> None:
    context = player(tmp_path)
    assert context.rollout(1, save="mine").saved_to == tmp_path / "mine"
    with pytest.raises(InvalidSpecificationError, match="is not empty"):
        context.rollout(1, save="mine")


def test_nothing_is_left_of_a_rollout_that_failed(tmp_path) -> None:
    def make():
        env = GymMazeEnv("CartPole-v1")
        env.vector_env.envs[0].env.unwrapped.step = lambda action: 1 / 0  # type: ignore[attr-defined]
        return env

    context = RunContext(env=make, policy="random_policy", seed=1, run_dir=tmp_path)
    with pytest.raises(EnvError, match="division by zero"):
        context.rollout(1, save=True)
    assert list(tmp_path.iterdir()) == []


def test_nothing_is_left_of_a_rollout_that_failed_after_some_episodes(tmp_path) -> None:
    def make():
        env = GymMazeEnv("CartPole-v1", render_mode="rgb_array", max_episode_steps=2)
        inner = env.vector_env.envs[0].env.unwrapped  # type: ignore[attr-defined]
        resets, reset = iter(range(3)), inner.reset

        def breaking_reset(**arguments):
            next(resets)
            return reset(**arguments)

        inner.reset = breaking_reset
        return env

    context = RunContext(
        env=make, policy="random_policy", overrides={"runner.n_envs": 1}, seed=1, run_dir=tmp_path
    )
    with pytest.raises(EnvError):
        context.rollout(5, videos=5, save="mine")
    assert list(tmp_path.iterdir()) == []


def test_a_rollout_of_a_trained_run_is_saved_beside_its_checkpoints(tmp_path) -> None:
    with RunContext(run_dir=tmp_path, overrides=QUICK, seed=1) as context:
        context.train(1)
        report = context.rollout(1, save=True)
        assert report.saved_to == tmp_path / "rollouts" / "001"
        assert context.train(1).counters.epoch == 2
    again = RunContext(run_dir=tmp_path, overrides=QUICK)
    assert again.rollout(1).summary.to_dict() == RunContext.load(tmp_path).rollout(1).summary.to_dict()
