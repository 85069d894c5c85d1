"""The gradient step against torch's own Adam and clipping; one flat buffer, shared parameters, its state."""

import copy

import numpy as np
import pytest
import torch
from torch import nn

from maze_core.errors import DivergedError
from maze_core.models.module_network import ModuleNetwork
from maze_core.trainers.config import OptimizerConfig
from maze_core.trainers.optim import GradientStep


def networks(seed=0):
    with torch.random.fork_rng():
        torch.manual_seed(seed)
        return nn.Linear(3, 4), nn.Sequential(nn.Linear(3, 5), nn.Tanh(), nn.Linear(5, 1))


def loss_of(modules, x, scale=1.0):
    first, second = modules
    return scale * (first(x).square().sum() + (second(x) - 1.0).square().sum())


def step_of(modules, **settings):
    """A gradient step of torch modules, whose parameters and gradients lie in its buffers."""
    networks = {str(i): ModuleNetwork(module, {}) for i, module in enumerate(modules)}
    step = GradientStep(networks, **settings)
    for i, module in enumerate(modules):
        for name, gradient in step.gradients_of(f"{i}/module.").items():
            module.get_parameter(name).grad = torch.from_numpy(gradient)
    return step


def take(step, loss):
    step.zero()
    loss.backward()
    return step.step()


OPTIMIZERS = {
    "adam": (OptimizerConfig(), torch.optim.Adam, {"eps": 1e-5}),
    "adam with all settings": (
        OptimizerConfig(eps=1e-3, beta1=0.5, beta2=0.9, weight_decay=0.1),
        torch.optim.Adam,
        {"eps": 1e-3, "betas": (0.5, 0.9), "weight_decay": 0.1},
    ),
    "rmsprop": (OptimizerConfig(kind="rmsprop"), torch.optim.RMSprop, {"eps": 1e-5}),
    "rmsprop with all settings": (
        OptimizerConfig(kind="rmsprop", eps=1e-3, alpha=0.8, weight_decay=0.1),
        torch.optim.RMSprop,
        {"eps": 1e-3, "alpha": 0.8, "weight_decay": 0.1},
    ),
    "sgd": (OptimizerConfig(kind="sgd"), torch.optim.SGD, {}),
    "sgd with all settings": (
        OptimizerConfig(kind="sgd", momentum=0.8, weight_decay=0.1),
        torch.optim.SGD,
        {"momentum": 0.8, "weight_decay": 0.1},
    ),
}


@pytest.mark.parametrize("name", OPTIMIZERS)
@pytest.mark.parametrize(
    ("max_grad_norm", "scale"), [(None, 1.0), (0.5, 1.0), (1e6, 1.0), (0.5, 1e-9)], ids=str
)
def test_steps_are_those_of_torchs_optimizer_after_torchs_clipping(max_grad_norm, scale, name):
    config, of_torch, settings = OPTIMIZERS[name]
    ours, theirs = networks(), networks()
    step = step_of(ours, lr=0.01, max_grad_norm=max_grad_norm, optimizer=config)
    parameters = [p for module in theirs for p in module.parameters()]
    optimizer = of_torch(parameters, lr=0.01, **settings)
    for i in range(5):
        x = torch.linspace(-1, 1, 6).reshape(2, 3) * (i + 1)
        step.lr = 0.01 * (5 - i)
        optimizer.param_groups[0]["lr"] = 0.01 * (5 - i)
        norm = take(step, loss_of(ours, x, scale))
        optimizer.zero_grad()
        loss_of(theirs, x, scale).backward()
        limit = float("inf") if max_grad_norm is None else max_grad_norm
        assert norm == pytest.approx(nn.utils.clip_grad_norm_(parameters, limit).item(), rel=1e-6)
        optimizer.step()
        mine = [p for module in ours for p in module.parameters()]
        for a, b in zip(mine, parameters, strict=True):
            torch.testing.assert_close(a, b, rtol=2e-5, atol=2e-6)


def test_the_norm_is_that_before_clipping():
    modules = networks()
    x = torch.ones(2, 3)
    norm = take(step_of(modules, lr=0.01, max_grad_norm=1e-3), loss_of(modules, x, 100.0))
    assert norm > 100


def test_a_gradient_of_zero_moves_nothing():
    modules = networks()
    before = copy.deepcopy([module.state_dict() for module in modules])
    step = step_of(modules, lr=0.01, max_grad_norm=0.5)
    assert take(step, loss_of(modules, torch.ones(2, 3), 0.0)) == 0.0
    for module, kept in zip(modules, before, strict=True):
        for name, value in module.state_dict().items():
            assert torch.equal(value, kept[name])


def test_weights_are_kept_when_they_move_into_the_buffer_and_networks_take_them_from_there():
    module = nn.Linear(2, 1)
    weight, bias = module.weight.tolist(), module.bias.item()
    step = step_of([module], lr=0.1, max_grad_norm=None)
    assert (module.weight.tolist(), module.bias.item()) == (weight, bias)
    step.gradients["0/module.bias"] += 1
    step.step()
    assert module.bias.item() == pytest.approx(bias - 0.1, abs=1e-5)
    assert module.weight.tolist() == weight
    step.flat[...] = 7.0
    assert module.weight.tolist() == [[7.0, 7.0]]


def test_a_parameter_that_two_modules_share_is_stepped_once():
    shared, alone = nn.Linear(2, 2), nn.Linear(2, 2)
    alone.load_state_dict(shared.state_dict())
    steps = (
        step_of([shared, nn.Sequential(shared)], lr=0.1, max_grad_norm=None),
        step_of([alone], lr=0.1, max_grad_norm=None),
    )
    for step, module in zip(steps, (shared, alone), strict=True):
        take(step, module(torch.ones(1, 2)).sum())
    assert torch.equal(shared.weight, alone.weight)


@pytest.mark.parametrize("kind", ["adam", "rmsprop", "sgd"])
def test_weight_decay_does_not_move_what_is_frozen(kind):
    modules = networks()
    modules[1][0].requires_grad_(False)
    before = [[p.detach().clone() for p in module.parameters()] for module in modules]
    optimizer = OptimizerConfig(kind=kind, weight_decay=0.1)
    step = step_of(modules, lr=0.01, max_grad_norm=None, optimizer=optimizer)
    take(step, loss_of(modules, torch.ones(2, 3)))
    for module, those in zip(modules, before, strict=True):
        for p, old in zip(module.parameters(), those, strict=True):
            assert torch.equal(p, old) is not p.requires_grad


def test_gradients_do_not_add_up_over_steps():
    modules = networks()
    step = step_of(modules, lr=1e-9, max_grad_norm=None)
    norms = [take(step, loss_of(modules, torch.ones(2, 3))) for _ in range(3)]
    assert norms == pytest.approx([norms[0]] * 3, rel=1e-4)


def test_the_state_is_a_copy_and_goes_on_where_it_was_written():
    modules = networks()
    step = step_of(modules, lr=0.1, max_grad_norm=None)
    assert step.state_dict() == {}
    take(step, loss_of(modules, torch.ones(2, 3)))
    state = step.state_dict()
    kept = {name: array.copy() for name, array in state.items()}
    assert sorted(state) == ["exp_avg", "exp_avg_sq", "step"]
    assert int(state["step"]) == 1
    other = copy.deepcopy(networks())
    for module, ours in zip(other, modules, strict=True):
        module.load_state_dict(ours.state_dict())
    again = step_of(other, lr=0.1, max_grad_norm=None)
    again.load_state_dict(state)
    for each, of in ((step, modules), (again, other)):
        take(each, loss_of(of, torch.full((2, 3), 0.5)))
    assert torch.equal(modules[0].weight, other[0].weight)
    assert all(np.array_equal(state[name], kept[name]) for name in state), (
        "the loaded arrays are not written to"
    )


def test_an_empty_state_is_that_before_the_first_step():
    modules = networks()
    step = step_of(modules, lr=0.1, max_grad_norm=None)
    take(step, loss_of(modules, torch.ones(2, 3)))
    step.load_state_dict({})
    assert step.state_dict() == {}
    take(step, loss_of(modules, torch.ones(2, 3)))
    assert int(step.state_dict()["step"]) == 1


@pytest.mark.parametrize("value", [float("nan"), float("inf")])
def test_a_weight_that_is_not_finite_is_found(value):
    modules = networks()
    step = step_of(modules, lr=0.1, max_grad_norm=None)
    step.check_finite()
    modules[1][2].bias.data.fill_(value)
    with pytest.raises(DivergedError, match=r"algorithm\.lr"):
        step.check_finite()


@pytest.mark.parametrize("name", OPTIMIZERS)
def test_a_network_has_a_step_size_of_its_own(name):
    config, theirs, settings = OPTIMIZERS[name]
    ours, copies = networks(), networks()
    step = step_of(ours, lr=0.01, max_grad_norm=None, optimizer=config, rates={"1": 0.25})
    groups = [
        {"params": list(copies[0].parameters())},
        {"params": list(copies[1].parameters()), "lr": 0.0025},
    ]
    optimizer = theirs(groups, lr=0.01, **settings)
    x = torch.linspace(-1, 1, 12).reshape(4, 3)
    for _ in range(3):
        take(step, loss_of(ours, x))
        optimizer.zero_grad()
        loss_of(copies, x).backward()
        optimizer.step()
    for mine, other in zip(ours, copies, strict=True):
        for p, q in zip(mine.parameters(), other.parameters(), strict=True):
            torch.testing.assert_close(p, q, rtol=1e-4, atol=1e-6)


def test_what_two_networks_share_has_the_step_size_of_the_first():
    (module, _) = networks()
    before = module.weight.detach().clone()
    step = step_of((module, module), lr=0.01, max_grad_norm=None, rates={"1": 0.25})
    take(step, module(torch.ones(1, 3)).sum())
    assert (module.weight - before).abs().max().item() == pytest.approx(0.01, rel=1e-3)
