"""What policies and critics compute, by torch in float64 with ``torch.distributions``: the measure of the hand-made.

Gradients arrive at a module's own parameters, and for the others at what :class:`Leaves` gives.
"""

from collections.abc import Mapping

import numpy as np
import torch
from torch import Tensor, distributions
from torch.nn import functional as F

from maze_core.models.acting import ActingPolicy
from maze_core.models.graph import Concat, Dense, GraphNetwork, OneHot, Program
from maze_core.models.heads import (
    LOG_STD_RANGE,
    MASKED_LOGIT,
    BernoulliHead,
    BetaHead,
    CategoricalHead,
    Head,
    MultiCategoricalHead,
    StateNoiseHead,
)
from maze_core.models.module_network import ModuleNetwork
from maze_core.models.networks import Critic, Network, Networks

ACTIVATIONS = {
    "tanh": torch.tanh,
    "relu": torch.relu,
    "elu": F.elu,
    "sigmoid": torch.sigmoid,
    "silu": F.silu,
    "leaky_relu": F.leaky_relu,
    "gelu": F.gelu,
    "selu": F.selu,
    "mish": F.mish,
    "softplus": F.softplus,
    "identity": lambda x: x,
}
Arrays = Mapping[str, np.ndarray]


class Leaves:
    """Parameters as torch's, on the same memory: array → the one tensor of it; a module's parameters are its own."""

    def __init__(self, *networks: Networks) -> None:
        self._tensors: dict[int, Tensor] = {}
        for _, network in (named for part in networks for named in part.named()):
            network = getattr(network, "logits", network)
            if isinstance(network, ModuleNetwork):
                self._tensors |= {p.data_ptr(): p for p in network.module.parameters()}

    def __call__(self, array: np.ndarray) -> Tensor:
        place = array.__array_interface__["data"][0]
        return self._tensors.setdefault(place, torch.from_numpy(array).requires_grad_())


def output(network: Network, observations: Arrays, leaf: Leaves | None = None) -> Tensor:
    """``[N, n_out]`` float64."""
    if isinstance(network, ModuleNetwork):
        return network.evaluate(observations).double()
    assert isinstance(network, GraphNetwork)
    leaf = leaf or Leaves()
    parameters = {name: leaf(array).double() for name, array in network.parameters.items()}
    return program_output(network.program, parameters, observations)


def program_output(program: Program, parameters: Mapping[str, Tensor], observations: Arrays) -> Tensor:
    slots: dict[str, Tensor] = {}
    for op in program.ops:
        if isinstance(op, Dense):
            z = F.linear(slots[op.source], parameters[op.weight], parameters[op.bias])
            slots[op.target] = ACTIVATIONS[op.activation](z)
        elif isinstance(op, Concat):
            slots[op.target] = torch.cat([slots[source] for source in op.sources], dim=1)
        elif isinstance(op, OneHot):
            values = torch.from_numpy(observations[op.source].astype(np.int64)).reshape(-1, len(op.sizes))
            parts = [
                (values[:, i : i + 1] == torch.arange(start, start + n)).double()
                for i, (n, start) in enumerate(zip(op.sizes, op.starts, strict=True))
            ]
            slots[op.target] = torch.cat(parts, dim=1)
        else:
            slots[op.target] = torch.as_tensor(observations[op.source]).double().reshape(-1, op.width)
    return slots[program.ops[-1].target]


def head_scores(
    head: Head, logits: Tensor, action: Tensor, mask: Tensor | None = None, log_std: Tensor | None = None
) -> tuple[Tensor, Tensor]:
    """Log-probabilities and entropies ``[N]`` from a head's own logits ``[N, n]``."""
    n_rows = len(logits)
    logits = logits / getattr(head, "temperature", 1.0)
    if mask is not None:
        logits = logits.masked_fill(mask.reshape(logits.shape) == 0, MASKED_LOGIT)
    if isinstance(head, CategoricalHead):
        # log_softmax first: Categorical's own normalisation loses a row whose mask allows nothing
        ours = distributions.Categorical(logits=torch.log_softmax(logits, dim=1), validate_args=False)
        return ours.log_prob(action.reshape(n_rows) - head.start), ours.entropy()
    if isinstance(head, MultiCategoricalHead):
        columns = action.reshape(n_rows, -1)
        found = [
            head_scores(CategoricalHead(name="", n=n, start=start), part, columns[:, i])
            for i, (n, start, part) in enumerate(
                zip(head.sizes, head.starts, logits.split(head.sizes, dim=1), strict=True)
            )
        ]
        log_probs, entropies = zip(*found, strict=True)
        return torch.stack(log_probs).sum(0), torch.stack(entropies).sum(0)
    if isinstance(head, BernoulliHead):
        bits = distributions.Bernoulli(logits=logits, validate_args=False)
        return bits.log_prob(action.reshape(logits.shape).to(logits.dtype)).sum(1), bits.entropy().sum(1)
    if isinstance(head, BetaHead):
        alpha, beta = (1 + F.softplus(part.clamp(-10, 1e4), threshold=40) for part in logits.chunk(2, dim=1))
        scale = torch.tensor(head.half_range or [1.0] * (logits.shape[1] // 2)).double()
        numbers = distributions.Beta(alpha, beta, validate_args=False)
        y = (action.reshape(alpha.shape).double().clamp(-1 + 1e-6, 1 - 1e-6) + 1) / 2
        spread = (2 * scale).log().sum()
        return numbers.log_prob(y).sum(1) - spread, numbers.entropy().sum(1) + spread
    if isinstance(head, StateNoiseHead):
        mean, features = logits.split([head.n_numbers, head.n_features], dim=1)
        std = state_deviation(log_std.reshape(head.n_features, head.n_numbers), head.use_expln)
        numbers = distributions.Normal(mean, (features.detach() ** 2 @ std**2 + 1e-6).sqrt())
        return numbers.log_prob(action.reshape(mean.shape)).sum(1), numbers.entropy().sum(1)
    mean = logits[:, : head.noise_width]
    scale = (logits[:, head.noise_width :].clamp(*LOG_STD_RANGE) if log_std is None else log_std).exp()
    numbers = distributions.Normal(mean, scale.expand_as(mean), validate_args=False)
    return numbers.log_prob(action.reshape(mean.shape)).sum(1), numbers.entropy().sum(1)


def state_deviation(log_std: Tensor, use_expln: bool) -> Tensor:
    """σ of log σ."""
    return (
        torch.where(log_std > 0, 1 + log_std.clamp(0).log1p(), log_std.exp()) if use_expln else log_std.exp()
    )


def log_probs_and_entropy(
    policy: ActingPolicy,
    step_key,
    observations: Arrays,
    actions: Arrays,
    agent_id: np.ndarray | None = None,
    leaf: Leaves | None = None,
) -> tuple[Tensor, Tensor]:
    """Of a whole sub-step, ``[N]`` each; nobody named is agent 0."""
    step, leaf = policy.steps[step_key], leaf or Leaves()
    n_rows = len(next(iter(observations.values())))
    rows = np.zeros(n_rows, int) if agent_id is None or len(step.networks) == 1 else agent_id
    outputs = [output(agent.logits, observations, leaf) for agent in step.networks]
    log_prob = entropy = torch.zeros(n_rows, dtype=torch.float64)
    for head, columns, _, parameter, mask in step.parts:
        every = [
            head_scores(
                head,
                out if columns is None else out[:, columns],
                torch.from_numpy(actions[head.name]),
                None if mask is None else torch.from_numpy(observations[mask]),
                None if parameter is None else leaf(agent.parameter)[parameter].double(),
            )
            for agent, out in zip(step.networks, outputs, strict=True)
        ]
        log_prob = log_prob + torch.stack([every[i][0][n] for n, i in enumerate(rows)])
        entropy = entropy + torch.stack([every[i][1][n] for n, i in enumerate(rows)])
    return log_prob, entropy


def values(critic: Critic, step_key, observations: Arrays, leaf: Leaves | None = None) -> Tensor:
    """V(s), ``[N]``."""
    n_rows = len(next(iter(observations.values())))
    if critic.fill:
        observations = {
            name: observations.get(name, row.repeat(n_rows, 0)) for name, row in critic.fill.items()
        }
    return output(critic.by_key[step_key], observations, leaf).squeeze(1)
