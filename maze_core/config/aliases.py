"""One table of strings: the dotted names a user may write → the torch-free description that is built.

Three kinds of names lead to the same component: the published names of the reference framework
(``maze.…``), the public classes of this library (``maze_core.models.composers.…``) and short names
(``PPOAlgorithmConfig``). Nothing is imported here.
"""

from collections.abc import Mapping
from types import MappingProxyType

_ENVS = "maze_core.envs"
_WRAPPERS = "maze_core.envs.wrappers"
_MODELS = "maze_core.models.config"
_REF_PERCEPTION = "maze.perception"
_REF_WRAPPERS = "maze.core.wrappers"
_REF_TRAINERS = "maze.train.trainers"

_COMPONENTS: Mapping[str, tuple[str, ...]] = {
    f"{_ENVS}.config.GymEnvConfig": (
        f"{_REF_WRAPPERS}.maze_gym_env_wrapper.make_gym_maze_env",
        f"{_REF_WRAPPERS}.maze_gym_env_wrapper.GymMazeEnv",
        f"{_ENVS}.gym_env.GymEnv",
        "maze_core.GymMazeEnv",
    ),
    f"{_ENVS}.config.LegacyGymEnvConfig": (f"{_ENVS}.legacy_gym.LegacyGymEnv",),
    f"{_WRAPPERS}.observation_normalization.ObservationNormalizationWrapper": (
        f"{_REF_WRAPPERS}.observation_normalization.observation_normalization_wrapper"
        ".ObservationNormalizationWrapper",
    ),
    f"{_WRAPPERS}.observation_clipping.ObservationClippingWrapper": (
        f"{_REF_WRAPPERS}.observation_clipping_wrapper.ObservationClippingWrapper",
    ),
    f"{_WRAPPERS}.reward_clipping.RewardClippingWrapper": (
        f"{_REF_WRAPPERS}.reward_clipping_wrapper.RewardClippingWrapper",
    ),
    f"{_WRAPPERS}.reward_scaling.RewardScalingWrapper": (
        f"{_REF_WRAPPERS}.reward_scaling_wrapper.RewardScalingWrapper",
    ),
    f"{_WRAPPERS}.action_clipping.ActionClippingWrapper": (
        f"{_REF_WRAPPERS}.action_clipping_wrapper.ActionClippingWrapper",
    ),
    f"{_WRAPPERS}.monitoring.MonitoringWrapper": (f"{_REF_WRAPPERS}.monitoring_wrapper.MonitoringWrapper",),
    f"{_WRAPPERS}.log_stats.LogStatsWrapper": (f"{_REF_WRAPPERS}.log_stats_wrapper.LogStatsWrapper",),
    "maze_core.trainers.a2c_config.A2CAlgorithmConfig": (
        f"{_REF_TRAINERS}.a2c.a2c_algorithm_config.A2CAlgorithmConfig",
        "maze_core.trainers.a2c.A2C",
        "maze_core.A2CAlgorithmConfig",
    ),
    "maze_core.trainers.ppo_config.PPOAlgorithmConfig": (
        f"{_REF_TRAINERS}.ppo.ppo_algorithm_config.PPOAlgorithmConfig",
        "maze_core.trainers.ppo.PPO",
        "maze_core.PPOAlgorithmConfig",
    ),
    "maze_core.trainers.config.RolloutEvaluatorConfig": (
        f"{_REF_TRAINERS}.common.evaluators.rollout_evaluator.RolloutEvaluator",
        "maze_core.evaluation.rollout_evaluator.RolloutEvaluator",
        "maze_core.RolloutEvaluator",
    ),
    f"{_MODELS}.TemplateModelConfig": (
        f"{_REF_PERCEPTION}.models.template_model_composer.TemplateModelComposer",
        "maze_core.models.composers.TemplateModelComposer",
        "maze_core.TemplateModelComposer",
    ),
    f"{_MODELS}.CustomModelConfig": (
        f"{_REF_PERCEPTION}.models.custom_model_composer.CustomModelComposer",
        "maze_core.models.composers.CustomModelComposer",
        "maze_core.CustomModelComposer",
    ),
    f"{_MODELS}.ConcatModelBuilderConfig": (
        f"{_REF_PERCEPTION}.builders.ConcatModelBuilder",
        f"{_REF_PERCEPTION}.builders.concat.ConcatModelBuilder",
    ),
    f"{_MODELS}.ProbabilisticPolicyComposerConfig": (
        f"{_REF_PERCEPTION}.models.policies.ProbabilisticPolicyComposer",
        f"{_REF_PERCEPTION}.models.policies.probabilistic_policy_composer.ProbabilisticPolicyComposer",
        "maze_core.models.composers.ProbabilisticPolicyComposer",
        "maze_core.ProbabilisticPolicyComposer",
    ),
    f"{_MODELS}.StepStateCriticConfig": (
        f"{_REF_PERCEPTION}.models.critics.StateCriticComposer",
        f"{_REF_PERCEPTION}.models.critics.StepStateCriticComposer",
        "maze_core.models.composers.StepStateCriticComposer",
        "maze_core.StepStateCriticComposer",
    ),
    f"{_MODELS}.SharedStateCriticConfig": (
        f"{_REF_PERCEPTION}.models.critics.SharedStateCriticComposer",
        "maze_core.models.composers.SharedStateCriticComposer",
        "maze_core.SharedStateCriticComposer",
    ),
    f"{_MODELS}.FlattenConcatPolicyNetConfig": (
        f"{_REF_PERCEPTION}.models.built_in.flatten_concat.FlattenConcatPolicyNet",
        "maze_core.models.networks.FlattenConcatPolicyNet",
    ),
    f"{_MODELS}.FlattenConcatStateValueNetConfig": (
        f"{_REF_PERCEPTION}.models.built_in.flatten_concat.FlattenConcatStateValueNet",
        "maze_core.models.networks.FlattenConcatStateValueNet",
    ),
    f"{_MODELS}.RandomPolicyConfig": (
        "maze.core.agent.random_policy.RandomPolicy",
        "maze_core.models.acting.RandomPolicy",
    ),
    f"{_MODELS}.TorchPolicyConfig": (
        "maze.core.agent.serialized_torch_policy.SerializedTorchPolicy",
        "maze_core.models.policies.TorchPolicy",
    ),
    "maze_core.runners.config.TrainingRunnerConfig": (),
    "maze_core.runners.config.RolloutRunnerConfig": (),
}

PUBLIC_TARGETS: frozenset[str] = frozenset(_COMPONENTS)
"""Every component of this library that a configuration may name."""

ALIASES: Mapping[str, str] = MappingProxyType(
    {alias: target for target, names in _COMPONENTS.items() for alias in (*names, target.rpartition(".")[2])}
)
"""Other name → canonical name."""


def canonical_target(name: str) -> str:
    """The one name a component has in a resolved configuration; unknown names stay as they are."""
    return ALIASES.get(name, name)
