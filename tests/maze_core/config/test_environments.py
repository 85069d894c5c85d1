"""Which arguments of environments are open to clients, and which extra brings an environment."""

import sys
from pathlib import Path
from types import ModuleType

import gymnasium
import pytest

from maze_core.config import environments
from maze_core.config.compose import compose_run
from maze_core.config.environments import (
    Extra,
    env_kwargs_of_modules,
    extra_of,
    open_kwargs,
    register_extra_of,
    wrapper_kwargs_of_modules,
)
from maze_core.errors import InvalidSpecificationError


@pytest.mark.parametrize(
    ("env_id", "opened"),
    [
        ("Taxi-v4", {"is_rainy", "fickle_passenger", "rainy_probability", "fickle_probability"}),
        ("FrozenLake8x8-v1", {"desc", "map_name", "is_slippery", "success_rate", "reward_schedule"}),
        ("CartPole-v0", {"sutton_barto_reward"}),
        ("Acrobot-v1", set()),
        ("NoSuch-v0", set()),
    ],
)
def test_open_arguments_are_those_of_the_installed_constructor(env_id: str, opened: set[str]) -> None:
    assert open_kwargs(env_id) == opened


def test_every_open_argument_makes_an_environment_with_its_own_default() -> None:
    from maze_core.config.environments import constructor_arguments

    for env_id in [*gymnasium.registry]:
        for name in open_kwargs(env_id) if extra_of(env_id) is None else ():
            spec = gymnasium.spec(env_id)
            env = gymnasium.make(
                spec, disable_env_checker=True, **{name: constructor_arguments(env_id)[name]}
            )
            env.close()


def test_an_extra_that_registers_by_a_function_does_so_once(monkeypatch: pytest.MonkeyPatch) -> None:
    calls: list[str] = []

    def register_envs() -> None:
        calls.append("registered")
        gymnasium.register("Fake/Game-v1", entry_point=lambda: None)  # type: ignore[arg-type, return-value]

    package = ModuleType("fake_games")
    package.register_envs = register_envs  # type: ignore[attr-defined]
    monkeypatch.setitem(sys.modules, "fake_games", package)
    extra = Extra(
        name="fake", entry_point="fake.", prefixes=("Fake/",), module="fake_games", register="register_envs"
    )
    monkeypatch.setattr(environments, "EXTRAS", (extra,))
    try:
        register_extra_of("Fake/Game-v1")
        register_extra_of("Fake/Game-v1")
        assert calls == ["registered"]
    finally:
        del gymnasium.registry["Fake/Game-v1"]


def test_a_foreign_registration_opens_nothing() -> None:
    gymnasium.register("OpensNothing-v0", entry_point=lambda size=3: None)  # type: ignore[arg-type, return-value]
    try:
        assert open_kwargs("OpensNothing-v0") == frozenset()
    finally:
        del gymnasium.registry["OpensNothing-v0"]


def test_what_the_operators_files_name_is_open(tmp_path: Path) -> None:
    for name, text in {
        "env/maze.yaml": "_target_: gym_env\nname: Maze-v0\nkwargs: {size: 5}\n",
        "experiment/big.yaml": "# @package _global_\nenv:\n  name: Maze-v0\n  kwargs: {walls: 2}\n",
    }.items():
        (tmp_path / name).parent.mkdir()
        (tmp_path / name).write_text(text)
    built_in = env_kwargs_of_modules()
    assert "Maze-v0" not in built_in
    assert env_kwargs_of_modules([str(tmp_path)]) == {**built_in, "Maze-v0": {"size", "walls"}}
    assert built_in["ALE/Breakout-v5"] == {"frameskip", "repeat_action_probability"}


def test_of_each_wrapper_the_arguments_are_known_that_the_operators_files_name(tmp_path: Path) -> None:
    for name, text in {
        "env/maze.yaml": "_target_: gym_env\nname: A-v0\nwrappers: [{_target_: a.B, size: 5}, {_target_: a.C}]\n",
        "experiment/big.yaml": "# @package _global_\nenv: {name: B-v0, wrappers: [{_target_: a.B, walls: 2}]}\n",
    }.items():
        (tmp_path / name).parent.mkdir()
        (tmp_path / name).write_text(text)
    built_in = wrapper_kwargs_of_modules()
    assert wrapper_kwargs_of_modules([str(tmp_path)]) == {
        **built_in,
        "a.B": {"size", "walls"},
        "a.C": frozenset(),
    }
    assert built_in["gymnasium.wrappers.stateful_observation.FrameStackObservation"] == {"stack_size"}


def test_arguments_are_open_where_the_environment_is_chosen_by_a_module_that_a_module_begins_from(
    tmp_path: Path,
) -> None:
    head = "# @package _global_\ndefaults:\n"
    for name, text in {
        "env/maze.yaml": "_target_: maze_core.GymEnvConfig\nname: Maze-v0\nkwargs: {size: 5}\n",
        "env/huge.yaml": "defaults: [maze]\nname: Huge-v0\nkwargs: {walls: 2}\n",
        "experiment/far.yaml": head + "  - override /env: huge\nenv: {kwargs: {map_file: far}}\n",
        "experiment/farther.yaml": head
        + "  - far\n  - override /algorithm: a2c\nenv: {kwargs: {goals: 3}}\n",
        "experiment/played.yaml": head
        + "  - override /env: maze\n  - override /policy: random_policy\nenv: {kwargs: {doors: 1}}\n",
        "experiment/broken.yaml": head + "  - override /env: nowhere\nenv: {kwargs: {x: 1}}\n",
    }.items():
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).write_text(text)
    opened = env_kwargs_of_modules([str(tmp_path)])
    assert opened["Maze-v0"] == {"size", "doors"}
    assert opened["Huge-v0"] == {"size", "walls", "map_file", "goals"}


@pytest.mark.parametrize(
    ("env_id", "extra"),
    [
        ("LunarLander-v3", "box2d"),
        ("Ant-v5", "mujoco"),
        ("ALE/Pong-v5", "atari"),
        ("MiniGrid-Empty-5x5-v0", "minigrid"),
        ("CartPole-v1", None),
        ("MyOwn-v0", None),
        ("\0Own-v0", None),
    ],
)
def test_an_environment_knows_the_extra_that_brings_it(env_id: str, extra: str | None) -> None:
    found = extra_of(env_id)
    assert (found.name if found else None) == extra


@pytest.mark.parametrize(
    ("module", "name", "fits"),
    [
        ("dm_control", "CartPole-v1", "gym_env"),
        ("dm_control", "ALE/Pong-v5", "atari"),
        ("atari", "dm_control/reacher-easy-v0", "dm_control"),
        ("atari", "MinAtar/Breakout-v1", "gym_env"),
    ],
)
def test_a_module_of_one_family_refuses_others_and_names_the_one_that_fits(module, name, fits):
    with pytest.raises(
        InvalidSpecificationError, match=rf"env\.name.*which env={module} takes: take env={fits}"
    ):
        compose_run(env=module, overrides={"env.name": name}, seed=1)
    assert compose_run(env=fits, overrides={"env.name": name}, seed=1).tree["env"]["name"] == name
