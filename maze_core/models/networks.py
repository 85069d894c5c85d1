"""Networks and their parameters: named arrays of float32, which may be told to lie elsewhere.

A network is a program of dense layers (:class:`~maze_core.models.graph.GraphNetwork`) or a torch module of the user's
(:class:`~maze_core.models.module_network.ModuleNetwork`), whose parameters are seen here as NumPy arrays on the same
memory. What learns moves them all into one buffer (:mod:`maze_core.trainers.optim`).
"""

from collections.abc import Collection, Iterable, Mapping, Sequence
from typing import Any, Protocol

import numpy as np

from maze_core.errors import CheckpointError
from maze_core.types import FloatArray, NamedArrays, Observation, StepKey


def action_input(head: str) -> str:
    """Name by which a critic of actions reads an action head, beside the observations."""
    return f"action.{head}"


class HasParameters(Protocol):
    """What has parameters by name."""

    @property
    def needs_torch(self) -> bool:
        """Whether it is a module of the user's, which numpy cannot run, or has one."""
        ...

    @property
    def parameters(self) -> dict[str, FloatArray]:
        """Name → array, where it lies: whoever changes it changes the network."""
        ...

    @property
    def frozen(self) -> Sequence[str]:
        """Names of the parameters that do not learn."""
        ...

    def bind(self, arrays: NamedArrays, prefix: str = "") -> None:
        """Have the arrays named ``prefix + parameter`` as parameters, in place of those before."""
        ...

    def state_dict(self) -> Mapping[str, Any]:
        """The parameters and whatever else a checkpoint keeps, where they lie: arrays, or torch's tensors."""
        ...


class Network(HasParameters, Protocol):
    """A network that acts."""

    @property
    def state_width(self) -> int:
        """Numbers that it carries from one observation to the next (:mod:`maze_core.models.memory`); 0 for none."""
        ...

    @property
    def state_limits(self) -> FloatArray | None:
        """``[state_width]``: no number that it carries is further from 0; None where nobody knows."""
        ...

    def twin(self) -> "Network":
        """The same network with parameters of its own."""
        ...

    def __call__(self, observations: Observation) -> FloatArray:
        """Output ``[B, n_out]`` float32 for observations ``[B, ...]``; a row has the same bits whatever its batch.

        With a state, the next one stands behind it, in ``state_width`` further columns.
        """
        ...


class Networks:
    """Several networks, each with a prefix to the names of its arrays."""

    def named(self) -> Iterable[tuple[str, HasParameters]]:
        """Prefix and network, each network once."""
        raise NotImplementedError

    @property
    def state_widths(self) -> dict[StepKey, int]:
        """Sub-step → numbers that its network carries, where it carries any."""
        return {}

    @property
    def needs_torch(self) -> bool:
        """Whether one of them is a module of the user's, which numpy cannot run."""
        return any(network.needs_torch for _, network in self.named())

    @property
    def parameters(self) -> dict[str, FloatArray]:
        """Name → array, where it lies: whoever changes it changes the network."""
        return {
            prefix + name: array
            for prefix, network in self.named()
            for name, array in network.parameters.items()
        }

    @property
    def frozen(self) -> list[str]:
        """Names of the parameters that do not learn."""
        return [prefix + name for prefix, network in self.named() for name in network.frozen]

    def bind(self, arrays: NamedArrays, prefix: str = "") -> None:
        """Have the arrays named ``prefix + parameter`` as parameters, in place of those before."""
        for own, network in self.named():
            network.bind(arrays, prefix + own)

    def state_dict(self) -> dict[str, Any]:
        """The parameters and whatever else a checkpoint keeps, where they lie: arrays, or torch's tensors."""
        return {
            prefix + name: array
            for prefix, network in self.named()
            for name, array in network.state_dict().items()
        }

    def load_state_dict(self, arrays: NamedArrays) -> None:
        """Go back to a state, in place.

        Raises:
            CheckpointError: it is that of other networks.
        """
        own = {name: np.asarray(array) for name, array in self.state_dict().items()}
        found, expected = ({name: x.shape for name, x in part.items()} for part in (arrays, own))
        if found != expected:
            name = next(name for name in {**expected, **found} if found.get(name) != expected.get(name))
            raise CheckpointError(
                f"The weights are those of another network: {name} is {_shown(found, name)} there and "
                f"{_shown(expected, name)} here."
            )
        for name, array in own.items():
            array[...] = arrays[name]


class Critic(Networks):
    """Values of observations, one network per sub-step, or one for all of them."""

    def __init__(
        self,
        networks: Mapping[StepKey, Network],
        fill: NamedArrays | None = None,
        *,
        n_stacked: Mapping[StepKey, int] | None = None,
        of_changes: Collection[StepKey] = (),
    ) -> None:
        """Take the networks.

        Args:
            networks: sub-step → its value network; the same object for several shares it.
            fill: observation → a row ``[1, ...]`` that stands for it at sub-steps which do not show it; in the
                order in which a network sees them.
            n_stacked: sub-step → how many agents' observations its network sees together.
            of_changes: sub-steps whose network values the change from the sub-step before.
        """
        self.by_key = dict(networks)
        self.n_stacked = dict(n_stacked or {})
        self.of_changes = frozenset(of_changes)
        self.fill = dict(fill or {})
        self.prefixes = {
            network: f"networks.{i}." for i, network in enumerate(dict.fromkeys(networks.values()))
        }
        """Network → the prefix of its arrays' names."""

    def named(self) -> Iterable[tuple[str, Network]]:
        """Prefix and network, each network once."""
        return [(prefix, network) for network, prefix in self.prefixes.items()]

    @property
    def state_widths(self) -> dict[StepKey, int]:
        """Sub-step → numbers that its network carries, where it carries any."""
        return {key: network.state_width for key, network in self.by_key.items() if network.state_width}

    def filled(self, observations: NamedArrays) -> NamedArrays:
        """What its network sees of a sub-step's observations ``[N, …]``."""
        if not self.fill:
            return observations
        n_rows = len(next(iter(observations.values())))
        return {
            name: observations[name] if name in observations else row.repeat(n_rows, 0)
            for name, row in self.fill.items()
        }


class ActionCritic(Networks):
    """Values of actions, by several networks that know nothing of each other, of which the least is believed."""

    def __init__(self, networks: Sequence[Network]) -> None:
        """Take the networks; their inputs are observations and actions, or they have an output per action."""
        self.networks = tuple(networks)

    def twin(self) -> "ActionCritic":
        """The same critic with parameters of its own."""
        return ActionCritic([network.twin() for network in self.networks])

    def named(self) -> Iterable[tuple[str, Network]]:
        """Prefix and network, each network once."""
        return [(f"networks.{i}.", network) for i, network in enumerate(self.networks)]


def _shown(shapes: Mapping[str, tuple[int, ...]], name: str) -> str:
    return str(list(shapes[name])) if name in shapes else "missing"
