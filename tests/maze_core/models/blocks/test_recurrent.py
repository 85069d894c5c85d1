"""Recurrent blocks against torch's layers: step by step, in whole sequences, and over the beginnings of episodes."""

import pytest
import torch

from maze_core.models.blocks import GRUBlock, LSTMBlock, LSTMLastStepBlock
from maze_core.models.blocks.recurrent import BEGINS, STATE

KINDS = [LSTMBlock, GRUBlock]
T, N = 7, 3


def made(kind: type, num_layers: int = 1):
    torch.manual_seed(0)
    return kind("x", "y", (4,), hidden_size=5, num_layers=num_layers)


def step_by_step(block, x: torch.Tensor, begins: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
    """What acting gives: one tick at a time, the state zeroed by whoever carries it."""
    state, outputs = torch.zeros(N, block.state_width), []
    for t in range(T):
        given = block({"x": x[t], STATE: state * (~begins[t])[:, None]})
        outputs.append(given["y"])
        state = given[STATE]
    return torch.stack(outputs), state


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("num_layers", [1, 2])
def test_a_sequence_is_what_torch_makes_of_it(kind: type, num_layers: int):
    block, x = made(kind, num_layers), torch.randn(T, N, 4)
    found = block({"x": x, BEGINS: torch.zeros(T, N, dtype=torch.bool)})
    expected, last = block.layer(x)
    torch.testing.assert_close(found["y"], expected)
    h = last[0] if kind is LSTMBlock else last
    torch.testing.assert_close(found[STATE][:, : 5 * num_layers], h.transpose(0, 1).flatten(1))
    assert found[STATE].shape == (N, block.state_width)


@pytest.mark.parametrize("kind", KINDS)
def test_acting_step_by_step_is_the_sequence_that_is_learnt_from(kind: type):
    block, x = made(kind, 2), torch.randn(T, N, 4)
    begins = torch.zeros(T, N, dtype=torch.bool)
    begins[0] = begins[2, 1] = begins[5, 0] = begins[5, 2] = True
    found = block({"x": x, BEGINS: begins, STATE: torch.randn(N, block.state_width)})
    outputs, state = step_by_step(block, x, begins)
    torch.testing.assert_close(found["y"], outputs)
    torch.testing.assert_close(found[STATE], state)


@pytest.mark.parametrize("kind", KINDS)
def test_no_gradient_goes_from_one_episode_to_the_one_before(kind: type):
    block, x = made(kind), torch.randn(T, N, 4, requires_grad=True)
    begins = torch.zeros(T, N, dtype=torch.bool)
    begins[4] = True
    block({"x": x, BEGINS: begins})["y"][5].sum().backward()
    assert not x.grad[:4].any()
    assert x.grad[4].any()


def test_a_state_that_goes_on_reaches_into_a_sequence():
    block, x, begins = made(GRUBlock), torch.randn(T, N, 4), torch.zeros(T, N, dtype=torch.bool)
    whole = block({"x": x, BEGINS: begins})["y"]
    first = block({"x": x[:3], BEGINS: begins[:3]})
    second = block({"x": x[3:], BEGINS: begins[3:], STATE: first[STATE]})["y"]
    torch.testing.assert_close(torch.cat([first["y"], second]), whole)


def test_a_single_observation_needs_no_batch():
    block = made(LSTMBlock)
    given = block({"x": torch.randn(4), STATE: torch.zeros(block.state_width)})
    assert given["y"].shape == (5,)
    assert given[STATE].shape == (10,)


def test_the_last_step_of_a_stack_is_that_of_torch():
    block = LSTMLastStepBlock("x", "y", (6, 4), hidden_size=5, bidirectional=True, non_lin="tanh")
    x = torch.randn(2, N, 6, 4)
    read, _ = block.layer(x.flatten(0, 1))
    expected = torch.cat((read[:, -1, :5], read[:, 0, 5:]), 1).tanh()
    torch.testing.assert_close(block({"x": x})["y"], expected.unflatten(0, (2, N)))
    assert block.out_shapes() == [(10,)]


@pytest.mark.parametrize("bidirectional", [False, True])
def test_each_direction_has_read_the_whole_stack(bidirectional):
    block = LSTMLastStepBlock("x", "y", (6, 4), hidden_size=5, num_layers=2, bidirectional=bidirectional)
    x = torch.randn(6, 4, requires_grad=True)
    for direction in block({"x": x})["y"].split(5):
        (d,) = torch.autograd.grad(direction.sum(), x, retain_graph=True)
        assert d.any(1).all()
