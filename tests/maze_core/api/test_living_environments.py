"""How many environments live at a time: never more than were asked for, whatever a run does."""

import os

import pytest

from maze_core import RunContext
from tests.maze_core.api.counted_env import make, make_seen

SMALL = {
    "algorithm.n_epochs": 2,
    "algorithm.checkpoint_every": 2,
    "algorithm.epoch_length": 1,
    "algorithm.n_rollout_steps": 16,
    "algorithm.rollout_evaluator.n_episodes": 3,
    "runner.normalization_samples": 64,
}


@pytest.fixture
def most_alive(tmp_path, monkeypatch):
    def set_most(n):
        monkeypatch.setenv("COUNTED_FOLDER", str(tmp_path))
        monkeypatch.setenv("COUNTED_MOST", str(n))
        return tmp_path

    return set_most


def everything(rc):
    """Train, act, evaluate, play, train on, and hold an environment."""
    rc.train(1)
    env = rc.env_factory()
    rc.compute_action(env.reset())
    env.close()
    rc.evaluate(n_episodes=3)
    rc.train(1)
    rc.rollout(n_episodes=3)
    rc.close()


@pytest.mark.parametrize("wrappers", [None, "vector_obs"])
@pytest.mark.parametrize(
    "more", [{"runner.n_envs": 1}, {"runner.n_envs": 3, "runner.evaluation_envs": "shared"}]
)
def test_no_more_environments_live_than_were_asked_for(most_alive, wrappers, more, tmp_path):
    most_alive(more["runner.n_envs"])
    rc = RunContext(tmp_path / "run", env=make, wrappers=wrappers, seed=1, overrides={**SMALL, **more})
    rc.evaluate(n_episodes=2)  # with the initial weights
    everything(rc)


def test_a_training_in_one_environment_is_filmed_when_that_is_closed(most_alive, tmp_path):
    most_alive(1)
    rc = RunContext(tmp_path / "run", env=make_seen, seed=1, overrides={**SMALL, "runner.n_envs": 1})
    assert rc.train(videos=1).counters.epoch == 2
    assert sorted(path.name for path in (tmp_path / "run" / "videos").iterdir()) == [
        "best.mp4",
        "epoch-00000.mp4",
        "epoch-00002.mp4",
    ]
    assert rc.train(1, videos=1).counters.epoch == 3
    rc.close()


@pytest.mark.parametrize("n_envs", [1, 2])
def test_isolated_environments_have_a_process_each_and_none_lives_in_this_one(
    most_alive, n_envs, monkeypatch, tmp_path
):
    folder = most_alive(2 * n_envs if n_envs > 1 else 1)
    monkeypatch.setenv("COUNTED_APART", "1")
    overrides = {**SMALL, "runner.n_envs": n_envs}
    rc = RunContext(tmp_path / "run", env=make, runner="isolated", seed=1, overrides=overrides)
    rc.train()
    rc.evaluate(n_episodes=3)
    rc.rollout(n_episodes=3)
    rc.close()
    pids = (folder / "pids").read_text().split()
    assert str(os.getpid()) not in pids
    assert len(set(pids)) == len(pids)


def test_evaluation_that_finds_no_room_for_environments_of_its_own_says_what_to_set(most_alive, tmp_path):
    most_alive(2)
    rc = RunContext(tmp_path / "run", env=make, seed=1, overrides={**SMALL, "runner.n_envs": 2})
    with pytest.raises(Exception, match=r"2 live already; runner\.evaluation_envs=shared"):
        rc.train()
    rc.close()


def test_a_run_in_one_environment_is_the_same_in_parts_and_at_once(tmp_path):
    overrides = {**SMALL, "runner.n_envs": 1, "algorithm.n_epochs": 4}
    whole = RunContext(tmp_path / "whole", env="gym_env", seed=1, overrides=overrides)
    parts = RunContext(tmp_path / "parts", env="gym_env", seed=1, overrides=overrides)
    parts.train(2)
    parts.evaluate(n_episodes=2)  # closes the environment of training
    assert parts.train(2).content_sha256 == whole.train(4).content_sha256
