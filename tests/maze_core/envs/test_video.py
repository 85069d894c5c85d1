"""Filming environments: the chosen episodes whole, one picture per flat step, no number changed, nothing left."""

import itertools
import pickle
import sys
from functools import partial
from pathlib import Path

import gymnasium
import numpy as np
import psutil
import pytest

from maze_core.envs.config import CallableEnvConfig, GymEnvConfig
from maze_core.envs.gym_env import GymEnv, GymMazeEnv
from maze_core.envs.maze_env import MazeEnv
from maze_core.envs.per_env import PerEnvVectorEnv
from maze_core.envs.video import VideoEnv, check_videos, make_video_env
from maze_core.envs.wrappers.reward_scaling import RewardScalingWrapper
from maze_core.errors import EnvError, InvalidSpecificationError
from tests.maze_core.envs.structured_env import BoxesEnv
from tests.maze_core.envs.ticks import random_actions, tick_bytes
from tests.maze_core.envs.videos import (
    ClockEnv,
    make_shown_boxes,
    make_shown_clock,
    read_video,
    times_in,
)

pytest.importorskip("imageio_ffmpeg", reason="the video extra is not installed")


@pytest.fixture(autouse=True)
def _no_process_is_left():
    yield
    assert psutil.Process().children(recursive=True) == []


def filmed_clock(videos, **kwargs):
    return VideoEnv(GymEnv(make_shown_clock()), videos, **kwargs)


def play_one(env, seed):
    """Play an episode to its end; its number of flat steps."""
    observation = env.reset(seed=seed)
    rng, n_steps, is_over = np.random.default_rng(0), 0, False
    while not is_over:
        allowed = np.flatnonzero(observation.get("action_mask", np.ones(2)))
        observation, _, terminated, truncated, _ = env.step({"action": rng.choice(allowed)})
        is_over = terminated or truncated
        n_steps += is_over or env.is_flat_step_done()
    return n_steps


def test_a_video_shows_the_reset_and_every_step(tmp_path):
    env = filmed_clock({7: tmp_path / "7.mp4"})
    length = play_one(env, 7)
    assert times_in(tmp_path / "7.mp4") == list(range(length + 1)), "the end of an episode finishes its video"
    about, _ = read_video(tmp_path / "7.mp4")
    assert about["fps"] == 10, "it runs as fast as the environment says"
    env.close()


def test_sub_steps_are_not_filmed_but_flat_steps_are(tmp_path):
    env = VideoEnv(make_shown_boxes(), {3: tmp_path / "3.mp4"})
    assert play_one(env, 3) == 5
    assert times_in(tmp_path / "3.mp4") == [0, 1, 2, 3, 4, 5]
    env.close()


def test_only_episodes_begun_with_a_chosen_seed_are_filmed(tmp_path):
    videos = {seed: tmp_path / f"{seed}.mp4" for seed in (1, 2)}
    env = filmed_clock(videos)
    for seed in (None, 0, 1, None, 2, None, 3):
        play_one(env, seed)
    env.close()
    assert sorted(tmp_path.iterdir()) == sorted(videos.values())


@pytest.mark.parametrize("ending", ["the next reset", "close"])
def test_an_episode_left_early_has_a_video_of_what_was_played(tmp_path, ending):
    env = filmed_clock({1: tmp_path / "1.mp4"})
    env.reset(seed=1)
    env.step({"action": 0})
    assert not (tmp_path / "1.mp4").exists()
    if ending == "close":
        env.close()
    else:
        env.reset()
    assert times_in(tmp_path / "1.mp4") == [0, 1]
    env.close()


def test_a_video_ends_after_its_steps_while_the_episode_goes_on(tmp_path):
    env = filmed_clock({1: tmp_path / "1.mp4"}, max_steps=1)
    assert play_one(env, 1) > 1
    assert times_in(tmp_path / "1.mp4") == [0, 1]
    env.close()


def test_it_is_the_environment_that_it_films(tmp_path):
    inner = make_shown_boxes()
    env = VideoEnv(inner, {})
    assert (env.observation_spaces, env.action_spaces) == (inner.observation_spaces, inner.action_spaces)
    assert (env.agent_counts, env.render_mode, env.bare) == ({0: 1, 1: 1}, "rgb_array", None)
    env.reset(seed=0)
    env.step({"action": 0})
    assert env.actor_id() == inner.actor_id() == (1, 0)
    assert not env.is_flat_step_done()
    np.testing.assert_array_equal(env.render(), inner.render())
    env.close()
    assert inner._is_closed


def test_an_environment_without_pictures_is_refused_with_the_way_out():
    with pytest.raises(EnvError, match=r'render_mode is None\); make it with render_mode="rgb_array"'):
        VideoEnv(GymEnv(ClockEnv()), {})


@pytest.mark.parametrize(
    ("fault", "message"),
    [("picture", r"not a float32 array of shape \(16, 24\)"), ("render", "the lamp is out")],
)
def test_a_video_that_fails_leaves_nothing(tmp_path, fault, message):
    config = CallableEnvConfig(factory=partial(ClockEnv, "rgb_array", fault))
    env = config.vector(2, videos={1: tmp_path / "1.mp4"})
    env.reset([0, 1])
    with pytest.raises(EnvError, match=f"Environment 1, .*{message}"):
        env.step({0: {"action": np.zeros(2, dtype=np.int64)}})
    env.close()
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("execution", ["dev", "local"])
@pytest.mark.parametrize("factory", [make_shown_clock, make_shown_boxes])
def test_filming_changes_no_number_here_and_in_other_processes(tmp_path, factory, execution):
    videos = {seed: tmp_path / f"{seed}.mp4" for seed in (10, 11)}
    config = CallableEnvConfig(factory=factory)
    plain = config.vector(3)
    filmed = config.vector(3, execution=execution, n_processes=2, videos=videos)
    rng = np.random.default_rng(0)
    ticks = [env.reset([10, 11, 12]) for env in (plain, filmed)]
    n_ended = 0
    for _ in range(60):
        assert tick_bytes(ticks[0]) == tick_bytes(ticks[1])
        actions = random_actions(plain, ticks[0], rng)
        ticks = [env.step(actions) for env in (plain, filmed)]
        n_ended += ticks[0].ended.sum()
    assert n_ended > 6, "there must be episodes after an autoreset"
    filmed.close()
    plain.close()
    assert sorted(tmp_path.iterdir()) == sorted(videos.values())
    assert all(times == list(range(len(times))) for times in map(times_in, videos.values()))


def test_environments_stepped_together_are_not_filmed(tmp_path):
    config = GymEnvConfig(name="Taxi-v4", vectorization="native")
    videos = {0: tmp_path / "0.mp4"}
    with pytest.raises(EnvError, match=r"filmed one by one; use env\.vectorization=per_env"):
        config.vector(1, videos=videos)


def test_a_batch_that_has_the_bits_of_single_environments_is_filmed_one_by_one(tmp_path):
    videos = {0: tmp_path / "0.mp4"}
    env = GymEnvConfig(name="CartPole-v1").vector(1, videos=videos)
    env.reset([0])
    env.close()
    assert len(read_video(videos[0])[1]) == 1


def test_the_video_of_a_wrapped_environment_ends_with_its_episode_and_not_with_the_next(tmp_path):
    def factory():
        return RewardScalingWrapper.wrap(GymMazeEnv(make_shown_clock()), scale=2.0)

    videos = {seed: tmp_path / f"{seed}.mp4" for seed in (1, 2)}
    env = CallableEnvConfig(factory=factory).vector(1, videos=videos)
    for seed in (1, 2):
        tick = env.reset([seed])
        while not tick.ended[0]:
            tick = env.step({0: {"action": np.zeros(1, dtype=np.int64)}})
        assert times_in(videos[seed]) == list(range(tick.episode_length[0] + 1))
    assert read_video(videos[1])[0]["fps"] == 10
    env.close()


def test_a_factory_can_be_sent_to_another_process():
    make = GymEnvConfig(name="CartPole-v1").rendered().make
    factory = partial(make_video_env, make, {1: Path("1.mp4")}, 3)
    made = pickle.loads(pickle.dumps(factory))()
    assert (made.render_mode, made.observation_spaces) == ("rgb_array", factory().observation_spaces)
    made.close()


def test_an_environment_that_cannot_be_filmed_is_closed_again():
    made = []

    def factory():
        made.append(ClockEnv())
        return made[0]

    with pytest.raises(EnvError, match="gives no pictures"):
        make_video_env(CallableEnvConfig(factory=factory).make, {})
    assert made[0].is_closed


def test_cartpole_is_filmed_without_a_screen(tmp_path, monkeypatch):
    for name in ("DISPLAY", "WAYLAND_DISPLAY", "SDL_VIDEODRIVER"):
        monkeypatch.delenv(name, raising=False)
    video = tmp_path / "0.mp4"
    env = GymEnvConfig(name="CartPole-v1").vector(1, videos={0: video}, video_steps=8)
    env.reset([0])
    for _ in range(9):
        env.step({0: {"action": np.array([1])}})
    env.close()
    about, pictures = read_video(video)
    assert pictures.shape == (9, 400, 600, 3)
    assert about["fps"] == 50
    assert pictures[0].mean() > 200, "the background is white"
    shown = pictures.astype(int)
    for before, after in itertools.pairwise(shown):
        assert np.abs(after - before).max() > 20, "the cart or the pole moves with every step"
    assert np.abs(shown[-1] - shown[0]).max() > 100


@pytest.mark.parametrize(
    "config",
    [
        GymEnvConfig(name="CartPole-v1"),
        CallableEnvConfig(factory=make_shown_boxes),
        CallableEnvConfig(factory=lambda: GymMazeEnv("CartPole-v1", render_mode="rgb_array")),
        CallableEnvConfig(
            factory=lambda: RewardScalingWrapper.wrap(MazeEnv(PerEnvVectorEnv([make_shown_boxes])), scale=2.0)
        ),
    ],
)
def test_what_can_be_filmed_passes_the_check_and_leaves_nothing(config, tmp_path, monkeypatch):
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path))
    check_videos(config.rendered().make)
    assert list(tmp_path.iterdir()) == []


class BlindEnv(ClockEnv):
    """Takes no render mode."""

    def __init__(self) -> None:
        super().__init__()


class DimEnv(ClockEnv):
    """Takes a render mode that it does not list, and shows nothing."""

    metadata = {"render_modes": ["ansi"]}  # noqa: RUF012

    def render(self) -> None:
        return None


@pytest.fixture
def registered():
    for entry_point in (BlindEnv, DimEnv):
        gymnasium.register(f"{entry_point.__name__}-v0", entry_point=entry_point)
    yield
    for entry_point in (BlindEnv, DimEnv):
        del gymnasium.registry[f"{entry_point.__name__}-v0"]


@pytest.mark.parametrize(
    ("config", "why"),
    [
        (CallableEnvConfig(factory=lambda: GymMazeEnv("CartPole-v1")), "its render_mode is None"),
        (CallableEnvConfig(factory=BoxesEnv), "its render_mode is None"),
        (CallableEnvConfig(factory=partial(ClockEnv, "human")), "its render_mode is 'human'"),
        (GymEnvConfig(name="BlindEnv-v0"), "unexpected keyword argument 'render_mode'"),
        (GymEnvConfig(name="DimEnv-v0"), "not a NoneType"),
        (CallableEnvConfig(factory=lambda: 1 // 0), "ZeroDivisionError"),
    ],
)
@pytest.mark.usefixtures("registered")
def test_what_cannot_be_filmed_is_refused_with_the_reason_and_the_way_out(config, why):
    with pytest.raises(InvalidSpecificationError) as caught:
        check_videos(config.rendered().make)
    (problem,) = caught.value.problems
    assert (problem.path, problem.code) == ("videos", "cannot_be_filmed")
    assert why in problem.message
    assert problem.message.count('make it with render_mode="rgb_array"') == 1


def test_a_missing_encoder_is_refused_with_the_line_to_type(monkeypatch):
    monkeypatch.setitem(sys.modules, "imageio_ffmpeg", None)
    with pytest.raises(InvalidSpecificationError, match=r"pip install 'maze-service\[video\]'") as caught:
        check_videos(GymEnvConfig(name="CartPole-v1").rendered().make)
    (problem,) = caught.value.problems
    assert (problem.path, problem.code) == ("videos", "missing_extra")
