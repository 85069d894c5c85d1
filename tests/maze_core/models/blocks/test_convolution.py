"""Convolutions against torch's own, over every number of leading and spatial dimensions."""

import pytest
import torch
from torch import nn

from maze_core.models.blocks import (
    StridedConvolutionBlock,
    StridedConvolutionDenseBlock,
    VGGConvolutionBlock,
    VGGConvolutionDenseBlock,
    VGGConvolutionGAPBlock,
)


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


@pytest.mark.parametrize("use_batch_norm_conv", [False, True])
def test_a_vgg_stack_is_two_convolutions_and_a_maximum(use_batch_norm_conv: bool):
    block = VGGConvolutionBlock(
        "x", "y", (2, 8, 6), hidden_channels=[3], use_batch_norm_conv=use_batch_norm_conv
    ).eval()
    x = torch.randn(4, 5, 2, 8, 6)
    h = x.flatten(0, 1)
    for layer in (part for part in block.layers if isinstance(part, nn.Conv2d)):
        h = nn.functional.conv2d(h, layer.weight, padding=1)
        h = (h / (1 + 1e-5) ** 0.5 if use_batch_norm_conv else h).relu()
    expected = nn.functional.max_pool2d(h, 2).unflatten(0, (4, 5))
    torch.testing.assert_close(block({"x": x})["y"], expected)
    assert block.out_shapes() == [(3, 4, 3)]


def test_a_vgg_stack_that_leaves_nothing_is_refused():
    with pytest.raises(
        ValueError, match=r"the kernels are too large for 'x' of shape \[1, 4, 4\].*fewer layers"
    ):
        VGGConvolutionBlock("x", "y", (1, 4, 4), hidden_channels=[2, 2, 2])


@pytest.mark.parametrize(
    ("block", "shape"),
    [
        (VGGConvolutionGAPBlock("x", "y", (1, 8, 8), hidden_channels=[3, 5]), (5,)),
        (VGGConvolutionDenseBlock("x", "y", (1, 8, 8), hidden_channels=[3], hidden_units=[6]), (6,)),
        (
            StridedConvolutionDenseBlock(
                "x", "y", (1, 8, 8), hidden_channels=[3], hidden_kernels=3, hidden_units=[6, 7]
            ),
            (7,),
        ),
    ],
    ids=["vgg_gap", "vgg_dense", "strided_dense"],
)
def test_joint_blocks_are_their_stages_one_behind_the_other(block, shape: tuple[int, ...]):
    x = torch.randn(2, 3, 1, 8, 8)
    h = {"x": x.flatten(0, 1)}
    for stage in block.stages:
        h = stage(h)
    torch.testing.assert_close(block({"x": x})["y"], h["x"].unflatten(0, (2, 3)))
    assert block.out_shapes() == [shape]
