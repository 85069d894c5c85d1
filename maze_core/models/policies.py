"""Policies and critics as torch modules, which own the parameters, and a policy's acting twin.

They compute nothing: acting is :mod:`maze_core.models.acting`, learning :mod:`maze_core.trainers.learner`.
"""

from collections.abc import Mapping, Sequence

import torch
from torch import Tensor, nn

from maze_core.models.acting import ActingPolicy, ActorNetwork, LogitsSource, StepPolicy
from maze_core.models.graph import Forward
from maze_core.models.heads import GaussianHead, Head, parts_of
from maze_core.models.networks import GraphNetwork, ModuleForward, ModuleNetwork, Network
from maze_core.types import Array, NamedArrays, StepKey


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
        self.per_agent: tuple[AgentNetwork, ...] = tuple(self.agents)  # type: ignore[arg-type]
        self.parts = parts_of(self.heads)

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
                for i, agent in enumerate(self.per_agent)
            ],
        )


class TorchPolicy(nn.Module):
    """One policy per sub-step."""

    def __init__(self, steps: Mapping[StepKey, StepNetworks]) -> None:
        """Take the policies of all sub-steps, in order."""
        super().__init__()
        self.steps = nn.ModuleList(steps.values())
        self.by_key = dict(steps)

    def acting(self) -> ActingPolicy:
        """The policy on numpy, reading the parameters where they lie: no copy, current after every update.

        After a parameter was given other memory (``param.data = …``, ``.to(device)``), call this again. Off
        the CPU the arrays are copies, and it must be called after every update.
        """
        steps = {key: step.acting(f"steps.{i}.") for i, (key, step) in enumerate(self.by_key.items())}
        return ActingPolicy(steps, needs_torch=self.needs_torch)

    @property
    def needs_torch(self) -> bool:
        """Whether a network is a module of the user's, which numpy cannot run."""
        return any(isinstance(module, ModuleNetwork) for module in self.modules())


class TorchCritic(nn.Module):
    """Values of observations, one network per sub-step, or one for all of them."""

    def __init__(self, networks: Mapping[StepKey, Network], fill: NamedArrays | None = None) -> None:
        """Take the networks.

        Args:
            networks: sub-step → its value network; the same object for several shares it.
            fill: observation → a row ``[1, ...]`` that stands for it at sub-steps which do not show it; in the
                order in which a network sees them.
        """
        super().__init__()
        self.networks = nn.ModuleList(dict.fromkeys(networks.values()))
        self.by_key = dict(networks)
        self.fill = dict(fill or {})


def _logits_source(network: Network) -> LogitsSource:
    if isinstance(network, GraphNetwork):
        arrays = {name: _view(parameter) for name, parameter in network.named_parameters()}
        return Forward(network.program, arrays)
    return ModuleForward(network)


def _view(parameter: Tensor) -> Array:
    array: Array = parameter.detach().cpu().numpy()
    return array
