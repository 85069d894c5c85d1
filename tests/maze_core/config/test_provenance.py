"""Where each value comes from: files in the order of their merging, then what was given, then the code."""

import pytest

from maze_core import RunContext
from maze_core.cli import main
from maze_core.config import compose_run, config_groups, config_module
from maze_core.config.overrides import REMOVED
from maze_core.config.provenance import Origin


def origins(mode="train", **arguments):
    return compose_run(mode, **{"seed": 1, **arguments}).provenance


def test_every_value_has_an_origin_and_nothing_else_has_one():
    config = compose_run(wrappers="vector_obs", seed=1)
    found = config.provenance
    assert found["wrappers.0.clip_range.0"] == Origin("module", "wrappers/vector_obs")
    assert set(found) == set(dotted(config.tree))


def dotted(value, path=""):
    if not value or not isinstance(value, (dict, list)):
        return [path]
    items = value.items() if isinstance(value, dict) else enumerate(value)
    return [place for key, child in items for place in dotted(child, f"{path}.{key}".strip("."))]


@pytest.mark.parametrize("name", config_groups()["algorithm"])
def test_values_of_a_module_are_those_that_its_file_says(name):
    arguments = {"overrides": {"dataset.run": "nowhere"}} if name in ("bc", "sacfd") else {}
    config = compose_run(algorithm=name, seed=1, locate=lambda _, node: node, **arguments)
    file, found = config_module("algorithm", name)["config"], config.provenance
    for key in config.tree["algorithm"]:
        origin = found.get(f"algorithm.{key}")
        if origin is not None:  # it has no keys of its own
            assert (origin == Origin("module", f"algorithm/{name}")) is (key in file), key


def test_each_kind_of_giving_is_named():
    found = origins(
        algorithm={"lr": 0.01},
        critic="template_state",
        configuration="test",
        experiment="cartpole_ppo_wrappers",
        n_epochs=3,
        overrides={
            "env.max_episode_steps": 7,
            "policy.networks": [{"_target_": "FlattenConcatPolicyNetConfig"}],
        },
    )
    assert found["algorithm.lr"] == Origin("argument", "algorithm")
    assert found["algorithm.n_epochs"] == Origin("argument", "n_epochs")
    assert found["algorithm.batch_size"] == Origin("configuration", "algorithm_configuration/ppo-test")
    assert found["algorithm.gamma"] == Origin("module", "algorithm/ppo")
    assert found["env.name"] == Origin("experiment", "experiment/cartpole_ppo_wrappers")
    assert found["env.max_episode_steps"] == Origin("override", "env.max_episode_steps")
    assert found["env.vectorization"] == Origin("derived", "auto")
    assert found["model.critic._target_"] == Origin("module", "critic/template_state")
    assert found["model.policy.networks.0._target_"] == Origin("override", "policy.networks")
    assert found["model.policy.networks.0.non_lin"] == Origin("default")
    assert found["seeding.env_base_seed"] == Origin("argument", "seed")
    assert found["project.name"] == Origin("module", "conf_train")


def test_a_seed_that_nobody_gave_is_drawn():
    found = compose_run(overrides={"seeding.env_base_seed": 3}).provenance
    assert found["seeding.env_base_seed"] == Origin("override", "seeding.env_base_seed")
    assert found["seeding.agent_base_seed"] == Origin("drawn")


def test_another_component_has_nothing_of_the_file_it_replaces():
    found = origins(algorithm={"_target_": "A2CAlgorithmConfig", "lr": 0.3})
    assert found["algorithm._target_"] == found["algorithm.lr"] == Origin("argument", "algorithm")
    assert found["algorithm.gamma"] == Origin("default")


def test_small_settings_stay_where_a_dict_names_another_component():
    found = origins(algorithm={"_target_": "A2CAlgorithmConfig", "lr": 0.3}, configuration="test")
    assert found["algorithm.n_rollout_steps"] == Origin("configuration", "configuration/test")
    assert found["algorithm.gamma"] == Origin("default")


def test_an_override_of_a_whole_part_forgets_what_stood_below():
    node = {
        "_target_": "SharedStateCriticConfig",
        "networks": [{"_target_": "FlattenConcatStateValueNetConfig"}],
    }
    found = origins(overrides={"model.critic": node, "model.critic.networks.0.non_lin": "relu"})
    assert found["model.critic._target_"] == Origin("override", "model.critic")
    assert found["model.critic.networks.0.non_lin"] == Origin("override", "model.critic.networks.0.non_lin")
    assert found["model.critic.networks.0.output_gain"] == Origin("default")


def test_what_is_taken_away_is_the_default_of_the_code_and_moves_what_follows():
    found = origins(
        wrappers="vector_obs",
        overrides={
            "wrappers.0": REMOVED,
            "wrappers.MonitoringWrapper.action_logging": False,
            "algorithm.lr": REMOVED,
        },
    )
    assert found["algorithm.lr"] == Origin("default")
    assert found["wrappers.0.reward_logging"] == Origin("module", "wrappers/vector_obs")
    assert found["wrappers.0.action_logging"].source == "override"
    assert "wrappers.1._target_" not in found


def test_epochs_that_follow_from_the_steps_are_derived():
    found = origins(overrides={"algorithm.total_env_steps": 100_000})
    assert found["algorithm.n_epochs"] == Origin("derived", "algorithm.total_env_steps")


def test_a_wrapper_that_an_experiment_adds_is_the_experiments(tmp_path):
    (tmp_path / "experiment").mkdir()
    (tmp_path / "experiment" / "mine.yaml").write_text(
        "# @package _global_\ndefaults:\n  - override /wrappers: vector_obs\n"
        "wrappers:\n  maze_core.RewardScalingWrapper: {scale: 2.0}\n"
        "  maze_core.MonitoringWrapper: {action_logging: false}\nmodel: {critic: null}\n"
    )
    found = origins(experiment="mine", config_dirs=[tmp_path])
    mine = Origin("experiment", "experiment/mine")
    assert found["wrappers.0.strategy"] == Origin("module", "wrappers/vector_obs")
    assert found["wrappers.1.action_logging"] == mine
    assert found["wrappers.1.reward_logging"] == Origin("module", "wrappers/vector_obs")
    assert found["wrappers.2.scale"] == mine
    assert found["model.critic"] == mine


def test_a_module_that_includes_another_one_says_only_its_own_values(tmp_path):
    (tmp_path / "algorithm").mkdir()
    (tmp_path / "algorithm" / "mine.yaml").write_text("defaults: [ppo]\nlr: 0.25\n")
    found = origins(algorithm="mine", config_dirs=[tmp_path])
    assert found["algorithm.lr"] == Origin("module", "algorithm/mine")
    assert found["algorithm.gamma"] == Origin("module", "algorithm/ppo")


def test_of_a_resolved_configuration_only_what_stands_beside_it_is_the_callers():
    recorded = compose_run(algorithm="a2c", seed=4).tree
    with RunContext.from_config(recorded, overrides={"algorithm.lr": 0.5}) as rc:
        found = rc.provenance
    assert found["algorithm.lr"] == Origin("override", "algorithm.lr")
    assert found["algorithm.gamma"] == found["seeding.env_base_seed"] == Origin("config")


def test_a_rollout_tells_it_too():
    found = origins("rollout", policy="random_policy", overrides={"runner.n_episodes": 3})
    assert found["policy._target_"] == Origin("module", "policy/random_policy")
    assert found["runner.n_episodes"] == Origin("override", "runner.n_episodes")


def test_the_command_line_prints_words_with_where_they_come_from(capsys):
    assert main(["algorithm=a2c", "algorithm.lr=0.5", "seed=1", "--cfg", "provenance"]) == 0
    lines = capsys.readouterr().out.splitlines()
    assert "algorithm.lr=0.5  # override algorithm.lr" in lines
    assert "algorithm.gamma=0.99  # module algorithm/a2c" in lines
    assert main(["-m", "algorithm=a2c,ppo", "--cfg", "provenance"]) == 2
    assert "leave out --multirun" in capsys.readouterr().err
