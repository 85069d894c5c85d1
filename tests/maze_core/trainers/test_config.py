"""Settings of the loop and the algorithms: what is refused, what 0 means, and their YAML twins."""

import ast
import dataclasses
from pathlib import Path
from types import SimpleNamespace

import pytest
import yaml

import maze_core
import maze_core.trainers
from maze_core.config import conf_root, config_groups
from maze_core.config.components import PUBLIC_TARGETS, target_name
from maze_core.config.modules import config_module
from maze_core.errors import InvalidSpecificationError
from maze_core.models.config import DISTRIBUTIONS
from maze_core.models.supports import learnt_by
from maze_core.trainers.a2c_config import A2CAlgorithmConfig
from maze_core.trainers.bc_config import BCAlgorithmConfig
from maze_core.trainers.config import FitConfig, RolloutEvaluatorConfig, loss_weights
from maze_core.trainers.dqn_config import DQNAlgorithmConfig, QRDQNAlgorithmConfig
from maze_core.trainers.impala_config import ImpalaAlgorithmConfig
from maze_core.trainers.ppo_config import PPOAlgorithmConfig
from maze_core.trainers.sac_config import SACAlgorithmConfig, SACfDAlgorithmConfig
from maze_core.trainers.td3_config import TD3AlgorithmConfig


@pytest.mark.parametrize(
    ("config", "name"),
    [
        (A2CAlgorithmConfig, "a2c"),
        (BCAlgorithmConfig, "bc"),
        (DQNAlgorithmConfig, "dqn"),
        (ImpalaAlgorithmConfig, "impala"),
        (PPOAlgorithmConfig, "ppo"),
        (QRDQNAlgorithmConfig, "qrdqn"),
        (SACAlgorithmConfig, "sac"),
        (SACfDAlgorithmConfig, "sacfd"),
        (TD3AlgorithmConfig, "td3"),
    ],
)
def test_the_yaml_twin_has_the_same_fields_and_values(config, name):
    twin = yaml.safe_load((conf_root() / "algorithm" / f"{name}.yaml").read_text())
    assert twin.pop("_target_") == target_name(config)
    assert twin == dataclasses.asdict(config())


TRAINERS = Path(maze_core.trainers.__path__[0])
ALGORITHMS = [path.stem.removesuffix("_config") for path in sorted(TRAINERS.glob("*_config.py"))]


@pytest.mark.parametrize("name", ALGORITHMS)
def test_an_algorithm_is_found_by_its_name_and_knows_no_other(name):
    """Its file, its settings and its YAML file are all there is to add, and its name in one table."""
    assert (
        yaml.safe_load((conf_root() / "algorithm" / f"{name}.yaml").read_text())["_target_"] in PUBLIC_TARGETS
    )
    for file in (f"{name}.py", f"{name}_config.py"):
        for node in ast.walk(ast.parse((TRAINERS / file).read_text())):
            module = getattr(node, "module", None) or ""
            others = {module.rpartition(".")[2].removesuffix("_config")} & set(ALGORITHMS) - {name}
            assert not others, f"{file} imports {module}"


@pytest.mark.parametrize(
    "settings",
    [
        {"gamma": 1.5},
        {"lr": 0},
        {"n_epochs": -1},
        {"clip_range": 0},
        {"lr": float("nan")},
        {"learning_rate": 0.1},
        {"device": "tpu"},
    ],
)
def test_a_value_outside_its_range_is_refused(settings):
    with pytest.raises(InvalidSpecificationError):
        PPOAlgorithmConfig(**settings)


def test_zero_means_off_where_the_reference_says_so():
    config = A2CAlgorithmConfig(max_grad_norm=0.0, patience=0, n_epochs=0, eval_repeats=0)
    assert config.max_grad_norm is None
    assert config.patience is None
    assert config.n_epochs is None
    assert config.evaluator.n_episodes is None


@pytest.mark.parametrize("off", [None, 0, 0.0])
def test_an_evaluator_that_is_off_evaluates_nothing(off):
    config = A2CAlgorithmConfig(rollout_evaluator=off)
    assert config.rollout_evaluator == RolloutEvaluatorConfig(n_episodes=None)


@pytest.mark.parametrize("wrong", [False, True, 1, "off"])
def test_what_is_no_evaluator_is_not_taken_for_off(wrong):
    with pytest.raises(InvalidSpecificationError, match="rollout_evaluator"):
        A2CAlgorithmConfig(rollout_evaluator=wrong)


def test_without_a_last_epoch_nobody_waits_for_the_end():
    assert A2CAlgorithmConfig(n_epochs=0).most_epochs >= 1_000_000
    assert A2CAlgorithmConfig(n_epochs=7).most_epochs == 7


def test_both_generations_of_evaluator_arguments_mean_the_same():
    old = A2CAlgorithmConfig(deterministic_eval=False, eval_repeats=2)
    new = A2CAlgorithmConfig(rollout_evaluator=RolloutEvaluatorConfig(n_episodes=2, deterministic=False))
    assert old.evaluator == new.evaluator == RolloutEvaluatorConfig(n_episodes=2, deterministic=False)


def test_the_arguments_of_the_users_document_are_accepted():
    config = A2CAlgorithmConfig(
        n_epochs=1,
        epoch_length=25,
        deterministic_eval=False,
        eval_repeats=2,
        patience=15,
        critic_burn_in_epochs=0,
        n_rollout_steps=100,
        lr=0.0005,
        gamma=0.98,
        gae_lambda=1.0,
        policy_loss_coef=1.0,
        value_loss_coef=0.5,
        entropy_coef=0.00025,
        max_grad_norm=0.0,
        device="cpu",
    )
    assert config.n_rollout_steps == 100


def test_only_the_critic_learns_during_its_burn_in():
    config = PPOAlgorithmConfig(critic_burn_in_epochs=2, entropy_coef=0.1)
    assert loss_weights(config, 1, 0.5) == (0.0, 0.5, 0.0)
    assert loss_weights(config, 2, 0.5) == (1.0, 0.5, 0.1)


def test_a_linear_weight_of_the_entropy_falls_with_the_run():
    config = PPOAlgorithmConfig(entropy_coef=0.1, entropy_coef_schedule="linear")
    assert [loss_weights(config, 0, progress) for progress in (0.0, 0.75)] == [
        (1.0, 0.5, 0.1),
        (1.0, 0.5, 0.025),
    ]


def test_an_adaptive_step_size_needs_a_divergence_to_adapt_to():
    with pytest.raises(InvalidSpecificationError, match="kl_adaptive needs target_kl"):
        PPOAlgorithmConfig(lr_schedule="kl_adaptive")


def test_the_loops_defaults_are_finite():
    assert FitConfig().n_epochs == 30


def test_an_evaluator_with_an_environment_of_its_own_is_no_setting_of_training():
    with pytest.raises(ValueError, match=r"rollout_evaluator[^$]*call the RolloutEvaluator with rc.policy"):
        FitConfig(rollout_evaluator=SimpleNamespace(eval_env=None))


def test_who_chose_an_algorithm_for_another_space_is_told_those_that_act_in_it():
    """Of those that need nothing but the environment."""
    algorithms = {
        name: getattr(maze_core, config_module("algorithm", name)["config"]["_target_"].rpartition(".")[2])
        for name in config_groups()["algorithm"]
    }
    needs = {name: kind().model_needs for name, kind in algorithms.items() if not kind.LEARNS_FROM_EPISODES}
    for kind in DISTRIBUTIONS:
        named = set(learnt_by("actions", kind).replace(" or ", ", ").split(", "))
        assert named == {name for name, of_model in needs.items() if kind in of_model.distributions}
