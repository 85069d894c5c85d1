"""Actors: what one collects, how many rollouts may wait, and what becomes of a failure."""

import threading
import time

import numpy as np
import pytest

from maze_core.envs.config import GymEnvConfig
from maze_core.envs.subproc import Guest, SubprocVectorEnv
from maze_core.envs.wrappers.wrapper import WrappedVectorEnv, Wrapper
from maze_core.errors import EnvError, InvalidSpecificationError
from maze_core.models.config import CustomModelConfig
from maze_core.rollout.actors import Actor, Actors
from maze_core.rollout.collector import Collector
from maze_core.seeding import Stream, generator


class Scaled(Wrapper):
    """Multiplies what is seen, and counts what training would show it."""

    def __init__(self, factor=2.0):
        self.seen, self.factor = 0, np.array(factor)

    def observation(self, step_key, observations, state):
        return {name: self.factor * values for name, values in observations.items()}, state

    def state_dict(self):
        return {"factor": self.factor}

    def load_state_dict(self, arrays):
        self.factor = arrays["factor"]

    def see(self, step_key, observations):
        self.seen += 1

    def learn(self):
        self.seen += 1


def policy_for(env, seed=1):
    spaces = env.observation_spaces, env.action_spaces, env.agent_counts
    return CustomModelConfig().build(*spaces, generator_seed=seed).policy


def test_an_actor_collects_what_a_collector_does_with_the_weights_the_states_and_the_noise_of_its_seeds():
    config, wrapper = GymEnvConfig(name="CartPole-v1"), Scaled()
    with_those = policy_for(config.vector(2), seed=2)
    for array in with_those.parameters.values():
        array *= 50  # decided: other weights would do otherwise
    weights = {name: array.copy() for name, array in with_those.parameters.items()}
    actor = Actor(
        config.vector(2), policy=policy_for(config.vector(2)), wrappers=[wrapper], n_steps=30, seed=5
    )
    rng = generator(5, Stream.ACTIONS, 7, 8)
    collector = Collector(WrappedVectorEnv(config.vector(2), [Scaled(3)]), 30, rng)
    actor.reset([7, 8], [{"factor": np.array(3.0)}])
    collector.reset([7, 8])
    for _ in range(5):  # beyond where running statistics would be brought up to date
        found, expected = actor.collect(weights), collector.collect(with_those)
        for name, array in expected.steps[0].actions.items():
            np.testing.assert_array_equal(found.steps[0].actions[name], array)
        np.testing.assert_array_equal(
            found.steps[0].observations["observation"], expected.steps[0].observations["observation"]
        )
    assert wrapper.seen == 0, "each process would have statistics of its own"


class Made(SubprocVectorEnv):
    """Two processes that are none: a call of a guest is a call of ``collect``."""

    def __init__(self, collect):
        self.guests = [
            Guest(slice(2 * i, 2 * i + 2), lambda *given, i=i: collect(i, *given)) for i in range(2)
        ]

    def host(self, make):
        self.make = make
        return self.guests


def until(is_true):
    while not is_true():
        time.sleep(0.01)


def actors_of(collect, n_ahead=1):
    return Actors(Made(collect), None, 4, seed=0, n_ahead=n_ahead)


@pytest.mark.parametrize("n_ahead", [1, 2])
def test_no_more_rollouts_wait_than_are_asked_for(n_ahead):
    calls = []
    actors = actors_of(lambda *given: calls.append(given), n_ahead)
    actors.take({"w": 0})
    until(lambda: len(calls) == 2 + 2 * n_ahead)
    time.sleep(0.02)
    assert len(calls) == 2 + 2 * n_ahead
    assert {given[1] for given in calls} == {"collect"}
    actors.stop()


def test_rollouts_come_with_the_weights_that_acted_and_how_old_they_are():
    calls = []
    actors = actors_of(lambda i, method, weights: (calls.append(i), weights["w"])[1])
    assert [(found.rollout, found.weights, found.lag) for found in actors.take({"w": 0})] == [
        (0, {"w": 0}, 0)
    ] * 2
    until(lambda: len(calls) == 4)
    assert [(found.rollout, found.weights, found.lag) for found in actors.take({"w": 1})] == [
        (0, {"w": 0}, 1)
    ] * 2
    until(lambda: len(calls) == 6)
    assert [found.lag for found in actors.take({"w": 2})] == [1, 1]
    actors.stop()


def test_a_reset_forgets_what_waits_and_gives_every_process_its_seeds():
    calls = []
    actors = actors_of(lambda i, *given: calls.append((i, *given)))
    actors.take({"w": 0})
    until(lambda: len(calls) == 4)  # two wait
    actors.reset([1, 2, 3, 4])
    assert calls[-2:] == [(0, "reset", [1, 2], []), (1, "reset", [3, 4], [])]
    assert [found.weights for found in actors.take({"w": 1})] == [{"w": 1}] * 2
    actors.stop()


def test_a_failure_is_raised_where_rollouts_are_taken_and_the_next_call_begins_anew():
    is_broken = [True]

    def collect(i, *given):
        if i == 1 and is_broken:
            raise EnvError("the lid fell shut")

    actors = actors_of(collect)
    with pytest.raises(EnvError, match="the lid fell shut"):
        all(actors.take({"w": 0}) for _ in range(1000))  # the other process may bring some rollouts first
    assert not actors._threads
    is_broken.clear()
    assert len(actors.take({"w": 0})) == 2
    actors.stop()


def test_a_process_that_does_not_come_to_an_end_is_not_waited_for_longer_than_told():
    is_at_work, hangs = threading.Event(), threading.Event()

    def collect(i, *given):
        if i == 1:
            is_at_work.set()
            hangs.wait()
        is_at_work.wait()

    actors = actors_of(collect)
    threading.Thread(target=lambda: actors.take({"w": 0}), daemon=True).start()
    is_at_work.wait()
    threads = list(actors._threads)
    actors.stop(1.0)
    assert [thread.is_alive() for thread in threads] == [False, True]
    assert all(thread.daemon for thread in threads), "nor does the interpreter wait for it"
    hangs.set()
    threads[1].join()


class Follows(Wrapper):
    def see_reward(self, tick, begins):
        pass


def test_environments_in_this_process_and_wrappers_that_follow_rewards_are_refused():
    with pytest.raises(InvalidSpecificationError, match=r"algorithm\.mode: asynchronous.*runner=local"):
        Actors(GymEnvConfig(name="CartPole-v1").vector(2), None, 4, seed=0, n_ahead=1)
    env = Made(lambda *given: None)
    env.n_envs, env.agent_counts, env.observation_spaces, env.action_spaces = 1, {}, {}, {}
    with pytest.raises(InvalidSpecificationError, match="what Follows learns of rewards"):
        Actors(WrappedVectorEnv(env, [Follows()]), None, 4, seed=0, n_ahead=1)
    actors = Actors(WrappedVectorEnv(env, [wrapper := Scaled()]), "policy", 4, seed=9, n_ahead=1)
    assert env.make.keywords == {"policy": "policy", "wrappers": (wrapper,), "n_steps": 4, "seed": 9}
    actors.stop()


def test_a_reset_gives_every_process_the_states_that_the_wrappers_have_now_as_after_a_resume():
    calls = []
    env = Made(lambda i, *given: calls.append(given))
    env.n_envs, env.agent_counts, env.observation_spaces, env.action_spaces = 4, {}, {}, {}
    actors = Actors(WrappedVectorEnv(env, [wrapper := Scaled(2.0)]), None, 4, seed=9, n_ahead=1)
    wrapper.load_state_dict({"factor": np.array(5.0)})
    actors.reset([1, 2, 3, 4])
    assert calls == [("reset", [1, 2], [{"factor": 5.0}]), ("reset", [3, 4], [{"factor": 5.0}])]


def test_a_policy_that_no_other_process_can_make_is_refused_with_the_way_out():
    env = GymEnvConfig(name="CartPole-v1").vector(2, execution="local", n_processes=1)
    with pytest.raises(EnvError, match=r"policy or a wrapper cannot be made.*use algorithm\.mode=lockstep"):
        Actors(env, lambda: None, 4, seed=0, n_ahead=1)
    env.close()
