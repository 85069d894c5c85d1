"""Models from settings, dicts, classes and modules: reproducible weights, sub-steps, agents, errors with their path."""

import threading
import time

import numpy as np
import pytest
import torch
from gymnasium import spaces
from torch import nn

from maze_core.config.instantiate import instantiate
from maze_core.errors import CheckpointError, InvalidSpecificationError
from maze_core.models.acting import ActingPolicy
from maze_core.models.builders import flatten_concat, initial_parameters
from maze_core.models.composers import (
    CustomModelComposer,
    ProbabilisticPolicyComposer,
    SharedStateCriticComposer,
    StepStateCriticComposer,
    TemplateModelComposer,
)
from maze_core.models.config import (
    BlockConfig,
    ConcatModelBuilderConfig,
    CustomModelConfig,
    DenseBlockParams,
    FlattenConcatPolicyNetConfig,
    FlattenConcatStateValueNetConfig,
    ModalityConfig,
    ProbabilisticPolicyComposerConfig,
    SharedStateCriticConfig,
    StepStateCriticConfig,
    TemplateModelConfig,
)
from maze_core.models.heads import DistributionMapper
from tests.maze_core.trainers.small_worlds import learner_of

OBSERVATIONS = {0: spaces.Dict({"observation": spaces.Box(-1, 1, (4,))})}
ACTIONS = {0: spaces.Dict({"action": spaces.Discrete(2)})}
ONE = {0: 1}
TWO_STEPS = {
    0: spaces.Dict({"scene": spaces.Box(-1, 1, (4,)), "action_mask": spaces.MultiBinary(2)}),
    1: spaces.Dict({"scene": spaces.Box(-1, 1, (4,)), "room": spaces.Discrete(3, start=1)}),
}
TWO_ACTIONS = {0: ACTIONS[0], 1: ACTIONS[0]}
POLICY_NET = {
    "_target_": "maze.perception.models.built_in.flatten_concat.FlattenConcatPolicyNet",
    "non_lin": "torch.nn.Tanh",
    "hidden_units": [24, 12],
}


class SmallPolicyNet(nn.Module):
    def __init__(self, obs_shapes, action_logits_shapes, width: int = 7) -> None:
        super().__init__()
        self.body = nn.Linear(sum(int(np.prod(shape)) for shape in obs_shapes.values()), width)
        self.drop = nn.Dropout(0.5)
        self.outs = nn.ModuleDict(
            {head: nn.Linear(width, *shape) for head, shape in action_logits_shapes.items()}
        )

    def forward(self, observations):
        flat = torch.cat([values.reshape(len(values), -1) for values in observations.values()], dim=1)
        hidden = self.drop(torch.relu(self.body(flat)))
        return {head: out(hidden) for head, out in self.outs.items()}


class SmallValueNet(nn.Module):
    def __init__(self, obs_shapes) -> None:
        super().__init__()
        self.out = nn.Linear(sum(int(np.prod(shape)) for shape in obs_shapes.values()), 1)

    def forward(self, observations):
        flat = torch.cat([values.reshape(len(values), -1) for values in observations.values()], dim=1)
        return {"value": self.out(flat)}


def custom(*networks, critic=None, **settings) -> CustomModelConfig:
    policy = ProbabilisticPolicyComposerConfig(networks=list(networks), **settings)
    return CustomModelConfig(policy=policy, critic=critic)


def build(config, observations=OBSERVATIONS, actions=ACTIONS, agents=ONE, seed: int = 1):
    return config.build(observations, actions, agents, generator_seed=seed)


def weights(networks) -> bytes:
    return b"".join(np.asarray(array).tobytes() for array in networks.state_dict().values())


@pytest.mark.parametrize("config", [CustomModelConfig(), TemplateModelConfig(), custom(SmallPolicyNet)])
def test_weights_depend_on_the_seed_and_nothing_else(config) -> None:
    torch.manual_seed(5)
    first = build(config)
    torch.manual_seed(6)
    torch.rand(10)
    assert weights(build(config).policy) == weights(first.policy)
    assert weights(build(config, seed=2).policy) != weights(first.policy)


def test_policy_weights_do_not_depend_on_the_critic() -> None:
    with_critic = build(
        custom(FlattenConcatPolicyNetConfig(), critic=StepStateCriticConfig(networks=[SmallValueNet]))
    )
    assert weights(with_critic.policy) == weights(build(custom(FlattenConcatPolicyNetConfig())).policy)


@pytest.mark.parametrize("config", [CustomModelConfig(), custom(SmallPolicyNet)])
def test_the_global_generator_is_left_alone(config) -> None:
    torch.manual_seed(5)
    expected = torch.rand(3)
    torch.manual_seed(5)
    build(config)
    assert torch.equal(torch.rand(3), expected)


class SlowPolicyNet(SmallPolicyNet):
    """Lets other threads run between two draws of its weights."""

    def __init__(self, obs_shapes, action_logits_shapes) -> None:
        super().__init__(obs_shapes, action_logits_shapes)
        time.sleep(0.01)
        self.unused = nn.Linear(3, 3)


def test_models_built_in_several_threads_have_the_weights_of_one() -> None:
    expected = [weights(build(custom(SlowPolicyNet), seed=i).policy) for i in range(6)]
    found: dict[int, bytes] = {}

    def work(i: int) -> None:
        found[i] = weights(build(custom(SlowPolicyNet), seed=i).policy)

    threads = [threading.Thread(target=work, args=(i,)) for i in range(6)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert [found[i] for i in range(6)] == expected


def test_weights_start_orthogonal_with_the_gain_of_their_layer_and_biases_at_zero() -> None:
    model = build(
        custom(FlattenConcatPolicyNetConfig(hidden_units=(8, 8)), critic=CustomModelConfig().critic)
    )
    state = {name.rpartition(".")[2]: array for name, array in model.policy.parameters.items()}
    for rows, gram in (
        (state["hidden_0_weight"].T, 2 * np.eye(4)),  # higher than wide: its columns are orthogonal
        (state["hidden_1_weight"], 2 * np.eye(8)),
        (state["output_weight"], 1e-4 * np.eye(2)),
        (model.critic.parameters["networks.0.output_weight"], np.eye(1)),
    ):
        np.testing.assert_allclose(rows @ rows.T, gram, rtol=1e-5, atol=1e-6 * gram.max())
    assert all(not array.any() for name, array in state.items() if name.endswith("bias"))
    assert {array.dtype for array in state.values()} == {np.dtype(np.float32)}


def test_weights_by_default_of_torch_fill_the_bounds_of_torchs_linear_evenly_biases_too() -> None:
    net = FlattenConcatPolicyNetConfig(hidden_units=(16, 64), weight_init="torch_default")
    program = flatten_concat(OBSERVATIONS[0].spaces, net, 1, 1.0)
    rng = np.random.default_rng(0)
    drawn = [initial_parameters(program, rng) for _ in range(50)]
    for name, theirs in (
        ("hidden_0", torch.nn.Linear(4, 16)),
        ("hidden_1", torch.nn.Linear(16, 64)),
        ("output", torch.nn.Linear(64, 1)),
    ):
        limit = theirs.in_features**-0.5
        for kind, parameter in theirs.named_parameters():
            ours = np.stack([parameters[f"{name}_{kind}"] for parameters in drawn])
            assert ours.shape[1:] == parameter.shape
            assert parameter.abs().max() <= limit
            assert 0.9 * limit < np.abs(ours).max() <= limit
            assert np.std(ours) == pytest.approx(limit / 3**0.5, rel=0.1)


def test_gains_are_those_of_the_settings_and_a_template_ends_as_its_hidden_block_is_made() -> None:
    net = FlattenConcatPolicyNetConfig(hidden_units=(4,), hidden_gain=3.0, output_gain=0.5)
    value = FlattenConcatStateValueNetConfig(hidden_units=(4,), output_gain=2.0)
    model = build(custom(net, critic=StepStateCriticConfig(networks=[value])))
    gains = [[op.gain for op in part.program.dense] for part in (actor(model), model.critic.by_key[0])]
    assert gains == [[3.0, 0.5], [2**0.5, 2.0]]
    for block in ("feature", "hidden"):
        init = {"feature": "orthogonal", "hidden": "orthogonal", block: "torch_default"}
        blocks = {
            name: BlockConfig(block_params=DenseBlockParams(hidden_units=(4,), weight_init=how))
            for name, how in init.items()
        }
        template = ConcatModelBuilderConfig(modality_config=ModalityConfig(**blocks))
        model = build(TemplateModelConfig(model_builder=template))
        drawn = [op.gain for op in actor(model).program.dense]
        assert drawn == ([None, 2**0.5, 0.01] if block == "feature" else [2**0.5, None, None])


def actor(model):
    (network,) = model.policy.steps[0].networks
    return network.logits


def test_every_orthogonal_matrix_is_as_likely_as_every_other() -> None:
    """Without the sign of R's diagonal, LAPACK's Q has a negative diagonal more often than not."""
    program = flatten_concat(OBSERVATIONS[0].spaces, FlattenConcatPolicyNetConfig(hidden_units=(4,)), 1, 1.0)
    rng, n = np.random.default_rng(0), 1000
    diagonals = [np.diagonal(initial_parameters(program, rng)["hidden_0_weight"]) for _ in range(n)]
    assert np.abs(np.mean(np.sign(diagonals), 0)).max() < 4 / np.sqrt(n)


def test_a_composer_made_by_hand_with_published_names_is_a_model_policy() -> None:
    composer = ProbabilisticPolicyComposer(
        action_spaces_dict=ACTIONS,
        observation_spaces_dict=OBSERVATIONS,
        distribution_mapper=DistributionMapper(action_space=ACTIONS[0], distribution_mapper_config={}),
        networks=[POLICY_NET],
        substeps_with_separate_agent_nets=[],
        agent_counts_dict={0: 1},
    )
    by_object = build(CustomModelConfig(policy=composer, critic=None)).policy
    by_dict = build(
        instantiate(
            {
                "_target_": "maze_core.models.config.CustomModelConfig",
                "policy": {
                    "_target_": "maze.perception.models.policies.ProbabilisticPolicyComposer",
                    "networks": [POLICY_NET],
                    "substeps_with_separate_agent_nets": [],
                    "agent_counts_dict": {0: 1},
                },
                "critic": None,
            }
        )
    ).policy
    assert weights(by_object) == weights(by_dict)
    assert by_object.state_dict()["steps.0.agents.0.network.hidden_0_weight"].shape == (24, 4)
    assert weights(composer.compose(3)) == weights(composer.compose(3))


def test_the_spaces_of_the_build_take_the_place_of_a_composers_own() -> None:
    composer = ProbabilisticPolicyComposer(ACTIONS, OBSERVATIONS, None, [POLICY_NET])
    wider = {0: spaces.Dict({"observation": spaces.Box(-1, 1, (9,))})}
    made = build(CustomModelConfig(policy=composer, critic=None), observations=wider).policy
    assert made.state_dict()["steps.0.agents.0.network.hidden_0_weight"].shape == (24, 9)


def test_model_composers_build_what_their_settings_build() -> None:
    critic = StepStateCriticComposer(OBSERVATIONS, [FlattenConcatStateValueNetConfig(hidden_units=(8,))])
    policy = ProbabilisticPolicyComposer(ACTIONS, OBSERVATIONS, None, [POLICY_NET])
    by_hand = CustomModelComposer(ACTIONS, OBSERVATIONS, ONE, [], policy, critic).compose(4)
    settings = custom(
        FlattenConcatPolicyNetConfig(hidden_units=(24, 12)),
        critic=StepStateCriticConfig(networks=[FlattenConcatStateValueNetConfig(hidden_units=(8,))]),
    )
    expected = build(settings, seed=4)
    assert weights(by_hand.policy) == weights(expected.policy)
    assert weights(by_hand.critic) == weights(expected.critic)
    template = TemplateModelComposer(ACTIONS, OBSERVATIONS, ONE, [], critic=StepStateCriticConfig())
    by_settings = build(TemplateModelConfig(critic=StepStateCriticConfig()), seed=4)
    assert weights(template.compose(4).critic) == weights(by_settings.critic)


def test_a_template_has_no_critic_unless_asked() -> None:
    assert build(TemplateModelConfig()).critic is None
    assert build(TemplateModelConfig(critic=StepStateCriticConfig())).critic is not None


def test_each_substep_has_a_network_of_its_own_and_masks_are_no_input() -> None:
    model = build(TemplateModelConfig(critic=StepStateCriticConfig()), TWO_STEPS, TWO_ACTIONS, {0: 1, 1: 1})
    inputs = [{"scene"}, {"scene", "room"}]
    policy = [step.networks[0].logits for step in model.policy.steps.values()]
    for networks in (policy, model.critic.by_key.values()):
        assert [set(network.program.inputs) for network in networks] == inputs


def test_networks_may_be_named_by_substep() -> None:
    named = {
        "1": FlattenConcatPolicyNetConfig(hidden_units=(5,)),
        "0": FlattenConcatPolicyNetConfig(hidden_units=(6,)),
    }
    config = CustomModelConfig(policy=ProbabilisticPolicyComposerConfig(networks=named), critic=None)
    made = build(config, TWO_STEPS, TWO_ACTIONS, {0: 1, 1: 1}).policy
    assert [len(made.parameters[f"steps.{i}.agents.0.network.hidden_0_bias"]) for i in (0, 1)] == [6, 5]


@pytest.mark.parametrize("network", [FlattenConcatStateValueNetConfig(hidden_units=(8,)), SmallValueNet])
def test_a_shared_critic_is_one_network_and_hidden_observations_do_not_matter(network) -> None:
    shown = {0: TWO_STEPS[1], 1: spaces.Dict({"scene": TWO_STEPS[1]["scene"]})}
    critic = SharedStateCriticComposer(shown, [network]).compose(0)
    assert len(critic.prefixes) == 1
    policy = custom(FlattenConcatPolicyNetConfig(), critic=None)
    learner, _ = learner_of(build(policy, shown, TWO_ACTIONS, {0: 1, 1: 1}).policy, critic)
    scene, nobody = np.random.default_rng(0).standard_normal((5, 4)).astype(np.float32), np.zeros(5, int)
    without_room = learner.values(1, {"scene": scene}, nobody)
    with_first_room = learner.values(0, {"scene": scene, "room": np.ones(5, np.int64)}, nobody)
    assert without_room.shape == (5,)
    np.testing.assert_array_equal(without_room, with_first_room)


def test_a_shared_critic_refuses_one_name_for_two_spaces() -> None:
    clash = {0: OBSERVATIONS[0], 1: spaces.Dict({"observation": spaces.Box(-1, 1, (5,))})}
    composer = SharedStateCriticComposer(clash, [FlattenConcatStateValueNetConfig()])
    with pytest.raises(InvalidSpecificationError, match="cannot share a critic"):
        composer.compose(0)


def test_agents_get_networks_of_their_own_where_asked() -> None:
    config = custom(FlattenConcatPolicyNetConfig(hidden_units=(4,)), substeps_with_separate_agent_nets=["0"])
    agents = build(config, agents={0: 3}).policy.steps[0].networks
    assert len(agents) == 3
    first, second = (agent.logits.parameters["hidden_0_weight"] for agent in agents[:2])
    assert not np.array_equal(first, second)
    assert len(build(custom(FlattenConcatPolicyNetConfig()), agents={0: 3}).policy.steps[0].networks) == 1


@pytest.mark.parametrize("entry", [SmallPolicyNet, lambda **shapes: SmallPolicyNet(**shapes, width=3)])
def test_a_module_of_the_users_trains_and_acts_with_equal_rows(entry) -> None:
    model = build(custom(entry, critic=StepStateCriticConfig(networks=[FlattenConcatStateValueNetConfig()])))
    acting = model.policy
    assert acting.needs_torch
    seen = np.random.default_rng(0).standard_normal((11, 4)).astype(np.float32)
    noise = acting.noise(0, np.random.default_rng(1), 11)
    together = acting.act(0, {"observation": seen}, deterministic=False, noise=noise)["action"]
    alone = [
        acting.act(0, {"observation": seen[i : i + 1]}, deterministic=False, noise=noise[i : i + 1])[
            "action"
        ][0]
        for i in range(11)
    ]
    assert together.tolist() == alone
    logits = acting.steps[0].networks[0].logits
    every = logits({"observation": seen})
    assert every.tobytes() == np.concatenate([logits({"observation": row[None]}) for row in seen]).tobytes()
    learner, step = learner_of(model.policy, model.critic)
    found = learner.evaluate(0, {"observation": seen}, {"action": together}, np.zeros(11, int))
    found.backward(*np.eye(3, 11, dtype=np.float32))
    assert all(step.gradients[f"policy/{name}"].any() for name in model.policy.parameters)


def test_a_policy_with_modules_of_the_users_has_no_description_to_act_from() -> None:
    policy = build(custom(SmallPolicyNet)).policy
    assert policy.describe()["kind"] == "module"
    with pytest.raises(CheckpointError, match="Python classes"):
        ActingPolicy.from_description(policy.describe(), policy.parameters)


class ShortPolicyNet(SmallPolicyNet):
    def forward(self, observations):
        return {head: values[:, :1] for head, values in super().forward(observations).items()}


class LeavingPolicyNet(SmallPolicyNet):
    def forward(self, observations):
        raise SystemExit("no device")


@pytest.mark.parametrize(
    ("config", "path", "message"),
    [
        (
            custom(LeavingPolicyNet),
            "model.policy.networks.0",
            "does not run on these observations: SystemExit",
        ),
        (custom(dict), "model.policy.networks.0", "gave a dict"),
        (custom(nn.Tanh), "model.policy.networks.0", "cannot be made from obs_shapes"),
        (custom(ShortPolicyNet), "model.policy.networks.0", "2 wide, not 1"),
        (custom(nn.Identity()), "model.policy.networks.0", "should give 'action'"),
        (
            custom(*[FlattenConcatPolicyNetConfig()] * 2),
            "model.policy.networks",
            "2 networks for 1 sub-steps",
        ),
        (
            CustomModelConfig(policy=ProbabilisticPolicyComposerConfig(networks={"5": SmallPolicyNet})),
            "model.policy.networks",
            "exactly the sub-steps",
        ),
        (
            custom(SmallPolicyNet, agent_counts_dict={0: 2}),
            "model.policy.agent_counts_dict",
            "does not fit the environment",
        ),
        (
            custom(SmallPolicyNet, substeps_with_separate_agent_nets=["x"]),
            "model.policy.substeps_with_separate_agent_nets",
            "no sub-step 'x'",
        ),
    ],
)
def test_what_does_not_fit_is_refused_with_its_path(config, path: str, message: str) -> None:
    with pytest.raises(InvalidSpecificationError) as caught:
        build(config)
    assert caught.value.problems[0].path == path
    assert message in str(caught.value)


def test_one_module_cannot_serve_several_agents_or_substeps() -> None:
    module = SmallPolicyNet({"observation": (4,)}, {"action": (2,)})
    with pytest.raises(InvalidSpecificationError, match="cannot serve 2 agents"):
        build(custom(module, substeps_with_separate_agent_nets=[0]), agents={0: 2})
    two = {0: OBSERVATIONS[0], 1: OBSERVATIONS[0]}
    with pytest.raises(InvalidSpecificationError, match="cannot serve 2 sub-steps"):
        build(custom(module), two, {0: ACTIONS[0], 1: ACTIONS[0]}, {0: 1, 1: 1})


@pytest.mark.parametrize(
    ("observations", "message"),
    [
        (spaces.Dict({"word": spaces.Text(4)}), "'word' is a Text"),
        (spaces.Dict({"action_mask": spaces.MultiBinary(2)}), "no observation that a network reads"),
    ],
)
def test_observations_that_no_network_reads_are_refused(observations: spaces.Dict, message: str) -> None:
    with pytest.raises(InvalidSpecificationError, match=message):
        build(TemplateModelConfig(), {0: observations})


class Trunk(nn.Module):
    """A policy and a critic in one: it gives logits and a value."""

    def __init__(self) -> None:
        super().__init__()
        self.body, self.logits, self.value = nn.Linear(4, 6), nn.Linear(6, 2), nn.Linear(6, 1)

    def forward(self, observations):
        hidden = torch.tanh(self.body(observations["observation"]))
        return {"action": self.logits(hidden), "value": self.value(hidden)}


class OnTop(nn.Module):
    """A head on a trunk that others may stand on too."""

    def __init__(self, trunk: nn.Module, name: str, width: int) -> None:
        super().__init__()
        self.trunk, self.name, self.out = trunk, name, nn.Linear(6, width)

    def forward(self, observations):
        return {self.name: self.out(torch.tanh(self.trunk(observations["observation"])))}


def pair(kind: str) -> tuple[nn.Module, nn.Module]:
    if kind == "one module":
        module = Trunk()
        return module, module
    trunk = nn.Linear(4, 6)
    return OnTop(trunk, "action", 2), OnTop(trunk, "value", 1)


@pytest.mark.parametrize("kind", ["one module", "one trunk"])
@pytest.mark.parametrize("critic", [StepStateCriticConfig, SharedStateCriticConfig])
def test_what_policy_and_critic_share_they_share_when_built(kind: str, critic) -> None:
    """A step of the critic moves the policy; the caller's own modules and every other model stay as they are."""
    for_policy, for_critic = pair(kind)
    given = weights(for_policy)
    config = custom(for_policy, critic=critic(networks=[for_critic]))
    model, other = build(config), build(config)
    learner, step = learner_of(model.policy, model.critic, lr=0.1)
    before = {name: array.copy() for name, array in model.policy.parameters.items()}
    zero, one = np.zeros(1, np.float32), np.ones(1, np.float32)
    rows = {"observation": np.ones((1, 4), np.float32)}, {"action": np.zeros(1, np.int64)}
    learner.evaluate(0, *rows, np.zeros(1, int)).backward(zero, zero, one)
    step.step()
    moved = [
        name for name, array in model.policy.parameters.items() if not np.array_equal(array, before[name])
    ]
    assert moved
    assert all("body" in name or "trunk" in name or "value" in name for name in moved)
    assert weights(for_policy) == weights(other.policy) == given


def test_a_module_in_two_places_of_a_list_is_shared_and_two_modules_are_not() -> None:
    two = {key: OBSERVATIONS[0] for key in (0, 1)}, {key: ACTIONS[0] for key in (0, 1)}, {0: 1, 1: 1}
    one = SmallPolicyNet({"observation": (4,)}, {"action": (2,)})
    again = SmallPolicyNet({"observation": (4,)}, {"action": (2,)})
    n = len(list(one.parameters()))
    assert len(places(build(custom(one, one), *two).policy)) == n
    assert len(places(build(custom(one, again), *two).policy)) == 2 * n


def places(networks) -> set[int]:
    """Where the parameters lie."""
    return {array.__array_interface__["data"][0] for array in networks.parameters.values()}


def test_a_composer_gives_copies_of_its_own_each_time() -> None:
    composer = ProbabilisticPolicyComposer(ACTIONS, OBSERVATIONS, None, networks=[Trunk()])
    first, second = composer.compose(1), composer.compose(1)
    assert not places(first) & places(second)


@pytest.mark.parametrize("dtype", [torch.float64, torch.float16, torch.bfloat16])
def test_a_module_of_another_type_is_refused_by_name(dtype) -> None:
    module = SmallPolicyNet({"observation": (4,)}, {"action": (2,)}).to(dtype)
    with pytest.raises(InvalidSpecificationError, match=r"'body\.weight' of \w*float\d+.*float\(\)"):
        build(custom(module))


@pytest.mark.parametrize(
    "config",
    [
        CustomModelConfig(),
        TemplateModelConfig(critic=StepStateCriticConfig()),
        custom(SmallPolicyNet, critic=StepStateCriticConfig(networks=[SmallValueNet])),
    ],
)
@pytest.mark.parametrize("space", [spaces.Discrete(2), spaces.Box(-1, 1, (2,))])
def test_a_default_type_that_an_environment_set_does_not_reach_the_networks(config, space) -> None:
    actions = {0: spaces.Dict({"action": space})}
    expected = build(config, actions=actions)
    torch.set_default_dtype(torch.float64)
    try:
        model = build(config, actions=actions)
        assert torch.get_default_dtype() == torch.float64, "the setting belongs to whoever made it"
        observation = {"observation": np.full((3, 4), 0.5, np.float32)}
        acted = model.policy.act(0, observation, deterministic=True, noise=None)
    finally:
        torch.set_default_dtype(torch.float32)
    parameters = (*model.policy.parameters.values(), *model.critic.parameters.values())
    assert {array.dtype for array in parameters} == {np.dtype(np.float32)}
    assert weights(model.policy) == weights(expected.policy)
    then = expected.policy.act(0, observation, deterministic=True, noise=None)
    assert np.array_equal(acted["action"], then["action"])


class WideNet(SmallPolicyNet):
    """Adds numbers of the default type, whatever it is."""

    def forward(self, observations):
        return {head: values + torch.zeros(1) for head, values in super().forward(observations).items()}


def test_logits_of_another_type_become_float32() -> None:
    model = build(
        custom(WideNet, critic=StepStateCriticConfig(networks=[FlattenConcatStateValueNetConfig()]))
    )
    learner, _ = learner_of(model.policy, model.critic)
    torch.set_default_dtype(torch.float64)
    try:
        rows = {"observation": np.zeros((2, 4), np.float32)}, {"action": np.array([0, 1])}
        found = learner.evaluate(0, *rows, np.zeros(2, int))
    finally:
        torch.set_default_dtype(torch.float32)
    assert found.log_probs.dtype == np.float32


@pytest.mark.parametrize(
    "config",
    [
        CustomModelConfig(
            policy=ProbabilisticPolicyComposerConfig(
                networks=[FlattenConcatPolicyNetConfig(hidden_units=[])]
            ),
            critic=StepStateCriticConfig(networks=[FlattenConcatStateValueNetConfig(hidden_units=[])]),
        ),
        instantiate(
            {
                "_target_": "TemplateModelConfig",
                "model_builder": {
                    "modality_config": {
                        name: {"block_params": {"hidden_units": []}} for name in ("feature", "hidden")
                    }
                },
                "critic": {"_target_": "StepStateCriticConfig"},
            }
        ),
    ],
)
def test_without_hidden_units_policy_and_critic_are_linear(config) -> None:
    two = {0: spaces.Dict({"a": spaces.Box(-1, 1, (3,)), "b": spaces.Discrete(2)})}
    for observations, width in ((OBSERVATIONS, 4), (two, 5)):
        model = build(config, observations)
        assert [array.shape for array in model.policy.parameters.values()] == [(2, width), (2,)]
        assert [array.shape for array in model.critic.parameters.values()] == [(1, width), (1,)]
    acting = build(config).policy
    copy = ActingPolicy.from_description(acting.describe(), acting.parameters)
    rows = {"observation": np.eye(4, dtype=np.float32)}
    weight, bias = acting.parameters.values()
    expected = (rows["observation"] @ weight.T + bias).argmax(1)
    assert copy.act(0, rows, deterministic=True, noise=None)["action"].tolist() == expected.tolist()
