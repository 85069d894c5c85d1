"""Rollouts with videos: the first episodes that are complete, whole, and not one number changed by the camera."""

import sys

import numpy as np
import psutil
import pytest

from maze_core.config import compose_run
from maze_core.envs.wrappers.observation_clipping import ObservationClippingWrapper
from maze_core.envs.wrappers.reward_scaling import RewardScalingWrapper
from maze_core.errors import EnvError
from maze_core.metrics import SilentReporter
from maze_core.runners.evaluation import run_rollout
from tests.maze_core.envs.videos import (
    make_failing_clock,
    make_shown_boxes,
    make_shown_clock,
    times_in,
)

pytest.importorskip("imageio_ffmpeg", reason="the video extra is not installed")

N_EPISODES = 5


@pytest.fixture(autouse=True)
def _no_process_is_left():
    yield
    assert psutil.Process().children(recursive=True) == []


def config_of(env, runner="sequential", **fields):
    fields = {"n_episodes": N_EPISODES, "n_envs": 3, **fields}
    overrides = {f"runner.{name}": value for name, value in fields.items()}
    return compose_run("rollout", env=env, runner=runner, overrides=overrides, seed=1)


def paths(folder, n_videos):
    return [folder / f"episode-{index}.mp4" for index in range(n_videos)]


def bits(report):
    """Everything that was played, as comparable values."""
    return [
        (
            episode.index,
            episode.seed,
            episode.episode_return,
            episode.length,
            episode.terminated,
            episode.truncated,
            np.concatenate([leaf.ravel() for leaf in leaves(episode.trajectory)]).tobytes(),
        )
        for episode in report.episodes
    ]


def leaves(value):
    """Every array of a record, in one fixed order."""
    if isinstance(value, np.ndarray):
        return [value]
    if isinstance(value, dict):
        return [leaf for inner in value.values() for leaf in leaves(inner)]
    if isinstance(value, list | tuple):
        return [leaf for inner in value for leaf in leaves(inner)]
    names = getattr(value, "__dataclass_fields__", {})
    return [leaf for name in names for leaf in leaves(getattr(value, name))]


class CancelAfter(SilentReporter):
    """Asks to stop when this many episodes have ended."""

    def __init__(self, n_episodes):
        self.left = n_episodes

    def episode(self, record):
        self.left -= 1

    def __call__(self):
        return self.left <= 0


@pytest.mark.parametrize(("runner", "n_envs"), [("sequential", 1), ("sequential", 4), ("parallel", 3)])
@pytest.mark.parametrize("env", [make_shown_clock, make_shown_boxes])
def test_filming_changes_no_number_and_shows_every_flat_step(tmp_path, env, runner, n_envs):
    unfilmed = run_rollout(config_of(env), agent=None)
    videos = paths(tmp_path, 3)
    report = run_rollout(config_of(env, runner, n_envs=n_envs, n_processes=2), agent=None, videos=videos)
    assert bits(report) == bits(unfilmed)
    assert report.to_dict() == unfilmed.to_dict()
    assert (list(report.videos), list(unfilmed.videos)) == (videos, [])
    assert sorted(tmp_path.iterdir()) == videos
    for episode, video in zip(report.episodes, videos, strict=False):
        assert times_in(video) == list(range(episode.length + 1))


def test_the_video_of_an_episode_that_is_cut_ends_where_it_is_cut(tmp_path):
    videos = paths(tmp_path, N_EPISODES)
    report = run_rollout(config_of(make_shown_boxes, max_episode_steps=2), agent=None, videos=videos)
    assert [episode.length for episode in report.episodes] == [2] * N_EPISODES
    assert [times_in(video) for video in videos] == [[0, 1, 2]] * N_EPISODES


def test_videos_beyond_the_last_episode_are_not_used(tmp_path):
    videos = paths(tmp_path, N_EPISODES + 2)
    videos[-1].write_bytes(b"another's")
    report = run_rollout(config_of(make_shown_clock), agent=None, videos=videos)
    assert list(report.videos) == videos[:N_EPISODES]
    assert sorted(tmp_path.iterdir()) == sorted([*videos[:N_EPISODES], videos[-1]])
    assert videos[-1].read_bytes() == b"another's"


@pytest.mark.parametrize("runner", ["sequential", "parallel"])
def test_of_episodes_that_a_cancel_left_incomplete_no_video_remains(tmp_path, runner):
    videos = paths(tmp_path, N_EPISODES)
    videos[-1].write_bytes(b"of an earlier rollout")
    cancel = CancelAfter(1)
    report = run_rollout(
        config_of(make_shown_clock, runner, n_processes=1),
        agent=None,
        videos=videos,
        reporter=cancel,
        cancelled=cancel,
    )
    assert report.stop_reason == "cancelled"
    assert 0 < len(report.episodes) < N_EPISODES
    assert list(report.videos) == [videos[episode.index] for episode in report.episodes]
    assert sorted(tmp_path.iterdir()) == sorted(report.videos)


@pytest.mark.parametrize("runner", ["sequential", "parallel"])
def test_a_rollout_that_fails_leaves_no_video_that_is_not_whole(tmp_path, runner):
    with pytest.raises(EnvError, match="the spring broke"):
        run_rollout(
            config_of(make_failing_clock, runner, n_processes=1),
            agent=None,
            videos=paths(tmp_path, N_EPISODES),
        )
    assert list(tmp_path.iterdir()) == []


def test_videos_without_the_extra_are_an_error_with_the_line_to_type(tmp_path, monkeypatch):
    monkeypatch.setitem(sys.modules, "imageio_ffmpeg", None)
    with pytest.raises(EnvError, match=r"pip install 'maze-service\[video\]'"):
        run_rollout(config_of(make_shown_clock), agent=None, videos=paths(tmp_path, 1))
    assert list(tmp_path.iterdir()) == []


def test_wrapped_cartpole_plays_the_same_episodes_in_front_of_the_camera(tmp_path):
    def of(runner):
        return compose_run(
            "rollout",
            env={"name": "CartPole-v1"},
            wrappers=[RewardScalingWrapper(scale=0.5), ObservationClippingWrapper(clip_range=(-0.1, 0.1))],
            runner=runner,
            overrides={"runner.n_episodes": 3, "runner.n_envs": 2},
            seed=4,
        )

    unfilmed = run_rollout(of("sequential"), agent=None)
    for runner in ("sequential", "parallel"):
        assert bits(run_rollout(of(runner), agent=None, videos=paths(tmp_path, 2))) == bits(unfilmed)
