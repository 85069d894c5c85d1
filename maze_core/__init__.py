"""Reinforcement learning from one configuration: train, roll out, evaluate, act.

Importing this package is cheap; torch is imported when something is trained or a network needs it.
"""

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from maze_core.agent import Agent, load_agent
    from maze_core.api.multirun_report import JobsReporter
    from maze_core.api.run_context import RunContext
    from maze_core.checkpoint import Checkpoint
    from maze_core.config import RunConfig, compose_run, config_groups, config_module
    from maze_core.envs.config import EnvConfig, GymEnvConfig, LegacyGymEnvConfig
    from maze_core.envs.core_env import StructuredEnv
    from maze_core.envs.gym_env import GymMazeEnv
    from maze_core.envs.maze_env import MazeEnv, to_gymnasium
    from maze_core.envs.wrappers import (
        ActionClippingWrapper,
        LogStatsWrapper,
        MonitoringWrapper,
        ObservationClippingWrapper,
        ObservationNormalizationWrapper,
        RewardClippingWrapper,
        RewardScalingWrapper,
        Wrapper,
    )
    from maze_core.errors import InvalidSpecificationError, JobFailedError, MazeError
    from maze_core.evaluation.evaluate import EvalReport, RolloutReport
    from maze_core.evaluation.rollout_evaluator import RolloutEvaluator
    from maze_core.models.composers import (
        CustomModelComposer,
        ProbabilisticPolicyComposer,
        SharedStateCriticComposer,
        StepStateCriticComposer,
        TemplateModelComposer,
    )
    from maze_core.models.config import (
        CustomModelConfig,
        FlattenConcatPolicyNetConfig,
        FlattenConcatStateValueNetConfig,
        ProbabilisticPolicyComposerConfig,
        RandomPolicyConfig,
        SharedStateCriticConfig,
        StepStateCriticConfig,
        TemplateModelConfig,
        TorchPolicyConfig,
    )
    from maze_core.models.heads import DistributionMapper
    from maze_core.rollout.recording import Trajectory, load_trajectory
    from maze_core.runners.config import RolloutRunnerConfig, TrainingRunnerConfig
    from maze_core.trainers.a2c_config import A2CAlgorithmConfig
    from maze_core.trainers.config import RolloutEvaluatorConfig
    from maze_core.trainers.fit import TrainReport
    from maze_core.trainers.ppo_config import PPOAlgorithmConfig
    from maze_core.types import ActorID

_WRAPPERS = "maze_core.envs.wrappers"
_COMPOSERS = "maze_core.models.composers"
_MODELS = "maze_core.models.config"

_HOMES = {
    "A2CAlgorithmConfig": "maze_core.trainers.a2c_config",
    "ActionClippingWrapper": _WRAPPERS,
    "ActorID": "maze_core.types",
    "Agent": "maze_core.agent",
    "Checkpoint": "maze_core.checkpoint",
    "CustomModelComposer": _COMPOSERS,
    "CustomModelConfig": _MODELS,
    "DistributionMapper": "maze_core.models.heads",
    "EnvConfig": "maze_core.envs.config",
    "EvalReport": "maze_core.evaluation.evaluate",
    "FlattenConcatPolicyNetConfig": _MODELS,
    "FlattenConcatStateValueNetConfig": _MODELS,
    "GymEnvConfig": "maze_core.envs.config",
    "GymMazeEnv": "maze_core.envs.gym_env",
    "InvalidSpecificationError": "maze_core.errors",
    "JobFailedError": "maze_core.errors",
    "JobsReporter": "maze_core.api.multirun_report",
    "LegacyGymEnvConfig": "maze_core.envs.config",
    "LogStatsWrapper": _WRAPPERS,
    "MazeEnv": "maze_core.envs.maze_env",
    "MazeError": "maze_core.errors",
    "MonitoringWrapper": _WRAPPERS,
    "ObservationClippingWrapper": _WRAPPERS,
    "ObservationNormalizationWrapper": _WRAPPERS,
    "PPOAlgorithmConfig": "maze_core.trainers.ppo_config",
    "ProbabilisticPolicyComposer": _COMPOSERS,
    "ProbabilisticPolicyComposerConfig": _MODELS,
    "RandomPolicyConfig": _MODELS,
    "RewardClippingWrapper": _WRAPPERS,
    "RewardScalingWrapper": _WRAPPERS,
    "RolloutEvaluator": "maze_core.evaluation.rollout_evaluator",
    "RolloutEvaluatorConfig": "maze_core.trainers.config",
    "RolloutReport": "maze_core.evaluation.evaluate",
    "RolloutRunnerConfig": "maze_core.runners.config",
    "RunConfig": "maze_core.config",
    "RunContext": "maze_core.api.run_context",
    "SharedStateCriticComposer": _COMPOSERS,
    "SharedStateCriticConfig": _MODELS,
    "StepStateCriticComposer": _COMPOSERS,
    "StepStateCriticConfig": _MODELS,
    "StructuredEnv": "maze_core.envs.core_env",
    "TemplateModelComposer": _COMPOSERS,
    "TemplateModelConfig": _MODELS,
    "TorchPolicyConfig": _MODELS,
    "TrainReport": "maze_core.trainers.fit",
    "TrainingRunnerConfig": "maze_core.runners.config",
    "Trajectory": "maze_core.rollout.recording",
    "Wrapper": _WRAPPERS,
    "compose_run": "maze_core.config",
    "config_groups": "maze_core.config",
    "config_module": "maze_core.config",
    "load_agent": "maze_core.agent",
    "load_trajectory": "maze_core.rollout.recording",
    "to_gymnasium": "maze_core.envs.maze_env",
}

__all__ = [
    "A2CAlgorithmConfig",
    "ActionClippingWrapper",
    "ActorID",
    "Agent",
    "Checkpoint",
    "CustomModelComposer",
    "CustomModelConfig",
    "DistributionMapper",
    "EnvConfig",
    "EvalReport",
    "FlattenConcatPolicyNetConfig",
    "FlattenConcatStateValueNetConfig",
    "GymEnvConfig",
    "GymMazeEnv",
    "InvalidSpecificationError",
    "JobFailedError",
    "JobsReporter",
    "LegacyGymEnvConfig",
    "LogStatsWrapper",
    "MazeEnv",
    "MazeError",
    "MonitoringWrapper",
    "ObservationClippingWrapper",
    "ObservationNormalizationWrapper",
    "PPOAlgorithmConfig",
    "ProbabilisticPolicyComposer",
    "ProbabilisticPolicyComposerConfig",
    "RandomPolicyConfig",
    "RewardClippingWrapper",
    "RewardScalingWrapper",
    "RolloutEvaluator",
    "RolloutEvaluatorConfig",
    "RolloutReport",
    "RolloutRunnerConfig",
    "RunConfig",
    "RunContext",
    "SharedStateCriticComposer",
    "SharedStateCriticConfig",
    "StepStateCriticComposer",
    "StepStateCriticConfig",
    "StructuredEnv",
    "TemplateModelComposer",
    "TemplateModelConfig",
    "TorchPolicyConfig",
    "TrainReport",
    "TrainingRunnerConfig",
    "Trajectory",
    "Wrapper",
    "compose_run",
    "config_groups",
    "config_module",
    "load_agent",
    "load_trajectory",
    "to_gymnasium",
]


def __getattr__(name: str) -> Any:
    """Import a public name from its home when it is first used (PEP 562)."""
    if name not in _HOMES:
        raise AttributeError(f"module 'maze_core' has no attribute {name!r}")
    from importlib import import_module

    value = getattr(import_module(_HOMES[name]), name)
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    """Every public name, imported or not."""
    return sorted({*globals(), *__all__})
