"""What cuts, joins and masks, against torch's own, behind any leading dimensions."""

import pytest
import torch
from torch import nn

from maze_core.models.blocks import (
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

X = torch.randn(2, 5, 3, 4)
"""``[T, B, 3, 4]``."""
Z = torch.randn(2, 5, 3, 4)
SHAPE = (3, 4)


@pytest.mark.parametrize(
    ("block", "expected"),
    [
        (FlattenBlock("x", "y", SHAPE), X.flatten(2)),
        (FlattenBlock("x", "y", SHAPE, num_flatten_dims=1), X),
        (ConcatenationBlock(["x", "z"], "y", [SHAPE, SHAPE]), torch.cat([X, Z], -1)),
        (ConcatenationBlock(["x", "z"], "y", [SHAPE, SHAPE], axis=1), torch.cat([X, Z], 2)),
        (CorrelationBlock(["x", "z"], "y", [SHAPE, SHAPE]), X * Z),
        (CorrelationBlock(["x", "z"], "y", [SHAPE, SHAPE], reduce=True), (X * Z).sum(-1)),
        (SliceBlock("x", "y", SHAPE, slice_idx=-1), X[:, :, -1]),
        (SliceBlock("x", "y", SHAPE, slice_idx=1, axis=-1), X[..., 1]),
        (MultiIndexSlicingBlock("x", "y", SHAPE, select_idxs=[2, -4]), X[..., [2, 0]]),
        (MultiIndexSlicingBlock("x", "y", SHAPE, select_idxs=1, axis=1), X[:, :, [1]]),
        (FunctionalBlock(["x", "z"], "y", [SHAPE, SHAPE], func=torch.maximum), torch.maximum(X, Z)),
    ],
    ids=lambda value: value.kind if hasattr(value, "kind") else "",
)
def test_a_block_does_what_torch_does(block, expected: torch.Tensor):
    torch.testing.assert_close(block({"x": X, "z": Z})["y"], expected)
    assert block.out_shapes() == [tuple(expected.shape[2:])]


def test_an_input_is_repeated_for_every_entry_of_another():
    block = RepeatToMatchBlock(["x", "z"], "y", [(4,), (3, 7)])
    found = block({"x": X[:, :, 0], "z": torch.zeros(2, 5, 3, 7)})["y"]
    assert torch.equal(found, X[:, :, :1].expand(2, 5, 3, 4))


def test_a_forbidden_action_has_probability_0_and_all_are_equal_where_none_is_allowed():
    mask = torch.tensor([[1.0, 0, 1], [0, 0, 0]])
    logits = torch.tensor([[1.0, 9, 2], [1, 2, 3]])
    block = ActionMaskingBlock(["l", "m"], "y", [(3,), (3,)])
    probabilities = block({"l": logits, "m": mask})["y"].softmax(-1)
    torch.testing.assert_close(probabilities[0, [0, 2]], logits[0, [0, 2]].softmax(-1))
    assert probabilities[0, 1] == 0
    torch.testing.assert_close(probabilities[1], torch.full((3,), 1 / 3))


class Net(nn.Module):
    def forward(self, tensors):
        return {"y": tensors["x"] + 1}


def test_a_module_of_the_users_is_a_block():
    assert torch.equal(TorchModelBlock("x", "y", SHAPE, Net())({"x": X, "other": X})["y"], X + 1)
    with pytest.raises(ValueError, match=r"Net should give 'q', it gave \['y'\]"):
        TorchModelBlock("x", "q", SHAPE, Net())({"x": X})


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: FlattenBlock("x", "y", SHAPE, num_flatten_dims=3), "flattens 1 to 2 axes here, not 3"),
        (lambda: SliceBlock("x", "y", SHAPE, slice_idx=3), "axis 1 of 'x' has 3 entries, not 3"),
        (
            lambda: SliceBlock("x", "y", SHAPE, slice_idx=0, axis=0),
            "'x' has the axes 1 to 2 behind the batch, .* not 0",
        ),
        (
            lambda: MultiIndexSlicingBlock("x", "y", SHAPE, select_idxs=[0, 4]),
            "axis -1 of 'x' has 4 entries, not 4",
        ),
    ],
)
def test_what_is_not_there_is_refused(make, message: str):
    with pytest.raises(ValueError, match=message):
        make()
