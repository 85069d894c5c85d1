"""Parts of torch networks: dict in, dict out, by the names of their keys."""

from maze_core.models.blocks.attention import (
    MultiHeadAttentionBlock,
    SelfAttentionConvBlock,
    SelfAttentionSeqBlock,
)
from maze_core.models.blocks.block import Block, initialised
from maze_core.models.blocks.convolution import StridedConvolutionBlock, VGGConvolutionBlock
from maze_core.models.blocks.dense import DenseBlock, LinearOutputBlock, compute_sigmoid_bias
from maze_core.models.blocks.graph import GNNBlock, GraphAttentionBlock, GraphConvBlock
from maze_core.models.blocks.inference import InferenceBlock
from maze_core.models.blocks.joint import (
    FlattenDenseBlock,
    StridedConvolutionDenseBlock,
    VGGConvolutionDenseBlock,
    VGGConvolutionGAPBlock,
)
from maze_core.models.blocks.pooling import (
    GlobalAveragePoolingBlock,
    MaskedGlobalPoolingBlock,
    PointNetFeatureBlock,
)
from maze_core.models.blocks.recurrent import GRUBlock, LSTMBlock, LSTMLastStepBlock, StatefulBlock
from maze_core.models.blocks.shaping import (
    ActionMaskingBlock,
    ConcatenationBlock,
    CorrelationBlock,
    FlattenBlock,
    FunctionalBlock,
    MultiIndexSlicingBlock,
    RepeatToMatchBlock,
    SliceBlock,
    TorchModelBlock,
)

__all__ = [
    "ActionMaskingBlock",
    "Block",
    "ConcatenationBlock",
    "CorrelationBlock",
    "DenseBlock",
    "FlattenBlock",
    "FlattenDenseBlock",
    "FunctionalBlock",
    "GNNBlock",
    "GRUBlock",
    "GlobalAveragePoolingBlock",
    "GraphAttentionBlock",
    "GraphConvBlock",
    "InferenceBlock",
    "LSTMBlock",
    "LSTMLastStepBlock",
    "LinearOutputBlock",
    "MaskedGlobalPoolingBlock",
    "MultiHeadAttentionBlock",
    "MultiIndexSlicingBlock",
    "PointNetFeatureBlock",
    "RepeatToMatchBlock",
    "SelfAttentionConvBlock",
    "SelfAttentionSeqBlock",
    "SliceBlock",
    "StatefulBlock",
    "StridedConvolutionBlock",
    "StridedConvolutionDenseBlock",
    "TorchModelBlock",
    "VGGConvolutionBlock",
    "VGGConvolutionDenseBlock",
    "VGGConvolutionGAPBlock",
    "compute_sigmoid_bias",
    "initialised",
]
