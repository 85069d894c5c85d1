"""Policies and critics in training: log-probabilities, entropy and values in torch, and a policy's acting twin."""

from collections.abc import Mapping, Sequence
from functools import reduce

import torch
from torch import Tensor, nn

from maze_core.models.acting import ActingPolicy, ActorNetwork, LogitsSource, StepPolicy
from maze_core.models.distributions import apply_mask, gaussian_logits, log_prob_and_entropy
from maze_core.models.graph import Forward
from maze_core.models.heads import GaussianHead, Head, parts_of
from maze_core.models.networks import GraphNetwork, ModuleForward, ModuleNetwork, Network, TensorDict
from maze_core.types import Array, StepKey


class AgentNetwork(nn.Module):
    """A network and the log-std of the Gaussian heads that have it as a parameter."""

    network: Network
    log_std: nn.Parameter | None

    def __init__(self, network: Network, heads: Sequence[Head]) -> None:
        """``network`` gives the logits of the heads, in order."""
        super().__init__()
        self.network = network
        starts = [
            head.initial_log_std
            for head in heads
            if isinstance(head, GaussianHead)
            for _ in range(head.parameter_width)
        ]
        self.log_std = nn.Parameter(torch.tensor(starts, dtype=torch.float32)) if starts else None


class StepNetworks(nn.Module):
    """The policy of one sub-step: its heads, and one network, or one per agent."""

    def __init__(self, heads: Sequence[Head], networks: Sequence[Network]) -> None:
        """Take the heads in the order of their logits; several networks are indexed by the agent's number."""
        super().__init__()
        self.heads = tuple(heads)
        self.agents = nn.ModuleList(AgentNetwork(network, heads) for network in networks)
        self._agents: tuple[AgentNetwork, ...] = tuple(self.agents)  # type: ignore[arg-type]
        self._parts = parts_of(self.heads)

    def log_probs_and_entropy(
        self, observations: TensorDict, actions: TensorDict, agent_id: Tensor | None
    ) -> tuple[Tensor, Tensor]:
        """Both ``[N]``, summed over the heads."""
        if len(self._agents) == 1:
            return self._evaluate(self._agents[0], observations, actions)
        if agent_id is None:
            seen = next(iter(observations.values()))
            agent_id = torch.zeros(len(seen), dtype=torch.int64, device=seen.device)
        rows, log_probs, entropies = [], [], []
        for i, agent in enumerate(self._agents):
            mine = (agent_id == i).nonzero().squeeze(1)
            if len(mine):
                parts = self._evaluate(agent, _take(observations, mine), _take(actions, mine))
                rows.append(mine)
                log_probs.append(parts[0])
                entropies.append(parts[1])
        order = torch.cat(rows).argsort()
        return torch.cat(log_probs)[order], torch.cat(entropies)[order]

    def _evaluate(
        self, agent: AgentNetwork, observations: TensorDict, actions: TensorDict
    ) -> tuple[Tensor, Tensor]:
        output = agent.network.evaluate(observations)
        log_probs, entropies = [], []
        for head, columns, _, parameter, mask in self._parts:
            logits = output if columns is None else output[:, columns]
            if isinstance(head, GaussianHead):
                log_std = None if agent.log_std is None or parameter is None else agent.log_std[parameter]
                logits = gaussian_logits(logits, log_std, head)
            elif mask is not None:
                logits = apply_mask(logits, observations[mask])
            log_prob, entropy = log_prob_and_entropy(head, logits, actions[head.name])
            log_probs.append(log_prob)
            entropies.append(entropy)
        return reduce(torch.add, log_probs), reduce(torch.add, entropies)

    def acting(self, prefix: str) -> StepPolicy:
        """The acting twin; ``prefix`` is this module's name in the state of the whole policy."""
        return StepPolicy(
            self.heads,
            [
                ActorNetwork(
                    logits=_logits_source(agent.network),
                    log_std=None if agent.log_std is None else _view(agent.log_std),
                    prefix=f"{prefix}agents.{i}.",
                )
                for i, agent in enumerate(self._agents)
            ],
        )


class TorchPolicy(nn.Module):
    """One policy per sub-step."""

    def __init__(self, steps: Mapping[StepKey, StepNetworks]) -> None:
        """Take the policies of all sub-steps, in order."""
        super().__init__()
        self.steps = nn.ModuleList(steps.values())
        self._by_key = dict(steps)

    def log_probs_and_entropy(
        self, step_key: StepKey, observations: TensorDict, actions: TensorDict, agent_id: Tensor | None = None
    ) -> tuple[Tensor, Tensor]:
        """How likely actions were, and how undecided the policy is.

        Args:
            step_key: the sub-step.
            observations: name → ``[N, ...]``, masks among them.
            actions: head → ``[N, ...]``, the raw samples.
            agent_id: ``[N]`` who acted; None is agent 0.

        Returns:
            Log-probabilities ``[N]`` and entropies ``[N]`` in nats, summed over heads and dimensions.
        """
        return self._by_key[step_key].log_probs_and_entropy(observations, actions, agent_id)

    def acting(self) -> ActingPolicy:
        """The policy on numpy, reading the parameters where they lie: no copy, current after every update.

        After a parameter was given other memory (``param.data = …``, ``.to(device)``), call this again. Off
        the CPU the arrays are copies, and it must be called after every update.
        """
        steps = {key: step.acting(f"steps.{i}.") for i, (key, step) in enumerate(self._by_key.items())}
        return ActingPolicy(steps, needs_torch=self.needs_torch)

    @property
    def needs_torch(self) -> bool:
        """Whether a network is a module of the user's, which numpy cannot run."""
        return any(isinstance(module, ModuleNetwork) for module in self.modules())


class TorchCritic(nn.Module):
    """Values of observations, one network per sub-step, or one for all of them."""

    def __init__(self, networks: Mapping[StepKey, Network], fill: Mapping[str, Tensor] | None = None) -> None:
        """Take the networks.

        Args:
            networks: sub-step → its value network; the same object for several shares it.
            fill: observation → a row ``[1, ...]`` that stands for it at sub-steps which do not show it; in the
                order in which a network sees them.
        """
        super().__init__()
        self.networks = nn.ModuleList(dict.fromkeys(networks.values()))
        self._by_key = dict(networks)
        self._fill = dict(fill or {})

    def values(self, step_key: StepKey, observations: TensorDict, agent_id: Tensor | None = None) -> Tensor:
        """V(s), ``[N]`` float32, for observations ``[N, ...]``; the agents of a sub-step share one."""
        if self._fill:
            shown = next(iter(observations.values()))
            observations = {
                name: observations[name]
                if name in observations
                else row.to(shown.device).repeat_interleave(len(shown), 0)
                for name, row in self._fill.items()
            }
        return self._by_key[step_key].evaluate(observations).squeeze(1)


def _logits_source(network: Network) -> LogitsSource:
    if isinstance(network, GraphNetwork):
        arrays = {name: _view(parameter) for name, parameter in network.named_parameters()}
        return Forward(network.program, arrays)
    return ModuleForward(network)


def _view(parameter: Tensor) -> Array:
    array: Array = parameter.detach().cpu().numpy()
    return array


def _take(tensors: TensorDict, rows: Tensor) -> dict[str, Tensor]:
    return {name: values[rows] for name, values in tensors.items()}
