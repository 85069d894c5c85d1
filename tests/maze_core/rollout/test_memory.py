"""Policies with a state in rollouts and episodes: rows keep their bits, and nobody sees another episode's state."""

from functools import partial

import numpy as np
import pytest

from maze_core.envs.per_env import PerEnvVectorEnv
from maze_core.models.graph import BLOCK_ROWS
from maze_core.models.memory import STATE, Memory
from maze_core.rollout.episodes import run_episodes
from tests.maze_core.envs.structured_env import make_boxes
from tests.maze_core.recurrent import CueEnv, Gru, Lstm, model
from tests.maze_core.trainers.small_worlds import TwoAgentsEnv, parts


@pytest.mark.parametrize("net", [Gru, Lstm])
@pytest.mark.parametrize("n_rows", [1, 5, BLOCK_ROWS, 13])
def test_a_row_has_the_bits_that_it_has_alone(net, n_rows):
    network = parts(CueEnv, model=model(net, net)).policy.steps[0].networks[0].logits
    rng = np.random.default_rng(0)
    seen = {
        "observation": rng.standard_normal((n_rows, 2)).astype(np.float32),
        STATE: rng.standard_normal((n_rows, network.state_width)).astype(np.float32),
    }
    together = network(seen)
    alone = [network({name: x[i : i + 1] for name, x in seen.items()})[0] for i in range(n_rows)]
    assert together.shape == (n_rows, 2 + network.state_width)
    assert together.tobytes() == np.stack(alone).tobytes()


@pytest.mark.parametrize("world", [partial(CueEnv, 4), make_boxes, TwoAgentsEnv])
@pytest.mark.parametrize("deterministic", [True, False])
def test_episodes_do_not_depend_on_how_many_are_played_side_by_side(world, deterministic):
    policy = parts(world, model=model(), n_envs=1).policy
    played = []
    for n_envs in (1, 3, 9):
        env = PerEnvVectorEnv([world] * n_envs)
        episodes = run_episodes(env, policy, range(7), deterministic=deterministic, record=True)
        played.append(
            [
                [
                    (key, head, x.tobytes())
                    for key, of_key in e.trajectory.actions.items()
                    for head, x in of_key.items()
                ]
                for e in episodes
            ]
        )
    assert played[0] == played[1] == played[2]


def test_the_state_of_an_episode_is_what_its_own_observations_made_of_it():
    """Its actions are those of a loop that carries the state by hand, from zeros."""
    policy = parts(partial(CueEnv, 5), model=model(Lstm, Lstm)).policy
    policy.steps[0].networks[0].logits.module.last.weight.data *= 100  # decided by more than the bias
    env = PerEnvVectorEnv([partial(CueEnv, 5)] * 2)
    acted = set()
    for episode in run_episodes(env, policy, range(6), record=True):
        state = np.zeros((1, policy.state_widths[0]), np.float32)
        for shown, did in zip(
            episode.trajectory.observations[0]["observation"],
            episode.trajectory.actions[0]["action"],
            strict=True,
        ):
            action = policy.act(0, {"observation": shown[None], STATE: state}, deterministic=True, noise=None)
            state = action.pop(STATE)
            assert action["action"][0] == did
            acted.add(int(did))
    assert acted == {0, 1}


def test_every_agent_has_a_state_of_its_own_in_every_environment():
    memory = Memory({0: 1}, 2)
    memory.keep(0, np.array([0, 1, 0]), np.array([0, 0, 1]), np.array([[1.0], [2.0], [3.0]]))
    everyone = np.array([0, 0, 1, 1]), np.array([0, 1, 0, 1])
    assert memory.of(0, *everyone)[:, 0].tolist() == [1.0, 3.0, 2.0, 0.0]
    memory.forget(np.array([True, False]))
    assert memory.of(0, *everyone)[:, 0].tolist() == [0.0, 3.0, 0.0, 0.0]
