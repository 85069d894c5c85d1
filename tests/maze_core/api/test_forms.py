"""Every argument of RunContext in every form it takes: none fails, and none is silently ignored.

Each case trains or plays with an argument in one form and then looks for what only that argument can have caused.
"""

from collections.abc import Callable
from typing import Any, NamedTuple

import numpy as np
import pytest

from maze_core import (
    A2CAlgorithmConfig,
    CustomModelComposer,
    GymEnvConfig,
    GymMazeEnv,
    LogStatsWrapper,
    PPOAlgorithmConfig,
    ProbabilisticPolicyComposer,
    RandomPolicyConfig,
    RewardScalingWrapper,
    RolloutRunnerConfig,
    RunContext,
    SharedStateCriticComposer,
    StepStateCriticComposer,
    TrainingRunnerConfig,
)
from maze_core.metrics import SilentReporter
from tests.maze_core.api import own_parts
from tests.maze_core.api.own_parts import (
    OWN_LIMIT,
    SMALL,
    Always,
    PlainWrapper,
    PolicyNet,
    ValueNet,
)

OWN = "tests.maze_core.api.own_parts"
QUICK = {
    "algorithm.n_epochs": 1,
    "algorithm.epoch_length": 1,
    "algorithm.n_rollout_steps": 40,
    "algorithm.checkpoint_every": 1,
    "algorithm.rollout_evaluator.n_episodes": 1,
    "runner.normalization_samples": 16,
}
SPACES = GymMazeEnv("CartPole-v1")
NET = {"_target_": "FlattenConcatPolicyNetConfig", "hidden_units": [11]}
VALUE_NET = {"_target_": "FlattenConcatStateValueNetConfig", "hidden_units": [11]}


def policy_composer(kind: type = ProbabilisticPolicyComposer) -> Any:
    return kind(
        action_spaces_dict=SPACES.action_spaces_dict,
        observation_spaces_dict=SPACES.observation_spaces_dict,
        distribution_mapper=None,
        networks=[NET],
    )


def critic_composer(kind: type = StepStateCriticComposer) -> Any:
    return kind(observation_spaces_dict=SPACES.observation_spaces_dict, networks=[VALUE_NET])


def model_composer() -> CustomModelComposer:
    return CustomModelComposer(
        action_spaces_dict=SPACES.action_spaces_dict,
        observation_spaces_dict=SPACES.observation_spaces_dict,
        agent_counts_dict=None,
        distribution_mapper_config=[],
        policy=policy_composer(),
        critic=critic_composer(),
    )


class Seen(SilentReporter):
    """Keeps the names of the metrics."""

    def __init__(self) -> None:
        self.names: set[str] = set()

    def metrics(self, epoch, step, values) -> None:
        self.names |= set(values)


class Trained(NamedTuple):
    context: RunContext
    metrics: set[str]

    @property
    def policy_shapes(self) -> list[tuple[int, ...]]:
        return [x.shape for x in self.context._held._open_training().world.parts.policy.parameters.values()]

    @property
    def critic_shapes(self) -> list[tuple[int, ...]]:
        critic = self.context._held._open_training().world.parts.critic
        assert critic is not None
        return [x.shape for x in critic.parameters.values()]

    @property
    def env_limit(self) -> int:
        return max(self.context.evaluate(2).lengths)

    @property
    def doubles(self) -> bool:
        agent = self.context.policy
        seen = agent.process(0, {"observation": np.ones((1, 4), np.float32)})
        return bool((seen["observation"] == 2.0).all())


def has(hidden: int) -> Callable[[Trained], bool]:
    return lambda run: run.policy_shapes[0] == (hidden, 4)


def has_critic(hidden: int) -> Callable[[Trained], bool]:
    return lambda run: run.critic_shapes[0] == (hidden, 4)


def learns_with(**values: Any) -> Callable[[Trained], bool]:
    def check(run: Trained) -> bool:
        algorithm = run.context._held._open_training().world.algorithm
        return all(getattr(algorithm, name) == value for name, value in values.items())

    return check


def has_envs(n_envs: int) -> Callable[[Trained], bool]:
    return lambda run: run.context._held._open_training().world.raw.n_envs == n_envs


def is_limited(run: Trained) -> bool:
    return run.env_limit <= OWN_LIMIT


def starts_at_zero(run: Trained) -> bool:
    parts = (
        RunContext(policy=policy_composer(own_parts.OwnPolicyComposer), seed=1)
        ._held._open_training()
        .world.parts
    )
    return not any(parameter.any() for parameter in parts.policy.parameters.values())


# argument, form, value, what shows that it was used
TRAINING: list[tuple[str, str, Callable[[], Any], Callable[[Trained], bool]]] = [
    ("env", "name", lambda: "gym_env", lambda run: run.context.config["env"]["name"] == "CartPole-v0"),
    ("env", "dict", lambda: {"_target_": "GymEnvConfig", "max_episode_steps": OWN_LIMIT}, is_limited),
    ("env", "dict without _target_", lambda: {"max_episode_steps": OWN_LIMIT}, is_limited),
    ("env", "dict of a published name", lambda: {
        "_target_": "maze.core.wrappers.maze_gym_env_wrapper.make_gym_maze_env", "max_episode_steps": OWN_LIMIT,
    }, is_limited),
    ("env", "dict of a function", lambda: {"_target_": f"{OWN}.make_env", "limit": OWN_LIMIT}, is_limited),
    ("env", "dict of an own class", lambda: {"_target_": f"{OWN}.OwnEnvConfig"}, is_limited),
    ("env", "instance of a description", lambda: GymEnvConfig(max_episode_steps=OWN_LIMIT), is_limited),
    ("env", "instance of an own description", lambda: own_parts.OwnEnvConfig(), is_limited),
    ("env", "function", lambda: own_parts.make_env, is_limited),
    ("env", "lambda", lambda: lambda: own_parts.make_maze_env(), is_limited),
    ("wrappers", "name", lambda: "vector_obs", lambda run: len(run.context.policy.wrappers) > 0),
    ("wrappers", "dict", lambda: {f"{OWN}.OwnWrapper": {"factor": 2.0}}, lambda run: run.doubles),
    ("wrappers", "dict of a published name", lambda: {
        "maze.core.wrappers.reward_scaling_wrapper.RewardScalingWrapper": {"scale": 0.5},
    }, lambda run: run.context.policy.wrappers[0].scale == 0.5),
    ("wrappers", "dict of a function", lambda: [{"_target_": f"{OWN}.make_wrapper"}], lambda run: run.doubles),
    ("wrappers", "dict of an own class", lambda: [{"_target_": f"{OWN}.PlainWrapper"}], lambda run: run.doubles),
    ("wrappers", "instance", lambda: RewardScalingWrapper(scale=0.5),
     lambda run: run.context.policy.wrappers[0].scale == 0.5),
    ("wrappers", "own instance", lambda: own_parts.OwnWrapper(), lambda run: run.doubles),
    ("wrappers", "own instance that is no dataclass", lambda: PlainWrapper(2.0), lambda run: run.doubles),
    ("wrappers", "list of instances", lambda: [LogStatsWrapper(logging_prefix="mine"), PlainWrapper(2.0)],
     lambda run: run.doubles and "mine/episode_length/mean" in run.metrics),
    ("algorithm", "name", lambda: "a2c", learns_with(entropy_coef=0.00025)),
    ("algorithm", "dict", lambda: {"_target_": "A2CAlgorithmConfig", "lr": 0.25, **SMALL}, learns_with(lr=0.25)),
    ("algorithm", "dict without _target_", lambda: {"lr": 0.25}, learns_with(lr=0.25, clip_range=0.2)),
    ("algorithm", "dict of a published name", lambda: {
        "_target_": "maze.train.trainers.a2c.a2c_algorithm_config.A2CAlgorithmConfig", "lr": 0.25,
    }, learns_with(lr=0.25)),
    ("algorithm", "dict of a function", lambda: {"_target_": f"{OWN}.make_algorithm"}, learns_with(lr=0.25)),
    ("algorithm", "dict of an own class", lambda: {"_target_": f"{OWN}.OwnAlgorithmConfig", **SMALL},
     lambda run: "train/own_trainer" in run.metrics),
    ("algorithm", "instance", lambda: A2CAlgorithmConfig(lr=0.25, **SMALL), learns_with(lr=0.25)),
    ("algorithm", "another instance", lambda: PPOAlgorithmConfig(clip_range=0.125, **SMALL),
     learns_with(clip_range=0.125)),
    ("algorithm", "own instance", lambda: own_parts.OwnAlgorithmConfig(**SMALL),
     lambda run: "train/own_trainer" in run.metrics),
    ("model", "name", lambda: "flatten_concat", lambda run: run.policy_shapes[0] == (64, 4)),
    ("model", "dict", lambda: {"_target_": "CustomModelConfig", "policy": {
        "_target_": "ProbabilisticPolicyComposerConfig", "networks": [NET]}}, has(11)),
    ("model", "dict of a published name", lambda: {
        "_target_": "maze.perception.models.custom_model_composer.CustomModelComposer",
        "policy": {"_target_": "maze.perception.models.policies.ProbabilisticPolicyComposer", "networks": [NET]},
    }, has(11)),
    ("model", "dict of a function", lambda: {"_target_": f"{OWN}.make_model", "width": 9}, has(9)),
    ("model", "dict of an own class", lambda: {"_target_": f"{OWN}.OwnModelComposer", "width": 9}, has(9)),
    ("model", "settings", lambda: own_parts.make_model(), has(9)),
    ("model", "instance", model_composer, has(11)),
    ("model", "own instance", lambda: own_parts.OwnModelComposer(
        SPACES.action_spaces_dict, SPACES.observation_spaces_dict, None), has(9)),
    ("policy", "dict", lambda: {"_target_": "ProbabilisticPolicyComposerConfig", "networks": [NET]}, has(11)),
    ("policy", "dict without _target_", lambda: {"networks": [NET]}, has(11)),
    ("policy", "dict of a function", lambda: {"_target_": f"{OWN}.make_policy"}, has(9)),
    ("policy", "dict of an own class", lambda: {"_target_": f"{OWN}.OwnPolicyComposer", "networks": [NET]}, has(11)),
    ("policy", "settings", lambda: own_parts.make_policy(), has(9)),
    ("policy", "instance", policy_composer, has(11)),
    ("policy", "own instance", lambda: policy_composer(own_parts.OwnPolicyComposer), starts_at_zero),
    ("policy", "dict with a class as network", lambda: {"networks": [PolicyNet]}, has(5)),
    ("policy", "dict with a module's name", lambda: {
        "networks": [{"_target_": f"{OWN}.PolicyNet", "width": 6}]}, has(6)),
    ("policy", "dict with a module", lambda: {
        "networks": [PolicyNet({"observation": (4,)}, {"action": (2,)}, width=7)]}, has(7)),
    ("critic", "name", lambda: "flatten_concat_shared",
     lambda run: run.context.config["model"]["critic"]["_target_"].endswith("SharedStateCriticConfig")),
    ("critic", "dict", lambda: {"_target_": "StepStateCriticConfig", "networks": [VALUE_NET]}, has_critic(11)),
    ("critic", "dict without _target_", lambda: {"networks": [VALUE_NET]}, has_critic(11)),
    ("critic", "dict of a function", lambda: {"_target_": f"{OWN}.make_critic"}, has_critic(9)),
    ("critic", "dict of an own class", lambda: {"_target_": f"{OWN}.OwnCriticComposer", "networks": [VALUE_NET]},
     has_critic(11)),
    ("critic", "settings", lambda: own_parts.make_critic(), has_critic(9)),
    ("critic", "instance", critic_composer, has_critic(11)),
    ("critic", "shared instance", lambda: critic_composer(SharedStateCriticComposer), has_critic(11)),
    ("critic", "own instance", lambda: critic_composer(own_parts.OwnCriticComposer), has_critic(11)),
    ("critic", "dict with a class as network", lambda: {"networks": [ValueNet]}, has_critic(1)),
    ("runner", "name", lambda: "dev", has_envs(8)),
    ("runner", "name of processes", lambda: "local", has_envs(8)),
    ("runner", "dict", lambda: {"_target_": "TrainingRunnerConfig", "n_envs": 3}, has_envs(3)),
    ("runner", "dict without _target_", lambda: {"n_envs": 3}, has_envs(3)),
    ("runner", "dict of a function", lambda: {"_target_": f"{OWN}.make_runner"}, has_envs(3)),
    ("runner", "dict of an own class", lambda: {"_target_": f"{OWN}.OwnRunnerConfig"}, has_envs(3)),
    ("runner", "instance", lambda: TrainingRunnerConfig(n_envs=3), has_envs(3)),
    ("runner", "own instance", lambda: own_parts.OwnRunnerConfig(), has_envs(3)),
]  # fmt: skip


def quick_beside(argument: str, value: Any) -> dict[str, Any]:
    """The quick values that do not contradict this argument."""
    is_complete = not isinstance(value, str) and not (isinstance(value, dict) and "_target_" not in value)
    return {key: v for key, v in QUICK.items() if not (is_complete and key.startswith(argument + "."))}


@pytest.mark.parametrize(
    ("argument", "form", "make", "is_used"), TRAINING, ids=[f"{case[0]}: {case[1]}" for case in TRAINING]
)
def test_training_takes_the_argument_in_this_form(argument, form, make, is_used, tmp_path) -> None:
    value, seen = make(), Seen()
    with RunContext(
        run_dir=tmp_path, overrides=quick_beside(argument, value), seed=1, **{argument: value}
    ) as context:
        context.train(1, reporter=seen)
        assert is_used(Trained(context, seen.names))
        assert context.compute_action(np.zeros(4, np.float32))["action"] in (0, 1)
        assert context.rollout(1).stop_reason == "completed"


def is_short(context: RunContext, report: Any) -> bool:
    return max(report.summary.lengths) <= OWN_LIMIT


def has_a_wrapper(context: RunContext, report: Any) -> bool:
    return len(context.policy.wrappers) == 1


def runs(execution: str) -> Callable[[RunContext, Any], bool]:
    return lambda context, report: context.config["runner"]["execution"] == execution


# argument, form, value, check of the rollout report; every context also has a rollout policy
PLAYING: list[tuple[str, str, Callable[[], Any], Callable[[RunContext, Any], bool]]] = [
    ("env", "name", lambda: "gym_env", lambda rc, report: rc.config["env"]["name"] == "CartPole-v0"),
    ("env", "dict", lambda: {"max_episode_steps": OWN_LIMIT}, is_short),
    ("env", "dict of a function", lambda: {"_target_": f"{OWN}.make_env"},
     is_short),
    ("env", "instance of a description", lambda: own_parts.OwnEnvConfig(),
     is_short),
    ("env", "function", lambda: own_parts.make_env, is_short),
    ("wrappers", "name", lambda: "no_wrappers", lambda rc, report: rc.config["wrappers"] == []),
    ("wrappers", "dict of an own class", lambda: {f"{OWN}.OwnWrapper": {}}, has_a_wrapper),
    ("wrappers", "dict of a function", lambda: [{"_target_": f"{OWN}.make_wrapper"}],
     has_a_wrapper),
    ("wrappers", "own instance", lambda: PlainWrapper(), has_a_wrapper),
    ("policy", "name", lambda: "random_policy", lambda rc, report: len(set(map(tuple, actions(report)))) > 1),
    ("policy", "dict", lambda: {"_target_": "RandomPolicyConfig"}, lambda rc, report: len(actions(report)) == 3),
    ("policy", "instance", lambda: RandomPolicyConfig(), lambda rc, report: len(actions(report)) == 3),
    ("policy", "own instance that acts", lambda: Always(1), lambda rc, report: all(map(all, actions(report)))),
    ("runner", "name", lambda: "sequential", runs("sequential")),
    ("runner", "name of processes", lambda: "parallel", runs("parallel")),
    ("runner", "dict", lambda: {"max_episode_steps": 4}, lambda rc, report: max(report.summary.lengths) == 4),
    ("runner", "instance", lambda: RolloutRunnerConfig(max_episode_steps=4),
     lambda rc, report: max(report.summary.lengths) == 4),
]  # fmt: skip


def actions(report: Any) -> list[list[int]]:
    return [
        [
            int(step)
            for step in np.concatenate([np.ravel(a["action"]) for a in episode.trajectory.actions.values()])
        ]
        for episode in report.episodes
    ]


@pytest.mark.parametrize(
    ("argument", "form", "make", "is_used"), PLAYING, ids=[f"{case[0]}: {case[1]}" for case in PLAYING]
)
def test_playing_takes_the_argument_in_this_form(argument, form, make, is_used) -> None:
    arguments = {"policy": "random_policy", argument: make()}
    with RunContext(seed=1, **arguments) as context:
        report = context.rollout(3)
        assert is_used(context, report)
        assert context.compute_action(np.zeros(4, np.float32))["action"] in (0, 1)
        assert len(context.evaluate(2).returns) == 2
