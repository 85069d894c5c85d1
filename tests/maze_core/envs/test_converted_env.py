from typing import Any

import numpy as np
import pytest

from maze_core import RunContext
from maze_core.envs.converted_env import ConvertedEnv
from maze_core.envs.maze_env import MazeEnv
from maze_core.envs.per_env import PerEnvVectorEnv
from maze_core.envs.subproc import SubprocVectorEnv
from maze_core.envs.vector import VectorEnv
from maze_core.envs.wrappers import RandomResetWrapper, TimeLimitWrapper, WrappedVectorEnv
from maze_core.errors import EnvError
from maze_core.events.built_in import RewardEvents
from maze_core.types import ActorID
from tests.maze_core.envs.shop import Colour, Price, Seen, Shop, make_shop

CHEAP = ({"colour": 1}, {"price": 1})


def a_shop() -> ConvertedEnv:
    env = make_shop().structured()
    assert isinstance(env, ConvertedEnv)
    return env


def play_a_day(env: MazeEnv, colour: int = 1, price: int = 1) -> Any:
    env.step({"colour": colour})
    return env.step({"price": price})


def test_a_core_env_with_conversions_is_reset_and_stepped_in_its_sub_steps() -> None:
    env = make_shop()
    env.reset(seed=1)
    assert env.actor_id() == (0, 0)
    env.step({"colour": 1})
    assert env.actor_id() == (1, 0)
    assert env.get_maze_state() == (0, "blue")
    assert env.get_maze_action() == "blue"
    _, reward, done, info = env.step({"price": 1})
    assert (reward, done, info["day"]) == (1.0, False, 1)


def test_the_end_of_an_episode_tells_indicators_and_statistics() -> None:
    env = make_shop()
    env.reset(seed=1)
    for _ in range(4):
        play_a_day(env)
    *_, done, info = play_a_day(env)
    assert done
    assert info["terminated"]
    assert env.get_kpis() == {"customers": 5.0, "last_day": 4.0}
    assert env.get_stats()["ShopEvents/sold/sum"] == 5.0
    assert env.get_stats()["RewardEvents/reward_original/total"] == 5.0
    assert env.get_stats()["RewardEvents/reward_original/steps"] == 5.0


def test_a_done_that_a_limit_gave_is_truncated() -> None:
    class Cut(Shop):
        def step(self, maze_action: Any) -> Any:
            *rest, info = super().step(maze_action)
            return *rest, info | {"TimeLimit.truncated": True}

    env = make_shop(Cut())
    env.reset(seed=1)
    for _ in range(4):
        play_a_day(env)
    *_, info = play_a_day(env)
    assert info["TimeLimit.truncated"]
    assert not info["terminated"]


def test_a_core_env_may_count_its_time_itself() -> None:
    class Clock(Shop):
        def step(self, maze_action: Any) -> Any:
            if self.colour is None:
                self.context.increment_env_step()
            return super().step(maze_action)

    env = make_shop(Clock()).structured()
    env.reset(seed=1)
    env.step(CHEAP[0])
    assert env.is_flat_step_done()
    env.step(CHEAP[1])
    assert not env.is_flat_step_done()


def test_a_clone_goes_on_as_its_original() -> None:
    env, other = make_shop(), make_shop()
    env.reset(seed=3)
    other.reset(seed=4)
    play_a_day(env)
    other.clone_from(env)
    assert other.get_maze_state() == env.get_maze_state()
    days = [(play_a_day(env, price=4), play_a_day(other, price=4)) for _ in range(4)]
    assert [one[1] for one, _ in days] == [two[1] for _, two in days]


def test_what_does_not_fit_is_refused_with_what_is_there() -> None:
    class NoContext(Shop):
        def __init__(self) -> None:
            pass

    class Elsewhere(Shop):
        def actor_id(self) -> Any:
            return ("cellar", 0)

    with pytest.raises(EnvError, match=r"call super\(\).__init__\(\)"):
        make_shop(NoContext())
    with pytest.raises(EnvError, match="same keys in the same order"):
        MazeEnv(Shop(), {0: Colour(), 1: Price()}, {1: Seen(), 0: Seen()})
    with pytest.raises(EnvError, match="made of core_env, a CoreEnv"):
        MazeEnv(Shop())
    with pytest.raises(EnvError, match=r"sub-step 'cellar'; there are conversions for 0, 1"):
        make_shop(Elsewhere()).reset()


def test_a_step_that_gives_something_else_is_refused() -> None:
    class Three(Shop):
        def step(self, maze_action: Any) -> Any:
            return None, 0.0, False

    env = make_shop(Three())
    env.reset(seed=1)
    with pytest.raises(EnvError, match="of the core environment gave 3 values"):
        env.step({"colour": 1})


def test_closing_the_environment_closes_its_core() -> None:
    core = Shop()
    make_shop(core).close()
    assert core.is_closed


def test_only_episodes_that_ended_are_told_and_each_once() -> None:
    env = PerEnvVectorEnv([a_shop] * 2)
    env.reset([1, 2])
    for _ in range(5):
        assert env.take_ended() == []
        env.step({0: {"colour": np.array([0, 1])}})
        env.step({1: {"price": np.array([1, 1])}})
    (first, values), (second, _) = env.take_ended()
    assert (first, second) == (0, 1)
    assert {key.name: value for key, value in values.items()}["ShopEvents/sold/most/red"] == 1.0
    assert env.take_ended() == []


def test_statistics_of_processes_are_those_of_this_one() -> None:
    def played(env: Any) -> list[Any]:
        env.reset([1, 2, 3])
        for colour in (0, 1, 1, 0, 1, 0, 0):
            env.step({0: {"colour": np.array([colour] * 3)}})
            env.step({1: {"price": np.array([2, 3, 4])}})
        return [*env.take_ended(), *(env.episode_values(row) for row in range(3))]

    here = played(PerEnvVectorEnv([a_shop] * 3))
    elsewhere = SubprocVectorEnv([a_shop] * 3, n_processes=2)
    try:
        assert elsewhere.event_interfaces[1] is RewardEvents
        there = played(elsewhere)
    finally:
        elsewhere.close()
    assert len(here) == 6
    assert there == here


OVERRIDES = {
    "runner.n_envs": 3,
    "algorithm.n_epochs": 3,
    "algorithm.epoch_length": 2,
    "algorithm.n_rollout_steps": 32,
    "algorithm.checkpoint_every": 1,
    "algorithm.rollout_evaluator.n_episodes": 4,
    "algorithm.rollout_evaluator.max_episode_steps": 3,
}


def shop_context(**given: Any) -> RunContext:
    return RunContext(env=make_shop, silent=True, seed=5, overrides=OVERRIDES, **given)


def numbers(rc: RunContext) -> list[dict[str, float]]:
    return [{k: v for k, v in row.items() if not k.startswith("time/")} for row in rc.metrics]


def test_training_reports_events_alike_in_this_process_and_in_others_and_resumed(tmp_path: Any) -> None:
    with shop_context(run_dir=tmp_path / "dev") as rc:
        rc.train()
        rows = numbers(rc)
    assert [row["train/RewardEvents/reward_original/total_step_count"] for row in rows] == [90, 180, 270]
    assert rows[0]["eval/RewardEvents/reward_original/mean_step_count"] == 3  # cut by the evaluation's limit
    assert rows[0]["train/BaseEnvEvents/kpi/mean/customers"] > 1
    with shop_context(run_dir=tmp_path / "local", runner="local") as rc:
        rc.train()
        assert numbers(rc) == rows
    with shop_context(run_dir=tmp_path / "twice") as rc:
        rc.train(1)
    with RunContext.load(tmp_path / "twice", env=make_shop) as rc:
        rc.train()
        assert numbers(rc) == rows


def test_every_algorithm_that_plays_reports_events(tmp_path: Any) -> None:
    settings = {
        "algorithm.n_epochs": 1,
        "algorithm.epoch_length": 2,
        "algorithm.rollout_evaluator.n_episodes": 2,
    }
    for algorithm in ("a2c", "impala", "es"):
        with RunContext(
            env=make_shop,
            algorithm=algorithm,
            silent=True,
            seed=1,
            overrides=settings,
            run_dir=tmp_path / algorithm,
        ) as rc:
            rc.train()
            assert rc.metrics[0]["train/ShopEvents/sold/mean_price"] > 0, algorithm


def test_a_rollout_tells_the_statistics_of_each_episode_and_of_all() -> None:
    with RunContext(env=make_shop, policy="random_policy", silent=True, seed=5) as rc:
        report = rc.rollout(n_episodes=5)
    alone = report.episodes[3]
    assert report.summary.statistics["BaseEnvEvents/kpi/mean/customers"] == np.mean(
        [episode.statistics["BaseEnvEvents/kpi/customers"] for episode in report.episodes]
    )
    assert alone.statistics["RewardEvents/reward_original/total"] == alone.episode_return
    assert report.to_dict()["statistics"] == report.summary.statistics


def test_the_maze_state_and_the_environment_may_be_given_for_an_action() -> None:
    with shop_context() as rc:
        env = rc.env_factory()
        observation = env.reset(seed=1)
        for actor in (0, 1):
            action = rc.compute_action(observation, maze_state=env.get_maze_state(), env=env)
            assert set(action) == {["colour", "price"][actor]}
            observation, *_ = env.step(action)


class Pair(Shop):
    """Each sub-step is an agent's; both are paid at the end of the day, and the first one leaves after three."""

    rewards = "per_actor"

    def step(self, maze_action: Any) -> Any:
        is_first = self.colour is None
        state, _, done, info = super().step(maze_action)
        self.is_first = is_first
        return state, 0.0 if is_first else np.array([10.0, float(self.day)]), done, info

    def is_actor_done(self) -> bool:
        return not self.is_first and self.day == 3


def test_rewards_of_actors_go_to_those_who_acted_in_their_order() -> None:
    env = make_shop(Pair()).structured()
    assert env.rewards == "per_actor"
    env.reset(seed=1)
    env.step(CHEAP[0])
    assert env.outcomes() == [(ActorID(0, 0), 0.0, False, False, None)]
    _, reward, *_ = env.step(CHEAP[1])
    assert reward == 11.0
    assert env.outcomes() == [
        (ActorID(0, 0), 10.0, False, False, None),
        (ActorID(1, 0), 1.0, False, False, None),
    ]
    for _ in range(2):
        env.step(CHEAP[0])
        env.step(CHEAP[1])
    assert [outcome.terminated for outcome in env.outcomes() or ()] == [False, True]


def test_as_many_rewards_as_actors_acted() -> None:
    class Three(Pair):
        def step(self, maze_action: Any) -> Any:
            state, _, done, info = super().step(maze_action)
            return state, np.zeros(3), done, info

    env = make_shop(Three())
    env.reset(seed=1)
    with pytest.raises(EnvError, match=r"has 3 numbers, but 1 actors acted .* \(0, 0\)"):
        env.step({"colour": 1})


def test_a_team_of_actors_that_are_paid_each_trains(tmp_path: Any) -> None:
    with RunContext(env=make_pair, silent=True, seed=5, overrides=OVERRIDES, run_dir=tmp_path / "run") as rc:
        rc.train()
        row = rc.metrics[0]
    assert row["eval/mean_return/0/0"] == 30.0  # three days, as the evaluation is cut
    assert row["eval/mean_return/1/0"] == 1.0 + 2.0 + 3.0


def make_pair() -> MazeEnv:
    return make_shop(Pair())


def batches() -> Any:
    """The same environments here and in processes, closed at the end."""
    yield PerEnvVectorEnv([a_shop] * 3)
    yield SubprocVectorEnv([a_shop] * 3, n_processes=2)


def act_in_shops(env: VectorEnv) -> Any:
    env.step({0: {"colour": np.array([0, 1, 1])}})
    return env.step({1: {"price": np.array([1, 1, 1])}})  # sells always, for 1


def test_an_episode_that_is_cut_from_outside_has_its_indicators_here_and_in_processes() -> None:
    for batch in batches():
        env = WrappedVectorEnv(batch, [TimeLimitWrapper(max_episode_steps=3)])
        env.reset([1, 2, 3])
        for _ in range(2):
            act_in_shops(env)
        assert act_in_shops(env).truncated.all()
        ended = env.take_ended()
        assert [row for row, _ in ended] == [0, 1, 2]
        for _, values in ended:
            named = {key.name: value for key, value in values.items()}
            assert named["BaseEnvEvents/kpi/customers"] == 3
            assert named["BaseEnvEvents/kpi/last_day"] == 2
            assert named["RewardEvents/reward_original/total"] == 3
        env.close()
    with shop_context() as rc:
        cut = rc.evaluate(n_episodes=2, max_episode_steps=2, seed=1)
        assert cut.lengths == [2, 2]
        assert "BaseEnvEvents/kpi/mean/customers" in cut.statistics


def test_a_training_counts_the_episodes_that_its_wrappers_cut(tmp_path: Any) -> None:
    wrappers = {
        "maze_core.RandomResetWrapper": {"min_initial_steps": 1, "max_initial_steps": 1},
        "maze_core.TimeLimitWrapper": {"max_episode_steps": 3},
    }
    with shop_context(run_dir=tmp_path / "run", wrappers=wrappers) as rc:
        rc.train(1)
        row = rc.metrics[0]
    assert row["train/RewardEvents/reward_original/mean"] == row["train/episode_return"]
    assert row["train/BaseEnvEvents/kpi/max/last_day"] <= 3


def test_random_steps_before_an_episode_are_in_none_of_its_statistics() -> None:
    told = []
    for batch in batches():
        env = WrappedVectorEnv(batch, [RandomResetWrapper(min_initial_steps=4, max_initial_steps=14)])
        env.reset([1, 2, 3])
        assert env.take_ended() == []
        ended, returns = [], []
        actions = {0: {"colour": np.array([0, 1, 1])}, 1: {"price": np.array([1, 1, 1])}}
        for _ in range(40):
            tick = env.step(actions)
            returns += tick.episode_return[tick.ended].tolist()
            ended += [{key.name: value for key, value in values.items()} for _, values in env.take_ended()]
        env.close()
        assert [one["RewardEvents/reward_original/total"] for one in ended] == returns
        assert [one["BaseEnvEvents/kpi/customers"] for one in ended] == returns
        told.append(ended)
    assert told[0] == told[1] != []
