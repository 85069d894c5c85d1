"""Networks too large to be stored, or to be shown an observation, are refused before memory is taken for them."""

import numpy as np
import pytest
from gymnasium import spaces

from maze_core.config import compose_run
from maze_core.errors import InvalidSpecificationError
from maze_core.models import size
from maze_core.models.config import (
    CustomModelConfig,
    FlattenConcatPolicyNetConfig,
    FlattenConcatStateValueNetConfig,
    ProbabilisticPolicyComposerConfig,
    SharedStateCriticConfig,
)
from maze_core.models.size import MOST_NUMBERS, MOST_PARAMETERS
from maze_core.models.template_config import BlockNetConfig
from service.worker.frames import MAX_FRAME_BYTES

VECTOR = spaces.Box(-1, 1, (4,), np.float32)
ACTIONS = {0: spaces.Dict({"action": spaces.Discrete(3)})}


def build(network, space=VECTOR, critic=None):
    config = CustomModelConfig(policy=ProbabilisticPolicyComposerConfig(networks=[network]), critic=critic)
    return config.build({0: spaces.Dict({"v": space})}, ACTIONS, {0: 1}, generator_seed=1)


def refused(network, **given) -> tuple[str, str]:
    with pytest.raises(InvalidSpecificationError) as caught:
        build(network, **given)
    (problem,) = caught.value.problems
    assert problem.code == "out_of_range"
    return problem.path, problem.message


def net(*blocks) -> BlockNetConfig:
    return BlockNetConfig(
        blocks=[
            {"in_keys": reads, "out_keys": gives, "block_type": kind, "block_params": params}
            for reads, gives, kind, params in blocks
        ]
    )


def test_what_is_accepted_can_be_sent_with_its_moments_and_its_target():
    assert 4 * 4 * MOST_PARAMETERS < MAX_FRAME_BYTES


def test_widths_that_are_too_many_are_refused_when_a_specification_is_composed():
    overrides = {
        "model.policy.networks": [
            {"_target_": "maze_core.FlattenConcatPolicyNetConfig", "hidden_units": [4096] * 8}
        ]
    }
    with pytest.raises(InvalidSpecificationError) as caught:
        compose_run(configuration="test", overrides=overrides)
    (problem,) = caught.value.problems
    assert problem.path == "model.policy.networks.0.hidden_units"
    assert "117,440,512" in problem.message
    assert "narrower" in problem.message


def test_what_an_observation_adds_counts():
    path, message = refused(FlattenConcatPolicyNetConfig(hidden_units=[64]), space=spaces.Discrete(10**6))
    assert path == "model.policy.networks.0"
    assert "64,000,259" in message


def test_the_networks_of_a_model_count_together(monkeypatch):
    monkeypatch.setattr(size, "MOST_PARAMETERS", 50_000)
    half = {"hidden_units": [40]}
    critic = SharedStateCriticConfig(networks=[FlattenConcatStateValueNetConfig(**half)])
    with pytest.raises(InvalidSpecificationError) as caught:
        build(FlattenConcatPolicyNetConfig(**half, weight_init="torch_default"), spaces.Discrete(800), critic)
    assert caught.value.problems[0].path == "model.critic.networks.0"


def test_a_chain_that_doubles_widths_is_refused_at_the_block_that_is_too_wide():
    chain = [(["v", "v"], "k0", "concatenation", {})]
    chain += [([f"k{i}"] * 2, f"k{i + 1}", "concatenation", {}) for i in range(40)]
    path, message = refused(net(*chain))
    # 4 · (2 + 4 + … + 2ⁿ) numbers up to block n - 1
    n = next(n for n in range(64) if 4 * (2 ** (n + 1) - 2) > MOST_NUMBERS)
    assert path == f"model.policy.networks.0.blocks.{n - 1}"
    assert "concatenations" in message


def test_the_parameters_of_blocks_count_together(monkeypatch):
    monkeypatch.setattr(size, "MOST_PARAMETERS", 100_000)
    small, wide = {"hidden_units": [8]}, {"hidden_units": [128] * 4}
    path, message = refused(
        net(("v", "k0", "dense", small), ("k0", "k1", "dense", wide), ("k1", "k2", "dense", wide))
    )
    assert path == "model.policy.networks.0.blocks.2"
    assert "parameters" in message


def test_padding_that_grows_within_a_block_is_refused():
    grown = {"hidden_channels": [4096] * 2, "hidden_kernels": 1, "hidden_padding": 64}
    path, _ = refused(
        net(("v", "x", "strided_convolution", grown)), space=spaces.Box(0, 1, (8, 8, 3), np.float32)
    )
    assert path == "model.policy.networks.0.blocks.0"


def test_messages_along_edges_are_sized_without_data():
    graph = net((["v", "v"], "x", "gnn", {"hidden_features": [4096]}))
    path, message = refused(graph, space=spaces.Box(-1, 1, (8192, 2), np.float32))
    assert path == "model.policy.networks.0.blocks.0"
    assert f"{2 * 8192 * 4096:,} numbers" in message


def test_the_layer_behind_the_blocks_counts(monkeypatch):
    few = net(("v", "x", "multi_index_slicing", {"select_idxs": [0] * 1024}))
    monkeypatch.setattr(size, "MOST_PARAMETERS", 3 * 1025)
    assert build(few).policy
    monkeypatch.setattr(size, "MOST_PARAMETERS", 3 * 1025 - 1)
    assert refused(few)[0] == "model.policy.networks.0"
