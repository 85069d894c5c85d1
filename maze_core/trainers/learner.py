"""Policy and critic as they learn: arrays in, arrays out; gradients by hand where nets are dense, else by autograd.

Programs of dense layers are computed by :mod:`maze_core.models.dense`, torch modules of the user's by torch. The heads,
who of several agents acted, and what a shared critic sees are the same for both.
"""

from collections.abc import Callable, Collection, Mapping, Sequence
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass
from typing import Any

import numpy as np

from maze_core.models.acting import ActingPolicy, StepPolicy
from maze_core.models.dense import DenseNets, NetsPull, differ_at_the_end_only, scores
from maze_core.models.graph import ActionValues, GraphNetwork, Program
from maze_core.models.memory import STATE, Sequences
from maze_core.models.networks import Critic, Network
from maze_core.threads import plain_torch
from maze_core.trainers.critic_context import seen_by_critic, without_context
from maze_core.trainers.optim import GradientStep
from maze_core.types import FloatArray, IntArray, NamedArrays, StepKey

Nets = Callable[..., tuple[Sequence[FloatArray], NetsPull]]
"""Observations, and the sequences of a network with a state, to outputs and their pull."""
CRITIC_STATE = "critic_state"
"""Name by which the state of a critic stands among the observations, beside that of the policy."""


@dataclass(slots=True)
class PolicyEvaluation:
    """What a policy says of ``N`` rows of one sub-step."""

    log_probs: FloatArray
    """log π(a|s), ``[N]``, summed over heads and dimensions."""
    entropy: FloatArray
    """In nats, ``[N]``, summed over heads and dimensions."""
    backward: Callable[[FloatArray, FloatArray | None], None]
    """∂L/∂log_probs and ∂L/∂entropy (None for 0), ``[N]`` each: adds to the gradients; called once at most, before the
    next evaluation."""


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

    def __init__(self, policy: ActingPolicy, critic: Critic, step: GradientStep) -> None:
        """Take the networks, and what they learn by, which has them as ``policy`` and ``critic``."""
        self.needs_torch = policy.needs_torch or critic.needs_torch
        """Whether a network is a module of the user's, which numpy cannot run."""
        self.policy, self.critic = policy, critic
        of_modules = {
            actor.logits: step.gradients_of(f"policy/{actor.prefix}network.")
            for of_key in policy.steps.values()
            for actor in of_key.networks
        }
        self._steps = {
            key: _SubStep(of_key, critic, critic.by_key[key], step, of_modules)
            for key, of_key in policy.steps.items()
        }

    @property
    def has_memory(self) -> bool:
        """Whether a network carries a state."""
        return bool(self.policy.state_widths or self.critic.state_widths)

    def of_policy(self, seen: Mapping[StepKey, NamedArrays]) -> list[str]:
        """Names of the parameters on which the policy depends, with their prefix.

        Where one module gives policy and value, what the value alone has is none of them.

        Args:
            seen: observations ``[N, …]`` of sub-steps, as of :meth:`evaluate`; all of a module whose sub-step is not
                among them counts as the policy's. Autograd is on.
        """
        shared = {getattr(network, "refers_to", None) for network in self.critic.by_key.values()}
        unread: set[str] = set()
        for key, observations in seen.items():
            row = {name: x[:1] for name, x in _of_policy(observations).items()}
            for actor in self.policy.steps[key].networks:
                network: Any = actor.logits
                if network in shared:
                    prefix = f"policy/{actor.prefix}network."
                    unread |= {prefix + name for name in network.unread(row)}
        return [name for own in self.policy.parameters if (name := f"policy/{own}") not in unread]

    def torch(self, *, keeps_gradients: bool) -> AbstractContextManager[None]:
        """What to evaluate within where a network needs torch, and whether the way back is kept; else nothing."""
        return plain_torch(gradients=keeps_gradients) if self.needs_torch else nullcontext()

    def evaluate(
        self,
        step_key: StepKey,
        observations: NamedArrays,
        actions: NamedArrays,
        agent_id: IntArray,
        sequences: Sequences | None = None,
    ) -> Evaluation:
        """Evaluate actions and states of one sub-step.

        Args:
            step_key: the sub-step.
            observations: name → ``[N, …]``, masks among them, and what the networks carried before.
            actions: head → ``[N, …]``, the raw samples.
            agent_id: ``[N]``, who acted.
            sequences: in which networks with a state see the rows; None believes the state of every row.
        """
        return self._steps[step_key].evaluate(observations, actions, agent_id, sequences)

    @property
    def judges(self) -> dict[StepKey, Network]:
        """Sub-step → the one network that gives the policy's logits and V(s), where one torch module does."""
        return {key: step.judge for key, step in self._steps.items() if step.judge is not None}

    def recalled(
        self, step_key: StepKey, judged: FloatArray, observations: NamedArrays, actions: NamedArrays
    ) -> Evaluation:
        """What :meth:`evaluate` says of rows for which a judge gave ``[N, n + 1]``; there is no way back."""
        return self._steps[step_key].recalled(judged, observations, actions)

    def log_probs(
        self, step_key: StepKey, observations: NamedArrays, actions: NamedArrays, agent_id: IntArray
    ) -> FloatArray:
        """Logarithms of π(a|s) alone, ``[N]``; arguments as of :meth:`evaluate`."""
        return self._steps[step_key].policy.evaluate(observations, actions, agent_id).log_probs

    def values(self, step_key: StepKey, observations: NamedArrays, agent_id: IntArray) -> FloatArray:
        """V(s), ``[N]``, for observations ``[N, …]``; the agents of a sub-step share one."""
        return self._steps[step_key].values(observations)


class PolicyLearner:
    """Evaluates the policy of one sub-step, and knows the way back."""

    def __init__(self, policy: StepPolicy, step: GradientStep) -> None:
        """Take the policy, and what it learns by, which has it as ``policy``."""
        self.networks = [actor.logits for actor in policy.networks]
        self.gradients = [step.gradients_of(f"policy/{actor.prefix}network.") for actor in policy.networks]
        self.parts = policy.parts
        self.log_stds = [
            (actor.parameter, step.gradients.get(f"policy/{actor.prefix}log_std"))
            for actor in policy.networks
        ]
        """Parameter and gradient, by agent."""
        self._agents = [nets([net], [d]) for net, d in zip(self.networks, self.gradients, strict=True)]

    def evaluate(
        self,
        observations: NamedArrays,
        actions: NamedArrays,
        agent_id: IntArray,
        sequences: Sequences | None = None,
    ) -> PolicyEvaluation:
        """How likely the actions of ``N`` rows are; see :meth:`Learner.evaluate`."""
        observations = _of_policy(observations)
        n_rows = len(agent_id)
        log_probs, entropy = np.empty(n_rows, np.float32), np.empty(n_rows, np.float32)
        pulls = []
        for i, network in enumerate(self._agents):
            rows: Any = slice(None) if len(self._agents) == 1 else np.flatnonzero(agent_id == i)
            if not agent_id[rows].size:
                continue
            seen = {name: array[rows] for name, array in observations.items()}
            mine = sequences if sequences is None or len(self._agents) == 1 else sequences.of_rows(rows)
            (logits,), pull = network(seen, *_read_by(seen, mine))
            done = {name: array[rows] for name, array in actions.items()}
            found = scores(self.parts, logits, seen, done, *self.log_stds[i])
            log_probs[rows], entropy[rows] = found.log_prob, found.entropy
            pulls.append((rows, found.pull, pull))

        def backward(d_log_probs: FloatArray, d_entropy: FloatArray | None) -> None:
            for rows, pull_scores, pull in pulls:
                pull([pull_scores(d_log_probs[rows], None if d_entropy is None else d_entropy[rows])])

        return PolicyEvaluation(log_probs, entropy, backward)


class _SubStep:
    """The networks of one sub-step."""

    def __init__(
        self,
        policy: StepPolicy,
        critic: Critic,
        values: Network,
        step: GradientStep,
        of_modules: Mapping[Network, NamedArrays],
    ) -> None:
        """``of_modules``: network of a policy → its gradients, for a critic that has one's module."""
        self.policy = actors = PolicyLearner(policy, step)
        referred: Any = getattr(values, "refers_to", None)
        of_values = of_modules.get(referred) or step.gradients_of(f"critic/{critic.prefixes[values]}")
        self._critic = nets([values], [of_values])
        self._filled = critic.filled
        both = [*actors.networks, values]
        programs = [x.program for x in both if isinstance(x, GraphNetwork)]
        at_once = len(both) == len(programs) == 2 and differ_at_the_end_only(*programs)
        self._policy_and_critic = nets(both, [*actors.gradients, of_values]) if at_once else None
        is_one_module = len(both) == 2 and referred is both[0] and not values.state_width
        self.judge: Any = None
        if is_one_module and not critic.fill:
            one: Any = both[0]
            self.judge = one.with_outputs_of(values)
            self._policy_and_critic = _of_one_module(self.judge, of_values)

    def evaluate(
        self,
        observations: NamedArrays,
        actions: NamedArrays,
        agent_id: IntArray,
        sequences: Sequences | None,
    ) -> Evaluation:
        if self._policy_and_critic is not None:
            of_critic, base = seen_by_critic(observations)
            (logits, values), pull = self._policy_and_critic(of_critic)
            found = scores(self.policy.parts, logits, observations, actions, *self.policy.log_stds[0])

            def backward_at_once(
                d_log_probs: FloatArray, d_entropy: FloatArray | None, d_values: FloatArray
            ) -> None:
                pull([found.pull(d_log_probs, d_entropy), d_values[None]])

            return Evaluation(found.log_prob, found.entropy, _on(base, values[0]), backward_at_once)

        seen, base = self._seen(observations)
        (values,), pull_values = self._critic(seen, *_read_by(seen, sequences))
        policy = self.policy.evaluate(observations, actions, agent_id, sequences)

        def backward(d_log_probs: FloatArray, d_entropy: FloatArray | None, d_values: FloatArray) -> None:
            policy.backward(d_log_probs, d_entropy)
            pull_values([d_values[None]])

        return Evaluation(policy.log_probs, policy.entropy, _on(base, values[0]), backward)

    def recalled(self, judged: FloatArray, observations: NamedArrays, actions: NamedArrays) -> Evaluation:
        found = scores(self.policy.parts, judged[:, :-1].T, observations, actions, *self.policy.log_stds[0])
        return Evaluation(found.log_prob, found.entropy, judged[:, -1].copy(), _no_way_back)

    def values(self, observations: NamedArrays) -> FloatArray:
        """``[N]``."""
        seen, base = self._seen(observations)
        (values,), _ = self._critic(seen)
        return _on(base, values[0])

    def _seen(self, observations: NamedArrays) -> tuple[NamedArrays, FloatArray | None]:
        """What the critic sees, its own state in the place of the policy's, and what its value is added to."""
        observations, base = seen_by_critic(observations)
        if not (STATE in observations or CRITIC_STATE in observations):
            return self._filled(observations), base
        of_critic = observations.get(CRITIC_STATE)
        shown = {name: x for name, x in observations.items() if name not in (STATE, CRITIC_STATE)}
        seen = self._filled(shown)
        return seen if of_critic is None else {**seen, STATE: of_critic}, base


def _of_policy(observations: NamedArrays) -> NamedArrays:
    """What a policy sees, its own state with it."""
    observations = without_context(observations)
    if CRITIC_STATE not in observations:
        return observations
    return {name: x for name, x in observations.items() if name != CRITIC_STATE}


def _on(base: FloatArray | None, values: FloatArray) -> FloatArray:
    return values if base is None else values + base


def _read_by(seen: NamedArrays, sequences: Sequences | None) -> tuple[Sequences, ...]:
    """The sequences, where a network that sees this carries a state and there are any."""
    return () if sequences is None or STATE not in seen else (sequences,)


def nets(
    networks: Sequence[Network], gradients: Sequence[NamedArrays] | None, inputs: Collection[str] = ()
) -> Nets:
    """Networks in numpy, several at once where they are programs, or one in torch.

    Args:
        networks: several have equal hidden layers; parameters lie where they will stay.
        gradients: of each network, where its gradient is added up; None where it does not learn.
        inputs: observations whose gradients are asked for.
    """
    if any(network.needs_torch for network in networks):
        per_network = [None] * len(networks) if gradients is None else gradients
        return _one_by_one([_one(*pair, inputs) for pair in zip(networks, per_network, strict=True)])
    return DenseNets(
        [dense_program(network) for network in networks],
        [network.parameters for network in networks],
        gradients,
        inputs,
    )


def _one(network: Any, gradients: NamedArrays | None, inputs: Collection[str]) -> Nets:
    if network.needs_torch:
        return network.learner(gradients, inputs)  # type: ignore[no-any-return]
    return nets([network], None if gradients is None else [gradients], inputs)


def _one_by_one(each: Sequence[Nets]) -> Nets:
    """Networks of which torch has one, as if they were computed at once."""

    def learn(observations: NamedArrays, *sequences: Sequences) -> tuple[Sequence[FloatArray], NetsPull]:
        outputs, pulls = zip(*(network(observations, *sequences) for network in each), strict=True)

        def pull(d_outputs: Sequence[FloatArray]) -> NamedArrays:
            found = [pull([d]) for pull, d in zip(pulls, d_outputs, strict=True)]
            return {name: sum(d[name] for d in found) for name in found[0]}

        return [output for (output,) in outputs], pull

    return learn


def _no_way_back(*_: FloatArray | None) -> None:
    raise RuntimeError("what is recalled is not to be learnt from")


def _of_one_module(judge: Any, gradients: NamedArrays) -> Nets:
    """Policy and critic whose outputs come from one torch module: one way forward, and one way back."""
    network = judge.learner(gradients)

    def learn(observations: NamedArrays) -> tuple[Sequence[FloatArray], NetsPull]:
        (output,), pull = network(observations)
        return [output[:-1], output[-1:]], lambda d_outputs: pull([np.concatenate(d_outputs)])

    return learn


def dense_program(network: Any) -> Program:
    """The program of a network of ours up to its last dense layer."""
    *ops, last = network.program.ops
    return Program(tuple(ops)) if isinstance(last, ActionValues) else network.program
