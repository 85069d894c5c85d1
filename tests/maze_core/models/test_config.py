"""Settings of models: torch stays out, YAML twins say what the defaults say, and wrong values are refused."""

import subprocess
import sys
from pathlib import Path

import pytest
import yaml

from maze_core.config.instantiate import instantiate
from maze_core.errors import InvalidSpecificationError
from maze_core.models.config import (
    BlockConfig,
    ConcatModelBuilderConfig,
    CustomModelConfig,
    DenseBlockParams,
    DistributionRule,
    FlattenConcatPolicyNetConfig,
    FlattenConcatStateValueNetConfig,
    ProbabilisticPolicyComposerConfig,
    RandomPolicyConfig,
    SharedStateCriticConfig,
    StepStateCriticConfig,
    TemplateModelConfig,
    TorchPolicyConfig,
)

CONF = Path(__file__).parents[3] / "conf"


def from_yaml(module: str):
    return instantiate(yaml.safe_load((CONF / f"{module}.yaml").read_text()))


def test_settings_graph_and_acting_leave_torch_out() -> None:
    code = (
        "import sys, maze_core.models.acting, maze_core.models.config, maze_core.models.graph\n"
        "sys.exit('torch' in sys.modules)"
    )
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0


@pytest.mark.parametrize(
    ("module", "twin"),
    [
        ("model/flatten_concat", CustomModelConfig()),
        ("model/vector_obs", TemplateModelConfig()),
        ("policy/random_policy", RandomPolicyConfig()),
        ("policy/torch_policy", TorchPolicyConfig()),
    ],
)
def test_yaml_says_what_the_defaults_say(module: str, twin: object) -> None:
    built = from_yaml(module)
    assert built == twin
    assert type(built) is type(twin)


def test_critic_modules_merge_into_the_model() -> None:
    shared = SharedStateCriticConfig(networks=(FlattenConcatStateValueNetConfig(),))
    assert from_yaml("critic/template_state") == {"critic": StepStateCriticConfig()}
    assert from_yaml("critic/flatten_concat_shared") == {"critic": shared}
    for module in ("template_state", "flatten_concat_shared"):
        assert (CONF / "critic" / f"{module}.yaml").read_text().startswith("# @package model\n")


def test_the_layers_of_a_template_can_be_set_to_64() -> None:
    tree = yaml.safe_load((CONF / "model" / "vector_obs.yaml").read_text())
    for block in ("feature", "hidden"):
        tree["model_builder"]["modality_config"][block]["block_params"]["hidden_units"] = [64]
    blocks = instantiate(tree).model_builder.modality_config
    assert blocks.feature.settings == blocks.hidden.settings == DenseBlockParams(hidden_units=(64,))


@pytest.mark.parametrize("spelling", ["tanh", "Tanh", "torch.nn.Tanh", "nn.Tanh", "torch.tanh"])
def test_an_activation_may_be_spelled_as_torch_does(spelling: str) -> None:
    assert FlattenConcatPolicyNetConfig(non_lin=spelling).non_lin == "tanh"


def test_an_activation_may_be_torchs_class() -> None:
    from torch import nn

    assert FlattenConcatPolicyNetConfig(non_lin=nn.LeakyReLU).non_lin == "leaky_relu"


@pytest.mark.parametrize("wrong", ["os.system", "evil.Tanh", "torch.nn.Softmax", "", 3, None])
def test_any_other_activation_is_refused(wrong: object) -> None:
    with pytest.raises(InvalidSpecificationError):
        FlattenConcatPolicyNetConfig(non_lin=wrong)


@pytest.mark.parametrize("wrong", [[0], [4097], [8] * 9, [-1], ["x"], 64, [1.5]])
def test_layers_have_limits(wrong: object) -> None:
    with pytest.raises(InvalidSpecificationError):
        FlattenConcatPolicyNetConfig(hidden_units=wrong)
    with pytest.raises(InvalidSpecificationError):
        DenseBlockParams(hidden_units=wrong)


def test_unknown_keys_are_refused_everywhere() -> None:
    for config in (
        FlattenConcatPolicyNetConfig,
        TemplateModelConfig,
        ProbabilisticPolicyComposerConfig,
        BlockConfig,
    ):
        with pytest.raises(InvalidSpecificationError, match="has no setting 'surplus'"):
            config(surplus=1)


def test_published_names_are_understood() -> None:
    assert BlockConfig(block_type="maze.perception.blocks.DenseBlock").block_type == "dense"
    rule = DistributionRule(
        action_space="gym.spaces.Box",
        distribution="maze.distributions.diagonal_gaussian.DiagonalGaussianProbabilityDistribution",
    )
    assert (rule.action_space, rule.distribution) == ("Box", "diagonal_gaussian")
    assert ConcatModelBuilderConfig(modality_config={"recurrence": {}}).modality_config.recurrence is None


@pytest.mark.parametrize(
    ("field", "wrong"),
    [
        ("networks", []),
        ("networks", "flatten_concat"),
        ("networks", {"_target_": "maze_core.FlattenConcatPolicyNetConfig"}),
        ("agent_counts_dict", {0: "many"}),
    ],
)
def test_a_policy_needs_networks_that_are_listed(field: str, wrong: object) -> None:
    with pytest.raises(InvalidSpecificationError):
        ProbabilisticPolicyComposerConfig(**{field: wrong})


def test_a_module_name_in_place_of_a_policy_is_refused_with_the_way_out() -> None:
    with pytest.raises(InvalidSpecificationError, match="give a ProbabilisticPolicyComposer"):
        CustomModelConfig(policy="torch_policy")
    with pytest.raises(InvalidSpecificationError, match="critic=template_state"):
        CustomModelConfig(critic="template_state")


def test_a_wrong_setting_deep_in_a_tree_is_refused_with_its_path() -> None:
    tree = yaml.safe_load((CONF / "model" / "flatten_concat.yaml").read_text())
    tree["policy"]["networks"][0]["hidden_units"] = [0]
    with pytest.raises(InvalidSpecificationError, match=r"model\.policy\.networks\.0\.hidden_units"):
        instantiate(tree, "model")
