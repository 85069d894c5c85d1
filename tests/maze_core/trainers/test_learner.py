"""The learner against torch's autograd in float64, whatever the networks are and whoever shares them."""

from dataclasses import replace

import numpy as np
import pytest
import torch
from gymnasium import spaces
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import nn

from maze_core.models.config import (
    CustomModelConfig,
    FlattenConcatPolicyNetConfig,
    FlattenConcatStateValueNetConfig,
    ProbabilisticPolicyComposerConfig,
    SharedStateCriticConfig,
    StepStateCriticConfig,
)
from maze_core.models.graph import GraphNetwork
from maze_core.models.module_network import ModuleNetwork
from maze_core.models.networks import Critic
from maze_core.trainers.a2c_config import A2CAlgorithmConfig
from maze_core.trainers.ppo_config import PPOAlgorithmConfig
from tests.maze_core.models import autograd
from tests.maze_core.trainers.small_worlds import NUMBERS, WORLDS, flat, learner_of, parts, twin_of

SEEN = {
    "pick": spaces.Dict({"scene": spaces.Box(-1, 1, (5,)), "choice_mask": spaces.MultiBinary(3)}),
    1: spaces.Dict({"scene": spaces.Box(-1, 1, (5,)), "room": spaces.Discrete(3)}),
}
DONE = {
    "pick": spaces.Dict({"choice": spaces.Discrete(3, start=1), "arm": spaces.Box(-1, 1, (2,))}),
    1: spaces.Dict({"gears": spaces.MultiDiscrete([2, 3]), "lamps": spaces.MultiBinary(2)}),
}


class Program(nn.Module):
    """The program of a network of ours, computed by torch: to the library a module of the user's."""

    def __init__(self, network: GraphNetwork) -> None:
        super().__init__()
        self.program = network.program
        self.own = nn.ParameterDict()  # filled in the order of the program: a whole dict would be sorted
        for name, array in network.parameters.items():
            self.own[name] = nn.Parameter(torch.from_numpy(array.copy()))

    def forward(self, observations):
        parameters = {name: p.double() for name, p in self.own.items()}
        seen = {name: x.numpy() for name, x in observations.items()}
        return {"all": autograd.program_output(self.program, parameters, seen)}


def as_module(network: GraphNetwork) -> ModuleNetwork:
    return ModuleNetwork(Program(network), {"all": network.program.n_out})


def by_torch(model, *, policy: bool = True, critic: bool = True):
    """The model, its programs computed by torch's autograd from now on."""
    for step in model.policy.steps.values() if policy else ():
        for agent in step.networks:
            agent.logits = as_module(agent.logits)
    if not critic:
        return model
    made = {network: as_module(network) for network in model.critic.prefixes}
    networks = {key: made[network] for key, network in model.critic.by_key.items()}
    return replace(model, critic=Critic(networks, model.critic.fill))


def model_of(hidden=(6, 4), critic_hidden=(6, 4), *, shared=False, separate=False):
    value = FlattenConcatStateValueNetConfig(hidden_units=critic_hidden)
    config = CustomModelConfig(
        policy=ProbabilisticPolicyComposerConfig(
            networks=[FlattenConcatPolicyNetConfig(hidden_units=hidden)],
            substeps_with_separate_agent_nets=["pick"] if separate else [],
        ),
        critic=(SharedStateCriticConfig if shared else StepStateCriticConfig)(networks=[value]),
    )
    model = config.build(SEEN, DONE, {"pick": 3, 1: 1}, generator_seed=4)
    rng = np.random.default_rng(1)
    for parameter in (*model.policy.parameters.values(), *model.critic.parameters.values()):
        parameter += 0.3 * rng.standard_normal(parameter.shape, np.float32)
    return model


def rows_of(key, n: int):
    SEEN[key].seed(2)
    DONE[key].seed(3)
    seen, done = ([space[key].sample() for _ in range(n)] for space in (SEEN, DONE))
    observations = {name: np.stack([np.asarray(row[name]) for row in seen]) for name in seen[0]}
    actions = {name: np.stack([np.asarray(row[name]) for row in done]) for name in done[0]}
    if key == "pick":
        observations["choice_mask"][np.arange(n), actions["choice"] - 1] = 1
    return observations, actions, np.arange(n) % 3 if key == "pick" else np.zeros(n, int)


KINDS = {
    "equal layers": {},
    "no layers": {"hidden": (), "critic_hidden": ()},
    "other layers": {"critic_hidden": (7,)},
    "shared critic": {"shared": True},
    "an agent each": {"separate": True},
}


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("who", ["dense", "policy by torch", "critic by torch", "both by torch"])
def test_gradients_of_all_sub_steps_add_up_to_those_of_autograd(kind: str, who: str) -> None:
    model = model_of(**KINDS[kind])
    if who != "dense":
        model = by_torch(model, policy=who != "critic by torch", critic=who != "policy by torch")
    learner, step = learner_of(model.policy, model.critic)
    step.zero()
    leaf = autograd.Leaves(model.policy, model.critic)
    loss = torch.zeros((), dtype=torch.float64)
    rng = np.random.default_rng(0)
    for key, n in (("pick", 7), (1, 4)):
        rows = rows_of(key, n)
        upstream = rng.standard_normal((3, n)).astype(np.float32)
        found = learner.evaluate(key, *rows)
        log_probs, entropy = autograd.log_probs_and_entropy(model.policy, key, *rows, leaf)
        values = autograd.values(model.critic, key, rows[0], leaf)
        expected = (log_probs, entropy, values)
        for ours, theirs in zip((found.log_probs, found.entropy, found.values), expected, strict=True):
            assert ours.dtype == np.float32
            np.testing.assert_allclose(ours, theirs.detach().numpy(), rtol=2e-5, atol=2e-6)
        np.testing.assert_allclose(learner.values(key, rows[0], rows[2]), found.values, rtol=1e-5, atol=1e-6)
        found.backward(*upstream)
        for d, result in zip(upstream, expected, strict=True):
            loss = loss + (torch.from_numpy(d) * result).sum()
    gradients = torch.autograd.grad(loss, [leaf(parameter) for parameter in step.parameters.values()])
    for ours, theirs in zip(step.gradients.values(), gradients, strict=True):
        np.testing.assert_allclose(ours, theirs.numpy(), rtol=2e-5, atol=2e-6)


def test_equal_layers_of_policy_and_critic_are_computed_together_and_others_apart() -> None:
    together = {kind: learner_of(*both(kind))[0]._steps["pick"]._policy_and_critic for kind in KINDS}
    assert {kind for kind, nets in together.items() if nets is not None} == {"equal layers", "no layers"}


def both(kind: str):
    model = model_of(**KINDS[kind])
    return model.policy, model.critic


def test_agents_that_did_not_act_learn_nothing() -> None:
    model = model_of(separate=True)
    learner, step = learner_of(model.policy, model.critic)
    observations, actions, _ = rows_of("pick", 6)
    one = np.ones(6, np.float32)
    learner.evaluate("pick", observations, actions, np.array([2, 2, 2, 0, 0, 2])).backward(one, one, one)
    touched = [
        any(gradient.any() for name, gradient in step.gradients.items() if f".agents.{agent}." in name)
        for agent in range(3)
    ]
    assert touched == [True, False, True]


class Both(nn.Module):
    """Logits and a value from one trunk, of which some may be frozen."""

    def __init__(self, frozen: str = "") -> None:
        super().__init__()
        self.body, self.out = nn.Linear(2, 8), nn.Linear(8, 3)
        for name, parameter in self.named_parameters():
            parameter.requires_grad = not frozen or frozen not in name

    def forward(self, observations):
        logits, value = self.out(torch.tanh(self.body(observations["observation"]))).split([2, 1], dim=1)
        return {"action": logits, "value": value}


@pytest.mark.parametrize("frozen", ["", "body", "."])
def test_one_module_for_policy_and_critic_learns_from_both_and_what_is_frozen_stays(frozen: str) -> None:
    module = Both(frozen)
    policy = ProbabilisticPolicyComposerConfig(networks=[module])
    model = CustomModelConfig(policy=policy, critic=StepStateCriticConfig(networks=[module])).build(
        {0: spaces.Dict({"observation": NUMBERS})},
        {0: spaces.Dict({"action": spaces.Discrete(2)})},
        {0: 1},
        generator_seed=0,
    )
    learner, step = learner_of(model.policy, model.critic)
    step.zero()
    assert len({array.__array_interface__["data"] for array in step.gradients.values()}) == 4
    rows = {"observation": np.float32([[1, 2], [3, -1]])}, {"action": np.array([0, 1])}
    upstream = np.float32([[1, 2], [3, 4], [5, 6]])
    learner.evaluate(0, *rows, np.zeros(2, int)).backward(*upstream)
    log_probs, entropy = autograd.log_probs_and_entropy(model.policy, 0, *rows)
    values = autograd.values(model.critic, 0, rows[0])
    leaf = autograd.Leaves(model.policy)
    learning = [p for p in map(leaf, model.policy.parameters.values()) if p.requires_grad]
    loss = sum(
        (torch.from_numpy(d) * x).sum() for d, x in zip(upstream, (log_probs, entropy, values), strict=True)
    )
    expected = dict(zip(learning, torch.autograd.grad(loss, learning), strict=True)) if learning else {}
    for name, gradient in step.gradients.items():
        parameter = leaf(step.parameters[name])
        if parameter in expected:
            np.testing.assert_allclose(gradient, expected[parameter].numpy(), rtol=1e-5, atol=1e-6)
        else:
            assert not gradient.any()


@settings(max_examples=15, deadline=None)
@given(
    world=st.sampled_from(sorted(WORLDS)),
    config=st.sampled_from([A2CAlgorithmConfig, PPOAlgorithmConfig]),
    hidden=st.sampled_from([[], [5], [6, 4]]),
    passes=st.integers(1, 4),
    seed=st.integers(0, 1000),
)
def test_updates_by_hand_and_by_autograd_give_the_same_weights(world, config, hidden, passes, seed) -> None:
    model = CustomModelConfig(
        policy=ProbabilisticPolicyComposerConfig(
            networks=[FlattenConcatPolicyNetConfig(hidden_units=hidden)]
        ),
        critic=StepStateCriticConfig(networks=[FlattenConcatStateValueNetConfig(hidden_units=hidden)]),
    )
    given = {"n_rollout_steps": 10, "lr": 0.003, "entropy_coef": 0.01}
    if config is PPOAlgorithmConfig:
        given |= {"n_optimization_epochs": passes, "batch_size": 8}
    ends = []
    for to_model in (lambda made: made, by_torch):
        made = parts(WORLDS[world], seed=seed, model=model)
        twin = to_model(made)
        made.policy, made.critic = twin.policy, twin.critic
        trainer = config(**given).build(made)
        trainer.reset_envs([seed, seed + 1])
        reports = [trainer.update(epoch=0, progress=0.0).metrics for _ in range(3)]
        ends.append((flat(trainer.policy), flat(trainer.critic), reports))
    for ours, theirs in zip(ends[0][:2], ends[1][:2], strict=True):
        # a first step is lr · g / (|g| + ε): of a g near 0, a rounding of 1e-8 counts lr/ε = 300 times
        np.testing.assert_allclose(ours, theirs, rtol=1e-6, atol=5e-6)
    for mine, yours in zip(ends[0][2], ends[1][2], strict=True):
        assert mine == pytest.approx(yours, rel=1e-3, abs=1e-5)


@pytest.mark.parametrize("own", ["policy", "critic"])
def test_a_torch_module_beside_a_dense_net_learns_what_two_dense_nets_learn(own):
    weights = []
    for is_mixed in (False, True):
        given = parts()
        if is_mixed and own == "policy":
            (actor,) = given.policy.steps[0].networks
            actor.logits = twin_of(actor.logits)
        elif is_mixed:
            given.critic = Critic({0: twin_of(given.critic.by_key[0])})
        trainer = PPOAlgorithmConfig(n_rollout_steps=6, batch_size=4).build(given)
        assert trainer.learner.needs_torch == is_mixed
        trainer.reset_envs([0, 1])
        trainer.update(epoch=0, progress=0.0)
        weights.append(np.sort(trainer.optimizer.flat))
    np.testing.assert_allclose(weights[1], weights[0], rtol=1e-3, atol=1e-5)
