"""The batch in one process: same-step autoreset, both kinds of end, sub-steps, and what it does to a broken env."""

import gymnasium
import numpy as np
import pytest
from gymnasium.vector import AutoresetMode, SyncVectorEnv

from maze_core.envs.config import GymEnvConfig
from maze_core.envs.gym_env import GymEnv
from maze_core.envs.per_env import PerEnvVectorEnv
from maze_core.errors import EnvError
from maze_core.notices import MazeWarning
from maze_core.types import ActorID
from tests.maze_core.envs.small_envs import BrokenEnv, EpisodeNumberEnv
from tests.maze_core.envs.structured_env import BoxesEnv
from tests.maze_core.envs.ticks import random_actions, tick_bytes


def act(n_envs, value=0):
    return {0: {"action": np.full(n_envs, value)}}


def number_envs(n_envs=3):
    return PerEnvVectorEnv([lambda i=i: GymEnv(EpisodeNumberEnv(i)) for i in range(n_envs)])


def test_cartpole_equals_gymnasiums_own_vector_env():
    ours = GymEnvConfig(name="CartPole-v1").vector(4)
    theirs = SyncVectorEnv(
        [lambda: gymnasium.make("CartPole-v1")] * 4, autoreset_mode=AutoresetMode.SAME_STEP
    )
    tick, (expected, _) = ours.reset([3, 4, 5, 6]), theirs.reset(seed=[3, 4, 5, 6])
    rng = np.random.default_rng(0)
    n_ends = 0
    for _ in range(300):
        np.testing.assert_array_equal(tick.observations[0]["observation"], expected)
        actions = rng.integers(0, 2, 4)
        tick = ours.step({0: {"action": actions}})
        expected, reward, terminated, truncated, infos = theirs.step(actions)
        np.testing.assert_array_equal(tick.reward, reward)
        np.testing.assert_array_equal(tick.terminated, terminated)
        np.testing.assert_array_equal(tick.truncated, truncated)
        for row in np.flatnonzero(tick.ended):
            n_ends += 1
            np.testing.assert_array_equal(
                tick.final_observations[0]["observation"][row], infos["final_obs"][row]
            )
    assert n_ends > 20
    ours.close()
    theirs.close()


def test_an_end_shows_the_last_observation_of_the_old_and_the_first_of_the_new_episode():
    env = number_envs()
    env.reset([0, 0, 0])
    n_ends = 0
    for _ in range(40):
        tick = env.step(act(3))
        for row in np.flatnonzero(tick.ended):
            number, episode, time = tick.final_observations[0]["observation"][row]
            assert number == row
            assert time == 2 + (row + episode) % 3 == tick.episode_length[row]
            assert tick.episode_return[row] == tick.reward[row] == 100 * row + episode
            assert tick.terminated[row] == (episode % 2 == 0)
            assert tick.truncated[row] == (episode % 2 == 1)
            np.testing.assert_array_equal(tick.observations[0]["observation"][row], [row, episode + 1, 0])
            assert tick.flat_step[row] == 0
            assert tick.final_active[0][row]
            n_ends += 1
        assert not tick.reward[~tick.ended].any()
        assert not tick.final_active[0][~tick.ended].any()
    assert n_ends > 20


def test_a_time_limit_truncates_and_does_not_terminate():
    env = GymEnvConfig(name="CartPole-v1", max_episode_steps=4).vector(1)
    env.reset([0])
    ticks = [
        (bool(t.terminated[0]), bool(t.truncated[0])) for t in (env.step(act(1, i % 2)) for i in range(4))
    ]
    assert ticks == [(False, False)] * 3 + [(False, True)]


def test_the_arrays_of_a_tick_are_written_in_place():
    env = number_envs()
    first = env.reset([0, 0, 0])
    shown = first.observations[0]["observation"]
    second = env.step(act(3))
    assert second is first
    assert second.observations[0]["observation"] is shown


def test_reset_of_some_rows_leaves_the_others_as_they_are():
    env = GymEnvConfig(name="CartPole-v1").vector(3)
    env.reset([1, 2, 3])
    env.step(act(3))
    before = env.step(act(3)).observations[0]["observation"].copy()
    tick = env.reset([None, 7, None], np.array([False, True, False]))
    after = tick.observations[0]["observation"]
    np.testing.assert_array_equal(after[[0, 2]], before[[0, 2]])
    np.testing.assert_array_equal(tick.flat_step, [2, 0, 2])
    fresh = GymEnvConfig(name="CartPole-v1").vector(1).reset([7])
    np.testing.assert_array_equal(after[1], fresh.observations[0]["observation"][0])


def test_a_seed_of_none_goes_on_with_the_stream():
    env = GymEnvConfig(name="CartPole-v1").vector(1)
    first = env.reset([5]).observations[0]["observation"].copy()
    second = env.reset([None]).observations[0]["observation"].copy()
    again = [env.reset([5]).observations[0]["observation"].copy()]
    again.append(env.reset([None]).observations[0]["observation"].copy())
    assert not np.array_equal(first, second)
    np.testing.assert_array_equal([first, second], again)


def test_sub_steps_are_shown_under_their_keys_and_time_passes_once_a_round():
    env = PerEnvVectorEnv([BoxesEnv] * 4)
    tick = env.reset([0, 1, 2, 3])
    rng = np.random.default_rng(0)
    n_apart, returns = 0, []
    previous = tick.flat_step.copy()
    for _ in range(200):
        stood_at_items = tick.active[1].copy()
        np.testing.assert_array_equal(tick.active[0] ^ tick.active[1], True)
        n_apart += 0 < stood_at_items.sum() < 4
        tick = env.step(random_actions(env, tick, rng))
        passed = stood_at_items & tick.active[0] & ~tick.ended
        np.testing.assert_array_equal(tick.flat_step[~tick.ended], (previous + passed)[~tick.ended])
        np.testing.assert_array_equal(tick.reward[~stood_at_items], 0)
        assert set(tick.episode_length[tick.ended]) <= {5}
        np.testing.assert_array_equal(tick.final_active[0], tick.ended)
        returns.extend(tick.episode_return[tick.ended])
        previous = tick.flat_step.copy()
    assert n_apart > 50, "the environments of the batch must come to stand at different sub-steps"
    assert len(returns) > 20
    assert 0 < np.mean(returns) < 5


def test_many_environments_show_what_each_shows_alone():
    together = PerEnvVectorEnv([BoxesEnv] * 3)
    alone = [PerEnvVectorEnv([BoxesEnv]) for _ in range(3)]
    tick = together.reset([4, 5, 6])
    ticks = [env.reset([seed]) for env, seed in zip(alone, [4, 5, 6], strict=True)]
    rng = np.random.default_rng(1)
    for _ in range(100):
        actions = random_actions(together, tick, rng)
        tick = together.step(actions)
        for row, env in enumerate(alone):
            own = {key: {"action": batch["action"][row : row + 1]} for key, batch in actions.items()}
            ticks[row] = env.step(own)
            for key in (0, 1):
                assert tick.active[key][row] == ticks[row].active[key][0]
                for name, values in tick.observations[key].items():
                    if tick.active[key][row]:
                        np.testing.assert_array_equal(values[row], ticks[row].observations[key][name][0])
            assert tick.reward[row] == ticks[row].reward[0]
            assert tick.flat_step[row] == ticks[row].flat_step[0]


@pytest.mark.parametrize("fault", ["observation", "final observation", "reward"])
def test_numbers_that_are_not_finite_are_refused_by_env_and_step(fault):
    faults = ["none", fault]
    env = PerEnvVectorEnv([lambda f=f: GymEnv(BrokenEnv(f)) for f in faults])
    env.reset([0, 0])
    env.step(act(2))
    env.step(act(2))
    with pytest.raises(EnvError, match=r"Environment 1, step \d .*NaN or infinite"):
        env.step(act(2))
    env.reset([0, 0])
    env.step(act(2))


def test_an_exception_in_an_env_names_env_and_step_and_keeps_its_cause():
    env = PerEnvVectorEnv([lambda f=f: GymEnv(BrokenEnv(f)) for f in ("none", "none", "exception")])
    env.reset([0, 0, 0])
    env.step(act(3))
    env.step(act(3))
    with pytest.raises(
        EnvError, match=r"Environment 2, step 2 .*RuntimeError: the motor is on fire"
    ) as caught:
        env.step(act(3))
    assert isinstance(caught.value.__cause__, RuntimeError)


def test_an_observation_of_another_shape_is_refused():
    env = PerEnvVectorEnv([lambda: GymEnv(BrokenEnv("shape"))])
    env.reset([0])
    env.step(act(1))
    env.step(act(1))
    with pytest.raises(EnvError, match=r"Expected shape \[2\], got \[1\]"):
        env.step(act(1))


def test_environments_with_other_spaces_are_refused_and_closed():
    closed = []

    class Noting(BoxesEnv):
        def close(self):
            closed.append(self)

    with pytest.raises(EnvError, match="Environment 1 has other observation_spaces"):
        PerEnvVectorEnv([Noting, lambda: GymEnv(EpisodeNumberEnv())])
    assert len(closed) == 1


@pytest.mark.parametrize(
    ("use", "message"),
    [
        (lambda env: env.step(act(3)), "reset"),
        (lambda env: env.reset([1]), "one seed per environment: 3, got 1"),
        (lambda env: (env.close(), env.close(), env.reset([0, 0, 0])), "closed"),
    ],
)
def test_misuse_is_an_env_error_that_says_what_to_do(use, message):
    env = PerEnvVectorEnv([BoxesEnv] * 3)
    with pytest.raises(EnvError, match=message):
        use(env)


def test_close_reaches_every_environment_even_if_one_fails_to():
    closed = []

    class Closing(BoxesEnv):
        def close(self):
            closed.append(self)
            if len(closed) == 2:
                raise RuntimeError("the window does not answer")

    env = PerEnvVectorEnv([Closing] * 3)
    with pytest.warns(MazeWarning, match=r"close\(\) .* failed: RuntimeError: .* does not answer") as warned:
        env.close()
    assert len(closed) == 3
    assert len(warned) == 1


def test_no_environments_are_refused():
    with pytest.raises(EnvError, match="at least one"):
        PerEnvVectorEnv([])


def test_the_fast_and_the_general_path_give_the_same_ticks():
    fast = number_envs()
    slow = number_envs()
    slow._bare = None
    ticks = fast.reset([0, 0, 0]), slow.reset([0, 0, 0])
    for _ in range(30):
        assert tick_bytes(ticks[0]) == tick_bytes(ticks[1])
        ticks = fast.step(act(3)), slow.step(act(3))


@pytest.mark.parametrize(("count", "agent"), [(1, 5), (2, 2), (1, -1), (-1, 5)])
def test_a_team_names_only_agents_that_there_are(count, agent):
    class Names(BoxesEnv):
        def __init__(self):
            super().__init__()
            self.agent_counts = {0: count, 1: count}

        def actor_id(self):
            step_key, _ = super().actor_id()
            return ActorID(step_key, agent if step_key else 0)

    env = PerEnvVectorEnv([Names])
    env.reset([0])
    actions = {key: {"action": np.zeros(1, np.int64)} for key in (0, 1)}
    if count < 1:  # not known
        assert env.step(actions).agent_id.tolist() == [agent]
    else:
        with pytest.raises(EnvError, match=rf"there is no actor \(1, {agent}\); agent_counts says"):
            env.step(actions)
