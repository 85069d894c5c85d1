"""Policies that act: one forward pass for training rollouts, evaluation, Python and HTTP, without torch.

An :class:`ActingPolicy` reads its parameters where they lie: those that a trainer changes, or arrays from a checkpoint.
Randomness comes in as an argument: ``noise`` has one row per observation, drawn by :meth:`ActingPolicy.noise`
from a generator of the caller's, and a row's action depends on that row of observations and noise alone. So
results do not depend on how environments are batched.

:meth:`ActingPolicy.act` gives actions on the environment's scale; :func:`to_env_actions` makes them fit the space at
the environment's edge. Training keeps what :meth:`StepPolicy.sample` gives: neither scaled nor clipped, because
log-probabilities are those of the sample.
"""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final, Literal

import msgspec
import numpy as np
from gymnasium import spaces

from maze_core.data.values import fit_to_box
from maze_core.errors import CheckpointError
from maze_core.models.graph import GraphNetwork, Op, Program
from maze_core.models.heads import BoxHead, Head, StateNoiseHead, apply_mask, parameter_name, parts_of
from maze_core.models.memory import STATE, parted
from maze_core.models.networks import Network, Networks
from maze_core.types import Action, FloatArray, IntArray, NamedArrays, Observation, StepKey, Tree

FORMAT: Final = 1
"""Version of the description; a reader refuses one it does not know."""


@dataclass(slots=True, kw_only=True)
class ActorNetwork:
    """What one agent of a sub-step acts with."""

    logits: Network
    parameter: FloatArray | None
    """The parameters of all heads, side by side; None where there are none."""
    parameter_name: str
    """What they are, such as ``log_std``; empty where there are none."""
    prefix: str
    """Prefix of its arrays' names in a checkpoint."""

    @property
    def needs_torch(self) -> bool:
        """Whether the network is a module of the user's."""
        return self.logits.needs_torch

    @property
    def parameters(self) -> dict[str, FloatArray]:
        """Those of the heads and the network's, where they lie."""
        return self._with_own(self.logits.parameters)

    @property
    def frozen(self) -> list[str]:
        """Names of the parameters that do not learn."""
        return [f"network.{name}" for name in self.logits.frozen]

    def bind(self, arrays: NamedArrays, prefix: str = "") -> None:
        """Have the arrays named ``prefix + parameter`` as parameters, in place of those before."""
        if self.parameter is not None:
            self.parameter = arrays[f"{prefix}{self.parameter_name}"]
        self.logits.bind(arrays, f"{prefix}network.")

    def state_dict(self) -> dict[str, Any]:
        """The parameters of the heads and the network's state, where they lie."""
        return self._with_own(self.logits.state_dict())

    def _with_own(self, arrays: Mapping[str, Any]) -> dict[str, Any]:
        own = {} if self.parameter is None else {self.parameter_name: self.parameter}
        return own | {f"network.{name}": array for name, array in arrays.items()}


class StepPolicy:
    """The policy of one sub-step: its heads, and one network, or one per agent."""

    def __init__(self, heads: Sequence[Head], networks: Sequence[ActorNetwork]) -> None:
        """Take the heads in the order of their logits; several networks are indexed by the agent's number."""
        self.heads = tuple(heads)
        self.networks = tuple(networks)
        self.noise_width = sum(head.noise_width for head in heads)
        self.state_width = networks[0].logits.state_width if networks else 0
        """Numbers that a network carries from one observation of an agent to its next."""
        self.parts = parts_of(self.heads)
        self._noise_ticks = [head.noise_ticks for head in heads if isinstance(head, StateNoiseHead)]
        self._scales = {
            head.name: (np.reshape(head.center, head.shape), np.reshape(head.half_range, head.shape))
            for head in self.heads
            if isinstance(head, BoxHead) and head.center is not None and head.half_range is not None
        }
        self._normal_columns = [part.noise for part in self.parts if part.head.normal_noise]

    def sample(
        self, observations: Observation, noise: FloatArray | None, agent_id: IntArray | None
    ) -> Action:
        """Samples ``[B, ...]`` per head; without noise, the likeliest ones.

        A network with a state finds it among the observations, and the next one stands beside the heads
        (:mod:`maze_core.models.memory`).
        """
        if len(self.networks) == 1:
            return self._act_as(self.networks[0], observations, noise)
        if agent_id is None:
            agent_id = np.zeros(len(next(iter(observations.values()))), np.int64)
        return self._act_as_each(observations, noise, agent_id)

    def in_env_units(self, samples: Action) -> Action:
        """Samples ``[..., *shape]`` per head on the environment's scale, not yet within its bounds."""
        if not self._scales:
            return samples
        return samples | {
            head: center + half_range * samples[head] for head, (center, half_range) in self._scales.items()
        }

    def as_samples(self, actions: Action) -> Action:
        """The samples ``[..., *shape]`` per head that :meth:`in_env_units` turns into these actions."""
        return {
            head: ((values - self._scales[head][0]) / self._scales[head][1]).astype(np.float32)
            if head in self._scales
            else values
            for head, values in actions.items()
        }

    def noise(self, rng: np.random.Generator, n_rows: int) -> FloatArray:
        """Noise ``[n_rows, noise_width]`` float64, uniform or normal by column; row by row from ``rng``."""
        if not self._normal_columns:
            return rng.random((n_rows, self.noise_width))
        if len(self._normal_columns) == len(self.parts):
            return rng.standard_normal((n_rows, self.noise_width))
        rows = np.empty((n_rows, self.noise_width))
        for row in rows:
            for part in self.parts:
                draw = rng.standard_normal if part.head.normal_noise else rng.random
                row[part.noise] = draw(part.head.noise_width)
        return rows

    def noise_ticks(self, n_ticks: int) -> int:
        """For how many of the ticks of a rollout in training a row of noise is kept."""
        return next((ticks or n_ticks for ticks in self._noise_ticks), 1)

    def _act_as(self, network: ActorNetwork, observations: Observation, noise: FloatArray | None) -> Action:
        output = network.logits(observations)
        if not self.state_width:
            return self.decoded(output, observations, noise, network.parameter)
        logits, state = parted(output, self.state_width)
        return self.decoded(logits, observations, noise, network.parameter) | {STATE: state}

    def decoded(
        self,
        logits: FloatArray,
        observations: Observation,
        noise: FloatArray | None = None,
        parameters: FloatArray | None = None,
    ) -> Action:
        """Samples ``[B, ...]`` per head, from logits ``[B, n]``; without noise, the likeliest ones."""
        action: Action = {}
        for head, columns, drawn, parameter, mask in self.parts:
            head_logits = logits if columns is None else logits[:, columns]
            if mask is not None:
                head_logits = apply_mask(head_logits, observations[mask])
            own = None if parameter is None or parameters is None else parameters[parameter]
            if noise is None:
                action[head.name] = head.mode(head_logits, own)
            else:
                action[head.name] = head.sample(head_logits, noise[:, drawn], own)
        return action

    def _act_as_each(self, observations: Observation, noise: FloatArray | None, agent_id: IntArray) -> Action:
        # Rows that wait for another sub-step may hold an agent that this one does not have; nobody reads them.
        agent_id = np.where((agent_id >= 0) & (agent_id < len(self.networks)), agent_id, 0)
        joined: Action = {}
        for agent in np.unique(agent_id):
            rows = np.flatnonzero(agent_id == agent)
            seen = {name: values[rows] for name, values in observations.items()}
            drawn = None if noise is None else noise[rows]
            for head, values in self._act_as(self.networks[agent], seen, drawn).items():
                if head not in joined:
                    joined[head] = np.zeros((len(agent_id), *values.shape[1:]), values.dtype)
                joined[head][rows] = values
        return joined


class ActingPolicy(Networks):
    """A policy that turns observations into actions. Safe to call from several threads."""

    def __init__(self, steps: Mapping[StepKey, StepPolicy]) -> None:
        """Take the policies of all sub-steps."""
        self.steps = dict(steps)
        self.needs_noise = False
        """Whether noise is needed even when acting deterministically; true of a random policy only."""

    def named(self) -> Iterable[tuple[str, ActorNetwork]]:
        """Prefix and network of all agents of all sub-steps."""
        return [(network.prefix, network) for step in self.steps.values() for network in step.networks]

    @property
    def state_widths(self) -> dict[StepKey, int]:
        """Sub-step → numbers that its policy carries, where it carries any."""
        return {key: step.state_width for key, step in self.steps.items() if step.state_width}

    def act(
        self,
        step_key: StepKey,
        observations: Observation,
        *,
        deterministic: bool,
        noise: FloatArray | None,
        agent_id: IntArray | None = None,
    ) -> Action:
        """Actions for a batch of observations at one sub-step.

        Args:
            step_key: the sub-step.
            observations: name → ``[B, ...]``, as the policy sees them (processed).
            deterministic: take the likeliest action; ``noise`` is then ignored.
            noise: ``[B, width]`` from :meth:`noise`.
            agent_id: ``[B]`` who acts; None is agent 0. Matters where agents have networks of their own.

        Returns:
            head → ``[B, ...]`` on the environment's scale, numbers not yet within its bounds; new arrays that the
            caller may keep. A policy with a state reads it among the observations and gives the next one beside them.

        Raises:
            ValueError: a stochastic action without noise.
        """
        if deterministic and not self.needs_noise:
            noise = None
        elif noise is None:
            raise ValueError("a stochastic action needs noise: pass policy.noise(step_key, rng, n_rows)")
        step = self.steps[step_key]
        return step.in_env_units(step.sample(observations, noise, agent_id))

    def noise(self, step_key: StepKey, rng: np.random.Generator, n_rows: int) -> FloatArray:
        """Noise ``[n_rows, width]`` for :meth:`act`; n calls for one row draw what one call for n rows does.

        Columns go head by head; :mod:`maze_core.models.heads` says what each head uses.
        """
        return self.steps[step_key].noise(rng, n_rows)

    def describe(self) -> Tree:
        """The policy as JSON: all of it but its arrays, which are :attr:`parameters`.

        With torch modules of the user's, the JSON says ``"kind": "module"`` and carries no network.
        """
        steps = [
            _Step(
                key,
                step.heads,
                tuple(_Network(x.prefix, _ops(x.logits)) for x in step.networks),
                step.state_width,
            )
            for key, step in self.steps.items()
        ]
        kind: Literal["module", "program"] = "module" if self.needs_torch else "program"
        tree: Tree = msgspec.to_builtins(PolicyDescription(FORMAT, kind, tuple(steps)))
        return tree

    @classmethod
    def from_description(cls, tree: Tree, arrays: NamedArrays) -> "ActingPolicy":
        """The policy that :meth:`describe` described, with the same bits; ``arrays`` may hold others besides.

        Raises:
            CheckpointError: the description is damaged, of another format, or has Python classes as networks.
        """
        described = PolicyDescription.read(tree)
        if described.kind != "program":
            raise CheckpointError(
                "policy: its networks are Python classes, which a checkpoint does not carry. "
                "Build the model from its configuration and load the weights into it."
            )
        return cls({step.step_key: _bound(step, arrays) for step in described.steps})


class _Network(msgspec.Struct, frozen=True):
    prefix: str
    program: tuple[Op, ...] | None
    """None where the network is a module."""


class _Step(msgspec.Struct, frozen=True, omit_defaults=True):
    step_key: StepKey
    heads: tuple[Head, ...]
    networks: tuple[_Network, ...]
    state_width: int = 0


class PolicyDescription(msgspec.Struct, frozen=True):
    """A policy as JSON: all of it but its arrays."""

    format: int
    kind: Literal["module", "program"]
    steps: tuple[_Step, ...]

    @classmethod
    def read(cls, tree: Tree) -> "PolicyDescription":
        """What :meth:`ActingPolicy.describe` wrote.

        Raises:
            CheckpointError: the description is damaged or of another format.
        """
        if tree.get("format") != FORMAT:
            raise CheckpointError(
                f"policy: format {tree.get('format')!r} is unknown, this version reads {FORMAT}"
            )
        try:
            return msgspec.convert(tree, cls)
        except msgspec.ValidationError as error:
            raise CheckpointError(f"policy: the description is damaged ({error})") from error


def _ops(network: Network) -> tuple[Op, ...] | None:
    return network.program.ops if isinstance(network, GraphNetwork) else None


def _bound(step: _Step, arrays: NamedArrays) -> StepPolicy:
    """The policy of a sub-step with its arrays."""
    n_parameters, name = sum(head.parameter_width for head in step.heads), parameter_name(step.heads)
    networks = []
    for prefix, program in ((network.prefix, Program(network.program or ())) for network in step.networks):
        logits = GraphNetwork(program, arrays, f"{prefix}network.")
        if program.n_out != sum(head.logits_width for head in step.heads):
            raise CheckpointError(f"policy: the network {prefix} does not produce the logits of its heads")
        parameter = arrays.get(prefix + name, np.empty(0)) if n_parameters else None
        if parameter is not None and parameter.shape != (n_parameters,):
            raise CheckpointError(f"policy: {prefix}{name} should have {n_parameters} numbers")
        networks.append(ActorNetwork(logits=logits, parameter=parameter, parameter_name=name, prefix=prefix))
    if not networks:
        raise CheckpointError(f"policy: sub-step {step.step_key!r} has no network")
    return StepPolicy(step.heads, networks)


def to_env_actions(action: Action, space: spaces.Dict) -> Action:
    """Actions that lie in the space: numbers clipped to its bounds, integers rounded, all in its dtype.

    Args:
        action: head → ``[..., *shape]``, one action or a batch of them, as a policy gave them.
        space: the sub-step's action space.

    Returns:
        head → array of the same shape; the given arrays are not changed.
    """
    fitted: Action = {}
    for head, values in action.items():
        head_space = space.spaces[head]
        dtype = head_space.dtype
        array = np.asarray(values)
        if isinstance(head_space, spaces.Box):
            array = fit_to_box(array, head_space)
        fitted[head] = array if array.dtype == dtype else array.astype(dtype)
    return fitted
