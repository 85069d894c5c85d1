"""Every module of conf/ composes, builds and round-trips, and says the same as its config class."""

import dataclasses
import json
import re

import pytest

from maze_core.config import RunConfig, canonical_json, compose_run, conf_root, config_groups, config_module
from maze_core.config.instantiate import instantiate
from maze_core.config.targets import resolve_target
from tests.maze_core.config.episodes import episodes_for

GROUPS = config_groups()
NODES = [
    (group, name)
    for group, names in GROUPS.items()
    for name in names
    if "_target_" in config_module(group, name)["config"]
]
TRAINING = [
    (group, name)
    for group in (
        "env",
        "wrappers",
        "algorithm",
        "model",
        "critic",
        "launcher",
        "configuration",
        "experiment",
    )
    for name in GROUPS[group]
] + [("runner", "dev"), ("runner", "local"), ("runner", "isolated")]
PLAYING = [("policy", name) for name in GROUPS["policy"]] + [("runner", "sequential"), ("runner", "parallel")]


CLASSES = sorted({config_module(group, name)["config"]["_target_"] for group, name in NODES})


@pytest.mark.parametrize(("group", "name"), NODES)
def test_a_module_spells_out_every_setting_of_its_class(group: str, name: str):
    config = config_module(group, name)["config"]
    fields = dataclasses.fields(resolve_target(config["_target_"]))
    assert set(config) - {"_target_"} == {field.name for field in fields}


@pytest.mark.parametrize("target", CLASSES)
def test_the_defaults_of_a_class_are_those_of_a_module(target: str):
    modules = [config_module(group, name)["config"] for group, name in NODES]
    assert resolve_target(target)() in [
        instantiate(config)
        for config in modules
        if config["_target_"] == target and not config.get("wrappers")  # which are read as env.wrappers alone
    ]


@pytest.mark.parametrize(("group", "name"), TRAINING)
def test_a_module_of_training_composes_builds_and_round_trips(group: str, name: str):
    episodes = episodes_for(name if group == "algorithm" else None)
    round_trip(compose_run("train", **{group: name}, seed=1, within_multirun=True, **episodes))


@pytest.mark.parametrize(("group", "name"), PLAYING)
def test_a_module_of_rollouts_composes_builds_and_round_trips(group: str, name: str):
    round_trip(compose_run("rollout", **{group: name}, seed=1))


def round_trip(config: RunConfig) -> None:
    stored = RunConfig.from_tree(json.loads(canonical_json(config.tree)), config.mode)
    assert stored.tree == config.tree
    for part in set(config.tree) - {"wrappers"}:
        assert comparable(stored.build(part)) == comparable(config.build(part))
    assert [vars(w) for w in stored.build("wrappers")] == [vars(w) for w in config.build("wrappers")]


def comparable(part: object) -> object:
    """The part; of an environment with wrappers inside, whose calls are prepared, what is called and how."""
    if not getattr(part, "wrappers", None):
        return part
    return vars(part) | {"wrappers": [(wrapper.func, wrapper.keywords) for wrapper in part.wrappers]}


@pytest.mark.parametrize("group", [group for group, names in GROUPS.items() if names])
def test_a_module_says_what_it_is(group: str):
    for name in GROUPS[group]:
        assert re.fullmatch(r"[A-Z].+[.=\])].*", config_module(group, name)["description"]), name


def test_every_algorithm_and_rollout_runner_has_small_settings_for_tests():
    small = {file.stem for file in (conf_root() / "algorithm_configuration").glob("*.yaml")}
    assert small == {f"{name}-test" for name in GROUPS["algorithm"]}
    small = {file.stem for file in (conf_root() / "runner_configuration").glob("*.yaml")}
    assert small == {"sequential-test", "parallel-test"}


def test_every_file_of_conf_belongs_to_a_group():
    known = {*GROUPS, "algorithm_configuration", "runner_configuration"}
    for file in conf_root().rglob("*.yaml"):
        place = file.relative_to(conf_root()).parts
        assert place[0] in known or place in {("conf_train.yaml",), ("conf_rollout.yaml",)}, file
        assert len(place) <= 2
