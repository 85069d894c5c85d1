"""Policies that act: one forward pass for training rollouts, evaluation, Python and HTTP, without torch.

An :class:`ActingPolicy` reads the parameters of a trained policy where they lie, or arrays from a checkpoint.
Randomness comes in as an argument: ``noise`` has one row per observation, drawn by :meth:`ActingPolicy.noise`
from a generator of the caller's, and a row's action depends on that row of observations and noise alone. So
results do not depend on how environments are batched.

:meth:`ActingPolicy.act` gives actions on the environment's scale; :func:`to_env_actions` makes them fit the space at
the environment's edge. Training keeps what :meth:`ActingPolicy.sample` gives: neither scaled nor clipped, because
log-probabilities are those of the sample.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Final, Protocol

import numpy as np
from gymnasium import spaces

from maze_core.data.values import fit_to_box
from maze_core.errors import CheckpointError
from maze_core.models.graph import Forward, Program
from maze_core.models.heads import GaussianHead, Head, apply_mask, head_from_json, head_to_json
from maze_core.types import (
    Action,
    Array,
    FloatArray,
    IntArray,
    NamedArrays,
    Observation,
    StepKey,
    Tree,
    mask_name,
)

FORMAT: Final = 1
"""Version of the description; a reader refuses one it does not know."""


class LogitsSource(Protocol):
    """A network that can act: :class:`~maze_core.models.graph.Forward`, or a torch module called alike."""

    def __call__(self, observations: Observation) -> FloatArray:
        """Logits ``[B, n_out]`` float32 for observations ``[B, ...]``."""
        ...


@dataclass(frozen=True, slots=True, kw_only=True)
class ActorNetwork:
    """What one agent of a sub-step acts with."""

    logits: LogitsSource
    log_std: FloatArray | None
    """State-independent log-std of all Gaussian heads, side by side; None where there is none."""
    prefix: str
    """Prefix of its arrays' names in a checkpoint."""


class StepPolicy:
    """The policy of one sub-step: its heads, and one network, or one per agent."""

    def __init__(self, heads: Sequence[Head], networks: Sequence[ActorNetwork]) -> None:
        """Take the heads in the order of their logits; several networks are indexed by the agent's number."""
        self.heads = tuple(heads)
        self.networks = tuple(networks)
        self.noise_width = sum(head.noise_width for head in heads)
        self._parts = _parts(self.heads)
        self._scales = {
            head.name: (np.reshape(head.center, head.shape), np.reshape(head.half_range, head.shape))
            for head in self.heads
            if isinstance(head, GaussianHead) and head.center is not None and head.half_range is not None
        }
        self._normal_columns = [part.noise for part in self._parts if part.head.normal_noise]

    def sample(
        self, observations: Observation, noise: FloatArray | None, agent_id: IntArray | None
    ) -> Action:
        """Samples ``[B, ...]`` per head; without noise, the likeliest ones."""
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

    def noise(self, rng: np.random.Generator, n_rows: int) -> FloatArray:
        """Noise ``[n_rows, noise_width]`` float64, uniform or normal by column; row by row from ``rng``."""
        if not self._normal_columns:
            return rng.random((n_rows, self.noise_width))
        if len(self._normal_columns) == len(self._parts):
            return rng.standard_normal((n_rows, self.noise_width))
        rows = np.empty((n_rows, self.noise_width))
        for row in rows:
            for part in self._parts:
                draw = rng.standard_normal if part.head.normal_noise else rng.random
                row[part.noise] = draw(part.head.noise_width)
        return rows

    def _act_as(self, network: ActorNetwork, observations: Observation, noise: FloatArray | None) -> Action:
        logits = network.logits(observations)
        action: Action = {}
        for part in self._parts:
            head_logits = logits if part.logits is None else logits[:, part.logits]
            if part.mask is not None:
                head_logits = apply_mask(head_logits, observations[part.mask])
            log_std = network.log_std
            parameter = None if part.parameter is None or log_std is None else log_std[part.parameter]
            if noise is None:
                action[part.head.name] = part.head.mode(head_logits, parameter)
            else:
                action[part.head.name] = part.head.sample(head_logits, noise[:, part.noise], parameter)
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


@dataclass(frozen=True, slots=True, kw_only=True)
class _Part:
    """Where one head finds its logits, its noise, its parameter and its mask."""

    head: Head
    logits: slice | None
    """Columns of the logits; None takes them all."""
    noise: slice
    parameter: slice | None
    mask: str | None


def _parts(heads: Sequence[Head]) -> tuple[_Part, ...]:
    parts: list[_Part] = []
    at_logit = at_noise = at_parameter = 0
    for head in heads:
        logits = slice(at_logit, at_logit := at_logit + head.logits_width)
        noise = slice(at_noise, at_noise := at_noise + head.noise_width)
        parameter = slice(at_parameter, at_parameter := at_parameter + head.parameter_width)
        parts.append(
            _Part(
                head=head,
                logits=None if len(heads) == 1 else logits,
                noise=noise,
                parameter=parameter if head.parameter_width else None,
                mask=mask_name(head.name) if head.masked else None,
            )
        )
    return tuple(parts)


class ActingPolicy:
    """A policy that turns observations into actions. Safe to call from several threads."""

    def __init__(self, steps: Mapping[StepKey, StepPolicy], *, needs_torch: bool = False) -> None:
        """Take the policies of all sub-steps.

        Args:
            steps: sub-step → its policy.
            needs_torch: a network is a torch module, so there is no description without code.
        """
        self.steps = dict(steps)
        self.needs_torch = needs_torch
        self.needs_noise = False
        """Whether noise is needed even when acting deterministically; true of a random policy only."""

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
            caller may keep.

        Raises:
            ValueError: a stochastic action without noise.
        """
        if deterministic:
            noise = None
        elif noise is None:
            raise ValueError("a stochastic action needs noise: pass policy.noise(step_key, rng, n_rows)")
        step = self.steps[step_key]
        return step.in_env_units(step.sample(observations, noise, agent_id))

    def sample(
        self, step_key: StepKey, observations: Observation, *, noise: FloatArray, agent_id: IntArray | None
    ) -> Action:
        """What :meth:`act` gives, as it was drawn: on the scale of the network, which log-probabilities are of."""
        return self.steps[step_key].sample(observations, noise, agent_id)

    def in_env_units(self, step_key: StepKey, samples: Action) -> Action:
        """Samples ``[..., *shape]`` per head on the environment's scale."""
        return self.steps[step_key].in_env_units(samples)

    def noise(self, step_key: StepKey, rng: np.random.Generator, n_rows: int) -> FloatArray:
        """Noise ``[n_rows, width]`` for :meth:`act`; n calls for one row draw what one call for n rows does.

        Columns go head by head; :mod:`maze_core.models.heads` says what each head uses.
        """
        return self.steps[step_key].noise(rng, n_rows)

    def describe(self) -> tuple[Tree, dict[str, Array]]:
        """The policy as JSON and named float32 arrays, not copied, named as in the torch policy's state.

        With torch modules of the user's, the JSON says ``"kind": "module"`` and carries no network.
        """
        arrays: dict[str, Array] = {}
        steps = []
        for key, step in self.steps.items():
            node: Tree = {
                "step_key": key,
                "heads": [head_to_json(head) for head in step.heads],
                "networks": [],
            }
            for network in step.networks:
                program = None
                if isinstance(network.logits, Forward):
                    program = network.logits.program.to_json()
                    named = network.logits.parameters.items()
                    arrays.update({f"{network.prefix}network.{name}": array for name, array in named})
                if network.log_std is not None:
                    arrays[f"{network.prefix}log_std"] = network.log_std
                node["networks"].append({"prefix": network.prefix, "program": program})
            steps.append(node)
        return {"format": FORMAT, "kind": "module" if self.needs_torch else "program", "steps": steps}, arrays

    @classmethod
    def from_description(cls, tree: Tree, arrays: NamedArrays) -> "ActingPolicy":
        """The policy that :meth:`describe` described, with the same bits; ``arrays`` may hold others besides.

        Raises:
            CheckpointError: the description is damaged, of another format, or has Python classes as networks.
        """
        if tree.get("format") != FORMAT:
            raise CheckpointError(
                f"policy: format {tree.get('format')!r} is unknown, this version reads {FORMAT}"
            )
        if tree.get("kind") != "program":
            raise CheckpointError(
                "policy: its networks are Python classes, which a checkpoint does not carry. "
                "Build the model from its configuration and load the weights into it."
            )
        try:
            return cls({node["step_key"]: _step_from_json(node, arrays) for node in tree["steps"]})
        except (KeyError, TypeError, AttributeError) as error:
            raise CheckpointError(f"policy: the description is damaged ({error!r})") from error


def _step_from_json(node: Tree, arrays: NamedArrays) -> StepPolicy:
    heads = [head_from_json(head) for head in node["heads"]]
    n_parameters = sum(head.parameter_width for head in heads)
    networks = []
    for described in node["networks"]:
        prefix, program = described["prefix"], Program.from_json(described["program"])
        if program.n_out != sum(head.logits_width for head in heads):
            raise CheckpointError(f"policy: the network {prefix} does not produce the logits of its heads")
        log_std = arrays[f"{prefix}log_std"] if n_parameters else None
        if log_std is not None and log_std.shape != (n_parameters,):
            raise CheckpointError(f"policy: {prefix}log_std should have {n_parameters} numbers")
        logits = Forward(program, arrays, f"{prefix}network.")
        networks.append(ActorNetwork(logits=logits, log_std=log_std, prefix=prefix))
    if not networks:
        raise CheckpointError(f"policy: sub-step {node['step_key']!r} has no network")
    return StepPolicy(heads, networks)


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
