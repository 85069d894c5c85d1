"""RolloutEvaluator: the policy gets what it was trained on, calls play the same episodes, statistics are filled."""

import gymnasium
import pytest
from gymnasium import spaces

from maze_core import (
    GymMazeEnv,
    InvalidSpecificationError,
    LogStatsWrapper,
    RolloutEvaluator,
    RunContext,
)
from maze_core.envs.gym_env import GymEnv, make_gym
from maze_core.envs.per_env import PerEnvVectorEnv
from maze_core.envs.wrappers import ObservationClippingWrapper

QUICK = {
    "algorithm.n_epochs": 1,
    "algorithm.epoch_length": 1,
    "algorithm.n_rollout_steps": 16,
    "algorithm.rollout_evaluator.n_episodes": 1,
    "runner.normalization_samples": 64,
}


def watched(env) -> tuple[object, LogStatsWrapper]:
    wrapped = LogStatsWrapper.wrap(env, logging_prefix="eval")
    (statistics,) = wrapped.vector_env.wrappers
    return wrapped, statistics


@pytest.fixture(scope="module")
def trained(tmp_path_factory):
    """Trained with observations normalised, so that raw ones would give another policy."""
    run_dir = tmp_path_factory.mktemp("run")
    with RunContext(run_dir=run_dir, wrappers="vector_obs", overrides=QUICK, seed=1) as context:
        context.train()
        yield context


def by_hand(context: RunContext, seeds: list[int]) -> list[float]:
    """Returns of these episodes, played with compute_action on raw observations."""
    env, returns = GymMazeEnv("CartPole-v0"), []
    for seed in seeds:
        observation, total, done = env.reset(seed=seed), 0.0, False
        while not done:
            observation, reward, done, _ = env.step(context.compute_action(observation))
            total += reward
        returns.append(total)
    env.close()
    return returns


def test_a_raw_environment_is_seen_through_the_trained_wrappers(trained) -> None:
    env, _ = watched(GymMazeEnv("CartPole-v0"))
    report = RolloutEvaluator(eval_env=env, n_episodes=3, model_selection=None).evaluate(trained.policy)
    assert report.returns == by_hand(trained, report.seeds)


def test_a_processed_environment_is_not_processed_again(trained) -> None:
    raw, _ = watched(GymMazeEnv("CartPole-v0"))
    processed, _ = watched(trained.env_factory(processed=True))
    reports = [RolloutEvaluator(env, 3, seed=5).evaluate(trained.policy) for env in (raw, processed)]
    assert reports[0].to_dict() == reports[1].to_dict()


def test_the_environment_of_the_factory_is_judged_like_any_other(trained) -> None:
    ours, theirs = trained.env_factory(), GymMazeEnv("CartPole-v0")
    reports = [RolloutEvaluator(env, 3, seed=5).evaluate(trained.policy) for env in (ours, theirs)]
    assert reports[0].to_dict() == reports[1].to_dict()


def test_it_is_used_again_and_again_with_the_same_episodes(trained) -> None:
    env, statistics = watched(GymMazeEnv("CartPole-v0"))
    evaluator = RolloutEvaluator(env, n_episodes=2)
    first = evaluator.evaluate(trained.policy)
    gathered = statistics.metrics()
    assert gathered["eval/episode_return/count"] == 2
    assert gathered["eval/episode_return/mean"] == first.mean_return
    assert gathered["eval/episode_length/max"] == max(first.lengths)
    assert evaluator.evaluate(trained).to_dict() == first.to_dict()
    assert statistics.metrics() == gathered


def test_an_episode_that_the_caller_began_is_not_carried_over(trained) -> None:
    env, statistics = watched(GymMazeEnv("CartPole-v0"))
    expected = RolloutEvaluator(env, n_episodes=2, seed=3).evaluate(trained.policy)
    env.reset()
    env.step({"action": 1})
    assert (
        RolloutEvaluator(env, n_episodes=2, seed=3).evaluate(trained.policy).to_dict() == expected.to_dict()
    )
    assert statistics.metrics()["eval/episode_return/count"] == 4


def test_a_seed_fixes_the_episodes_and_the_samples(trained) -> None:
    env = GymMazeEnv("CartPole-v0")
    reports = [
        RolloutEvaluator(env, 3, deterministic=False, seed=s).evaluate(trained.policy) for s in (1, 1, 2)
    ]
    assert reports[0].to_dict() == reports[1].to_dict()
    assert reports[0].seeds != reports[2].seeds


def test_several_environments_give_the_returns_of_one(trained) -> None:
    one = GymMazeEnv("CartPole-v0")
    several = PerEnvVectorEnv([lambda: GymEnv(make_gym("CartPole-v0"))] * 3)
    reports = [RolloutEvaluator(env, 5, seed=1).evaluate(trained.policy) for env in (one, several)]
    assert reports[0].to_dict() == reports[1].to_dict()


def test_a_limit_cuts_the_episodes(trained) -> None:
    evaluator = RolloutEvaluator(GymMazeEnv("CartPole-v0"), 2, max_episode_steps=3)
    assert evaluator.evaluate(trained.policy).lengths == [3, 3]


def test_model_selection_hears_of_each_evaluation_once(trained) -> None:
    class Selection:
        heard: list[float] = []  # noqa: RUF012

        def update(self, mean_return: float) -> None:
            self.heard.append(mean_return)

    called: list[float] = []
    env = GymMazeEnv("CartPole-v0")
    report = RolloutEvaluator(env, 2, Selection(), seed=1).evaluate(trained.policy)
    RolloutEvaluator(env, 2, called.append, seed=1).evaluate(trained.policy)
    assert Selection.heard == called == [report.mean_return]


def test_a_policy_in_training_is_judged_too(trained) -> None:
    policy = trained._held._open_training().world.parts.policy
    processed = trained.env_factory(processed=True)
    assert len(RolloutEvaluator(processed, 2).evaluate(policy).returns) == 2


def test_it_prints_nothing(trained, capfd) -> None:
    RolloutEvaluator(GymMazeEnv("CartPole-v0"), 1).evaluate(trained.policy)
    assert capfd.readouterr() == ("", "")


def test_what_does_not_fit_is_refused(trained) -> None:
    with pytest.raises(InvalidSpecificationError, match="takes a MazeEnv"):
        RolloutEvaluator("CartPole-v0", 1)  # type: ignore[arg-type]
    with pytest.raises(InvalidSpecificationError, match="n_episodes"):
        RolloutEvaluator(GymMazeEnv("CartPole-v0"), 0)
    with pytest.raises(InvalidSpecificationError, match="takes an agent"):
        RolloutEvaluator(GymMazeEnv("CartPole-v0"), 1).evaluate(3)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"seed": -1}, r"seed: -1 is outside"),
        ({"seed": 2**32}, r"seed: .* is outside"),
        ({"seed": 1.5}, r"seed: 1.5 is not a whole number"),
        ({"model_selection": 3}, r"model_selection: takes an object with update\(mean_return\)"),
        ({"deterministic": "x"}, r"deterministic: takes True or False, not 'x'"),
        ({"max_episode_steps": -1}, r"max_episode_steps: -1 is not a whole number"),
    ],
)
def test_a_wrong_argument_is_refused_by_name_when_it_is_given(arguments, message) -> None:
    with pytest.raises(InvalidSpecificationError, match=message):
        RolloutEvaluator(GymMazeEnv("CartPole-v0"), 1, **arguments)


def test_every_wrong_argument_is_named_at_once() -> None:
    with pytest.raises(InvalidSpecificationError) as caught:
        RolloutEvaluator(GymMazeEnv("CartPole-v0"), 0, 3, "x", seed=-1)  # type: ignore[arg-type]
    assert {problem.path for problem in caught.value.problems} == {
        "n_episodes",
        "model_selection",
        "deterministic",
        "seed",
    }


def test_a_limit_of_zero_is_no_limit(trained) -> None:
    reports = [
        RolloutEvaluator(GymMazeEnv("CartPole-v0"), 2, seed=1, max_episode_steps=limit).evaluate(
            trained.policy
        )
        for limit in (0, None)
    ]
    assert reports[0].to_dict() == reports[1].to_dict()


class MoreActionsEnv(gymnasium.Wrapper):
    """CartPole with three actions more: its observations are CartPole's."""

    def __init__(self) -> None:
        super().__init__(make_gym("CartPole-v0"))
        self.action_space = spaces.Discrete(5)


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: GymMazeEnv("Acrobot-v1"), r"Box\(6,\) of floats here and Box\(4,\) of floats in training"),
        (lambda: GymMazeEnv(MoreActionsEnv), r"Discrete\(5\) here and Discrete\(2\) in training"),
        (
            lambda: ObservationClippingWrapper.wrap(GymMazeEnv("Acrobot-v1")),
            r"Box\(6,\) of floats here and Box\(4,\) of floats in training",
        ),
    ],
    ids=["other observations", "other actions", "processed"],
)
def test_an_environment_of_other_spaces_is_refused_with_both(trained, make, message) -> None:
    with pytest.raises(InvalidSpecificationError, match=f"eval_env: .*{message}"):
        RolloutEvaluator(make(), 1).evaluate(trained.policy)


def test_an_object_with_act_is_judged() -> None:
    class PushRight:
        def act(self, step_key, observations, **_):
            return {"action": [1] * len(observations["observation"])}

    report = RolloutEvaluator(GymMazeEnv("CartPole-v0"), 2, deterministic=False, seed=1).evaluate(PushRight())
    assert all(8 <= length <= 11 for length in report.lengths)
