"""Blocks without weights that cut, join and mask, and two that take code of the user's.

An ``axis`` counts as in a batch, whose axis 0 is the row: 1 is the first of the input's shape, -1 the last.
"""

from collections.abc import Callable, Sequence
from typing import Any

import torch
from torch import Tensor, nn

from maze_core.models.blocks.block import Block, Keys, Shapes, Tensors
from maze_core.models.heads import MASKED_LOGIT


class FlattenBlock(Block):
    """The last axes as one: ``[…]`` → ``[n]``, or ``[a, b, c]`` → ``[a, b·c]`` with ``num_flatten_dims=2``."""

    def __init__(
        self, in_keys: Keys, out_keys: Keys, in_shapes: Shapes, num_flatten_dims: int | None = None
    ) -> None:
        """Take the number of axes; None flattens all."""
        super().__init__(in_keys, out_keys, in_shapes)
        n_dims = len(self.in_shapes[0])
        if num_flatten_dims is not None and not 1 <= num_flatten_dims <= n_dims:
            raise ValueError(f"{self.kind} flattens 1 to {n_dims} axes here, not {num_flatten_dims}.")
        self.n_kept = n_dims - (num_flatten_dims or n_dims)

    def compute(self, *inputs: Tensor) -> Tensor:
        """``[N, …]`` → ``[N, …, n]``."""
        return inputs[0].reshape(*inputs[0].shape[: 1 + self.n_kept], -1)


class ConcatenationBlock(Block):
    """Any number of inputs side by side."""

    def __init__(self, in_keys: Keys, out_keys: Keys, in_shapes: Shapes, axis: int = -1) -> None:
        """Take the axis along which they stand."""
        super().__init__(in_keys, out_keys, in_shapes)
        self.axis = _checked_axis(self, axis)

    def compute(self, *inputs: Tensor) -> Tensor:
        """One tensor, as long as all of them along the axis."""
        return torch.cat(inputs, self.axis)


class CorrelationBlock(Block):
    """The product of two inputs, number by number, summed over the last axis with ``reduce``."""

    def __init__(self, in_keys: Keys, out_keys: Keys, in_shapes: Shapes, reduce: bool = False) -> None:
        """Take whether it is summed."""
        super().__init__(in_keys, out_keys, in_shapes)
        self.reduce = reduce

    def compute(self, *inputs: Tensor) -> Tensor:
        """``[N, …, n]`` twice → ``[N, …, n]``, or ``[N, …]``."""
        first, second = inputs
        return (first * second).sum(-1) if self.reduce else first * second


class ActionMaskingBlock(Block):
    """Logits ``[n]`` and a mask ``[n]`` of 0 and 1 → logits of which a forbidden one has probability 0.

    Where nothing is allowed all are equally likely. The heads of a policy do the same with ``<head>_mask``.
    """

    input_dims = ((1, 2), (1, 2))

    def compute(self, *inputs: Tensor) -> Tensor:
        """``[N, n]`` twice → ``[N, n]``."""
        logits, mask = inputs
        return logits.masked_fill(mask == 0, MASKED_LOGIT)


class SliceBlock(Block):
    """One entry of an axis, which is gone afterwards: ``[S, n]`` → ``[n]``."""

    def __init__(
        self, in_keys: Keys, out_keys: Keys, in_shapes: Shapes, slice_idx: int, axis: int = 1
    ) -> None:
        """Take which entry; -1 is the last."""
        super().__init__(in_keys, out_keys, in_shapes)
        self.axis = _checked_axis(self, axis)
        _check_indices(self, [slice_idx])
        self.slice_idx = slice_idx

    def compute(self, *inputs: Tensor) -> Tensor:
        """The input without the axis."""
        return inputs[0].select(self.axis, self.slice_idx)


class MultiIndexSlicingBlock(Block):
    """Several entries of an axis, in the order given: ``[S, n]`` → ``[k, n]``."""

    def __init__(
        self,
        in_keys: Keys,
        out_keys: Keys,
        in_shapes: Shapes,
        select_idxs: int | Sequence[int],
        axis: int = -1,
    ) -> None:
        """Take which entries; -1 is the last."""
        super().__init__(in_keys, out_keys, in_shapes)
        self.axis = _checked_axis(self, axis)
        self.select_idxs = [select_idxs] if isinstance(select_idxs, int) else list(select_idxs)
        _check_indices(self, self.select_idxs)

    def compute(self, *inputs: Tensor) -> Tensor:
        """The input, ``k`` long along the axis."""
        size = inputs[0].shape[self.axis]
        wanted = torch.tensor([i % size for i in self.select_idxs], device=inputs[0].device)
        return inputs[0].index_select(self.axis, wanted)


class RepeatToMatchBlock(Block):
    """The first input once for every entry of the second: ``[n]`` beside ``[S, m]`` → ``[S, n]``."""

    def __init__(self, in_keys: Keys, out_keys: Keys, in_shapes: Shapes, axis: int = 1) -> None:
        """Take the new axis, which is as long as that of the second input."""
        super().__init__(in_keys, out_keys, in_shapes)
        self.axis = _checked_axis(self, axis, input_number=1)

    def compute(self, *inputs: Tensor) -> Tensor:
        """The first input, repeated along a new axis."""
        first, second = inputs
        return torch.stack([first] * second.shape[self.axis], self.axis)


class FunctionalBlock(Block):
    """A function of the user's: it gets the inputs ``[N, …]`` in order, and gives an output, or several."""

    def __init__(self, in_keys: Keys, out_keys: Keys, in_shapes: Shapes, func: Callable[..., Any]) -> None:
        """Take the function."""
        super().__init__(in_keys, out_keys, in_shapes)
        self.func = func

    def compute(self, *inputs: Tensor) -> Any:
        """What the function gives."""
        return self.func(*inputs)


class TorchModelBlock(Block):
    """A module of the user's that takes and gives dicts, of its own keys."""

    def __init__(self, in_keys: Keys, out_keys: Keys, in_shapes: Shapes, net: nn.Module) -> None:
        """Take the module."""
        super().__init__(in_keys, out_keys, in_shapes)
        self.net = net

    def forward(self, tensors: Tensors) -> dict[str, Tensor]:
        """Those of its outputs that have a name here; it sees all leading dimensions.

        Raises:
            ValueError: an input or output is missing.
        """
        given = self.net({key: self.read(tensors, key) for key in self.in_keys})
        missing = [key for key in self.out_keys if key not in given]
        if missing:
            raise ValueError(
                f"{type(self.net).__name__} should give {missing[0]!r}, it gave {sorted(given)}."
            )
        return {key: given[key] for key in self.out_keys}


def _checked_axis(block: Block, axis: int, input_number: int = 0) -> int:
    n_dims = len(block.in_shapes[input_number])
    if axis == 0 or not -n_dims <= axis <= n_dims:
        key = block.in_keys[input_number]
        raise ValueError(
            f"{block.kind}: {key!r} has the axes 1 to {n_dims} behind the batch, or -{n_dims} to -1, not {axis}."
        )
    return axis


def _check_indices(block: "SliceBlock | MultiIndexSlicingBlock", indices: Sequence[int]) -> None:
    size = (0, *block.in_shapes[0])[block.axis]
    for index in indices:
        if not -size <= index < size:
            raise ValueError(
                f"{block.kind}: axis {block.axis} of {block.in_keys[0]!r} has {size} entries, not {index}."
            )
