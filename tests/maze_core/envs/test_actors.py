"""Environments that pay each actor its own: in a batch, in processes, behind wrappers, in the hand."""

import numpy as np
import pytest

from maze_core.envs.maze_env import MazeEnv
from maze_core.envs.per_env import PerEnvVectorEnv
from maze_core.envs.subproc import SubprocVectorEnv
from maze_core.envs.tick_buffers import map_arrays
from maze_core.envs.wrappers import (
    ObservationClippingWrapper,
    RewardClippingWrapper,
    RewardNormalizationWrapper,
)
from maze_core.envs.wrappers.wrapper import WrappedVectorEnv
from maze_core.errors import EnvError
from maze_core.models.random_policy import RandomPolicy
from maze_core.types import Actors
from tests.maze_core.envs.actors_env import ACTORS, CrowdEnv, make_crowd


def played(env, n_ticks=60):
    """All ticks with actions at random, copied."""
    policy, rng = RandomPolicy(env.action_spaces), np.random.default_rng(0)
    tick, ticks = env.reset(list(range(env.n_envs))), []
    for _ in range(n_ticks):
        ticks.append(map_arrays(tick, np.copy))
        actions = {
            key: policy.act(
                key,
                tick.observations[key],
                deterministic=False,
                noise=policy.noise(key, rng, env.n_envs),
                agent_id=tick.agent_id,
            )
            for key in env.action_spaces
        }
        tick = env.step(actions)
    env.close()
    return ticks


def arrays_of(tick):
    found = []
    map_arrays(tick, found.append)
    return found


def test_actors_are_numbered_sub_step_by_sub_step():
    actors = Actors({"walk": 2, "fly": 1})
    assert actors.ids == ACTORS
    assert actors.first == {"walk": 0, "fly": 2}
    assert [actors.numbers[actor] for actor in ACTORS] == [0, 1, 2]


def test_processes_change_no_number():
    here = played(PerEnvVectorEnv([make_crowd] * 3))
    there = played(SubprocVectorEnv([make_crowd] * 3, n_processes=2))
    for mine, other in zip(here, there, strict=True):
        for one, two in zip(arrays_of(mine), arrays_of(other), strict=True):
            assert np.array_equal(one, two)


def test_the_return_of_an_episode_is_the_sum_of_what_the_actors_were_paid():
    ticks = played(PerEnvVectorEnv([make_crowd] * 2), 200)
    ended = [(tick, row) for tick in ticks for row in np.flatnonzero(tick.ended)]
    assert ended
    for tick, row in ended:
        assert tick.episode_return[row] == pytest.approx(tick.actors.episode_return[row].sum())
    for tick in ticks:
        assert tick.reward == pytest.approx(tick.actors.reward.sum(1))


def test_whoever_is_there_when_an_episode_ends_ends_with_it():
    for tick in played(PerEnvVectorEnv([make_crowd] * 2), 200):
        over = tick.actors.terminated | tick.actors.truncated
        acted = tick.ended
        assert over[acted].any(axis=1).all()


def test_rewards_are_clipped_actor_by_actor():
    env = WrappedVectorEnv(
        PerEnvVectorEnv([make_crowd] * 2), [RewardClippingWrapper(min_val=-1.0, max_val=0.5)]
    )
    raw = played(PerEnvVectorEnv([make_crowd] * 2))
    for tick, plain in zip(played(env), raw, strict=True):
        assert np.array_equal(tick.actors.reward, plain.actors.reward.clip(-1.0, 0.5))
        assert tick.reward == pytest.approx(tick.actors.reward.sum(1))
        assert np.array_equal(tick.actors.episode_return, plain.actors.episode_return)


def test_what_an_actor_saw_last_passes_the_wrappers():
    env = WrappedVectorEnv(
        PerEnvVectorEnv([make_crowd] * 2), [ObservationClippingWrapper(clip_range=(0.0, 7.0))]
    )
    shown = 0
    for tick, plain in zip(played(env), played(PerEnvVectorEnv([make_crowd] * 2)), strict=True):
        for number, (key, agent_id) in enumerate(ACTORS):
            rows = plain.actors.is_shown[:, number]
            seen = tick.actors.observations[key]["number"][rows, agent_id]
            assert np.array_equal(seen, plain.actors.observations[key]["number"][rows, agent_id].clip(0, 7))
            shown += int(rows.sum())
    assert shown


def test_a_wrapper_that_follows_one_return_says_what_to_take_instead():
    with pytest.raises(EnvError, match="pays each actor its own: take RewardScalingWrapper"):
        WrappedVectorEnv(PerEnvVectorEnv([make_crowd]), [RewardNormalizationWrapper()])


def test_an_environment_in_the_hand_says_what_each_actor_was_paid():
    env = MazeEnv(PerEnvVectorEnv([make_crowd]))
    env.reset(seed=1)
    for _ in range(10):
        _, reward, done, info = env.step({"action": 0})
        assert info["actor_rewards"].keys() == set(ACTORS)
        assert sum(info["actor_rewards"].values()) == pytest.approx(reward)
        if done:
            env.reset()
    env.close()


class Unknown(CrowdEnv):
    def __init__(self):
        super().__init__()
        self.agent_counts = {"walk": -1, "fly": 1}


class Misnamed(CrowdEnv):
    def outcomes(self):
        return [outcome._replace(actor=("walk", 5)) for outcome in super().outcomes()]


def test_nobody_is_paid_in_an_environment_that_does_not_say_how_many_there_are():
    with pytest.raises(EnvError, match="agent_counts names the most agents of every sub-step"):
        PerEnvVectorEnv([Unknown])


def test_an_actor_that_is_not_there_is_named():
    env = PerEnvVectorEnv([Misnamed])
    env.reset([0])
    with pytest.raises(EnvError, match=r"there is no actor \('walk', 5\)"):
        env.step({key: {"action": np.zeros(1, np.int64)} for key in env.action_spaces})
