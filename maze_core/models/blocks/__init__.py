"""Parts of torch networks: dict in, dict out, by the names of their keys."""

from maze_core.models.blocks.block import Block
from maze_core.models.blocks.convolution import StridedConvolutionBlock
from maze_core.models.blocks.recurrent import GRUBlock, LSTMBlock, LSTMLastStepBlock, StatefulBlock

__all__ = ["Block", "GRUBlock", "LSTMBlock", "LSTMLastStepBlock", "StatefulBlock", "StridedConvolutionBlock"]
