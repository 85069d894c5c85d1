"""Names, dicts and values become one validated configuration; whatever is wrong is said at once."""

import copy
from pathlib import Path

import numpy as np
import pytest

from maze_core.config import RunConfig, compose_run, config_groups
from maze_core.errors import InvalidSpecificationError, Problem
from maze_core.trainers.ppo_config import PPOAlgorithmConfig
from tests.maze_core.config.episodes import episodes_for

PPO = "maze_core.PPOAlgorithmConfig"
A2C = "maze_core.A2CAlgorithmConfig"


def problems(mode="train", **arguments) -> dict[str, Problem]:
    with pytest.raises(InvalidSpecificationError) as caught:
        compose_run(mode, **arguments)
    return {problem.path: problem for problem in caught.value.problems}


def test_the_defaults_train_ppo_on_cartpole():
    tree = compose_run(seed=1).tree
    assert tree["env"]["name"] == "CartPole-v0"
    assert tree["algorithm"]["_target_"] == PPO
    assert tree["runner"]["execution"] == "dev"
    assert tree["wrappers"] == []
    assert tree["seeding"] == {"env_base_seed": 1, "agent_base_seed": 1}


def test_names_choose_modules():
    config = compose_run(algorithm="a2c", model="vector_obs", critic="template_state", wrappers="vector_obs")
    assert config.tree["algorithm"]["_target_"] == A2C
    assert config.tree["model"]["critic"]["_target_"] == "maze_core.StepStateCriticConfig"
    names = [node["_target_"].rpartition(".")[2] for node in config.tree["wrappers"]]
    assert names == ["ObservationNormalizationWrapper", "MonitoringWrapper"]


def test_wrappers_are_built_in_their_order():
    built = compose_run(wrappers="vector_obs").build("wrappers")
    assert [type(w).__name__ for w in built] == ["ObservationNormalizationWrapper", "MonitoringWrapper"]


def test_every_part_builds_a_typed_object():
    config = compose_run(overrides={"algorithm.n_epochs": 7})
    assert isinstance(config.build("algorithm"), PPOAlgorithmConfig)
    assert config.build("algorithm").n_epochs == 7
    network = config.tree["model"]["policy"]["networks"][0]
    assert list(config.build("model.policy.networks.0").hidden_units) == network["hidden_units"]


def test_a_rollout_has_a_policy_and_no_algorithm():
    tree = compose_run("rollout").tree
    assert tree["policy"]["_target_"] == "maze_core.RandomPolicyConfig"
    assert tree["runner"]["execution"] == "sequential"
    assert "algorithm" not in tree


def test_the_test_configuration_loads_the_small_settings_of_its_algorithm():
    for algorithm in config_groups()["algorithm"]:
        tree = compose_run(algorithm=algorithm, configuration="test", **episodes_for(algorithm)).tree
        assert tree["algorithm"]["n_epochs"] == 2
        assert tree["runner"]["n_envs"] == 2
    assert compose_run("rollout", configuration="test").tree["runner"]["n_episodes"] == 2


def test_an_experiment_chooses_modules_and_values_and_an_argument_outranks_it():
    tree = compose_run(experiment="cartpole_ppo_wrappers").tree
    assert (tree["algorithm"]["lr"], len(tree["wrappers"])) == (0.0001, 2)
    tree = compose_run(experiment="cartpole_ppo_wrappers", wrappers="no_wrappers").tree
    assert tree["wrappers"] == []


def test_a_value_outranks_configuration_and_experiment():
    tree = compose_run(
        experiment="cartpole_ppo_wrappers", configuration="test", overrides={"algorithm.lr": 0.5}, n_epochs=9
    ).tree
    assert (tree["algorithm"]["lr"], tree["algorithm"]["n_epochs"]) == (0.5, 9)


def test_a_dict_merges_onto_the_module_when_it_names_no_other_component():
    for target in ({}, {"_target_": PPO}, {"_target_": "PPOAlgorithmConfig"}):
        tree = compose_run(configuration="test", algorithm={**target, "lr": 0.25}).tree
        assert (tree["algorithm"]["lr"], tree["algorithm"]["n_epochs"]) == (0.25, 2)


def test_a_dict_that_names_another_component_takes_the_place_of_the_module():
    tree = compose_run(algorithm={"_target_": A2C, "lr": 0.25}).tree
    assert tree["algorithm"]["_target_"] == A2C
    assert (tree["algorithm"]["lr"], tree["algorithm"]["n_epochs"]) == (0.25, 60)
    assert "batch_size" not in tree["algorithm"]


def test_another_block_takes_the_place_of_the_one_before_and_a_word_alone_changes_its_kind():
    place = "model.model_builder.modality_config"
    vgg = {"block_type": "vgg_convolution", "block_params": {"hidden_channels": [4]}}
    tree = compose_run(model="pixel_obs_rnn", overrides={f"{place}.image": vgg}, seed=1).tree
    image = tree["model"]["model_builder"]["modality_config"]["image"]
    assert image["block_params"]["hidden_channels"] == [4]
    assert "hidden_kernels" not in image["block_params"]
    tree = compose_run(
        model="pixel_obs_rnn", overrides={f"{place}.recurrence.block_type": "gru"}, seed=1
    ).tree
    recurrence = tree["model"]["model_builder"]["modality_config"]["recurrence"]
    assert (recurrence["block_type"], recurrence["block_params"]["hidden_size"]) == ("gru", 128)


def test_nested_dicts_merge_too():
    tree = compose_run(algorithm={"rollout_evaluator": {"n_episodes": 3}}).tree
    evaluator = tree["algorithm"]["rollout_evaluator"]
    assert (evaluator["n_episodes"], evaluator["deterministic"]) == (3, True)


def test_a_critic_by_name_is_more_specific_than_a_model_by_dict():
    model = {
        "_target_": "maze_core.CustomModelConfig",
        "policy": {
            "_target_": "ProbabilisticPolicyComposerConfig",
            "networks": [{"_target_": "FlattenConcatPolicyNetConfig"}],
        },
        "critic": {"_target_": "StepStateCriticConfig", "networks": None},
    }
    tree = compose_run(model=model, critic="flatten_concat_shared").tree
    assert tree["model"]["critic"]["_target_"].endswith("SharedStateCriticConfig")


def test_policy_and_critic_stand_for_parts_of_the_model():
    net = {"_target_": "FlattenConcatPolicyNetConfig", "hidden_units": [8]}
    value_net = {"_target_": "FlattenConcatStateValueNetConfig", "hidden_units": [4]}
    tree = compose_run(policy={"networks": [net]}, critic={"networks": [value_net]}).tree
    assert tree["model"]["policy"]["networks"][0]["hidden_units"] == [8]
    assert tree["model"]["critic"]["networks"][0]["hidden_units"] == [4]


def test_wrappers_by_dict_replace_the_stack_and_keep_their_order():
    scaling = "maze_core.RewardScalingWrapper"
    clipping = "maze.core.wrappers.reward_clipping_wrapper.RewardClippingWrapper"
    given = {scaling: {"scale": 0.5}, clipping: {"min_val": -1.0, "max_val": 1.0}}
    forth, back = (
        compose_run(wrappers=given, seed=1),
        compose_run(wrappers=dict(reversed(given.items())), seed=1),
    )
    assert [node["_target_"] for node in forth.tree["wrappers"]] == [
        scaling,
        "maze_core.RewardClippingWrapper",
    ]
    assert forth.config_sha256 != back.config_sha256


def test_seeds_are_drawn_and_recorded():
    first, second = compose_run().tree["seeding"], compose_run().tree["seeding"]
    assert first != second
    assert all(0 <= seed < 2**32 for seed in first.values())


def test_one_seed_may_be_given_and_the_other_drawn():
    seeding = compose_run(overrides={"seeding.env_base_seed": np.int64(3)}).tree["seeding"]
    assert seeding["env_base_seed"] == 3
    assert isinstance(seeding["agent_base_seed"], int)


def test_seed_beside_a_seeding_override_is_a_contradiction():
    found = problems(seed=1, overrides={"seeding.agent_base_seed": 2})
    assert "seeding.agent_base_seed" in found["seed"].message


@pytest.mark.parametrize("seed", [-1, 2**32, 1.0, True, "1", pytest.param(10**5000, id="huge")])
def test_a_seed_is_a_whole_number_below_two_to_the_32(seed):
    assert set(problems(seed=seed)) == {"seed"}


BUDGETS = {
    "n_epochs": 3,
    "max_env_steps": 5000,
    "max_wall_s": 2.5,
    "patience": 4,
    "target_return": -1.5,
}


@pytest.mark.parametrize(("name", "value"), BUDGETS.items())
def test_a_budget_is_the_setting_of_its_name_and_is_given_once(name, value):
    overrides = {f"algorithm.{name}": value}
    assert (
        compose_run(**{name: value}, seed=1).config_sha256
        == compose_run(overrides=overrides, seed=1).config_sha256
    )
    assert problems(**{name: value}, overrides=overrides)[name].code == "contradiction"
    assert set(problems("rollout", **{name: value})) == {name}
    assert set(problems(**{name: "x"})) == {f"algorithm.{name}"}


def test_every_problem_is_reported_at_once():
    found = problems(
        algorithm="pppo",
        runner="dev",
        model="nope",
        seed=-1,
        experiment="none",
        overrides={"env.nmae": 1, "runner.execution": "devv", "runner.n_envs": 0, "algorithm": "a2c"},
    )
    assert set(found) == {
        "algorithm",
        "model",
        "experiment",
        "seed",
        "env.nmae",
        "runner.execution",
        "runner.n_envs",
    }
    assert found["env.nmae"].did_you_mean == "name"
    assert found["runner.execution"].allowed == ("dev", "local", "isolated")


def test_problems_below_an_unknown_module_are_not_guessed_at():
    assert set(problems(algorithm="dreamer", overrides={"algorithm.tau": 0.1})) == {"algorithm"}


def test_a_rollout_runner_cannot_train_and_a_training_runner_cannot_play():
    for runner in ("sequential", "parallel"):
        found = problems(runner=runner)
        assert found["runner"].allowed == ("dev", "local", "isolated")
    assert problems("rollout", runner="local")["runner"].allowed == ("sequential", "parallel")


def test_arguments_of_training_have_no_meaning_in_a_rollout():
    found = problems("rollout", algorithm="ppo", critic="template_state")
    assert {found[path].code for path in ("algorithm", "critic")} == {"wrong_mode"}


def test_a_rollout_policy_by_name_cannot_be_trained():
    assert "rollouts" in problems(policy="random_policy")["policy"].message


@pytest.mark.parametrize("launcher", ["local", {"n_jobs": 2}])
def test_a_launcher_belongs_to_a_multirun(launcher):
    assert problems(launcher=launcher)["launcher"].code == "needs_multirun"
    assert problems(launcher="slurm")["launcher"].allowed == ("local",)


def test_several_modules_belong_to_a_multirun():
    assert problems(algorithm="a2c,ppo")["algorithm"].code == "needs_multirun"


@pytest.mark.parametrize("group", ["env", "algorithm", "model", "runner", "wrappers"])
@pytest.mark.parametrize("value", [3, 1.5, True, b"x"])
def test_a_number_is_no_group_argument(group, value):
    assert any(path.startswith(group) for path in problems(**{group: value}))


def test_a_component_of_another_kind_is_refused():
    found = problems(algorithm={"_target_": "GymEnvConfig"}, env={"_target_": PPO}, model={"_target_": PPO})
    assert {path: problem.code for path, problem in found.items()} == {
        "algorithm._target_": "wrong_kind",
        "env._target_": "wrong_kind",
        "model._target_": "wrong_kind",
    }


def test_an_unknown_mode_is_refused():
    with pytest.raises(InvalidSpecificationError, match="neither"):
        compose_run("tune")


def test_no_argument_is_changed():
    overrides = {"env.kwargs": {"a": [1, {"b": 2}]}, "algorithm.lr": 0.1}
    algorithm = {"rollout_evaluator": {"n_episodes": 2}}
    before = copy.deepcopy((overrides, algorithm))
    tree = compose_run(overrides=overrides, algorithm=algorithm).tree
    tree["env"]["kwargs"]["a"].append(5)
    assert (overrides, algorithm) == before


def test_two_configurations_share_nothing():
    compose_run(seed=1).tree["algorithm"]["lr"] = 77.0
    assert compose_run(seed=1).tree["algorithm"]["lr"] != 77.0


def test_modules_of_the_caller_are_chosen_by_name_and_follow_their_file(tmp_path: Path):
    file = tmp_path / "algorithm" / "mine.yaml"
    file.parent.mkdir()
    file.write_text(f"_target_: {PPO}\nlr: 0.5\n")
    assert compose_run(algorithm="mine", config_dirs=[tmp_path]).tree["algorithm"]["lr"] == 0.5
    file.write_text(f"_target_: {PPO}\nlr: 0.125\n")
    assert compose_run(algorithm="mine", config_dirs=[tmp_path]).tree["algorithm"]["lr"] == 0.125
    assert "algorithm" in problems(algorithm="mine")


@pytest.mark.parametrize("none", [None, (), []])
def test_no_directories_of_the_users_are_said_in_any_way(none):
    assert compose_run(config_dirs=none, seed=1).config_sha256 == compose_run(seed=1).config_sha256


def test_one_directory_stands_alone(tmp_path: Path):
    (tmp_path / "algorithm").mkdir()
    (tmp_path / "algorithm" / "mine.yaml").write_text(f"_target_: {PPO}\nlr: 0.5\n")
    for given in (tmp_path, str(tmp_path)):
        assert compose_run(algorithm="mine", config_dirs=given).tree["algorithm"]["lr"] == 0.5


@pytest.mark.parametrize(
    ("given", "code"),
    [(3, "wrong_type"), ([3], "wrong_type"), (b"x", "wrong_type"), ("nowhere", "unknown_directory")],
)
def test_what_is_no_directory_is_refused(given, code):
    assert problems(config_dirs=given)["config_dirs"].code == code


@pytest.mark.parametrize("key", ["algorithm.n_epochs", "algorithm.batch_size", "env.max_episode_steps"])
@pytest.mark.parametrize("size", [2**63, pytest.param(10**400, id="huge")])
def test_a_whole_number_has_a_largest_value(key, size):
    assert problems(overrides={key: size})[key].code == "out_of_range"


def test_what_is_given_twice_names_both_givers():
    policy = {"networks": [{"_target_": "FlattenConcatPolicyNetConfig"}]}
    message = problems(policy=policy, overrides={"model.policy": policy})["model.policy"].message
    assert "the override 'model.policy'" in message
    assert "the argument policy=…" in message
    found = problems(overrides={"policy.networks": [], "model.policy.networks": []})
    assert "the override 'policy.networks'" in found["model.policy.networks"].message


def test_a_runner_of_the_other_kind_is_called_by_what_it_is():
    target = "maze_core.RolloutRunnerConfig"
    assert (
        "RolloutRunnerConfig plays episodes"
        in problems(overrides={"runner._target_": target})["runner"].message
    )
    assert "'parallel' plays episodes" in problems(runner="parallel")["runner"].message


def test_a_directory_with_an_unusual_name_works(tmp_path: Path):
    directory = tmp_path / "it's [a] {dir}, ünïcode=1"
    (directory / "algorithm").mkdir(parents=True)
    (directory / "algorithm" / "mine.yaml").write_text(f"_target_: {PPO}\nlr: 0.5\n")
    assert compose_run(algorithm="mine", config_dirs=[directory]).tree["algorithm"]["lr"] == 0.5


def test_interpolations_in_a_module_see_the_values_of_the_run(tmp_path: Path):
    (tmp_path / "algorithm").mkdir()
    text = f"_target_: {PPO}\nn_rollout_steps: 64\nbatch_size: ${{algorithm.n_rollout_steps}}\n"
    (tmp_path / "algorithm" / "mine.yaml").write_text(text)
    tree = compose_run(
        algorithm="mine",
        config_dirs=[tmp_path],
        overrides={"algorithm.n_rollout_steps": 32, "project.name": "costs ${algorithm.lr}"},
    ).tree
    assert tree["algorithm"]["batch_size"] == 32
    assert tree["project"]["name"] == "costs ${algorithm.lr}"


def test_a_module_that_cannot_be_read_is_an_invalid_specification_without_paths(tmp_path: Path):
    (tmp_path / "algorithm").mkdir()
    (tmp_path / "algorithm" / "mine.yaml").write_text("lr: [1, 2\n")
    with pytest.raises(InvalidSpecificationError, match=r"algorithm/mine\.yaml, line 2") as caught:
        compose_run(algorithm="mine", config_dirs=[tmp_path])
    assert str(tmp_path) not in str(caught.value)


def test_a_wide_dict_is_refused_key_by_key():
    found = problems(algorithm={f"key{i}": i for i in range(100)})
    assert len(found) == 100


def test_deep_nesting_is_refused_without_recursion():
    deep: dict = {}
    for _ in range(5000):
        deep = {"a": deep}
    (problem,) = problems(overrides={"env.kwargs": deep}).values()
    assert problem.code == "too_deep"


def test_config_is_a_run_config():
    assert isinstance(compose_run(), RunConfig)
