"""Reinforcement learning from one configuration: train, roll out, evaluate, act.

Importing this package is cheap; torch is imported where a network is a torch module of yours.
"""

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from maze_core.agent import Agent, load_agent
    from maze_core.api.comparison import compare
    from maze_core.api.deployment import AgentDeployment
    from maze_core.api.multirun_report import JobsReporter
    from maze_core.api.run_context import RunContext
    from maze_core.checkpoint import Checkpoint
    from maze_core.config import RunConfig, compose_run, config_groups, config_module
    from maze_core.envs.config import (
        EnvConfig,
        GymEnvConfig,
        LegacyGymEnvConfig,
        PettingZooEnvConfig,
    )
    from maze_core.envs.core_env import Outcome, StructuredEnv
    from maze_core.envs.domain import (
        ActionConversionInterface,
        CoreEnv,
        ObservationConversionInterface,
    )
    from maze_core.envs.gym_env import GymMazeEnv
    from maze_core.envs.maze_env import MazeEnv, to_gymnasium
    from maze_core.envs.wrappers import (
        ActionClippingWrapper,
        DictActionWrapper,
        DictObservationWrapper,
        DiscretizeActionsWrapper,
        ExportGifWrapper,
        LogStatsWrapper,
        MonitoringWrapper,
        NoDictActionWrapper,
        NoDictObservationWrapper,
        NoDictSpacesWrapper,
        ObservationClippingWrapper,
        ObservationNormalizationWrapper,
        ObservationStackWrapper,
        ObservationVisualizationWrapper,
        PreProcessingWrapper,
        PreProcessor,
        RandomResetWrapper,
        RewardClippingWrapper,
        RewardNormalizationWrapper,
        RewardScalingWrapper,
        SplitActionsWrapper,
        StepSkipWrapper,
        TimeLimitWrapper,
        Wrapper,
    )
    from maze_core.errors import InvalidSpecificationError, JobFailedError, MazeError
    from maze_core.evaluation.comparison import ComparisonReport
    from maze_core.evaluation.evaluate import EvalReport, RolloutReport
    from maze_core.evaluation.rollout_evaluator import RolloutEvaluator
    from maze_core.events import KpiCalculator, RewardAggregatorInterface
    from maze_core.models.composers import (
        CustomModelComposer,
        DeltaStateCriticComposer,
        ProbabilisticPolicyComposer,
        SharedStateActionCriticComposer,
        SharedStateCriticComposer,
        StepStateActionCriticComposer,
        StepStateCriticComposer,
        TemplateModelComposer,
    )
    from maze_core.models.config import (
        CustomModelConfig,
        DeltaStateCriticConfig,
        FlattenConcatPolicyNetConfig,
        FlattenConcatStateValueNetConfig,
        ProbabilisticPolicyComposerConfig,
        RandomPolicyConfig,
        SharedStateActionCriticConfig,
        SharedStateCriticConfig,
        StepStateActionCriticConfig,
        StepStateCriticConfig,
        TemplateModelConfig,
        TorchPolicyConfig,
    )
    from maze_core.models.heads import DistributionMapper
    from maze_core.rollout.datasets import EpisodeSet, RecordedEpisode
    from maze_core.rollout.places import load_episodes, save_episodes
    from maze_core.rollout.recording import Trajectory, load_trajectory
    from maze_core.runners.config import RolloutRunnerConfig, TrainingRunnerConfig
    from maze_core.sb3.importing import import_sb3
    from maze_core.trainers.a2c_config import A2CAlgorithmConfig
    from maze_core.trainers.bc_config import BCAlgorithmConfig
    from maze_core.trainers.config import RolloutEvaluatorConfig
    from maze_core.trainers.dqn_config import DQNAlgorithmConfig, QRDQNAlgorithmConfig
    from maze_core.trainers.es_config import ESAlgorithmConfig
    from maze_core.trainers.fit import TrainReport
    from maze_core.trainers.impala_config import ImpalaAlgorithmConfig
    from maze_core.trainers.ppo_config import PPOAlgorithmConfig
    from maze_core.trainers.sac_config import SACAlgorithmConfig, SACfDAlgorithmConfig
    from maze_core.trainers.td3_config import TD3AlgorithmConfig
    from maze_core.types import ActorID

_PUBLIC = {
    "maze_core.agent": "Agent load_agent",
    "maze_core.api.comparison": "compare",
    "maze_core.api.deployment": "AgentDeployment",
    "maze_core.api.multirun_report": "JobsReporter",
    "maze_core.api.run_context": "RunContext",
    "maze_core.checkpoint": "Checkpoint",
    "maze_core.config": "RunConfig compose_run config_groups config_module",
    "maze_core.envs.config": "EnvConfig GymEnvConfig LegacyGymEnvConfig PettingZooEnvConfig",
    "maze_core.envs.core_env": "Outcome StructuredEnv",
    "maze_core.envs.domain": "ActionConversionInterface CoreEnv ObservationConversionInterface",
    "maze_core.envs.gym_env": "GymMazeEnv",
    "maze_core.envs.maze_env": "MazeEnv to_gymnasium",
    "maze_core.envs.wrappers": (
        "ActionClippingWrapper DictActionWrapper DictObservationWrapper DiscretizeActionsWrapper "
        "ExportGifWrapper LogStatsWrapper MonitoringWrapper NoDictActionWrapper NoDictObservationWrapper "
        "NoDictSpacesWrapper ObservationClippingWrapper ObservationNormalizationWrapper "
        "ObservationStackWrapper ObservationVisualizationWrapper PreProcessingWrapper PreProcessor "
        "RandomResetWrapper RewardClippingWrapper RewardNormalizationWrapper RewardScalingWrapper "
        "SplitActionsWrapper StepSkipWrapper TimeLimitWrapper Wrapper"
    ),
    "maze_core.errors": "InvalidSpecificationError JobFailedError MazeError",
    "maze_core.evaluation.comparison": "ComparisonReport",
    "maze_core.evaluation.evaluate": "EvalReport RolloutReport",
    "maze_core.evaluation.rollout_evaluator": "RolloutEvaluator",
    "maze_core.events": "KpiCalculator RewardAggregatorInterface",
    "maze_core.models.composers": (
        "CustomModelComposer DeltaStateCriticComposer ProbabilisticPolicyComposer SharedStateActionCriticComposer "
        "SharedStateCriticComposer StepStateActionCriticComposer StepStateCriticComposer TemplateModelComposer"
    ),
    "maze_core.models.config": (
        "CustomModelConfig DeltaStateCriticConfig FlattenConcatPolicyNetConfig FlattenConcatStateValueNetConfig "
        "ProbabilisticPolicyComposerConfig RandomPolicyConfig SharedStateActionCriticConfig SharedStateCriticConfig "
        "StepStateActionCriticConfig StepStateCriticConfig TemplateModelConfig TorchPolicyConfig"
    ),
    "maze_core.models.heads": "DistributionMapper",
    "maze_core.rollout.datasets": "EpisodeSet RecordedEpisode",
    "maze_core.rollout.places": "load_episodes save_episodes",
    "maze_core.rollout.recording": "Trajectory load_trajectory",
    "maze_core.runners.config": "RolloutRunnerConfig TrainingRunnerConfig",
    "maze_core.sb3.importing": "import_sb3",
    "maze_core.trainers.a2c_config": "A2CAlgorithmConfig",
    "maze_core.trainers.bc_config": "BCAlgorithmConfig",
    "maze_core.trainers.config": "RolloutEvaluatorConfig",
    "maze_core.trainers.dqn_config": "DQNAlgorithmConfig QRDQNAlgorithmConfig",
    "maze_core.trainers.fit": "TrainReport",
    "maze_core.trainers.es_config": "ESAlgorithmConfig",
    "maze_core.trainers.impala_config": "ImpalaAlgorithmConfig",
    "maze_core.trainers.ppo_config": "PPOAlgorithmConfig",
    "maze_core.trainers.sac_config": "SACAlgorithmConfig SACfDAlgorithmConfig",
    "maze_core.trainers.td3_config": "TD3AlgorithmConfig",
    "maze_core.types": "ActorID",
}
"""Module → the public names that are imported from it (PEP 562); the imports above say the same to type checkers."""
_HOMES = {name: module for module, names in _PUBLIC.items() for name in names.split()}

__all__ = [
    "A2CAlgorithmConfig",
    "ActionClippingWrapper",
    "ActionConversionInterface",
    "ActorID",
    "Agent",
    "AgentDeployment",
    "BCAlgorithmConfig",
    "Checkpoint",
    "ComparisonReport",
    "CoreEnv",
    "CustomModelComposer",
    "CustomModelConfig",
    "DQNAlgorithmConfig",
    "DeltaStateCriticComposer",
    "DeltaStateCriticConfig",
    "DictActionWrapper",
    "DictObservationWrapper",
    "DiscretizeActionsWrapper",
    "DistributionMapper",
    "ESAlgorithmConfig",
    "EnvConfig",
    "EpisodeSet",
    "EvalReport",
    "ExportGifWrapper",
    "FlattenConcatPolicyNetConfig",
    "FlattenConcatStateValueNetConfig",
    "GymEnvConfig",
    "GymMazeEnv",
    "ImpalaAlgorithmConfig",
    "InvalidSpecificationError",
    "JobFailedError",
    "JobsReporter",
    "KpiCalculator",
    "LegacyGymEnvConfig",
    "LogStatsWrapper",
    "MazeEnv",
    "MazeError",
    "MonitoringWrapper",
    "NoDictActionWrapper",
    "NoDictObservationWrapper",
    "NoDictSpacesWrapper",
    "ObservationClippingWrapper",
    "ObservationConversionInterface",
    "ObservationNormalizationWrapper",
    "ObservationStackWrapper",
    "ObservationVisualizationWrapper",
    "Outcome",
    "PPOAlgorithmConfig",
    "PettingZooEnvConfig",
    "PreProcessingWrapper",
    "PreProcessor",
    "ProbabilisticPolicyComposer",
    "ProbabilisticPolicyComposerConfig",
    "QRDQNAlgorithmConfig",
    "RandomPolicyConfig",
    "RandomResetWrapper",
    "RecordedEpisode",
    "RewardAggregatorInterface",
    "RewardClippingWrapper",
    "RewardNormalizationWrapper",
    "RewardScalingWrapper",
    "RolloutEvaluator",
    "RolloutEvaluatorConfig",
    "RolloutReport",
    "RolloutRunnerConfig",
    "RunConfig",
    "RunContext",
    "SACAlgorithmConfig",
    "SACfDAlgorithmConfig",
    "SharedStateActionCriticComposer",
    "SharedStateActionCriticConfig",
    "SharedStateCriticComposer",
    "SharedStateCriticConfig",
    "SplitActionsWrapper",
    "StepSkipWrapper",
    "StepStateActionCriticComposer",
    "StepStateActionCriticConfig",
    "StepStateCriticComposer",
    "StepStateCriticConfig",
    "StructuredEnv",
    "TD3AlgorithmConfig",
    "TemplateModelComposer",
    "TemplateModelConfig",
    "TimeLimitWrapper",
    "TorchPolicyConfig",
    "TrainReport",
    "TrainingRunnerConfig",
    "Trajectory",
    "Wrapper",
    "compare",
    "compose_run",
    "config_groups",
    "config_module",
    "import_sb3",
    "load_agent",
    "load_episodes",
    "load_trajectory",
    "save_episodes",
    "to_gymnasium",
]


def __getattr__(name: str) -> Any:
    """Import a public name from its home when it is first used."""
    if name not in _HOMES:
        raise AttributeError(f"module 'maze_core' has no attribute {name!r}")
    value = globals()[name] = getattr(import_module(_HOMES[name]), name)
    return value


def __dir__() -> list[str]:
    """Every public name, imported or not."""
    return sorted({*globals(), *__all__})
