"""What cannot work is refused when the context is made: both sides named, with the way out; never a bare error."""

import warnings
from collections.abc import Callable
from typing import Any

import gymnasium
import numpy as np
import pytest

from maze_core import (
    A2CAlgorithmConfig,
    CustomModelComposer,
    GymEnvConfig,
    GymMazeEnv,
    InvalidSpecificationError,
    PPOAlgorithmConfig,
    ProbabilisticPolicyComposer,
    ProbabilisticPolicyComposerConfig,
    RewardScalingWrapper,
    RolloutEvaluator,
    RolloutRunnerConfig,
    RunContext,
    SharedStateCriticComposer,
    SharedStateCriticConfig,
    StepStateCriticConfig,
    TrainingRunnerConfig,
)
from tests.maze_core.api import own_parts
from tests.maze_core.api.own_parts import PlainWrapper
from tests.maze_core.api.test_forms import (
    NET,
    QUICK,
    VALUE_NET,
    critic_composer,
    model_composer,
    policy_composer,
)


def refusal(**arguments: Any) -> str:
    with pytest.raises(InvalidSpecificationError) as caught:
        RunContext(**arguments)
    return str(caught.value)


# arguments, and the words that the refusal must have
REFUSED: dict[str, tuple[Callable[[], dict[str, Any]], tuple[str, ...]]] = {
    "env instance": (lambda: {"env": GymMazeEnv("CartPole-v1")}, ("instantiated form", "env=lambda: …")),
    "gymnasium instance": (lambda: {"env": gymnasium.make("CartPole-v1")}, ("instantiated form", "env=lambda: …")),
    "rollout runner in training": (lambda: {"runner": "parallel"}, ("cannot train", "dev, local", "random_policy")),
    "rollout runner beside an algorithm": (
        lambda: {"runner": "sequential", "algorithm": "ppo"}, ("'sequential'", "cannot train"),
    ),
    "rollout runner object in training": (lambda: {"runner": RolloutRunnerConfig()}, ("cannot train", "dev, local")),
    "training runner in a rollout": (
        lambda: {"policy": "random_policy", "runner": TrainingRunnerConfig()}, ("cannot play", "sequential, parallel"),
    ),
    "algorithm in a rollout": (
        lambda: {"policy": "random_policy", "algorithm": "a2c"}, ("algorithm", "policy='random_policy'", "leave one"),
    ),
    "model in a rollout": (lambda: {"policy": "random_policy", "model": "vector_obs"}, ("model", "random_policy")),
    "critic in a rollout": (
        lambda: {"policy": "random_policy", "critic": "template_state"}, ("critic", "random_policy"),
    ),
    "unknown rollout policy": (lambda: {"policy": "flatten"}, ("policy", "random_policy", "torch_policy")),
    "unknown module": (lambda: {"algorithm": "a3c"}, ("algorithm", "a2c", "Did you mean")),
    "unknown key": (lambda: {"overrides": {"algorithm.gama": 0.9}}, ("algorithm.gama", "Did you mean 'gamma'")),
    "unknown field": (lambda: {"algorithm": {"_target_": "A2CAlgorithmConfig", "gama": 1}}, ("gama", "'gamma'")),
    "out of range": (lambda: {"overrides": {"algorithm.gamma": 1.5}}, ("algorithm.gamma", "1.5", "less than or equal")),
    "wrong type": (lambda: {"overrides": {"algorithm.n_epochs": "many"}}, ("algorithm.n_epochs", "'many'")),
    "unknown class": (lambda: {"algorithm": {"_target_": "no.such.Thing"}}, ("algorithm._target_", "no.such.Thing")),
    "a class that is no algorithm": (lambda: {"algorithm": {"_target_": "RandomPolicyConfig"}}, ("no", "algorithm")),
    "a number for a group": (lambda: {"algorithm": 3}, ("algorithm", "module name, a dict or an object")),
    "a list for a model": (lambda: {"model": []}, ("model", "module name, a dict or an object")),
    "a network for a policy": (
        lambda: {"policy": own_parts.PolicyNet}, ("model.policy", "ProbabilisticPolicyComposer"),
    ),
    "group key in overrides": (lambda: {"overrides": {"algorithm": A2CAlgorithmConfig()}}, ("algorithm=…", "argument")),
    "seed twice": (lambda: {"seed": 1, "overrides": {"seeding.env_base_seed": 2}}, ("seed", "seeding.env_base_seed")),
    "seed out of range": (lambda: {"seed": -1}, ("seed", "-1")),
    "evaluator with an environment": (
        lambda: {"overrides": {"algorithm.rollout_evaluator": RolloutEvaluator(GymMazeEnv("CartPole-v1"), 1)}},
        ("algorithm.rollout_evaluator", "env=", "rc.policy"),
    ),
    "evaluator object of an algorithm": (
        lambda: {"algorithm": {"rollout_evaluator": RolloutEvaluator(GymMazeEnv("CartPole-v1"), 1)}},
        ("algorithm.rollout_evaluator", "env=", "rc.policy"),
    ),
    "evaluator dict with an environment": (
        lambda: {"algorithm": {"rollout_evaluator": {"n_episodes": 1, "eval_env": GymMazeEnv("CartPole-v1")}}},
        ("algorithm.rollout_evaluator.eval_env", "env=", "rc.policy"),
    ),
    "algorithm class": (lambda: {"algorithm": A2CAlgorithmConfig}, ("is a class", "A2CAlgorithmConfig(…)")),
    "runner class": (lambda: {"runner": TrainingRunnerConfig}, ("is a class", "TrainingRunnerConfig(…)")),
    "model class": (lambda: {"model": CustomModelComposer}, ("is a class", "CustomModelComposer(…)")),
    "policy class": (
        lambda: {"policy": ProbabilisticPolicyComposer}, ("model.policy: ProbabilisticPolicyComposer is a class",),
    ),
    "critic class": (lambda: {"critic": SharedStateCriticComposer}, ("model.critic", "is a class", "arguments")),
    "policy class by override": (
        lambda: {"overrides": {"model.policy": ProbabilisticPolicyComposer}}, ("model.policy", "is a class"),
    ),
    "wrapper class": (lambda: {"wrappers": RewardScalingWrapper}, ("wrappers.0", "RewardScalingWrapper(…)")),
    "wrapper class in a list": (
        lambda: {"wrappers": [RewardScalingWrapper(), PlainWrapper]}, ("wrappers.1", "PlainWrapper(…)"),
    ),
    "environment class that needs arguments": (
        lambda: {"env": GymMazeEnv}, ("GymMazeEnv cannot be called", "env=lambda: GymMazeEnv(…)"),
    ),
    "class of environment settings": (lambda: {"env": GymEnvConfig}, ("is a class", "GymEnvConfig(…)")),
    "small settings beside an algorithm object": (
        lambda: {"configuration": "test", "algorithm": A2CAlgorithmConfig()},
        ("configuration='test'", "argument 'algorithm'", "leave configuration out"),
    ),
    "a choice of the experiment that a rollout has not": (
        lambda: {"policy": "random_policy", "experiment": "cartpole_ppo_wrappers"},
        ("experiment", "algorithm=ppo", "a rollout run has no algorithm", "Leave the experiment out"),
    ),
    "policy twice": (
        lambda: {"policy": {"networks": [NET]}, "overrides": {"model.policy": {"networks": [NET]}}},
        ("policy=…", "override 'model.policy'", "leave one"),
    ),
    "launcher without a multirun": (lambda: {"launcher": "local"}, ("launcher", "multirun=True")),
    "launcher object": (lambda: {"launcher": object()}, ("launcher",)),
    "lists without a multirun": (lambda: {"overrides": {"algorithm.lr": [0.1, 0.2]}}, ("algorithm.lr",)),
    "policy of a run without its name": (lambda: {"policy": "torch_policy"}, ("policy.run", "run_dir=")),
    "Hydra's own key": (lambda: {"overrides": {"hydra.run.dir": "x"}}, ("hydra", "run_dir")),
}  # fmt: skip

# what stands for the networks of a policy
NO_NETWORKS: dict[str, Any] = {
    "a number": [1],
    "a text": ["X"],
    "an empty dict": [{}],
    "null in a list": [None],
    "a number by sub-step": {"a": 1},
    "null by sub-step": {0: None},
    "null, without a template": None,
    "settings of a critic's network": [VALUE_NET],
    "settings of an algorithm": [{"_target_": "PPOAlgorithmConfig"}],
}

# parts of a model that is no template and that has no networks of their own
WITHOUT_NETWORKS: dict[str, Callable[[], dict[str, Any]]] = {
    "policy": lambda: {"policy": ProbabilisticPolicyComposerConfig()},
    "critic": lambda: {"critic": StepStateCriticConfig()},
    "shared critic": lambda: {"critic": SharedStateCriticConfig(), "model": "flatten_concat"},
    "critic by name of its class": lambda: {"critic": {"_target_": "SharedStateCriticConfig"}},
}

# the parent is a whole object, the child says something else
CONTRADICTIONS: dict[str, Callable[[], dict[str, Any]]] = {
    "model, policy": lambda: {"model": model_composer(), "policy": policy_composer()},
    "model, critic": lambda: {"model": model_composer(), "critic": critic_composer()},
    "model, critic module": lambda: {"model": model_composer(), "critic": "template_state"},
    "model, policy override": lambda: {"model": model_composer(), "overrides": {"policy.networks": [NET]}},
    "model, full override": lambda: {
        "model": model_composer(),
        "overrides": {"model.policy.networks": [NET]},
    },
    "policy, override": lambda: {"policy": policy_composer(), "overrides": {"policy.networks": [NET]}},
    "policy, full override": lambda: {
        "policy": policy_composer(),
        "overrides": {"model.policy.networks": [NET]},
    },
    "override, override": lambda: {
        "overrides": {"model.policy": policy_composer(), "model.policy.networks": [NET]},
    },
    "proxy, full path": lambda: {"overrides": {"policy.networks": [NET], "model.policy.networks": [NET]}},
    "env, override": lambda: {"env": own_parts.make_env, "overrides": {"env.name": "CartPole-v1"}},
    "algorithm, override": lambda: {"algorithm": PPOAlgorithmConfig(), "overrides": {"algorithm.lr": 0.1}},
    "runner, override": lambda: {"runner": TrainingRunnerConfig(), "overrides": {"runner.n_envs": 2}},
    "wrapper, override": lambda: {
        "wrappers": own_parts.OwnWrapper(),
        "overrides": {"wrappers.0.factor": 1.0},
    },
}

# the parent leaves room: the child wins, whatever the order
FITTING: dict[str, tuple[Callable[[], dict[str, Any]], int]] = {
    "model module, policy object": (lambda: {"model": "flatten_concat", "policy": policy_composer()}, 11),
    "model dict, policy object": (
        lambda: {"model": {"_target_": "CustomModelConfig"}, "policy": policy_composer()}, 11,
    ),
    "policy dict, override": (
        lambda: {"policy": {"networks": [NET]}, "overrides": {"policy.networks.0.hidden_units": [13]}}, 13,
    ),
    "policy dict, full override": (
        lambda: {"policy": {"networks": [NET]}, "overrides": {"model.policy.networks.0.hidden_units": [13]}}, 13,
    ),
    "general after specific": (
        lambda: {"overrides": {"model.policy.networks.0.hidden_units": [13], "model.policy": {"networks": [NET]}}}, 13,
    ),
    "general before specific": (
        lambda: {"overrides": {"model.policy": {"networks": [NET]}, "model.policy.networks.0.hidden_units": [13]}}, 13,
    ),
}  # fmt: skip


@pytest.mark.parametrize("case", REFUSED)
def test_it_is_refused_with_the_way_out(case: str) -> None:
    arguments, words = REFUSED[case]
    message = refusal(**arguments())
    for word in words:
        assert word in message


@pytest.mark.parametrize("case", NO_NETWORKS)
def test_what_is_no_network_is_refused_where_it_stands(case: str) -> None:
    with pytest.raises(InvalidSpecificationError) as caught:
        RunContext(overrides={"model.policy.networks": NO_NETWORKS[case]})
    (problem,) = caught.value.problems
    assert problem.path.startswith("model.policy.networks")
    assert "FlattenConcatPolicyNetConfig" in problem.message


@pytest.mark.parametrize("case", WITHOUT_NETWORKS)
def test_networks_are_not_left_to_a_template_that_is_not_there(case: str) -> None:
    message = refusal(**WITHOUT_NETWORKS[case]())
    for word in (".networks: is null", "template", "model='vector_obs'"):
        assert word in message


@pytest.mark.parametrize("case", ["policy", "critic", "shared critic"])
def test_a_model_with_a_template_makes_them(case: str) -> None:
    config = RunContext(**{**WITHOUT_NETWORKS[case](), "model": "vector_obs"}).config
    assert config["model"]["policy"]["networks"] is None


@pytest.mark.parametrize("case", CONTRADICTIONS)
def test_a_whole_object_and_a_child_of_it_contradict(case: str) -> None:
    with pytest.raises(InvalidSpecificationError) as caught:
        RunContext(**CONTRADICTIONS[case]())
    assert {problem.code for problem in caught.value.problems} == {"contradiction"}


@pytest.mark.parametrize("case", FITTING)
def test_the_specific_beats_the_general(case: str) -> None:
    arguments, hidden = FITTING[case]
    network = RunContext(**arguments()).config["model"]["policy"]["networks"][0]
    assert network["hidden_units"] == [hidden]


def test_nothing_is_said_on_any_stream_and_no_warning_is_raised(capfd) -> None:
    with warnings.catch_warnings(record=True) as warned:
        warnings.simplefilter("always")
        RunContext(env=lambda: GymMazeEnv("CartPole-v0"), silent=True)
        refusal(algorithm="a3c")
    assert not warned
    assert capfd.readouterr() == ("", "")


@pytest.mark.parametrize("silent", [True, False])
def test_training_prints_nothing_of_ours(silent: bool, tmp_path, capfd) -> None:
    with RunContext(run_dir=tmp_path, overrides=QUICK, seed=1, silent=silent) as context:
        context.train()
        context.evaluate(1)
    assert capfd.readouterr() == ("", "")


def test_numbers_of_numpy_are_taken_and_none_sets_null() -> None:
    overrides = {
        "algorithm.n_epochs": np.int64(3),
        "algorithm.lr": np.float32(0.5),
        "algorithm.max_grad_norm": None,
    }
    algorithm = RunContext(overrides=overrides).config["algorithm"]
    assert (algorithm["n_epochs"], algorithm["lr"], algorithm["max_grad_norm"]) == (3, 0.5, None)
    assert type(algorithm["n_epochs"]) is int


@pytest.mark.parametrize(
    ("call", "words"),
    [
        (lambda rc: rc.train(0), "n_epochs"),
        (lambda rc: rc.train("3"), "n_epochs"),
        (lambda rc: rc.train(True), "n_epochs"),
        (lambda rc: rc.train(1, lr=0.1), "lr: train() does not take 'lr'"),
        (lambda rc: rc.train(1, patiens=3), "Did you mean 'patience'"),
        (lambda rc: rc.train(1, patience=-1), "patience: -1"),
        (lambda rc: rc.rollout(0), "runner.n_episodes"),
        (lambda rc: rc.rollout(1, seed=-1), "seed"),
        (lambda rc: rc.rollout(1, max_episode_steps=-1), "runner.max_episode_steps"),
        (lambda rc: rc.evaluate(1.5), "runner.n_episodes"),
    ],
)
def test_arguments_of_the_verbs_are_checked_too(call, words, tmp_path) -> None:
    with RunContext(run_dir=tmp_path, overrides=QUICK, seed=1) as context:
        with pytest.raises(InvalidSpecificationError) as caught:
            call(context)
        assert words in str(caught.value)
    assert not (tmp_path / "report.json").exists()


def test_a_limit_for_one_call_ends_that_call_alone(tmp_path) -> None:
    with RunContext(run_dir=tmp_path, overrides=QUICK, seed=1) as context:
        assert context.train(5, max_env_steps=1).stop_reason == "budget_env_steps"
        assert context.train(1).stop_reason == "completed"
        assert context.config["algorithm"]["max_env_steps"] is None
