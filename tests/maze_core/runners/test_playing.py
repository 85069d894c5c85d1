"""What plays in a rollout: a trained agent in an environment that it fits, a random one, or an object of the user's."""

import gymnasium
import numpy as np
import pytest
from gymnasium import spaces

from maze_core import RunContext, load_agent
from maze_core.config import compose_run
from maze_core.envs.gym_env import GymMazeEnv
from maze_core.errors import InvalidSpecificationError, SpaceMismatchError
from maze_core.runners.config import rollout_tree
from maze_core.runners.evaluation import policy_agent, run_rollout
from tests.maze_core.rollout.test_user_policy import PushRight, TakesTheObservationAlone
from tests.maze_core.runners.test_training import config_of, train

N_EPISODES = 3


def playing(policy="random_policy", env="CartPole-v1", **arguments):
    overrides = {"runner.n_episodes": N_EPISODES, "runner.record_trajectory": False, "runner.n_envs": 2}
    return compose_run(
        "rollout", env={"name": env}, policy=policy, overrides=overrides, **{"seed": 1, **arguments}
    )


def returns(config, agent=None):
    return run_rollout(config, agent=agent).summary.returns


@pytest.fixture(scope="module")
def agent():
    _, kept = train(config_of(algorithm__n_epochs=2))
    return load_agent(kept.checkpoints["scheduled", 2])


@pytest.mark.parametrize(
    ("env", "message"),
    [
        ("Pendulum-v1", r"Box\(3,\) of floats here and Box\(4,\) of floats in training"),
        ("Acrobot-v1", r"Discrete\(3\) here and Discrete\(2\) in training"),
    ],
)
def test_an_agent_does_not_play_in_an_environment_of_other_spaces(agent, env, message):
    with pytest.raises(InvalidSpecificationError, match=message) as caught:
        run_rollout(playing(env=env), agent=agent)
    assert caught.value.problems[0].path == "env"


def test_a_refused_environment_leaves_the_agent_as_it_was(agent):
    before = returns(playing(), agent)
    with pytest.raises(InvalidSpecificationError):
        run_rollout(playing(env="Acrobot-v1"), agent=agent)
    assert returns(playing(), agent) == before


def test_an_agent_plays_with_other_bounds(agent):
    assert len(returns(playing(env="CartPole-v0"), agent)) == N_EPISODES


@pytest.mark.parametrize("runner", ["sequential", "parallel"])
def test_a_random_policy_plays_the_same_whether_what_it_ignores_is_normalised_or_not(runner):
    bare, wrapped = (returns(playing(runner=runner, wrappers=wrappers)) for wrappers in (None, "vector_obs"))
    assert bare == wrapped


def test_a_random_policy_acts_on_observations_that_have_no_statistics():
    assert policy_agent(playing(wrappers="vector_obs")).compute_action([0.0] * 4)["action"] in (0, 1)


def test_a_policy_that_sees_is_not_shown_what_a_wrapper_without_statistics_leaves_raw():
    for play in (lambda config: run_rollout(config, agent=None), policy_agent):
        with pytest.raises(
            InvalidSpecificationError, match="wrappers: ObservationNormalizationWrapper has no statistics"
        ):
            play(playing(policy=PushRight(), wrappers="vector_obs"))


def test_an_object_with_act_plays_and_acts():
    policy = PushRight()
    assert all(8 <= value <= 11 for value in returns(playing(policy=policy)))
    acting = policy_agent(playing(policy=policy))
    assert acting.compute_action([0.0] * 4) == {"action": 1}
    assert acting.compute_action([0.0] * 4, deterministic=False) == {"action": 1}


def test_a_context_plays_with_an_object_with_act():
    with RunContext(policy=PushRight(), env=lambda: GymMazeEnv("CartPole-v1"), seed=1) as context:
        assert context.rollout(2, deterministic=False).summary.returns == context.evaluate(2).returns
        assert context.compute_action(np.zeros(4)) == {"action": 1}


def test_an_act_of_another_signature_is_refused_before_anything_is_played():
    with pytest.raises(InvalidSpecificationError, match=r"policy: .* cannot be called as act"):
        run_rollout(playing(policy=TakesTheObservationAlone()), agent=None)


def test_what_an_object_gives_is_checked_in_a_rollout():
    class PushFar(PushRight):
        def act(self, *arguments, **named):
            return {"action": super().act(*arguments, **named)["action"] + 1}

    with pytest.raises(SpaceMismatchError, match="gave 2"):
        run_rollout(playing(policy=PushFar()), agent=None)


class EndlessEnv(gymnasium.Env):
    """Has no end of its own, as CliffWalking-v1 has none for a policy that stands still."""

    observation_space = spaces.Box(0, 1, (1,), np.float32)
    action_space = spaces.Discrete(2)

    def reset(self, *, seed=None, options=None):
        return np.zeros(1, np.float32), {}

    def step(self, action):
        return np.zeros(1, np.float32), 1.0, False, False, {}


@pytest.mark.parametrize("verb", ["evaluate", "rollout"])
def test_an_episode_without_an_end_is_cut_where_the_evaluation_of_its_training_cuts_it(verb, tmp_path):
    limit = {"algorithm.rollout_evaluator.max_episode_steps": 7, "runner.n_envs": 2}
    with RunContext(tmp_path / "run", env=EndlessEnv, seed=1, overrides=limit) as rc:
        for given, length in (({}, 7), ({"max_episode_steps": 5}, 5)):
            report = getattr(rc, verb)(n_episodes=3, **given)
            summary = report if verb == "evaluate" else report.summary
            assert (summary.lengths, report.truncated_by_limit) == ([length] * 3, 3)
            assert report.to_dict()["truncated_by_limit"] == 3
        rc.train(1)
        assert rc.evaluate(n_episodes=2).lengths == [7, 7]


def test_a_policy_without_training_has_a_step_limit_and_the_environments_own_is_not_counted():
    with RunContext(policy="random_policy", env=EndlessEnv, seed=1) as rc:
        report = rc.rollout(n_episodes=2)
        assert (report.summary.lengths, report.truncated_by_limit) == ([10_000, 10_000], 2)
    with RunContext(
        policy="random_policy", env="gym_env", overrides={"env.max_episode_steps": 3}, seed=1
    ) as rc:
        report = rc.rollout(n_episodes=2)
        assert (report.summary.lengths, report.truncated_by_limit) == ([3, 3], 0)
        assert rollout_tree(rc.config, max_episode_steps=0)["runner"]["max_episode_steps"] is None
