"""A policy that plays against itself, one network for both sides, comes to beat moves at random."""

import numpy as np
import pytest

pytest.importorskip("pettingzoo")

from maze_core import RunContext
from maze_core.envs.config import PettingZooEnvConfig

SELF_PLAY = {
    "algorithm.n_rollout_steps": 128,
    "algorithm.entropy_coef": 0.02,
    "algorithm.gamma": 1.0,
    "algorithm.n_epochs": 6,
    "runner.n_envs": 16,
    "algorithm.rollout_evaluator.n_episodes": 1,
}


def against_random_moves(choose, n_games=200):
    """Shares of games won and lost, half of them begun by the other side."""
    env, rng = PettingZooEnvConfig(name="classic/tictactoe_v3").make(), np.random.default_rng(0)
    results = []
    for game in range(n_games):
        board, over, mine = env.reset(seed=game), False, 0.0
        while not over:
            actor = env.actor_id()
            at_random = rng.choice(np.flatnonzero(board["action_mask"]))
            action = choose(board, actor) if actor.agent_id == game % 2 else {"action": at_random}
            board, _, terminated, truncated, _ = env.step(action)
            mine += sum(each.reward for each in env.outcomes() if each.actor.agent_id == game % 2)
            over = terminated or truncated
        results.append(mine)
    return np.mean(np.equal(results, 1)), np.mean(np.equal(results, -1))


@pytest.mark.slow
@pytest.mark.parametrize("seed", [1, 2])
def test_tic_tac_toe_learnt_against_itself_beats_random_moves(seed):
    rng = np.random.default_rng(1)
    won, lost = against_random_moves(
        lambda board, actor: {"action": rng.choice(np.flatnonzero(board["action_mask"]))}
    )
    assert abs(won - lost) < 0.15
    with RunContext(env="pettingzoo", algorithm="ppo", seed=seed, silent=True, overrides=SELF_PLAY) as rc:
        rc.train()
        won, lost = against_random_moves(lambda board, actor: rc.compute_action(board, actor_id=actor))
    assert won > 0.6
    assert lost < 0.3
