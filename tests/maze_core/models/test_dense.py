"""Dense nets and heads against torch in float64: values and gradients, under masks, at limits; nothing is upcast."""

import tracemalloc

import numpy as np
import pytest
import torch
from gymnasium import spaces
from hypothesis import given
from hypothesis import strategies as st

from maze_core.models.activations import ACTIVATIONS, KEEPS_INPUT, SLOPES
from maze_core.models.builders import flatten_concat, from_template
from maze_core.models.dense import DenseNets, differ_at_the_end_only, scores, squashed_samples
from maze_core.models.graph import Concat, Dense, Flatten, Program
from maze_core.models.heads import (
    LOG_STD_RANGE,
    BernoulliHead,
    BetaHead,
    CategoricalHead,
    GaussianHead,
    Head,
    MultiCategoricalHead,
    SquashedGaussianHead,
    apply_mask,
    parts_of,
)
from tests.maze_core.models import autograd
from tests.maze_core.models.autograd import head_scores, program_output
from tests.maze_core.models.test_graph import INPUTS, dense, samples, template

rows = st.integers(1, 6)
widths = st.integers(1, 5)
seeds = st.integers(0, 2**16)
sizes_of = st.sampled_from([0.1, 3.0, 30.0, 1e4])


@st.composite
def heads(draw: st.DrawFn) -> Head:
    n = draw(widths)
    masked = draw(st.booleans())
    return draw(
        st.sampled_from(
            [
                CategoricalHead(name="a", n=n, start=draw(st.integers(-2, 3)), masked=masked),
                MultiCategoricalHead(
                    name="a",
                    shape=(3, 1),
                    sizes=(n, draw(widths), 2),
                    starts=(draw(st.integers(-2, 3)), 0, 1),
                    masked=masked,
                ),
                BernoulliHead(name="a", shape=(n,), masked=masked),
                CategoricalHead(name="a", n=n, masked=masked, temperature=0.5),
                MultiCategoricalHead(
                    name="a", shape=(2,), sizes=(n, 3), starts=(0, 0), masked=masked, temperature=3.0
                ),
                BernoulliHead(name="a", shape=(n,), masked=masked, temperature=2.0),
                GaussianHead(name="a", shape=(n, 2)),
                GaussianHead(name="a", shape=(n,), state_dependent_std=True),
                BetaHead(name="a", shape=(n,)),
                BetaHead(name="a", shape=(n, 1), center=(3.0,) * n, half_range=(0.25,) * n),
            ]
        )
    )


def drawn(head: Head, n_rows: int, scale: float, rng: np.random.Generator):
    """Logits ``[n, N]``, masks of which some allow nothing, and actions that can happen."""
    logits = (scale * rng.standard_normal((head.logits_width, n_rows))).astype(np.float32)
    if isinstance(head, GaussianHead):
        return logits, None, (scale * rng.standard_normal((n_rows, *head.shape))).astype(np.float32)
    if isinstance(head, BetaHead):
        return logits, None, head.sample(logits.T, rng.random((n_rows, head.noise_width)))
    mask = rng.integers(0, 2, (n_rows, head.logits_width)).astype(np.int8)
    mask[rng.random(n_rows) < 0.3] = 0
    seen = apply_mask(logits.T, mask) if head.masked else logits.T
    return logits, mask, head.sample(seen, rng.random((n_rows, head.noise_width)))


def assert_near(found: np.ndarray, expected: np.ndarray) -> None:
    """Equal to float32's rounding of the largest number of the row."""
    size = np.maximum(np.abs(expected).max(0, keepdims=True) if expected.ndim == 2 else np.abs(expected), 1)
    assert found.dtype == np.float32
    np.testing.assert_allclose(found / size, expected / size, rtol=2e-5, atol=4e-6)


@given(head=heads(), n_rows=rows, scale=sizes_of, seed=seeds)
def test_a_head_and_its_gradient_are_those_of_torch(head: Head, n_rows: int, scale: float, seed: int) -> None:
    rng = np.random.default_rng(seed)
    logits, mask, action = drawn(head, n_rows, scale, rng)
    parameter = (0.5 * rng.standard_normal(head.parameter_width)).astype(np.float32)
    d_log_prob, d_entropy = rng.standard_normal((2, n_rows)).astype(np.float32)
    d_parameter = np.ones_like(parameter)
    (part,) = parts_of([head])
    found = scores([part], logits, {"a_mask": mask}, {"a": action}, parameter, d_parameter)
    d_logits = found.pull(d_log_prob, d_entropy)

    theirs = torch.from_numpy(logits.T.astype(np.float64)).requires_grad_()
    log_std = torch.from_numpy(parameter.astype(np.float64)).requires_grad_()
    log_prob, entropy = head_scores(
        head,
        theirs,
        torch.from_numpy(action),
        torch.from_numpy(mask) if head.masked else None,
        log_std if head.parameter_width else None,
    )
    upstream = torch.from_numpy(d_log_prob).double(), torch.from_numpy(d_entropy).double()
    torch.autograd.backward([log_prob, entropy], upstream)
    assert_near(found.log_prob, log_prob.detach().numpy())
    assert_near(found.entropy, entropy.detach().numpy())
    assert theirs.grad is not None
    assert_near(d_logits, theirs.grad.numpy().T)
    if head.parameter_width:
        assert log_std.grad is not None
        # a sum over rows, as exact as the largest of its numbers is
        z = (action.reshape(n_rows, -1).T - logits) / np.exp(parameter)[:, None]
        size = 1 + np.abs(z * z * d_log_prob).max(1)
        assert_near(d_parameter / size, (1 + log_std.grad.numpy()) / size)


HEADS = [
    CategoricalHead(name="door", n=3, start=1, masked=True),
    GaussianHead(name="arm", shape=(2,)),
    MultiCategoricalHead(name="gears", shape=(2,), sizes=(2, 3), starts=(0, 0), masked=True),
    GaussianHead(name="hand", shape=(), state_dependent_std=True),
    GaussianHead(name="leg", shape=(1,)),
    BernoulliHead(name="lamps", shape=(2, 2)),
]


@pytest.mark.parametrize(("n_heads", "n_parameters"), [(2, 2), (6, 3)])
def test_several_heads_are_summed_and_each_has_its_own_rows_parameters_and_mask(
    n_heads: int, n_parameters: int
) -> None:
    rng = np.random.default_rng(1)
    together = {"mask": {}, "action": {}}
    outputs, alone = [], []
    log_std = rng.standard_normal(3).astype(np.float32)
    d_log_std, d_alone = np.zeros(3, np.float32), np.zeros(3, np.float32)
    d_log_prob, d_entropy = rng.standard_normal((2, 5)).astype(np.float32)
    places = {"arm": slice(0, 2), "leg": slice(2, 3)}
    for head in HEADS[:n_heads]:
        logits, mask, action = drawn(head, 5, 1.0, rng)
        outputs.append(logits)
        together["mask"][f"{head.name}_mask"] = mask
        together["action"][head.name] = action
        at = places.get(head.name, slice(0, 0))
        alone.append(
            scores(parts_of([head]), logits, together["mask"], {head.name: action}, log_std[at], d_alone[at])
        )
    found = scores(
        parts_of(HEADS[:n_heads]),
        np.concatenate(outputs),
        together["mask"],
        together["action"],
        log_std,
        d_log_std,
    )
    np.testing.assert_allclose(found.log_prob, sum(one.log_prob for one in alone), rtol=1e-5)
    np.testing.assert_allclose(found.entropy, sum(one.entropy for one in alone), rtol=1e-5)
    expected = np.concatenate([one.pull(d_log_prob, d_entropy) for one in alone])
    np.testing.assert_array_equal(found.pull(d_log_prob, d_entropy), expected)
    np.testing.assert_array_equal(d_log_std, d_alone)
    assert np.count_nonzero(d_log_std) == n_parameters


def test_a_gaussian_by_hand() -> None:
    """Two standard normal numbers at 0: log p = -log 2π, entropy 1 + log 2π; not their means."""
    head, zero = GaussianHead(name="a", shape=(2,)), np.zeros(2, np.float32)
    found = scores(parts_of([head]), zero[:, None], {}, {"a": zero[None]}, zero, zero.copy())
    assert found.log_prob[0] == pytest.approx(-np.log(2 * np.pi))
    assert found.entropy[0] == pytest.approx(1 + np.log(2 * np.pi))


@pytest.mark.parametrize(("raw", "learns"), [(-20.0, 1), (2.0, 1), (-20.001, 0), (2.001, 0), (0.0, 1)])
def test_a_log_std_from_the_network_learns_within_its_range_and_on_its_edges(raw: float, learns: int) -> None:
    head = GaussianHead(name="a", shape=(1,), state_dependent_std=True)
    found = scores(parts_of([head]), np.array([[0.0], [raw]], np.float32), {}, {"a": np.zeros((1, 1))})
    zero, one = np.zeros(1, np.float32), np.ones(1, np.float32)
    assert found.entropy[0] == pytest.approx(np.clip(raw, -20, 2) + 0.5 + 0.5 * np.log(2 * np.pi))
    assert found.pull(zero, one).tolist() == [[0.0], [learns]]


def test_what_a_mask_forbids_has_probability_and_gradient_exactly_zero() -> None:
    mask = np.array([[1, 0, 1], [0, 1, 0], [1, 1, 1], [0, 0, 0]])
    logits = np.random.default_rng(0).standard_normal((3, 4)).astype(np.float32)
    parts = parts_of([CategoricalHead(name="a", n=3, masked=True)])
    chances = [
        np.exp(scores(parts, logits, {"a_mask": mask}, {"a": np.full(4, a)}).log_prob) for a in range(3)
    ]
    found = scores(parts, logits, {"a_mask": mask}, {"a": np.array([0, 1, 2, 0])})
    allowed = mask.copy()
    allowed[3] = 1  # where nothing is allowed, everything is drawn
    assert np.all((np.stack(chances, 1) == 0) == (allowed == 0))
    np.testing.assert_allclose(np.sum(chances, 0), 1, rtol=1e-6)
    assert found.entropy[1] == 0.0
    d_logits = found.pull(np.ones(4, np.float32), np.ones(4, np.float32))
    assert np.all(d_logits.T[mask == 0] == 0)
    assert np.any(d_logits.T[mask == 1] != 0)


def bound(programs, seed: int = 0):
    """Nets whose parameters and gradients lie in one buffer each, and the weights by name."""
    shapes = [
        (i, name, shape)
        for i, program in enumerate(programs)
        for op in program.dense
        for name, shape in ((op.weight, (op.n_out, op.n_in)), (op.bias, (op.n_out,)))
    ]
    n = sum(int(np.prod(shape)) for _, _, shape in shapes)
    buffers = (
        (0.4 * np.random.default_rng(seed).standard_normal(n)).astype(np.float32),
        np.zeros(n, np.float32),
    )
    views: list[list[dict[str, np.ndarray]]] = [[{} for _ in programs] for _ in buffers]
    at = 0
    for i, name, shape in shapes:
        end = at + int(np.prod(shape))
        for arrays, buffer in zip(views, buffers, strict=True):
            arrays[i][name] = buffer[at:end].reshape(shape)
        at = end
    return DenseNets(programs, *views), *views, buffers[1]


def by_autograd(programs, weights, seen, d_outputs):
    """Outputs ``[n_out, N]`` and gradients in float64."""
    outputs, gradients = [], []
    for program, arrays, d in zip(programs, weights, d_outputs, strict=True):
        leaves = {name: torch.from_numpy(x).double().requires_grad_() for name, x in arrays.items()}
        output = program_output(program, leaves, seen)
        output.backward(torch.from_numpy(d.T).double())
        outputs.append(output.detach().numpy().T)
        gradients.append({name: leaf.grad.numpy() for name, leaf in leaves.items()})
    return outputs, gradients


def skipping(n_out: int) -> Program:
    """The second layer sees the first one twice, and the input again."""
    sizes = {"activation": "tanh", "gain": 1.0}
    return Program(
        (
            Flatten(source="position", target="input", width=6),
            Dense(source="input", target="first", n_in=6, n_out=4, **sizes),
            Concat(sources=("first", "input", "first"), target="all"),
            Dense(source="all", target="second", n_in=14, n_out=5, **sizes),
            Dense(source="second", target="output", n_in=5, n_out=n_out, activation="identity", gain=1.0),
        )
    )


def showing(program: Program) -> Program:
    """The same with what its last layer reads behind its output."""
    last = program.dense[-1]
    return Program((*program.ops, Concat(sources=(last.target, last.source), target="both")))


PROGRAMS = {
    "features": [
        showing(flatten_concat(INPUTS, dense(7, 4), 2, 1.0)),
        flatten_concat(INPUTS, dense(7, 4), 1, 1.0),
    ],
    "features are the input": [
        showing(flatten_concat(INPUTS, dense(), 2, 1.0)),
        flatten_concat(INPUTS, dense(), 1, 1.0),
    ],
    "a slot read twice": [skipping(2), skipping(1)],
    "layers": [flatten_concat(INPUTS, dense(16, 8), n, 1.0) for n in (5, 1)],
    "one layer": [flatten_concat(INPUTS, dense(7), n, 1.0) for n in (5, 1)],
    "no layer": [flatten_concat(INPUTS, dense(), n, 1.0) for n in (5, 1)],
    "the one input alone": [
        flatten_concat({"position": INPUTS["position"]}, dense(), n, 1.0) for n in (5, 1)
    ],
    "template": [from_template(INPUTS, template(6, 10), n, 1.0) for n in (3, 2)],
    "one input": [
        flatten_concat({"position": INPUTS["position"]}, dense(4, 4), n, gain)
        for n, gain in ((2, 0.01), (2, 1))
    ],
}


@pytest.mark.parametrize("n_rows", [1, 2, 13])
@pytest.mark.parametrize("kind", PROGRAMS)
@pytest.mark.parametrize("together", [True, False])
def test_outputs_and_gradients_are_those_of_torch(kind: str, n_rows: int, together: bool) -> None:
    programs = PROGRAMS[kind] if together else PROGRAMS[kind][:1]
    nets, weights, gradients, _ = bound(programs)
    seen, rng = samples(n_rows), np.random.default_rng(3)
    seen["pixel"] %= (
        3  # larger ones saturate tanh, whose slope 1 - h² then is a difference of equals, as in torch
    )
    d_outputs = [rng.standard_normal((program.n_out, n_rows)).astype(np.float32) for program in programs]
    expected, expected_gradients = by_autograd(programs, weights, seen, d_outputs)
    outputs, pull = nets(seen)
    kept = [d.copy() for d in d_outputs]
    assert pull(d_outputs) == {}, "no gradient of an input was asked for"
    for ours, theirs in zip(outputs, expected, strict=True):
        assert_near(ours, theirs)
    for ours, theirs in zip(gradients, expected_gradients, strict=True):
        for name, gradient in theirs.items():
            assert_near(ours[name].reshape(-1, 1), gradient.reshape(-1, 1))
    assert all(np.array_equal(*pair) for pair in zip(d_outputs, kept, strict=True)), (
        "gradients given are kept"
    )


@pytest.mark.parametrize(
    "kind",
    ["layers", "no layer", "template", "a slot read twice", "features", "features are the input"],
)
@pytest.mark.parametrize("learns", [True, False])
@pytest.mark.parametrize("n_programs", [1, 2])
def test_gradients_of_the_inputs_that_were_asked_for_are_those_of_torch(
    kind: str, learns: bool, n_programs: int
) -> None:
    programs, rng = PROGRAMS[kind][:n_programs], np.random.default_rng(3)
    _, weights, gradients, _ = bound(programs)
    kept = [{name: array.copy() for name, array in of.items()} for of in weights]
    seen = samples(7)
    d_outputs = [rng.standard_normal((program.n_out, 7)).astype(np.float32) for program in programs]
    _, pull = DenseNets(programs, weights, gradients if learns else None, inputs=["position"])(seen)
    found = pull(d_outputs)

    position = torch.from_numpy(seen["position"]).requires_grad_()
    for program, arrays, d_output in zip(programs, weights, d_outputs, strict=True):
        constants = {name: torch.from_numpy(x).double() for name, x in arrays.items()}
        output = program_output(program, constants, {**seen, "position": position})
        output.backward(torch.from_numpy(d_output.T).double())
    assert list(found) == ["position"]
    assert position.grad is not None
    assert_near(found["position"], position.grad.numpy().reshape(7, -1).T)
    for of, before in zip(weights, kept, strict=True):
        assert all(np.array_equal(of[name], before[name]) for name in before)


@pytest.mark.parametrize("activation", sorted(ACTIVATIONS))
@pytest.mark.parametrize("scale", [1.0, 40.0])
def test_every_activation_has_its_slope(activation: str, scale: float) -> None:
    programs = [flatten_concat({"x": spaces.Box(-1, 1, (3,))}, dense(6, 5, non_lin=activation), 2, 1.0)]
    nets, weights, gradients, _ = bound(programs)
    rng = np.random.default_rng(5)
    seen = {"x": (scale * rng.standard_normal((9, 3))).astype(np.float32)}
    d_outputs = [rng.standard_normal((2, 9)).astype(np.float32)]
    (expected,), (expected_gradients,) = by_autograd(programs, weights, seen, d_outputs)
    (found,), pull = nets(seen)
    pull(d_outputs)
    assert_near(found, expected)
    for name, gradient in expected_gradients.items():
        assert_near(gradients[0][name].reshape(-1, 1), gradient.reshape(-1, 1))


@pytest.mark.parametrize("activation", sorted(ACTIVATIONS))
def test_slopes_at_0_are_those_of_torch(activation: str) -> None:
    leaf = torch.zeros(1, requires_grad=True)
    autograd.ACTIVATIONS[activation](leaf).sum().backward()
    h, d = np.zeros(1, np.float32), np.ones(1, np.float32)
    if activation not in KEEPS_INPUT and (bend := ACTIVATIONS[activation]) is not None:
        bend(h)
    if (slope := SLOPES[activation]) is not None:
        slope(d, h)
    assert leaf.grad is not None
    assert d[0] == pytest.approx(leaf.grad.item(), abs=1e-6)


def test_gradients_of_features_may_be_left_out_for_0() -> None:
    found = []
    for rest in ([], [np.zeros((4, 3), np.float32)]):
        nets, _, _, gradient = bound(PROGRAMS["features"])
        _, pull = nets(samples(3))
        ones = np.ones((1, 3), np.float32)
        pull([np.concatenate([ones, ones, *rest]), ones])
        found.append(gradient.copy())
    np.testing.assert_array_equal(*found)


def test_gradients_add_up_until_they_are_taken_away() -> None:
    nets, _, _, gradient = bound(PROGRAMS["layers"])
    once = []
    for seed in (1, 2):
        gradient.fill(0)
        _, pull = nets(samples(4, seed))
        pull([np.ones((5, 4), np.float32), np.ones((1, 4), np.float32)])
        once.append(gradient.copy())
    gradient.fill(0)
    for seed in (1, 2):
        _, pull = nets(samples(4, seed))
        pull([np.ones((5, 4), np.float32), np.ones((1, 4), np.float32)])
    np.testing.assert_allclose(gradient, once[0] + once[1], rtol=1e-5, atol=1e-6)


def test_more_batch_sizes_than_are_remembered_give_the_same_rows() -> None:
    nets, _, _, _ = bound(PROGRAMS["layers"])
    seen = samples(90)
    (expected, _), _ = nets(seen)
    for n in (*range(1, 91), 5000):
        (found, _), _ = nets({name: np.resize(x, (n, *x.shape[1:])) for name, x in seen.items()})
        np.testing.assert_allclose(found[:, :90], expected[:, :n], rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize(("n_rows", "is_kept"), [(4096, True), (4097, False)])
def test_working_memory_is_kept_for_up_to_4096_rows_and_more_count_too(n_rows: int, is_kept: bool) -> None:
    nets, _, gradients, _ = bound(PROGRAMS["layers"])
    seen = samples(n_rows)
    tracemalloc.start()
    nets(seen)[1]([np.ones((5, n_rows), np.float32), np.ones((1, n_rows), np.float32)])
    held, _ = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert (held > 4 * n_rows) == is_kept
    assert gradients[0][PROGRAMS["layers"][0].dense[-1].bias].tolist() == [n_rows] * 5


def test_programs_differ_at_the_end_only_where_they_read_the_same_and_their_layers_are_equal() -> None:
    first, second = PROGRAMS["layers"]
    assert differ_at_the_end_only(first, second)
    assert differ_at_the_end_only(*PROGRAMS["features"])
    assert differ_at_the_end_only(*PROGRAMS["one input"]), "the gain of the first weights is no part of it"
    position = {"position": INPUTS["position"]}
    for other in (
        flatten_concat(INPUTS, dense(16, 9), 1, 1.0),
        flatten_concat(INPUTS, dense(16, 8, 8), 1, 1.0),
        flatten_concat(INPUTS, dense(16, 8, non_lin="relu"), 1, 1.0),
        flatten_concat(position, dense(16, 8), 1, 1.0),
    ):
        assert not differ_at_the_end_only(first, other)


@given(n=widths, n_rows=rows, seed=seeds, scale=st.sampled_from([0.1, 1.0, 3.0]))
def test_samples_behind_tanh_have_the_density_and_the_gradients_of_their_definition(
    n: int, n_rows: int, seed: int, scale: float
) -> None:
    rng = np.random.default_rng(seed)
    output = (scale * rng.standard_normal((2 * n, n_rows))).astype(np.float32)
    noise = rng.standard_normal((n, n_rows)).astype(np.float32)
    d_action, d_log_prob = rng.standard_normal((n, n_rows)), rng.standard_normal(n_rows)
    leaf = torch.tensor(output, dtype=torch.float64, requires_grad=True)
    mean, log_std = leaf[:n], leaf[n:].clamp(*LOG_STD_RANGE)
    u = mean + log_std.exp() * torch.tensor(noise)
    normal = torch.distributions.Normal(mean, log_std.exp())
    slope = 2 * (np.log(2) - u - torch.nn.functional.softplus(-2 * u))
    log_prob = (normal.log_prob(u) - slope).sum(0)
    (torch.tensor(d_action) * u.tanh()).sum().add((torch.tensor(d_log_prob) * log_prob).sum()).backward()
    found = squashed_samples(output, noise)
    head = SquashedGaussianHead(name="a", shape=(n,))
    np.testing.assert_allclose(found.action.T, head.sample(output.T, noise.T), rtol=1e-6)
    np.testing.assert_allclose(found.log_prob, log_prob.detach(), rtol=1e-4, atol=1e-4)
    assert leaf.grad is not None
    pulled = found.pull(d_action.astype(np.float32), d_log_prob.astype(np.float32))
    np.testing.assert_allclose(pulled, leaf.grad, rtol=2e-3, atol=2e-3)


@given(n=widths, n_rows=rows, seed=seeds, scale=st.sampled_from([0.1, 1.0, 3.0]))
def test_actions_behind_tanh_are_as_likely_and_as_undecided_as_torch_says(
    n: int, n_rows: int, seed: int, scale: float
) -> None:
    rng = np.random.default_rng(seed)
    output = (scale * rng.standard_normal((2 * n, n_rows))).astype(np.float32)
    action = np.tanh(rng.standard_normal((n_rows, n))).astype(np.float32)
    d_log_prob, d_entropy = rng.standard_normal((2, n_rows)).astype(np.float32)
    half_range = rng.uniform(0.1, 9, n)
    leaf = torch.tensor(output, dtype=torch.float64, requires_grad=True)
    mean, std = leaf[:n].T, leaf[n:].clamp(*LOG_STD_RANGE).exp().T
    normal = torch.distributions.Normal(mean, std)
    onto_range = torch.distributions.AffineTransform(1.0, torch.tensor(half_range))
    behind = torch.distributions.TransformedDistribution(
        normal, [torch.distributions.TanhTransform(), onto_range]
    )
    log_prob = behind.log_prob(onto_range(torch.tensor(action).double())).sum(1)
    nodes = np.linspace(-8, 8, 2001)
    weights = np.exp(-0.5 * nodes**2)
    u = mean + std * torch.tensor(nodes).reshape(-1, 1, 1)
    slope = 2 * (np.log(2) - u - torch.nn.functional.softplus(-2 * u))
    at_nodes = (torch.tensor(weights / weights.sum()).reshape(-1, 1, 1) * slope).sum(0)
    entropy = (normal.entropy() + at_nodes + torch.tensor(half_range).log()).sum(1)
    torch.autograd.backward(
        [log_prob, entropy], [torch.tensor(d_log_prob).double(), torch.tensor(d_entropy).double()]
    )
    head = SquashedGaussianHead(name="a", shape=(n,), center=(1.0,) * n, half_range=tuple(half_range))
    found = scores(parts_of([head]), output, {}, {"a": action})
    np.testing.assert_allclose(found.log_prob, log_prob.detach(), rtol=2e-3, atol=2e-3)
    np.testing.assert_allclose(found.entropy, entropy.detach(), rtol=1e-4, atol=1e-4)
    assert leaf.grad is not None
    theirs = leaf.grad.numpy()
    size = 1 + np.abs(theirs).max()
    np.testing.assert_allclose(found.pull(d_log_prob, d_entropy) / size, theirs / size, atol=2e-3)


@pytest.mark.parametrize(("mean", "log_std"), [(0.0, 0.0), (0.3, -2.0), (-1.5, 0.5), (0.0, -6.0), (2.0, 1.0)])
def test_the_entropy_behind_tanh_is_that_of_its_density(mean: float, log_std: float) -> None:
    head = SquashedGaussianHead(name="a", shape=(1,), center=(0.0,), half_range=(5.0,))
    u, step = np.linspace(mean - 12 * np.exp(log_std), mean + 12 * np.exp(log_std), 200_001, retstep=True)
    density = np.exp(-0.5 * ((u - mean) / np.exp(log_std)) ** 2) / np.exp(log_std) / np.sqrt(2 * np.pi)
    slope = 2 * (np.log(2) - np.abs(u) - np.log1p(np.exp(-2 * np.abs(u))))
    with np.errstate(divide="ignore", invalid="ignore"):
        surprise = np.where(density > 0, density * (np.log(density) - slope - np.log(5)), 0)
    output = np.array([[mean], [log_std]], np.float32)
    found = scores(parts_of([head]), output, {}, {"a": np.zeros((1, 1), np.float32)})
    assert found.entropy[0] == pytest.approx(-surprise.sum() * step, abs=0.02)


def test_a_number_that_cannot_vary_adds_nothing_to_the_scale() -> None:
    assert BetaHead(name="a", shape=(2,), center=(7.0, 0.0), half_range=(0.0, 2.0)).log_scale == np.log(2)
    assert GaussianHead(name="a", shape=(2,)).log_scale == 0


def test_an_action_on_its_bound_counts_just_inside_it() -> None:
    """By hand: mean 0 and deviation 1, a = 1 - 2⁻²⁴: log N(tanh⁻¹ a) - log(1 - a²)."""
    head = SquashedGaussianHead(name="a", shape=(1,))
    output = np.zeros((2, 2), np.float32)
    found = scores(parts_of([head]), output, {}, {"a": np.array([[1.0], [-1.0]], np.float32)})
    u = np.arctanh(1 - 2.0**-24)
    expected = -0.5 * u * u - 0.5 * np.log(2 * np.pi) - np.log(1 - (1 - 2.0**-24) ** 2)
    np.testing.assert_allclose(found.log_prob, expected, rtol=0.02)
