"""Live objects: those that can be described are data, the rest stay objects and are recorded by name."""

import dataclasses
import functools
import json
import sys
from collections import namedtuple
from enum import Enum
from pathlib import Path

import gymnasium
import numpy as np
import pytest
import yaml

from maze_core.config import RunConfig, canonical_json, compose_run
from maze_core.envs.config import CallableEnvConfig, GymEnvConfig
from maze_core.envs.maze_env import MazeEnv
from maze_core.envs.wrappers.reward_scaling import RewardScalingWrapper
from maze_core.envs.wrappers.wrapper import Wrapper
from maze_core.errors import InvalidSpecificationError, Problem
from maze_core.models.config import ProbabilisticPolicyComposerConfig
from maze_core.runners.config import TrainingRunnerConfig
from maze_core.trainers.a2c_config import A2CAlgorithmConfig
from maze_core.trainers.ppo_config import PPOAlgorithmConfig


class Composer:
    """Stands for a composer: something with settings of its own that no tree can describe."""

    policy_config = ProbabilisticPolicyComposerConfig()


class PlainWrapper(Wrapper):
    """A wrapper that is no dataclass."""

    def __init__(self, factor: float = 2.0) -> None:
        self.factor = factor


def make_env(length: int = 3) -> gymnasium.Env:
    return gymnasium.make("CartPole-v1", max_episode_steps=length)


def problem(**arguments) -> Problem:
    with pytest.raises(InvalidSpecificationError) as caught:
        compose_run(**arguments)
    (found,) = caught.value.problems
    return found


def test_a_config_object_is_the_same_run_as_its_values():
    by_object = compose_run(algorithm=A2CAlgorithmConfig(lr=0.5, max_grad_norm=0.0), seed=1)
    by_values = compose_run(
        algorithm="a2c", overrides={"algorithm.lr": 0.5, "algorithm.max_grad_norm": None}, seed=1
    )
    assert by_object.objects == {}
    assert by_object.tree == by_values.tree
    assert by_object.config_sha256 == by_values.config_sha256


def test_a_config_object_says_nothing_about_other_parts():
    tree = compose_run(algorithm=A2CAlgorithmConfig()).tree
    assert tree["model"] == compose_run().tree["model"]
    assert tree["runner"] == compose_run().tree["runner"]


def test_every_part_takes_a_config_object():
    config = compose_run(
        algorithm=PPOAlgorithmConfig(n_epochs=2),
        runner=TrainingRunnerConfig(n_envs=3),
        policy=ProbabilisticPolicyComposerConfig(networks=({"_target_": "FlattenConcatPolicyNetConfig"},)),
    )
    assert config.objects == {}
    assert config.tree["runner"]["n_envs"] == 3
    assert config.build("algorithm").n_epochs == 2


def test_a_callable_makes_the_environments():
    config = compose_run(env=make_env)
    assert config.tree["env"]["factory"] == {"_opaque_": f"{__name__}.make_env"}
    built = config.build("env")
    assert isinstance(built, CallableEnvConfig)
    assert built.factory is make_env


def test_a_lambda_is_recorded_by_name():
    config = compose_run(env=lambda: make_env())
    assert config.tree["env"]["factory"]["_opaque_"].endswith("<lambda>")
    assert json.loads(canonical_json(config.tree)) == config.tree


def test_an_environment_in_instantiated_form_is_refused():
    env = gymnasium.make("CartPole-v1")
    assert "instantiated form" in problem(env=env).message
    env.close()


def test_an_overridden_environment_object_contradicts():
    found = problem(env=make_env, overrides={"env.name": "CartPole-v1"})
    assert (found.path, found.code) == ("env.name", "contradiction")
    assert "'env.name'" in found.message
    assert "argument 'env'" in found.message


def test_an_overridden_config_object_contradicts():
    found = problem(algorithm=A2CAlgorithmConfig(), overrides={"algorithm.lr": 0.5})
    assert found.code == "contradiction"
    assert "A2CAlgorithmConfig" in found.message


def test_an_overridden_policy_object_contradicts():
    assert problem(policy=Composer(), overrides={"model.policy.networks": []}).code == "contradiction"
    assert (
        problem(overrides={"model.policy": Composer(), "model.policy.networks": []}).code == "contradiction"
    )


def test_a_model_object_with_a_policy_or_critic_beside_it_contradicts():
    class Model:
        def build(self) -> None: ...

    assert problem(model=Model(), policy={"networks": []}).code == "contradiction"
    assert problem(model=Model(), critic="template_state").code == "contradiction"
    assert compose_run(model=Model()).tree["model"]["_opaque_"].endswith("Model")


def test_a_composer_takes_its_place_in_the_model():
    composer = Composer()
    for given in ({"policy": composer}, {"overrides": {"model.policy": composer}}):
        config = compose_run(**given)
        assert config.tree["model"]["policy"] == {"_opaque_": f"{__name__}.Composer"}
        assert config.build("model").policy is composer
        assert config.build("model.policy") is composer


def test_a_class_among_the_networks_stays_an_object():
    class Net:
        def __init__(self, obs_shapes, action_logits_shapes):
            pass

    config = compose_run(overrides={"model.policy.networks": [Net]})
    assert config.build("model").policy.networks == (Net,)
    assert list(config.objects) == ["model.policy.networks.0"]


def test_an_object_of_the_wrong_kind_is_refused():
    assert problem(algorithm=object()).code == "wrong_type"
    assert problem(wrappers=[object()]).code == "wrong_kind"
    assert problem(model=object()).code == "wrong_kind"
    assert problem(policy=object()).path == "model.policy"


def test_wrappers_are_taken_one_by_one_or_in_a_list():
    scaling, plain = RewardScalingWrapper(scale=0.5), PlainWrapper(3.0)
    config = compose_run(wrappers=[scaling, plain])
    assert config.tree["wrappers"][0]["scale"] == 0.5
    built = config.build("wrappers")
    assert built[0].scale == 0.5
    assert built[1] is plain
    assert (
        compose_run(wrappers=scaling, seed=1).config_sha256
        == compose_run(wrappers={"RewardScalingWrapper": {"scale": 0.5}}, seed=1).config_sha256
    )


def test_a_class_of_the_users_own_is_described_by_its_signature():
    node = {"_target_": f"{__name__}.PlainWrapper"}
    config = compose_run(wrappers=[node])
    assert config.tree["wrappers"] == [{**node, "factor": 2.0}]
    assert isinstance(config.build("wrappers")[0], PlainWrapper)
    assert problem(wrappers=[{**node, "factr": 1.0}]).did_you_mean == "factor"
    assert problem(wrappers=[{**node, "factor": "x"}]).path == "wrappers.0.factor"


def test_a_function_by_name_makes_environments_and_is_not_called_before():
    config = compose_run(env={"_target_": f"{__name__}.make_env", "length": 5})
    built = config.build("env")
    assert isinstance(built.factory, functools.partial)
    assert built.factory.keywords == {"length": 5}
    assert problem(env={"_target_": f"{__name__}.make_env", "length": "x"}).path == "env.length"


def test_a_dataclass_of_the_users_own_is_an_algorithm(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    (tmp_path / "own_algorithm.py").write_text(
        "import dataclasses\n@dataclasses.dataclass(frozen=True)\nclass Own:\n"
        "    n_epochs: int = 1\n    lr: float = 1.0\n    def build(self, parts): ...\n"
    )
    monkeypatch.syspath_prepend(tmp_path)
    config = compose_run(algorithm={"_target_": "own_algorithm.Own", "lr": 2})
    assert config.tree["algorithm"] == {"_target_": "own_algorithm.Own", "n_epochs": 1, "lr": 2.0}
    assert problem(algorithm={"_target_": "own_algorithm.Own", "lr": "x"}).path == "algorithm.lr"
    assert problem(algorithm={"_target_": "own_algorithm.Own", "lrr": 1}).did_you_mean == "lr"
    live = compose_run(algorithm=sys.modules["own_algorithm"].Own(lr=2.0))
    assert live.tree["algorithm"] == config.tree["algorithm"]


def test_a_dataclass_that_no_name_leads_to_stays_an_object():
    @dataclasses.dataclass(frozen=True)
    class Local:
        n_epochs: int = 1

        def build(self, parts: object) -> None: ...

    algorithm = Local()
    config = compose_run(algorithm=algorithm)
    assert config.build("algorithm") is algorithm
    assert config.tree["algorithm"]["_opaque_"].endswith("Local")


def test_a_stored_configuration_with_objects_opens_but_does_not_build_them():
    config = compose_run(env=make_env, seed=1)
    stored = RunConfig.from_tree(json.loads(canonical_json(config.tree)))
    assert stored.config_sha256 == config.config_sha256
    assert stored.build("algorithm") == config.build("algorithm")
    with pytest.raises(InvalidSpecificationError, match=r"env.factory: was a live object, .*make_env"):
        stored.build("env")


def test_the_opaque_word_cannot_be_forged():
    assert problem(env={"kwargs": {"_opaque_": "x"}}).code == "reserved_key"


def test_a_maze_env_factory_is_taken(tmp_path: Path):
    from maze_core import GymMazeEnv

    env = compose_run(env=lambda: GymMazeEnv("CartPole-v1")).build("env").factory()
    assert isinstance(env, MazeEnv)
    env.close()


@pytest.mark.parametrize(
    "table", [{1: 0.5}, {0.5: 1}, {None: 1}, {True: 1}, {"a": {3: 1}}, [{2: 3}]], ids=repr
)
@pytest.mark.parametrize("form", ["object", "dict", "override", "dotted", "module"])
def test_a_key_of_an_environments_argument_that_is_no_text_is_refused_and_not_changed(table, form, tmp_path):
    env = {"_target_": "maze_core.GymEnvConfig", "kwargs": {"table": table}}
    arguments = {
        "object": lambda: {"env": GymEnvConfig(kwargs={"table": table})},
        "dict": lambda: {"env": env},
        "override": lambda: {"overrides": {"env.kwargs": {"table": table}}},
        "dotted": lambda: {"overrides": {"env.kwargs.table": table}},
        "module": lambda: {"env": "mine", "config_dirs": [str(tmp_path)]},
    }[form]
    (tmp_path / "env").mkdir()
    (tmp_path / "env" / "mine.yaml").write_text(yaml.safe_dump(env))
    said = r"env\.kwargs\.table.* has the key .*env=lambda|mine.yaml cannot be read"  # OmegaConf refuses null
    with pytest.raises(InvalidSpecificationError, match=said):
        compose_run("train", seed=1, **arguments())


@pytest.mark.parametrize(
    "value", [np.zeros(2), Enum("Colour", "RED").RED, Path("maps"), namedtuple("Size", "w h")(1, 2)], ids=repr
)
def test_an_argument_that_an_environment_would_get_as_something_else_is_refused(value):
    for kwargs in ({"a": value}, {"a": [value]}):
        for arguments in ({"overrides": {"env.kwargs": kwargs}}, {"env": GymEnvConfig(kwargs=kwargs)}):
            with pytest.raises(InvalidSpecificationError, match=r"env\.kwargs\.a.* env=lambda"):
                compose_run("train", seed=1, **arguments)
