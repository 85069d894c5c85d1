"""The schemas are JSON Schema, take what composing gives, and refuse what composing refuses."""

import copy
import functools
import json
import random

import pytest
from jsonschema import Draft202012Validator

from maze_core import RunContext
from maze_core.config import compose_run, config_groups
from maze_core.config.components import PUBLIC_TARGETS
from maze_core.config.json_schema import module_schema, run_schema
from maze_core.config.modules import composition, config_module, module_index, resolve_interpolations
from maze_core.config.nodes import part_at
from maze_core.config.presets import MULTIRUN_PARTS
from maze_core.config.schema import normal_form
from maze_core.config.trust import TrustPolicy, check_arguments, trust_policy
from maze_core.errors import InvalidSpecificationError, ProblemList

MODULES = [(group, name) for group, names in config_groups().items() for name in names]
PLACES = {"critic": "model.critic", "experiment": "", "configuration": ""}
ROLLOUTS = {("policy", "random_policy"), ("policy", "torch_policy"), ("runner", "parallel")} | {
    ("runner", "sequential")
}


@functools.cache
def composed(group, name):
    """What stands at the place of a module, once it is composed."""
    mode = "rollout" if (group, name) in ROLLOUTS else "train"
    tree = resolve_interpolations(composition(f"conf_{mode}", {group: name}, module_index()).tree)
    tree.pop("configuration", None)
    launcher = {part: tree.pop(part, None) for part in MULTIRUN_PARTS}["launcher"]
    found = ProblemList()
    normal = normal_form(tree | {"seeding": {"env_base_seed": 1, "agent_base_seed": 1}}, {}, mode, found)
    assert not found.problems
    place = PLACES.get(group, group)
    return launcher if group == "launcher" else part_at(normal, place) if place else normal


@functools.cache
def _checked(schema):
    Draft202012Validator.check_schema(json.loads(schema))


def check_schema(schema):
    """That it is one; of the definitions, which most of these schemas share, each is looked at once."""
    for part in ({**schema, "$defs": {}}, *schema["$defs"].values()):
        _checked(json.dumps(part))


def valid(schema, value):
    return Draft202012Validator(schema).is_valid(value)


ONCE = [one for one in MODULES if one[0] != "experiment" or one[1] == "cartpole_ppo_wrappers"]
"""The modules without those whose schema differs from another one's in its defaults alone."""


def is_ours(node):
    """No component of another library, whose arguments no schema types."""
    return node.get("_target_", "maze_core.").startswith("maze_core.")


def places_of(value, path=()):
    """Path of every value that a schema types: all but the name of a component, and what one of others is given."""
    if isinstance(value, dict) and not is_ours(value):
        return
    items = value.items() if isinstance(value, dict) else enumerate(value) if isinstance(value, list) else ()
    for key, child in items:
        if key != "_target_":
            yield (*path, key)
            yield from places_of(child, (*path, key))


def replaced(value, path, child):
    changed = copy.deepcopy(value)
    node = changed
    for key in path[:-1]:
        node = node[key]
    node[path[-1]] = child
    return changed


@pytest.mark.parametrize(("group", "name"), MODULES)
def test_every_module_has_a_schema_that_takes_its_values(group, name):
    schema = module_schema(group, name)
    check_schema(schema)
    Draft202012Validator(schema).validate(composed(group, name))
    assert schema["description"] == config_module(group, name)["description"]


@pytest.mark.parametrize(("group", "name"), ONCE)
def test_a_wrong_type_is_refused_wherever_it_stands(group, name):
    schema, value = Draft202012Validator(module_schema(group, name)), composed(group, name)
    untyped = {"kwargs", "agent_counts_dict", "observation_modality_mapping"}
    places = [path for path in places_of(value) if not untyped & set(path[:-1])]
    for path in places:
        is_taken = schema.is_valid(replaced(value, path, {"no such": "thing"}))
        assert is_taken is (path[-1] == "kwargs"), path


@pytest.mark.parametrize(("group", "name"), ONCE)
def test_a_key_that_there_is_not_is_refused_in_every_part(group, name):
    schema, value = Draft202012Validator(module_schema(group, name)), composed(group, name)
    parts = [
        path
        for path in places_of(value)
        if isinstance(part(value, path), dict) and path[-1] not in FREE and is_ours(part(value, path))
    ]
    for path in parts if isinstance(value, list) else [(), *parts]:
        inside = (*path, "no_such_setting")
        assert not schema.is_valid(replaced(value, inside, 1)), path


FREE = {"kwargs", "observation_modality_mapping"}


def part(value, path):
    for key in path:
        value = value[key]
    return value


@pytest.mark.parametrize("mode", ["train", "rollout"])
def test_a_whole_run_is_described(mode):
    schema = run_schema(mode)
    check_schema(schema)
    Draft202012Validator(schema).validate(compose_run(mode).tree)
    assert not valid(schema, {})
    assert not valid(schema, compose_run(mode).tree | {"no_such_part": 1})


def test_a_part_may_be_any_component_of_its_kind_and_no_other():
    schema, tree = run_schema(), compose_run(algorithm="a2c").tree
    assert valid(schema, tree)
    assert valid(schema, tree | {"wrappers": [{"_target_": "maze_core.RewardScalingWrapper", "scale": 2.0}]})
    assert not valid(schema, tree | {"algorithm": tree["env"]})
    assert not valid(schema, tree | {"runner": compose_run("rollout").tree["runner"]})
    assert not valid(schema, tree | {"algorithm": tree["algorithm"] | {"clip_range": 0.2}})


def test_bounds_choices_defaults_and_meanings_are_those_of_the_settings():
    settings = module_schema("algorithm", "ppo")["properties"]
    assert settings["gamma"]["maximum"] == 1.0
    assert settings["lr_schedule"]["enum"] == ["constant", "linear", "kl_adaptive"]
    assert settings["lr"]["default"] == 0.001
    assert settings["lr"]["description"] == "Step size at the start."
    assert settings["rollout_evaluator"]["default"]["n_episodes"] == 8
    assert settings["_target_"] == {
        "const": "maze_core.PPOAlgorithmConfig",
        "default": "maze_core.PPOAlgorithmConfig",
    }


def test_a_module_of_the_users_own_is_described_with_its_own_defaults(tmp_path):
    (tmp_path / "algorithm").mkdir()
    (tmp_path / "algorithm" / "mine.yaml").write_text("# My own.\n_target_: PPOAlgorithmConfig\nlr: 0.25\n")
    schema = module_schema("algorithm", "mine", [tmp_path])
    assert (schema["description"], schema["properties"]["lr"]["default"]) == ("My own.", 0.25)
    assert run_schema()["$defs"]["PPOAlgorithmConfig"]["properties"]["lr"]["default"] == 0.001


@pytest.fixture(scope="module")
def is_described():
    return Draft202012Validator(run_schema()).is_valid


def as_composed(tree):
    """The normal form; None and the kinds of mistakes where composing refuses it."""
    try:
        return RunContext.from_config(tree).config, set()
    except InvalidSpecificationError as error:
        return None, {problem.code for problem in error.problems}


@pytest.mark.parametrize("model", ["flatten_concat", "vector_obs"])
@pytest.mark.parametrize("networks", [None, [], {}, [None], {"0": None}, 5, "named"])
@pytest.mark.parametrize("part", ["policy", "critic"])
def test_schema_and_composing_agree_about_networks(is_described, model, networks, part):
    critic = "template_state" if model == "vector_obs" else "flatten_concat_shared"
    tree = compose_run(algorithm="ppo", model=model, critic=critic).tree
    there = tree["model"][part]
    if networks == "named":
        kind = {"policy": "Policy", "critic": "StateValue"}[part]
        there["networks"] = {"0": {"_target_": f"maze_core.FlattenConcat{kind}NetConfig"}}
    else:
        there["networks"] = networks
    assert is_described(tree) is (as_composed(tree)[0] is not None)


@pytest.mark.parametrize("name", ["env_base_seed", "agent_base_seed"])
@pytest.mark.parametrize("seed", [1, 1.0, 0, 1.5, -1, -1.0, 2**32 - 1, 2**32, 4294967296.0, True, "1"])
def test_schema_and_composing_agree_about_seeds(is_described, name, seed):
    tree = replaced(compose_run(algorithm="ppo").tree, ("seeding", name), seed)
    assert is_described(tree) is (as_composed(tree)[0] is not None)


def test_a_seed_is_the_same_number_however_it_is_written():
    tree = compose_run(algorithm="ppo", overrides={"seeding.env_base_seed": 1}).tree
    twin = RunContext.from_config(replaced(tree, ("seeding", "env_base_seed"), 1.0))
    assert twin.config_sha256 == RunContext.from_config(tree).config_sha256


VARIED = [None, True, 0, 1, 2.0, -1, 0.5, 1e9, "x", [], {}, [1], ["x"]]


@pytest.mark.parametrize(
    ("group", "name"),
    [
        one
        for one in ONCE
        if one[0] in ("algorithm", "model", "critic", "runner", "env", "wrappers")
        and one not in {*ROLLOUTS, ("algorithm", "bc"), ("algorithm", "sacfd")}
    ],
)
def test_what_composing_takes_is_described_as_it_shows_it_and_no_wrong_type_is(is_described, group, name):
    """Composing takes more than the normal form, such as 0 for null; what it shows then is that form."""
    tree = compose_run(**({"algorithm": "ppo"} | {group: name})).tree
    draws = random.Random(f"{group}/{name}")
    places = [path for path in places_of(tree) if path[0] in (group, "model") and "kwargs" not in path]
    for path in draws.sample(places, min(len(places), 3)):
        for value in draws.sample(VARIED, 4):
            varied = replaced(tree, path, value)
            normal, codes = as_composed(varied)
            if normal is not None:
                assert is_described(normal), (path, value)
            elif codes & {"wrong_type", "unknown_key", "missing_key"}:
                assert not is_described(varied), (path, value, codes)


def test_components_of_others_are_taken_in_python_and_over_http_those_on_the_list():
    tree = compose_run().tree
    theirs = replaced(tree, ("model", "policy", "networks", 0), {"_target_": "torch.nn.Linear", "x": 1})
    assert valid(run_schema(), theirs)
    assert not valid(run_schema(policy=trust_policy()), theirs)
    assert valid(run_schema(policy=trust_policy(["torch.nn.Linear"])), theirs)


@pytest.mark.parametrize(("group", "name"), [module for module in ONCE if module[0] != "launcher"])
def test_what_clients_are_shown_is_a_schema_too(group, name):
    schema = module_schema(group, name, policy=trust_policy())
    check_schema(schema)
    assert valid(schema, composed(group, name))


def test_clients_are_shown_their_ceilings_and_what_is_closed_to_them():
    policy = trust_policy()
    settings = module_schema("runner", "dev", policy=policy)["properties"]
    assert settings["n_envs"]["maximum"] == policy.limits.ceilings["n_envs"] == 64
    for n_envs, is_taken in ((64, True), (65, False)):
        tree = {"runner": {"_target_": "maze_core.TrainingRunnerConfig", "n_envs": n_envs}}
        assert valid(module_schema("runner", "dev", policy=policy), tree["runner"]) is is_taken
        assert taken(tree, policy) is is_taken
    closed = module_schema("policy", "torch_policy", policy=policy)["properties"]
    assert [name for name, entry in closed.items() if entry.get("readOnly")] == ["run"]


def taken(arguments, policy: TrustPolicy):
    try:
        check_arguments(arguments, policy)
    except InvalidSpecificationError:
        return False
    return True


def test_every_component_that_may_be_named_is_described():
    described = str(run_schema()) + str(run_schema("rollout"))
    missing = [name for name in PUBLIC_TARGETS if f"'{name}'" not in described]
    assert missing == []


def test_an_unknown_module_is_said():
    with pytest.raises(InvalidSpecificationError, match="Did you mean 'ppo'"):
        module_schema("algorithm", "pp0")
