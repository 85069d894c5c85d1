"""A user's own networks train, act, evaluate and come back; composers are recorded so that their run is made again."""

import dataclasses
import json
import shutil
import subprocess
import sys

import numpy as np
import pytest
import torch
from torch import nn

from maze_core import (
    Checkpoint,
    DistributionMapper,
    InvalidSpecificationError,
    ProbabilisticPolicyComposer,
    RunConfig,
    RunContext,
    load_agent,
)
from maze_core.config import canonical_json
from maze_core.errors import CheckpointError
from maze_core.runners.training import run_training
from tests.maze_core.api.own_parts import OwnPolicyComposer, PlainWrapper, PolicyNet, ValueNet
from tests.maze_core.api.test_forms import (
    NET,
    OWN,
    QUICK,
    SPACES,
    critic_composer,
    model_composer,
    policy_composer,
)

OBSERVATIONS = np.random.default_rng(0).uniform(-0.4, 0.4, size=(40, 4)).astype(np.float32)


def local_network() -> type[nn.Module]:
    """A class that no name leads to."""

    class Local(PolicyNet):
        pass

    return Local


def actions_of(context: RunContext) -> list[int]:
    return [context.compute_action(observation)["action"] for observation in OBSERVATIONS]


@pytest.fixture
def trained(tmp_path):
    policy, critic = {"networks": [PolicyNet]}, {"networks": [ValueNet]}
    with RunContext(
        run_dir=tmp_path / "own", policy=policy, critic=critic, overrides=QUICK, seed=1
    ) as context:
        context.train(2)
        yield context


def test_the_checkpoint_says_that_it_needs_torch(trained, tmp_path) -> None:
    stored = Checkpoint.read(trained.run_dir / "checkpoints/best.ckpt")
    assert stored.identity["needs_torch"] is True
    with RunContext(run_dir=tmp_path / "dense", overrides=QUICK, seed=1) as context:
        context.train(1)
    assert Checkpoint.read(tmp_path / "dense/checkpoints/best.ckpt").identity["needs_torch"] is False


def test_networks_with_a_name_come_back_from_the_recorded_configuration(trained) -> None:
    assert trained.undescribed == {}
    loaded = RunContext.load(trained.run_dir)
    assert loaded.policy.needs_torch
    assert actions_of(loaded) == actions_of(trained)
    assert loaded.evaluate(3).to_dict() == trained.evaluate(3).to_dict()


def test_training_goes_on_in_a_loaded_context(trained, tmp_path) -> None:
    copy = shutil.copytree(
        trained.run_dir, tmp_path / "copy"
    )  # of two in one directory, one would be overtaken
    with RunContext.load(copy) as loaded:
        assert loaded.train(1).content_sha256 == trained.train(1).content_sha256


def test_loading_imports_nothing_of_the_users_before_it_acts(trained) -> None:
    """A service may look at such a checkpoint without torch and without running the operator's code."""
    path = trained.run_dir / "checkpoints/best.ckpt"
    code = (
        "import sys; from pathlib import Path; from maze_core import load_agent\n"
        f"agent = load_agent(Path({str(path)!r}), check=False)\n"
        f"assert agent.needs_torch and 'torch' not in sys.modules and {OWN!r} not in sys.modules"
    )
    subprocess.run([sys.executable, "-c", code], check=True)


def test_networks_without_a_name_train_and_act_and_are_refused_clearly_later(tmp_path) -> None:
    policy = {"networks": [local_network()]}
    with RunContext(run_dir=tmp_path, policy=policy, overrides=QUICK, seed=1) as context:
        context.train(1)
        expected = actions_of(context)
        assert list(context.undescribed) == ["model.policy.networks.0"]
    with pytest.raises(
        CheckpointError, match=r"model.policy.networks.0 was a live object .*Local.* pass it again"
    ):
        RunContext.load(tmp_path)
    assert actions_of(RunContext(run_dir=tmp_path, policy=policy, overrides=QUICK)) == expected


def test_a_live_module_is_copied_so_that_contexts_do_not_share_its_weights(tmp_path) -> None:
    torch.manual_seed(0)
    module = PolicyNet({"observation": (4,)}, {"action": (2,)})
    before = [parameter.detach().clone() for parameter in module.parameters()]
    reports = []
    for name in ("one", "two"):
        policy = {"networks": [module]}
        with RunContext(run_dir=tmp_path / name, policy=policy, overrides=QUICK, seed=1) as context:
            reports.append(context.train(2).content_sha256)
            assert len(context.evaluate(2).returns) == 2
    assert reports[0] == reports[1]
    assert all(torch.equal(*pair) for pair in zip(before, module.parameters(), strict=True))


def test_evaluating_the_best_weights_does_not_touch_those_in_training(trained) -> None:
    training = trained._held._open_training()
    before = training.checkpoint("continued").weights_sha256
    trained.evaluate(2)
    actions_of(trained)
    assert training.checkpoint("continued").weights_sha256 == before


def test_an_own_wrapper_that_is_not_described_acts_and_is_refused_clearly_later(tmp_path) -> None:
    with RunContext(run_dir=tmp_path, wrappers=PlainWrapper(3.0), overrides=QUICK, seed=1) as context:
        context.train(1)
        expected = actions_of(context)
        assert list(context.undescribed) == ["wrappers.0"]
    with pytest.raises(CheckpointError, match=r"wrappers.0: was a live object"):
        RunContext.load(tmp_path)
    again = RunContext(run_dir=tmp_path, wrappers=PlainWrapper(3.0), overrides=QUICK)
    assert actions_of(again) == expected


# ---------------------------------------------------------------------- composers


@pytest.mark.parametrize(
    "arguments",
    [
        lambda: {"policy": policy_composer()},
        lambda: {"overrides": {"model.policy": policy_composer(), **QUICK}},
        lambda: {"critic": critic_composer()},
        lambda: {"model": model_composer()},
    ],
    ids=["policy", "override", "critic", "model"],
)
def test_the_recorded_configuration_of_a_composer_gives_the_same_run(arguments, tmp_path) -> None:
    given = {"overrides": QUICK, **arguments()}
    with RunContext(run_dir=tmp_path, seed=1, **given) as context:
        assert context.undescribed == {}
        trained = context.train(1)
        recorded = json.loads(canonical_json(context.config))
    rebuilt = run_training(RunConfig.from_tree(recorded))
    assert rebuilt.content_sha256 == trained.content_sha256


def test_a_composer_is_the_same_run_as_its_settings() -> None:
    by_object = RunContext(policy=policy_composer(), seed=1)
    by_values = RunContext(policy={"networks": [NET]}, seed=1)
    assert by_object.config_sha256 == by_values.config_sha256


def test_a_composer_whose_mapper_has_rules_of_its_own_is_recorded_by_name() -> None:
    rules = [{"action_head": "action", "distribution": "categorical"}]
    composer = ProbabilisticPolicyComposer(
        action_spaces_dict=SPACES.action_spaces_dict,
        observation_spaces_dict=SPACES.observation_spaces_dict,
        distribution_mapper=DistributionMapper(SPACES.action_space, rules),
        networks=[NET],
    )
    assert list(RunContext(policy=composer).undescribed) == ["model.policy"]


def test_an_own_composer_is_recorded_by_name_and_given_the_processed_spaces() -> None:
    composer = policy_composer(OwnPolicyComposer)
    context = RunContext(policy=composer, seed=1)
    assert context.undescribed == {"model.policy": f"{OWN}.OwnPolicyComposer"}
    assert list(composer.observation_spaces_dict) == [0]
    assert composer.action_spaces_dict[0]["action"].n == 2


def test_an_object_may_say_itself_what_describes_it(tmp_path) -> None:
    class Described(PlainWrapper):
        def as_config(self) -> dict[str, object]:
            return {"_target_": f"{OWN}.PlainWrapper", "factor": self.factor}

    with RunContext(run_dir=tmp_path, wrappers=Described(3.0), overrides=QUICK, seed=1) as context:
        context.train(1)
        expected = actions_of(context)
    assert actions_of(RunContext.load(tmp_path)) == expected


def test_what_a_policy_function_gives_is_checked(tmp_path) -> None:
    context = RunContext(run_dir=tmp_path, policy={"_target_": f"{OWN}.make_wrapper"}, overrides=QUICK)
    with pytest.raises(InvalidSpecificationError, match=r"model.policy: make_wrapper gave a OwnWrapper"):
        context.train(1)


def test_an_agent_is_rebuilt_with_the_objects_it_is_given(tmp_path) -> None:
    network = local_network()
    with RunContext(run_dir=tmp_path, policy={"networks": [network]}, overrides=QUICK, seed=1) as context:
        context.train(1)
        expected = actions_of(context)
    stored = Checkpoint.read(tmp_path / "checkpoints/best.ckpt")
    agent = load_agent(stored, objects={"model.policy.networks.0": network})
    assert [agent.compute_action(observation)["action"] for observation in OBSERVATIONS] == expected
    fewer = {name: array for name, array in stored.tensors.items() if not name.endswith("body.bias")}
    with pytest.raises(CheckpointError, match="cannot be built again"):
        load_agent(dataclasses.replace(stored, tensors=fewer), objects={"model.policy.networks.0": network})
