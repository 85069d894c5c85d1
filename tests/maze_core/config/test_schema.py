"""The identity of a run: one canonical text, whatever way its values came."""

import json
import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from maze_core.config import RunConfig, canonical_json, compose_run
from maze_core.errors import InvalidSpecificationError
from maze_core.trainers.ppo_config import PPOAlgorithmConfig

PLAIN = st.recursive(
    st.none()
    | st.booleans()
    | st.integers()
    | st.floats(allow_nan=False, allow_infinity=False)
    | st.text(st.characters(exclude_categories=["Cs"])),
    lambda children: (
        st.lists(children) | st.dictionaries(st.text(st.characters(exclude_categories=["Cs"])), children)
    ),
)
SAME_RUN = [
    {"algorithm": "ppo", "overrides": {"algorithm.lr": 1, "algorithm.patience": 0}},
    {"overrides": {"algorithm.lr": 1.0}},
    {"overrides": {"algorithm.lr": np.float64(1.0), "algorithm.patience": None}},
    {"algorithm": {"lr": 1}},
    {"algorithm": {"_target_": "maze_core.PPOAlgorithmConfig", "lr": np.int64(1)}},
    {"algorithm": {"_target_": "maze.train.trainers.ppo.ppo_algorithm_config.PPOAlgorithmConfig", "lr": 1.0}},
    {"algorithm": PPOAlgorithmConfig(lr=1)},
    {"algorithm": {"lr": 1.0, "rollout_evaluator": {"_target_": "RolloutEvaluatorConfig", "n_episodes": 8}}},
    {"overrides": {"project.name": "a name", "algorithm.lr": 1}, "env": "gym_env", "wrappers": {}},
]


@pytest.mark.parametrize("arguments", SAME_RUN)
def test_the_same_run_has_the_same_digest_however_it_was_given(arguments):
    reference = compose_run(seed=1, overrides={"algorithm.lr": 1.0})
    assert compose_run(seed=1, **arguments).config_sha256 == reference.config_sha256


@pytest.mark.parametrize(
    "arguments",
    [
        {"seed": 2},
        {"overrides": {"algorithm.lr": 0.1}},
        {"overrides": {"env.name": "CartPole-v1"}},
        {"overrides": {"env.vectorization": "native"}},
        {"overrides": {"runner.n_envs": 4}},
        {"overrides": {"algorithm.checkpoint_every": 1}},
        {"wrappers": "vector_obs"},
    ],
)
def test_what_changes_the_numbers_changes_the_digest(arguments):
    assert compose_run(**{"seed": 1, **arguments}).config_sha256 != compose_run(seed=1).config_sha256


def test_the_identity_leaves_names_out():
    identity = compose_run(overrides={"project.name": "x"}).identity()
    assert set(identity) == {"env", "wrappers", "algorithm", "model", "runner", "seeding"}


@pytest.mark.parametrize("mode", ["train", "rollout"])
def test_a_stored_tree_is_the_same_configuration(mode):
    config = compose_run(mode, wrappers="vector_obs", seed=1)
    stored = RunConfig.from_tree(json.loads(canonical_json(config.tree)), mode)
    assert stored.tree == config.tree
    assert stored.config_sha256 == config.config_sha256
    assert stored.build("wrappers")[0].clip_range == config.build("wrappers")[0].clip_range


def test_a_stored_identity_is_a_configuration():
    config = compose_run(seed=1)
    assert RunConfig.from_tree(config.identity()).config_sha256 == config.config_sha256


def test_a_tree_of_the_users_example_survives_storage():
    policy = {
        "_target_": "maze.perception.models.policies.ProbabilisticPolicyComposer",
        "networks": [
            {
                "_target_": "maze.perception.models.built_in.flatten_concat.FlattenConcatPolicyNet",
                "non_lin": "torch.nn.Tanh",
                "hidden_units": [256, 256],
            }
        ],
        "substeps_with_separate_agent_nets": [],
        "agent_counts_dict": {0: 1},
    }
    config = compose_run(overrides={"model.policy": policy}, seed=1)
    assert config.tree["model"]["policy"]["networks"][0] == {
        "_target_": "maze_core.FlattenConcatPolicyNetConfig",
        "non_lin": "tanh",
        "hidden_units": [256, 256],
        "weight_init": "orthogonal",
        "hidden_gain": 2**0.5,
        "output_gain": 0.01,
    }
    stored = RunConfig.from_tree(json.loads(canonical_json(config.tree)))
    assert stored.build("model") == config.build("model")


def test_a_stored_tree_is_checked_like_a_new_one():
    tree = compose_run(seed=1).tree
    broken = {
        **tree,
        "algorithm": {**tree["algorithm"], "gamma": 2.0},
        "extra": 1,
        "seeding": {"env_base_seed": 1},
    }
    with pytest.raises(InvalidSpecificationError) as caught:
        RunConfig.from_tree(broken)
    assert {problem.path for problem in caught.value.problems} == {
        "algorithm.gamma",
        "extra",
        "seeding.agent_base_seed",
    }


def test_a_missing_path_is_refused():
    with pytest.raises(InvalidSpecificationError, match=r"model\.critics"):
        compose_run().build("model.critics")


@given(PLAIN)
def test_canonical_json_is_json_of_the_same_value(value):
    text = canonical_json(value)
    again = json.loads(text)
    assert again == value
    assert canonical_json(again) == text


def test_canonical_json_sorts_keys_and_keeps_numbers_apart():
    assert (
        canonical_json({"b": 1.0, "a": [1, True, None], 3: "ü"})
        == '{"3":"ü","a":[1,true,null],"b":1.0}'.encode()
    )


@pytest.mark.parametrize("value", [math.nan, math.inf, {"a": [-math.inf]}, {1: 0, "1": 0}, "\ud800"])
def test_canonical_json_refuses_what_json_cannot_say(value):
    with pytest.raises(ValueError):  # noqa: PT011  of several kinds
        canonical_json(value)
