"""Videos of a training and of rollouts: where they lie, and that they change no number."""

import sys

import imageio_ffmpeg
import pytest

from maze_core import GymMazeEnv, InvalidSpecificationError, RunContext
from tests.maze_core.api.test_forms import QUICK

OF_TRAINING = {**QUICK, "algorithm.checkpoint_every": 1, "algorithm.rollout_evaluator.max_episode_steps": 12}


def n_frames(path) -> int:
    frames, _ = imageio_ffmpeg.count_frames_and_secs(str(path))
    return int(frames)


def names(folder) -> list[str]:
    return sorted(path.name for path in folder.iterdir())


@pytest.fixture(scope="module")
def plain(tmp_path_factory):
    with RunContext(run_dir=tmp_path_factory.mktemp("plain"), overrides=OF_TRAINING, seed=1) as context:
        yield context.train(2)


def test_a_filmed_training_is_the_same_run(tmp_path, plain) -> None:
    with RunContext(run_dir=tmp_path, overrides=OF_TRAINING, seed=1) as context:
        report = context.train(2, videos=1)
    assert report.content_sha256 == plain.content_sha256
    assert names(tmp_path / "videos") == ["best.mp4", *(f"epoch-{n:05d}.mp4" for n in range(3))]
    assert n_frames(tmp_path / "videos" / "best.mp4") <= 13  # twelve steps and the first sight


def test_several_episodes_are_several_films(tmp_path) -> None:
    with RunContext(run_dir=tmp_path, overrides=OF_TRAINING, seed=1) as context:
        context.train(1, videos=2)
    films = [f"{name}-{n}.mp4" for name in ("best", "epoch-00000", "epoch-00001") for n in (1, 2)]
    assert names(tmp_path / "videos") == films


def test_a_filmed_rollout_is_saved_and_tells_its_films(tmp_path) -> None:
    context = RunContext(
        policy="random_policy", overrides={"env.name": "CartPole-v1"}, seed=1, run_dir=tmp_path
    )
    report = context.rollout(3, videos=2)
    assert report.saved_to is not None
    assert [path.name for path in report.videos] == ["episode-00000.mp4", "episode-00001.mp4"]
    assert [n_frames(path) for path in report.videos] == [length + 1 for length in report.summary.lengths[:2]]
    assert report.summary.returns == context.rollout(3).summary.returns


def test_what_cannot_be_filmed_is_refused_before_anything_is_trained_or_played(tmp_path) -> None:
    context = RunContext(env=lambda: GymMazeEnv("CartPole-v1"), run_dir=tmp_path)
    for verb in (context.train, context.rollout):
        with pytest.raises(InvalidSpecificationError, match=r"videos: .*render_mode"):
            verb(1, videos=1)
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("multirun", [False, True])
def test_without_the_encoder_nothing_is_trained_or_played(tmp_path, monkeypatch, multirun) -> None:
    monkeypatch.setitem(sys.modules, "imageio_ffmpeg", None)
    context = RunContext(run_dir=tmp_path, multirun=multirun)
    for verb in (context.train, context.rollout):
        with pytest.raises(InvalidSpecificationError, match=r"pip install 'maze-service\[video\]'"):
            verb(1, videos=1)
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("videos", [-1, 1.5, "all", True])
def test_a_number_of_videos_is_a_whole_number(videos, tmp_path) -> None:
    context = RunContext(run_dir=tmp_path, overrides=QUICK)
    for verb in (context.train, context.rollout):
        with pytest.raises(InvalidSpecificationError, match=r"videos: .* is not a whole number"):
            verb(1, videos=videos)


def test_an_environment_function_that_renders_is_filmed(tmp_path) -> None:
    def make() -> GymMazeEnv:
        return GymMazeEnv("CartPole-v1", render_mode="rgb_array", max_episode_steps=5)

    context = RunContext(env=make, policy="random_policy", seed=1, run_dir=tmp_path)
    (film,) = context.rollout(1, videos=1).videos
    assert n_frames(film) == 6
