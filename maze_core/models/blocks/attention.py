"""Attention: between sequences, within one, and within a picture."""

import torch
from torch import Tensor, nn

from maze_core.models.blocks.block import Block, Keys, Shapes, initialised


class MultiHeadAttentionBlock(Block):
    """What queries find among keys (Vaswani et al. 2017, arXiv:1706.03762), by torch's layer.

    Reads query ``[L, e]``, key ``[S, k]`` and value ``[S, v]``, and by further keys up to two masks of 0 and 1:
    ``[L, S]``, which query may look where, and ``[S]``, which keys there are. Gives ``[L, e]`` and, by a second
    out_key, the weights ``[L, S]``. A query that may look nowhere finds 0.
    """

    input_dims = ((2,), (2,), (2,), (1, 2))

    def __init__(
        self,
        in_keys: Keys,
        out_keys: Keys,
        in_shapes: Shapes,
        num_heads: int,
        dropout: float = 0.0,
        bias: bool = True,
        add_input_to_output: bool = False,
    ) -> None:
        """Take the heads, of which the width of queries is a multiple; ``add_input_to_output`` adds the queries.

        Raises:
            ValueError: the width is none.
        """
        super().__init__(in_keys, out_keys, in_shapes)
        (_, width), (_, of_keys), (_, of_values) = self.in_shapes[:3]
        if width % num_heads:
            raise ValueError(f"{self.kind}: queries are {width} wide, which {num_heads} heads do not divide.")
        self.attention = nn.MultiheadAttention(
            width, num_heads, dropout, bias, kdim=of_keys, vdim=of_values, batch_first=True
        )
        self.add_input_to_output = add_input_to_output

    def compute(self, *inputs: Tensor) -> tuple[Tensor, ...]:
        """``[N, L, e]``, and the weights ``[N, L, S]`` where they have a name."""
        query, key, value, *masks = inputs
        allowed = query.new_ones((len(query), query.shape[1], key.shape[1]), dtype=torch.bool)
        for mask in masks:
            allowed = allowed & (mask != 0).reshape(len(mask), -1, key.shape[1])
        found, weights = attended(self.attention, query, key, value, allowed)
        found = found + query if self.add_input_to_output else found
        return (found, weights)[: len(self.out_keys)]


class SelfAttentionSeqBlock(Block):
    """Attention within a sequence: ``[S, n]``, maybe a mask ``[S]`` or ``[S, S]`` → ``[S, n]``, weights ``[S, S]``."""

    input_dims = ((2,), (1, 2))

    def __init__(
        self,
        in_keys: Keys,
        out_keys: Keys,
        in_shapes: Shapes,
        num_heads: int = 1,
        dropout: float = 0.0,
        bias: bool = True,
        add_input_to_output: bool = True,
    ) -> None:
        """Take what :class:`MultiHeadAttentionBlock` does, of which it is the case of one sequence."""
        super().__init__(in_keys, out_keys, in_shapes)
        sequence, *masks = zip(self.in_keys, self.in_shapes, strict=True)
        keys, shapes = zip(sequence, sequence, sequence, *masks, strict=True)
        self.inner = MultiHeadAttentionBlock(
            keys, out_keys, shapes, num_heads, dropout, bias, add_input_to_output
        )

    def compute(self, *inputs: Tensor) -> tuple[Tensor, ...]:
        """``[N, S, n]``, and the weights ``[N, S, S]`` where they have a name."""
        return self.inner.compute(inputs[0], inputs[0], *inputs)


class SelfAttentionConvBlock(Block):
    """Attention among the places of a picture (SAGAN, Zhang et al. 2019, arXiv:1805.08318): ``[C, H, W]``.

    Begins as the identity where the input is added: what is found is scaled by γ, which starts at 0. A second out_key
    gets the weights ``[H·W, H·W]``.
    """

    input_dims = ((3,),)

    def __init__(
        self,
        in_keys: Keys,
        out_keys: Keys,
        in_shapes: Shapes,
        embed_dim: int,
        add_input_to_output: bool = True,
        bias: bool = True,
    ) -> None:
        """Take the width of queries and keys."""
        super().__init__(in_keys, out_keys, in_shapes)
        channels = self.in_shapes[0][0]
        self.query, self.key, self.value = (
            initialised(nn.Conv2d(channels, width, 1, bias=bias), gain=1.0)
            for width in (embed_dim, embed_dim, channels)
        )
        self.gamma = nn.Parameter(torch.zeros(1)) if add_input_to_output else None

    def compute(self, *inputs: Tensor) -> tuple[Tensor, ...]:
        """``[N, C, H, W]``, and the weights ``[N, H·W, H·W]`` where they have a name."""
        (picture,) = inputs
        query, key, value = (layer(picture).flatten(2) for layer in (self.query, self.key, self.value))
        weights = torch.softmax(query.transpose(1, 2) @ key, dim=-1)
        found = (value @ weights.transpose(1, 2)).reshape(picture.shape)
        found = found if self.gamma is None else self.gamma * found + picture
        return (found, weights)[: len(self.out_keys)]


def attended(
    attention: nn.MultiheadAttention, query: Tensor, key: Tensor, value: Tensor, allowed: Tensor
) -> tuple[Tensor, Tensor]:
    """What attention finds, and its weights; 0 where nothing of ``allowed``, ``[N, L, S]``, is true."""
    looks = allowed.any(-1, keepdim=True)
    forbidden = ~(
        allowed | ~looks
    )  # a row of softmax over nothing is NaN, so such a row sees all and is zeroed after
    found, weights = attention(
        query, key, value, attn_mask=forbidden.repeat_interleave(attention.num_heads, dim=0)
    )
    return found * looks, weights * looks
