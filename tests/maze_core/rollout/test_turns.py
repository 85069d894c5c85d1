"""Episodes of actors that are each paid their own: what is recorded, reported, and learnt from."""

import numpy as np
import pytest

from maze_core import RunContext
from maze_core.envs.per_env import PerEnvVectorEnv
from maze_core.evaluation.evaluate import EvalReport
from maze_core.models.random_policy import RandomPolicy
from maze_core.rollout.episodes import run_episodes
from maze_core.rollout.recording import trajectory_from_bytes, trajectory_to_bytes
from maze_core.types import ActorID
from tests.maze_core.envs.actors_env import ACTORS, CrowdEnv


@pytest.fixture(scope="module")
def played():
    env = CrowdEnv()
    batch = PerEnvVectorEnv([lambda: env])
    policy = RandomPolicy(batch.action_spaces)
    return env, run_episodes(batch, policy, [1, 2, 3], record=True)


def test_a_trajectory_knows_what_came_of_each_action(played):
    env, episodes = played
    own = np.concatenate([episode.trajectory.own_rewards for episode in episodes])
    # beyond its part's end an actor acts no more, and what it is paid then belongs to none of its actions
    turns = env.account[: len(own)]
    assert len(own) == sum(len(episode.trajectory.rewards) for episode in episodes)
    went_on = [i for i, turn in enumerate(turns) if not turn.end]
    assert went_on
    assert own[went_on] == pytest.approx([turns[i].reward for i in went_on])


def test_returns_of_the_actors_add_up_to_that_of_the_episode(played):
    _, episodes = played
    for episode in episodes:
        assert episode.actor_returns.keys() == set(ACTORS)
        assert sum(episode.actor_returns.values()) == pytest.approx(episode.episode_return)
        assert episode.trajectory.rewards.sum() == pytest.approx(episode.episode_return)
    report = EvalReport.from_episodes(episodes)
    assert report.actor_metrics["mean_return/walk/1"] == pytest.approx(
        np.mean([episode.actor_returns[ActorID("walk", 1)] for episode in episodes])
    )
    assert [actor["actor_id"] for actor in report.to_dict()["actors"]] == [list(actor) for actor in ACTORS]


def test_a_recording_keeps_what_each_actor_was_paid(played):
    for episode in played[1]:
        stored = trajectory_from_bytes(trajectory_to_bytes(episode.trajectory))
        assert stored.actors == ACTORS
        assert np.array_equal(stored.actor_rewards, episode.trajectory.actor_rewards)
        assert np.array_equal(stored.own_rewards, episode.trajectory.own_rewards)
        assert stored.to_json()["steps"][0]["own_reward"] == stored.own_rewards[0]


@pytest.mark.parametrize("algorithm", ["a2c", "ppo", "impala"])
def test_policies_learn_and_are_judged_actor_by_actor(algorithm):
    settings = {"algorithm.n_rollout_steps": 16}
    with RunContext(
        env=CrowdEnv, algorithm=algorithm, configuration="test", seed=1, silent=True, overrides=settings
    ) as rc:
        rc.train()
        row = rc.metrics[-1]
        for what in ("eval/mean_return", "train/episode_return"):
            each = [row[f"{what}/{key}/{agent_id}"] for key, agent_id in ACTORS]
            assert sum(each) == pytest.approx(row[what])
