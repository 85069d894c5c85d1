"""Every name of the table leads to a component that is there, without torch, and to one name that is no place."""

import json
import subprocess
import sys

import pytest

from maze_core import compose_run
from maze_core.config.components import (
    ALIASES,
    PLACES,
    canonical_target,
    qualified_name,
    target_name,
    with_public_names,
)
from maze_core.config.schema import RunConfig
from maze_core.config.targets import resolve_target

IN_0_1_0 = [
    "maze_core.config.search.GridConfig",
    "maze_core.config.search.OptunaSearchConfig",
    "maze_core.envs.config.CallableEnvConfig",
    "maze_core.envs.config.GymEnvConfig",
    "maze_core.envs.config.LegacyGymEnvConfig",
    "maze_core.envs.wrappers.action_clipping.ActionClippingWrapper",
    "maze_core.envs.wrappers.log_stats.LogStatsWrapper",
    "maze_core.envs.wrappers.monitoring.MonitoringWrapper",
    "maze_core.envs.wrappers.observation_clipping.ObservationClippingWrapper",
    "maze_core.envs.wrappers.observation_normalization.ObservationNormalizationWrapper",
    "maze_core.envs.wrappers.reward_clipping.RewardClippingWrapper",
    "maze_core.envs.wrappers.reward_scaling.RewardScalingWrapper",
    "maze_core.models.callable_model.CallableModelConfig",
    "maze_core.models.config.ConcatModelBuilderConfig",
    "maze_core.models.config.CustomModelConfig",
    "maze_core.models.config.FlattenConcatPolicyNetConfig",
    "maze_core.models.config.FlattenConcatStateValueNetConfig",
    "maze_core.models.config.ProbabilisticPolicyComposerConfig",
    "maze_core.models.config.RandomPolicyConfig",
    "maze_core.models.config.SharedStateCriticConfig",
    "maze_core.models.config.StepStateCriticConfig",
    "maze_core.models.config.TemplateModelConfig",
    "maze_core.models.config.TorchPolicyConfig",
    "maze_core.runners.config.RolloutRunnerConfig",
    "maze_core.runners.config.TrainingRunnerConfig",
    "maze_core.runners.launcher.LocalLauncherConfig",
    "maze_core.trainers.a2c_config.A2CAlgorithmConfig",
    "maze_core.trainers.config.RolloutEvaluatorConfig",
    "maze_core.trainers.ppo_config.PPOAlgorithmConfig",
]
"""The places that 0.1.0 stored."""


@pytest.mark.parametrize("public", sorted(PLACES))
def test_a_public_component_is_where_the_table_says(public: str):
    assert qualified_name(resolve_target(public)) == PLACES[public]
    assert target_name(resolve_target(public)) == public


@pytest.mark.parametrize("alias", sorted({*ALIASES, *IN_0_1_0}))
def test_an_alias_leads_to_a_public_component(alias: str):
    assert canonical_target(alias) in PLACES
    assert alias not in PLACES


def test_a_name_that_is_not_in_the_table_stays():
    assert canonical_target("maze.core.agent") == "maze.core.agent"


@pytest.mark.parametrize("arguments", [{}, {"wrappers": "vector_obs", "model": "vector_obs"}])
def test_a_resolved_configuration_names_no_module(arguments):
    text = json.dumps(compose_run(**arguments, seed=1).tree)
    assert not [place for place in [*PLACES.values(), *IN_0_1_0] if place in text]


def test_a_tree_with_the_places_of_0_1_0_is_the_same_configuration():
    config = compose_run(wrappers="vector_obs", seed=1)
    stored = json.dumps(config.tree)
    for place in IN_0_1_0:
        stored = stored.replace(f'"{canonical_target(place)}"', f'"{place}"')
    old = json.loads(stored)
    assert old != config.tree
    assert with_public_names(old) == config.tree
    assert RunConfig.from_tree(old).config_sha256 == config.config_sha256


def test_no_component_imports_torch():
    code = (
        "import sys\n"
        "from maze_core.config.components import PLACES\n"
        "from maze_core.config.targets import resolve_target\n"
        "[resolve_target(name) for name in PLACES]\n"
        "assert 'torch' not in sys.modules\n"
    )
    subprocess.run([sys.executable, "-c", code], check=True, timeout=120)
