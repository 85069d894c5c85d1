"""Graphs: features of nodes, and who is beside whom as a matrix or a list of edges. Nothing beyond torch is needed."""

from collections.abc import Sequence

import torch
from torch import Tensor, nn

from maze_core.models.blocks.block import Block, Keys, Shapes, WeightInit, activation, initialised
from maze_core.models.blocks.dense import DenseBlock

NON_EDGE = -1
"""A number of a node that marks an edge which is not there, in lists that are longer than the edges are many."""


class GraphConvBlock(Block):
    """Graph convolutions (Kipf and Welling 2017, arXiv:1609.02907): nodes ``[N, F]``, beside ``[N, N]`` → ``[N, F']``.

    H' = activation(D^-½ (A + s·I) D^-½ H W + b), with D the row sums; with ``preprocess_adj=False`` the adjacency is
    taken as it is. A node beside none, and with s = 0, gets activation(b).
    """

    input_dims = ((2,), (2,))

    def __init__(
        self,
        in_keys: Keys,
        out_keys: Keys,
        in_shapes: Shapes,
        hidden_features: Sequence[int],
        bias: bool = True,
        non_lins: str | type[nn.Module] = "relu",
        node_self_importance: float = 1.0,
        trainable_node_self_importance: bool = False,
        preprocess_adj: bool = True,
        weight_init: WeightInit = "orthogonal",
        hidden_gain: float = 2**0.5,
    ) -> None:
        """Take widths, and how much a node counts among its neighbours, s."""
        super().__init__(in_keys, out_keys, in_shapes)
        widths = [self.in_shapes[0][1], *hidden_features]
        self.layers = nn.ModuleList(
            initialised(nn.Linear(n_in, n_out, bias), weight_init, hidden_gain)
            for n_in, n_out in zip(widths, hidden_features, strict=False)
        )
        self.non_lin, self.preprocess_adj = activation(non_lins), preprocess_adj
        self.self_importance = nn.Parameter(
            torch.tensor([float(node_self_importance)]), requires_grad=trainable_node_self_importance
        )

    def compute(self, *inputs: Tensor) -> Tensor:
        """``[B, N, F]`` and ``[B, N, N]`` → ``[B, N, F']``."""
        nodes, adjacency = inputs
        if self.preprocess_adj:
            adjacency = adjacency + self.self_importance * torch.eye(
                adjacency.shape[-1], device=adjacency.device
            )
            degrees = adjacency.sum(-1)
            root = torch.where(degrees > 0, degrees, 1.0).rsqrt()
            adjacency = root[..., None] * adjacency * root[..., None, :]
        for layer in self.layers:
            assert isinstance(layer, nn.Linear)
            nodes = adjacency @ (nodes @ layer.weight.T)
            nodes = self.non_lin(nodes if layer.bias is None else nodes + layer.bias)
        return nodes


class GraphAttentionBlock(Block):
    """Graph attention (Veličković et al. 2018, arXiv:1710.10903): nodes ``[N, F]``, adjacency ``[N, N]`` → ``[N, F']``.

    A node looks at those that its row of the adjacency names, itself only where the diagonal says so, and finds 0 where
    there is none. Heads stand side by side behind each layer but the last, where their mean is taken.
    """

    input_dims = ((2,), (2,))

    def __init__(
        self,
        in_keys: Keys,
        out_keys: Keys,
        in_shapes: Shapes,
        hidden_features: Sequence[int],
        n_heads: int = 1,
        alpha: float = 0.2,
        non_lins: str | type[nn.Module] = "elu",
        weight_init: WeightInit = "orthogonal",
        hidden_gain: float = 2**0.5,
    ) -> None:
        """Take widths, heads, and the slope of scores below 0."""
        super().__init__(in_keys, out_keys, in_shapes)
        self.values, self.scores = nn.ModuleList(), nn.ParameterList()
        width = self.in_shapes[0][1]
        for n_out in hidden_features:
            layer = nn.Linear(width, n_heads * n_out, bias=False)
            self.values.append(initialised(layer, weight_init, hidden_gain))
            self.scores.append(nn.Parameter(torch.randn(2, n_heads, n_out) / n_out**0.5))
            width = n_heads * n_out
        self.n_heads, self.alpha, self.non_lin = n_heads, alpha, activation(non_lins)

    def compute(self, *inputs: Tensor) -> Tensor:
        """``[B, N, F]`` and ``[B, N, N]`` → ``[B, N, F']``."""
        nodes, adjacency = inputs
        beside = (adjacency != 0)[:, None]
        for i, (layer, score) in enumerate(zip(self.values, self.scores, strict=True)):
            values = layer(nodes).unflatten(-1, (self.n_heads, -1)).transpose(1, 2)  # [B, heads, N, F']
            own, other = ((values * part[:, None]).sum(-1) for part in score)
            scores = nn.functional.leaky_relu(own[..., None] + other[..., None, :], self.alpha)
            weights = scores.masked_fill(~beside, torch.finfo(scores.dtype).min).softmax(-1) * beside
            found = weights @ values
            is_last = i + 1 == len(self.values)
            nodes = self.non_lin(found.mean(1) if is_last else found.transpose(1, 2).flatten(2))
        return nodes


class GNNBlock(Block):
    """Messages along edges (Gilmer et al. 2017, arXiv:1704.01212): nodes ``[N, F]``, edges ``[E, 2]`` → ``[N, F']``.

    An edge is a pair of numbers of nodes, from and to; -1 marks one that is not there. A third input are features of
    the edges ``[E, G]``. In each layer an edge's message is a dense layer of both nodes and its features, messages are
    summed, averaged or their maximum taken (0 where none comes), and a dense layer of node and messages follows.
    """

    input_dims = ((2,), (2,), (2,))

    def __init__(
        self,
        in_keys: Keys,
        out_keys: Keys,
        in_shapes: Shapes,
        hidden_features: Sequence[int],
        aggregate: str = "sum",
        non_lin: str | type[nn.Module] = "relu",
        weight_init: WeightInit = "orthogonal",
        hidden_gain: float = 2**0.5,
    ) -> None:
        """Take the width of each layer, and how messages become one: ``sum``, ``mean`` or ``max``.

        Raises:
            ValueError: they do so in no other way.
        """
        super().__init__(in_keys, out_keys, in_shapes)
        if aggregate not in _REDUCTIONS:
            raise ValueError(f"{self.kind} takes aggregate={' or '.join(_REDUCTIONS)}, not {aggregate!r}.")
        self.aggregate = aggregate
        of_edges = sum(shape[1] for shape in self.in_shapes[2:])
        self.messages, self.updates, width = nn.ModuleList(), nn.ModuleList(), self.in_shapes[0][1]
        for n_out in hidden_features:
            for layers, n_in in ((self.messages, 2 * width + of_edges), (self.updates, width + n_out)):
                layers.append(DenseBlock("x", "y", (n_in,), [n_out], non_lin, weight_init, hidden_gain))
            width = n_out

    def compute(self, *inputs: Tensor) -> Tensor:
        """``[B, N, F]``, ``[B, E, 2]`` and maybe ``[B, E, G]`` → ``[B, N, F']``."""
        nodes, edges, *features = inputs
        flat: Tensor = nodes.flatten(0, 1)
        n_graphs, n_nodes, _ = nodes.shape
        ends = edges.long()
        exists = (ends != NON_EDGE).all(-1)
        graph = torch.arange(n_graphs, device=nodes.device)[:, None].expand_as(exists)
        graph = _of(graph, exists)
        source, target = (_of(ends, exists) + n_nodes * graph[:, None]).unbind(1)
        given = [_of(part, exists) for part in features]
        for message, update in zip(self.messages, self.updates, strict=True):
            sent = message({"x": torch.cat([flat[source], flat[target], *given], 1)})["y"]
            received = sent.new_zeros(len(flat), sent.shape[1]).scatter_reduce(
                0, target[:, None].expand_as(sent), sent, _REDUCTIONS[self.aggregate], include_self=False
            )
            flat = update({"x": torch.cat([flat, received], 1)})["y"]
        return flat.reshape(n_graphs, n_nodes, -1)


def _of(values: Tensor, exists: Tensor) -> Tensor:
    """Those of the edges that exist; all where only shapes are asked for."""
    return values.flatten(0, 1) if values.is_meta else values[exists]


_REDUCTIONS = {"sum": "sum", "mean": "mean", "max": "amax"}
