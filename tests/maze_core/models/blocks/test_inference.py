"""Networks of blocks: order from names, mistakes in words, states side by side, extra axes folded."""

import pytest
import torch

from maze_core.models.blocks import (
    ConcatenationBlock,
    DenseBlock,
    FlattenBlock,
    GRUBlock,
    InferenceBlock,
    LSTMBlock,
    StridedConvolutionBlock,
)


def dense(in_key: str, out_key: str, n: int = 4, n_out: int = 4) -> DenseBlock:
    return DenseBlock(in_key, out_key, (n,), hidden_units=[n_out])


def test_names_say_the_order_and_unused_blocks_are_left_out():
    blocks = {"c": dense("b", "c"), "b": dense("a", "b"), "unused": dense("b", "u")}
    net, x = InferenceBlock("a", "c", (4,), blocks), torch.randn(2, 3, 4)
    assert list(net.blocks) == ["b", "c"]
    expected = blocks["c"](blocks["b"]({"a": x}))["c"]
    given = net({"a": x, "other": x})
    assert list(given) == ["c"]
    torch.testing.assert_close(given["c"], expected)
    assert net.out_shapes() == [(4,)]


@pytest.mark.parametrize(
    ("blocks", "out", "message"),
    [
        (
            [dense("z", "b")],
            "b",
            r"'b' reads 'z', which is no input, and no block gives it; there is \['a', 'b'\]",
        ),
        ([dense("a", "b")], "c", r"out_keys name 'c', which is no input, and no block gives it"),
        ([dense("c", "b"), dense("b", "c")], "c", "blocks wait for each other: c → b → c"),
        (
            {"one": dense("a", "b"), "two": dense("a", "b")},
            "b",
            "'two' gives 'b', which is given by 'one' too",
        ),
        ([dense("a", "b"), dense("a", "b")], "b", "two blocks have the same out_keys"),
        ([dense("a", "a")], "a", "'a' gives 'a', which is an input too: rename one"),
        ([dense("a", "b", n=5)], "b", r"DenseBlock expects 'a' of shape \[5\], it has \[4\]"),
    ],
)
def test_blocks_that_do_not_fit_are_refused(blocks, out: str, message: str):
    with pytest.raises(ValueError, match=message):
        InferenceBlock("a", out, (4,), blocks)


def test_axes_in_front_of_what_a_block_reads_are_kept():
    net = InferenceBlock(
        "stack",
        "y",
        (6, 1, 5, 5),
        [
            StridedConvolutionBlock("stack", "picture", (1, 5, 5), hidden_channels=[2], hidden_kernels=3),
            FlattenBlock("picture", "y", (2, 3, 3)),
        ],
    )
    assert net.out_shapes() == [(6, 18)]
    assert net({"stack": torch.zeros(3, 6, 1, 5, 5)})["y"].shape == (3, 6, 18)


def test_the_states_of_several_blocks_stand_side_by_side():
    first, second = LSTMBlock("a", "h", (4,), hidden_size=3), GRUBlock("h", "g", (3,), hidden_size=2)
    net = InferenceBlock("a", "y", (4,), [first, second, ConcatenationBlock(["h", "g"], "y", [(3,), (2,)])])
    assert net.state_width == 8
    x, begins = torch.randn(5, 2, 4), torch.zeros(5, 2, dtype=torch.bool)
    begins[3, 0] = True
    whole = net({"a": x, "begins": begins})
    state, outputs = torch.zeros(2, 8), []
    for t in range(5):
        given = net({"a": x[t], "state": state * (~begins[t])[:, None]})
        state = given["state"]
        outputs.append(given["y"])
    torch.testing.assert_close(whole["y"], torch.stack(outputs))
    torch.testing.assert_close(whole["state"], state)


def test_a_network_is_a_block_of_another():
    inner = InferenceBlock("a", "h", (4,), [GRUBlock("a", "h", (4,), hidden_size=3)])
    outer = InferenceBlock("a", "y", (4,), [inner, dense("h", "y", n=3)])
    assert outer.state_width == 3
    assert outer({"a": torch.zeros(2, 4)})["state"].shape == (2, 3)
