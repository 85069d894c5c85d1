"""What a configuration or an experiment says reaches the run, or is refused: nothing of it is dropped."""

import dataclasses
from pathlib import Path
from typing import Any

import pytest

from maze_core.config import compose_run
from maze_core.config.multirun import plan_multirun
from maze_core.envs.config import EnvConfig
from maze_core.errors import InvalidSpecificationError, Problem
from maze_core.runners.config import RolloutRunnerConfig, TrainingRunnerConfig
from maze_core.trainers.a2c_config import A2CAlgorithmConfig
from maze_core.trainers.config import FitConfig

HERE = __name__
A2C = "maze_core.A2CAlgorithmConfig"
PPO = "maze_core.PPOAlgorithmConfig"


@dataclasses.dataclass(frozen=True, kw_only=True)
class DerivedAlgorithm(A2CAlgorithmConfig):
    """An algorithm of the user's that is much like a built-in one."""

    note: str = ""


@dataclasses.dataclass(frozen=True, kw_only=True)
class StrangeAlgorithm(FitConfig):
    """An algorithm of the user's that is like none of the built-in ones."""

    def build(self, parts: Any) -> Any:
        raise AssertionError("composing builds no trainer")


def small_runner(n_envs: int = 7) -> RolloutRunnerConfig:
    return RolloutRunnerConfig(n_envs=n_envs)


class AnyEnv(EnvConfig):
    """An environment given as an object that is no dataclass."""

    def make(self) -> Any:
        raise AssertionError("composing makes no environment")


def problems(mode="train", **arguments) -> dict[str, Problem]:
    with pytest.raises(InvalidSpecificationError) as caught:
        compose_run(mode, **arguments)
    return {problem.path: problem for problem in caught.value.problems}


def written(directory: Path, **modules: str) -> list[Path]:
    """A directory with modules ``group__name=text``."""
    for name, text in modules.items():
        file = directory / f"{name.replace('__', '/').replace('_test', '-test')}.yaml"
        file.parent.mkdir(exist_ok=True)
        file.write_text(text)
    return [directory]


# ---------------------------------------------------------------- small settings


@pytest.mark.parametrize("target", ["A2CAlgorithmConfig", A2C, f"{HERE}.DerivedAlgorithm"])
def test_a_dict_that_names_a_component_gets_the_small_settings_of_that_component(target: str):
    tree = compose_run(configuration="test", algorithm={"_target_": target, "lr": 0.25}).tree
    small = compose_run(configuration="test", algorithm="a2c", overrides={"algorithm.lr": 0.25}).tree
    assert {**tree["algorithm"], "note": ""} == {
        **small["algorithm"],
        "note": "",
        "_target_": tree["algorithm"]["_target_"],
    }
    assert tree["runner"]["n_envs"] == 2


def test_the_values_of_a_dict_outrank_the_small_settings():
    given = {"_target_": "A2CAlgorithmConfig", "n_epochs": 9, "rollout_evaluator": {"deterministic": False}}
    algorithm = compose_run(configuration="test", algorithm=given).tree["algorithm"]
    assert (algorithm["n_epochs"], algorithm["epoch_length"]) == (9, 2)
    assert algorithm["rollout_evaluator"]["n_episodes"] == 1
    assert algorithm["rollout_evaluator"]["deterministic"] is False


def test_a_module_of_the_users_gets_the_small_settings_of_its_component(tmp_path: Path):
    directories = written(tmp_path, algorithm__mine=f"_target_: {PPO}\nlr: 0.5\nn_epochs: 70\n")
    algorithm = compose_run(configuration="test", algorithm="mine", config_dirs=directories).tree["algorithm"]
    assert (algorithm["lr"], algorithm["n_epochs"], algorithm["batch_size"]) == (0.5, 2, 16)


def test_small_settings_of_its_own_win_over_those_of_the_component(tmp_path: Path):
    directories = written(
        tmp_path,
        algorithm__mine=f"_target_: {PPO}\nn_epochs: 70\n",
        algorithm_configuration__mine_test="# @package _global_\nalgorithm:\n  n_epochs: 3\n",
    )
    algorithm = compose_run(configuration="test", algorithm="mine", config_dirs=directories).tree["algorithm"]
    assert (algorithm["n_epochs"], algorithm["batch_size"]) == (3, 256)


def test_an_experiment_outranks_small_settings_that_its_component_has(tmp_path: Path):
    directories = written(
        tmp_path,
        algorithm__mine=f"_target_: {PPO}\n",
        experiment__few="# @package _global_\ndefaults:\n  - override /algorithm: mine\nalgorithm:\n  n_epochs: 5\n",
    )
    algorithm = compose_run(configuration="test", experiment="few", config_dirs=directories).tree["algorithm"]
    assert (algorithm["n_epochs"], algorithm["batch_size"]) == (5, 16)


@pytest.mark.parametrize(
    "algorithm",
    [{"_target_": f"{HERE}.StrangeAlgorithm"}, "mine"],
)
def test_a_component_without_small_settings_is_refused_with_the_way_out(algorithm: Any, tmp_path: Path):
    directories = written(tmp_path, algorithm__mine=f"_target_: {HERE}.StrangeAlgorithm\n")
    found = problems(configuration="test", algorithm=algorithm, config_dirs=directories)
    assert found["configuration"].code == "no_small_settings"
    assert "StrangeAlgorithm" in found["configuration"].message
    assert "algorithm_configuration/<module>-test.yaml" in found["configuration"].message


@pytest.mark.parametrize(
    ("mode", "path", "value"),
    [
        ("train", "algorithm", A2CAlgorithmConfig()),
        ("train", "algorithm", StrangeAlgorithm()),
        ("train", "runner", TrainingRunnerConfig(n_envs=4)),
        ("rollout", "runner", RolloutRunnerConfig(n_envs=4)),
    ],
)
def test_an_object_and_small_settings_for_it_contradict(mode: Any, path: str, value: Any):
    found = problems(mode, configuration="test", **{path: value})
    assert {where: problem.code for where, problem in found.items()} == {path: "contradiction"}
    for word in ("configuration='test'", type(value).__name__, "leave configuration out"):
        assert word in found[path].message


def test_an_object_of_which_the_configuration_says_nothing_is_taken():
    assert compose_run(configuration="test", env=AnyEnv()).tree["algorithm"]["n_epochs"] == 2


def test_values_of_the_users_own_configuration_reach_what_a_dict_names(tmp_path: Path):
    text = "# @package _global_\nalgorithm:\n  n_epochs: 4\n"
    directories = written(tmp_path, configuration__brief=text)
    given = {"configuration": "brief", "config_dirs": directories}
    for algorithm in ("ppo", {"_target_": A2C}, {"_target_": f"{HERE}.StrangeAlgorithm"}):
        assert compose_run(algorithm=algorithm, **given).tree["algorithm"]["n_epochs"] == 4
    assert problems(algorithm=A2CAlgorithmConfig(), **given)["algorithm"].code == "contradiction"


def test_a_runner_named_by_a_dict_gets_the_small_settings_it_takes():
    runner = {"_target_": f"{HERE}.small_runner"}
    assert compose_run("rollout", configuration="test", runner="parallel").tree["runner"]["n_episodes"] == 2
    assert (
        problems("rollout", configuration="test", runner=runner)["configuration"].code == "no_small_settings"
    )
    trained = {"_target_": "TrainingRunnerConfig", "execution": "local"}
    assert compose_run(configuration="test", runner=trained).tree["runner"]["n_envs"] == 2


# ---------------------------------------------------------------- sections that no run has


@pytest.mark.parametrize(
    ("section", "key", "near"),
    [
        ("algoritm:\n  lr: 0.5\n", "algoritm", "algorithm"),
        ("seed: 4\n", "seed", "seeding"),
        ("overrides:\n  algorithm.lr: 0.5\n", "overrides", None),
        ("zzz: 3\n", "zzz", None),
        ("policy:\n  run: x\n", "policy", None),
    ],
)
@pytest.mark.parametrize("group", ["experiment", "configuration"])
def test_a_section_that_no_run_has_is_refused_with_the_file_that_has_it(
    group: str, section: str, key: str, near: str | None, tmp_path: Path
):
    directories = written(tmp_path, **{f"{group}__mine": f"# @package _global_\n{section}"})
    found = problems(**{group: "mine"}, config_dirs=directories)
    assert set(found) == {key}
    assert (found[key].code, found[key].did_you_mean) == ("unknown_key", near)
    assert f"The {group} 'mine' sets {key!r}" in found[key].message
    assert "algorithm" in found[key].allowed


def test_an_experiment_that_forgot_its_first_line_is_told_to_have_it(tmp_path: Path):
    directories = written(tmp_path, experiment__mine="algorithm:\n  lr: 0.5\n")
    found = problems(experiment="mine", config_dirs=directories)
    assert "# @package _global_" in found["experiment"].message


def test_every_job_of_a_multirun_refuses_the_section_too(tmp_path: Path):
    directories = written(tmp_path, experiment__mine="# @package _global_\nalgoritm:\n  lr: 0.5\n")
    job = plan_multirun("train", {"experiment": "mine", "config_dirs": directories}).grid.jobs()[0]
    assert "algoritm" in problems(**job.arguments, within_multirun=True)


# ---------------------------------------------------------------- choices that a mode has not


def test_an_experiment_that_chooses_what_a_rollout_has_not_is_refused_in_words():
    for refused in (
        lambda: compose_run("rollout", experiment="cartpole_ppo_wrappers"),
        lambda: plan_multirun("rollout", {"experiment": "cartpole_ppo_wrappers"}),
    ):
        with pytest.raises(InvalidSpecificationError) as caught:
            refused()
        (problem,) = caught.value.problems
        assert (problem.path, problem.code) == ("experiment", "wrong_mode")
        assert "chooses algorithm=ppo, and a rollout run has no algorithm" in problem.message


# ---------------------------------------------------------------- files that cannot be read


@pytest.mark.parametrize(
    ("text", "said"),
    [
        (b"_target_: x\nlr: [1, 2\n", "line 3"),
        (b"_target_: x\nlr: 1\nlr: 2\n", "line 3 cannot be read: found duplicate key lr"),
        (b"lr: \xff\n", "it is no UTF-8 text"),
    ],
)
def test_a_broken_module_is_named_with_its_line(text: bytes, said: str, tmp_path: Path):
    (tmp_path / "algorithm").mkdir()
    (tmp_path / "algorithm" / "mine.yaml").write_bytes(text)
    found = problems(algorithm="mine", config_dirs=[tmp_path])["algorithm"]
    assert found.code == "unreadable_module"
    assert "algorithm/mine.yaml" in found.message
    assert said in found.message
    assert str(tmp_path) not in found.message
