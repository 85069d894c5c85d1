"""Environments of the old gym package: four values or five, on NumPy 2, with the checker off."""

import importlib.util

import gymnasium
import numpy as np
import pytest
from gymnasium import spaces

from maze_core.envs.config import LegacyGymEnvConfig
from maze_core.envs.gym_env import GymEnv
from maze_core.envs.legacy_gym import LegacyGymAdapter, to_gymnasium_space
from maze_core.envs.per_env import PerEnvVectorEnv
from maze_core.envs.video import check_videos
from maze_core.errors import EnvError, InvalidSpecificationError
from tests.maze_core.envs.small_envs import Old4TupleEnv
from tests.maze_core.envs.videos import picture_of, read_video, times_in

needs_gym = pytest.mark.skipif(
    importlib.util.find_spec("gym") is None, reason="the gym extra is not installed"
)
needs_video = pytest.mark.skipif(
    importlib.util.find_spec("imageio_ffmpeg") is None, reason="the video extra is not installed"
)


def run_to_end(env):
    env.reset([0])
    while not (tick := env.step({0: {"action": np.array([0])}})).ended[0]:
        pass
    return tick


@pytest.mark.parametrize(("limit", "ends"), [(None, (True, False)), (3, (False, True))])
def test_done_is_a_time_limit_only_where_the_info_says_so(limit, ends):
    tick = run_to_end(PerEnvVectorEnv([lambda: GymEnv(LegacyGymAdapter(Old4TupleEnv(limit)))]))
    assert (tick.terminated[0], tick.truncated[0]) == ends
    assert tick.episode_length[0] == (limit or 5)
    assert tick.episode_return[0] == 0.5 * (limit or 5)


def test_an_old_env_is_seeded_by_its_seed_method():
    old = Old4TupleEnv()
    adapter = LegacyGymAdapter(old)
    adapter.reset(seed=3)
    adapter.reset()
    adapter.reset(seed=4)
    assert old.seeds == [3, 4]


def test_a_step_of_another_length_is_refused():
    old = Old4TupleEnv()
    old.step = lambda action: (0, 0, False)
    adapter = LegacyGymAdapter(old)
    with pytest.raises(EnvError, match="gave 3 values"):
        adapter.step(0)


def test_a_space_without_counterpart_is_refused():
    class Sequence:
        pass

    with pytest.raises(EnvError, match="gym's Sequence space has no counterpart"):
        to_gymnasium_space(Sequence())


@needs_gym
@pytest.mark.parametrize("name", ["CartPole-v0", "CartPole-v1", "Pendulum-v1", "MountainCar-v0"])
def test_gyms_own_environments_run_on_this_numpy(name):
    env = LegacyGymEnvConfig(name=name, max_episode_steps=20).vector(2)
    tick = env.reset([1, 2])
    ends = 0
    for _ in range(45):
        shape = (2, *env.action_spaces[0]["action"].shape)
        tick = env.step({0: {"action": np.zeros(shape, dtype=np.int64)}})
        ends += tick.ended.sum()
    assert ends >= 4
    env.close()


class OldShownEnv(Old4TupleEnv):
    """Told with each call of ``render`` what to give, as before gym 0.26."""

    metadata = {"render.modes": ["human", "rgb_array"], "video.frames_per_second": 15}  # noqa: RUF012

    def render(self, mode="human"):
        return picture_of(self.time) if mode == "rgb_array" else None


def test_an_old_env_is_told_with_each_call_what_to_render():
    env = GymEnv(LegacyGymAdapter(OldShownEnv(), render_mode="rgb_array"))
    assert (env.render_mode, env.render_fps) == ("rgb_array", 15.0)
    env.reset()
    env.step({"action": 0})
    np.testing.assert_array_equal(env.render(), picture_of(1))
    silent = GymEnv(LegacyGymAdapter(OldShownEnv()))
    assert silent.render_mode is None


def test_an_old_env_that_takes_no_mode_has_none():
    assert LegacyGymAdapter(Old4TupleEnv(), render_mode="rgb_array").render_mode is None


@needs_gym
@needs_video
def test_gyms_own_environments_are_filmed(tmp_path):
    video = tmp_path / "0.mp4"
    env = LegacyGymEnvConfig(name="CartPole-v1").vector(1, videos={0: video}, video_steps=3)
    env.reset([0])
    for _ in range(4):
        env.step({0: {"action": np.array([0])}})
    env.close()
    about, pictures = read_video(video)
    assert (pictures.shape, about["fps"]) == ((4, 400, 600, 3), 50)


@needs_gym
@needs_video
def test_an_old_env_in_gyms_registry_is_filmed(tmp_path):
    import gym

    gym.register("OldShown-v0", entry_point=_old_gym_env(gym, OldShownEnv), max_episode_steps=3)
    video = tmp_path / "0.mp4"
    config = LegacyGymEnvConfig(name="OldShown-v0")
    try:
        check_videos(config.rendered().make)
        env = config.vector(1, videos={0: video})
        run_to_end(env)
        env.close()
    finally:
        del gym.envs.registry["OldShown-v0"]
    assert times_in(video) == [0, 1, 2, 3]


@needs_gym
@needs_video
def test_an_old_env_without_pictures_cannot_be_filmed():
    import gym

    gym.register("OldBlind-v0", entry_point=_old_gym_env(gym, Old4TupleEnv))
    try:
        with pytest.raises(InvalidSpecificationError, match="its render_mode is None"):
            check_videos(LegacyGymEnvConfig(name="OldBlind-v0").rendered().make)
    finally:
        del gym.envs.registry["OldBlind-v0"]


@needs_gym
def test_legacy_cartpole_is_gymnasiums_cartpole():
    tick = LegacyGymEnvConfig(name="CartPole-v1").vector(1).reset([5])
    expected, _ = gymnasium.make("CartPole-v1").reset(seed=5)
    np.testing.assert_array_equal(tick.observations[0]["observation"][0], expected)


@needs_gym
def test_an_old_env_in_gyms_registry_runs_with_the_registered_time_limit():
    import gym

    gym.register("Old4Tuple-v0", entry_point=_old_gym_env(gym, Old4TupleEnv), max_episode_steps=2)
    try:
        tick = run_to_end(LegacyGymEnvConfig(name="Old4Tuple-v0").vector(1))
    finally:
        del gym.envs.registry["Old4Tuple-v0"]
    assert (tick.terminated[0], tick.truncated[0], tick.episode_length[0]) == (False, True, 2)


@needs_gym
def test_an_unknown_id_is_refused():
    with pytest.raises(EnvError, match="Nowhere-v0 of gym could not be made"):
        LegacyGymEnvConfig(name="Nowhere-v0").make()


@needs_gym
def test_gyms_spaces_become_gymnasiums():
    import gym

    old = gym.spaces.Dict(
        a=gym.spaces.Tuple([gym.spaces.Discrete(3, start=1), gym.spaces.MultiBinary(4)]),
        b=gym.spaces.MultiDiscrete([2, 3]),
        c=gym.spaces.Box(-1.0, 1.0, (2,), np.float32),
        d=gym.spaces.Box(-1.0, 1.0, (), np.float32),
    )
    assert to_gymnasium_space(old) == spaces.Dict(
        a=spaces.Tuple([spaces.Discrete(3, start=1), spaces.MultiBinary(4)]),
        b=spaces.MultiDiscrete([2, 3]),
        c=spaces.Box(-1.0, 1.0, (2,), np.float32),
        d=spaces.Box(-1.0, 1.0, (), np.float32),
    )


def _old_gym_env(gym, old):
    """An old environment with gym's base class, which gym.make insists on."""

    class OldGymEnv(old, gym.Env):
        def __init__(self):
            super().__init__()
            self.observation_space = gym.spaces.Box(0.0, 100.0, (1,), np.float32)
            self.action_space = gym.spaces.Discrete(2)

    return OldGymEnv
