"""Wrappers that work on whole batches: what a policy sees, does and is paid, and what is told of it."""

from maze_core.envs.preprocessors import PreProcessor
from maze_core.envs.wrappers.action_clipping import ActionClippingWrapper
from maze_core.envs.wrappers.dict_spaces import (
    DictActionWrapper,
    DictObservationWrapper,
    NoDictActionWrapper,
    NoDictObservationWrapper,
    NoDictSpacesWrapper,
)
from maze_core.envs.wrappers.discretize_actions import DiscretizeActionsWrapper
from maze_core.envs.wrappers.export_gif import ExportGifWrapper
from maze_core.envs.wrappers.log_stats import LogStatsWrapper
from maze_core.envs.wrappers.monitoring import MonitoringWrapper
from maze_core.envs.wrappers.observation_clipping import ObservationClippingWrapper
from maze_core.envs.wrappers.observation_normalization import ObservationNormalizationWrapper
from maze_core.envs.wrappers.observation_stack import ObservationStackWrapper
from maze_core.envs.wrappers.observation_visualization import ObservationVisualizationWrapper
from maze_core.envs.wrappers.preprocessing import PreProcessingWrapper
from maze_core.envs.wrappers.random_reset import RandomResetWrapper
from maze_core.envs.wrappers.reward_clipping import RewardClippingWrapper
from maze_core.envs.wrappers.reward_normalization import RewardNormalizationWrapper
from maze_core.envs.wrappers.reward_scaling import RewardScalingWrapper
from maze_core.envs.wrappers.split_actions import SplitActionsWrapper
from maze_core.envs.wrappers.step_skip import StepSkipWrapper
from maze_core.envs.wrappers.time_limit import TimeLimitWrapper
from maze_core.envs.wrappers.wrapper import ProcessedObservation, WrappedVectorEnv, Wrapper

__all__ = [
    "ActionClippingWrapper",
    "DictActionWrapper",
    "DictObservationWrapper",
    "DiscretizeActionsWrapper",
    "ExportGifWrapper",
    "LogStatsWrapper",
    "MonitoringWrapper",
    "NoDictActionWrapper",
    "NoDictObservationWrapper",
    "NoDictSpacesWrapper",
    "ObservationClippingWrapper",
    "ObservationNormalizationWrapper",
    "ObservationStackWrapper",
    "ObservationVisualizationWrapper",
    "PreProcessingWrapper",
    "PreProcessor",
    "ProcessedObservation",
    "RandomResetWrapper",
    "RewardClippingWrapper",
    "RewardNormalizationWrapper",
    "RewardScalingWrapper",
    "SplitActionsWrapper",
    "StepSkipWrapper",
    "TimeLimitWrapper",
    "WrappedVectorEnv",
    "Wrapper",
]
