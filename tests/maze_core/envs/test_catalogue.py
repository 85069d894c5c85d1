"""Environments described without making them, and their spaces by making them once."""

import gymnasium
import pytest
from gymnasium import spaces

from maze_core.envs.catalogue import environments, spaces_of
from maze_core.envs.gym_env import make_gym
from maze_core.errors import EnvError


def described() -> dict[str, dict[str, object]]:
    return {str(row["id"]): row for row in environments()}


def test_limits_and_arguments_come_from_registration_and_constructor() -> None:
    row = described()["FrozenLake8x8-v1"]
    assert (row["is_available"], row["max_episode_steps"], row["reward_threshold"]) == (True, 200, 0.85)
    assert row["kwargs"]["map_name"] == "8x8"  # type: ignore[index]
    assert "render_mode" not in row["kwargs"]  # type: ignore[operator]


def test_ids_that_are_kept_only_to_say_that_they_are_gone_are_not_available() -> None:
    row = described()["Ant-v2"]
    assert (row["is_available"], row["install"]) == (False, None)


def test_a_missing_package_is_named_with_the_command_that_installs_it(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    gymnasium.register("ALE/Missing-v0", entry_point="no_such_ale_py.env:AtariEnv")
    try:
        row = described()["ALE/Missing-v0"]
        assert row["is_available"] is False
        assert row["install"] == "pip install 'maze-service[atari]'"
        with pytest.raises(
            EnvError, match=r"comes with the extra 'atari': pip install 'maze-service\[atari\]'"
        ):
            make_gym("ALE/Missing-v0")
    finally:
        del gymnasium.registry["ALE/Missing-v0"]


def test_spaces_are_told_in_the_environments_own_form() -> None:
    found = spaces_of("Blackjack-v1")
    assert found["observation_space"]["type"] == "Tuple"
    assert found["action_space"] == {"type": "Discrete", "dtype": "int64", "n": 2, "start": 0}
    assert found["is_trainable"] is True


class Unspeakable(gymnasium.Env):  # type: ignore[type-arg]
    observation_space = spaces.Sequence(spaces.Discrete(3))
    action_space = spaces.Discrete(2)


def test_spaces_that_no_policy_sees_are_told_with_the_reason() -> None:
    gymnasium.register("Unspeakable-v0", entry_point=Unspeakable)
    try:
        found = spaces_of("Unspeakable-v0")
        assert (found["observation_space"], found["is_trainable"]) == (None, False)
        assert "Sequence" in found["reason"]
    finally:
        del gymnasium.registry["Unspeakable-v0"]
