"""Large torch networks: rows in parts, whatever the number of threads; one module for policy and critic is one."""

from typing import Any

import numpy as np
import pytest
import torch
from gymnasium import spaces
from torch import nn

from maze_core.models import module_network
from maze_core.models.config import (
    CustomModelConfig,
    ProbabilisticPolicyComposerConfig,
    StepStateCriticConfig,
)
from maze_core.models.module_network import ModuleNetwork
from maze_core.threads import one_thread
from tests.maze_core.models import autograd
from tests.maze_core.trainers.small_worlds import PICTURES, Pictures, learner_of

N = 23
OUTPUTS = {"action": 2}


@pytest.fixture
def large(monkeypatch: pytest.MonkeyPatch) -> None:
    """What counts as a large network is a small one."""
    for name in ("_LARGE", "_PART_WORK", "_PIECE_WORK"):
        monkeypatch.setattr(module_network, name, 5000)
    monkeypatch.setattr(module_network, "_PIECE_SIZE", 16)


@pytest.fixture(params=[1, 3])
def threads(request: pytest.FixtureRequest) -> Any:
    before = torch.get_num_threads()
    torch.set_num_threads(request.param)
    yield request.param
    torch.set_num_threads(before)


def pictures(n: int = N) -> dict[str, np.ndarray]:
    return {"observation": np.random.default_rng(0).integers(0, 256, (n, 8, 8, 3), np.uint8)}


@one_thread()  # as a trainer does
def learnt(network: ModuleNetwork) -> tuple[np.ndarray, dict[str, np.ndarray]]:
    """Output, and gradients of a weighted sum of it."""
    gradients = {name: np.ones_like(x) for name, x in network.parameters.items()}
    (output,), pull = network.learner(gradients)(pictures())
    pull([np.random.default_rng(1).standard_normal(output.shape).astype(np.float32)])
    return output, gradients


def network_of(module: nn.Module) -> ModuleNetwork:
    space = spaces.Dict({"observation": PICTURES})
    return module_network.module_network(module, space, OUTPUTS, "here", arguments=(), copies={})


def test_the_work_of_a_network_is_its_multiply_adds_for_one_row() -> None:
    """Kernels of 3 × 3 over 6 × 6 places, then a dense layer of 144 to 5, and 2 + 1 outputs."""
    assert network_of(Pictures()).work == 36 * 27 * 4 + 144 * 5 + 5 * 2 + 5 * 1


@pytest.mark.usefixtures("large", "threads")
def test_gradients_of_parts_add_up_to_those_of_autograd_in_double_precision() -> None:
    network = network_of(Pictures())
    assert len(network._parts(N)) == 4
    output, gradients = learnt(network)
    double = network.twin().module.double()
    given = double({"observation": torch.from_numpy(pictures()["observation"]).double()})["action"]
    np.testing.assert_allclose(output.T, given.detach().numpy(), rtol=1e-5, atol=1e-6)
    d_output = torch.from_numpy(np.random.default_rng(1).standard_normal(output.shape).astype(np.float32))
    given.backward(d_output.T.double())
    for name, parameter in double.named_parameters():
        expected = 1.0 if parameter.grad is None else parameter.grad.numpy() + 1.0
        np.testing.assert_allclose(gradients[f"module.{name}"], expected, rtol=1e-5, atol=1e-4)


@pytest.mark.usefixtures("large")
def test_parts_give_the_same_bits_on_any_number_of_threads() -> None:
    found = []
    for n in (1, 2, 5):
        torch.set_num_threads(n)
        network = network_of(Pictures())
        output, gradients = learnt(network)
        found.append(
            [output.tobytes(), network(pictures()).tobytes()] + [x.tobytes() for x in gradients.values()]
        )
    torch.set_num_threads(1)
    assert found[0] == found[1] == found[2]


@pytest.mark.usefixtures("large", "threads")
def test_a_row_of_a_large_network_has_the_same_bits_whatever_its_batch() -> None:
    network = network_of(Pictures())
    seen = pictures()["observation"]
    together = network({"observation": seen})
    for rows in (slice(0, 1), slice(3, 4), slice(2, 11), slice(5, N)):
        assert (network({"observation": seen[rows]}) == together[rows]).all()


class Remembering(Pictures):
    """Keeps on itself what it computes, and reads it again."""

    def forward(self, observations: Any) -> Any:
        self.seen = observations["observation"]
        torch.randn(20_000).sort()  # time for another thread to come in between
        return super().forward({"observation": self.seen})


@pytest.mark.usefixtures("large")
def test_a_module_that_keeps_things_on_itself_is_not_disturbed_by_threads() -> None:
    modules = Pictures(), Remembering()
    modules[1].load_state_dict(modules[0].state_dict())
    torch.set_num_threads(4)
    outputs = [[learnt(network_of(module))[0].tobytes() for _ in range(5)] for module in modules]
    torch.set_num_threads(1)
    assert outputs[0] == outputs[1]


class Wanted(Pictures):
    """Leaves out what is not wanted."""

    def forward(self, observations: Any, wanted: tuple[str, ...] = ("action", "value")) -> Any:
        given = super().forward(observations)
        return {name: given[name] for name in wanted}


def model_of(module: nn.Module) -> Any:
    return CustomModelConfig(
        policy=ProbabilisticPolicyComposerConfig(networks=[module]),
        critic=StepStateCriticConfig(networks=[module]),
    ).build(
        {0: spaces.Dict({"observation": PICTURES})},
        {0: spaces.Dict({"action": spaces.Discrete(2)})},
        {0: 1},
        generator_seed=0,
    )


@pytest.mark.usefixtures("large", "threads")
@pytest.mark.parametrize("kind", [Pictures, Wanted])
def test_policy_and_critic_of_one_module_learn_at_once_what_autograd_says(kind: type[Pictures]) -> None:
    model = model_of(kind())
    learner, step = learner_of(model.policy, model.critic)
    assert learner._steps[0]._policy_and_critic is not None
    actions = {"action": np.arange(N) % 2}
    upstream = np.random.default_rng(3).standard_normal((3, N)).astype(np.float32)
    step.zero()
    found = learner.evaluate(0, pictures(), actions, np.zeros(N, int))
    found.backward(*upstream)
    module = model.policy.steps[0].networks[0].logits.module
    log_probs, entropy = autograd.log_probs_and_entropy(model.policy, 0, pictures(), actions)
    values = autograd.values(model.critic, 0, pictures())
    expected = (log_probs, entropy, values)
    np.testing.assert_allclose(found.values, values.detach().numpy(), rtol=1e-5, atol=1e-6)
    loss = sum((torch.from_numpy(d) * x).sum() for d, x in zip(upstream, expected, strict=True))
    gradients = torch.autograd.grad(loss, [*module.parameters()])
    for (name, _), gradient in zip(module.named_parameters(), gradients, strict=True):
        (ours,) = (x for own, x in step.gradients.items() if own.endswith(f"module.{name}"))
        np.testing.assert_allclose(ours, gradient.numpy(), rtol=1e-4, atol=1e-4)


def test_the_parameters_of_one_module_are_named_once_as_the_policys() -> None:
    model = model_of(Pictures())
    learner_of(model.policy, model.critic)
    assert model.critic.parameters == model.critic.state_dict() == {}
    assert len(model.policy.parameters) == len([*Pictures().parameters()])
    (bias,) = (x for name, x in model.policy.parameters.items() if name.endswith("module.value.bias"))
    before = model.critic.by_key[0](pictures())
    bias += 2.0
    np.testing.assert_allclose(model.critic.by_key[0](pictures()) - before, 2.0, rtol=1e-5)
