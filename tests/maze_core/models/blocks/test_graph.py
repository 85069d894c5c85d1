"""Graph blocks against sums written out node by node, over batches of graphs, and at nodes that are beside none."""

import pytest
import torch

from maze_core.models.blocks import GNNBlock, GraphAttentionBlock, GraphConvBlock

N, F = 4, 3
PATH = torch.tensor([[0, 1, 0, 0], [1, 0, 1, 0], [0, 1, 0, 0], [0, 0, 0, 0.0]])
"""0 — 1 — 2, and 3 alone."""


def test_a_graph_convolution_is_its_formula_written_out():
    block = GraphConvBlock(["x", "a"], "y", [(N, F), (N, N)], hidden_features=[5], node_self_importance=2.0)
    x, layer = torch.randn(2, 3, N, F), block.layers[0]
    with_self = PATH + 2.0 * torch.eye(N)
    degrees = with_self.sum(1)
    expected = torch.zeros(2, 3, N, 5)
    for i in range(N):
        for j in range(N):
            weight = with_self[i, j] / (degrees[i] * degrees[j]).sqrt()
            expected[..., i, :] += weight * (x[..., j, :] @ layer.weight.T)
    found = block({"x": x, "a": PATH.expand(2, 3, N, N)})["y"]
    torch.testing.assert_close(found, (expected + layer.bias).relu())


def test_a_node_beside_none_that_does_not_count_itself_is_the_bias_alone():
    block = GraphConvBlock(["x", "a"], "y", [(N, F), (N, N)], hidden_features=[5], node_self_importance=0.0)
    with torch.no_grad():
        block.layers[0].bias.fill_(0.5)
    found = block({"x": torch.randn(N, F), "a": PATH})["y"]
    torch.testing.assert_close(found[3], torch.full((5,), 0.5))


def test_how_much_a_node_counts_itself_is_learnt_where_asked():
    settings = {"hidden_features": [5], "trainable_node_self_importance": True}
    block = GraphConvBlock(["x", "a"], "y", [(N, F), (N, N)], **settings)
    block({"x": torch.randn(N, F), "a": PATH})["y"].sum().backward()
    assert block.self_importance.grad.any()


def test_graph_attention_is_its_formula_written_out():
    block = GraphAttentionBlock(["x", "a"], "y", [(N, F), (N, N)], hidden_features=[5], n_heads=2)
    x = torch.randn(2, 3, N, F)
    values = block.values[0](x).unflatten(-1, (2, 5))
    expected = torch.zeros(2, 3, N, 5)
    for head in range(2):
        own, other = (values[..., head, :] @ part[head] for part in block.scores[0])
        for i in range(N):
            beside = [j for j in range(N) if PATH[i, j]]
            if not beside:
                continue
            scores = torch.stack(
                [torch.nn.functional.leaky_relu(own[..., i] + other[..., j], 0.2) for j in beside], -1
            )
            weights = scores.softmax(-1)
            for k, j in enumerate(beside):
                expected[..., i, :] += weights[..., k, None] * values[..., j, head, :] / 2
    found = block({"x": x, "a": PATH.expand(2, 3, N, N)})["y"]
    torch.testing.assert_close(found, torch.nn.functional.elu(expected))
    assert not found[..., 3, :].any()


@pytest.mark.parametrize("kind", [GraphConvBlock, GraphAttentionBlock])
def test_several_layers_reach_neighbours_of_neighbours_and_no_further(kind: type):
    block = kind(["x", "a"], "y", [(N, F), (N, N)], hidden_features=[5, 6])
    x = torch.randn(N, F, requires_grad=True)
    block({"x": x, "a": PATH + torch.eye(N)})["y"][0].sum().backward()
    assert x.grad[:3].any(dim=1).all()
    assert not x.grad[3].any()
    assert block.out_shapes() == [(N, 6)]


@pytest.mark.parametrize("aggregate", ["sum", "mean", "max"])
def test_messages_are_sent_along_edges_and_become_one(aggregate: str):
    block = GNNBlock(["x", "e", "f"], "y", [(N, F), (3, 2), (3, 2)], hidden_features=[5], aggregate=aggregate)
    x, features = torch.randn(2, N, F), torch.randn(2, 3, 2)
    edges = torch.tensor([[[0, 1], [2, 1], [-1, -1]], [[1, 0], [3, 0], [2, 0]]])
    expected = []
    for graph in range(2):
        received = torch.zeros(N, 5)
        for node in range(N):
            sent = [
                block.messages[0]({"x": torch.cat([x[graph, a], x[graph, b], features[graph, i]])})["y"]
                for i, (a, b) in enumerate(edges[graph].tolist())
                if b == node and a >= 0
            ]
            if sent:
                received[node] = {"sum": torch.sum, "mean": torch.mean, "max": torch.amax}[aggregate](
                    torch.stack(sent), dim=0
                )
        expected.append(block.updates[0]({"x": torch.cat([x[graph], received], 1)})["y"])
    found = block({"x": x, "e": edges.float(), "f": features})["y"]
    torch.testing.assert_close(found, torch.stack(expected))


def test_an_unknown_way_to_join_messages_is_refused():
    with pytest.raises(ValueError, match="aggregate=sum or mean or max, not 'median'"):
        GNNBlock(["x", "e"], "y", [(N, F), (3, 2)], hidden_features=[5], aggregate="median")
