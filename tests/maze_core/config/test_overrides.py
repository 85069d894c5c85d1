"""Override keys: which exist, what a value means, and that the order of keys means nothing."""

import enum

import numpy as np
import pytest

from maze_core.config import compose_run
from maze_core.config.overrides import REMOVED
from maze_core.errors import InvalidSpecificationError, Problem

NET = {"_target_": "FlattenConcatPolicyNetConfig", "hidden_units": [8]}
SCALING = "maze_core.RewardScalingWrapper"


def tree(mode="train", **arguments):
    return compose_run(mode, **arguments).tree


def problem(**arguments) -> Problem:
    with pytest.raises(InvalidSpecificationError) as caught:
        compose_run(**arguments)
    (found,) = caught.value.problems
    return found


@pytest.mark.parametrize(
    "text", ["a=b, c{d}", "null", "1", "${env.name}", "[1,2]", "~x", "'quoted\"", "\\${x}", "\x00", "ü"]
)
def test_a_text_is_a_text(text):
    assert tree(overrides={"project.name": text})["project"]["name"] == text
    assert tree(env={"kwargs": {"text": text}})["env"]["kwargs"]["text"] == text


@pytest.mark.parametrize(
    "group", ["env", "algorithm", "model", "policy", "critic", "runner", "wrappers", "launcher", "experiment"]
)
def test_a_bare_group_key_is_refused_with_the_argument_to_use(group):
    found = problem(overrides={group: "x"})
    assert found.code == "group_key"
    assert f"{group}=…" in found.message


def test_an_unknown_key_names_its_level_and_the_closest_key():
    found = problem(overrides={"algorithm.n_epoch": 3})
    assert (found.path, found.did_you_mean, found.code) == ("algorithm.n_epoch", "n_epochs", "unknown_key")
    assert "lr" in found.allowed


def test_a_key_in_the_wrong_place_is_found():
    assert problem(overrides={"n_rollout_steps": 3}).did_you_mean == "algorithm.n_rollout_steps"


def test_an_unknown_key_deep_down_is_found():
    found = problem(overrides={"algorithm.rollout_evaluator.n_episode": 3})
    assert found.path == "algorithm.rollout_evaluator.n_episode"
    assert found.did_you_mean == "n_episodes"


@pytest.mark.parametrize(
    "key", ["hydra.run.dir", "hydra.searchpath", "hydra", "+env.x", "~env", "++env.name"]
)
def test_the_grammar_of_the_command_line_is_no_key(key):
    assert problem(overrides={key: "x"}).code == "reserved_key"


@pytest.mark.parametrize("key", ["", ".", "env.", ".env", "env..name"])
def test_a_malformed_key_is_refused(key):
    assert problem(overrides={key: "x"}).code == "unknown_key"


def test_none_sets_null():
    assert tree(overrides={"algorithm.max_grad_norm": None})["algorithm"]["max_grad_norm"] is None


def test_zero_where_it_means_off_becomes_null():
    assert tree(overrides={"algorithm.max_grad_norm": 0.0})["algorithm"]["max_grad_norm"] is None
    assert tree(overrides={"algorithm.patience": 0})["algorithm"]["patience"] is None


def test_numpy_numbers_and_enums_become_plain():
    class Execution(enum.Enum):
        LOCAL = "local"

    found = tree(
        overrides={
            "algorithm.lr": np.float32(0.5),
            "runner.n_envs": np.int16(4),
            "algorithm.normalize_advantages": np.bool_(False),
            "runner.execution": Execution.LOCAL,
            "env.kwargs": {"a": np.arange(3).tolist(), "1": (np.float64(2.0),)},
        }
    )
    assert type(found["algorithm"]["lr"]) is float
    assert (found["runner"]["n_envs"], found["runner"]["execution"]) == (4, "local")
    assert found["algorithm"]["normalize_advantages"] is False
    assert found["env"]["kwargs"] == {"a": [0, 1, 2], "1": [2.0]}


def test_free_mappings_take_new_keys():
    assert tree(overrides={"env.kwargs.g": 9.0})["env"]["kwargs"] == {"g": 9.0}


def test_specific_beats_general_whatever_the_order():
    pair = {"model.policy": {"networks": [NET]}, "model.policy.networks.0.hidden_units": [4]}
    for overrides in (pair, dict(reversed(pair.items()))):
        assert tree(overrides=overrides)["model"]["policy"]["networks"][0]["hidden_units"] == [4]


def test_policy_and_critic_keys_lead_into_the_model():
    found = tree(overrides={"policy.networks.0.hidden_units": [4], "critic.networks.0.non_lin": "relu"})
    assert found["model"]["policy"]["networks"][0]["hidden_units"] == [4]
    assert found["model"]["critic"]["networks"][0]["non_lin"] == "relu"


def test_brackets_and_dots_number_a_list_alike():
    for key in ("model.policy.networks.0.non_lin", "model.policy.networks[0].non_lin"):
        assert tree(overrides={key: "elu"})["model"]["policy"]["networks"][0]["non_lin"] == "elu"


def test_two_spellings_of_one_key_contradict():
    overrides = {"policy.networks": [NET], "model.policy.networks": [NET]}
    assert problem(overrides=overrides).code == "contradiction"


def test_an_argument_and_an_override_of_the_same_key_contradict():
    assert (
        problem(policy={"networks": [NET]}, overrides={"model.policy": {"networks": [NET]}}).code
        == "contradiction"
    )


def test_a_list_index_out_of_range_is_refused():
    assert problem(overrides={"model.policy.networks.1.non_lin": "elu"}).allowed == ("0",)


def test_below_null_there_is_nothing_to_set():
    found = problem(model="vector_obs", overrides={"model.critic.networks": None})
    assert found.code == "no_parent"
    assert "model.critic is None" in found.message


@pytest.mark.parametrize(
    "name",
    ["RewardScalingWrapper", SCALING, "maze.core.wrappers.reward_scaling_wrapper.RewardScalingWrapper", "0"],
)
def test_a_wrapper_is_found_by_its_class_its_dotted_name_or_its_number(name):
    found = tree(wrappers={SCALING: {"scale": 1.0}}, overrides={f"wrappers.{name}.scale": 0.5})
    assert found["wrappers"][0]["scale"] == 0.5


def test_an_absent_wrapper_is_refused_with_those_that_are_there():
    found = problem(wrappers={SCALING: {"scale": 1.0}}, overrides={"wrappers.RewardScaling.scale": 0.5})
    assert found.did_you_mean == "RewardScalingWrapper"


def test_removing_an_entry_of_a_free_mapping_and_a_setting():
    found = tree(
        env={"kwargs": {"a": 1, "b": 2}},
        algorithm={"lr": 0.5},
        overrides={"env.kwargs.a": REMOVED, "algorithm.lr": REMOVED},
    )
    assert found["env"]["kwargs"] == {"b": 2}
    assert found["algorithm"]["lr"] == 0.001


def test_removing_what_is_not_there_is_refused():
    assert problem(overrides={"env.kwargs.a": REMOVED}).code == "unknown_key"


@pytest.mark.parametrize(
    ("key", "value"),
    [
        ("runner.n_envs", "8"),
        ("runner.n_envs", True),
        ("algorithm.lr", "0.1"),
        ("algorithm.normalize_advantages", 1),
        ("algorithm.normalize_advantages", "true"),
        ("algorithm.n_epochs", 1.5),
        ("env.name", 3),
        ("algorithm.rollout_evaluator.n_episodes", "2"),
        ("model.policy.networks.0.hidden_units", ["8"]),
    ],
)
def test_a_value_of_another_type_is_refused_where_it_stands(key, value):
    found = problem(overrides={key: value})
    assert found.path.startswith(key)
    assert found.code == "wrong_type"


@pytest.mark.parametrize(
    ("key", "value"),
    [
        ("algorithm.gamma", 1.5),
        ("runner.n_envs", 0),
        ("algorithm.lr", -1.0),
        pytest.param("runner.n_envs", -(10**5000), id="huge"),
    ],
)
def test_a_value_out_of_range_is_refused_where_it_stands(key, value):
    found = problem(overrides={key: value})
    assert (found.path, found.code) == (key, "out_of_range")


@pytest.mark.parametrize("value", [float("nan"), float("inf"), np.float32("-inf")])
def test_a_number_that_is_not_finite_is_refused(value):
    assert problem(overrides={"env.kwargs.x": value}).code == "not_finite"


def test_overrides_must_be_a_dict():
    assert problem(overrides=["env.name=x"]).path == "overrides"


def test_two_keys_of_one_text_are_refused():
    networks = {
        0: {"_target_": "FlattenConcatPolicyNetConfig"},
        "0": {"_target_": "FlattenConcatPolicyNetConfig"},
    }
    assert problem(overrides={"model.policy.networks": networks}).code == "duplicate_key"


def test_a_project_name_is_a_text():
    assert problem(overrides={"project.name": 3}).code == "wrong_type"
    assert problem(overrides={"project.colour": "red"}).code == "unknown_key"
