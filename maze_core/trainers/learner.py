"""Policy and critic as they learn: arrays in, arrays out; gradients by hand where nets are dense, else by autograd.

Programs of dense layers are computed by :mod:`maze_core.models.dense`, torch modules of the user's by torch. The heads,
who of several agents acted, and what a shared critic sees are the same for both.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import partial

import numpy as np
import torch
from torch import nn

from maze_core.models.dense import DenseNets, NetsPull, differ_at_the_end_only, scores
from maze_core.models.networks import GraphNetwork, ModuleNetwork, Network
from maze_core.models.policies import StepNetworks, TorchCritic, TorchPolicy
from maze_core.types import Array, FloatArray, IntArray, NamedArrays, StepKey

Gradients = Mapping[nn.Parameter, FloatArray]
_Nets = Callable[[NamedArrays], tuple[Sequence[FloatArray], NetsPull]]


@dataclass(slots=True)
class Evaluation:
    """What policy and critic say of ``N`` rows of one sub-step."""

    log_probs: FloatArray
    """log π(a|s), ``[N]``, summed over heads and dimensions."""
    entropy: FloatArray
    """In nats, ``[N]``, summed over heads and dimensions."""
    values: FloatArray
    """V(s), ``[N]``."""
    backward: Callable[[FloatArray, FloatArray | None, FloatArray], None]
    """∂L/∂log_probs, ∂L/∂entropy (None for 0) and ∂L/∂values, ``[N]`` each: adds to the gradients; called once at most,
    before the next evaluation."""


class Learner:
    """Evaluates a policy and a critic, and knows the way back."""

    def __init__(self, policy: TorchPolicy, critic: TorchCritic, gradients: Gradients) -> None:
        """Take the networks, and for each of their parameters the array in which its gradient is added up."""
        modules = (*policy.modules(), *critic.modules())
        self.needs_torch = any(isinstance(module, ModuleNetwork) for module in modules)
        """Whether a network is a module of the user's, which numpy cannot run."""
        self._steps = {
            key: _Step(step, critic.by_key[key], critic.fill, gradients)
            for key, step in policy.by_key.items()
        }

    def evaluate(
        self, step_key: StepKey, observations: NamedArrays, actions: NamedArrays, agent_id: IntArray
    ) -> Evaluation:
        """Evaluate actions and states of one sub-step.

        Args:
            step_key: the sub-step.
            observations: name → ``[N, …]``, masks among them.
            actions: head → ``[N, …]``, the raw samples.
            agent_id: ``[N]``, who acted.
        """
        return self._steps[step_key].evaluate(observations, actions, agent_id)

    def values(self, step_key: StepKey, observations: NamedArrays, agent_id: IntArray) -> FloatArray:
        """V(s), ``[N]``, for observations ``[N, …]``; the agents of a sub-step share one."""
        return self._steps[step_key].values(observations)


class _Step:
    """The networks of one sub-step."""

    def __init__(
        self, policy: StepNetworks, critic: Network, fill: NamedArrays, gradients: Gradients
    ) -> None:
        self._parts = policy.parts
        self._agents = [_nets([agent.network], gradients) for agent in policy.per_agent]
        self._log_stds = [_with_gradient(agent.log_std, gradients) for agent in policy.per_agent]
        self._critic = _nets([critic], gradients)
        self._fill = fill
        networks = [*(agent.network for agent in policy.per_agent), critic]
        programs = [network.program for network in networks if isinstance(network, GraphNetwork)]
        at_once = len(networks) == len(programs) == 2 and differ_at_the_end_only(*programs)
        self._policy_and_critic = _nets(networks, gradients) if at_once else None

    def evaluate(self, observations: NamedArrays, actions: NamedArrays, agent_id: IntArray) -> Evaluation:
        if self._policy_and_critic is not None:
            (logits, values), pull = self._policy_and_critic(observations)
            found = scores(self._parts, logits, observations, actions, *self._log_stds[0])

            def backward_at_once(
                d_log_probs: FloatArray, d_entropy: FloatArray | None, d_values: FloatArray
            ) -> None:
                pull([found.pull(d_log_probs, d_entropy), d_values[None]])

            return Evaluation(found.log_prob, found.entropy, values[0], backward_at_once)

        (values,), pull_values = self._critic(self._filled(observations))
        log_probs, entropy = np.empty_like(values[0]), np.empty_like(values[0])
        pulls = []
        for i, network in enumerate(self._agents):
            rows = slice(None) if len(self._agents) == 1 else np.flatnonzero(agent_id == i)
            if not agent_id[rows].size:
                continue
            seen = {name: array[rows] for name, array in observations.items()}
            (logits,), pull = network(seen)
            done = {name: array[rows] for name, array in actions.items()}
            found = scores(self._parts, logits, seen, done, *self._log_stds[i])
            log_probs[rows], entropy[rows] = found.log_prob, found.entropy
            pulls.append((rows, found.pull, pull))

        def backward(d_log_probs: FloatArray, d_entropy: FloatArray | None, d_values: FloatArray) -> None:
            for rows, pull_scores, pull in pulls:
                pull([pull_scores(d_log_probs[rows], None if d_entropy is None else d_entropy[rows])])
            pull_values([d_values[None]])

        return Evaluation(log_probs, entropy, values[0], backward)

    def values(self, observations: NamedArrays) -> FloatArray:
        """``[N]``."""
        (values,), _ = self._critic(self._filled(observations))
        return values[0]  # type: ignore[no-any-return]

    def _filled(self, observations: NamedArrays) -> NamedArrays:
        if not self._fill:
            return observations
        n_rows = len(next(iter(observations.values())))
        return {
            name: observations[name] if name in observations else row.repeat(n_rows, 0)
            for name, row in self._fill.items()
        }


def _nets(networks: Sequence[Network], gradients: Gradients) -> _Nets:
    """Networks in numpy, several at once where they are programs, or one in torch."""
    first = networks[0]
    if isinstance(first, ModuleNetwork):
        return partial(_by_autograd, first)
    return DenseNets(
        [network.program for network in networks if isinstance(network, GraphNetwork)],
        [{name: p.detach().numpy() for name, p in network.named_parameters()} for network in networks],
        [{name: gradients[p] for name, p in network.named_parameters()} for network in networks],
    )


def _by_autograd(network: ModuleNetwork, observations: NamedArrays) -> tuple[Sequence[FloatArray], NetsPull]:
    """A torch module's output ``[1][n_out, N]`` and its pull."""
    output = network.evaluate({name: torch.from_numpy(array) for name, array in observations.items()})

    def pull(d_outputs: Sequence[FloatArray]) -> None:
        if output.requires_grad:  # not where all of a module is frozen
            torch.autograd.backward(output, torch.from_numpy(d_outputs[0].T))

    return [output.detach().numpy().T], pull


def _with_gradient(parameter: nn.Parameter | None, gradients: Gradients) -> tuple[Array | None, Array | None]:
    return (None, None) if parameter is None else (parameter.detach().numpy(), gradients[parameter])
