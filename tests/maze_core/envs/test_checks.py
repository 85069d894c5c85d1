"""Each way in which an environment can be wrong is found, told in plain words, and not told of a good one."""

import re

import gymnasium
import numpy as np
import pytest

from maze_core.envs.checks import check_environment
from maze_core.envs.gym_env import make_gym


class Good(gymnasium.Env):
    observation_space = gymnasium.spaces.Box(-1.0, 1.0, (2,), np.float32)
    action_space = gymnasium.spaces.Discrete(2)
    steps = 9

    def reset(self, *, seed=None, options=None):
        super().reset(seed=seed)
        self.at = 0
        return self.look(), {}

    def look(self):
        return self.np_random.uniform(-1, 1, 2).astype(np.float32)

    def step(self, action):
        self.at += 1
        return self.look(), self.reward(action), self.at == self.steps, False, {}

    def reward(self, action):
        return float(action)


class Outside(Good):
    def look(self):
        return super().look() + 3


class Shrinks(Good):
    """Of two shapes, of which the first is the space's."""

    observation_space = gymnasium.spaces.Box(-1.0, 1.0, (3,), np.float32)

    def look(self):
        return self.np_random.uniform(-1, 1, 2 if self.at else 3).astype(np.float32)


class Forgetful(Good):
    def look(self):
        return np.random.uniform(-1, 1, 2).astype(np.float32)


class Unmade(Good):
    def __init__(self):
        raise ValueError("no robot found")


class FourValues(Good):
    def step(self, action):
        return super().step(action)[:4]


class NoReward(Good):
    def reward(self, action):
        return None


class Late(Good):
    """Goes wrong behind what gymnasium's checker plays."""

    def reward(self, action):
        return {"score": 1} if self.at == 8 else 1.0


class NaN(Good):
    def reward(self, action):
        return float("nan") if self.at == 8 else 1.0


class SeesNaN(Good):
    observation_space = gymnasium.spaces.Box(-np.inf, np.inf, (2,), np.float32)

    def look(self):
        return np.full(2, np.nan if self.at == 8 else 1.0, np.float32)


class Endless(Good):
    steps = -1


class Large(Good):
    observation_space = gymnasium.spaces.Box(-1e4, 1e4, (2,), np.float32)

    def look(self):
        return super().look() * 9_000


class Unrewarded(Good):
    def reward(self, action):
        return 0.0


class Texts(Good):
    observation_space = gymnasium.spaces.Text(3)

    def look(self):
        return "abc"


@pytest.mark.parametrize("make", [Good, lambda: make_gym("Pendulum-v1"), lambda: make_gym("FrozenLake-v1")])
def test_of_a_good_one_nothing_is_told(make):
    assert check_environment(make, ticks=300) == []


@pytest.mark.parametrize(
    ("env", "what", "way_out"),
    [
        (Shrinks, r"shape", "Mend what it says"),
        (Forgetful, "non-deterministic|seed", "draw from self.np_random alone"),
        (Unmade, "no robot found", "mend what it raises"),
        (FourValues, "four|tuple|values|expected", ""),
        (NoReward, "reward", ""),
        (Late, "reward is dict", "Mend what it says"),
        (NaN, "reward or an observation is NaN", "divided by 0"),
        (SeesNaN, "NaN", ""),
        (Texts, "Text", ""),
    ],
)
def test_an_error_is_found_and_has_its_way_out(env, what, way_out):
    errors = [one for one in check_environment(env, ticks=300) if one.level == "error"]
    assert errors
    assert any(re.search(what, one.what) for one in errors), errors
    assert any(way_out in one.way_out for one in errors), errors


@pytest.mark.parametrize(
    ("env", "what", "way_out"),
    [
        (Outside, "observation space", "observation_space says"),
        (Endless, "No episode ended within 300 steps", "max_episode_steps"),
        (Large, "Observations are as large as", "running_normalization"),
        (
            Unrewarded,
            "Every step is rewarded by 0, and all episodes are equally long",
            "depends on the actions",
        ),
    ],
)
def test_what_hinders_learning_is_a_warning(env, what, way_out):
    (found,) = check_environment(env, ticks=300)
    assert found.level == "warning"
    assert what in found.what
    assert way_out in found.way_out


def test_the_worst_comes_first_and_nothing_twice():
    levels = [one.level for one in check_environment(Outside, ticks=300)]
    assert levels == sorted(levels)
    found = check_environment(lambda: make_gym("CartPole-v1"), ticks=300)
    assert len({one.meaning for one in found}) == len(found) == 1
