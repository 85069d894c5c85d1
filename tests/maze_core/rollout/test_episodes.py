"""The loop of inference: an episode depends on its seed alone, whatever it shares a batch with."""

import gymnasium
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from maze_core.envs.config import GymEnvConfig
from maze_core.envs.gym_env import GymEnv
from maze_core.envs.per_env import PerEnvVectorEnv
from maze_core.envs.wrappers import ObservationNormalizationWrapper, RewardScalingWrapper, WrappedVectorEnv
from maze_core.models.random_policy import RandomPolicy
from maze_core.rollout.episodes import run_episodes
from maze_core.rollout.recording import trajectory_to_bytes
from maze_core.seeding import EpisodeSeeds, Stream, env_seeds
from tests.maze_core.envs.small_envs import EpisodeNumberEnv
from tests.maze_core.envs.structured_env import BoxesEnv
from tests.maze_core.rollout.small_policies import BoxesPolicy, SwingPolicy


def cartpole(n_envs, **arguments):
    return GymEnvConfig(name="CartPole-v1", **arguments).vector(n_envs)


def boxes(n_envs):
    return PerEnvVectorEnv([BoxesEnv] * n_envs)


def facts(records):
    """Everything in the records, with trajectories as bytes."""
    return [
        (
            r.index,
            r.seed,
            r.episode_return,
            r.length,
            r.terminated,
            r.truncated,
            r.trajectory and trajectory_to_bytes(r.trajectory),
        )
        for r in records
    ]


@settings(max_examples=25)  # up to 36 episodes each
@given(
    st.lists(st.integers(0, 2**32 - 1), min_size=1, max_size=9),
    st.integers(2, 6),
    st.booleans(),
    st.integers(0, 2**32 - 1),
)
def test_results_do_not_depend_on_the_number_of_environments(seeds, n_envs, deterministic, action_seed):
    for make, policy in ((cartpole, SwingPolicy()), (boxes, BoxesPolicy())):
        arguments = {
            "deterministic": deterministic,
            "record": True,
            "action_seed": action_seed,
            "max_episode_steps": 60,
        }
        alone = run_episodes(make(1), policy, seeds, **arguments)
        together = run_episodes(make(n_envs), policy, seeds, **arguments)
        assert facts(alone) == facts(together)
        assert [record.seed for record in alone] == seeds


def test_a_random_policy_needs_noise_even_when_deterministic_and_honours_masks():
    seeds = list(range(7))
    policy = RandomPolicy(boxes(1).action_spaces)
    alone = run_episodes(boxes(1), policy, seeds, deterministic=True, record=True)
    together = run_episodes(boxes(3), policy, seeds, deterministic=True, record=True)
    assert facts(alone) == facts(together)
    other = run_episodes(boxes(3), policy, seeds, deterministic=True, record=True, action_seed=1)
    assert facts(other) != facts(alone)


def test_each_episode_begins_with_its_own_seed():
    records = run_episodes(cartpole(2), SwingPolicy(), [5, 6, 7], record=True)
    for record in records:
        expected, _ = gymnasium.make("CartPole-v1").reset(seed=record.seed)
        first = record.trajectory.observations[0]["observation"][0]
        np.testing.assert_array_equal(first, expected)


def test_an_episode_equals_one_played_by_hand_in_gymnasium():
    (record,) = run_episodes(cartpole(3), SwingPolicy(), [3], record=True)
    env, policy = gymnasium.make("CartPole-v1"), SwingPolicy()
    observation, _ = env.reset(seed=3)
    total, length, is_over = 0.0, 0, False
    while not is_over:
        batch = {"observation": observation[None]}
        action = policy.act(0, batch, deterministic=True, noise=None)["action"][0]
        observation, reward, terminated, truncated, _ = env.step(action)
        total, length, is_over = total + reward, length + 1, terminated or truncated
    assert (record.episode_return, record.length) == (total, length)
    assert (record.terminated, record.truncated) == (terminated, truncated)
    np.testing.assert_array_equal(record.trajectory.final_observation["observation"], observation)
    assert length > 50


def test_a_limit_of_ours_truncates_without_the_environments_help():
    records = run_episodes(cartpole(2), SwingPolicy(), [1, 2, 3], max_episode_steps=5, record=True)
    for record in records:
        assert (record.length, record.episode_return) == (5, 5.0)
        assert (record.terminated, record.truncated) == (False, True)
        assert record.trajectory.rewards.shape == (5,)
        last, final = (
            record.trajectory.observations[0]["observation"][-1],
            record.trajectory.final_observation,
        )
        assert not np.array_equal(final["observation"], last)


def test_the_environments_own_limit_is_told_from_a_fall():
    records = run_episodes(cartpole(2, max_episode_steps=20), SwingPolicy(), range(6))
    assert {(record.length, record.terminated, record.truncated) for record in records} == {(20, False, True)}


def test_a_record_holds_raw_numbers_under_wrappers():
    normalise = ObservationNormalizationWrapper()
    wrapped = WrappedVectorEnv(cartpole(2), [normalise, RewardScalingWrapper(scale=9.0)])
    normalise.load_state_dict({"observation/shift": np.full(4, 3.0), "observation/scale": np.full(4, 2.0)})

    class Raw(SwingPolicy):
        """Acts on what the wrapper made, as the other acts on what was there before."""

        def act(self, step_key, observations, **arguments):
            restored = observations["observation"] * 2 + 3
            return super().act(step_key, {"observation": restored}, **arguments)

    (record,) = run_episodes(wrapped, Raw(), [4], record=True)
    first = record.trajectory.observations[0]["observation"][0]
    np.testing.assert_array_equal(first, gymnasium.make("CartPole-v1").reset(seed=4)[0])
    assert record.trajectory.rewards.tolist() == [1.0] * record.length
    assert record.episode_return == record.length


def test_sub_steps_are_acted_in_groups_of_their_own():
    policy = BoxesPolicy()
    records = run_episodes(boxes(4), policy, range(9), record=True)
    assert all(record.episode_return == 5.0 for record in records), "the right choices pay in every round"
    assert all(record.length == 5 for record in records), "flat steps, not sub-steps"
    assert {n for _, n in policy.batches} >= {1, 2, 3, 4}
    trajectory = records[0].trajectory
    assert len(trajectory.step_keys) > 10 - 1
    assert len(trajectory.observations[1]["wanted"]) == trajectory.step_keys.count(1)
    assert trajectory.flat_steps.tolist() == sorted(trajectory.flat_steps.tolist())
    assert trajectory.final_step_key == 0


def test_records_come_in_the_order_of_seeds_and_are_told_as_they_end():
    told = []
    env = PerEnvVectorEnv([lambda i=i: GymEnv(EpisodeNumberEnv(i)) for i in range(3)])
    records = run_episodes(env, RandomPolicy(env.action_spaces), range(8), on_episode=told.append)
    assert [record.index for record in records] == list(range(8))
    assert sorted(record.index for record in told) == list(range(8))
    assert [record.index for record in told] != list(range(8)), (
        "episodes of different lengths end out of order"
    )


def test_cancelling_gives_the_episodes_that_are_complete():
    finished = []
    records = run_episodes(
        cartpole(2),
        SwingPolicy(),
        range(20),
        deterministic=False,
        on_episode=finished.append,
        cancelled=lambda: len(finished) >= 3,
    )
    assert 3 <= len(records) < 20
    assert len(records) == len(finished)


def test_no_seeds_are_no_episodes():
    assert run_episodes(cartpole(2), SwingPolicy(), []) == []


def test_nothing_is_recorded_unless_asked():
    (record,) = run_episodes(cartpole(1), SwingPolicy(), [1], max_episode_steps=3)
    assert record.trajectory is None


def test_the_environment_stays_open():
    env = cartpole(2)
    first = run_episodes(env, SwingPolicy(), [1, 2])
    assert run_episodes(env, SwingPolicy(), [1, 2]) == first


@pytest.mark.parametrize("deterministic", [True, False])
def test_the_same_over_processes(deterministic):
    spread = GymEnvConfig(name="CartPole-v1").vector(3, execution="local", n_processes=2)
    arguments = {"deterministic": deterministic, "record": True, "max_episode_steps": 50}
    try:
        there = run_episodes(spread, SwingPolicy(), range(5), **arguments)
    finally:
        spread.close()
    assert facts(there) == facts(run_episodes(cartpole(2), SwingPolicy(), range(5), **arguments))


def test_the_seeds_of_episodes_are_those_of_as_many_environments():
    seeds = EpisodeSeeds(5, Stream.EVAL_ENV, 9, 2)
    expected = env_seeds(5, Stream.EVAL_ENV, 9, 2)
    assert len(seeds) == 9
    assert list(seeds) == seeds[:] == expected
    assert (seeds[-1], seeds[2:4]) == (expected[-1], expected[2:4])
    with pytest.raises(IndexError):
        seeds[9]


def test_seeds_are_drawn_when_their_episode_begins():
    asked = []

    class Noting(EpisodeSeeds):
        def __getitem__(self, index):
            asked.append(index)
            return super().__getitem__(index)

    stop = iter([False] * 3 + [True])
    seeds = Noting(1, Stream.ROLLOUT, 10**9)
    run_episodes(cartpole(4), SwingPolicy(), seeds, cancelled=lambda: next(stop))
    assert asked == [0, 1, 2, 3]
