"""Wrappers that work on whole batches: normalisation, clipping, scaling, monitoring and statistics."""

from maze_core.envs.wrappers.action_clipping import ActionClippingWrapper
from maze_core.envs.wrappers.log_stats import LogStatsWrapper
from maze_core.envs.wrappers.monitoring import MonitoringWrapper
from maze_core.envs.wrappers.observation_clipping import ObservationClippingWrapper
from maze_core.envs.wrappers.observation_normalization import ObservationNormalizationWrapper
from maze_core.envs.wrappers.observation_stack import ObservationStackWrapper
from maze_core.envs.wrappers.reward_clipping import RewardClippingWrapper
from maze_core.envs.wrappers.reward_normalization import RewardNormalizationWrapper
from maze_core.envs.wrappers.reward_scaling import RewardScalingWrapper
from maze_core.envs.wrappers.wrapper import ProcessedObservation, WrappedVectorEnv, Wrapper

__all__ = [
    "ActionClippingWrapper",
    "LogStatsWrapper",
    "MonitoringWrapper",
    "ObservationClippingWrapper",
    "ObservationNormalizationWrapper",
    "ObservationStackWrapper",
    "ProcessedObservation",
    "RewardClippingWrapper",
    "RewardNormalizationWrapper",
    "RewardScalingWrapper",
    "WrappedVectorEnv",
    "Wrapper",
]
