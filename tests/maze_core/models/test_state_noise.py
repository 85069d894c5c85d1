"""State-dependent noise: samples, log-probabilities and gradients by its definition, networks that show features."""

import json

import numpy as np
import pytest
import torch
from gymnasium import spaces
from hypothesis import given
from hypothesis import strategies as st

from maze_core.errors import InvalidSpecificationError
from maze_core.models.acting import ActingPolicy
from maze_core.models.config import (
    ConcatModelBuilderConfig,
    CustomModelConfig,
    DistributionRule,
    FlattenConcatPolicyNetConfig,
    GaussianArgs,
    ModelNeeds,
    ProbabilisticPolicyComposerConfig,
    TemplateModelConfig,
)
from maze_core.models.dense import scores
from maze_core.models.heads import MEAN_LIMIT, StateNoiseHead, deviation, parts_of
from maze_core.models.state_noise import squashed_state_noise
from tests.maze_core.models.autograd import head_scores, state_deviation

NOISE = GaussianArgs(state_dependent_noise=True)
SQUASHED = ModelNeeds(distributions={"Box": "squashed_gaussian"}, critic=None, algorithm="sac")
SEEN, DONE = (
    {0: spaces.Dict({"x": spaces.Box(-1, 1, (3,))})},
    {0: spaces.Dict({"a": spaces.Box(-1, 1, (2,))})},
)
sizes, seeds = st.integers(1, 5), st.integers(0, 2**16)


def head_of(n: int, n_features: int, **settings) -> StateNoiseHead:
    return StateNoiseHead(name="a", shape=(n,), n_features=n_features, **settings)


def drawn(head: StateNoiseHead, n_rows: int, seed: int):
    """Output ``[n + F, N]`` with means within ± their limit, and log-stds on both sides of 0."""
    rng = np.random.default_rng(seed)
    output = rng.standard_normal((head.logits_width, n_rows)).astype(np.float32)
    return output, (0.7 * rng.standard_normal(head.parameter_width)).astype(np.float32), rng


@given(n=sizes, n_features=sizes, n_rows=sizes, use_expln=st.booleans(), seed=seeds)
def test_log_probs_entropies_and_their_gradients_are_those_of_a_gaussian_with_variance_of_the_features(
    n: int, n_features: int, n_rows: int, use_expln: bool, seed: int
) -> None:
    head = head_of(n, n_features, use_expln=use_expln)
    output, log_std, rng = drawn(head, n_rows, seed)
    action = rng.standard_normal((n_rows, n)).astype(np.float32)
    d_log_prob, d_entropy = rng.standard_normal((2, n_rows)).astype(np.float32)
    output[n:] += np.where(output[n:] < 0, np.float32(-0.3), np.float32(0.3))  # beside 0 all is rounding
    d_log_std = np.ones_like(log_std)
    found = scores(parts_of([head]), output, {}, {"a": action}, log_std, d_log_std)
    d_mean = found.pull(d_log_prob, d_entropy)

    theirs = torch.from_numpy(output.T.astype(np.float64)).requires_grad_()
    leaf = torch.from_numpy(log_std.astype(np.float64)).requires_grad_()
    log_prob, entropy = head_scores(head, theirs, torch.from_numpy(action), None, leaf)
    torch.autograd.backward(
        [log_prob, entropy], [torch.from_numpy(d).double() for d in (d_log_prob, d_entropy)]
    )
    for ours, expected in ((found.log_prob, log_prob), (found.entropy, entropy)):
        np.testing.assert_allclose(ours, expected.detach().numpy(), rtol=1e-4, atol=1e-4)
    assert theirs.grad is not None
    assert leaf.grad is not None
    size = max(1.0, float(theirs.grad.abs().max())) ** 2  # gradients of ((a - μ)/σ)² are as exact as that is
    np.testing.assert_allclose(d_mean / size, theirs.grad.numpy().T[:n] / size, rtol=1e-4, atol=1e-5)
    np.testing.assert_allclose((d_log_std - 1) / size, leaf.grad.numpy() / size, rtol=1e-3, atol=1e-4)
    assert found.pull(d_log_prob, None).shape == (n, n_rows), "features learn from the mean alone"


@given(n=sizes, n_features=sizes, n_rows=sizes, use_expln=st.booleans(), seed=seeds)
def test_squashed_samples_have_the_density_and_the_gradients_of_their_definition(
    n: int, n_features: int, n_rows: int, use_expln: bool, seed: int
) -> None:
    head = head_of(n, n_features, squashed=True, use_expln=use_expln)
    output, log_std, rng = drawn(head, n_rows, seed)
    output[n:] += np.where(output[n:] < 0, np.float32(-0.3), np.float32(0.3))
    noise = rng.standard_normal((n_features, n)).astype(np.float32)
    d_action, d_log_prob = rng.standard_normal((n, n_rows)), rng.standard_normal(n_rows)
    d_log_std = np.ones_like(log_std)
    action, log_prob, pull = squashed_state_noise(head, output, noise, log_std, d_log_std)

    theirs = torch.tensor(output, dtype=torch.float64, requires_grad=True)
    leaf = torch.tensor(log_std, dtype=torch.float64, requires_grad=True)
    mean, features = theirs[:n].clamp(-MEAN_LIMIT, MEAN_LIMIT), theirs[n:]
    std = state_deviation(leaf.reshape(n_features, n), use_expln)
    u = mean + (std * torch.tensor(noise)).T @ features
    normal = torch.distributions.Normal(mean, ((std**2).T @ features**2 + 1e-6).sqrt())
    slope = 2 * (np.log(2) - u - torch.nn.functional.softplus(-2 * u))
    expected = (normal.log_prob(u) - slope).sum(0)
    (torch.tensor(d_action) * u.tanh()).sum().add((torch.tensor(d_log_prob) * expected).sum()).backward()
    d_output = pull(d_action.astype(np.float32), d_log_prob.astype(np.float32))
    np.testing.assert_allclose(action, u.tanh().detach(), rtol=1e-5, atol=1e-5)
    np.testing.assert_allclose(log_prob, expected.detach(), rtol=1e-3, atol=1e-3)
    assert theirs.grad is not None
    assert leaf.grad is not None
    size = max(1.0, float(theirs.grad.abs().max()))
    np.testing.assert_allclose(d_output / size, theirs.grad / size, rtol=2e-3, atol=1e-3)
    np.testing.assert_allclose((d_log_std - 1) / size, leaf.grad / size, rtol=2e-3, atol=2e-3)
    rows = output.T, noise.reshape(1, -1).repeat(n_rows, 0), log_std
    np.testing.assert_allclose(action.T, head.sample(*rows), rtol=1e-5, atol=1e-5)
    np.testing.assert_allclose(head.mode(output.T), np.tanh(mean.detach().numpy().T), rtol=1e-6)


def test_given_actions_behind_tanh_are_scored_as_samples_are_and_no_mean_learns_beyond_its_limit() -> None:
    head = head_of(2, 3, squashed=True)
    output, log_std, rng = drawn(head, 4, 2)
    output[0] = [-2.5, -0.5, 1.0, 2.5]
    noise = 0.3 * rng.standard_normal((3, 2)).astype(np.float32)
    d_log_std = [np.zeros_like(log_std) for _ in range(3)]
    action, log_prob, _ = squashed_state_noise(head, output, noise, log_std, d_log_std[0])
    found = scores(parts_of([head]), output, {}, {"a": action.T}, log_std, d_log_std[1])
    np.testing.assert_allclose(found.log_prob, log_prob, rtol=1e-3, atol=1e-3)
    before = {"a": np.arctanh(action).T}
    limited = np.concatenate((output[:2].clip(-2, 2), output[2:]))
    plain = scores(parts_of([head_of(2, 3)]), limited, {}, before, log_std, d_log_std[2])
    ones = np.ones(4, np.float32)
    d_mean, expected = found.pull(ones, None), plain.pull(ones, None)
    expected[0, [0, 3]] = 0
    np.testing.assert_allclose(d_mean, expected, rtol=1e-3, atol=1e-3)
    np.testing.assert_allclose(d_log_std[1], d_log_std[2], rtol=1e-3, atol=1e-3)


def test_a_mean_behind_tanh_learns_within_its_limit_and_on_its_edges() -> None:
    head, zero = head_of(5, 1, squashed=True), np.zeros((1, 5), np.float32)
    output = np.array([[-2.1], [-2.0], [0.0], [2.0], [2.1], [0.0]], np.float32)
    action, _, pull = squashed_state_noise(head, output, zero, zero[0], zero[0].copy())
    assert action[:, 0].tolist() == pytest.approx(np.tanh([-2, -2, 0, 2, 2]).tolist())
    learns = pull(np.ones((5, 1), np.float32), np.zeros(1, np.float32))[:5, 0] != 0
    assert learns.tolist() == [False, True, True, True, False]


def test_noise_by_hand() -> None:
    """Means 1 and -1, features 2 and 3: 1 + 2·ε₁₁ + 3·2·ε₂₁ and -1 + 2·ε₁₂ + 3·2·ε₂₂, with σ 1 and 2."""
    head = head_of(2, 2)
    logits, log_std = np.float32([[1, -1, 2, 3]]), np.log(np.float32([1, 1, 2, 2]))
    drawn = head.sample(logits, np.array([[0.5, 0.0, 0.25, -1.0]]), log_std)
    assert drawn.tolist() == [[1 + 1 + 1.5, -1 - 6]]
    assert drawn.dtype == np.float32
    assert head.mode(logits).tolist() == [[1, -1]]


def test_over_all_matrices_an_action_has_the_mean_and_the_variance_that_it_is_scored_with() -> None:
    head = head_of(2, 3)
    output, log_std, rng = drawn(head, 1, 4)
    n = 20_000
    actions = head.sample(output.T.repeat(n, 0), rng.standard_normal((n, head.noise_width)), log_std)
    variance = (output[2:, 0] ** 2) @ np.exp(2 * log_std.reshape(3, 2))
    np.testing.assert_allclose(actions.mean(0), output[:2, 0], atol=4 * np.sqrt(variance.max() / n))
    np.testing.assert_allclose(actions.var(0), variance, rtol=0.05)


def test_expln_is_the_exponential_up_to_1_and_a_logarithm_above() -> None:
    log_std = np.float32([-3.0, -0.5, 0.0, 1.0, 4.0])
    std, slope = deviation(log_std, True)
    np.testing.assert_allclose(std, [np.exp(-3), np.exp(-0.5), 1, 1 + np.log(2), 1 + np.log(5)], rtol=1e-6)
    np.testing.assert_allclose(slope, [np.exp(-3), np.exp(-0.5), 1, 1 / 2, 1 / 5], rtol=1e-6)
    assert all(np.array_equal(part, np.exp(log_std)) for part in deviation(log_std, False))


def policy_of(hidden=(4,), args=NOISE, needs=None, **rest) -> ActingPolicy:
    networks = ProbabilisticPolicyComposerConfig(networks=[FlattenConcatPolicyNetConfig(hidden_units=hidden)])
    model = CustomModelConfig(policy=networks, gaussian=args, **rest)
    return model.build(SEEN, DONE, {0: 1}, generator_seed=3, needs=needs).policy


@pytest.mark.parametrize(("hidden", "n_features"), [((4,), 4), ((5, 6), 6), ((), 3)])
def test_features_are_what_the_last_layer_reads_and_each_has_a_log_std_per_number(hidden, n_features) -> None:
    acting = policy_of(hidden)
    (head,) = acting.steps[0].heads
    (network,) = acting.steps[0].networks
    assert (head.n_features, head.noise_width) == (n_features, 2 * n_features)
    assert network.parameter.tolist() == [0.0] * 2 * n_features
    x = np.random.default_rng(0).standard_normal((9, 3)).astype(np.float32)
    output = network.logits({"x": x})
    last, seen = network.logits.program.dense[-1], x
    for op in network.logits.program.dense[:-1]:
        seen = np.tanh(seen @ network.logits.parameters[op.weight].T)
    np.testing.assert_allclose(output[:, 2:], seen, rtol=1e-5, atol=1e-6)
    np.testing.assert_allclose(
        output[:, :2], seen @ network.logits.parameters[last.weight].T, rtol=1e-4, atol=1e-6
    )


def test_a_template_shows_its_features_too() -> None:
    model = TemplateModelConfig(model_builder=ConcatModelBuilderConfig(), gaussian=NOISE)
    (head,) = model.build(SEEN, DONE, {0: 1}, generator_seed=3).policy.steps[0].heads
    assert head.n_features == 128


@pytest.mark.parametrize(
    ("given", "needs", "expected"),
    [(None, None, 0.0), (None, SQUASHED, -3.0), (-1.5, None, -1.5), (0.0, SQUASHED, 0.0)],
)
def test_log_stds_begin_as_they_are_told_or_low_behind_tanh(given, needs, expected) -> None:
    acting = policy_of(args=GaussianArgs(state_dependent_noise=True, initial_log_std=given), needs=needs)
    assert set(acting.steps[0].networks[0].parameter.tolist()) == {expected}
    assert acting.steps[0].heads[0].squashed == (needs is SQUASHED)


@pytest.mark.parametrize("needs", [None, SQUASHED])
@given(rows=st.lists(st.integers(0, 19), min_size=1, max_size=20))
def test_a_row_acts_by_its_own_matrix_and_a_description_acts_with_the_same_bits(needs, rows) -> None:
    acting = policy_of(args=GaussianArgs(state_dependent_noise=True, initial_log_std=0.0), needs=needs)
    arrays = {name: array.copy() for name, array in acting.state_dict().items()}
    again = ActingPolicy.from_description(json.loads(json.dumps(acting.describe())), arrays)
    x = np.random.default_rng(0).standard_normal((20, 3)).astype(np.float32)
    noise = acting.noise(0, np.random.default_rng(1), 20)
    everything = acting.act(0, {"x": x}, deterministic=False, noise=noise)["a"]
    some = again.act(0, {"x": x[rows]}, deterministic=False, noise=noise[rows])["a"]
    assert some.tobytes() == everything[rows].tobytes()
    assert not np.array_equal(everything, acting.act(0, {"x": x}, deterministic=True, noise=None)["a"])


class Own(torch.nn.Module):
    def forward(self, seen):
        return seen["x"][:, :2]


def test_networks_that_show_no_features_and_several_heads_are_refused() -> None:
    own = ProbabilisticPolicyComposerConfig(networks=[Own()])
    with pytest.raises(
        InvalidSpecificationError, match="shows no features, which state_dependent_noise needs"
    ):
        CustomModelConfig(policy=own, gaussian=NOISE).build(SEEN, DONE, {0: 1}, generator_seed=0)
    two = {0: spaces.Dict({"a": spaces.Box(-1, 1, (2,)), "b": spaces.Discrete(2)})}
    with pytest.raises(InvalidSpecificationError, match="2 action heads; state_dependent_noise is for one"):
        CustomModelConfig(gaussian=NOISE).build(SEEN, two, {0: 1}, generator_seed=0)


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"state_dependent_noise": True, "state_dependent_std": True}, "either"),
        ({"noise_ticks": 4}, "which is off"),
        ({"use_expln": True}, "which is off"),
    ],
)
def test_settings_that_exclude_each_other_are_refused(settings, message) -> None:
    with pytest.raises(InvalidSpecificationError, match=message):
        GaussianArgs(**settings)


def test_a_policy_that_has_no_distribution_is_refused() -> None:
    needs = ModelNeeds(distributions={"Box": "deterministic"}, critic=None)
    with pytest.raises(
        InvalidSpecificationError, match=r"^model\.gaussian: .*deterministic takes rescale alone"
    ):
        policy_of(needs=needs)


def test_actions_that_are_no_numbers_are_not_explored_smoothly() -> None:
    steps = {0: spaces.Dict({"a": spaces.Discrete(2)})}
    with pytest.raises(InvalidSpecificationError, match=r"^model\.gaussian: .*no action of this environment"):
        CustomModelConfig(gaussian=NOISE).build(SEEN, steps, {0: 1}, generator_seed=0)


def test_a_rule_for_a_head_behind_tanh_may_have_args() -> None:
    rule = DistributionRule(action_head="a", distribution="squashed_gaussian", args=NOISE)
    acting = policy_of(args=GaussianArgs(), needs=SQUASHED, distribution_mapper_config=(rule,))
    assert isinstance(acting.steps[0].heads[0], StateNoiseHead)
