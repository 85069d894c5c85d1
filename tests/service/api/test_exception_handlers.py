"""Key paths of the configuration found again in the request that caused them."""

import pytest

from maze_core.files import json_safe
from service.api.exception_handlers import locate
from service.json_values import decode_json, find_unusable, pointer_to

WRAPPER = "maze_core.RewardClippingWrapper"


@pytest.mark.parametrize(
    ("path", "request_", "pointer"),
    [
        ("algorithm.gamma", {"overrides": {"algorithm.gamma": 3}}, "/overrides/algorithm.gamma"),
        ("a.b~c/d", {"overrides": {"a.b~c/d": 3}}, "/overrides/a.b~0c~1d"),
        ("model.policy.x.0", {"overrides": {"model.policy": {"x": [{}]}}}, "/overrides/model.policy/x/0"),
        ("env.kwargs.g", {"overrides": {"env": 1, "env.kwargs": {"g": 1}}}, "/overrides/env.kwargs/g"),
        ("algorithm.gamma", {"algorithm": "ppo"}, "/algorithm"),
        ("algorithm.gamma", {"algorithm": {"gamma": 3}}, "/algorithm/gamma"),
        ("model.policy.networks.0.x", {"policy": {"networks": [{"x": 1}]}}, "/policy/networks/0/x"),
        ("model.policy.networks.1", {"policy": {"networks": [{"x": 1}]}}, "/policy/networks"),
        ("model.critic", {"model": {"critic": 1}, "critic": "x"}, "/critic"),
        ("algorithm.n_epochs", {"n_epochs": 3}, "/n_epochs"),
        ("seeding.env_base_seed", {"seed": 3}, "/seed"),
        ("runner.n_envs", {"n_envs": 99}, "/n_envs"),
        ("runner.record_trajectory", {"record": 1}, "/record"),
        (f"wrappers.{WRAPPER}.min_val", {"wrappers": {WRAPPER: {"min_val": 1}}}, f"/wrappers/{WRAPPER}/min_val"),
        ("wrappers.0.min_val", {"wrappers": [{"min_val": 1}]}, "/wrappers/0/min_val"),
        ("overrides", {"overrides": 3}, "/overrides"),
        ("env.name", {}, ""),
        ("", {"env": 1}, ""),
    ],
)  # fmt: skip
def test_a_path_is_followed_as_deep_as_the_request_goes(path: str, request_: dict, pointer: str) -> None:  # type: ignore[type-arg]
    assert locate(path, request_) == pointer


def test_pointers_are_escaped_as_rfc_6901_says() -> None:
    assert pointer_to("a/b", "m~n", 0) == "/a~1b/m~0n/0"
    assert pointer_to() == ""


def test_what_json_cannot_say_is_said_as_text() -> None:
    numbers = {"a": [float("nan"), float("inf"), -float("inf"), 1.5], 3: (True, None)}
    assert json_safe(numbers) == {"a": ["NaN", "Infinity", "-Infinity", 1.5], "3": [True, None]}


@pytest.mark.parametrize(
    ("text", "pointer"),
    [
        ('{"a": [1, {"b/c": 9223372036854775808}]}', "/a/1/b~1c"),
        ('{"a": "x\\u0000"}', "/a"),
        ('{"a": {"x\\u0000": 1}}', "/a"),
        ("[" * 33 + "]" * 33, "/0" * 32),
        ("[" * 32 + "9223372036854775807" + "]" * 32, None),
        ('{"a": -9223372036854775808}', None),
    ],
)
def test_values_that_no_database_takes_are_found(text: str, pointer: str | None) -> None:
    found = find_unusable(decode_json(text.encode()))
    assert (found and found.pointer) == pointer
