"""The record of experience is what the environments showed: by actor, with its ends, and equal to a plain replay."""

import contextlib
import copy
import warnings

import gymnasium
import numpy as np
import pytest
from gymnasium import spaces

from maze_core.envs.config import GymEnvConfig
from maze_core.envs.gym_env import GymEnv
from maze_core.envs.per_env import PerEnvVectorEnv
from maze_core.models.config import CustomModelConfig, DistributionRule, GaussianArgs
from maze_core.models.random_policy import RandomPolicy
from maze_core.rollout.collector import Collector, _zeros
from tests.maze_core.envs.small_envs import EpisodeNumberEnv
from tests.maze_core.envs.structured_env import BoxesEnv, make_boxes


def collect(env, n_steps, seed=0, n_rollouts=1):
    collector = Collector(env, n_steps, np.random.default_rng(seed))
    collector.reset(list(range(env.n_envs)))
    policy = RandomPolicy(env.action_spaces)
    rollouts = [collector.collect(policy) for _ in range(n_rollouts)]
    env.close()
    return rollouts[-1]


def test_a_rollout_replayed_by_hand_gives_the_same_observations_rewards_and_ends():
    config = GymEnvConfig(name="CartPole-v1")
    rollout = collect(config.vector(2), 60)
    record = rollout.steps[0]
    for b in range(2):
        env = config.make()
        observation = env.reset(seed=b)["observation"]
        for t in range(60):
            np.testing.assert_array_equal(record.observations["observation"][t, b], observation)
            shown, reward, terminated, truncated, _ = env.step({"action": record.actions["action"][t, b]})
            assert (reward, terminated, truncated) == (
                rollout.reward[t, b],
                rollout.terminated[t, b],
                rollout.truncated[t, b],
            )
            observation = env.reset()["observation"] if terminated or truncated else shown["observation"]
        np.testing.assert_array_equal(rollout.last_observations[0]["observation"][b], observation)
    assert len(rollout.episode_returns) == int(rollout.terminated.sum())


def test_the_observation_a_time_limit_cut_off_is_kept_and_not_the_one_after_the_reset():
    rollout = collect(GymEnvConfig(name="CartPole-v1", max_episode_steps=3).vector(1), 3)
    assert rollout.truncated[:, 0].tolist() == [False, False, True]
    final = rollout.final[0]
    assert (final.t.tolist(), final.b.tolist()) == ([2], [0])
    assert not np.array_equal(
        final.observations["observation"][0], rollout.last_observations[0]["observation"][0]
    )


def test_a_rollout_begins_where_the_one_before_it_ended():
    """Also where every call gives arrays of its own, not the ones it gave before."""
    env = GymEnvConfig(name="CartPole-v1").vector(2)
    reset, step = env.reset, env.step
    env.reset = lambda seeds: copy.deepcopy(reset(seeds))
    env.step = lambda actions: copy.deepcopy(step(actions))
    collector, policy = Collector(env, 5, np.random.default_rng(0)), RandomPolicy(env.action_spaces)
    collector.reset([0, 1])
    shown = collector.collect(policy).last_observations[0]["observation"].copy()
    np.testing.assert_array_equal(collector.collect(policy).steps[0].observations["observation"][0], shown)
    env.close()


def test_each_tick_of_a_structured_environment_belongs_to_one_sub_step():
    rollout = collect(PerEnvVectorEnv([make_boxes] * 3), 40)
    acted = sum(record.active.astype(int) for record in rollout.steps.values())
    assert (acted == 1).all()
    assert rollout.steps[1].active.any()


def test_time_passes_between_rounds_and_not_between_the_sub_steps_of_one():
    rollout = collect(PerEnvVectorEnv([make_boxes] * 3), 40)
    opens_a_box = rollout.steps[0].active
    assert rollout.same_flat_step[opens_a_box].all(), "after a box comes an item, in the same round"
    assert rollout.n_steps == int(np.count_nonzero(~rollout.same_flat_step))
    assert (rollout.reward[rollout.same_flat_step] == 0).all()


COUNTS = spaces.MultiDiscrete([3, 3], dtype=np.uint16)


@pytest.mark.parametrize(
    ("space", "is_action", "dtype"),
    [
        (spaces.Box(0, 10, (2,), np.int64), True, np.float32),
        (spaces.Box(0, 10, (2,), np.int64), False, np.int64),
        (spaces.Box(0, 10, (2,), np.uint16), False, np.float32),
        (COUNTS, False, np.int64),
        (COUNTS, True, np.int64),
        (spaces.Discrete(3), True, np.int64),
        (spaces.MultiBinary(3), False, np.int8),
    ],
)
def test_samples_of_boxes_are_real_and_everything_else_is_kept_in_what_torch_computes_with(
    space, is_action, dtype
):
    assert _zeros((1, 1), space, is_action=is_action).dtype == dtype


def test_collecting_before_a_reset_is_refused():
    env = GymEnvConfig().vector(1)
    with pytest.raises(RuntimeError, match="reset"):
        Collector(env, 1, np.random.default_rng(0)).collect(RandomPolicy(env.action_spaces))
    env.close()


class Bounded(gymnasium.Env):
    """Acts in a Box whose first number is bounded."""

    observation_space = spaces.Box(-1, 1, (1,), np.float32)
    action_space = spaces.Box(np.float32([100, -np.inf]), np.float32([200, np.inf]))

    def reset(self, *, seed=None, options=None):
        return np.zeros(1, np.float32), {}

    def step(self, action):
        assert self.action_space.contains(action)
        return np.zeros(1, np.float32), 0.0, False, False, {}


class WholeNumbers(Bounded):
    """Acts in a Box of whole numbers."""

    action_space = spaces.Box(0, 10, (2,), np.int64)


def test_samples_are_kept_as_real_numbers_where_the_environment_wants_whole_ones():
    rollout = collect(PerEnvVectorEnv([lambda: GymEnv(WholeNumbers())]), 3)
    assert rollout.steps[0].actions["action"].dtype == np.float32


def collected_by(*, rescale):
    env = PerEnvVectorEnv([lambda: GymEnv(Bounded())] * 2)
    rule = DistributionRule(
        action_space="Box", distribution="diagonal_gaussian", args=GaussianArgs(rescale=rescale)
    )
    model = CustomModelConfig(distribution_mapper_config=(rule,)).build(
        env.observation_spaces, env.action_spaces, env.agent_counts, generator_seed=0
    )
    collector = Collector(env, 500, np.random.default_rng(0))
    collector.reset([0, 1])
    return [collector.collect(model.policy) for _ in range(2)]


def test_the_share_of_clipped_actions_is_that_of_the_bounded_numbers():
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        rollout = collected_by(rescale=True)[-1]
    samples = rollout.steps[0].actions["action"][..., 0]
    assert rollout.actions_clipped == (np.abs(samples) > 1).mean()
    assert 0.25 < rollout.actions_clipped < 0.4, "a third of a normal distribution lies beyond its deviation"


def test_actions_that_are_mostly_clipped_are_told_once():
    with pytest.warns(UserWarning, match=r"100% of the policy's actions lie outside the bounds") as told:
        rollouts = collected_by(rescale=False)
    assert [rollout.actions_clipped for rollout in rollouts] == [1.0, 1.0]
    assert len(told) == 1


INSIDE, HALF, OUTSIDE = 150.0, [[99.0], [150.0]], 99.0


def shares_of(values, n_steps=500):
    """The shares that were clipped, of rollouts whose actions are all this value, half of them in HALF."""
    env = PerEnvVectorEnv([lambda: GymEnv(Bounded())] * 2)
    collector, policy = Collector(env, n_steps, np.random.default_rng(0)), RandomPolicy(env.action_spaces)
    collector.reset([0, 1])
    step = policy.steps[0]
    step.in_env_units = lambda samples: samples
    for value in values:
        step.sample = lambda *_, value=value: {"action": np.broadcast_to(np.float32(value), (2, 2))}
        yield collector.collect(policy).actions_clipped


@pytest.mark.parametrize(("value", "share"), [(100, 0), (99.99, 1), (200, 0), (200.01, 1), (HALF, 0.5)])
def test_a_number_on_its_bound_is_not_clipped(value, share):
    assert list(shares_of([value], 499)) == [share]


@pytest.mark.parametrize(
    ("values", "n_steps", "is_told"),
    [
        ([OUTSIDE], 500, True),
        ([OUTSIDE], 499, False),
        ([OUTSIDE] * 2, 499, True),
        ([HALF], 500, False),
        ([INSIDE, OUTSIDE], 500, True),
        ([INSIDE, HALF], 500, False),
    ],
)
def test_clipping_is_told_above_a_half_of_each_thousand(values, n_steps, is_told):
    with pytest.warns(UserWarning, match="100% of the policy") if is_told else contextlib.nullcontext():
        list(shares_of(values, n_steps))


def test_without_bounds_nothing_is_counted():
    assert collect(GymEnvConfig(name="CartPole-v1").vector(2), 5).actions_clipped is None


def test_every_end_is_kept_with_its_return_its_length_and_what_a_limit_cut_off():
    """Episode k of environment b has 2 + (b + k) % 3 steps and pays 100 b + k at its end; odd k are cut by a limit."""
    env = PerEnvVectorEnv([lambda b=b: GymEnv(EpisodeNumberEnv(b)) for b in range(3)])
    rollout = collect(env, 12)
    ends, cuts = [], []
    for b in range(3):
        t, episode = -1, 1
        while (t := t + 2 + (b + episode) % 3) < 12:
            ends.append((t, b, 100.0 * b + episode, 2 + (b + episode) % 3))
            cuts += [(t, b, [b, episode, 2 + (b + episode) % 3])] if episode % 2 else []
            assert (rollout.truncated[t, b], rollout.terminated[t, b]) == (episode % 2 == 1, episode % 2 == 0)
            episode += 1
    ends.sort()
    assert rollout.episode_returns == [value for _, _, value, _ in ends]
    assert rollout.episode_lengths == [length for _, _, _, length in ends]
    assert (rollout.terminated | rollout.truncated).sum() == len(ends)
    final = rollout.final[0]
    shown = final.observations["observation"].tolist()
    assert list(zip(final.t.tolist(), final.b.tolist(), shown, strict=True)) == sorted(cuts)


def test_an_environment_that_ends_alone_is_noticed():
    """Of two environments one is cut at tick 2, the other goes on."""
    makes = [
        lambda limit=limit: GymEnvConfig(name="CartPole-v1", max_episode_steps=limit).make()
        for limit in (3, 50)
    ]
    rollout = collect(PerEnvVectorEnv(makes), 4)
    assert rollout.truncated.sum(axis=0).tolist() == [1, 0]
    assert (rollout.final[0].t.tolist(), rollout.final[0].b.tolist()) == ([2], [0])
    assert rollout.episode_lengths == [3]


def test_the_next_rollout_goes_on_where_the_last_one_stopped():
    env = GymEnvConfig(name="CartPole-v1").vector(2)
    collector = Collector(env, 3, np.random.default_rng(0))
    collector.reset([0, 1])
    policy = RandomPolicy(env.action_spaces)
    last = {name: x.copy() for name, x in collector.collect(policy).last_observations[0].items()}
    following = collector.collect(policy)
    env.close()
    assert np.array_equal(following.steps[0].observations["observation"][0], last["observation"])


def test_the_time_after_the_rollout_is_that_of_the_tick_that_comes_next():
    env = GymEnvConfig(name="CartPole-v1").vector(2)
    collector = Collector(env, 3, np.random.default_rng(0))
    collector.reset([0, 1])
    policy = RandomPolicy(env.action_spaces)
    rollouts = [collector.collect(policy) for _ in range(2)]
    env.close()
    assert rollouts[0].flat_step[:, 0].tolist() == [0, 1, 2, 3]
    assert rollouts[1].flat_step[:, 0].tolist() == [3, 4, 5, 6]


class CutBoxes(BoxesEnv):
    """Boxes whose episodes a limit cuts."""

    def step(self, action):
        observation, reward, is_over, _, info = super().step(action)
        return observation, reward, False, is_over, info


def test_what_a_limit_cut_off_is_kept_under_the_sub_step_it_belongs_to():
    rollout = collect(PerEnvVectorEnv([CutBoxes] * 2), 60)
    assert list(rollout.final) == [0], "a new round begins with a box"
    assert len(rollout.final[0].t) == rollout.truncated.sum() > 0


@pytest.mark.parametrize(
    ("args", "expected"),
    [
        ({}, [0, 1, 2, 3, 4]),
        ({"state_dependent_noise": True}, [0, 0, 0, 0, 0]),
        ({"state_dependent_noise": True, "noise_ticks": 2}, [0, 0, 1, 1, 2]),
        ({"state_dependent_noise": True, "noise_ticks": 1}, [0, 1, 2, 3, 4]),
    ],
    ids=["by action", "by rollout", "by two ticks", "by tick"],
)
def test_a_matrix_of_noise_is_kept_for_its_ticks_by_each_environment_and_not_beyond_a_rollout(args, expected):
    env = PerEnvVectorEnv([lambda: GymEnv(Bounded())] * 2)
    model = CustomModelConfig(gaussian=GaussianArgs(**args)).build(
        env.observation_spaces, env.action_spaces, env.agent_counts, generator_seed=0
    )
    step, used, drawn = model.policy.steps[0], [], []
    sample, noise_of = step.sample, model.policy.noise
    model.policy.noise = lambda key, rng, n: drawn.append(n) or noise_of(key, rng, n)

    def noting(observations, noise, agent_id):
        used.append(noise.copy())
        return sample(observations, noise, agent_id)

    step.sample = noting
    collector = Collector(env, 5, np.random.default_rng(0))
    collector.reset([0, 1])
    for _ in range(2):
        collector.collect(model.policy)
    distinct = np.unique(np.concatenate(used), axis=0)
    rows = [[int((distinct == row).all(1).argmax()) for row in noise] for noise in used]
    for b in range(2):
        kept = list(dict.fromkeys(row[b] for row in rows))
        assert [kept.index(row[b]) for row in rows] == expected + [n + 1 + expected[-1] for n in expected]
    assert len(distinct) == 2 * 2 * (1 + expected[-1]), "no two environments and no two rollouts share one"
    assert drawn == [2 * (1 + expected[-1])] * 2, "and none is drawn for nothing"
