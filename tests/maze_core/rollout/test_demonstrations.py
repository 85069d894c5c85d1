"""Recorded episodes again: what the collector would have made of them, through wrappers, sub-steps and all."""

from dataclasses import replace

import numpy as np
import pytest
from gymnasium import spaces

from maze_core.data.replay import Replay
from maze_core.envs.per_env import PerEnvVectorEnv
from maze_core.envs.wrappers.action_clipping import ActionClippingWrapper
from maze_core.envs.wrappers.observation_normalization import ObservationNormalizationWrapper
from maze_core.envs.wrappers.observation_stack import ObservationStackWrapper
from maze_core.envs.wrappers.reward_scaling import RewardScalingWrapper
from maze_core.envs.wrappers.wrapper import Wrapper, bind_wrappers, estimate_statistics
from maze_core.errors import InvalidSpecificationError
from maze_core.models.random_policy import RandomPolicy
from maze_core.rollout.demonstrations import demonstrations, raw_observations, refuse_other_episodes
from maze_core.rollout.episodes import run_episodes
from tests.maze_core.envs.structured_env import BoxesEnv, make_boxes
from tests.maze_core.trainers.small_worlds import BoundedEnv, ReachEnv, SignEnv, parts


def played(world, n: int):
    """Names and episodes of a random policy in one environment."""
    env = PerEnvVectorEnv([world])
    episodes = run_episodes(env, RandomPolicy(env.action_spaces), range(n), record=True, deterministic=False)
    return {f"number {episode.index}": episode.trajectory for episode in episodes}


def shown_again(world, n: int, wrappers=()):
    episodes, made = played(world, n), parts(world)
    bind_wrappers(wrappers, made.env.observation_spaces, made.env.action_spaces)
    estimate_statistics(wrappers, raw_observations(episodes, list(made.env.observation_spaces)))
    return episodes, demonstrations(episodes, made.env, wrappers, made.policy), made


@pytest.mark.parametrize("world", [SignEnv, ReachEnv, make_boxes])
@pytest.mark.parametrize("n", [1, 3, 70])
def test_every_step_of_every_episode_is_there_once_and_in_order(world, n):
    episodes, found, _ = shown_again(world, n)
    rollout, width = found.rollout, min(n, 32)
    assert rollout.reward.shape[1] == width
    assert list(found.names) == list(episodes)
    for number, episode in enumerate(episodes.values()):
        t, b = np.nonzero(found.episode == number)
        assert len(set(b)) == 1
        np.testing.assert_array_equal(t, np.arange(t[0], t[0] + len(episode.rewards)))
        np.testing.assert_array_equal(rollout.reward[t, b], episode.rewards.astype(np.float32))
        np.testing.assert_array_equal(rollout.agent_id[t, b], episode.agent_ids)
        np.testing.assert_array_equal(rollout.flat_step[t, b], episode.flat_steps)
        ends = np.zeros(len(t), bool)
        ends[-1] = True
        np.testing.assert_array_equal(rollout.terminated[t, b], ends & episode.terminated)
        np.testing.assert_array_equal(rollout.truncated[t, b], ends & episode.truncated)
        for key, record in rollout.steps.items():
            at = record.active[t, b]
            np.testing.assert_array_equal(at, [step == key for step in episode.step_keys])
            for name, values in record.observations.items():
                np.testing.assert_array_equal(values[t, b][at], episode.observations[key][name])
            np.testing.assert_array_equal(record.actions["action"][t, b][at], episode.actions[key]["action"])
    idle = found.episode == -1
    assert not any(record.active[idle].any() for record in rollout.steps.values())
    assert (~idle).sum() == sum(len(episode.rewards) for episode in episodes.values())


def test_what_a_limit_cut_is_followed_by_its_own_final_observation():
    episodes, found, _ = shown_again(ReachEnv, 3)
    final = found.rollout.final[0]
    for t, b, seen in zip(final.t, final.b, final.observations["observation"], strict=True):
        episode = list(episodes.values())[found.episode[t, b]]
        np.testing.assert_array_equal(seen, episode.final_observation["observation"])
    assert len(final.t) == 3


def test_samples_are_on_the_policys_scale():
    episodes, found, _ = shown_again(BoundedEnv, 2)
    record = found.rollout.steps[0]
    at = found.episode == 1
    given = episodes["number 1"].actions[0]
    np.testing.assert_allclose(record.actions["first"][at], (given["first"] - 1) / 2, atol=1e-6)
    np.testing.assert_allclose(record.actions["second"][at], given["second"], atol=1e-6)


def test_observations_and_rewards_pass_the_wrappers_whose_statistics_stand_still():
    wrappers = [ObservationNormalizationWrapper(), RewardScalingWrapper(scale=3.0), ActionClippingWrapper()]
    episodes, found, _ = shown_again(ReachEnv, 40, wrappers)
    before = wrappers[0].state_dict()
    raw = np.concatenate([episode.observations[0]["observation"] for episode in episodes.values()])
    seen = found.rollout.steps[0].observations["observation"][found.rollout.steps[0].active]
    np.testing.assert_allclose(seen.mean(0), 0, atol=1e-5)
    np.testing.assert_allclose(seen.std(0), 1, atol=1e-3)
    assert np.abs(raw.mean(0)).max() > 1e-3
    rewards = [episode.rewards.sum() for episode in episodes.values()]
    of_first = found.rollout.reward[found.episode == 0].sum()
    assert of_first == pytest.approx(3 * rewards[0], rel=1e-5)
    for name, array in before.items():
        np.testing.assert_array_equal(array, wrappers[0].state_dict()[name])


def test_each_episode_has_a_past_of_its_own():
    episodes, found, _ = shown_again(ReachEnv, 70, [ObservationStackWrapper(n_stack=2)])
    shown = found.rollout.steps[0].observations["observation"]
    for number, episode in enumerate(episodes.values()):
        raw = episode.observations[0]["observation"]
        before = np.concatenate((np.zeros_like(raw[:1]), raw[:-1]))
        np.testing.assert_array_equal(shown[found.episode == number], np.concatenate((before, raw), 1))


class Halving(Wrapper):
    def action(self, step_key, actions):
        return {head: 0.5 * values for head, values in actions.items()}


class Nudging(Wrapper):
    def action(self, step_key, actions):
        return {head: values + np.array([0, 0.01], np.float32) for head, values in actions.items()}


class Renaming(Wrapper):
    def bind(self, observation_spaces, action_spaces):
        return observation_spaces, {
            key: spaces.Dict({"other": x["action"]}) for key, x in action_spaces.items()
        }

    def action(self, step_key, actions):
        return {"action": actions["other"]}


def test_actions_that_the_wrappers_do_not_give_back_are_refused():
    with pytest.raises(
        InvalidSpecificationError, match=r"number 0 has the action action=.* comes out of the"
    ):
        shown_again(ReachEnv, 1, [Halving()])
    with pytest.raises(InvalidSpecificationError, match="number 0 has the action"):
        shown_again(ReachEnv, 1, [Nudging()])
    episodes, made, wrapped = played(ReachEnv, 1), parts(ReachEnv), [Renaming()]
    _, actions = bind_wrappers(wrapped, made.env.observation_spaces, made.env.action_spaces)
    policy = parts(ReachEnv).policy
    policy.steps[0].heads = tuple(type(h)(name="other", shape=h.shape) for h in policy.steps[0].heads)
    assert actions
    with pytest.raises(InvalidSpecificationError, match="other actions than action"):
        demonstrations(episodes, made.env, wrapped, policy)


def test_a_replay_of_them_has_the_transitions_that_were_recorded():
    episodes, found, _ = shown_again(ReachEnv, 3)
    replay = Replay(found.episode.size, gamma=0.9)
    replay.add(found.rollout, 0)
    drawn = replay._transitions(np.arange(found.episode.size), np.ones(found.episode.size, np.float32))
    for row, number in enumerate(found.episode.reshape(-1)):
        episode = list(episodes.values())[number]
        seen = np.concatenate(
            (episode.observations[0]["observation"], episode.final_observation["observation"][None])
        )
        i = int(np.flatnonzero((seen == drawn.observations["observation"][row]).all(1))[0])
        np.testing.assert_array_equal(drawn.next_observations["observation"][row], seen[i + 1])
        assert drawn.discounts[row] == np.float32(0.9)


BAD = [
    (lambda x: replace(x, rewards=x.rewards[:0]), "bad has no step"),
    (lambda x: replace(x, rewards=x.rewards * [1, np.nan, 1]), "bad has a reward that is not finite"),
    (lambda x: replace(x, final_observation={}), "bad, after its last step, has observations nothing"),
    (lambda x: replace(x, step_keys=["other"] * len(x.step_keys)), r"bad has the sub-step 'other', and env"),
    (
        lambda x: replace(x, observations={0: {"sight": np.zeros((3, 2))}}),
        "has observations 'sight', and env",
    ),
    (
        lambda x: replace(x, observations={0: {"observation": np.full((3, 2), np.nan)}}),
        "bad has an observation 'observation' that does not fit Box.* at /0/0: .*with a rollout",
    ),
    (lambda x: replace(x, actions={0: {"action": np.zeros((3, 5))}}), "bad has an action 'action' that does"),
    (lambda x: replace(x, agent_ids=np.array([0, 0, 1])), "bad has the agent 1, and env has 1, counted"),
    (lambda x: replace(x, actions={}), "bad has actions nothing, and env has 'action'"),
]


@pytest.mark.parametrize(("damage", "message"), BAD)
def test_a_bad_episode_is_told_with_its_name_its_leaf_and_the_way_out(damage, message):
    episodes = played(ReachEnv, 2)
    refuse_other_episodes(episodes, PerEnvVectorEnv([ReachEnv]))
    with pytest.raises(InvalidSpecificationError, match=message) as caught:
        refuse_other_episodes({**episodes, "bad": damage(episodes["number 1"])}, PerEnvVectorEnv([ReachEnv]))
    assert caught.value.problems[0].path == "dataset.run"


def test_one_sub_step_that_is_not_there_is_told_where_there_are_several_of_them():
    (episode,) = played(BoxesEnv, 1).values()
    other = replace(episode, step_keys=["b", "a", *episode.step_keys[2:]])
    with pytest.raises(InvalidSpecificationError, match=r"one has the sub-step 'a', and env has \[0, 1\]"):
        refuse_other_episodes({"one": other}, PerEnvVectorEnv([BoxesEnv]))


def test_not_every_episode_has_to_act_at_every_sub_step():
    (episode,) = played(BoxesEnv, 1).values()
    n = len(episode.observations[0]["rounds_left"])
    first = replace(episode, step_keys=[0] * n, rewards=np.zeros(n))
    refuse_other_episodes({"whole": episode, "first": first}, PerEnvVectorEnv([BoxesEnv]))


def test_a_sub_step_at_which_no_episode_acts_and_one_with_a_bad_leaf_are_told_by_name():
    (episode,) = played(BoxesEnv, 1).values()
    env = PerEnvVectorEnv([BoxesEnv])
    one = replace(episode, step_keys=[0] * len(episode.observations[0]["rounds_left"]), rewards=np.zeros(5))
    with pytest.raises(InvalidSpecificationError, match="No episode acts at the sub-step 1"):
        refuse_other_episodes({"one": one}, env)
    actions = {**episode.actions, 1: {"action": episode.actions[1]["action"] + 9}}
    with pytest.raises(InvalidSpecificationError, match="one, sub-step 1, has an action 'action'"):
        refuse_other_episodes({"one": replace(episode, actions=actions)}, env)
