"""The components of this library: public name → place, and every other name that leads to the same one.

A configuration stores and hashes public names (``maze_core.PPOAlgorithmConfig``), never the module a component
happens to stand in, so that moving one changes nothing that is stored. A user may also write the bare class
(``PPOAlgorithmConfig``), its place, now or in an earlier release, or the name the reference framework published
(``maze.…``). Nothing is imported here.
"""

import copy
from collections.abc import Iterator, Mapping
from types import MappingProxyType
from typing import Any

from maze_core.config.nodes import TARGET, parts_in

_REF_WRAPPERS = "maze.core.wrappers"
_REF_TRAINERS = "maze.train.trainers"
_REF_RUNNERS = f"{_REF_TRAINERS}.common"
_REF_MODELS = "maze.perception.models"
_REF_BUILT_IN = f"{_REF_MODELS}.built_in"

_ALGORITHMS = {
    "a2c": ("A2C",),
    "bc": ("BC",),
    "dqn": ("DQN", "QRDQN"),
    "es": ("ES",),
    "impala": ("Impala",),
    "ppo": ("PPO",),
    "sac": ("SAC", "SACfD"),
    "td3": ("TD3",),
}
"""File → the algorithms whose settings are beside it; a test finds the one that is missing here."""

_IN_REF = ("a2c", "es", "impala", "ppo", "sac")
"""Those that the reference framework has too."""

_BY_MODULE: Mapping[str, Mapping[str, tuple[str, ...]]] = {
    "maze_core.envs.config": {
        "GymEnvConfig": (
            f"{_REF_WRAPPERS}.maze_gym_env_wrapper.make_gym_maze_env",
            f"{_REF_WRAPPERS}.maze_gym_env_wrapper.GymMazeEnv",
            "maze_core.envs.gym_env.GymEnv",
            "maze_core.GymMazeEnv",
        ),
        "GymTextEnvConfig": (),
        "PettingZooEnvConfig": (),
        "LegacyGymEnvConfig": ("maze_core.envs.legacy_gym.LegacyGymEnv",),
    },
    "maze_core.envs.wrappers.observation_normalization": {
        "ObservationNormalizationWrapper": (
            f"{_REF_WRAPPERS}.observation_normalization.observation_normalization_wrapper"
            ".ObservationNormalizationWrapper",
        ),
    },
    "maze_core.envs.wrappers.observation_clipping": {"ObservationClippingWrapper": ()},
    "maze_core.envs.wrappers.observation_stack": {
        "ObservationStackWrapper": (f"{_REF_WRAPPERS}.observation_stack_wrapper.ObservationStackWrapper",),
    },
    "maze_core.envs.wrappers.preprocessing": {
        "PreProcessingWrapper": (
            f"{_REF_WRAPPERS}.observation_preprocessing.preprocessing_wrapper.PreProcessingWrapper",
        ),
    },
    "maze_core.envs.preprocessors": {
        f"{name}PreProcessor": (f"maze.preprocessors.{name}PreProcessor",)
        for name in ("Flatten", "OneHot", "ResizeImg", "Rgb2Gray", "Transpose", "UnSqueeze")
    },
    "maze_core.envs.wrappers.discretize_actions": {
        "DiscretizeActionsWrapper": (f"{_REF_WRAPPERS}.discretize_actions_wrapper.DiscretizeActionsWrapper",),
    },
    "maze_core.envs.wrappers.split_actions": {
        "SplitActionsWrapper": (f"{_REF_WRAPPERS}.split_actions_wrapper.SplitActionsWrapper",),
    },
    **{
        f"maze_core.envs.wrappers.{file}": {
            f"{name}Wrapper": (f"{_REF_WRAPPERS}.{file}_wrapper.{name}Wrapper",),
        }
        for file, name in {
            "random_reset": "RandomReset",
            "step_skip": "StepSkip",
            "time_limit": "TimeLimit",
        }.items()
    },
    "maze_core.envs.wrappers.dict_spaces": {
        f"{name}Wrapper": (f"{_REF_WRAPPERS}.{file}_wrapper.{name}Wrapper",)
        for name, file in {
            "DictAction": "dict_action",
            "DictObservation": "dict_observation",
            "NoDictAction": "no_dict_action",
            "NoDictObservation": "no_dict_observation",
            "NoDictSpaces": "no_dict_spaces",
        }.items()
    },
    "maze_core.envs.wrappers.reward_clipping": {
        "RewardClippingWrapper": (f"{_REF_WRAPPERS}.reward_clipping_wrapper.RewardClippingWrapper",),
    },
    "maze_core.envs.wrappers.reward_normalization": {
        "RewardNormalizationWrapper": (
            f"{_REF_WRAPPERS}.return_normalization_reward_wrapper.ReturnNormalizationRewardWrapper",
            "ReturnNormalizationRewardWrapper",
        ),
    },
    "maze_core.envs.wrappers.reward_scaling": {
        "RewardScalingWrapper": (f"{_REF_WRAPPERS}.reward_scaling_wrapper.RewardScalingWrapper",),
    },
    "maze_core.envs.wrappers.action_clipping": {"ActionClippingWrapper": ()},
    "maze_core.envs.wrappers.monitoring": {
        "MonitoringWrapper": (
            f"{_REF_WRAPPERS}.monitoring_wrapper.MazeEnvMonitoringWrapper",
            "MazeEnvMonitoringWrapper",
        ),
    },
    **{
        f"maze_core.trainers.{file}_config": {
            f"{name}AlgorithmConfig": (
                *(
                    [f"{_REF_TRAINERS}.{file}.{file}_algorithm_config.{name}AlgorithmConfig"]
                    * (file in _IN_REF)
                ),
                *([f"maze_core.trainers.{file}.{name}"] * (name.lower() == file)),
            )
            for name in names
        }
        for file, names in _ALGORITHMS.items()
    },
    "maze_core.trainers.config": {
        "RolloutEvaluatorConfig": (
            f"{_REF_RUNNERS}.evaluators.rollout_evaluator.RolloutEvaluator",
            "maze_core.evaluation.rollout_evaluator.RolloutEvaluator",
            "maze_core.RolloutEvaluator",
        ),
    },
    "maze_core.models.config": {
        "TemplateModelConfig": (
            f"{_REF_MODELS}.template_model_composer.TemplateModelComposer",
            "maze_core.models.composers.TemplateModelComposer",
            "maze_core.TemplateModelComposer",
        ),
        "CustomModelConfig": (
            f"{_REF_MODELS}.custom_model_composer.CustomModelComposer",
            "maze_core.models.composers.CustomModelComposer",
            "maze_core.CustomModelComposer",
        ),
        "ProbabilisticPolicyComposerConfig": (
            f"{_REF_MODELS}.policies.ProbabilisticPolicyComposer",
            f"{_REF_MODELS}.policies.probabilistic_policy_composer.ProbabilisticPolicyComposer",
            "maze_core.models.composers.ProbabilisticPolicyComposer",
            "maze_core.ProbabilisticPolicyComposer",
        ),
        "StepStateCriticConfig": (
            f"{_REF_MODELS}.critics.StateCriticComposer",
            f"{_REF_MODELS}.critics.StepStateCriticComposer",
            "maze_core.models.composers.StepStateCriticComposer",
            "maze_core.StepStateCriticComposer",
        ),
        "SharedStateCriticConfig": (
            f"{_REF_MODELS}.critics.SharedStateCriticComposer",
            "maze_core.models.composers.SharedStateCriticComposer",
            "maze_core.SharedStateCriticComposer",
        ),
        "DeltaStateCriticConfig": (
            f"{_REF_MODELS}.critics.DeltaStateCriticComposer",
            "maze_core.models.composers.DeltaStateCriticComposer",
            "maze_core.DeltaStateCriticComposer",
        ),
        "StepStateActionCriticConfig": (
            f"{_REF_MODELS}.critics.StateActionCriticComposer",
            f"{_REF_MODELS}.critics.StepStateActionCriticComposer",
            "maze_core.StepStateActionCriticComposer",
        ),
        "SharedStateActionCriticConfig": (
            f"{_REF_MODELS}.critics.SharedStateActionCriticComposer",
            "maze_core.SharedStateActionCriticComposer",
        ),
        "FlattenConcatSharedEmbeddingPolicyNetConfig": (
            f"{_REF_BUILT_IN}.flatten_concat_shared_embedding.FlattenConcatSharedEmbeddingPolicyNet",
        ),
        "FlattenConcatSharedEmbeddingStateValueNetConfig": (
            f"{_REF_BUILT_IN}.flatten_concat_shared_embedding.FlattenConcatSharedEmbeddingStateValueNet",
        ),
        "FlattenConcatPolicyNetConfig": (
            f"{_REF_BUILT_IN}.flatten_concat.FlattenConcatPolicyNet",
            "maze_core.models.networks.FlattenConcatPolicyNet",
        ),
        "FlattenConcatStateValueNetConfig": (
            f"{_REF_BUILT_IN}.flatten_concat.FlattenConcatStateValueNet",
            "maze_core.models.networks.FlattenConcatStateValueNet",
        ),
        "RandomPolicyConfig": (
            "maze.core.agent.random_policy.RandomPolicy",
            "maze_core.models.acting.RandomPolicy",
        ),
        "TorchPolicyConfig": (
            "maze.core.agent.serialized_torch_policy.SerializedTorchPolicy",
            "maze_core.models.policies.TorchPolicy",
        ),
    },
    "maze_core.models.template_config": {
        "BlockNetConfig": (),
        "ConcatModelBuilderConfig": (
            "maze.perception.builders.ConcatModelBuilder",
            "maze.perception.builders.concat.ConcatModelBuilder",
            "maze_core.models.config.ConcatModelBuilderConfig",
        ),
    },
    "maze_core.runners.sources": {"DatasetConfig": (), "InitialConfig": ()},
    "maze_core.runners.config": {
        "TrainingRunnerConfig": (
            f"{_REF_RUNNERS}.actor_critic.actor_critic_runners.ACDevRunner",
            f"{_REF_RUNNERS}.actor_critic.actor_critic_runners.ACLocalRunner",
        ),
        "RolloutRunnerConfig": (
            "maze.core.rollout.sequential_rollout_runner.SequentialRolloutRunner",
            "maze.core.rollout.parallel_rollout_runner.ParallelRolloutRunner",
        ),
    },
}

_OPERATORS_ONLY: Mapping[str, Mapping[str, tuple[str, ...]]] = {
    "maze_core.envs.wrappers.export_gif": {  # writes files
        "ExportGifWrapper": (f"{_REF_WRAPPERS}.export_gif_wrapper.ExportGifWrapper",),
    },
    "maze_core.envs.wrappers.observation_visualization": {  # calls a function
        "ObservationVisualizationWrapper": (
            f"{_REF_WRAPPERS}.observation_visualization_wrapper.ObservationVisualizationWrapper",
        ),
    },
    "maze_core.envs.config": {"CallableEnvConfig": ()},
    "maze_core.envs.wrappers.log_stats": {  # names metrics as it likes
        "LogStatsWrapper": (f"{_REF_WRAPPERS}.log_stats_wrapper.LogStatsWrapper",),
    },
    "maze_core.models.config": {
        "CallableModelConfig": ("maze_core.models.callable_model.CallableModelConfig",)
    },
    "maze_core.runners.config": {"LocalLauncherConfig": ("maze_core.runners.launcher.LocalLauncherConfig",)},
    "maze_core.runners.trackers": {"MlflowSinkConfig": (), "WandbSinkConfig": (), "TrackioSinkConfig": ()},
    "maze_core.config.multirun": {
        "GridConfig": ("maze_core.config.search.GridConfig",),
        "OptunaSearchConfig": ("maze_core.config.search.OptunaSearchConfig",),
    },
}
"""What Python, the command line and modules' files name, and no client does."""


def _public(name: str) -> str:
    return f"maze_core.{name}"


PUBLIC_TARGETS: frozenset[str] = frozenset(_public(name) for names in _BY_MODULE.values() for name in names)
"""Every component of this library that anyone may name, HTTP clients included."""

PLACES: Mapping[str, str] = MappingProxyType(
    {
        _public(name): f"{module}.{name}"
        for modules in (_BY_MODULE, _OPERATORS_ONLY)
        for module, names in modules.items()
        for name in names
    }
)
"""Public name → where the component stands."""


def _aliases() -> Iterator[tuple[str, str]]:
    for public, place in PLACES.items():
        yield place, public
        yield public.rpartition(".")[2], public
    for names in (*_BY_MODULE.values(), *_OPERATORS_ONLY.values()):
        for name, others in names.items():
            yield from ((other, _public(name)) for other in others)


ALIASES: Mapping[str, str] = MappingProxyType(dict(_aliases()))
"""Other name → public name."""

_PUBLIC_NAMES = {place: public for public, place in PLACES.items()}


def canonical_target(name: str) -> str:
    """The one name a component has in a resolved configuration; names that are not of this library stay."""
    return ALIASES.get(name, name)


def qualified_name(value: object) -> str:
    """Dotted name of a function or class, or of an object's class."""
    named = value if hasattr(value, "__qualname__") else type(value)
    return f"{getattr(named, '__module__', '?')}.{getattr(named, '__qualname__', '?')}"


def target_name(value: object) -> str:
    """What a node's ``_target_`` says for a class, function or object: its public name, where it has one."""
    name = qualified_name(value)
    return _PUBLIC_NAMES.get(name, name)


def with_public_names(tree: Any) -> Any:
    """A tree that an earlier release stored, its components under their public names."""
    named = copy.deepcopy(tree)
    for _, part in parts_in(named):
        if isinstance(part, dict) and isinstance(name := part.get(TARGET), str):
            part[TARGET] = canonical_target(name)
    return named


RENAMED: Mapping[str, str] = {"runner.concurrency": "n_envs"}
"""Published key → ours beside it; 0 or null, the number of cores there, leaves it as it is."""

_SAYS_NOTHING: Mapping[str, Mapping[str, tuple[Any, ...]]] = {
    "maze_core.TrainingRunnerConfig": {
        "state_dict_dump_file": ("state_dict.pt",),
        "spaces_config_dump_file": ("spaces_config.pkl",),
        "dump_interval": (None,),
    },
    "maze_core.RolloutRunnerConfig": {"record_event_logs": (True, False), "render": (False,)},
    "maze_core.ObservationNormalizationWrapper": {
        "default_statistics": (None,),
        "statistics_dump": ("statistics.pkl",),
        "manual_config": (None, {}),
        "exclude": (None,),
    },
    "maze_core.RewardNormalizationWrapper": {"epsilon": (1e-8,)},
}
"""Component → setting → the values that describe what happens here anyway."""
_EXECUTIONS = ("sequential", "parallel", "local", "dev")
_STRATEGIES = {
    "MeanZeroStdOneObservationNormalizationStrategy": "mean_zero_std_one",
    "RangeZeroOneObservationNormalizationStrategy": "range_zero_one",
}


def in_our_words(node: Mapping[str, Any]) -> Mapping[str, Any]:
    """A node in the words of this library; the same one where nothing in it is published."""
    name = node.get(TARGET)
    if not (isinstance(name, str) and name.startswith("maze.")):
        return node
    target = canonical_target(name)
    silent = _SAYS_NOTHING.get(target, {})
    given = {key: value for key, value in node.items() if value not in silent.get(key, ())}
    given[TARGET] = target
    if target.endswith("RunnerConfig"):
        given = {**_execution(name), **with_our_keys("runner", given)}
        given.pop("trainer_class", None)
        given.pop("eval_concurrency", None)
    elif target == "maze_core.ObservationNormalizationWrapper":
        given = _normalization(given)
    elif target == "maze_core.ObservationStackWrapper":
        given = _stack(given)
    elif target == "maze_core.RewardNormalizationWrapper":
        given.setdefault("clip_range", None)
    elif target.endswith("PreProcessor"):
        given |= given.pop("config", None) or {}
    return given


def with_our_keys(path: str, node: Mapping[str, Any]) -> dict[str, Any]:
    """The dict that stands at a path, its keys renamed."""
    renamed = {key: RENAMED.get(f"{path}.{key}", key) for key in node}
    return {renamed[key]: value for key, value in node.items() if renamed[key] == key or value}


def _execution(name: str) -> dict[str, str]:
    last = name.rpartition(".")[2].lower()
    word = next((word for word in _EXECUTIONS if word in last), None)
    return {} if word is None else {"execution": word}


def _stack(given: dict[str, Any]) -> dict[str, Any]:
    """Entries of a stack, where they differ in nothing but the observation."""
    entries = given.get("stack_config")
    if not isinstance(entries, list) or not all(isinstance(entry, Mapping) for entry in entries):
        return given
    names = [entry.get("observation") for entry in entries]
    rest = [{key: value for key, value in entry.items() if key != "observation"} for entry in entries]
    if not rest or any(other != rest[0] for other in rest):
        return given
    renamed = {"stack_steps": "n_stack"}
    settings = {renamed.get(key, key): value for key, value in rest[0].items()}
    others = {key: value for key, value in given.items() if key != "stack_config"}
    return {**others, "observations": names, "new_axis": True, **settings}


def _normalization(given: dict[str, Any]) -> dict[str, Any]:
    config = given.pop("default_strategy_config", None) or {}
    if not isinstance(config, Mapping):
        return given
    if (strategy := given.pop("default_strategy", None)) is not None:
        last = str(strategy).rpartition(".")[2]
        given["strategy"] = _STRATEGIES.get(last, last)
    policy = given.get("sampling_policy")
    if (
        isinstance(policy, Mapping)
        and canonical_target(str(policy.get(TARGET))) == "maze_core.RandomPolicyConfig"
    ):
        del given["sampling_policy"]
    config = {**config}
    if config.get("clip_range") in ([None, None], (None, None)):
        config["clip_range"] = None
    if isinstance(config.get("axis"), int):
        config["axis"] = [config["axis"]]
    if isinstance(rules := given.get("manual_config"), Mapping):
        given["manual_config"] = {name: _normalization_rule(rule) for name, rule in rules.items()}
    return {**given, **config}


def _normalization_rule(rule: Any) -> Any:
    """What is different for one observation."""
    if not isinstance(rule, Mapping) or not isinstance(rule.get("strategy_config") or {}, Mapping):
        return rule
    words = {"default_strategy": rule.get("strategy"), "default_strategy_config": rule.get("strategy_config")}
    others = {key: value for key, value in rule.items() if key not in ("strategy", "strategy_config")}
    return {**others, **_normalization(words)}
