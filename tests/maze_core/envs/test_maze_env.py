"""One environment in the hand: its four return values, its two kinds of end, and its gymnasium form."""

import gymnasium
import numpy as np
import pytest
from gymnasium import spaces
from gymnasium.utils.env_checker import check_env

from maze_core.envs.config import CallableEnvConfig, GymEnvConfig
from maze_core.envs.gym_env import GymEnv, GymMazeEnv, make_gym
from maze_core.envs.maze_env import MazeEnv, to_gymnasium
from maze_core.envs.per_env import PerEnvVectorEnv
from maze_core.envs.wrappers.monitoring import MonitoringWrapper
from maze_core.envs.wrappers.observation_clipping import ObservationClippingWrapper
from maze_core.envs.wrappers.reward_scaling import RewardScalingWrapper
from maze_core.envs.wrappers.wrapper import ProcessedObservation
from maze_core.errors import EnvError, SpaceMismatchError
from maze_core.types import ActorID
from tests.maze_core.envs.small_envs import EpisodeNumberEnv
from tests.maze_core.envs.structured_env import BoxesEnv
from tests.maze_core.envs.ticks import tick_bytes
from tests.maze_core.envs.videos import make_shown_clock, picture_of


def play(env, n_steps=200):
    """Everything that an episode-after-episode run with fixed actions gives."""
    seen = [env.reset(seed=4)["observation"].tolist()]
    for i in range(n_steps):
        observation, reward, done, info = env.step({"action": i % 2})
        seen.append((observation["observation"].tolist(), reward, done, info["terminated"]))
        if done:
            seen.append(env.reset()["observation"].tolist())
    return seen


def test_it_shows_what_gymnasium_shows_over_several_episodes():
    theirs = gymnasium.make("CartPole-v1")
    observation, _ = theirs.reset(seed=4)
    expected = [observation.tolist()]
    for i in range(200):
        observation, reward, terminated, truncated, _ = theirs.step(i % 2)
        expected.append((observation.tolist(), reward, terminated or truncated, terminated))
        if terminated or truncated:
            expected.append(theirs.reset()[0].tolist())
    assert play(GymMazeEnv("CartPole-v1")) == expected
    assert len(expected) > 202, "there must be several episodes"


@pytest.mark.parametrize("source", ["CartPole-v1", make_gym("CartPole-v1"), lambda: make_gym("CartPole-v1")])
def test_gym_maze_env_takes_an_id_an_env_or_a_function(source):
    assert GymMazeEnv(source).reset(seed=0)["observation"].shape == (4,)


def test_gym_maze_env_takes_arguments_and_a_step_limit():
    env = GymMazeEnv("CartPole-v1", sutton_barto_reward=True, max_episode_steps=1)
    env.reset(seed=0)
    _, reward, done, info = env.step({"action": 0})
    assert (reward, done, info["TimeLimit.truncated"]) == (0.0, True, True)


def test_arguments_beside_a_made_env_are_refused():
    with pytest.raises(EnvError, match="only be given together with an environment id"):
        GymMazeEnv(make_gym("CartPole-v1"), sutton_barto_reward=True)


def test_info_tells_a_time_limit_from_a_terminal_state():
    env = GymMazeEnv(EpisodeNumberEnv())
    ends = []
    for _ in range(4):
        env.reset()
        done = False
        while not done:
            _, _, done, info = env.step({"action": 0})
        ends.append((info["terminated"], info["TimeLimit.truncated"]))
        assert info["time"] >= 2, "the environment's own info must come through"
    assert ends == [(False, True), (True, False)] * 2


def test_a_step_after_the_end_asks_for_a_reset():
    env = GymMazeEnv(EpisodeNumberEnv())
    with pytest.raises(EnvError, match=r"call reset\(\) before step"):
        env.step({"action": 0})
    env.reset()
    while not env.step({"action": 0})[2]:
        pass
    with pytest.raises(EnvError, match=r"call reset\(\) before step"):
        env.step({"action": 0})
    assert env.reset()["observation"].tolist() == [0, 2, 0]


def test_seed_is_for_the_next_reset():
    env = GymMazeEnv("CartPole-v1")
    env.seed(9)
    first = env.reset()["observation"]
    np.testing.assert_array_equal(first, GymMazeEnv("CartPole-v1").reset(seed=9)["observation"])
    assert not np.array_equal(env.reset()["observation"], first)


def test_an_observation_is_the_callers_to_keep():
    env = GymMazeEnv("CartPole-v1")
    first = env.reset(seed=0)
    kept = first["observation"].copy()
    env.step({"action": 0})
    np.testing.assert_array_equal(first["observation"], kept)


def test_spaces_follow_the_sub_step():
    env = MazeEnv(PerEnvVectorEnv([BoxesEnv]))
    assert env.actor_id() == ActorID(0, 0)
    env.reset(seed=0)
    assert isinstance(env.action_space["action"], spaces.Discrete)
    assert set(env.observation_space) == {"right_box", "rounds_left"}
    observation, *_ = env.step({"action": 1})
    assert env.actor_id() == ActorID(1, 0)
    assert env.observation_space.contains(observation)
    assert env.observation_spaces_dict.keys() == env.action_spaces_dict.keys() == {0, 1}


def test_an_action_without_a_head_is_refused_by_name():
    env = GymMazeEnv("CartPole-v1")
    env.reset()
    with pytest.raises(EnvError, match=r"lacks \['action'\]"):
        env.step({"move": 1})


def test_more_than_one_environment_is_refused():
    with pytest.raises(EnvError, match="has 2"):
        MazeEnv(GymEnvConfig().vector(2))


def test_wrapping_gives_the_same_kind_and_marks_what_it_processed():
    env = ObservationClippingWrapper.wrap(GymMazeEnv("CartPole-v1"), clip_range=(-0.01, 0.01))
    assert isinstance(env, MazeEnv)
    observation = env.reset(seed=0)
    assert isinstance(observation, ProcessedObservation)
    assert np.abs(observation["observation"]).max() == np.float32(0.01)
    assert not isinstance(GymMazeEnv("CartPole-v1").reset(), ProcessedObservation)
    raw = RewardScalingWrapper.wrap(GymMazeEnv("CartPole-v1"), scale=2.0)
    assert not isinstance(raw.reset(), ProcessedObservation)
    assert raw.step({"action": 0})[1] == 2.0


def test_something_else_cannot_be_wrapped():
    with pytest.raises(EnvError, match="wraps a MazeEnv or a VectorEnv, not a int"):
        RewardScalingWrapper.wrap(3)


@pytest.mark.parametrize("name", ["MountainCarContinuous-v0", "FrozenLake-v1", "Blackjack-v1"])
def test_its_gymnasium_form_passes_the_environment_checker(name):
    check_env(to_gymnasium(GymMazeEnv(name)), skip_render_check=True)


@pytest.mark.filterwarnings("ignore:.*observation space m.* value is")
def test_the_gymnasium_form_of_cartpole_is_cartpole():
    env = to_gymnasium(GymMazeEnv("CartPole-v0"))
    check_env(env, skip_render_check=True)
    theirs = make_gym("CartPole-v0")
    assert env.observation_space == theirs.observation_space
    assert env.action_space == theirs.action_space
    env.reset(seed=1)
    theirs.reset(seed=1)
    for i in range(300):
        ours, expected = env.step(i % 2), theirs.step(i % 2)
        np.testing.assert_array_equal(ours[0], expected[0])
        assert ours[1:4] == expected[1:4]
        if ours[2] or ours[3]:
            np.testing.assert_array_equal(env.reset()[0], theirs.reset()[0])


def test_sub_steps_have_no_gymnasium_form():
    with pytest.raises(EnvError, match="no form for sub-steps"):
        to_gymnasium(MazeEnv(PerEnvVectorEnv([BoxesEnv])))


def test_a_wrapped_maze_env_from_a_factory_steps_in_a_batch_as_the_structured_env_it_is():
    def factory():
        return RewardScalingWrapper.wrap(MazeEnv(PerEnvVectorEnv([BoxesEnv])), scale=1.0)

    through_a_factory = CallableEnvConfig(factory=factory).vector(3)
    direct = PerEnvVectorEnv([BoxesEnv] * 3)
    ticks = through_a_factory.reset([1, 2, 3]), direct.reset([1, 2, 3])
    rng = np.random.default_rng(0)
    for _ in range(100):
        assert tick_bytes(ticks[0]) == tick_bytes(ticks[1])
        mask = ticks[0].observations[1]["action_mask"]
        items = (mask * rng.random(mask.shape)).argmax(axis=1)
        actions = {0: {"action": rng.integers(0, 3, 3)}, 1: {"action": items}}
        ticks = through_a_factory.step(actions), direct.step(actions)


def test_render_and_close_reach_the_environment():
    env = GymMazeEnv("CartPole-v1", render_mode="rgb_array")
    env.reset(seed=0)
    assert env.render().shape == (400, 600, 3)
    env.close()
    with pytest.raises(EnvError, match="closed"):
        env.reset()


def test_a_wrapped_environment_renders_as_the_structured_env_it_is():
    wrapped = RewardScalingWrapper.wrap(GymMazeEnv(make_shown_clock()), scale=2.0).structured()
    assert (wrapped.render_mode, wrapped.render_fps) == ("rgb_array", 10.0)
    wrapped.reset(seed=0)
    wrapped.step({"action": 0})
    np.testing.assert_array_equal(wrapped.render(), picture_of(1))
    blind = RewardScalingWrapper.wrap(GymMazeEnv("CartPole-v1"), scale=2.0).structured()
    assert (blind.render_mode, blind.render_fps) == (None, 50.0)


def test_the_end_of_an_episode_that_was_rendered_is_there_to_see_until_the_next_begins():
    env = GymMazeEnv(make_shown_clock())
    for _ in range(3):
        env.reset()
        np.testing.assert_array_equal(env.render(), picture_of(0))
        n_steps, done = 0, False
        while not done:
            _, _, done, _ = env.step({"action": 0})
            n_steps += 1
        np.testing.assert_array_equal(env.render(), picture_of(n_steps))
        np.testing.assert_array_equal(env.render(), picture_of(n_steps))


def test_structured_gives_the_environment_itself_where_nothing_is_around_it():
    env = GymMazeEnv("CartPole-v1")
    assert isinstance(env.structured(), GymEnv)


@pytest.mark.parametrize(
    ("action", "message"),
    [
        (None, "An action is a dict with 'action', not NoneType None"),
        (1, "An action is a dict with 'action', not int 1"),
        ({"action": None}, "'action' is None, which is no number"),
        ({"action": "left"}, "'action' is 'left', which is no number"),
        ({"action": [[1], [1, 2]]}, "which is no number and no array"),
        ({"action": 0.5}, r"'action' is 0.5, but Discrete\(2\) has whole numbers"),
        ({"action": 1, "speed": 2}, "The action has 'speed', but its heads are action"),
    ],
)
def test_what_is_no_action_is_refused_and_the_episode_goes_on(action, message):
    env = GymMazeEnv("CartPole-v1")
    env.reset(seed=0)
    with pytest.raises(SpaceMismatchError, match=message):
        env.step(action)
    other = GymMazeEnv("CartPole-v1")
    other.reset(seed=0)
    np.testing.assert_array_equal(
        env.step({"action": 1})[0]["observation"], other.step({"action": 1.0})[0]["observation"]
    )


class TalksEnv(gymnasium.Env):
    """Says in its info what it was reset with, and shows itself."""

    metadata: dict = {"render_modes": ["rgb_array"], "render_fps": 7}  # noqa: RUF012
    render_mode = "rgb_array"
    observation_space = spaces.Box(0, 9, (1,), np.float32)
    action_space = spaces.Discrete(2)
    n_resets = 0

    def reset(self, *, seed=None, options=None):
        super().reset(seed=seed)
        self.n_resets += 1
        return np.zeros(1, np.float32), {"options": options, "reset": self.n_resets}

    def step(self, action):
        return np.zeros(1, np.float32), 0.0, True, False, {"after": self.n_resets}

    def render(self):
        return np.full((4, 4, 3), self.n_resets, np.uint8)


def maze_of(wrap):
    made = MonitoringWrapper.wrap(GymMazeEnv(TalksEnv)) if wrap != "plain" else GymMazeEnv(TalksEnv)
    return made if wrap != "stepped" else MazeEnv(PerEnvVectorEnv([made.structured]))


@pytest.mark.parametrize("wrap", ["plain", "wrapped", "stepped"])
def test_what_gymnasium_says_at_a_reset_and_shows_comes_through(wrap):
    env = to_gymnasium(maze_of(wrap))
    assert (env.render_mode, env.metadata) == (
        "rgb_array",
        {"render_modes": ["rgb_array"], "render_fps": 7.0},
    )
    assert env.reset(seed=1)[1] == {"options": None, "reset": 1}
    assert env.reset(options={"level": 3})[1] == {"options": {"level": 3}, "reset": 2}
    assert env.reset()[1] == {"options": None, "reset": 3}
    assert env.render().tolist() == np.full((4, 4, 3), 3).tolist()
    assert env.step(0)[4] == {"after": 3}
    assert env.reset()[1] == {"options": None, "reset": 4}
    env.step(0)
    assert env.reset(options={"level": 5})[1]["options"] == {"level": 5}


def test_the_mask_of_taxi_is_there_after_a_reset():
    info = to_gymnasium(GymMazeEnv("Taxi-v4")).reset(seed=1)[1]
    assert info["action_mask"].shape == (6,)


def test_options_that_an_environment_does_not_take_are_refused():
    class Plain(TalksEnv):
        def reset(self, *, seed=None):
            return np.zeros(1, np.float32), {}

    with pytest.raises(EnvError, match=r"reset\(\) cannot be called .*options"):
        GymMazeEnv(Plain).reset(options={"level": 3})
    with pytest.raises(EnvError, match=r"BoxesEnv\.reset takes no options"):
        MazeEnv(PerEnvVectorEnv([BoxesEnv])).reset(options={})
