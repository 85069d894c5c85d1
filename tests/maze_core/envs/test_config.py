"""Environment configurations: defaults are those of the YAML files, mistakes are named, factories are adapted."""

import dataclasses
import pickle
import subprocess
import sys
from functools import partial
from pathlib import Path

import gymnasium
import numpy as np
import pytest
import yaml
from gymnasium.vector import AutoresetMode, SyncVectorEnv
from gymnasium.wrappers import NormalizeObservation, NormalizeReward, TimeAwareObservation, TransformReward

from maze_core.config import compose_run
from maze_core.config.components import target_name
from maze_core.envs.classic import ClassicVectorEnv
from maze_core.envs.config import (
    CallableEnvConfig,
    GymEnvConfig,
    GymTextEnvConfig,
    LegacyGymEnvConfig,
    PettingZooEnvConfig,
)
from maze_core.envs.gym_env import GymEnv, GymMazeEnv, make_gym
from maze_core.envs.native import NativeVectorEnv
from maze_core.envs.per_env import PerEnvVectorEnv
from maze_core.envs.subproc import SubprocVectorEnv
from maze_core.envs.wrappers import ObservationClippingWrapper
from maze_core.errors import EnvError, InvalidSpecificationError
from tests.maze_core.envs.small_envs import EpisodeNumberEnv
from tests.maze_core.envs.structured_env import BoxesEnv


class _Statistics(NormalizeObservation):
    """One of a user's own."""


CONF = Path(__file__).parents[3] / "conf" / "env"


@pytest.mark.parametrize(
    ("config", "module"),
    [
        (GymEnvConfig, "gym_env"),
        (GymTextEnvConfig, "gym_text_env"),
        (LegacyGymEnvConfig, "legacy_gym_env"),
        (PettingZooEnvConfig, "pettingzoo"),
    ],
)
def test_defaults_are_those_of_the_yaml_twin(config, module):
    twin = yaml.safe_load((CONF / f"{module}.yaml").read_text())
    assert twin.pop("_target_") == target_name(config)
    assert twin == dataclasses.asdict(config())


@pytest.mark.parametrize(
    ("arguments", "where"),
    [
        ({"nmae": "CartPole-v1"}, "nmae"),
        ({"max_episode_steps": -1}, "max_episode_steps"),
        ({"vectorization": "fast"}, "vectorization"),
        ({"kwargs": 3}, "kwargs"),
        ({"wrappers": "gymnasium.wrappers.TimeAwareObservation"}, "wrappers: give a list"),
        ({"wrappers": [TimeAwareObservation, 3]}, "wrappers: give a list"),
        ({"wrappers": TimeAwareObservation}, "wrappers: give a list"),
        ({"wrappers": "maze_core.ObservationClippingWrapper"}, "wrappers= takes ours"),
        ({"wrappers": [ObservationClippingWrapper]}, r"wrappers\.0: .*Clipping.* give it as wrappers="),
        ({"wrappers": ObservationClippingWrapper}, "wrappers: .*Clipping.* give it as wrappers="),
        ({"wrappers": [NormalizeReward]}, r"wrappers\.0: .*wrappers=running_normalization"),
        (
            {"wrappers": [TimeAwareObservation, partial(_Statistics, epsilon=0.1)]},
            r"wrappers\.1: _Statistics keeps statistics .*wrappers=running_normalization",
        ),
    ],
)
def test_mistakes_are_refused_by_name(arguments, where):
    with pytest.raises(InvalidSpecificationError, match=where):
        GymEnvConfig(**arguments)


def test_zero_steps_mean_no_limit_of_ours():
    assert GymEnvConfig(max_episode_steps=0).max_episode_steps is None


def test_vectorization_and_execution_choose_the_batch():
    config = GymEnvConfig(name="CartPole-v1")
    assert isinstance(config.vector(2), ClassicVectorEnv)
    with_processes = config.vector(2, execution="local", n_processes=1)
    assert isinstance(with_processes, SubprocVectorEnv)
    with_processes.close()
    assert isinstance(GymEnvConfig(name="CartPole-v1", vectorization="per_env").vector(2), PerEnvVectorEnv)
    assert isinstance(GymEnvConfig(name="CartPole-v1", vectorization="native").vector(2), ClassicVectorEnv)
    gymnasium.register("Counts-v0", vector_entry_point=counting_batch)
    try:
        native = GymEnvConfig(name="Counts-v0", vectorization="native")
        assert isinstance(native.vector(2), NativeVectorEnv)
    finally:
        del gymnasium.registry["Counts-v0"]


def counting_batch(num_envs):
    return SyncVectorEnv(
        [partial(EpisodeNumberEnv, i) for i in range(num_envs)], autoreset_mode=AutoresetMode.SAME_STEP
    )


def test_arguments_reach_the_environment():
    env = GymEnvConfig(name="CartPole-v1", kwargs={"sutton_barto_reward": True}).vector(1)
    env.reset([0])
    assert env.step({0: {"action": np.array([0])}}).reward[0] == 0.0


@pytest.mark.parametrize("config", [GymEnvConfig, LegacyGymEnvConfig])
def test_wrappers_lie_inside_the_environment_the_first_innermost(config):
    described = config(
        name="CartPole-v1", wrappers=[TimeAwareObservation, partial(TransformReward, func=_twice)]
    )
    env = described.vector(1)
    assert isinstance(env, PerEnvVectorEnv)
    env.reset([0])
    tick = env.step({0: {"action": np.array([0])}})
    assert tick.observations[0]["observation"][0, 4] == 1
    assert tick.reward[0] == 2.0
    (made,) = env.envs
    assert type(made.env) is TransformReward


def _twice(reward):
    return 2 * reward


def test_wrappers_are_written_by_name_and_arguments():
    node = {"_target_": "gymnasium.wrappers.stateful_observation.TimeAwareObservation"}
    by_class = compose_run(env={"wrappers": [TimeAwareObservation]}, seed=1)
    by_name = compose_run(env={"wrappers": [node]}, seed=1)
    alias = compose_run(env={"wrappers": [{"_target_": "gymnasium.wrappers.TimeAwareObservation"}]}, seed=1)
    assert by_class.tree == by_name.tree == alias.tree
    assert by_name.tree["env"]["wrappers"][0].items() > node.items()
    with pytest.raises(InvalidSpecificationError, match=r"env\.wrappers\.0\.flat.* no setting 'flat'"):
        compose_run(env={"wrappers": [{**node, "flat": True}]})
    stack = {"_target_": "gymnasium.wrappers.FrameStackObservation"}
    with pytest.raises(InvalidSpecificationError, match=r"env\.wrappers\.0: .*argument: 'stack_size'"):
        compose_run(env={"wrappers": [stack]})


def test_a_class_that_is_an_argument_of_a_wrapper_reaches_it_as_it_is():
    given = {"_target_": "gymnasium.wrappers.DtypeObservation", "dtype": np.float64}
    config = compose_run(env={"name": "CartPole-v1", "wrappers": [given]}).build("env")
    assert config.wrappers[0].keywords["dtype"] is np.float64


def test_a_wrapper_that_cannot_be_made_is_told_with_the_environment():
    with pytest.raises(EnvError, match="CartPole-v1 could not be made: TypeError"):
        GymEnvConfig(name="CartPole-v1", wrappers=[TransformReward]).vector(1)


@pytest.mark.parametrize("vectorization", ["builtin", "native"])
def test_environments_with_wrappers_are_stepped_one_by_one(vectorization):
    described = GymEnvConfig(name="Taxi-v4", wrappers=[TimeAwareObservation], vectorization=vectorization)
    with pytest.raises(EnvError, match=r"use env\.vectorization=per_env"):
        described.vector(1)


def test_no_native_form_is_said_with_the_way_out():
    with pytest.raises(EnvError, match=r"Taxi-v4 has no native vectorization; use env.vectorization=per_env"):
        GymEnvConfig(name="Taxi-v4", vectorization="native").vector(2)


@pytest.mark.parametrize(
    "factory",
    [
        lambda: GymMazeEnv("CartPole-v1"),
        lambda: make_gym("CartPole-v1"),
        lambda: GymEnv(make_gym("CartPole-v1")),
    ],
)
def test_a_factory_may_give_any_kind_of_environment(factory):
    tick = CallableEnvConfig(factory=factory).vector(2).reset([1, 2])
    expected = GymEnvConfig(name="CartPole-v1").vector(2).reset([1, 2])
    np.testing.assert_array_equal(
        tick.observations[0]["observation"], expected.observations[0]["observation"]
    )


def test_a_factory_that_gives_something_else_is_told_what_to_give():
    with pytest.raises(
        EnvError, match=r"gave a int; it must give a MazeEnv, a StructuredEnv, a gymnasium.Env or an"
    ):
        CallableEnvConfig(factory=lambda: 3).make()


def test_a_configuration_can_be_sent_to_another_process():
    config = GymEnvConfig(name="CartPole-v1", max_episode_steps=9)
    assert pickle.loads(pickle.dumps(config)) == config


@pytest.mark.parametrize("config", [GymEnvConfig, LegacyGymEnvConfig])
def test_an_environment_with_an_id_is_made_to_be_seen_without_changing_its_configuration(config):
    described = config(name="CartPole-v1", kwargs={"render_mode": "human", "a": 1}, max_episode_steps=7)
    assert described.rendered() == config(
        name="CartPole-v1", kwargs={"render_mode": "rgb_array", "a": 1}, max_episode_steps=7
    )
    assert described.kwargs == {"render_mode": "human", "a": 1}


def test_what_a_function_makes_is_the_functions_to_show():
    config = CallableEnvConfig(factory=BoxesEnv)
    assert config.rendered() is config


def test_environments_are_imported_without_torch_and_gym():
    code = (
        "import sys, maze_core.envs.config, maze_core.envs.native, maze_core.envs.subproc, maze_core.envs.wrappers, "
        "maze_core.envs.maze_env, maze_core.envs.legacy_gym, maze_core.data.spaces; "
        "sys.exit(bool({'torch', 'gym'} & sys.modules.keys()))"
    )
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0


def test_a_failure_that_cannot_be_put_into_words_is_told_by_its_line():
    class Silent(Exception):
        def __str__(self):
            raise ZeroDivisionError

    def make():
        raise Silent

    with pytest.raises(EnvError, match=r"Silent in .*test_config\.py, line \d+: raise Silent"):
        CallableEnvConfig(factory=make).make()


@pytest.mark.parametrize("space", [None, 3])
def test_an_environment_without_a_space_is_told_which(space):
    class Spaceless(gymnasium.Env):
        observation_space = gymnasium.spaces.Discrete(2)

    if space is not None:
        Spaceless.action_space = space
    said = "action_space of Spaceless is " + ("missing" if space is None else "a builtins.int")
    with pytest.raises(EnvError, match=said):
        CallableEnvConfig(factory=Spaceless).make()
