"""Log-probabilities and entropies against torch.distributions, summed, and exact under masks."""

import numpy as np
import pytest
import torch
from gymnasium import spaces
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor, distributions

from maze_core.errors import InvalidSpecificationError
from maze_core.models.distributions import apply_mask, gaussian_logits, log_prob_and_entropy
from maze_core.models.heads import (
    BernoulliHead,
    CategoricalHead,
    DistributionMapper,
    GaussianHead,
    Head,
    MultiCategoricalHead,
)

sizes = st.integers(1, 6)
seeds = st.integers(0, 2**16)


def normal(seed: int, *shape: int, scale: float = 2.0) -> Tensor:
    return scale * torch.randn(shape, generator=torch.Generator().manual_seed(seed))


def integers(seed: int, high: int, n_rows: int) -> Tensor:
    return torch.randint(0, high, (n_rows,), generator=torch.Generator().manual_seed(seed))


def assert_same(head: Head, logits: Tensor, action: Tensor, log_prob: Tensor, entropy: Tensor) -> None:
    ours = log_prob_and_entropy(head, logits, action)
    torch.testing.assert_close(ours, (log_prob, entropy), rtol=1e-5, atol=1e-5)


@given(n_rows=sizes, n=sizes, start=st.integers(-2, 3), seed=seeds)
def test_categorical_is_torchs(n_rows: int, n: int, start: int, seed: int) -> None:
    logits, index = normal(seed, n_rows, n), integers(seed, n, n_rows)
    theirs = distributions.Categorical(logits=logits)
    head = CategoricalHead(name="a", n=n, start=start)
    assert_same(head, logits, index + start, theirs.log_prob(index), theirs.entropy())


@given(n_rows=sizes, choices=st.lists(sizes, min_size=1, max_size=4), seed=seeds)
def test_multi_categorical_is_the_sum_of_its_choices(n_rows: int, choices: list[int], seed: int) -> None:
    logits = normal(seed, n_rows, sum(choices))
    actions = torch.stack([integers(seed + i, n, n_rows) for i, n in enumerate(choices)], dim=1)
    theirs = [distributions.Categorical(logits=part) for part in logits.split(choices, dim=1)]
    log_prob = torch.stack([d.log_prob(actions[:, i]) for i, d in enumerate(theirs)]).sum(0)
    entropy = torch.stack([d.entropy() for d in theirs]).sum(0)
    n = len(choices)
    head = MultiCategoricalHead(name="a", shape=(n,), sizes=tuple(choices), starts=(0,) * n)
    assert_same(head, logits, actions, log_prob, entropy)


@given(n_rows=sizes, n=sizes, seed=seeds)
def test_bernoulli_is_the_sum_of_its_bits(n_rows: int, n: int, seed: int) -> None:
    logits = normal(seed, n_rows, n)
    bits = (normal(seed + 1, n_rows, n) > 0).to(torch.int8)
    theirs = distributions.Bernoulli(logits=logits)
    log_prob = theirs.log_prob(bits.float()).sum(1)
    assert_same(BernoulliHead(name="a", shape=(n,)), logits, bits, log_prob, theirs.entropy().sum(1))


@given(n_rows=sizes, n=sizes, seed=seeds)
def test_gaussian_is_the_sum_of_its_dimensions(n_rows: int, n: int, seed: int) -> None:
    mean, log_std = normal(seed, n_rows, n), normal(seed + 1, n_rows, n, scale=0.5)
    action = normal(seed + 2, n_rows, n)
    theirs = distributions.Normal(mean, log_std.exp())
    logits = torch.cat((mean, log_std), dim=1)
    expected = theirs.log_prob(action).sum(1)
    assert_same(GaussianHead(name="a", shape=(n,)), logits, action, expected, theirs.entropy().sum(1))


def test_a_gaussian_by_hand() -> None:
    """Two standard normal numbers at 0: log p = -log 2π, entropy 1 + log 2π; not their means."""
    logits, action = torch.zeros(1, 4), torch.zeros(1, 2)
    log_prob, entropy = log_prob_and_entropy(GaussianHead(name="a", shape=(2,)), logits, action)
    assert log_prob.item() == pytest.approx(-np.log(2 * np.pi))
    assert entropy.item() == pytest.approx(1 + np.log(2 * np.pi))


@given(n_rows=sizes, n=st.integers(2, 6), seed=seeds)
def test_a_masked_action_has_probability_zero_and_the_rest_is_renormalised(
    n_rows: int, n: int, seed: int
) -> None:
    logits = normal(seed, n_rows, n)
    mask = (normal(seed + 1, n_rows, n) > 0).to(torch.int8)
    mask[torch.arange(n_rows), integers(seed, n, n_rows)] = 1
    masked = apply_mask(logits, mask)
    head = CategoricalHead(name="a", n=n)
    log_probs = [log_prob_and_entropy(head, masked, torch.full((n_rows,), a))[0] for a in range(n)]
    probabilities = torch.stack(log_probs, 1).exp()
    assert torch.all(probabilities[mask == 0] == 0.0)
    expected = logits.exp() * mask / (logits.exp() * mask).sum(1, keepdim=True)
    torch.testing.assert_close(probabilities, expected, rtol=1e-5, atol=1e-6)


def test_gradients_under_a_mask_are_finite_and_zero_for_masked_logits() -> None:
    logits = normal(0, 4, 3).requires_grad_()
    mask = torch.tensor([[1, 0, 1], [0, 1, 0], [1, 1, 1], [0, 0, 0]])
    masked, actions = apply_mask(logits, mask), torch.tensor([0, 1, 2, 0])
    log_prob, entropy = log_prob_and_entropy(CategoricalHead(name="a", n=3), masked, actions)
    (log_prob.sum() + entropy.sum()).backward()
    assert logits.grad is not None
    assert torch.isfinite(logits.grad).all()
    assert torch.all(logits.grad[mask == 0] == 0)
    assert entropy[1].item() == 0.0


def test_a_log_std_from_the_network_is_clipped_and_a_parameter_is_not() -> None:
    wide = gaussian_logits(
        torch.tensor([[0.0, 50.0]]), None, GaussianHead(name="a", shape=(1,), state_dependent_std=True)
    )
    given_log_std = gaussian_logits(
        torch.tensor([[0.0]]), torch.tensor([3.0]), GaussianHead(name="a", shape=(1,))
    )
    assert wide.tolist() == [[0.0, 2.0]]
    assert given_log_std.tolist() == [[0.0, 3.0]]


ACTIONS = spaces.Dict(
    {
        "arm": spaces.Box(-1, 1, (2,)),
        "door": spaces.Discrete(3),
        "gears": spaces.MultiDiscrete([2, 4]),
        "lamps": spaces.MultiBinary(5),
    }
)


def test_each_space_has_a_default_distribution() -> None:
    heads = DistributionMapper(ACTIONS, {}).heads(ACTIONS, {})
    assert {head.name: type(head) for head in heads} == {
        "arm": GaussianHead,
        "door": CategoricalHead,
        "gears": MultiCategoricalHead,
        "lamps": BernoulliHead,
    }


def test_a_rule_for_the_head_wins_over_one_for_the_space() -> None:
    rules = [
        {
            "action_space": "gymnasium.spaces.Box",
            "distribution": "diagonal_gaussian",
            "args": {"initial_log_std": -1.0},
        },
        {"action_head": "arm", "distribution": "diagonal_gaussian", "args": {"state_dependent_std": True}},
    ]
    head = DistributionMapper(ACTIONS, rules).heads(ACTIONS, {})[0]
    assert head == GaussianHead(name="arm", shape=(2,), state_dependent_std=True)
    by_space = DistributionMapper(ACTIONS, rules[:1]).heads(ACTIONS, {})[0]
    assert by_space == GaussianHead(name="arm", shape=(2,), initial_log_std=-1.0)


def test_a_mask_among_the_observations_makes_a_masked_head() -> None:
    space = spaces.Dict({"door": spaces.Discrete(3)})
    assert DistributionMapper().heads(space, {"door_mask": spaces.MultiBinary(3)}) == (
        CategoricalHead(name="door", n=3, masked=True),
    )
    with pytest.raises(InvalidSpecificationError, match="'door_mask' should be 3 wide"):
        DistributionMapper().heads(space, {"door_mask": spaces.MultiBinary(4)})


def test_a_numbers_head_has_no_mask() -> None:
    space = spaces.Dict({"arm": spaces.Box(-1, 1, (2,))})
    assert DistributionMapper().heads(space, {"arm_mask": spaces.MultiBinary(2)}) == (
        GaussianHead(name="arm", shape=(2,)),
    )


@pytest.mark.parametrize(
    ("rules", "message"),
    [
        (
            [{"action_head": "door", "distribution": "diagonal_gaussian"}],
            "does not fit the action head 'door'",
        ),
        ([{"action_head": "door", "distribution": "beta"}], "distribution_mapper_config.0.distribution"),
        ([{"distribution": "categorical"}], "either action_space or action_head"),
        ([{"action_head": "door", "distribution": "categorical", "args": {}}], "takes no args"),
    ],
)
def test_a_rule_that_cannot_hold_is_refused(rules: list[dict], message: str) -> None:
    with pytest.raises(InvalidSpecificationError, match=message):
        DistributionMapper(ACTIONS, rules)


def test_a_space_without_a_distribution_is_refused_by_name() -> None:
    with pytest.raises(InvalidSpecificationError, match="'word' is a Text"):
        DistributionMapper(spaces.Dict({"word": spaces.Text(3)}))
