"""From many to one: over pictures, and over sets of which a mask says what there is."""

from collections.abc import Sequence

import torch
from torch import Tensor, nn

from maze_core.models.blocks.block import Block, Keys, Shapes, WeightInit
from maze_core.models.blocks.dense import DenseBlock

POOLINGS = ("max", "mean", "sum")


class GlobalAveragePoolingBlock(Block):
    """The mean of every channel: ``[C, …]`` → ``[C]``."""

    input_dims = ((2, 3, 4),)

    def compute(self, *inputs: Tensor) -> Tensor:
        """``[N, C, …]`` → ``[N, C]``."""
        return inputs[0].flatten(2).mean(-1)


class MaskedGlobalPoolingBlock(Block):
    """Maximum, mean or sum over the entries that a mask ``[S]`` allows: ``[S, F]`` → ``[F]``; of none, 0."""

    input_dims = ((2,), (1,))

    def __init__(self, in_keys: Keys, out_keys: Keys, in_shapes: Shapes, pooling: str = "mean") -> None:
        """Take what is taken over the entries; without a mask, over all of them.

        Raises:
            ValueError: there is no such pooling.
        """
        super().__init__(in_keys, out_keys, in_shapes)
        if pooling not in POOLINGS:
            raise ValueError(f"{self.kind} takes pooling={' or '.join(POOLINGS)}, not {pooling!r}.")
        self.pooling = pooling

    def compute(self, *inputs: Tensor) -> Tensor:
        """``[N, S, F]`` and ``[N, S]`` → ``[N, F]``."""
        entries, *masks = inputs
        there = masks[0] != 0 if masks else entries.new_ones(entries.shape[:-1], dtype=torch.bool)
        if self.pooling == "max":
            lowest = entries.masked_fill(~there[..., None], torch.finfo(entries.dtype).min).amax(1)
            return lowest * there.any(1, keepdim=True)
        total = entries.masked_fill(~there[..., None], 0.0).sum(1)
        return total if self.pooling == "sum" else total / there.sum(1, keepdim=True).clamp(min=1)


class PointNetFeatureBlock(Block):
    """A set of points as one vector (PointNet, Qi et al. 2017, arXiv:1612.00593): ``[S, F]``, mask ``[S]`` → ``[F']``.

    The same dense layers for every point, then a pooling; the set may have any number of points, in any order.
    """

    input_dims = ((2,), (1,))

    def __init__(
        self,
        in_keys: Keys,
        out_keys: Keys,
        in_shapes: Shapes,
        embedding_units: Sequence[int] = (64, 128),
        pooling: str = "max",
        non_lin: str | type[nn.Module] = "relu",
        weight_init: WeightInit = "orthogonal",
        hidden_gain: float = 2**0.5,
    ) -> None:
        """Take the layers and the pooling; the mask is optional."""
        super().__init__(in_keys, out_keys, in_shapes)
        width = self.in_shapes[0][1:]
        self.embedding = DenseBlock("x", "y", width, embedding_units, non_lin, weight_init, hidden_gain)
        self.pooled = MaskedGlobalPoolingBlock(in_keys, out_keys, in_shapes, pooling)

    def compute(self, *inputs: Tensor) -> Tensor:
        """``[N, S, F]`` and maybe ``[N, S]`` → ``[N, F']``."""
        points, *masks = inputs
        return self.pooled.compute(self.embedding({"x": points})["y"], *masks)
