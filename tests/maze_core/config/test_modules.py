"""Modules are found by name in conf/ and in the caller's directories, and a name belongs to one file."""

from pathlib import Path

import pytest

from maze_core.config import conf_root, config_groups, config_module
from maze_core.errors import InvalidSpecificationError


def write_module(directory: Path, name: str, text: str) -> Path:
    file = directory / name
    file.parent.mkdir(parents=True, exist_ok=True)
    file.write_text(text)
    return directory


def test_the_groups_have_the_published_modules():
    groups = config_groups()
    assert {"gym_env"} <= set(groups["env"])
    assert {"no_wrappers", "vector_obs"} <= set(groups["wrappers"])
    assert {"a2c", "ppo"} <= set(groups["algorithm"])
    assert {"flatten_concat", "vector_obs"} <= set(groups["model"])
    assert {"template_state", "flatten_concat_shared"} <= set(groups["critic"])
    assert {"random_policy", "torch_policy"} <= set(groups["policy"])
    assert {"dev", "local", "sequential", "parallel"} <= set(groups["runner"])
    assert groups["launcher"] == ["local"]
    assert groups["configuration"] == ["test"]


def test_a_module_is_given_with_its_description_its_values_and_its_text():
    module = config_module("algorithm", "ppo")
    assert (module["group"], module["name"]) == ("algorithm", "ppo")
    assert module["description"].startswith("PPO")
    assert module["config"]["_target_"] == "maze_core.PPOAlgorithmConfig"
    assert module["yaml"] == (conf_root() / "algorithm" / "ppo.yaml").read_text()


def test_a_package_line_is_no_description():
    assert config_module("critic", "template_state")["description"].startswith("State critic")


def test_an_unknown_module_is_refused_with_a_suggestion():
    with pytest.raises(InvalidSpecificationError) as caught:
        config_module("algorithm", "pppo")
    (problem,) = caught.value.problems
    assert (problem.did_you_mean, problem.code) == ("ppo", "unknown_module")
    assert "a2c" in problem.allowed


def test_an_unknown_group_is_refused_with_a_suggestion():
    with pytest.raises(InvalidSpecificationError, match="algoritm") as caught:
        config_module("algoritm", "ppo")
    assert caught.value.problems[0].did_you_mean == "algorithm"


def test_a_path_is_no_module_name():
    with pytest.raises(InvalidSpecificationError):
        config_module("algorithm", "../algorithm/ppo")


def test_a_directory_of_the_caller_adds_modules(tmp_path: Path):
    write_module(tmp_path, "algorithm/mine.yaml", "# Mine.\n_target_: x.Y\nlr: 1e-3\n")
    assert "mine" in config_groups([tmp_path])["algorithm"]
    assert config_module("algorithm", "mine", [tmp_path])["config"]["lr"] == 0.001
    assert "mine" not in config_groups()["algorithm"]


def test_a_module_may_not_take_a_built_in_name(tmp_path: Path):
    write_module(tmp_path, "algorithm/ppo.yaml", "_target_: x.Y\n")
    with pytest.raises(InvalidSpecificationError, match=r"algorithm/ppo.yaml.*name of another module"):
        config_groups([tmp_path])


def test_two_directories_may_not_share_a_module_name(tmp_path: Path):
    for place in ("one", "two"):
        write_module(tmp_path / place, "env/mine.yaml", "_target_: x.Y\n")
    with pytest.raises(InvalidSpecificationError, match=r"env/mine.yaml"):
        config_groups([tmp_path / "one", tmp_path / "two"])


def test_naming_a_directory_twice_is_no_conflict(tmp_path: Path):
    write_module(tmp_path, "env/mine.yaml", "_target_: x.Y\n")
    assert "mine" in config_groups([tmp_path, str(tmp_path)])["env"]


def test_a_missing_directory_is_named(tmp_path: Path):
    with pytest.raises(InvalidSpecificationError, match="nowhere is not a directory"):
        config_groups([tmp_path / "nowhere"])
