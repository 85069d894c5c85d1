"""What a client may not say is refused before anything is imported, opened or built; what it may say works."""

import contextlib
import dataclasses
import json
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from hypothesis import Phase, given, settings
from hypothesis import strategies as st

from maze_core.config import RunConfig, canonical_json, compose_run, config_groups
from maze_core.config.components import ALIASES, PUBLIC_TARGETS
from maze_core.config.plain_values import is_reserved
from maze_core.config.targets import resolve_target
from maze_core.config.trust import (
    HTTP_ARGUMENTS,
    TrustPolicy,
    allowed_targets,
    check_arguments,
    check_tree,
    trust_policy,
)
from maze_core.errors import InvalidSpecificationError, Problem
from tests.maze_core.config.episodes import episodes_for

POLICY = trust_policy()
USERS_POLICY = {
    "_target_": "maze.perception.models.policies.ProbabilisticPolicyComposer",
    "networks": [
        {
            "_target_": "maze.perception.models.built_in.flatten_concat.FlattenConcatPolicyNet",
            "non_lin": "torch.nn.Tanh",
            "hidden_units": [256, 256],
        }
    ],
    "substeps_with_separate_agent_nets": [],
    "agent_counts_dict": {"0": 1},
}


def attacks(marker: str) -> list[tuple[str, dict[str, Any]]]:
    """Targets that run code, write a file, read one or end the process when they are called with these arguments."""
    shell = f"touch {marker}"
    python = f"open({marker!r}, 'w')"
    return [
        ("os.system", {"command": shell}),
        ("posix.system", {"command": shell}),
        ("logging.os.system", {"command": shell}),
        ("builtins.eval", {"source": python}),
        ("builtins.exec", {"source": python}),
        ("builtins.open", {"file": marker, "mode": "w"}),
        ("builtins.getattr", {"o": "os", "name": "system"}),
        ("builtins.__import__", {"name": "evil_on_import"}),
        ("subprocess.Popen", {"args": shell, "shell": True}),
        ("subprocess.run", {"args": shell, "shell": True}),
        ("os.execv", {"path": "/bin/sh", "args": ["sh", "-c", shell]}),
        ("os.popen", {"cmd": shell}),
        ("pickle.load", {"file": marker}),
        ("pickle.loads", {"data": "x"}),
        ("importlib.import_module", {"name": "evil_on_import"}),
        ("runpy.run_path", {"path_name": marker}),
        ("timeit.timeit", {"stmt": python}),
        ("functools.partial", {"func": {"_target_": "os.system"}, "command": shell}),
        ("hydra.utils.get_method", {"path": "os.system"}),
        ("hydra.utils.instantiate", {"config": {"_target_": "os.system", "command": shell}}),
        ("multiprocessing.Process", {"target": "os.system"}),
        ("threading.Thread", {"target": "os.system"}),
        ("code.InteractiveInterpreter", {}),
        ("yaml.unsafe_load", {"stream": "!!python/object/apply:os.system [x]"}),
        ("ctypes.CDLL", {"name": "libc.so.6"}),
        ("pty.spawn", {"argv": ["sh", "-c", shell]}),
        ("numpy.load", {"file": marker, "allow_pickle": True}),
        ("torch.load", {"f": marker, "weights_only": False}),
        ("torch.hub.load", {"repo_or_dir": marker, "model": "x", "source": "local"}),
        ("torch.save", {"obj": 1, "f": marker}),
        ("torch.utils.collect_env.run", {"command": shell}),
        ("torch.nn.Tanh", {}),
        ("evil_on_import.anything", {}),
        ("gymnasium.make", {"id": "evil_on_import:Env-v0"}),
        ("gymnasium.make_vec", {"id": "evil_on_import:Env-v0"}),
        ("gymnasium.envs.registration.load_env_creator", {"name": "evil_on_import:x"}),
        ("pathlib.Path.write_text", {"self": marker, "data": "x"}),
        ("pathlib.Path.touch", {"self": marker}),
        ("pathlib.Path", {"args": "/etc"}),
        ("shutil.copy", {"src": "/etc/passwd", "dst": marker}),
        ("numpy.savetxt", {"fname": marker, "X": [1]}),
        ("distutils.spawn.spawn", {"cmd": ["touch", marker]}),
        ("setuptools._distutils.spawn.spawn", {"cmd": ["touch", marker]}),
        ("sympy.sympify", {"a": python}),
        ("asyncio.create_subprocess_shell", {"cmd": shell}),
        ("urllib.request.urlopen", {"url": f"file://{marker}"}),
        ("os._exit", {"status": 37}),
        ("os.abort", {}),
        ("sys.exit", {"status": 37}),
        ("maze_core.envs.config.CallableEnvConfig", {"factory": {"_target_": "os.system"}}),
        ("maze_core.config.instantiate.instantiate", {"node": {"_target_": "os.system"}}),
        ("maze_core.agent.load_agent", {"source": marker}),
        ("maze_core.models.config.FlattenConcatPolicyNetConfig.__init__.__globals__", {}),
        ("maze_core.envs.config.gymnasium.make", {"id": "evil_on_import:Env-v0"}),
        ("maze_core.models.config.*", {}),
        ("maze_core.models.config", {}),
        (" maze_core.models.config.RandomPolicyConfig", {}),
        ("maze_core.models.config.RandomPolicyConfig\x00", {}),
        ("maze.core.utils.factory.Factory", {}),
        ("ｍaze_core.models.config.RandomPolicyConfig", {}),
    ]


PLACES: dict[str, Callable[[dict[str, Any]], dict[str, Any]]] = {
    "env": lambda node: {"env": node},
    "algorithm": lambda node: {"algorithm": node},
    "model": lambda node: {"model": node},
    "policy": lambda node: {"policy": node},
    "critic": lambda node: {"critic": node},
    "runner": lambda node: {"runner": node},
    "wrappers": lambda node: {
        "wrappers": {node["_target_"]: {k: v for k, v in node.items() if k != "_target_"}}
    },
    "wrappers of the environment": lambda node: {"env": {"wrappers": [node]}},
    "wrapper list": lambda node: {"wrappers": [node]},
    "wrapper argument": lambda node: {"wrappers": {"RewardScalingWrapper": {"scale": node}}},
    "networks": lambda node: {"policy": {**USERS_POLICY, "networks": [node]}},
    "networks by step": lambda node: {"model": {"policy": {"networks": {"0": node}}}},
    "nested lists": lambda node: {"env": {"kwargs": {"x": [[[node]]]}}},
    "override": lambda node: {"overrides": {"model.policy": node}},
    "override in a list": lambda node: {"overrides": {"model.policy.networks": [node]}},
    "override of the target": lambda node: {"overrides": {"env._target_": node["_target_"]}},
    "override by number": lambda node: {"overrides": {"model.policy.networks.0": node}},
    "override of a whole group": lambda node: {"overrides": {"env": node}},
    "override beside good ones": lambda node: {
        "overrides": {"env.name": "CartPole-v1", "env.kwargs.x": {"y": node}}
    },
}


def problems(arguments: Any, policy: TrustPolicy = POLICY) -> list[Problem]:
    with pytest.raises(InvalidSpecificationError) as caught:
        check_arguments(arguments, policy)
    return list(caught.value.problems)


@pytest.fixture
def marker(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A file that an attack would make; importing ``evil_on_import`` makes it too."""
    marker = tmp_path / "marker"
    (tmp_path / "evil_on_import.py").write_text(f"open({str(marker)!r}, 'w').close()\n")
    monkeypatch.syspath_prepend(tmp_path)
    return marker


@pytest.mark.parametrize("place", PLACES)
def test_no_attack_is_run_wherever_it_stands(place: str, marker: Path):
    for target, arguments in attacks(str(marker)):
        before = set(sys.modules)
        found = problems(PLACES[place]({"_target_": target, **arguments}))
        assert found, target
        assert set(sys.modules) == before, target
        assert not marker.exists(), target


@pytest.mark.parametrize("number", range(len(attacks(""))))
def test_no_attack_in_a_stored_tree_is_run(number: int, marker: Path):
    target, arguments = attacks(str(marker))[number]
    node = {"_target_": target, **arguments}
    whole = compose_run(wrappers="vector_obs", seed=1).tree
    for part in ("env", "algorithm", "model", "runner"):
        assert_refused({**whole, part: node})
    assert_refused({**whole, "wrappers": [*whole["wrappers"], node]})
    assert_refused({**whole, "model": {**whole["model"], "policy": node}})
    assert_refused(
        {**whole, "model": {**whole["model"], "policy": {**whole["model"]["policy"], "networks": [node]}}}
    )
    assert_refused({**whole, "env": {**whole["env"], "kwargs": {"x": [[node]]}}})
    assert not marker.exists()


def assert_refused(tree: dict[str, Any]) -> None:
    before = set(sys.modules)
    with pytest.raises(InvalidSpecificationError):
        check_tree(tree, POLICY)
    assert set(sys.modules) == before


def test_there_are_at_least_the_43_known_classes_of_attack():
    assert len({target for target, _ in attacks("")}) >= 43


def test_the_users_policy_dict_works_as_argument_and_as_override():
    for arguments in ({"policy": USERS_POLICY}, {"overrides": {"model.policy": USERS_POLICY}}):
        check_arguments(arguments, POLICY)
        tree = compose_run(**arguments, seed=1).tree
        check_tree(tree, POLICY)
        check_tree(json.loads(canonical_json(tree)), POLICY)


@pytest.mark.parametrize("alias", sorted(name for name in ALIASES if ALIASES[name] in PUBLIC_TARGETS))
def test_every_alias_of_a_component_may_be_said(alias: str):
    check_arguments({"overrides": {"x.y": {"_target_": alias}}}, POLICY)


PARTS = [config_groups()[group] for group in ("algorithm", "wrappers", "model", "critic")]
EACH_MODULE = [[names[i % len(names)] for names in PARTS] for i in range(max(map(len, PARTS)))]
"""Every module once at least: what may be named does not depend on what stands beside it."""


@pytest.mark.parametrize(("algorithm", "wrappers", "model", "critic"), EACH_MODULE)
def test_every_packaged_module_may_be_run(algorithm: str, wrappers: str, model: str, critic: str):
    arguments = {"algorithm": algorithm, "model": model, "critic": critic, "wrappers": wrappers, "seed": 1}
    check_arguments(arguments, POLICY)
    check_tree(compose_run(**arguments, **episodes_for(algorithm)).tree, POLICY)


@pytest.mark.parametrize("policy", config_groups()["policy"])
def test_every_packaged_rollout_may_be_run(policy: str):
    check_tree(compose_run("rollout", policy=policy, wrappers="vector_obs").tree, POLICY)


@pytest.mark.parametrize(
    "text",
    [
        "${env.name}",
        "${oc.env:HOME}",
        "${oc.env:NOPE,${oc.env:HOME}}",
        "${oc.decode:'${oc.env:HOME}'}",
        "${oc.create:{a:1}}",
        "${oc.dict.keys:env}",
        "${oc.select:env}",
        "${hydra:run.dir}",
        "${now:%Y}",
        "${python_version:micro}",
        "\\${oc.env:HOME}",
        "x${",
        "${${a}}",
    ],
)
def test_interpolations_are_refused_in_values_and_keys(text: str):
    for arguments in (
        {"overrides": {"env.name": text}},
        {"overrides": {text: 1}},
        {"env": {"kwargs": {"a": [{"b": text}]}}},
        {"env": {"kwargs": {text: 1}}},
        {"experiment": text},
    ):
        assert problems(arguments)
    with pytest.raises(InvalidSpecificationError):
        check_tree({"env": {"_target_": "maze_core.envs.config.GymEnvConfig", "name": text}}, POLICY)


@pytest.mark.parametrize(
    "key",
    [
        "hydra.searchpath",
        "hydra.run.dir",
        "hydra.job.chdir",
        "hydra",
        "env.hydra.x",
        "hydra/job_logging",
        "hydra/launcher",
        "env@hydra",
        "~env",
        "+env",
        "++env._target_",
        "--config-dir",
        "-m",
        "defaults",
        "env.defaults",
        "_args_",
        "env._args_",
        "env._partial_",
        "env._convert_",
        "env._recursive_",
        "env._opaque_",
        "env.__class__",
        "input_dir",
        "log_base_dir",
        "run_dir",
        "policy.state_dict_file",
        "env.kwargs.render_path",
        "env.kwargs.path",
        "../../etc/passwd",
        "/etc/passwd",
        "env.name\x00",
        "env name",
        "",
        "x" * 900,
        ".".join("a" * 300),
    ],
)
def test_reserved_and_path_like_keys_are_refused_everywhere(key: str):
    assert problems({"overrides": {key: "x"}})
    assert problems({"env": {"kwargs": {key: "x"}}})
    assert problems({key: {"a": 1}})


@pytest.mark.parametrize(
    "name",
    [
        "..",
        ".",
        "../algorithm/ppo",
        "/etc/passwd",
        "ppo/",
        "a/b",
        "ppo.yaml\x00",
        "",
        " ppo",
        "ppo@x",
        "~ppo",
        "p\n",
    ],
)
def test_a_module_name_is_a_name(name: str):
    for argument in ("algorithm", "env", "experiment", "configuration", "wrappers"):
        assert problems({argument: name})[0].code in {"unknown_module", "invalid_value"}


@pytest.mark.parametrize(
    "argument", ["run_dir", "launcher", "config_dirs", "multirun", "silent", "mode", "input_dir"]
)
def test_arguments_of_the_operator_are_refused(argument: str):
    assert any(problem.path == argument for problem in problems({argument: "x"}))


def test_the_arguments_of_http_are_arguments_of_a_run():
    check_arguments(dict.fromkeys(HTTP_ARGUMENTS), POLICY)
    compose_run(**dict.fromkeys(HTTP_ARGUMENTS))


@pytest.mark.parametrize(
    "name", ["evil_on_import:Env-v0", "os:x", ":x", "CartPole-v1:", "", "a b", "x" * 600, "é"]
)
def test_an_environment_id_names_no_module(name: str, marker: Path):
    for arguments in ({"overrides": {"env.name": name}}, {"env": {"name": name}}):
        assert problems(arguments)
        tree = compose_run(**arguments).tree
        with pytest.raises(InvalidSpecificationError):
            check_tree(tree, POLICY)
    assert not marker.exists()


def test_an_environment_is_one_of_those_that_are_there():
    policy = TrustPolicy(targets=POLICY.targets, env_ids=frozenset({"CartPole-v1"}))
    (problem,) = problems({"overrides": {"env.name": "CartPole-v2"}}, policy)
    assert (problem.code, problem.did_you_mean) == ("env_not_allowed", "CartPole-v1")
    check_tree(compose_run(overrides={"env.name": "CartPole-v1"}).tree, policy)
    with pytest.raises(InvalidSpecificationError, match="CartPole-v0"):
        check_tree(compose_run().tree, policy)


def test_an_environment_within_a_model_is_an_environment_too():
    node = {"_target_": "maze_core.envs.config.GymEnvConfig", "name": "evil_on_import:Env-v0"}
    assert problems({"overrides": {"model.policy.networks": [node]}})


def test_environment_arguments_come_from_a_list_per_environment():
    check_tree(compose_run(env={"name": "CartPole-v1", "kwargs": {"sutton_barto_reward": True}}).tree, POLICY)
    with pytest.raises(InvalidSpecificationError) as caught:
        check_tree(compose_run(env={"name": "CartPole-v1", "kwargs": {"render_mode": "human"}}).tree, POLICY)
    (problem,) = caught.value.problems
    assert (problem.path, problem.allowed) == ("env.kwargs.render_mode", ("sutton_barto_reward",))


@pytest.mark.parametrize(
    ("key", "value"),
    [
        ("runner.n_envs", 65),
        ("runner.n_envs", 65_536),
        ("algorithm.n_rollout_steps", 65_537),
        ("algorithm.epoch_length", 10_001),
        ("algorithm.n_epochs", 1_000_001),
        ("algorithm.rollout_evaluator.n_episodes", 10_001),
        ("algorithm.batch_size", 10**12),
        ("runner.normalization_samples", 10**12),
        ("env.max_episode_steps", 10**12),
    ],
)
def test_ceilings_are_kept_on_both_sides_of_the_composition(key: str, value: int):
    assert [problem.path for problem in problems({"overrides": {key: value}})] == [key]
    tree = compose_run(overrides={key: value}).tree
    with pytest.raises(InvalidSpecificationError, match="above the limit") as caught:
        check_tree(tree, POLICY)
    assert [problem.path for problem in caught.value.problems] == [key]


@pytest.mark.parametrize("units", [[4097], [10**9], [64] * 9, [1] * 4000])
def test_networks_have_a_largest_size(units: list[int]):
    assert problems({"overrides": {"model.policy.networks.0.hidden_units": units}})


def test_a_path_of_a_policy_is_closed_by_its_field():
    tree = compose_run("rollout", policy="torch_policy", overrides={"policy.run": "/etc"}).tree
    with pytest.raises(InvalidSpecificationError) as caught:
        check_tree(tree, POLICY)
    assert [(problem.path, problem.code) for problem in caught.value.problems] == [
        ("policy.run", "closed_field")
    ]


def test_every_problem_is_reported_at_once():
    found = problems(
        {
            "algorithm": "../x",
            "policy": {"_target_": "os.system"},
            "launcher": "local",
            "seed": "1",
            "overrides": {"hydra.run.dir": "x", "env.name": "${x}", "runner.n_envs": 1000},
        }
    )
    assert {problem.path for problem in found} == {
        "algorithm",
        "policy._target_",
        "launcher",
        "seed",
        "hydra.run.dir",
        "env.name",
        "runner.n_envs",
    }


@pytest.mark.parametrize(
    "arguments",
    [
        {"overrides": {f"key{i}": i for i in range(257)}},
        {"overrides": {f"key{i}": i for i in range(10_000)}},
        {"overrides": {"env.kwargs": [1] * 40_000}},
        {"overrides": {"env.name": "x" * 40_000}},
        {"env": {"kwargs": {"x" * 40_000: 1}}},
        {"env": {"kwargs": {f"k{i}": "x" * 500 for i in range(1000)}}},
        {"seed": 10**5000},
        {"overrides": {"algorithm.lr": float("nan")}},
        {"overrides": {"algorithm.lr": float("inf")}},
        {"env": {"kwargs": {"x": "\ud800"}}},
        {"env": {"kwargs": {"x": b"bytes"}}},
        {"env": {"kwargs": {"x": {1: 2}}}},
        {"env": {"kwargs": {"x": {1, 2}}}},
        {"overrides": [1]},
        {"overrides": "a=b"},
        {"wrappers": 3},
        {"experiment": ["x"]},
        {"n_epochs": True},
        {1: 2},
    ],
)
def test_what_is_too_large_or_no_json_is_refused(arguments: Any):
    assert 0 < len(problems(arguments)) <= 65


def test_deep_nesting_is_refused_without_recursion():
    deep: Any = []
    for _ in range(100_000):
        deep = [deep]
    assert problems({"env": {"kwargs": {"x": deep}}})[0].code == "too_deep"


def test_a_circle_is_refused():
    circle: dict[str, Any] = {}
    circle["a"] = circle
    assert problems({"env": circle})[0].code == "too_deep"


def test_a_thousand_hostile_names_are_answered_with_a_few():
    assert len(problems({"policy": {"networks": [{"_target_": f"os.f{i}"} for i in range(1000)]}})) <= 64


def test_the_list_of_targets_is_exact_and_has_sources(tmp_path: Path):
    (tmp_path / "wrappers").mkdir()
    (tmp_path / "wrappers" / "mine.yaml").write_text(
        "own_package.Wrapper:\n  depth: {_target_: own_package.Depth}\n"
    )
    (tmp_path / "experiment").mkdir()
    (tmp_path / "experiment" / "exp.yaml").write_text("algorithm:\n  _target_: own_package.Algorithm\n")
    sources = {entry["target"]: entry["source"] for entry in allowed_targets(["mine.Env"], [tmp_path])}
    assert sources["own_package.Wrapper"] == "conf/wrappers/mine.yaml"
    assert sources["own_package.Depth"] == "conf/wrappers/mine.yaml"
    assert sources["own_package.Algorithm"] == "conf/experiment/exp.yaml"
    assert sources["mine.Env"] == "settings"
    assert sources["maze_core.CustomModelConfig"] == "conf/model/flatten_concat.yaml"
    assert set(sources) >= PUBLIC_TARGETS
    assert not any(target.endswith("*") for target in sources)


def test_no_component_that_clients_may_name_has_a_setting_that_is_refused_whatever_it_says():
    described = {name: resolve_target(name) for name in PUBLIC_TARGETS}
    fields = {
        name: dataclasses.fields(kind) for name, kind in described.items() if dataclasses.is_dataclass(kind)
    }
    assert len(fields) > 30
    named = [(name, each.name) for name, of in fields.items() for each in of if each.init]
    assert [place for place in named if is_reserved(place[1])] == []


def test_a_listed_name_that_is_another_component_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    (tmp_path / "reexporting.py").write_text("from os import system as Env\n")
    monkeypatch.syspath_prepend(tmp_path)
    policy = TrustPolicy(targets=POLICY.targets | {"reexporting.Env"})
    tree = {**compose_run().tree, "env": {"_target_": "reexporting.Env", "command": "true"}}
    with pytest.raises(InvalidSpecificationError, match="another component"):
        check_tree(tree, policy)


def test_an_operators_component_may_be_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    (tmp_path / "operators_own.py").write_text(
        "from maze_core.envs.wrappers.wrapper import Wrapper\nclass Own(Wrapper):\n    pass\n"
    )
    monkeypatch.syspath_prepend(tmp_path)
    arguments = {"wrappers": {"operators_own.Own": {}}}
    assert problems(arguments)
    policy = trust_policy(["operators_own.Own"])
    check_arguments(arguments, policy)
    check_tree(compose_run(**arguments).tree, policy)


VIDEO = "gymnasium.wrappers.rendering.RecordVideo"
FILMED = f"""# @package _global_
env: {{name: CartPole-v1, kwargs: {{render_mode: rgb_array}},
  wrappers: [{{_target_: {VIDEO}, video_folder: films, video_length: 9}}]}}
"""


@pytest.mark.parametrize(
    ("overrides", "refused"),
    [
        ({}, set()),
        ({"env.wrappers": []}, set()),
        ({"env.wrappers.0.video_length": 3, "env.wrappers.0.disable_logger": True}, set()),
        ({"env.wrappers.0.fps": 3}, {"env.wrappers.0.fps"}),
        ({"env.wrappers": [{"_target_": VIDEO, "video_folder": "/"}]}, {"env.wrappers.0.video_folder"}),
        ({"env.wrappers.0.name_prefix": "../.."}, {"env.wrappers.0.name_prefix"}),
    ],
)
def test_a_wrapper_inside_the_environment_takes_what_a_module_of_the_operators_names_beside_it(
    tmp_path: Path, overrides: dict[str, Any], refused: set[str]
):
    (tmp_path / "experiment").mkdir()
    (tmp_path / "experiment" / "filmed.yaml").write_text(FILMED)
    policy = trust_policy(config_dirs=[str(tmp_path)])
    arguments: dict[str, Any] = {"experiment": "filmed", "overrides": overrides}
    try:
        check_arguments(arguments, policy)
        check_tree(compose_run(**arguments, config_dirs=[str(tmp_path)]).tree, policy)
        found = set()
    except InvalidSpecificationError as error:
        found = {problem.path.removeprefix("overrides.") for problem in error.problems}
    assert found == refused


def test_no_tree_gives_a_wrapper_inside_the_environment_what_no_module_names():
    policy = TrustPolicy(targets=POLICY.targets | {VIDEO})
    tree = compose_run().tree
    wrappers = [{"_target_": VIDEO, "video_folder": "/", "fps": None}]
    with pytest.raises(InvalidSpecificationError, match=r"env\.wrappers\.0\.video_folder"):
        check_tree({**tree, "env": {**tree["env"], "wrappers": wrappers}}, policy)


def test_a_tree_has_only_the_parts_of_a_run():
    with pytest.raises(InvalidSpecificationError, match="no part"):
        check_tree({**compose_run().tree, "hooks": {}}, POLICY)


def test_a_checked_tree_opens():
    tree = compose_run(seed=1).tree
    check_tree(tree, POLICY)
    assert RunConfig.from_tree(tree).tree == tree


JSON_VALUES = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(),
    lambda children: st.lists(children) | st.dictionaries(st.text(), children),
)


def leaf_keys(tree: Any, path: str = "") -> list[str]:
    children = tree.items() if isinstance(tree, dict) else enumerate(tree) if isinstance(tree, list) else ()
    below = [key for name, child in children for key in leaf_keys(child, f"{path}.{name}".strip("."))]
    return [path, *below]


KEYS = leaf_keys(compose_run(wrappers="vector_obs").tree)


@settings(max_examples=60, phases=[Phase.explicit, Phase.reuse, Phase.generate, Phase.shrink])
@given(
    st.dictionaries(st.sampled_from(HTTP_ARGUMENTS), JSON_VALUES),
    st.dictionaries(
        st.sampled_from(KEYS) | st.text(), JSON_VALUES | st.sampled_from(["ppo", 1, 0.5, True]), max_size=3
    ),
)
def test_any_json_is_accepted_or_refused_and_never_crashes(arguments, overrides):
    for given_arguments in ({"overrides": overrides}, {**arguments, "overrides": overrides}):
        with contextlib.suppress(InvalidSpecificationError):
            check_arguments(given_arguments, POLICY)
        with contextlib.suppress(InvalidSpecificationError):
            check_tree(compose_run(**given_arguments).tree, POLICY)


def test_the_policy_is_made_once_and_again_when_a_file_of_the_operator_changes(tmp_path: Path) -> None:
    file = tmp_path / "env" / "own.yaml"
    file.parent.mkdir()
    file.write_text("_target_: operators_own.Env\n")
    first = trust_policy(config_dirs=[str(tmp_path)])
    assert first is trust_policy(config_dirs=[str(tmp_path)])
    assert "operators_own.Env" in first.targets
    file.write_text("_target_: operators_own.OtherEnv\n")
    second = trust_policy(config_dirs=[str(tmp_path)])
    assert "operators_own.OtherEnv" in second.targets
    assert "operators_own.Env" not in second.targets


@pytest.mark.parametrize("part", ["dataset", "initial"])
@pytest.mark.parametrize(
    "place", ["/etc/passwd", "outputs/run", "../run_1", "run_1/..", "RUN_1", 7, ["run_1"]]
)
def test_what_lies_elsewhere_is_named_by_the_id_of_a_run_alone(part: str, place: Any):
    policy = trust_policy()
    with pytest.raises(InvalidSpecificationError) as caught:
        check_arguments({"overrides": {f"{part}.run": place}}, policy)
    assert [(problem.path, problem.code) for problem in caught.value.problems] == [
        (f"{part}.run", "closed_field")
    ]
    tree = compose_run("train", seed=1).tree
    node = {"_target_": f"maze_core.{part.capitalize()}Config", "run": place, "sha256": None}
    with pytest.raises(InvalidSpecificationError) as caught:
        check_tree({**tree, part: node}, policy)
    assert caught.value.problems[0].code == "closed_field"
    check_tree({**tree, part: {**node, "run": "run_06b1c9k2"}}, policy)
    check_arguments({"overrides": {f"{part}.run": "run_06b1c9k2"}}, policy)


def test_blocks_are_named_by_type_and_none_of_them_takes_code():
    block = {"in_keys": "observation", "out_keys": "x", "block_params": {"hidden_units": [8]}}
    network = {"_target_": "maze_core.BlockNetConfig", "blocks": [block]}
    arguments = {"overrides": {"model.policy.networks": [network]}, "seed": 1}
    check_arguments(arguments, POLICY)
    check_tree(compose_run(**arguments).tree, POLICY)
    block["block_type"], block["block_params"] = (
        "maze.perception.blocks.FunctionalBlock",
        {"func": "os.system"},
    )
    with pytest.raises(InvalidSpecificationError, match="is no block that a configuration can name"):
        compose_run(**arguments)
