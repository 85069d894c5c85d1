"""Wrappers that change what a step is, against one environment stepped by hand, in every kind of batch."""

import gymnasium
import numpy as np
import pytest
from gymnasium import spaces
from gymnasium.vector import AutoresetMode

from maze_core import GymMazeEnv, RolloutEvaluator, RunContext, compose_run
from maze_core.config.trust import check_arguments, trust_policy
from maze_core.envs.config import GymEnvConfig
from maze_core.envs.gym_env import GymEnv
from maze_core.envs.native import NativeVectorEnv
from maze_core.envs.per_env import PerEnvVectorEnv
from maze_core.envs.subproc import SubprocVectorEnv
from maze_core.envs.wrappers import (
    LogStatsWrapper,
    ObservationClippingWrapper,
    RandomResetWrapper,
    RewardScalingWrapper,
    StepSkipWrapper,
    TimeLimitWrapper,
    WrappedVectorEnv,
)
from maze_core.envs.wrappers.wrapper import acting_wrappers, why_not_servable
from maze_core.errors import EnvError, InvalidSpecificationError
from tests.maze_core.envs.small_envs import EpisodeNumberEnv
from tests.maze_core.envs.structured_env import BoxesEnv, make_boxes
from tests.maze_core.envs.ticks import random_actions
from tests.maze_core.trainers.small_worlds import LimitedTwoAgentsEnv


def number_envs(n_envs=3):
    return PerEnvVectorEnv([lambda i=i: GymEnv(EpisodeNumberEnv(i)) for i in range(n_envs)])


def cartpole(n_envs, kind):
    if kind == "local":
        return SubprocVectorEnv([GymEnvConfig(name="CartPole-v1").make] * n_envs, n_processes=2)
    vectorization = {"per env": "per_env", "builtin": "auto"}[kind]
    return GymEnvConfig(name="CartPole-v1", vectorization=vectorization).vector(n_envs)


class ByHand:
    """CartPole alone, with a skip and a limit."""

    def __init__(self, n_steps, limit=None):
        self.env, self.n_steps, self.limit = gymnasium.make("CartPole-v1"), n_steps, limit

    def reset(self, seed=None):
        self.time, self.total = 0, 0.0
        return self.env.reset(seed=seed)[0]

    def step(self, action):
        paid = 0.0
        for _ in range(self.n_steps):
            observation, reward, terminated, truncated, _ = self.env.step(int(action))
            paid, self.time = paid + reward, self.time + 1
            if terminated or truncated:
                break
        self.total += paid
        is_cut = not (terminated or truncated) and self.limit is not None and self.time >= self.limit
        return observation, paid, terminated, truncated or is_cut


@pytest.mark.parametrize(
    ("kind", "n_steps", "limit"),
    [
        *[(kind, *case) for kind in ("per env", "builtin") for case in ((3, None), (1, 7), (4, 10))],
        ("local", 4, 10),
    ],
)
def test_a_batch_that_skips_and_is_cut_is_each_environment_by_hand(kind, n_steps, limit):
    rng, n_envs = np.random.default_rng(0), 4
    stack = [StepSkipWrapper(n_steps=n_steps), TimeLimitWrapper(max_episode_steps=limit)]
    env = WrappedVectorEnv(cartpole(n_envs, kind), stack)
    alone = [ByHand(n_steps, limit) for _ in range(n_envs)]
    shown = np.stack([one.reset(seed) for seed, one in enumerate(alone)])
    tick = env.reset(range(n_envs))
    n_ended = 0
    for _ in range(60):
        np.testing.assert_array_equal(tick.observations[0]["observation"], shown)
        assert tick.flat_step.tolist() == [one.time for one in alone]
        actions = rng.integers(0, 2, n_envs)
        tick = env.step({0: {"action": actions}})
        for row, one in enumerate(alone):
            shown[row], paid, terminated, truncated = one.step(actions[row])
            assert (tick.reward[row], tick.terminated[row], tick.truncated[row]) == (
                paid,
                terminated,
                truncated,
            )
            assert tick.final_active[0][row] == (terminated or truncated)
            if terminated or truncated:
                n_ended += 1
                np.testing.assert_array_equal(tick.final_observations[0]["observation"][row], shown[row])
                assert (tick.episode_return[row], tick.episode_length[row]) == (one.total, one.time)
                shown[row] = one.reset()
    env.close()
    assert n_ended > 5


def test_a_row_that_ends_leaves_the_next_episode_alone():
    env = WrappedVectorEnv(number_envs(3), [StepSkipWrapper(n_steps=3)])
    env.reset([0, 0, 0])
    tick = env.step({0: {"action": np.zeros(3, np.int64)}})
    # first episodes of environments 0, 1 and 2 take 3, 4 and 2 steps
    assert tick.truncated.tolist() == [True, False, True]
    assert tick.observations[0]["observation"].tolist() == [[0, 2, 0], [1, 1, 3], [2, 2, 0]]
    assert tick.final_observations[0]["observation"][[0, 2]].tolist() == [[0, 1, 3], [2, 1, 2]]
    assert tick.reward.tolist() == [1, 0, 201]
    assert tick.flat_step.tolist() == [0, 3, 0]


class Heard(gymnasium.Env):
    """Pays what it is given."""

    def __init__(self, space):
        self.observation_space, self.action_space = spaces.Box(-9, 9, (1,)), space

    def reset(self, *, seed=None, options=None):
        super().reset(seed=seed)
        return np.zeros(1, np.float32), {}

    def step(self, action):
        return np.zeros(1, np.float32), float(np.sum(action)), False, False, {}


@pytest.mark.parametrize(
    ("space", "action", "noop"),
    [
        (spaces.Discrete(4, start=-1), 2, -1),
        (spaces.Box(-3, 3, (2,)), [1, 2], 0),
        (spaces.Box(2, 3, (2,)), [3, 3], 4),
        (spaces.MultiDiscrete([3, 3], start=[1, 2]), [3, 4], 3),
        (spaces.MultiBinary(2), [1, 1], 0),
    ],
)
def test_between_decisions_the_action_stays_or_nothing_is_done(space, action, noop):
    for mode, rest in (("sticky", np.sum(action)), ("noop", noop)):
        raw = PerEnvVectorEnv([lambda: GymEnv(Heard(space))])
        env = WrappedVectorEnv(raw, [StepSkipWrapper(n_steps=3, skip_mode=mode)])
        env.reset([0])
        assert env.step({0: {"action": np.array([action])}}).reward[0] == np.sum(action) + 2 * rest


def test_rewards_below_a_skip_are_changed_one_by_one_and_returns_stay_raw():
    env = WrappedVectorEnv(number_envs(3), [RewardScalingWrapper(scale=2.0), StepSkipWrapper(n_steps=3)])
    env.reset([0, 0, 0])
    tick = env.step({0: {"action": np.zeros(3, np.int64)}})
    assert tick.reward.tolist() == [2, 0, 402]
    assert tick.episode_return[[0, 2]].tolist() == [1, 201]


def test_returns_of_a_cut_episode_stay_raw_whatever_stands_below():
    stack = [RewardScalingWrapper(scale=3.0), StepSkipWrapper(n_steps=2), RewardScalingWrapper(scale=5.0)]
    env = WrappedVectorEnv(cartpole(1, "builtin"), [*stack, TimeLimitWrapper(max_episode_steps=4)])
    env.reset([0])
    tick = env.step({0: {"action": np.array([0])}})
    assert (tick.reward[0], tick.truncated[0]) == (30, False)
    tick = env.step({0: {"action": np.array([1])}})
    assert (tick.episode_return[0], tick.episode_length[0], tick.truncated[0]) == (4, 4, True)


def test_a_limit_may_change_and_zero_is_none():
    limit = TimeLimitWrapper(max_episode_steps=0)
    assert limit.max_episode_steps is None
    env = WrappedVectorEnv(cartpole(2, "builtin"), [limit])
    env.reset([0, 1])
    for _ in range(5):
        assert not env.step({0: {"action": np.array([0, 1])}}).truncated.any()
    limit.max_episode_steps = 3
    assert env.step({0: {"action": np.array([1, 0])}}).truncated.all()


def test_a_limit_counts_flat_steps_of_sub_steps():
    env = WrappedVectorEnv(PerEnvVectorEnv([BoxesEnv] * 3), [TimeLimitWrapper(max_episode_steps=2)])
    tick, rng, lengths = env.reset([0, 1, 2]), np.random.default_rng(0), []
    for _ in range(60):
        tick = env.step(random_actions(env, tick, rng))
        lengths += tick.episode_length[tick.ended].tolist()
        assert not tick.terminated.any()
        assert (tick.final_active[0] == tick.truncated).all()
    assert set(lengths) == {2}


@pytest.mark.parametrize(("limit", "acted", "sees"), [(2, 1, 0), (None, 0, 1)])
def test_a_final_observation_is_that_of_the_agent_whose_turn_would_come(limit, acted, sees):
    """Two take turns within a step; the environment itself cuts its episodes after five turns."""
    env = WrappedVectorEnv(
        PerEnvVectorEnv([LimitedTwoAgentsEnv] * 2), [TimeLimitWrapper(max_episode_steps=limit)]
    )
    tick = env.reset([0, 1])
    while not tick.truncated.all():
        actors = tick.agent_id.tolist()
        tick = env.step({0: {"action": np.zeros(2, np.int64)}})
    assert actors == [acted, acted]
    assert tick.final_agent_id.tolist() == [sees, sees]
    assert tick.agent_id.tolist() == [0, 0], "of the next episode"


def test_a_reset_of_one_row_forgets_what_it_was_paid():
    env = WrappedVectorEnv(cartpole(2, "builtin"), [TimeLimitWrapper(max_episode_steps=3)])
    env.reset([0, 1])
    env.step({0: {"action": np.array([0, 1])}})
    tick = env.reset([5, None], np.array([True, False]))
    assert tick.flat_step.tolist() == [0, 1]
    env.step({0: {"action": np.array([0, 1])}})
    tick = env.step({0: {"action": np.array([0, 1])}})
    assert tick.truncated.tolist() == [False, True]
    assert tick.episode_return[1] == 3
    tick = env.step({0: {"action": np.array([0, 1])}})
    assert tick.truncated.tolist() == [True, False]
    assert tick.episode_return[0] == 3


@pytest.mark.parametrize("kind", ["per env", "builtin"])
def test_random_steps_come_first_pay_nothing_and_follow_from_the_seed_alone(kind):
    def played(n_envs, rows):
        stack = [RandomResetWrapper(min_initial_steps=1, max_initial_steps=9)]
        env = WrappedVectorEnv(cartpole(n_envs, kind), stack)
        tick = env.reset(list(rows))
        found = [tick.observations[0]["observation"].copy()]
        assert tick.flat_step.tolist() == [0] * n_envs
        ends = {row: [] for row in rows}
        for step in range(80):
            tick = env.step({0: {"action": np.full(n_envs, step % 2)}})
            found.append(tick.observations[0]["observation"].copy())
            for at, row in enumerate(rows):
                if tick.ended[at]:
                    ends[row].append((tick.episode_return[at], tick.episode_length[at]))
                    assert tick.episode_return[at] == tick.episode_length[at] > 0
                    assert tick.flat_step[at] == 0
        return np.stack(found, 1), ends

    together, ends = played(3, [4, 5, 6])
    alone, own = played(1, [5])
    np.testing.assert_array_equal(together[1], alone[0])
    assert ends[5] == own[5] != []
    starts = together[:, 0]
    assert np.abs(starts).max() > 0.05, "a reset alone begins nearer to 0"
    assert len(np.unique(starts, axis=0)) == 3


def test_random_steps_honour_masks_and_go_on_after_an_end():
    env = WrappedVectorEnv(
        PerEnvVectorEnv([lambda: BoxesEnv(2)] * 4),
        [RandomResetWrapper(min_initial_steps=5, max_initial_steps=30)],
    )
    tick, rng = env.reset([0, 1, 2, 3]), np.random.default_rng(0)
    for _ in range(40):
        assert sum(int(active.sum()) for active in tick.active.values()) == 4
        tick = env.step(random_actions(env, tick, rng))
        assert (tick.episode_length[tick.ended] <= 2).all()


@pytest.mark.parametrize(
    ("space", "mask", "expected"),
    [
        (spaces.Discrete(4, start=3), [0, 0, 1, 0], [5]),
        (spaces.MultiDiscrete([2, 3]), [0, 1, 0, 0, 1], [1, 2]),
        (spaces.MultiBinary(3), [0, 0, 0], [0, 0, 0]),
    ],
)
def test_a_random_action_is_one_that_its_mask_allows(space, mask, expected):
    class Masked(Heard):
        def __init__(self):
            super().__init__(spaces.Dict(go=space))
            self.observation_space = spaces.Dict(go_mask=spaces.MultiBinary(len(mask)))

        def reset(self, *, seed=None, options=None):
            gymnasium.Env.reset(self, seed=seed)
            return {"go_mask": np.int8(mask)}, {}

        def step(self, action):
            assert np.ravel(action["go"]).tolist() == expected
            return {"go_mask": np.int8(mask)}, 0.0, False, False, {}

    env = WrappedVectorEnv(
        PerEnvVectorEnv([lambda: GymEnv(Masked())]), [RandomResetWrapper(min_initial_steps=8)]
    )
    env.reset([1])


def test_what_cannot_stand_together_is_refused_with_the_way_out():
    for below in (LogStatsWrapper(), ObservationClippingWrapper()):
        with pytest.raises(
            EnvError, match=f"{type(below).__name__} stands below StepSkipWrapper.*put it above"
        ):
            WrappedVectorEnv(number_envs(), [below, StepSkipWrapper()])
    with pytest.raises(EnvError, match="one sub-step and one agent"):
        WrappedVectorEnv(PerEnvVectorEnv([BoxesEnv]), [StepSkipWrapper()])
    with pytest.raises(ValueError, match="must not be above"):
        RandomResetWrapper(min_initial_steps=9)
    with pytest.raises(InvalidSpecificationError, match="less than or equal to 10000"):
        RandomResetWrapper(max_initial_steps=10_001)

    class PaysEach(BoxesEnv):
        rewards = "per_actor"

        def outcomes(self):
            return None

    with pytest.raises(EnvError, match=r"^TimeLimitWrapper steps.*pays each actor its own"):
        WrappedVectorEnv(PerEnvVectorEnv([PaysEach]), [TimeLimitWrapper()])


def test_batches_that_cannot_step_single_rows_say_so():
    autoreset = {"autoreset_mode": AutoresetMode.SAME_STEP}
    raw = gymnasium.make_vec("CartPole-v1", 3, vectorization_mode="sync", vector_kwargs=autoreset)
    env = WrappedVectorEnv(
        NativeVectorEnv(raw, 3), [RandomResetWrapper(min_initial_steps=1, max_initial_steps=3)]
    )
    with pytest.raises(EnvError, match="only all together"):
        env.reset([0, 1, 2])
    env.close()


@pytest.mark.parametrize(
    "make",
    [lambda: PerEnvVectorEnv([BoxesEnv] * 3), lambda: SubprocVectorEnv([make_boxes] * 3, n_processes=2)],
)
def test_rows_that_rest_keep_what_they_show(make):
    env, rng = make(), np.random.default_rng(0)
    tick = env.reset([0, 1, 2])
    for _ in range(20):
        rows = np.array([True, False, rng.random() < 0.5])
        before = {
            key: {name: values[1].copy() for name, values in batch.items()}
            for key, batch in tick.observations.items()
        }
        active, time = {key: bool(flags[1]) for key, flags in tick.active.items()}, int(tick.flat_step[1])
        tick = env.step_rows(random_actions(env, tick, rng), rows)
        assert tick.reward[~rows].tolist() == [0] * int((~rows).sum())
        assert not tick.ended[~rows].any()
        assert {key: bool(flags[1]) for key, flags in tick.active.items()} == active
        assert int(tick.flat_step[1]) == time
        for key, batch in before.items():
            for name, values in batch.items():
                np.testing.assert_array_equal(tick.observations[key][name][1], values)
    env.close()


def test_an_agent_behind_them_is_served_and_its_environments_take_the_same_steps():
    stack = [StepSkipWrapper(n_steps=2), TimeLimitWrapper(max_episode_steps=6), RandomResetWrapper()]
    assert acting_wrappers(stack) == stack
    assert why_not_servable(stack) is None
    wrappers = {
        "maze.core.wrappers.step_skip_wrapper.StepSkipWrapper": {"n_steps": 2, "skip_mode": "sticky"},
        "maze.core.wrappers.time_limit_wrapper.TimeLimitWrapper": {"max_episode_steps": 6},
    }
    check_arguments({"wrappers": wrappers}, trust_policy())
    overrides = {"algorithm.total_env_steps": 1, "algorithm.epoch_length": 1, "algorithm.n_rollout_steps": 8}
    with RunContext(wrappers=wrappers, overrides=overrides, seed=1, silent=True) as rc:
        rc.train()
        report = rc.evaluate(n_episodes=2)
        assert report.lengths == [6, 6]
        assert report.returns == [6.0, 6.0]
        (episode,) = rc.rollout(n_episodes=1, record=True).episodes
        assert episode.trajectory.rewards.tolist() == [2.0, 2.0, 2.0]
        assert rc.replay(episode).is_equal
        env = rc.env_factory()
        observation = env.reset(seed=1)
        rewards = []
        for _ in range(3):
            observation, reward, done, _ = env.step(rc.compute_action(observation))
            rewards.append(reward)
        assert (rewards, done) == ([2.0, 2.0, 2.0], True)
        evaluator = RolloutEvaluator(eval_env=rc.env_factory(), n_episodes=1, model_selection=None)
        assert evaluator.evaluate(rc.policy).lengths == [6]
        raw = RolloutEvaluator(eval_env=GymMazeEnv("CartPole-v1"), n_episodes=1, model_selection=None)
        assert raw.evaluate(rc.policy).lengths == [6]


@pytest.mark.parametrize(("setting", "value"), [("n_steps", 0), ("skip_mode", "sleep")])
def test_a_skip_that_is_none_is_refused(setting, value):
    with pytest.raises(InvalidSpecificationError, match=setting):
        compose_run(wrappers={"maze_core.StepSkipWrapper": {setting: value}})
