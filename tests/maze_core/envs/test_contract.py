"""What an environment gives is believed only where it is what it must be; the message says what to return instead."""

import re
from decimal import Decimal

import gymnasium
import numpy as np
import pytest
import torch
from gymnasium import spaces
from gymnasium.envs.registration import EnvSpec
from gymnasium.vector import AutoresetMode, SyncVectorEnv
from hypothesis import given
from hypothesis import strategies as st

from maze_core.envs.config import CallableEnvConfig
from maze_core.envs.contract import flag, number
from maze_core.envs.core_env import StructuredEnv
from maze_core.envs.gym_env import GymEnv, make_gym
from maze_core.envs.legacy_gym import LegacyGymAdapter
from maze_core.envs.native import NativeVectorEnv
from maze_core.envs.per_env import PerEnvVectorEnv
from maze_core.errors import EnvError
from maze_core.types import ActorID


class GivesEnv(gymnasium.Env):
    """Gives what it is told, in a bare space or in a Dict."""

    def __init__(
        self, reward=0.0, terminated=False, truncated=False, *, is_dict=False, step=None, reset=None
    ):
        box = spaces.Box(-1, 1, (2,), np.float32)
        self.observation_space = spaces.Dict({"see": box}) if is_dict else box
        self.action_space = spaces.Discrete(2)
        seen = np.zeros(2, np.float32)
        seen = {"see": seen} if is_dict else seen
        self.given = (seen, reward, terminated, truncated, {}) if step is None else step
        self.first = (seen, {}) if reset is None else reset

    def reset(self, *, seed=None, options=None):
        return self.first

    def step(self, action):
        return self.given


class OwnSubSteps(StructuredEnv):
    """The same, with the contract of sub-steps."""

    def __init__(self, env):
        self._env = env
        self.observation_spaces = {0: spaces.Dict({"observation": env.observation_space})}
        self.action_spaces = {0: spaces.Dict({"action": env.action_space})}

    def reset(self, *, seed=None):
        return {"observation": np.zeros(2, np.float32)}

    def step(self, action):
        _, *rest = self._env.step(action)
        return {"observation": np.zeros(2, np.float32)}, *rest

    def actor_id(self):
        return ActorID(0, 0)


class OldEnv:
    """The same, of the old gym."""

    def __init__(self, env):
        self.env = env
        self.observation_space, self.action_space = env.observation_space, env.action_space

    def seed(self, seed):
        pass

    def reset(self):
        return np.zeros(2, np.float32)

    def step(self, action):
        observation, reward, terminated, truncated, _ = self.env.step(action)
        return observation, reward, terminated, {"TimeLimit.truncated": truncated}


WAYS = {
    "bare": lambda **given: GymEnv(GivesEnv(**given)),
    "dict": lambda **given: GymEnv(GivesEnv(**given, is_dict=True)),
    "sub-steps": lambda **given: OwnSubSteps(GivesEnv(**given)),
    "old": lambda **given: GymEnv(LegacyGymAdapter(OldEnv(GivesEnv(**given)))),
}


def tick_of(way, **given):
    env = PerEnvVectorEnv([lambda: WAYS[way](), lambda: WAYS[way](**given)])
    env.reset([1, 2])
    return env.step({0: {"action": np.zeros(2, np.int64)}})


def name_of(value):
    """The value as text, without an address in memory: every process must give the same."""
    return re.sub(r" object at 0x\w+", "", repr(value))[:20]


NO_FLAGS = [{"__all__": False}, [False, False], [False], "False", None, float("nan"), 2, -1, 0.5, Decimal(0)]
NO_FLAGS += [np.zeros(2, bool), np.array("False"), np.array([]), torch.zeros(2), np.ma.masked, object()]


@pytest.mark.parametrize("way", WAYS)
@pytest.mark.parametrize("value", NO_FLAGS, ids=name_of)
def test_what_is_no_flag_is_refused_by_name_on_every_way(way, value):
    for name in ("terminated", "truncated"):
        with pytest.raises(EnvError, match=rf"Environment 1, step 0 .*{name}|done.*; return True or False"):
            tick_of(way, **{name: value})


@pytest.mark.parametrize("way", WAYS)
@pytest.mark.parametrize("value", [False, True])
def test_every_form_of_a_flag_is_read_on_every_way(way, value):
    forms = [value, int(value), float(value), np.bool_(value), np.array(value), np.array([value])]
    forms += [np.int64(value), torch.tensor(value), torch.tensor([[value]])]
    for form in forms:
        assert tick_of(way, truncated=form).truncated.tolist() == [False, value]
        assert tick_of(way, terminated=form).terminated.tolist() == [False, value]


NO_REWARDS = [
    "3",
    Decimal(3),
    None,
    [1.0],
    (1.0, 2.0),
    np.zeros(2),
    np.array("3"),
    np.array([]),
    1j,
    {},
    10**400,
]
NO_REWARDS += [np.ma.masked, np.ma.array([1.0], mask=True), torch.zeros(3)]


@pytest.mark.parametrize("way", WAYS)
@pytest.mark.parametrize("value", NO_REWARDS, ids=name_of)
def test_what_is_no_reward_is_refused_by_name_on_every_way(way, value):
    with pytest.raises(EnvError, match=r"Environment 1, step 0 .*(the reward is|OverflowError)"):
        tick_of(way, reward=value)


@pytest.mark.parametrize("way", WAYS)
@pytest.mark.parametrize("value", [float("nan"), np.inf, np.array([np.nan]), torch.tensor(float("inf"))])
def test_a_reward_that_is_not_finite_is_named(way, value):
    with pytest.raises(EnvError, match=r"Environment 1, step \d .*the reward is NaN or infinite"):
        tick_of(way, reward=value)


@pytest.mark.parametrize("way", WAYS)
def test_every_form_of_a_reward_is_read_on_every_way(way):
    tensor = torch.tensor([3.0], requires_grad=True)
    for form in (3, 3.0, np.float32(3), np.uint8(3), np.array(3), np.array([3.0]), tensor, torch.tensor(3)):
        assert tick_of(way, reward=form).reward.tolist() == [0.0, 3.0]


@given(st.floats(allow_nan=False) | st.integers(-(2**62), 2**62) | st.booleans())
def test_a_number_is_the_same_number_in_every_array(value):
    assert number(value) == number(np.array([value])) == float(value)
    assert flag(bool(value), "terminated") is flag(np.array([[bool(value)]]), "terminated")


SEEN = np.zeros(2, np.float32)


@pytest.mark.parametrize(
    ("step", "given_as"),
    [
        ((SEEN, 0.0, False, {}), "4 values"),
        ((SEEN, 0.0, False, False, {}, 1), "6 values"),
        (np.zeros(5), "an array of float64"),
        (3.5, "float 3.5"),
        ((SEEN, 0.0, False, False, None), "info of step.* is NoneType None; it must be a dict"),
    ],
)
@pytest.mark.parametrize("is_dict", [False, True])
def test_other_values_of_step_are_refused_with_the_rule_and_the_way_out(step, given_as, is_dict):
    env = PerEnvVectorEnv([lambda: GymEnv(GivesEnv(step=step, is_dict=is_dict))])
    env.reset([0])
    with pytest.raises(EnvError, match=rf"Environment 0, step 0.*{given_as}"):
        env.step({0: {"action": np.zeros(1, np.int64)}})


@pytest.mark.parametrize(
    "reset", [np.zeros(2), [0.0, 1.0], ({}, 0.5), SEEN[:1], (SEEN, {}, {}), (SEEN, None)]
)
def test_a_reset_that_gives_no_observation_and_info_is_refused_with_the_way_out(reset):
    with pytest.raises(EnvError, match=r"reset\(\) gave .*observation and info.*env=legacy_gym_env"):
        PerEnvVectorEnv([lambda: GymEnv(GivesEnv(reset=reset))]).reset([0])


def test_old_forms_behind_gymnasiums_own_wrappers_are_told_the_same():
    class Four(GivesEnv):
        def step(self, action):
            return SEEN, 0.0, False, {}

    class NoSeed(GivesEnv):
        def reset(self):
            return SEEN, {}

    for made, message in ((Four, r"it must give five.*legacy_gym_env"), (NoSeed, r"reset\(\*, seed=None")):
        spec = EnvSpec("Old-v0", entry_point=made, max_episode_steps=9)
        env = PerEnvVectorEnv([lambda spec=spec: GymEnv(gymnasium.make(spec, disable_env_checker=True))])
        with pytest.raises(EnvError, match=message):
            _ = env.reset([0]), env.step({0: {"action": np.zeros(1, np.int64)}})


def test_an_old_environment_without_any_seed_is_played_and_warned_of():
    class Seedless(OldEnv):
        seed = property()

    env = PerEnvVectorEnv([lambda: GymEnv(LegacyGymAdapter(Seedless(GivesEnv())))])
    with pytest.warns(UserWarning, match=r"Seedless has neither seed"):
        env.reset([3])
    env.reset([3])
    env.close()  # it has no close() either


@pytest.mark.parametrize("name", ["terminated", "reward"])
def test_a_vector_form_is_held_to_the_same(name):
    class Wrong(SyncVectorEnv):
        def step(self, actions):
            values = dict(
                zip(
                    ("shown", "reward", "terminated", "truncated", "info"), super().step(actions), strict=True
                )
            )
            return tuple((values | {name: np.array(["0", "0"])}).values())

    native = NativeVectorEnv(Wrong([lambda: GivesEnv()] * 2, autoreset_mode=AutoresetMode.SAME_STEP), 2)
    native.reset([1, 2])
    with pytest.raises(EnvError, match=rf"{name} is <U1 of shape \(2,\)"):
        native.step({0: {"action": np.zeros(2, np.int64)}})


def raises(error):
    raise error


@pytest.mark.parametrize(
    ("error", "said"),
    [
        (KeyError("wings"), r"KeyError: 'wings'"),
        (AssertionError(), r"AssertionError in .*test_contract\.py, line \d+: raise error"),
    ],
)
def test_whatever_a_constructor_raises_is_an_env_error_that_says_what_or_where(error, said):
    with pytest.raises(EnvError, match=rf"could not be made: {said}"):
        CallableEnvConfig(factory=lambda: raises(error)).make()
    gymnasium.register("Raises-v0", entry_point=lambda: raises(error))
    try:
        with pytest.raises(EnvError, match=rf"could not be made: {said}"):
            make_gym("Raises-v0")
    finally:
        del gymnasium.registry["Raises-v0"]
