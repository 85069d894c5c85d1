"""Any object with ``act`` plays: what it is called with, and what it may give."""

import numpy as np
import pytest

from maze_core.envs.config import CallableEnvConfig, GymEnvConfig
from maze_core.errors import InvalidSpecificationError, SpaceMismatchError
from maze_core.models.random_policy import RandomPolicy
from maze_core.rollout.episodes import run_episodes
from maze_core.rollout.user_policy import as_policy
from tests.maze_core.envs.structured_env import BoxesEnv
from tests.maze_core.rollout.small_policies import BoxesPolicy, SwingPolicy


class PushRight:
    """The least that a policy needs; keeps what it was called with."""

    def __init__(self):
        self.calls = []

    def act(self, step_key, observations, *, deterministic, noise, agent_id):
        self.calls.append((step_key, observations, deterministic, noise, agent_id))
        return {"action": np.ones(len(observations["observation"]), dtype=int)}


class Answering:
    """Gives the same answer, whatever it sees."""

    def __init__(self, answer):
        self.answer = answer

    def act(self, *_, **__):
        return self.answer


class NoisyWithoutNoise(PushRight):
    needs_noise = True


class TakesTheObservationAlone:
    def act(self, observation):
        return 1


class ActIsANumber:
    act = 3


def cartpole(n_envs=3):
    return GymEnvConfig(name="CartPole-v1").vector(n_envs)


def pendulum(n_envs=3):
    return GymEnvConfig(name="Pendulum-v1").vector(n_envs)


def play(policy, env, **arguments):
    return run_episodes(env, as_policy(policy, env.action_spaces), range(4), **arguments)


@pytest.mark.parametrize("deterministic", [True, False])
def test_an_object_with_act_alone_is_called_with_the_batch_and_no_noise(deterministic):
    policy = PushRight()
    records = play(policy, cartpole(), deterministic=deterministic)
    assert {record.length for record in records} <= {8, 9, 10, 11}
    step_key, observations, was_deterministic, noise, agent_id = policy.calls[0]
    assert (step_key, was_deterministic, noise) == (0, deterministic, None)
    assert observations["observation"].shape == (3, 4)
    assert agent_id.tolist() == [0, 0, 0]


@pytest.mark.parametrize(("policy", "make"), [(SwingPolicy(), cartpole), (BoxesPolicy(), None)])
@pytest.mark.parametrize("deterministic", [True, False])
def test_one_that_draws_noise_plays_what_it_would_by_itself(policy, make, deterministic):
    make = make or CallableEnvConfig(factory=BoxesEnv).vector
    arguments = {"deterministic": deterministic, "action_seed": 3}
    assert play(policy, make(3), **arguments) == run_episodes(make(3), policy, range(4), **arguments)


def test_our_own_policies_are_taken_as_they_are():
    env = cartpole()
    policy = RandomPolicy(env.action_spaces)
    assert as_policy(policy, env.action_spaces) is policy
    own = as_policy(PushRight(), env.action_spaces)
    assert as_policy(own, env.action_spaces) is own


@pytest.mark.parametrize(
    ("policy", "message"),
    [
        (
            TakesTheObservationAlone(),
            r"TakesTheObservationAlone\.act\(observation\) cannot be called as act\(step_key, observations, "
            r"deterministic=…, noise=…, agent_id=…\)",
        ),
        (ActIsANumber(), "ActIsANumber.act is no method"),
        (PushRight, r"PushRight is a class; give an object of it: PushRight\(…\)"),
        (NoisyWithoutNoise(), r"no method noise\(step_key, rng, n_rows\)"),
    ],
)
def test_an_act_that_cannot_be_called_is_refused_with_the_call(policy, message):
    with pytest.raises(InvalidSpecificationError, match=message) as caught:
        as_policy(policy, cartpole().action_spaces)
    assert caught.value.problems[0].path == "policy"


@pytest.mark.parametrize(
    ("answer", "message"),
    [
        (1, "gave a int, not a dict with 'action'"),
        ({}, "gave nothing; the action is a dict with exactly 'action'"),
        ({"action": [0, 0, 0], "speed": [1, 1, 1]}, "gave 'action', 'speed'"),
        ({"action": 1}, r"int64 of shape \(\), not numbers of shape \(3,\): one action per environment"),
        ({"action": [0, 1]}, r"shape \(2,\), not numbers of shape \(3,\)"),
        ({"action": ["left"] * 3}, "not numbers"),
        ({"action": [0, 0.5, 1]}, "not whole"),
        ({"action": [0, 1, 2]}, r"gave 2, which lies outside Discrete\(2\)"),
        ({"action": [0, -1, 1]}, "gave -1, which lies outside"),
    ],
)
def test_what_is_no_action_is_refused_by_what_it_is(answer, message):
    with pytest.raises(SpaceMismatchError, match=message):
        play(Answering(answer), cartpole())


def test_numbers_outside_a_box_are_clipped_as_those_of_every_policy():
    far, edge = (Answering({"action": np.full((3, 1), value)}) for value in (100.0, 2.0))
    arguments = {"max_episode_steps": 5}
    assert play(far, pendulum(), **arguments) == play(edge, pendulum(), **arguments)


def test_noise_of_another_shape_is_refused():
    class Flat(PushRight):
        def noise(self, step_key, rng, n_rows):
            return rng.random(n_rows)

    with pytest.raises(
        SpaceMismatchError, match=r"Flat.noise gave an array of shape \(64,\), not \[64, width\]"
    ):
        play(Flat(), cartpole(), deterministic=False)
