"""In a loop of the caller's the policy does what it does in a rollout, and counts what it is paid."""

from fractions import Fraction

import gymnasium
import numpy as np
import pytest

from maze_core import AgentDeployment, InvalidSpecificationError, RunContext
from maze_core.errors import ContextClosedError, NotServableError, SpaceMismatchError
from tests.maze_core.envs.structured_env import make_boxes

QUICK = {"configuration": "test", "seed": 1, "silent": True}
STACKS = {"maze_core.ObservationStackWrapper": {}}
NORMALIZES = {"maze_core.ObservationNormalizationWrapper": {}}


def played(deployment: AgentDeployment, env: gymnasium.Env, n: int) -> list[list[int]]:
    """The actions of some episodes, in the caller's own loop."""
    episodes = []
    for _ in range(n):
        observation, _ = env.reset(seed=deployment.seed)
        action, actions = deployment.act(observation), []
        while action is not None:
            actions.append(action)
            action = deployment.act(*env.step(action))
        episodes.append([int(action) for action in actions])
    return episodes


@pytest.mark.parametrize("deterministic", [True, False])
@pytest.mark.parametrize("wrappers", [NORMALIZES, STACKS], ids=["normalized", "with a past"])
def test_it_acts_as_a_rollout_with_the_same_seed(wrappers, deterministic):
    with RunContext(wrappers=wrappers, overrides={"env.name": "CartPole-v1"}, **QUICK) as rc:
        report = rc.rollout(3, seed=7, deterministic=deterministic)
        with rc.deploy(seed=7, deterministic=deterministic) as deployment:
            acted = played(deployment, gymnasium.make("CartPole-v1"), 3)
    assert acted == [episode.trajectory.actions[0]["action"].tolist() for episode in report.episodes]
    assert deployment.report.returns == report.summary.returns
    assert deployment.report.lengths == report.summary.lengths
    assert deployment.report.seeds == report.summary.seeds
    assert [episode.terminated for episode in deployment.episodes] == [x.terminated for x in report.episodes]


def test_sub_steps_act_as_a_rollout_does():
    with RunContext(env=make_boxes, **QUICK) as rc:
        (episode,) = rc.rollout(1, seed=3, deterministic=False).episodes
        deployment, env = rc.deploy(seed=3, deterministic=False), make_boxes()
        recorded = episode.trajectory
        at = dict.fromkeys(recorded.observations, 0)
        for i, key in enumerate(recorded.step_keys):
            row, at[key] = at[key], at[key] + 1
            seen = {name: x[row] for name, x in recorded.observations[key].items()}
            reward = None if i == 0 else float(recorded.rewards[i - 1])
            action = deployment.act(seen, reward, actor_id=(key, int(recorded.agent_ids[i])))
            given = action if not isinstance(action, dict) else action["action"]
            assert given == recorded.actions[key]["action"][row]
        env.close()


def test_an_old_step_with_one_done_tells_limits_by_its_info():
    with RunContext(overrides={"env.name": "CartPole-v1"}, **QUICK) as rc, rc.deploy() as deployment:
        for info in ({"TimeLimit.truncated": True}, {}):
            deployment.act([0.0, 0.0, 0.0, 0.0])
            assert deployment.act([0.0, 0.0, 0.0, 0.0], 2.0, True, info=info) is None
        deployment.act([0.0, 0.0, 0.0, 0.0])
        deployment.act([0.0, 0.0, 0.0, 0.0], 1.0)
    ends = [(episode.terminated, episode.truncated) for episode in deployment.episodes]
    assert ends == [(False, True), (True, False), (False, True)]
    assert deployment.report.returns == [2.0, 2.0, 1.0]


def test_a_loop_that_is_out_of_step_is_told_so():
    with RunContext(overrides={"env.name": "CartPole-v1"}, **QUICK) as rc:
        deployment = rc.deploy()
        with pytest.raises(InvalidSpecificationError, match="no action led here"):
            deployment.act([0.0, 0.0, 0.0, 0.0], 1.0)
        deployment.act([0.0, 0.0, 0.0, 0.0])
        with pytest.raises(InvalidSpecificationError, match="interrupt"):
            deployment.act([0.0, 0.0, 0.0, 0.0])
        with pytest.raises(SpaceMismatchError):
            deployment.act([0.0], 1.0)
        deployment.interrupt()
        deployment.act([0.0, 0.0, 0.0, 0.0])
        deployment.close()
        deployment.close()
        assert deployment.episodes == [], "what had no step is no episode"
        with pytest.raises(ContextClosedError):
            deployment.act([0.0, 0.0, 0.0, 0.0])


def test_a_stack_that_only_trains_is_refused():
    with RunContext(**QUICK) as rc:
        agent = rc.policy
        agent.servable, agent.not_servable_reason = False, "it needs the environment"
        with pytest.raises(NotServableError, match="needs the environment"):
            AgentDeployment(agent=agent)


@pytest.mark.parametrize(
    "reward", [float("nan"), float("inf"), "1", [1.0, 2.0], np.zeros(0), {}, 1j, 10**400, np.array(["1"])]
)
def test_a_reward_that_is_no_finite_number_is_refused_before_it_counts(reward):
    with RunContext(overrides={"env.name": "CartPole-v1"}, **QUICK) as rc, rc.deploy() as deployment:
        deployment.act([0.0] * 4)
        deployment.act([0.0] * 4, 1.0)
        with pytest.raises(InvalidSpecificationError, match=r"reward.*one finite number"):
            deployment.act([0.0] * 4, reward)
        deployment.act([0.0] * 4, 2.0, terminated=True)
    assert (deployment.report.returns, deployment.report.lengths) == ([3.0], [2])


@pytest.mark.parametrize(
    "reward", [1, True, 1.0, np.float32(1), np.int64(1), np.array(1.0), np.array([1.0]), Fraction(1)]
)
def test_a_reward_may_be_any_kind_of_real_number(reward):
    with RunContext(overrides={"env.name": "CartPole-v1"}, **QUICK) as rc, rc.deploy() as deployment:
        deployment.act([0.0] * 4)
        deployment.act([0.0] * 4, reward, terminated=True)
    assert deployment.report.returns == [1.0]
