"""Torch networks from settings: how observations are read, what a template makes, what is shared, mistakes in words."""

import dataclasses
from functools import partial

import numpy as np
import pytest
import torch
from gymnasium import spaces

from maze_core.config.instantiate import instantiate
from maze_core.errors import InvalidSpecificationError
from maze_core.models.block_config import BLOCKS, BlockConfig
from maze_core.models.config import (
    CustomModelConfig,
    FlattenConcatPolicyNetConfig,
    FlattenConcatSharedEmbeddingPolicyNetConfig,
    FlattenConcatSharedEmbeddingStateValueNetConfig,
    ModelNeeds,
    ProbabilisticPolicyComposerConfig,
    SharedStateCriticConfig,
    StepStateActionCriticConfig,
    StepStateCriticConfig,
    TemplateModelConfig,
)
from maze_core.models.template_config import BlockNetConfig, ConcatModelBuilderConfig, ModalityConfig
from maze_core.notices import MazeWarning
from maze_core.trainers.ppo_config import PPOAlgorithmConfig
from tests.maze_core.recurrent import CueEnv
from tests.maze_core.trainers.small_worlds import learner_of, trainer_of

PICTURE = spaces.Box(0, 255, (8, 8, 3), np.uint8)
VECTOR = spaces.Box(-1, 1, (4,), np.float32)
ACTIONS = {0: spaces.Dict({"action": spaces.Discrete(3)})}
SMALL = BlockConfig(block_params={"hidden_units": [6]})
SMOOTH = BlockConfig(
    block_type="strided_convolution",
    block_params={"hidden_channels": [4], "hidden_kernels": 3, "non_lin": "tanh"},
)
ACTION_VALUES = ModelNeeds(distributions={"Box": "squashed_gaussian"}, critic="action", algorithm="sac")


def template(critic=None, shared=None, mapping=None, channels=None, **blocks) -> TemplateModelConfig:
    builder = ConcatModelBuilderConfig(
        modality_config=ModalityConfig(**{"feature": SMALL, "hidden": SMALL, **blocks}),
        observation_modality_mapping=mapping or {},
        shared_embedding_keys=shared,
        channels=channels,
    )
    return TemplateModelConfig(model_builder=builder, critic=critic)


def build(config, observations: dict, actions=ACTIONS, seed: int = 1, needs=None):
    spaces_by_key = {0: spaces.Dict(observations)}
    return config.build(spaces_by_key, actions, {0: 1}, generator_seed=seed, needs=needs)


def actor(model):
    (network,) = model.policy.steps[0].networks
    return network.logits


def picture_of(model, shown: np.ndarray) -> torch.Tensor:
    """What the first block that reads a picture gives."""
    module = actor(model).module
    reader = next(block for block in module.embedding.plan if type(block).__name__ == "PictureBlock")
    return reader({"observation": torch.as_tensor(shown, dtype=torch.float32)})[reader.out_keys[0]]


@pytest.mark.parametrize(
    ("shape", "channels", "expected"),
    [
        ((8, 9, 3), None, (3, 8, 9)),
        ((3, 8, 9), None, (3, 8, 9)),
        ((8, 8, 8), None, (8, 8, 8)),
        ((3, 8, 9), "last", (9, 3, 8)),
    ],
)
def test_channels_come_first_wherever_they_were(shape, channels, expected):
    model = build(template(channels=channels), {"observation": spaces.Box(0, 1, shape, np.float32)})
    shown = np.random.default_rng(0).random((2, *shape), dtype=np.float32)
    found = picture_of(model, shown)
    assert tuple(found.shape[1:]) == expected
    moved = (
        np.moveaxis(shown, 3, 1) if expected != shape or channels == "last" or shape[0] == shape[2] else shown
    )
    np.testing.assert_array_equal(found.numpy(), moved)


def test_bounded_whole_numbers_of_a_picture_go_from_0_to_1():
    found = picture_of(build(template(), {"observation": PICTURE}), np.full((1, 8, 8, 3), 51, np.uint8))
    torch.testing.assert_close(found, torch.full((1, 3, 8, 8), 0.2))


def test_a_network_sees_categories_as_indicators_as_programs_do():
    observations = {"observation": PICTURE, "room": spaces.MultiDiscrete([2, 3], start=[0, 5])}
    module = actor(build(template(), observations)).module
    reader = next(block for block in module.embedding.plan if type(block).__name__ == "OneHotBlock")
    found = reader({"room": torch.tensor([[1.0, 6.0], [0.0, 5.0]])})[reader.out_keys[0]]
    assert found.tolist() == [[0, 1, 0, 1, 0], [1, 0, 1, 0, 0]]


@pytest.mark.parametrize("shape", [(84, 84, 4), (36, 40, 1), (10, 10, 7), (5, 5, 3), (2, 2, 3), (1, 6, 3)])
def test_the_convolutions_of_a_template_fit_any_picture(shape):
    network = actor(build(template(), {"observation": spaces.Box(0, 255, shape, np.uint8)}))
    assert network({"observation": np.zeros((3, *shape), np.uint8)}).shape == (3, 3)


def test_dense_templates_stay_programs_of_numpy_and_pictures_left_out_change_nothing():
    network = actor(build(template(mapping={"observation": None}), {"observation": PICTURE, "v": VECTOR}))
    assert not network.needs_torch
    flat = actor(build(template(mapping={"observation": "feature"}), {"observation": PICTURE}))
    assert not flat.needs_torch


@pytest.mark.parametrize("recurrence", ["lstm", "gru"])
def test_a_template_with_memory_carries_its_state(recurrence: str):
    block = BlockConfig(block_type=recurrence, block_params={"hidden_size": 5})
    network = actor(build(template(recurrence=block), {"observation": VECTOR}))
    assert network.state_width == (10 if recurrence == "lstm" else 5)
    seen, state = {"observation": np.ones((2, 4), np.float32)}, np.zeros((2, network.state_width), np.float32)
    first = network({**seen, "state": state})
    second = network({**seen, "state": first[:, 3:]})
    assert not np.allclose(first[:, :3], second[:, :3])


def test_algorithms_without_memory_refuse_a_template_with_one():
    config = template(critic=StepStateActionCriticConfig(), recurrence=BlockConfig(block_type="lstm"))
    box = {0: spaces.Dict({"action": spaces.Box(-1, 1, (2,), np.float32)})}
    with pytest.raises(InvalidSpecificationError, match=r"carries a state .* take ppo, a2c"):
        build(config, {"observation": VECTOR}, box, needs=ACTION_VALUES)


@pytest.mark.parametrize(
    "observations",
    [
        {"observation": spaces.Box(-1, 1, (5, 4), np.float32)},
        {
            "observation": spaces.Box(0, 255, (5, 8, 8, 1), np.uint8),
            "v": spaces.Box(-1, 1, (5, 2), np.float32),
        },
    ],
    ids=["vectors", "pictures"],
)
def test_the_last_step_of_a_stack_reads_vectors_and_pictures(observations):
    config = template(recurrence=BlockConfig(block_type="lstm_last_step", block_params={"hidden_size": 7}))
    network = actor(build(config, observations))
    assert not network.state_width
    assert network.module.embedding.out_shapes() == [(7,)]
    shown = {name: np.ones((2, *space.shape), space.dtype) for name, space in observations.items()}
    before = network(shown).copy()
    shown["observation"][:, 0] = 0  # the oldest one matters
    assert not np.allclose(network(shown), before)


def test_observations_that_are_not_stacked_are_refused_with_both_ways_out():
    config = template(recurrence=BlockConfig(block_type="lstm_last_step"))
    message = (
        r"stacked along a first axis, these are: observation \[4\].*wrappers=vector_obs_rnn.*block_type=lstm"
    )
    with pytest.raises(InvalidSpecificationError, match=message):
        build(config, {"observation": VECTOR})


def test_a_stack_of_pictures_is_convolved_one_by_one_without_a_recurrence_too():
    stack = spaces.Box(0, 255, (4, 8, 8, 1), np.uint8)
    module = actor(build(template(), {"observation": stack})).module
    (convolution,) = (b for b in module.embedding.plan if type(b).__name__ == "StridedConvolutionBlock")
    assert convolution.in_shapes == ((1, 8, 8),)


def test_kernels_that_are_too_large_name_the_setting_and_the_way_out():
    image = BlockConfig(
        block_type="strided_convolution", block_params={"hidden_channels": [4], "hidden_kernels": 9}
    )
    with pytest.raises(
        InvalidSpecificationError,
        match=r"modality_config.image: StridedConvolutionBlock: the kernels are too large .* take smaller kernels",
    ):
        build(template(image=image), {"observation": PICTURE})


@pytest.mark.parametrize(
    "config", [template(StepStateCriticConfig()), template(StepStateCriticConfig(), ["latent"])]
)
def test_weights_depend_on_the_seed_whatever_torch_did_before(config):
    torch.manual_seed(5)
    first = build(config, {"observation": PICTURE})
    torch.rand(9)
    second, other = (build(config, {"observation": PICTURE}, seed=seed) for seed in (1, 2))

    def weights(model):
        return [
            array.tobytes() for part in (model.policy, model.critic) for array in part.parameters.values()
        ]

    assert weights(second) == weights(first) != weights(other)


SHARED_DENSE = CustomModelConfig(
    policy=ProbabilisticPolicyComposerConfig(
        networks=[FlattenConcatSharedEmbeddingPolicyNetConfig(hidden_units=[5, 6], head_units=[7])]
    ),
    critic=StepStateCriticConfig(networks=[FlattenConcatSharedEmbeddingStateValueNetConfig(head_units=[7])]),
)
SHARED = [
    pytest.param(SHARED_DENSE, {"observation": VECTOR}, id="flatten_concat"),
    pytest.param(template(StepStateCriticConfig(), ["latent"]), {"observation": VECTOR}, id="dense template"),
    pytest.param(
        template(StepStateCriticConfig(), ["latent"], image=SMOOTH),
        {"observation": PICTURE, "v": VECTOR},
        id="pictures",
    ),
    pytest.param(
        template(StepStateCriticConfig(), {0: ["latent"]}, recurrence=BlockConfig(block_type="gru")),
        {"observation": VECTOR},
        id="memory",
    ),
]


@pytest.mark.parametrize(("config", "observations"), SHARED)
def test_what_is_shared_has_one_place_and_the_gradients_of_both(config, observations):
    """The gradient of a sum is the sum of the gradients that policy and critic have alone."""
    model = build(config, observations)
    learner, step = learner_of(model.policy, model.critic)
    rng = np.random.default_rng(0)
    shown = {name: rng.random((6, *space.shape)).astype(space.dtype) for name, space in observations.items()}
    if width := actor(model).state_width:
        shown |= {name: rng.random((6, width), np.float32) for name in ("state", "critic_state")}
    actions, agents = {"action": rng.integers(0, 3, 6)}, np.zeros(6, np.int64)

    def gradient(d_log_probs: float, d_values: float) -> np.ndarray:
        step.zero()
        with learner.torch(keeps_gradients=True):
            found = learner.evaluate(0, shown, actions, agents)
            found.backward(np.full(6, d_log_probs, np.float32), None, np.full(6, d_values, np.float32))
        return step.gradient.copy()

    of_policy, of_critic, of_both = gradient(1.0, 0.0), gradient(0.0, 1.0), gradient(1.0, 1.0)
    np.testing.assert_allclose(of_both, of_policy + of_critic, rtol=1e-4, atol=1e-6)
    shared = (of_policy != 0) & (of_critic != 0)
    assert shared.any()


@pytest.mark.parametrize(("config", "observations"), SHARED[:3])
def test_the_gradient_of_a_shared_embedding_is_that_of_finite_differences(config, observations):
    model = build(config, observations)
    learner, step = learner_of(model.policy, model.critic)
    rng = np.random.default_rng(0)
    shown = {name: rng.random((6, *space.shape)).astype(space.dtype) for name, space in observations.items()}
    actions, agents = {"action": rng.integers(0, 3, 6)}, np.zeros(6, np.int64)

    def loss() -> float:
        with learner.torch(keeps_gradients=False):
            found = learner.evaluate(0, shown, actions, agents)
        return float(found.log_probs.sum(dtype=float) + found.values.sum(dtype=float))

    step.zero()
    with learner.torch(keeps_gradients=True):
        found = learner.evaluate(0, shown, actions, agents)
        found.backward(np.ones(6, np.float32), None, np.ones(6, np.float32))
    direction = rng.standard_normal(step.flat.size).astype(np.float32)
    before, size = step.flat.copy(), 1e-3
    step.flat[...] = before + size * direction
    above = loss()
    step.flat[...] = before - size * direction
    below = loss()
    step.flat[...] = before
    assert (above - below) / (2 * size) == pytest.approx(float(step.gradient @ direction), rel=0.02, abs=0.02)


@pytest.mark.parametrize(
    ("config", "message"),
    [
        (
            template(SharedStateCriticConfig(), ["latent"]),
            "shared_embedding_keys: policy and critic share .*template_state",
        ),
        (
            dataclasses.replace(
                SHARED_DENSE,
                policy=ProbabilisticPolicyComposerConfig(networks=[FlattenConcatPolicyNetConfig()]),
            ),
            "model.critic.networks.0: shares the embedding of the policy .* model=flatten_concat_shared_embedding",
        ),
        (
            template(StepStateActionCriticConfig()),
            "model.critic: values actions, .* take critic=template_state",
        ),
    ],
)
def test_critics_that_do_not_fit_are_refused_with_the_one_that_does(config, message: str):
    with pytest.raises(InvalidSpecificationError, match=message):
        build(config, {"observation": VECTOR})


def test_a_critic_of_actions_reads_actions_as_features_beside_a_picture():
    box = {0: spaces.Dict({"action": spaces.Box(-1, 1, (2,), np.float32)})}
    config = template(StepStateActionCriticConfig(), mapping={"action": "feature"})
    model = build(config, {"observation": PICTURE}, box, needs=ACTION_VALUES)
    first, second = model.critic.networks
    assert first.module.embedding.in_keys == ("observation", "action.action")
    assert not torch.equal(
        first.module.heads["output"].layer.weight, second.module.heads["output"].layer.weight
    )


def test_a_network_is_named_block_by_block():
    net = BlockNetConfig(
        blocks=[
            {
                "in_keys": "observation",
                "out_keys": "convolved",
                "block_type": "strided_convolution",
                "block_params": {"hidden_channels": [2], "hidden_kernels": 3},
            },
            {"in_keys": "v", "out_keys": "dense", "block_params": {"hidden_units": [5]}},
            {"in_keys": "v", "out_keys": "unused", "block_type": "flatten"},
        ],
        latent=["convolved", "dense"],
    )
    config = CustomModelConfig(
        policy=ProbabilisticPolicyComposerConfig(networks=[net]), critic=StepStateCriticConfig(networks=[net])
    )
    model = build(config, {"observation": PICTURE, "v": VECTOR})
    module = actor(model).module
    assert [type(block).__name__ for block in module.embedding.plan] == [
        "PictureBlock",
        "StridedConvolutionBlock",
        "DenseBlock",
    ]
    assert module.heads["output"].layer.in_features == 2 * 6 * 6 + 5
    gains = [
        part.module.heads["output"].layer.weight.norm(dim=1).mean()
        for part in (actor(model), model.critic.by_key[0])
    ]
    torch.testing.assert_close(torch.stack(gains), torch.tensor([0.01, 1.0]))


@pytest.mark.parametrize(
    ("block", "message"),
    [
        (
            {"in_keys": "w", "out_keys": "y"},
            "networks.0.blocks.0: reads 'w', which is no observation, and no block",
        ),
        (
            {"in_keys": "v", "out_keys": "v"},
            "networks.0.blocks.0: gives 'v', which is there already: rename it",
        ),
        (
            {"in_keys": "observation", "out_keys": "y"},
            "networks.0.blocks.0: DenseBlock: DenseBlock reads 1 dimensions, and .* has the shape",
        ),
    ],
)
def test_a_named_block_that_does_not_fit_is_refused_by_its_place(block: dict, message: str):
    policy = ProbabilisticPolicyComposerConfig(networks=[BlockNetConfig(blocks=[block])])
    with pytest.raises(InvalidSpecificationError, match=message):
        build(CustomModelConfig(policy=policy, critic=None), {"observation": PICTURE, "v": VECTOR})


@pytest.mark.parametrize("shared", [pytest.param(None, marks=pytest.mark.slow), ["latent"]])
def test_a_template_with_memory_learns_what_only_memory_tells(shared):
    """Two steps: what the first shows decides what the second pays; chance is 0."""
    block = BlockConfig(block_type="lstm", block_params={"hidden_size": 8})
    config = template(StepStateCriticConfig(), shared, recurrence=block)
    algorithm = PPOAlgorithmConfig(n_rollout_steps=32, lr=0.02, n_optimization_epochs=4, gamma=1.0)
    trainer = trainer_of(algorithm, partial(CueEnv, length=2), model=config, n_envs=8)
    returns = [np.mean(trainer.update(epoch=i, progress=0.0).episode_returns) for i in range(12)]
    assert np.mean(returns[:1]) < 0.5
    assert np.mean(returns[-2:]) > 0.8


NODES, BESIDE = spaces.Box(-1, 1, (4, 3), np.float32), spaces.Box(0, 1, (4, 4), np.float32)
EDGES, THERE = spaces.Box(-1, 3, (5, 2), np.int64), spaces.MultiBinary(4)
BUILT = {
    "dense": ({}, ["v"]),
    "flatten_dense": ({}, ["nodes"]),
    "strided_convolution": ({"hidden_channels": [2], "hidden_kernels": 3}, ["observation"]),
    "strided_convolution_dense": ({"hidden_channels": [2], "hidden_kernels": 3}, ["observation"]),
    "vgg_convolution": ({"hidden_channels": [2]}, ["observation"]),
    "vgg_convolution_dense": ({"hidden_channels": [2]}, ["observation"]),
    "vgg_convolution_gap": ({"hidden_channels": [2]}, ["observation"]),
    "lstm": ({}, ["v"]),
    "gru": ({}, ["v"]),
    "lstm_last_step": ({"bidirectional": True, "non_lin": "tanh"}, ["nodes"]),
    "graph_conv": ({"hidden_features": [5]}, ["nodes", "beside"]),
    "graph_attention": ({"hidden_features": [5], "n_heads": 2}, ["nodes", "beside"]),
    "gnn": ({"hidden_features": [5]}, ["nodes", "edges"]),
    "multi_head_attention": ({"num_heads": 3}, ["nodes", "nodes", "nodes", "there"]),
    "self_attention_seq": ({"num_heads": 3}, ["nodes", "there"]),
    "self_attention_conv": ({"embed_dim": 2}, ["observation"]),
    "point_net_feature": ({}, ["nodes", "there"]),
    "global_average_pooling": ({}, ["observation"]),
    "masked_global_pooling": ({"pooling": "max"}, ["nodes", "there"]),
    "flatten": ({}, ["nodes"]),
    "concatenation": ({}, ["v", "there"]),
    "correlation": ({"reduce": True}, ["nodes", "nodes"]),
    "action_masking": ({}, ["v", "there"]),
    "slice": ({"slice_idx": -1}, ["nodes"]),
    "multi_index_slicing": ({"select_idxs": [2, 0]}, ["nodes"]),
    "repeat_to_match": ({}, ["v", "nodes"]),
}


@pytest.mark.parametrize("kind", BLOCKS)
def test_every_block_that_has_a_name_is_built_from_it_and_learns(kind: str):
    params, reads = BUILT[kind]
    net = BlockNetConfig(
        blocks=[{"in_keys": reads, "out_keys": "x", "block_type": kind, "block_params": params}]
    )
    config = CustomModelConfig(policy=ProbabilisticPolicyComposerConfig(networks=[net]), critic=None)
    observations = {
        "observation": PICTURE,
        "v": VECTOR,
        "nodes": NODES,
        "beside": BESIDE,
        "edges": EDGES,
        "there": THERE,
    }
    network = actor(build(config, observations))
    shown = {name: torch.ones(2, *space.shape) for name, space in observations.items()}
    if network.state_width:
        shown["state"] = torch.zeros(2, network.state_width)
    network.evaluate(shown).square().sum().backward()
    assert all(p.grad is not None for p in network.module.parameters() if p.requires_grad)


def named(*blocks) -> list[tuple[str, str]]:
    """Where the mistakes of a network of blocks are, and what they are."""
    network = {"_target_": "maze_core.BlockNetConfig", "blocks": list(blocks)}
    policy = {"_target_": "maze_core.ProbabilisticPolicyComposerConfig", "networks": [network]}
    tree = {"_target_": "maze_core.CustomModelConfig", "critic": None, "policy": policy}
    with pytest.raises(InvalidSpecificationError) as caught:
        build(instantiate(tree), {"v": VECTOR, "nodes": NODES, "picture": PICTURE})
    return [(problem.path, problem.message) for problem in caught.value.problems]


def block(reads, gives, kind="dense", **params):
    return {"in_keys": reads, "out_keys": gives, "block_type": kind, "block_params": params}


def test_one_mistake_within_a_block_is_one_problem_where_it_stands():
    ((path, message),) = named(block("v", "x", hidden_unit=[3]))
    assert path.endswith("blocks.0.block_params.hidden_unit")
    ((path, message),) = named({"out_keys": "x"})
    assert path.endswith("blocks.0.in_keys")
    assert message == "NamedBlockConfig needs it."
    ((path, message),) = named()
    assert path.endswith("blocks")
    assert "at least 1 item" in message


def test_a_block_that_stands_too_early_is_told_which_one_to_put_before():
    ((path, message),) = named(block("x", "y"), block("v", "x"))
    assert path == "model.policy.networks.0.blocks.0"
    assert message == "reads 'x'; block 1 gives it: put that one before."
    ((_, message),) = named(block("y", "x"), block("x", "y"), block("x", "z"))
    assert message.startswith("the blocks [0, 1] read each other")


def test_what_does_nothing_in_evaluation_mode_is_refused():
    ((path, message),) = named(block("nodes", "x", "self_attention_seq", dropout=0.5))
    assert path.endswith("blocks.0.block_params.dropout")
    assert "set it to 0" in message
    ((path, message),) = named(
        block("picture", "x", "vgg_convolution_dense", hidden_channels=[2], use_batch_norm_conv=True)
    )
    assert path.endswith("blocks.0.block_params.use_batch_norm_conv")
    assert "set it to false" in message


def test_a_sequence_has_a_block_of_its_own():
    config = template(
        mapping={"nodes": "sequence"},
        sequence=BlockConfig(block_type="point_net_feature", block_params={"embedding_units": [6]}),
    )
    module = actor(build(config, {"nodes": NODES, "v": VECTOR})).module
    assert module.embedding.shapes["sequence_0"] == (6,)


def test_a_picture_that_dense_layers_read_is_said_to_fit_another_model():
    """Sixteen by sixteen by three is small enough to be meant so; an Atari screen is not."""
    with pytest.warns(MazeWarning, match=r"'observation' is a picture \[84, 84, 4\].*model=nature_cnn"):
        build(CustomModelConfig(), {"observation": spaces.Box(0, 255, (84, 84, 4), np.uint8)})
    build(CustomModelConfig(), {"observation": spaces.Box(0, 255, (16, 16, 3), np.uint8)})


def test_agents_with_networks_of_their_own_and_a_head_called_value_share_nothing():
    config = template(StepStateCriticConfig(), ["latent"])
    own = dataclasses.replace(
        config, policy=ProbabilisticPolicyComposerConfig(substeps_with_separate_agent_nets=[0])
    )
    seen = {0: spaces.Dict({"observation": PICTURE})}
    with pytest.raises(
        InvalidSpecificationError, match="agents with networks of their own share no embedding"
    ):
        own.build(seen, ACTIONS, {0: 2}, generator_seed=1)
    with pytest.raises(InvalidSpecificationError, match="an action head is called 'value'"):
        config.build(seen, {0: spaces.Dict({"value": spaces.Discrete(2)})}, {0: 1}, generator_seed=1)
