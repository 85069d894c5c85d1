"""Convolutions against torch's own, over every number of leading and spatial dimensions."""

import pytest
import torch
from torch import nn

from maze_core.models.blocks import StridedConvolutionBlock


@pytest.mark.parametrize("size", [(9,), (9, 7), (9, 7, 8)], ids=["line", "picture", "volume"])
def test_a_strided_stack_is_that_of_torch(size: tuple[int, ...]):
    block = StridedConvolutionBlock(
        "x",
        "y",
        (2, *size),
        hidden_channels=[3, 4],
        hidden_kernels=[3, 2],
        hidden_strides=[2, 1],
        hidden_padding=1,
    )
    first, second = block.layers[0], block.layers[2]
    x = torch.randn(3, 5, 2, *size)
    functional = {1: nn.functional.conv1d, 2: nn.functional.conv2d, 3: nn.functional.conv3d}[len(size)]
    flat = functional(x.flatten(0, 1), first.weight, first.bias, stride=2, padding=1).relu()
    expected = functional(flat, second.weight, second.bias, padding=1).relu()
    found = block({"x": x})["y"]
    torch.testing.assert_close(found, expected.unflatten(0, (3, 5)))
    assert tuple(found.shape[2:]) == block.out_shapes()[0]


def test_kernels_and_dilations_may_differ_by_axis():
    block = StridedConvolutionBlock(
        "x", "y", (1, 9, 9), hidden_channels=[2], hidden_kernels=[(3, 1)], hidden_dilations=[(2, 1)]
    )
    assert block.out_shapes() == [(2, 5, 9)]


@pytest.mark.parametrize(
    ("changed", "message"),
    [
        (
            {"hidden_kernels": [3, 3, 3]},
            "hidden_kernels has 3 entries for 2 layers: give one, or one for each",
        ),
        ({"hidden_kernels": 8}, r"the kernels are too large for 'x' of shape \[1, 9, 9\]"),
        (
            {"convolution_dimension": 1},
            r"convolves 1 dimensions, and 'x' has the shape \[1, 9, 9\], channels first",
        ),
    ],
)
def test_a_stack_that_does_not_fit_is_refused(changed: dict, message: str):
    with pytest.raises(ValueError, match=message):
        StridedConvolutionBlock(
            "x", "y", (1, 9, 9), **{"hidden_channels": [2, 2], "hidden_kernels": 3, **changed}
        )
