"""A resolved configuration is taken again on every face, as a dict and as a file, and gives the same digest."""

import json
from pathlib import Path

import pytest
import yaml

from maze_core import GymMazeEnv, InvalidSpecificationError, RunContext, compose_run
from maze_core.cli import main

SPECIFICATIONS = [
    {},
    {"algorithm": "a2c", "wrappers": "vector_obs", "model": "vector_obs", "critic": "template_state"},
    {
        "critic": "flatten_concat_shared",
        "runner": "local",
        "wrappers": [{"_target_": "RewardScalingWrapper", "scale": 0.5}],
        "overrides": {"env.name": "CartPole-v1", "env.kwargs.sutton_barto_reward": True, "project.name": "x"},
    },
    {"policy": "random_policy", "overrides": {"runner.n_episodes": 3}},
]


@pytest.mark.parametrize("arguments", SPECIFICATIONS)
def test_a_configuration_goes_round_in_python_and_as_a_file(arguments: dict, tmp_path: Path):
    context = RunContext(**arguments)
    record = {"config_sha256": context.config_sha256, "undescribed": {}, "config": context.config}
    for name, content in {"bare": context.config, "record": record}.items():
        (tmp_path / f"{name}.yaml").write_text(yaml.safe_dump(content))
        (tmp_path / f"{name}.json").write_text(json.dumps(content))
        for given in (content, tmp_path / f"{name}.yaml", str(tmp_path / f"{name}.json")):
            again = RunContext.from_config(given)
            assert (again.config, again.config_sha256) == (context.config, context.config_sha256)


def test_maze_run_takes_the_file_that_it_prints(tmp_path: Path, capsys: pytest.CaptureFixture[str]):
    def printed(*words: str) -> str:
        assert main([*words, "--cfg", "job"]) == 0
        return capsys.readouterr().out

    (tmp_path / "job.yaml").write_text(printed("algorithm=a2c", "wrappers=vector_obs"))
    assert printed("--config", str(tmp_path / "job.yaml")) == (tmp_path / "job.yaml").read_text()
    changed = yaml.safe_load(printed("--config", str(tmp_path / "job.yaml"), "algorithm.lr=0.25"))
    assert changed == yaml.safe_load((tmp_path / "job.yaml").read_text()) | {
        "algorithm": changed["algorithm"] | {"lr": 0.25}
    }


def test_arguments_beside_a_configuration_replace_its_parts_and_values():
    config = compose_run(seed=1, overrides={"project.name": "first"}).tree
    again = RunContext.from_config(
        config, env="legacy_gym_env", seed=5, overrides={"algorithm.lr": 0.25}
    ).config
    assert again["env"]["_target_"] == "maze_core.LegacyGymEnvConfig"
    assert again["seeding"] == {"env_base_seed": 5, "agent_base_seed": 5}
    assert again["algorithm"]["lr"] == 0.25
    assert again["project"] == {"name": "first"}


def test_a_live_object_is_asked_for_again():
    def make() -> GymMazeEnv:
        return GymMazeEnv("CartPole-v1")

    context = RunContext(env=make)
    with pytest.raises(InvalidSpecificationError, match=r"env.factory: was a live object.*pass env again"):
        RunContext.from_config(context.config)
    assert RunContext.from_config(context.config, env=make).config_sha256 == context.config_sha256


@pytest.mark.parametrize(
    ("config", "message"),
    [
        ({}, "takes a resolved configuration"),
        (3, "takes a resolved configuration"),
        ("no/such.yaml", "cannot be read"),
        (compose_run().tree | {"hooks": {}}, "'hooks' is no part"),
        (compose_run().tree | {"runner": {"n_envs": 0, "_target_": "TrainingRunnerConfig"}}, "runner.n_envs"),
    ],
)
def test_what_is_no_configuration_is_refused(config: object, message: str):
    with pytest.raises(InvalidSpecificationError, match=message):
        RunContext.from_config(config)
    with pytest.raises(InvalidSpecificationError, match=r"configuration: chooses values"):
        RunContext.from_config(compose_run().tree, configuration="test")


def test_a_run_directory_with_the_bare_configuration_is_gone_on_with(tmp_path: Path):
    config = compose_run(configuration="test").tree
    (tmp_path / "config.yaml").write_text(yaml.safe_dump(config))
    with RunContext.from_config(tmp_path / "config.yaml", run_dir=tmp_path) as context:
        assert context.config == config
    with pytest.raises(InvalidSpecificationError, match="holds a run with another configuration"):
        RunContext(tmp_path, algorithm="a2c")


@pytest.mark.parametrize("other", [{"env.name": "FrozenLake-v1"}, {"env.kwargs.sutton_barto_reward": True}])
def test_what_auto_vectorization_became_is_decided_anew_for_another_environment(other):
    recorded = RunContext(overrides={"env.name": "CartPole-v1"}, seed=1).config
    again = RunContext.from_config(recorded, overrides=other)
    assert (recorded["env"]["vectorization"], again.config["env"]["vectorization"]) == ("builtin", "per_env")
