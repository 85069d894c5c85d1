"""Policies with a state in rollouts and episodes: rows keep their bits, and nobody sees another episode's state."""

from functools import partial

import numpy as np
import pytest

from maze_core.envs.core_env import Outcome
from maze_core.envs.per_env import PerEnvVectorEnv
from maze_core.models.graph import BLOCK_ROWS
from maze_core.models.memory import STATE, Memory
from maze_core.rollout.collector import Collector
from maze_core.rollout.episodes import run_episodes
from tests.maze_core.envs.actors_env import ACTORS, CrowdEnv
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


class LivesEnv(CrowdEnv):
    """The first walker dies at its every third turn and comes back at its next; the other one never does."""

    def reset(self, *, seed=None):
        self._n = 0
        return self._see()

    def step(self, action):
        self._n += 1
        return self._see(), 0.0, False, self._n >= 40, {}

    def outcomes(self):
        return [Outcome(ACTORS[0], 0.0, terminated=True)] if self._n % 6 == 5 else []

    def is_flat_step_done(self):
        return self._n % 2 == 0

    def actor_id(self):
        return ACTORS[self._n % 2]


def test_an_agent_that_comes_back_within_an_episode_begins_with_zeros_and_nobody_else_does():
    made = parts(LivesEnv, model=model(), n_envs=2)
    collector = Collector(made.env, 36, np.random.default_rng(0))
    collector.reset([0, 1])
    states = collector.collect(made.policy).steps["walk"].observations[STATE]
    is_zero = (states == 0).all(-1)
    begins = [t for t in range(36) if t % 6 == 0 or t == 1]
    assert [np.flatnonzero(of_env).tolist() for of_env in is_zero.T] == [begins, begins]


class NotesStates:
    """Acts as another policy, and notes whether the state was zeros."""

    def __init__(self, policy):
        self._policy, self.zeros = policy, []
        self.needs_noise, self.noise, self.state_widths = False, policy.noise, policy.state_widths

    def act(self, step_key, observations, **given):
        self.zeros.append(not observations[STATE].any())
        return self._policy.act(step_key, observations, **given)


def test_an_agent_that_comes_back_in_an_evaluation_begins_with_zeros():
    policy = NotesStates(parts(LivesEnv, model=model(), n_envs=1).policy)
    run_episodes(PerEnvVectorEnv([LivesEnv]), policy, [0])
    assert [t for t, is_zero in enumerate(policy.zeros) if is_zero] == [0, 1, *range(6, 40, 6)]
