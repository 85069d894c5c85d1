"""Attention against its definition, under masks that allow all, some and nothing."""

import pytest
import torch

from maze_core.models.blocks import MultiHeadAttentionBlock, SelfAttentionConvBlock, SelfAttentionSeqBlock

L, S, E = 3, 4, 6


def by_definition(attention, query, key, value, allowed):
    """softmax(QKᵀ/√d) V per head, over what is allowed."""
    weights = (
        [attention.q_proj_weight, attention.k_proj_weight, attention.v_proj_weight]
        if attention.in_proj_weight is None
        else attention.in_proj_weight.chunk(3)
    )
    q, k, v = (
        (x @ w.T).unflatten(-1, (attention.num_heads, -1)).transpose(-3, -2)
        for x, w in zip((query, key, value), weights, strict=True)
    )
    scores = q @ k.transpose(-1, -2) / q.shape[-1] ** 0.5
    found = scores.masked_fill(~allowed[..., None, :, :], -torch.inf).softmax(-1).nan_to_num() @ v
    return attention.out_proj(found.transpose(-3, -2).flatten(-2)) * allowed.any(-1, keepdim=True)


@pytest.mark.parametrize("widths", [(E, E), (5, 2)], ids=["one width", "three widths"])
def test_attention_is_its_definition_over_any_leading_dimensions(widths: tuple[int, int]):
    shapes = [(L, E), (S, widths[0]), (S, widths[1]), (L, S), (S,)]
    block = MultiHeadAttentionBlock(["q", "k", "v", "m", "there"], "y", shapes, num_heads=2)
    lead = (2, 5)
    given = {key: torch.randn(*lead, *shape) for key, shape in zip(block.in_keys, shapes, strict=True)}
    given["m"], given["there"] = (given["m"] > -0.5).float(), (given["there"] > -0.5).float()
    given["m"][0, 0, 1] = 0  # one query may look nowhere
    given["there"][1, 1] = 0  # one row has no keys at all
    allowed = (given["m"] != 0) & (given["there"] != 0)[..., None, :]
    expected = by_definition(block.attention, given["q"], given["k"], given["v"], allowed)
    found = block(given)["y"]
    torch.testing.assert_close(found, expected)
    assert not found[0, 0, 1].any()
    assert not found[1, 1].any()


def test_nothing_to_look_at_has_a_gradient_of_zero_and_none_that_is_nan():
    block = SelfAttentionSeqBlock(["x", "there"], "y", [(S, E), (S,)], num_heads=2, add_input_to_output=False)
    x = torch.randn(2, S, E, requires_grad=True)
    block({"x": x, "there": torch.tensor([[0.0] * S, [1.0] * S])})["y"].square().sum().backward()
    assert not x.grad[0].any()
    assert x.grad[1].all()


def test_weights_are_an_output_of_their_own_and_add_up_to_one():
    block = SelfAttentionSeqBlock(["x", "there"], ["y", "w"], [(S, E), (S,)])
    there = torch.tensor([1.0, 0, 1, 1])
    given = block({"x": torch.randn(S, E), "there": there})
    torch.testing.assert_close(given["w"].sum(-1), torch.ones(S))
    assert not given["w"][:, 1].any()


def test_heads_that_do_not_divide_the_width_are_refused():
    with pytest.raises(ValueError, match="queries are 6 wide, which 4 heads do not divide"):
        SelfAttentionSeqBlock("x", "y", (S, E), num_heads=4)


def test_attention_in_a_picture_begins_as_the_identity():
    block, x = SelfAttentionConvBlock("x", "y", (3, 4, 5), embed_dim=2), torch.randn(2, 6, 3, 4, 5)
    torch.testing.assert_close(block({"x": x})["y"], x)


def test_attention_in_a_picture_is_its_definition():
    block = SelfAttentionConvBlock("x", ["y", "w"], (3, 2, 2), embed_dim=2, add_input_to_output=False)
    x = torch.randn(5, 3, 2, 2)
    query, key, value = (layer(x).flatten(2) for layer in (block.query, block.key, block.value))
    expected = torch.empty(5, 3, 4)
    for i in range(4):  # each place is the mean of all, weighted by how well they fit
        fit = torch.einsum("nc,ncj->nj", query[:, :, i], key).softmax(-1)
        expected[:, :, i] = torch.einsum("nj,ncj->nc", fit, value)
    given = block({"x": x})
    torch.testing.assert_close(given["y"], expected.reshape(x.shape))
    torch.testing.assert_close(given["w"].sum(-1), torch.ones(5, 4))
