"""Action heads: samples follow the distribution, masked actions never come, ties and ends are as documented.

And which space gets which head.
"""

import json

import msgspec
import numpy as np
import pytest
from gymnasium import spaces
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from maze_core.errors import InvalidSpecificationError
from maze_core.models.config import GaussianArgs
from maze_core.models.heads import (
    MASKED_LOGIT,
    ActionValuesHead,
    BernoulliHead,
    BetaHead,
    CategoricalHead,
    DistributionMapper,
    GaussianHead,
    Head,
    MultiCategoricalHead,
    SquashedGaussianHead,
    apply_mask,
    tempered,
)

HEADS = [
    CategoricalHead(name="a", n=5, start=3, masked=True),
    MultiCategoricalHead(name="b", shape=(2, 1), sizes=(2, 3), starts=(0, 1)),
    BernoulliHead(name="c", shape=(3,)),
    GaussianHead(name="d", shape=(2, 2)),
    GaussianHead(name="e", shape=(2,), state_dependent_std=True, initial_log_std=-0.5),
    BetaHead(name="f", shape=(2,), center=(1.0, 0.0), half_range=(2.0, 1.0)),
    CategoricalHead(name="g", n=2, temperature=0.5),
]
LARGEST_UNIFORM = np.nextafter(1.0, 0.0)
logits_rows = hnp.arrays(
    np.float32, st.tuples(st.integers(1, 9), st.integers(1, 12)), elements=st.floats(-60, 60, width=32)
)


def uniforms(n: int) -> np.ndarray:
    """The midpoints of n equal parts of [0, 1): a sample of the uniform distribution without chance."""
    return ((np.arange(n) + 0.5) / n)[:, None]


@given(logits=logits_rows, data=st.data())
def test_a_masked_action_is_never_sampled(logits: np.ndarray, data: st.DataObject) -> None:
    mask = data.draw(hnp.arrays(np.int8, logits.shape, elements=st.integers(0, 1)))
    mask[
        np.arange(len(mask)),
        data.draw(hnp.arrays(int, len(mask), elements=st.integers(0, mask.shape[1] - 1))),
    ] = 1
    edges = st.sampled_from([0.0, LARGEST_UNIFORM])
    noise = data.draw(
        hnp.arrays(np.float64, (len(logits), 1), elements=st.one_of(edges, st.floats(0, LARGEST_UNIFORM)))
    )
    head = CategoricalHead(name="action", n=logits.shape[1])
    masked = apply_mask(logits, mask)
    rows = np.arange(len(logits))
    assert np.all(mask[rows, head.sample(masked, noise)] == 1)
    assert np.all(mask[rows, head.mode(masked)] == 1)


@given(
    logits=logits_rows,
    noise=st.one_of(st.just(0.0), st.just(float(LARGEST_UNIFORM)), st.floats(0, LARGEST_UNIFORM)),
)
def test_every_sample_is_an_action_that_exists_and_has_a_probability(
    logits: np.ndarray, noise: float
) -> None:
    head = CategoricalHead(name="action", n=logits.shape[1])
    drawn = head.sample(logits, np.full((len(logits), 1), noise))
    assert drawn.dtype == np.int64
    assert np.all((drawn >= 0) & (drawn < head.n))
    peak = logits.max(axis=1)
    assert np.all(np.exp(logits[np.arange(len(logits)), drawn] - peak) > 0)


@given(logits=hnp.arrays(np.float32, st.integers(2, 6), elements=st.floats(-3, 3, width=32)))
def test_categorical_frequencies_are_the_softmax(logits: np.ndarray) -> None:
    n = 20_000
    head = CategoricalHead(name="action", n=len(logits), start=2)
    drawn = head.sample(np.tile(logits, (n, 1)), uniforms(n)) - 2
    expected = np.exp(logits.astype(np.float64)) / np.exp(logits.astype(np.float64)).sum()
    np.testing.assert_allclose(np.bincount(drawn, minlength=len(logits)) / n, expected, atol=2.5 / n + 1e-6)


def test_a_tie_goes_to_the_first_action() -> None:
    head = CategoricalHead(name="action", n=4)
    assert head.mode(np.array([[0, 1, 1, 1], [2, 2, 2, 2]], np.float32)).tolist() == [1, 0]


def test_a_mask_that_allows_nothing_draws_uniformly() -> None:
    head = CategoricalHead(name="action", n=4)
    logits = apply_mask(np.array([[5, 0, 0, -5]], np.float32).repeat(8, 0), np.zeros((8, 4)))
    assert np.bincount(head.sample(logits, uniforms(8))).tolist() == [2, 2, 2, 2]


def test_multi_categorical_chooses_each_dimension_with_its_own_noise() -> None:
    head = MultiCategoricalHead(name="action", shape=(2, 1), sizes=(2, 3), starts=(0, 10))
    logits = np.zeros((2, 5), np.float32)
    drawn = head.sample(logits, np.array([[0.1, 0.9], [0.9, 0.1]]))
    assert drawn.tolist() == [[[0], [12]], [[1], [10]]]
    assert head.mode(np.array([[0, 1, 0, 2, 1]], np.float32)).tolist() == [[[1], [11]]]


def test_bernoulli_frequencies_are_the_sigmoid_and_a_masked_bit_is_off() -> None:
    head = BernoulliHead(name="action", shape=(3,), masked=True)
    logits = np.array([[-1.0, 0.0, 2.0]], np.float32).repeat(1000, 0)
    drawn = head.sample(logits, uniforms(1000).repeat(3, 1))
    np.testing.assert_allclose(drawn.mean(axis=0), 1 / (1 + np.exp([1.0, 0.0, -2.0])), atol=1e-3)
    off = apply_mask(logits, np.array([1, 1, 0]).repeat(1000).reshape(3, 1000).T)
    assert head.sample(off, np.zeros((1000, 3)))[:, 2].max() == 0
    assert head.mode(off)[0].tolist() == [0, 0, 0]
    assert head.mode(logits)[0].tolist() == [0, 0, 1]


def test_a_gaussian_is_its_mean_plus_std_times_noise() -> None:
    mean = np.array([[1.0, -2.0]], np.float32)
    log_std = np.array([0.0, np.log(3.0)], np.float32)
    noise = np.array([[0.5, -1.0]])
    by_parameter = GaussianHead(name="action", shape=(2,)).sample(mean, noise, log_std)
    by_network = GaussianHead(name="action", shape=(2,), state_dependent_std=True).sample(
        np.concatenate((mean, log_std[None]), axis=1), noise
    )
    np.testing.assert_allclose(by_parameter, [[1.5, -5.0]], rtol=1e-6)
    np.testing.assert_allclose(by_network, by_parameter, rtol=1e-6)
    assert by_parameter.dtype == np.float32


def test_the_mode_of_a_gaussian_is_a_copy_of_its_mean() -> None:
    mean = np.ones((3, 2), np.float32)
    action = GaussianHead(name="action", shape=(2,)).mode(mean)
    mean[:] = 7
    assert action.tolist() == [[1, 1]] * 3


@pytest.mark.parametrize("head", HEADS, ids=lambda head: head.name)
def test_a_head_survives_its_json_form(head) -> None:
    assert msgspec.convert(json.loads(json.dumps(msgspec.to_builtins(head))), Head) == head


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


def test_what_the_model_says_of_gaussians_holds_where_no_rule_has_args() -> None:
    gaussian = GaussianArgs(initial_log_std=-2.0)
    for args, start in ((None, -2.0), ({"initial_log_std": -1.0}, -1.0)):
        rule = {"action_space": "Box", "distribution": "diagonal_gaussian", "args": args}
        for rules in ([rule], [] if args is None else [rule]):
            (head, *_) = DistributionMapper(ACTIONS, rules, gaussian=gaussian).heads(ACTIONS, {})
            assert head == GaussianHead(name="arm", shape=(2,), initial_log_std=start)


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
        ([{"action_head": "door", "distribution": "beta"}], "beta does not fit the action head 'door'"),
        ([{"action_head": "door", "distribution": "cauchy"}], "distribution_mapper_config.0.distribution"),
        ([{"action_head": "arm", "distribution": "deterministic"}], "deterministic does not fit"),
        ([{"action_head": "door", "distribution": "action_values"}], "action_values does not fit"),
        ([{"action_head": "arm", "distribution": "beta", "temperature": 2.0}], "beta takes no temperature"),
        ([{"action_head": "door", "distribution": "categorical", "temperature": 0}], "temperature"),
        (
            [{"action_head": "arm", "distribution": "beta", "args": {"state_dependent_std": True}}],
            "beta takes rescale alone",
        ),
        (
            [{"action_head": "arm", "distribution": "squashed_gaussian", "args": {"initial_log_std": 0}}],
            "squashed_gaussian takes rescale and state_dependent_noise alone",
        ),
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


def test_each_head_may_have_another_distribution_of_those_that_fit() -> None:
    two = spaces.Dict({"arm": spaces.Box(-1, 1, (2,)), "hand": spaces.Box(0, 8, (1,)), **ACTIONS.spaces})
    rules = [
        {"action_space": "Box", "distribution": "maze.distributions.SquashedGaussianProbabilityDistribution"},
        {"action_head": "hand", "distribution": "BetaProbabilityDistribution", "args": {"rescale": True}},
        {"action_head": "door", "distribution": "categorical", "temperature": 2.0},
        {"action_head": "gears", "distribution": "multi_categorical", "temperature": 0.5},
        {"action_head": "lamps", "distribution": "bernoulli", "temperature": 3.0},
    ]
    heads = {head.name: head for head in DistributionMapper(two, rules).heads(two, {})}
    assert heads["arm"] == SquashedGaussianHead(name="arm", shape=(2,))
    assert heads["hand"] == BetaHead(name="hand", shape=(1,), center=(4.0,), half_range=(4.0,))
    assert [heads[name].temperature for name in ("door", "gears", "lamps")] == [2.0, 0.5, 3.0]


@pytest.mark.parametrize(
    ("default", "by_likelihood", "distribution"),
    [
        ({"Box": "squashed_gaussian"}, False, "beta"),
        ({"Box": "deterministic"}, True, "beta"),
        ({"Discrete": "action_values"}, True, "categorical"),
    ],
)
def test_an_algorithm_that_learns_by_values_keeps_its_own_distribution(
    default, by_likelihood, distribution
) -> None:
    kind = next(iter(default))
    space = spaces.Dict({"arm": spaces.Box(-1, 1, (2,)) if kind == "Box" else spaces.Discrete(2)})
    rules = [{"action_space": kind, "distribution": distribution}]
    with pytest.raises(InvalidSpecificationError, match=f"{distribution} does not fit") as refusal:
        DistributionMapper(space, rules, distributions=default, by_likelihood=by_likelihood)
    assert refusal.value.problems[0].allowed == tuple(default.values())


def test_beta_needs_bounds() -> None:
    rules = [{"action_space": "Box", "distribution": "beta"}]
    with pytest.raises(InvalidSpecificationError, match="has no bounds, which beta needs"):
        DistributionMapper(spaces.Dict({"arm": spaces.Box(-np.inf, 1, (2,))}), rules)


def test_a_warm_policy_is_less_decided_and_what_is_forbidden_stays_so() -> None:
    logits = np.array([[0.0, np.log(9.0), MASKED_LOGIT]], np.float32).repeat(1000, 0)
    for temperature, share in ((1.0, 0.1), (2.0, 0.25), (0.5, 1 / 82)):
        drawn = CategoricalHead(name="a", n=3, temperature=temperature).sample(logits, uniforms(1000))
        np.testing.assert_allclose(np.bincount(drawn, minlength=3) / 1000, [share, 1 - share, 0], atol=1e-3)
        pair = MultiCategoricalHead(name="a", shape=(1,), sizes=(3,), starts=(0,), temperature=temperature)
        np.testing.assert_array_equal(pair.sample(logits, uniforms(1000))[:, 0], drawn)
    nothing = np.full((1, 3), MASKED_LOGIT, np.float32)
    np.testing.assert_array_equal(tempered(nothing, 0.1), nothing)
    bits = BernoulliHead(name="a", shape=(1,), temperature=2.0).sample(logits[:, 1:2], uniforms(1000))
    assert bits.mean() == pytest.approx(0.75)


def test_values_of_actions_have_no_temperature() -> None:
    assert ActionValuesHead(name="a", n=2).temperature == 1.0
