"""The module files that the reference framework published are taken as they are, as dicts and as files."""

from pathlib import Path

import pytest
import yaml

from maze_core import (
    GymMazeEnv,
    InvalidSpecificationError,
    RunContext,
    SharedStateCriticComposer,
    StepStateCriticComposer,
    compose_run,
)

TRAINERS = "maze.train.trainers"
RUNNERS = f"{TRAINERS}.common.actor_critic.actor_critic_runners"
EVALUATOR = {
    "_target_": f"{TRAINERS}.common.evaluators.rollout_evaluator.RolloutEvaluator",
    "eval_env": None,
    "n_episodes": 8,
    "model_selection": None,
    "deterministic": True,
}
ALGORITHM = {
    "n_epochs": 0,
    "epoch_length": 25,
    "patience": 15,
    "lr": 0.0005,
    "max_grad_norm": 0.0,
    "device": "cpu",
}
A2C = {
    "_target_": f"{TRAINERS}.a2c.a2c_algorithm_config.A2CAlgorithmConfig",
    **ALGORITHM,
    "rollout_evaluator": EVALUATOR,
}
PPO = {**A2C, "_target_": f"{TRAINERS}.ppo.ppo_algorithm_config.PPOAlgorithmConfig", "batch_size": 100}


def runner(kind: str, trainer: str, **settings: object) -> dict:
    return {
        "_target_": f"{RUNNERS}.{kind}",
        "state_dict_dump_file": "state_dict.pt",
        "spaces_config_dump_file": "spaces_config.pkl",
        "dump_interval": None,
        "normalization_samples": 1000,
        "trainer_class": f"{TRAINERS}.{trainer.lower()}.{trainer.lower()}_trainer.{trainer}",
        "concurrency": 0,
        "eval_concurrency": 0,
        **settings,
    }


NORMALIZATION = {
    "maze.core.wrappers.observation_normalization.observation_normalization_wrapper.ObservationNormalizationWrapper": {
        "default_strategy": "maze.normalization_strategies.MeanZeroStdOneObservationNormalizationStrategy",
        "default_strategy_config": {"clip_range": [-3, 3], "axis": [0]},
        "default_statistics": None,
        "statistics_dump": "statistics.pkl",
        "sampling_policy": {"_target_": "maze.core.agent.random_policy.RandomPolicy"},
        "exclude": None,
        "manual_config": None,
    },
    "maze.core.wrappers.monitoring_wrapper.MazeEnvMonitoringWrapper": {
        "observation_logging": False,
        "action_logging": True,
        "reward_logging": True,
    },
}
SAMPLES = {"runner.normalization_samples": 1000}
CLIPPED = {"wrappers.ObservationNormalizationWrapper.clip_range": [-3, 3]}
SAME = [
    ({"runner": runner("ACDevRunner", "PPO")}, {"runner": "dev", "overrides": SAMPLES}),
    (
        {"runner": runner("ACLocalRunner", "PPO", concurrency=4)},
        {"runner": "local", "overrides": {"runner.n_envs": 4, **SAMPLES}},
    ),
    ({"runner": {"concurrency": 2}}, {"overrides": {"runner.n_envs": 2}}),
    ({"overrides": {"runner.concurrency": 2}}, {"overrides": {"runner.n_envs": 2}}),
    ({"overrides": {"runner.concurrency": 0}}, {}),
    ({"wrappers": NORMALIZATION}, {"wrappers": "vector_obs", "overrides": CLIPPED}),
    ({"critic": "template_state"}, {}),
    (
        {
            "env": {
                "_target_": "maze.core.wrappers.maze_gym_env_wrapper.make_gym_maze_env",
                "name": "CartPole-v0",
            }
        },
        {},
    ),
]


@pytest.mark.parametrize(("published", "ours"), SAME)
def test_a_published_form_is_the_same_configuration(published: dict, ours: dict):
    assert compose_run(**published, seed=1).tree == compose_run(**ours, seed=1).tree


@pytest.mark.parametrize("kind", ["Sequential", "Parallel"])
def test_published_rollout_runners_play(kind: str):
    name = f"maze.core.rollout.{kind.lower()}_rollout_runner.{kind}RolloutRunner"
    settings = {"n_episodes": 3, "max_episode_steps": 0, "record_trajectory": True, "record_event_logs": True}
    given = compose_run("rollout", policy="random_policy", runner={"_target_": name, **settings}, seed=1)
    ours = compose_run(
        "rollout",
        policy="random_policy",
        runner=kind.lower(),
        overrides={"runner.n_episodes": 3, "runner.max_episode_steps": None},
        seed=1,
    )
    assert given.tree == ours.tree


@pytest.mark.parametrize("algorithm", [A2C, PPO])
def test_no_number_of_epochs_goes_on_until_patience_ends_it(algorithm: dict):
    tree = compose_run(algorithm=algorithm).tree["algorithm"]
    assert (tree["n_epochs"], tree["patience"]) == (None, 15)
    short = {"epoch_length": 1, "patience": 1, "n_rollout_steps": 8, "rollout_evaluator": None}
    with RunContext(algorithm={**algorithm, **short}, silent=True, seed=1) as context:
        assert context.train().stop_reason == "patience"


def test_published_files_are_modules(tmp_path: Path):
    for group, name, content in (
        ("algorithm", "published_a2c", A2C),
        ("runner", "published_local", runner("ACLocalRunner", "A2C", concurrency=4)),
        ("wrappers", "published_obs", NORMALIZATION),
    ):
        (tmp_path / group).mkdir()
        (tmp_path / group / f"{name}.yaml").write_text(yaml.safe_dump(content, sort_keys=False))
    names = {"algorithm": "published_a2c", "runner": "published_local", "wrappers": "published_obs"}
    tree = compose_run(**names, config_dirs=tmp_path, seed=1).tree
    overrides = {"runner.n_envs": 4, **SAMPLES, **CLIPPED}
    ours = compose_run(algorithm=A2C, runner="local", wrappers="vector_obs", overrides=overrides, seed=1)
    assert tree == ours.tree


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        ({"runner": runner("ACDevRunner", "A2C")}, "is the runner of A2C, and the algorithm is ppo"),
        ({"algorithm": A2C, "runner": runner("ACDevRunner", "PPO")}, "is the runner of PPO"),
        ({"runner": runner("ACDevRunner", "PPO", dump_interval=10)}, "dump_interval"),
        ({"critic": {"stack_observations": True}}, "one agent at a time"),
        ({"critic": {"agent_counts_dict": {0: 2}}}, "the environment says how many agents"),
    ],
)
def test_what_would_mean_something_else_is_refused(arguments: dict, said: str):
    with pytest.raises(InvalidSpecificationError, match=said):
        compose_run(**arguments)


@pytest.mark.parametrize("composer", [StepStateCriticComposer, SharedStateCriticComposer])
@pytest.mark.parametrize("key", [0, "0"])
def test_critic_composers_take_their_published_arguments_and_a_network_by_sub_step(
    composer: type, key: object
):
    spaces = GymMazeEnv("CartPole-v0").observation_spaces_dict
    networks = {key: {"_target_": "FlattenConcatStateValueNetConfig"}}
    critic = composer(
        observation_spaces_dict=spaces, networks=networks, agent_counts_dict={0: 1}, stack_observations=False
    )
    assert critic.agent_counts_dict == {0: 1}
    with RunContext(critic=critic, configuration="test", silent=True) as context:
        assert context.train(n_epochs=1).counters.epoch == 1
    if composer is StepStateCriticComposer:
        with pytest.raises(InvalidSpecificationError, match="one agent at a time"):
            composer(observation_spaces_dict=spaces, networks=networks, stack_observations=True)
