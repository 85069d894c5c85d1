"""Two environments that share one below are found out, however it is wrapped; others are left alone."""

import itertools

import gymnasium
import pytest
from gymnasium.wrappers import TimeLimit

from maze_core.envs.config import CallableEnvConfig
from maze_core.envs.gym_env import GymEnv, GymMazeEnv, make_gym
from maze_core.envs.legacy_gym import LegacyGymAdapter
from maze_core.envs.maze_env import to_gymnasium
from maze_core.envs.per_env import PerEnvVectorEnv
from maze_core.envs.shared_envs import envs_of, shared_env
from maze_core.envs.subproc import SubprocVectorEnv
from maze_core.envs.wrappers import LogStatsWrapper
from maze_core.errors import EnvError
from tests.maze_core.envs.small_envs import Old4TupleEnv, give_the_one_env
from tests.maze_core.envs.structured_env import BoxesEnv

SHARED = {
    "a MazeEnv": lambda: itertools.repeat(GymMazeEnv("CartPole-v1")),
    "a gymnasium env": lambda: itertools.repeat(make_gym("CartPole-v1")),
    "a StructuredEnv": lambda: itertools.repeat(BoxesEnv()),
    "one below an adapter": lambda: map(GymEnv, itertools.repeat(make_gym("CartPole-v1"))),
    "one below gymnasium's wrapper": lambda: (
        TimeLimit(env, 5) for env in itertools.repeat(make_gym("CartPole-v1"))
    ),
    "one below our wrapper": lambda: (
        LogStatsWrapper.wrap(env) for env in itertools.repeat(GymMazeEnv("CartPole-v1"))
    ),
    "one below its gymnasium form": lambda: map(to_gymnasium, itertools.repeat(GymMazeEnv("CartPole-v1"))),
    "one of the old gym": lambda: map(LegacyGymAdapter, itertools.repeat(Old4TupleEnv())),
    "every second one": lambda: itertools.cycle([BoxesEnv(), BoxesEnv()]),
}


@pytest.mark.parametrize("case", SHARED)
def test_a_factory_that_gives_the_same_environment_again_is_refused(case):
    made = iter(SHARED[case]())
    last = 2 if case == "every second one" else 1
    with pytest.raises(
        EnvError, match=rf"Environments 0 and {last} are one and the same .*a new one with each call"
    ):
        CallableEnvConfig(factory=lambda: next(made)).vector(3)


def test_a_process_refuses_it_too_with_its_place_in_the_batch():
    config = CallableEnvConfig(factory=give_the_one_env)
    with pytest.raises(EnvError, match=r"Environments (0 and 1|2 and 3) are one and the same"):
        SubprocVectorEnv([config.make] * 4, n_processes=2)


def test_environments_that_share_what_is_no_environment_are_accepted():
    world, inner = object(), make_gym

    class Sharing(BoxesEnv):
        def __init__(self):
            super().__init__()
            self.env, self.vector_env, self.envs = world, BoxesEnv, [inner]

    CallableEnvConfig(factory=Sharing).vector(3).close()


def test_one_environment_that_is_given_once_is_accepted():
    env = GymMazeEnv("CartPole-v1")
    CallableEnvConfig(factory=lambda: env).vector(1).close()


def test_a_ring_of_environments_has_an_end():
    one, other = BoxesEnv(), BoxesEnv()
    one.env, other.env = other, one
    assert list(envs_of(one)) == [one, other]


def test_what_two_batches_share_is_named():
    env = gymnasium.make("CartPole-v1")
    one, other = (CallableEnvConfig(factory=lambda: env).vector(1) for _ in range(2))
    assert shared_env(one, [other]) is not None
    assert shared_env(one, [CallableEnvConfig(factory=BoxesEnv).vector(2)]) is None


def test_what_environments_play_with_may_be_shared():
    class Simulator:
        def reset(self):
            return None

        def step(self, action):
            return None

    simulator = Simulator()

    def make():
        env = gymnasium.make("CartPole-v1")
        env.unwrapped.env = simulator  # type: ignore[attr-defined]
        return GymEnv(env)

    PerEnvVectorEnv([make, make]).close()
