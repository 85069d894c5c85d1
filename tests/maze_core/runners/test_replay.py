"""A recorded episode comes out the same when it is played once more, and a replay says where it did not."""

from dataclasses import replace
from functools import partial

import gymnasium
import numpy as np
import pytest

from maze_core import GymMazeEnv, InvalidSpecificationError, RunContext
from maze_core.rollout.recording import trajectory_from_bytes, trajectory_to_bytes
from tests.maze_core.envs.structured_env import BoxesEnv

CARTPOLE = {"env.name": "CartPole-v1"}
SMALL = {"algorithm.n_epochs": 1, "algorithm.epoch_length": 1}


def played(context, **arguments):
    report = context.rollout(**{"n_episodes": 2, "record": True, **arguments})
    return report.episodes[1]


def random_context(env_name="CartPole-v1", **arguments):
    overrides = {"env.name": env_name}
    return RunContext(policy="random_policy", overrides=overrides, seed=1, silent=True, **arguments)


def changed(episode, **parts):
    return replace(episode, trajectory=replace(episode.trajectory, **parts))


@pytest.mark.parametrize("env_name", ["CartPole-v1", "Pendulum-v1", "FrozenLake-v1", "Acrobot-v1"])
def test_an_episode_comes_out_the_same(env_name):
    context = random_context(env_name)
    episode = played(context)
    report = context.replay(episode)
    assert report.is_equal
    assert report.n_steps == episode.length


def test_an_episode_of_another_batch_or_process_comes_out_the_same():
    for runner in ({"runner.n_envs": 8}, {"runner.execution": "parallel", "runner.n_processes": 2}):
        context = RunContext(policy="random_policy", overrides=CARTPOLE | runner, seed=1, silent=True)
        assert context.replay(played(context)).is_equal


def test_an_episode_that_was_cut_comes_out_the_same():
    context = random_context()
    episode = played(context, max_episode_steps=3)
    assert (episode.length, episode.truncated_by_limit) == (3, True)
    assert context.replay(episode).is_equal


def test_sub_steps_are_replayed_and_counted():
    context = RunContext(env=BoxesEnv, overrides=SMALL, seed=1, silent=True)
    context.train()
    episode = played(context, n_episodes=3)
    report = context.replay(episode)
    assert report.is_equal
    assert report.n_steps == len(episode.trajectory.step_keys) > episode.length
    for step in range(report.n_steps):
        decision = context.replay(episode, step)
        assert decision.is_equal, decision
        assert decision.actor_id.step_key == episode.trajectory.step_keys[step]


def other_observation(trajectory):
    seen = trajectory.observations[0]["observation"].copy()
    seen[4] = np.nextafter(seen[4], 1)
    return {"observations": {0: {"observation": seen}}}


def other_rewards(trajectory):
    rewards = trajectory.rewards.copy()
    rewards[5] += 1e-15
    return {"rewards": rewards}


def other_action(trajectory):
    actions = trajectory.actions[0]["action"].copy()
    actions[2] = 1 - actions[2]
    return {"actions": {0: {"action": actions}}}


def other_final(trajectory):
    return {"final_observation": {"observation": trajectory.final_observation["observation"] + 1}}


@pytest.mark.parametrize(
    ("change", "step", "part"),
    [
        (other_observation, 4, "observation"),
        (other_rewards, 5, "reward"),
        (other_action, 3, "observation"),
        (other_final, -1, "observation"),
        (lambda trajectory: {"terminated": False}, -1, "terminated"),
        (lambda trajectory: {"truncated": True}, -1, "truncated"),
        (lambda trajectory: {"agent_ids": trajectory.agent_ids + 1}, 0, "actor_id"),
    ],
)
def test_the_first_difference_is_named(change, step, part):
    context = random_context()
    episode = played(context)
    other = changed(episode, **change(episode.trajectory))
    difference = context.replay(other).difference
    assert difference.part == part
    assert difference.step == (episode.length if step < 0 else step)
    assert difference.recorded != difference.replayed


def test_an_episode_that_ends_sooner_is_told():
    context = random_context()
    episode = played(context)
    there = episode.trajectory
    longer = {
        "step_keys": [*there.step_keys, 0],
        "rewards": np.append(there.rewards, 1.0),
        "agent_ids": np.append(there.agent_ids, 0),
        "observations": {0: {"observation": np.vstack([there.observations[0]["observation"]] * 2)}},
        "actions": {0: {"action": np.append(there.actions[0]["action"], 0)}},
    }
    difference = context.replay(changed(episode, **longer)).difference
    assert (difference.part, difference.recorded, difference.replayed) == (
        "length",
        episode.length + 1,
        episode.length,
    )


class Restless(gymnasium.Wrapper):
    """Whose seed does not decide what it shows."""

    count = 0

    def reset(self, **arguments):
        observation, info = super().reset(**arguments)
        Restless.count += 1
        return observation * np.float32(1 - Restless.count / 1000), info


def test_an_environment_that_its_seed_does_not_decide_is_found_out():
    env = partial(GymMazeEnv, lambda: Restless(gymnasium.make("Pendulum-v1")))
    context = RunContext(env=env, policy="random_policy", seed=1, silent=True)
    difference = context.replay(played(context)).difference
    assert (difference.step, difference.part) == (0, "observation")


@pytest.mark.parametrize("deterministic", [True, False])
def test_every_decision_of_a_trained_policy_is_made_again(deterministic):
    with RunContext(overrides=CARTPOLE | SMALL, seed=1, silent=True) as context:
        context.train()
        episode = played(context, deterministic=deterministic, max_episode_steps=80)
        for step in range(episode.length):
            decision = context.replay(episode, step, deterministic=deterministic)
            assert decision.is_equal, decision
            assert decision.recorded == {"action": int(episode.trajectory.actions[0]["action"][step])}


def test_a_drawn_decision_of_a_continuous_policy_has_the_same_bits():
    overrides = {"env.name": "Pendulum-v1", **SMALL}
    with RunContext(overrides=overrides, wrappers="running_normalization", seed=1, silent=True) as context:
        context.train()
        episode = played(context, deterministic=False, seed=9)
        assert context.replay(episode, 70, deterministic=False, seed=9).is_equal
        assert not context.replay(episode, 70, deterministic=False, seed=8).is_equal
        assert not context.replay(episode, 70).is_equal


def test_another_action_than_the_policys_is_told():
    with RunContext(overrides=CARTPOLE | SMALL, seed=1, silent=True) as context:
        context.train()
        episode = played(context)
        decision = context.replay(changed(episode, **other_action(episode.trajectory)), 2)
        assert not decision.is_equal
        assert decision.recorded["action"] == 1 - decision.action["action"]
        assert decision.to_dict()["equal"] is False


def test_a_recording_that_was_stored_is_replayed():
    context = random_context()
    episode = played(context)
    stored = trajectory_from_bytes(trajectory_to_bytes(episode.trajectory))
    assert context.replay(replace(episode, trajectory=stored)).is_equal


def test_what_cannot_be_replayed_is_refused():
    context = random_context()
    episode = played(context, max_episode_steps=3)
    with pytest.raises(InvalidSpecificationError, match=r"3 sub-steps, 0 to 2; there is no 3"):
        context.replay(episode, 3)
    with pytest.raises(InvalidSpecificationError, match=r"rollout\(record=True\)"):
        context.replay(replace(episode, trajectory=None))
