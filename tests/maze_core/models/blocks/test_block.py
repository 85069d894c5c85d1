"""What every block shares: keys and shapes checked in words, leading dimensions, activations, first weights."""

import pytest
import torch
from torch import Tensor, nn

from maze_core.models.blocks import DenseBlock, LSTMBlock, StridedConvolutionBlock
from maze_core.models.blocks.block import Block, activation, initialised


class Sum(Block):
    """Adds a vector and the sum of a matrix."""

    input_dims = ((1,), (2,))

    def compute(self, *inputs: Tensor) -> Tensor:
        return inputs[0] + inputs[1].sum((1, 2))[:, None]


@pytest.mark.parametrize("lead", [(), (5,), (3, 5), (2, 3, 5)])
def test_any_leading_dimensions_are_folded_and_put_back(lead: tuple[int, ...]):
    vector, matrix = torch.randn(*lead, 4), torch.randn(*lead, 2, 3)
    found = Sum(["v", "m"], "s", [(4,), (2, 3)])({"v": vector, "m": matrix, "other": vector})
    assert list(found) == ["s"]
    torch.testing.assert_close(found["s"], vector + matrix.sum((-1, -2))[..., None])


def test_output_shapes_follow_from_a_forward_pass():
    assert Sum(["v", "m"], "s", [(4,), (2, 3)]).out_shapes() == [(4,)]


@pytest.mark.parametrize(
    ("given", "message"),
    [
        ((["v", "m"], "s", [(4,)]), r"Sum reads \['v', 'm'\], so it takes 2 in_shapes, not 1"),
        ((["v", "m"], "s", [(4, 1), (2, 3)]), r"Sum reads 1 dimensions, and 'v' has the shape \[4, 1\]"),
    ],
)
def test_keys_and_shapes_that_do_not_fit_are_refused(given: tuple, message: str):
    with pytest.raises(ValueError, match=message):
        Sum(*given)


def test_a_missing_input_is_named_beside_those_that_are_there():
    with pytest.raises(ValueError, match=r"Sum reads 'm', there is only \['v'\]"):
        Sum(["v", "m"], "s", [(4,), (2, 3)])({"v": torch.zeros(4)})


def test_an_input_of_too_few_dimensions_is_named():
    with pytest.raises(ValueError, match=r"Sum reads 'm' of shape \[..., 2, 3\], not \[3\]"):
        Sum(["v", "m"], "s", [(4,), (2, 3)])({"v": torch.zeros(4), "m": torch.zeros(3)})


def test_outputs_without_a_name_are_refused():
    with pytest.raises(ValueError, match=r"Sum gives 1 outputs, and out_keys are \['a', 'b'\]"):
        Sum(["v", "m"], ["a", "b"], [(4,), (2, 3)])({"v": torch.zeros(4), "m": torch.zeros(2, 3)})


@pytest.mark.parametrize("name", ["tanh", "torch.nn.Tanh", "nn.Tanh", nn.Tanh])
def test_an_activation_has_many_spellings(name):
    assert isinstance(activation(name), nn.Tanh)


def test_an_unknown_activation_is_refused_with_the_known_ones():
    with pytest.raises(ValueError, match="There is no activation 'swish2': take one of tanh"):
        activation("swish2")


@pytest.mark.parametrize("layer", [nn.Linear(6, 3), nn.Conv2d(2, 5, 3)], ids=["linear", "convolution"])
def test_orthogonal_rows_have_the_length_of_the_gain(layer: nn.Module):
    weight = initialised(layer, "orthogonal", 2.0).weight.flatten(1)
    torch.testing.assert_close(weight @ weight.T, 4.0 * torch.eye(len(weight)))
    assert not layer.bias.any()


def test_normc_gives_every_unit_weights_of_the_length_of_the_gain():
    layer = initialised(nn.Linear(6, 30), "normc", 0.5)
    torch.testing.assert_close(layer.weight.norm(dim=1), torch.full((30,), 0.5))
    assert not layer.bias.any()


def test_every_gate_of_a_recurrent_layer_is_orthogonal():
    layer = initialised(nn.LSTM(8, 4), "orthogonal", 1.0)
    for gate in layer.weight_hh_l0.split(4):
        torch.testing.assert_close(gate @ gate.T, torch.eye(4))
    assert not layer.bias_ih_l0.any()


def test_torch_default_leaves_what_torch_drew():
    torch.manual_seed(1)
    plain = nn.Linear(3, 2).weight
    torch.manual_seed(1)
    assert torch.equal(initialised(nn.Linear(3, 2), "torch_default").weight, plain)


@pytest.mark.parametrize(
    "make",
    [
        lambda: DenseBlock("x", "y", (10**6,), hidden_units=[4096]),
        lambda: StridedConvolutionBlock("x", "y", (4096, 64, 64), hidden_channels=[4096], hidden_kernels=8),
        lambda: LSTMBlock("x", "y", (10**6,), hidden_size=2048),
    ],
    ids=["dense", "convolution", "lstm"],
)
def test_a_layer_that_would_fill_the_memory_is_refused_before_it_is_made(make):
    with pytest.raises(ValueError, match=r"weights is more than 134,217,728; make 'x' smaller"):
        make()
