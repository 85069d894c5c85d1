"""Pooling against torch's reductions over what a mask allows; of nothing it is 0."""

import pytest
import torch

from maze_core.models.blocks import (
    GlobalAveragePoolingBlock,
    MaskedGlobalPoolingBlock,
    PointNetFeatureBlock,
)

REDUCTIONS = {"max": torch.amax, "mean": torch.mean, "sum": torch.sum}


def test_the_mean_of_every_channel():
    x = torch.randn(2, 5, 3, 4, 6)
    torch.testing.assert_close(
        GlobalAveragePoolingBlock("x", "y", (3, 4, 6))({"x": x})["y"], x.mean((-1, -2))
    )


@pytest.mark.parametrize("pooling", REDUCTIONS)
def test_pooling_is_over_what_the_mask_allows_and_0_where_that_is_nothing(pooling: str):
    x, there = -1 - torch.rand(2, 3, 4, 5), torch.zeros(2, 3, 4)
    there[0, 0], there[0, 1, 2], there[1, 2, 1:3] = 1, 1, 1
    found = MaskedGlobalPoolingBlock(["x", "m"], "y", [(4, 5), (4,)], pooling)({"x": x, "m": there})["y"]
    for i in range(2):
        for j in range(3):
            chosen = x[i, j][there[i, j] != 0]
            expected = REDUCTIONS[pooling](chosen, dim=0) if len(chosen) else torch.zeros(5)
            torch.testing.assert_close(found[i, j], expected)


def test_an_unknown_pooling_is_refused():
    with pytest.raises(ValueError, match="pooling=max or mean or sum, not 'median'"):
        MaskedGlobalPoolingBlock("x", "y", (4, 5), "median")


@pytest.mark.parametrize("pooling", REDUCTIONS)
def test_a_set_of_points_means_the_same_in_any_order_and_beside_points_that_are_not_there(pooling: str):
    block = PointNetFeatureBlock(["x", "m"], "y", [(4, 2), (4,)], [8, 6], pooling)
    points = torch.randn(4, 2)
    there = torch.tensor([1.0, 1, 0, 1])
    found = block({"x": points, "m": there})["y"]
    order = [3, 1, 0]
    fewer = block({"x": points[order], "m": torch.ones(3)})["y"]  # another number of points
    torch.testing.assert_close(found, fewer)
    embedded = block.embedding({"x": points[order]})["y"]
    torch.testing.assert_close(found, REDUCTIONS[pooling](embedded, dim=0))
