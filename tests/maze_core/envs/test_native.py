"""Environments with a vector form of their own: same-step ends with true final observations, row by row."""

from functools import partial

import gymnasium
import numpy as np
import pytest
from gymnasium.envs.classic_control.cartpole import CartPoleVectorEnv
from gymnasium.vector import AsyncVectorEnv, AutoresetMode, SyncVectorEnv

from maze_core.envs.config import GymEnvConfig
from maze_core.envs.gym_env import GymEnv
from maze_core.envs.native import NativeVectorEnv
from maze_core.envs.per_env import PerEnvVectorEnv
from maze_core.errors import EnvError
from tests.maze_core.envs.small_envs import EpisodeNumberEnv
from tests.maze_core.envs.ticks import tick_bytes


def act(n_envs):
    return {0: {"action": np.zeros(n_envs, dtype=np.int64)}}


@pytest.mark.parametrize("mode", list(AutoresetMode))
@pytest.mark.parametrize("n_envs", [1, 3])
def test_every_kind_of_autoreset_gives_the_ticks_of_per_env(mode, n_envs):
    makers = [partial(EpisodeNumberEnv, i) for i in range(n_envs)]
    native = NativeVectorEnv(SyncVectorEnv(makers, autoreset_mode=mode), n_envs)
    per_env = PerEnvVectorEnv([lambda make=make: GymEnv(make()) for make in makers])
    for env in native._env.envs:
        env.episode = 0  # it may have been tried out
    ticks = native.reset([None] * n_envs), per_env.reset([None] * n_envs)
    n_ends = 0
    for _ in range(40):
        ticks = native.step(act(n_envs)), per_env.step(act(n_envs))
        ended = ticks[0].ended
        for row in np.flatnonzero(ended):
            number, episode, _ = ticks[0].final_observations[0]["observation"][row]
            assert ticks[0].reward[row] == 100 * number + episode, "the last reward identifies the episode"
            n_ends += 1
        assert tick_bytes(ticks[0]) == tick_bytes(ticks[1])
    assert n_ends >= 10 * n_envs
    native.close()


def test_native_cartpole_equals_per_env_cartpole():
    native = GymEnvConfig(name="CartPole-v1", vectorization="native").vector(5)
    per_env = GymEnvConfig(name="CartPole-v1").vector(5)
    seeds = [11, 12, 13, 14, 15]
    ticks = native.reset(seeds), per_env.reset(seeds)
    rng = np.random.default_rng(0)
    n_ends = 0
    for i in range(400):
        np.testing.assert_allclose(
            ticks[0].observations[0]["observation"],
            ticks[1].observations[0]["observation"],
            rtol=1e-4,
            atol=1e-6,
        )
        np.testing.assert_array_equal(ticks[0].ended, ticks[1].ended)
        np.testing.assert_array_equal(ticks[0].flat_step, ticks[1].flat_step)
        n_ends += ticks[0].ended.sum()
        actions = {0: {"action": rng.integers(0, 2, 5)}}
        ticks = native.step(actions), per_env.step(actions)
        if i % 100 == 99:  # what has drifted apart starts anew
            ticks = native.reset(seeds), per_env.reset(seeds)
    assert n_ends > 20


def test_rows_of_native_cartpole_are_reset_by_their_own_seeds():
    native = GymEnvConfig(name="CartPole-v1", vectorization="native").vector(3)
    native.reset([1, 2, 3])
    before = native.step(act(3)).observations[0]["observation"].copy()
    tick = native.reset([None, 8, None], np.array([False, True, False]))
    expected = GymEnvConfig(name="CartPole-v1").vector(1).reset([8]).observations[0]["observation"][0]
    np.testing.assert_array_equal(tick.observations[0]["observation"], [before[0], expected, before[2]])
    np.testing.assert_array_equal(tick.flat_step, [1, 0, 1])


def test_the_time_limit_reaches_the_native_form():
    native = GymEnvConfig(name="CartPole-v1", vectorization="native", max_episode_steps=3).vector(2)
    native.reset([0, 1])
    ends = [native.step(act(2)).truncated.tolist() for _ in range(3)]
    assert ends == [[False, False], [False, False], [True, True]]


class StubbornVectorEnv(CartPoleVectorEnv):
    """Next-step, and deaf to a reset mask."""


def test_a_next_step_env_without_a_mask_is_refused_with_the_way_out():
    with pytest.raises(EnvError, match=r"obeys no reset mask.*env.vectorization=per_env"):
        NativeVectorEnv(StubbornVectorEnv(num_envs=3), 3)


class DeafVectorEnv(SyncVectorEnv):
    """Takes no options, as some native forms do."""

    def reset(self, *, seed=None, options=None):
        if options is not None:
            raise TypeError("reset_mask is not known")
        return super().reset(seed=seed)


def test_a_reset_mask_that_is_an_error_to_the_environment_is_refused_with_the_way_out():
    with pytest.raises(EnvError, match=r"TypeError: reset_mask is not known; use env.vectorization=per_env"):
        NativeVectorEnv(DeafVectorEnv([EpisodeNumberEnv] * 2, autoreset_mode=AutoresetMode.NEXT_STEP), 2)


@pytest.mark.parametrize("n_envs", [1, 2])
@pytest.mark.parametrize("make", [EpisodeNumberEnv, partial(gymnasium.make, "CartPole-v1")])
def test_a_step_after_an_end_is_a_real_one_or_the_environment_is_refused(make, n_envs):
    """Gymnasium's AsyncVectorEnv keeps its own pending reset where it has no shared memory."""
    shared = AsyncVectorEnv([make] * n_envs, shared_memory=True)
    NativeVectorEnv(shared, n_envs).close()
    apart = AsyncVectorEnv([make] * n_envs, shared_memory=False)
    with pytest.raises(EnvError, match=r"resets twice.*use env.vectorization=per_env"):
        NativeVectorEnv(apart, n_envs)
    apart.close()


class ChangedVectorEnv(SyncVectorEnv):
    """Gives something else than it declares."""

    def __init__(self, mode, step=lambda values: values, reset=lambda values: values):
        super().__init__([EpisodeNumberEnv] * 2, autoreset_mode=mode)
        self._change_step, self._change_reset = step, reset

    def step(self, actions):
        return self._change_step(super().step(actions))

    def reset(self, *, seed=None, options=None):
        return self._change_reset(super().reset(seed=seed, options=options))


def with_last(values, last):
    return *values[:4], {"final_obs": last}


@pytest.mark.parametrize("mode", list(AutoresetMode))
@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"step": lambda values: values[:4]}, r"step\(\) gave 4 values; it must give five"),
        ({"step": lambda values: 1 / 0}, "ZeroDivisionError: division by zero"),
        ({"reset": lambda values: values[0]}, r"reset\(\) gave an array .*; it must give two"),
        ({"reset": lambda values: 1 / 0}, "ZeroDivisionError: division by zero"),
    ],
)
def test_a_native_form_that_breaks_the_rule_is_told_it_whenever_that_is_seen(mode, changes, words):
    with pytest.raises(EnvError, match=words):
        play(ChangedVectorEnv(mode, **changes))


@pytest.mark.parametrize(
    ("mode", "last"),
    [
        (AutoresetMode.SAME_STEP, None),
        (AutoresetMode.SAME_STEP, {"observation": 1}),
        (AutoresetMode.SAME_STEP, np.zeros((1, 3), np.float32)),
        (AutoresetMode.NEXT_STEP, np.zeros((2, 3), np.float32)),
        (AutoresetMode.DISABLED, np.zeros((2, 3), np.float32)),
    ],
)
def test_last_observations_come_from_those_that_reset_in_the_same_step_and_from_no_others(mode, last):
    with pytest.raises(EnvError, match=r"infos\['final_obs'\].*use env.vectorization=per_env"):
        play(ChangedVectorEnv(mode, step=partial(with_last, last=last)))


def play(gym_env):
    native = NativeVectorEnv(gym_env, 2)
    native.reset([0, 1])
    for _ in range(20):
        native.step(act(2))


def test_an_env_that_resets_itself_cannot_be_reset_in_part():
    env = SyncVectorEnv([EpisodeNumberEnv] * 2, autoreset_mode=AutoresetMode.SAME_STEP)
    native = NativeVectorEnv(env, 2)
    native.reset([0, 1])
    with pytest.raises(EnvError, match=r"resets single rows only by itself"):
        native.reset([0, 1], np.array([True, False]))


def test_the_same_seeds_give_the_same_episodes_and_others_do_not():
    def first(seeds):
        gym = SyncVectorEnv(
            [lambda: gymnasium.make("CartPole-v1")] * 2, autoreset_mode=AutoresetMode.SAME_STEP
        )
        return NativeVectorEnv(gym, 2).reset(seeds).observations[0]["observation"].tolist()

    assert first([1, 2]) == first([1, 2])
    assert first([1, 2]) != first([1, 3])


def test_a_step_after_close_is_refused():
    native = GymEnvConfig(name="CartPole-v1", vectorization="native").vector(2)
    native.close()
    native.close()
    with pytest.raises(EnvError, match=r"closed"):
        native.step(act(2))
