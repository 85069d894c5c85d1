"""Blocks that are often one behind the other, as one."""

from collections.abc import Sequence
from typing import Any, ClassVar

from torch import Tensor, nn

from maze_core.models.blocks.block import Block, Keys, Shapes
from maze_core.models.blocks.convolution import StridedConvolutionBlock, VGGConvolutionBlock
from maze_core.models.blocks.dense import DenseBlock
from maze_core.models.blocks.pooling import GlobalAveragePoolingBlock
from maze_core.models.blocks.shaping import FlattenBlock


class _Joint(Block):
    """One block behind the other."""

    def __init__(self, in_keys: Keys, out_keys: Keys, in_shapes: Shapes) -> None:
        super().__init__(in_keys, out_keys, in_shapes)
        self.stages = nn.ModuleList()
        self._shape = self.in_shapes[0]

    def _then(self, kind: type[Block], **settings: Any) -> None:
        stage = kind("x", "x", self._shape, **settings)
        self.stages.append(stage)
        (self._shape,) = stage.out_shapes()

    def compute(self, *inputs: Tensor) -> Tensor:
        (x,) = inputs
        for stage in self.stages:
            x = stage({"x": x})["x"]
        return x


class FlattenDenseBlock(_Joint):
    """Flatten, then dense layers: ``[…]`` → ``[n]``."""

    def __init__(self, in_keys: Keys, out_keys: Keys, in_shapes: Shapes, **dense: Any) -> None:
        """Take the settings of the dense layers."""
        super().__init__(in_keys, out_keys, in_shapes)
        self._then(FlattenBlock)
        self._then(DenseBlock, **dense)


class _ConvolutionDenseBlock(_Joint):
    """Convolutions of a kind, flatten, dense layers."""

    convolution: ClassVar[type[Block]]

    def __init__(
        self,
        in_keys: Keys,
        out_keys: Keys,
        in_shapes: Shapes,
        hidden_units: Sequence[int] = (128,),
        dense_non_lin: str | type[nn.Module] = "tanh",
        **convolutions: Any,
    ) -> None:
        """Take the settings of the convolutions, and widths and activation of the dense layers."""
        super().__init__(in_keys, out_keys, in_shapes)
        self._then(self.convolution, **convolutions)
        self._then(FlattenBlock)
        self._then(DenseBlock, hidden_units=hidden_units, non_lin=dense_non_lin)


class StridedConvolutionDenseBlock(_ConvolutionDenseBlock):
    """Strided convolutions, flatten, dense layers: ``[C, …]`` → ``[n]``."""

    convolution = StridedConvolutionBlock


class VGGConvolutionDenseBlock(_ConvolutionDenseBlock):
    """VGG convolutions, flatten, dense layers: ``[C, H, W]`` → ``[n]``."""

    convolution = VGGConvolutionBlock


class VGGConvolutionGAPBlock(_Joint):
    """VGG convolutions, then the mean of every channel: ``[C, H, W]`` → ``[C']``."""

    def __init__(self, in_keys: Keys, out_keys: Keys, in_shapes: Shapes, **convolutions: Any) -> None:
        """Take the settings of the convolutions."""
        super().__init__(in_keys, out_keys, in_shapes)
        self._then(VGGConvolutionBlock, **convolutions)
        self._then(GlobalAveragePoolingBlock)
