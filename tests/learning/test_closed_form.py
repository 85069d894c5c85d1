"""Tasks whose answer is known: a policy must find the right action, a critic the right value, within seconds."""

import gymnasium
import numpy as np
import pytest
from gymnasium import spaces

from maze_core import RunContext


class Identity(gymnasium.Env):
    """The observation names the action that is rewarded; an episode has ten steps."""

    observation_space = spaces.Discrete(4)
    action_space = spaces.Discrete(4)

    def reset(self, *, seed=None, options=None):
        super().reset(seed=seed)
        self._steps = 0
        self._state = int(self.np_random.integers(4))
        return self._state, {}

    def step(self, action):
        reward = float(action == self._state)
        self._steps += 1
        self._state = int(self.np_random.integers(4))
        return self._state, reward, False, self._steps >= 10, {}


class Target(gymnasium.Env):
    """One step; the reward is highest where the action equals the observation, by a Gaussian policy."""

    observation_space = spaces.Box(-0.5, 0.5, (1,), np.float32)
    action_space = spaces.Box(-1.0, 1.0, (1,), np.float32)

    def reset(self, *, seed=None, options=None):
        super().reset(seed=seed)
        self._state = self.np_random.uniform(-0.5, 0.5, 1).astype(np.float32)
        return self._state, {}

    def step(self, action):
        return self._state, -float((action[0] - self._state[0]) ** 2), True, False, {}


class Middle(gymnasium.Env):
    """One step; the reward is 10 in the middle of the action's bounds and 0 at their ends."""

    observation_space = spaces.Box(0.0, 1.0, (1,), np.float32)

    def __init__(self, low, high, dtype):
        self.action_space = spaces.Box(low, high, (1,), dtype)

    def reset(self, *, seed=None, options=None):
        super().reset(seed=seed)
        return np.zeros(1, np.float32), {}

    def step(self, action):
        low, high = float(self.action_space.low[0]), float(self.action_space.high[0])
        distance = abs(float(action[0]) - (low + high) / 2) / ((high - low) / 2)
        return np.zeros(1, np.float32), 10.0 * (1.0 - distance), True, False, {}


class Constant(gymnasium.Env):
    """Reward 1 for ever, cut every 20 steps by a time limit: V = 1 / (1 - γ) in every state."""

    observation_space = spaces.Box(0.0, 1.0, (1,), np.float32)
    action_space = spaces.Discrete(2)

    def reset(self, *, seed=None, options=None):
        super().reset(seed=seed)
        self._steps = 0
        return np.zeros(1, np.float32), {}

    def step(self, action):
        self._steps += 1
        return np.zeros(1, np.float32), 1.0, False, self._steps >= 20, {}


def settings(**more):
    return {
        "algorithm.epoch_length": 10,
        "algorithm.n_rollout_steps": 32,
        "algorithm.rollout_evaluator.n_episodes": 10,
        "model.policy.networks.0.hidden_units": [32],
        "model.critic.networks.0.hidden_units": [32],
        **{key.replace("__", "."): value for key, value in more.items()},
    }


@pytest.mark.parametrize("algorithm", ["a2c", "impala", "ppo"])
@pytest.mark.parametrize("seed", [0, 1, 2])
def test_the_identity_task_is_solved(algorithm, seed, tmp_path):
    overrides = settings(algorithm__n_epochs=3, algorithm__lr=0.003)
    with RunContext(
        env=Identity, algorithm=algorithm, overrides=overrides, seed=seed, run_dir=tmp_path
    ) as context:
        context.train()
        assert context.evaluate(20).mean_return == 10.0


@pytest.mark.parametrize("seed", [0, *(pytest.param(seed, marks=pytest.mark.slow) for seed in (1, 2))])
def test_a_gaussian_policy_finds_the_target(seed, tmp_path):
    overrides = settings(algorithm__n_epochs=20, algorithm__lr=0.003)
    with RunContext(env=Target, algorithm="ppo", overrides=overrides, seed=seed, run_dir=tmp_path) as context:
        context.train()
        assert context.evaluate(50).mean_return > -0.01


@pytest.mark.parametrize(
    ("low", "high", "dtype"),
    [
        (-1, 1, np.float32),
        (0, 512, np.float32),
        (100, 200, np.float64),
        (-0.001, 0.001, np.float32),
        (0, 100, np.int64),
    ],
)
def test_the_middle_of_any_bounds_is_found(low, high, dtype, tmp_path):
    """Through all of training, evaluation and ``compute_action``, which answers in the environment's units."""
    with RunContext(
        env=lambda: Middle(low, high, dtype),
        algorithm="ppo",
        overrides=settings(algorithm__n_epochs=2, algorithm__lr=0.003),
        seed=1,
        run_dir=tmp_path,
    ) as context:
        report = context.train()
        assert context.evaluate(5).mean_return > 9.5
        action = np.asarray(context.compute_action(np.zeros(1, np.float32))["action"])
        assert abs(float(action[0]) - (low + high) / 2) <= 0.05 * (high - low)
        assert 0.0 <= report.metrics["train/actions_clipped"] < 0.5


def test_a_time_limit_does_not_cut_the_value(tmp_path):
    """γ = 0.9: V = 10; were the limit taken for an end, the mean over a 20-step episode would be about 5.7."""
    overrides = settings(algorithm__n_epochs=20, algorithm__gamma=0.9, algorithm__lr=0.01)
    with RunContext(env=Constant, algorithm="ppo", overrides=overrides, seed=0, run_dir=tmp_path) as context:
        context.train()
        learner = context._held._open_training().world.trainer.learner
        value = learner.values(0, {"observation": np.zeros((1, 1), np.float32)}, np.zeros(1, np.int64))
    assert value.item() == pytest.approx(10.0, abs=0.3)
