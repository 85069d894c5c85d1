"""Dense layers against torch's, and the bias that a probability asks for."""

import pytest
import torch

from maze_core.models.blocks import DenseBlock, FlattenDenseBlock, LinearOutputBlock, compute_sigmoid_bias


def test_dense_layers_have_an_activation_behind_every_one():
    block, x = DenseBlock("x", "y", (3,), hidden_units=[5, 2], non_lin="tanh"), torch.randn(2, 4, 3)
    first, second = block.layers[0], block.layers[2]
    torch.testing.assert_close(block({"x": x})["y"], second(first(x).tanh()).tanh())


def test_no_hidden_units_change_nothing():
    block, x = DenseBlock("x", "y", (3,), hidden_units=[]), torch.randn(4, 3)
    assert torch.equal(block({"x": x})["y"], x)


def test_flatten_dense_is_dense_behind_flatten():
    block, x = FlattenDenseBlock("x", "y", (2, 3), hidden_units=[4], non_lin="relu"), torch.randn(5, 2, 3)
    dense = block.stages[1].layers[0]
    torch.testing.assert_close(block({"x": x})["y"], dense(x.flatten(1)).relu())


@pytest.mark.parametrize("probability", [0.01, 0.5, 0.9])
def test_a_bias_gives_its_probability(probability: float):
    block = LinearOutputBlock("x", "y", (3,), output_units=2)
    block.set_bias(compute_sigmoid_bias(probability))
    torch.testing.assert_close(block({"x": torch.zeros(3)})["y"].sigmoid(), torch.full((2,), probability))


def test_an_output_begins_as_long_as_its_gain():
    weight = LinearOutputBlock("x", "y", (2, 4), output_units=3, output_gain=0.01).layer.weight
    torch.testing.assert_close(weight @ weight.T, 1e-4 * torch.eye(3))
