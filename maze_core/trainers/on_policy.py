"""From a rollout to samples to learn from: values, advantages and the log-probabilities of the acting policy.

Rows of one step key are gathered into flat tensors ``[N, …]``; targets are computed on the ``[T, B]`` grid of
ticks, where the next value of a tick is that of the following tick whatever its sub-step, of the final observation
where a limit cut the episode, and nothing after a terminal state. Between the sub-steps of one flat step no time
passes: γ and λ count as 1 there.

Where each actor is paid its own, the grid is another: a column for each actor of each environment, with the ticks that
were its own (:class:`_OwnTurns`). What comes next is then its own next turn, and γ is counted once for each step of
environment time in between. Actions of which not all is known yet are not learnt from; they have a value, which the
turn before them needs.
"""

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, ClassVar, Self, TypeVar

import numpy as np

from maze_core.data.trajectory import Rollout, Turns
from maze_core.errors import InvalidSpecificationError
from maze_core.models.memory import Memory, Sequences
from maze_core.objectives.losses import normalized
from maze_core.objectives.returns import explained_variance, gae
from maze_core.trainers.learner import CRITIC_STATE, Evaluation, Learner
from maze_core.trainers.remembered import remembered
from maze_core.types import Array, BoolArray, FloatArray, IntArray, StepKey


@dataclass(slots=True)
class Steps:
    """Rows of one step key: what was seen and done."""

    observations: dict[str, Array]
    """name → ``[N, …]``."""
    actions: dict[str, Array]
    """head → ``[N, …]``: the policy's own samples."""
    agent_id: IntArray
    """``[N]``."""
    sequences: Sequences | None = field(default=None, kw_only=True)
    """In which networks with a state see the rows; None where there are none of them."""

    def __len__(self) -> int:
        """Number of rows."""
        return len(self.agent_id)

    def take(self, rows: IntArray) -> Self:
        """The rows with these indices, copied."""
        return self._each(lambda x: x.take(rows, 0))

    def slice(self, start: int, end: int) -> Self:
        """The rows ``start`` to ``end``, as views."""
        return self._each(lambda x: x[start:end])

    def take_sequences(self, chosen: IntArray) -> Self:
        """The rows of these sequences, copied."""
        assert self.sequences is not None
        rows, sequences = self.sequences.take(chosen)
        taken = self.take(rows)
        taken.sequences = sequences
        return taken

    def _each(self, part: Callable[[Array], Array]) -> Self:
        return type(self)(
            {name: part(x) for name, x in self.observations.items()},
            {head: part(x) for head, x in self.actions.items()},
            *(part(getattr(self, name)) for name in self._COLUMNS),
        )

    _COLUMNS: ClassVar[tuple[str, ...]] = ("agent_id",)


@dataclass(slots=True)
class Samples(Steps):
    """Rows of one step key, as actor-critic algorithms learn from them."""

    log_probs: FloatArray
    """log π(a|s) under the weights that acted, ``[N]``; fixed for the whole update."""
    advantages: FloatArray
    """``[N]``."""
    returns: FloatArray
    """λ-returns, ``[N]``."""
    values: FloatArray
    """V(s) under the weights that acted, ``[N]``."""
    found: Evaluation | None = None
    """What policy and critic say of exactly these rows, under the weights that acted."""

    _COLUMNS: ClassVar[tuple[str, ...]] = ("agent_id", "log_probs", "advantages", "returns", "values")


Batch = dict[StepKey, Samples]
"""Samples of every step key that acted."""
Rows = TypeVar("Rows", bound=Steps)
Estimator = Callable[..., tuple[FloatArray, FloatArray]]
"""Gives advantages and returns, ``[T, B]``."""


def prepare(
    rollout: Rollout,
    learner: Learner,
    *,
    gamma: float,
    lam: float,
    off_policy: Estimator | None = None,
    memory: Memory | None = None,
    bptt_length: int | None = None,
) -> tuple[Batch, float]:
    """Values, advantages and old log-probabilities of a rollout.

    Args:
        rollout: what the collector brought.
        learner: of the policy that acted, its weights unchanged since, and the critic.
        gamma: discount per flat step, in [0, 1].
        lam: λ in [0, 1].
        off_policy: takes log π − log μ ``[T, B]`` and then what :func:`gae` does, for a rollout that has the
            ``log_probs`` of another policy; None is :func:`gae`.
        memory: what a critic with a state carries from rollout to rollout; it goes on.
        bptt_length: rows after which gradients through states end; None is the whole rollout.

    Returns:
        The batch to learn from, and the explained variance of the critic before the update.
    """
    # before what is evaluated to learn from, whose pull must come before the next call
    next_values = np.empty(rollout.reward.shape, dtype=np.float32)
    states: dict[StepKey, FloatArray] = {}
    if memory:
        next_values[-1], cut, states = remembered(rollout, learner.critic, memory)
    else:
        next_values[-1] = _last_values(rollout, learner)
        cut = [
            (final.t, final.b, learner.values(key, final.observations, final.agent_id))
            for key, final in rollout.final.items()
        ]
    ended, turns = rollout.terminated | rollout.truncated, rollout.turns
    parts_ended = None if turns is None else turns.terminated | turns.truncated
    values = np.empty_like(next_values)  # some sub-step acts at every tick
    log_ratios = np.zeros_like(next_values)
    batch: Batch = {}
    for key, rows, done in _done(rollout):
        if key in states:
            done.observations[CRITIC_STATE] = rows.of(states[key])
        if learner.has_memory:
            active = rollout.steps[key].active
            done.sequences = Sequences.of(active, rollout.agent_id, ended, bptt_length, parts_ended)
        found = _found(learner, key, done, rows, rollout.steps[key].judged)
        rows.put(found.values, values)
        log_probs = found.log_probs
        if rollout.log_probs is not None:
            log_probs = rows.of(rollout.log_probs)
            rows.put(found.log_probs - log_probs, log_ratios)
        # advantages and returns follow below, when the values of all sub-steps are known
        batch[key] = Samples(
            done.observations,
            done.actions,
            done.agent_id,
            log_probs,
            found.values,
            found.values,
            found.values,
            found,
            sequences=done.sequences,
        )
    estimate = off_policy or _on_policy
    if rollout.turns is None:
        next_values[:-1] = values[1:]
        for t, b, final_values in cut:
            next_values[t, b] = final_values
        advantages, returns = _of_team(rollout, values, next_values, log_ratios, estimate, gamma, lam)
    else:
        own = _OwnTurns(rollout, rollout.turns)
        advantages, returns = own.estimate(values, next_values[-1], cut, log_ratios, estimate, gamma, lam)
    for key, samples in batch.items():
        rows = _Rows(rollout.steps[key].active)
        samples.advantages, samples.returns = rows.of(advantages), rows.of(returns)
    if rollout.turns is not None and not rollout.turns.is_known.all():
        known = rollout.turns.is_known
        batch = _known(batch, rollout, known)
        values, returns = values[known][None], returns[known][None]
    return batch, explained_variance(values, returns)


def _found(
    learner: Learner, key: StepKey, done: Steps, rows: "_Rows", judged: FloatArray | None
) -> Evaluation:
    """What policy and critic say of the rows of a rollout, where they did not say it as they acted."""
    if judged is not None:
        return learner.recalled(key, rows.of(judged), done.observations, done.actions)
    return learner.evaluate(key, done.observations, done.actions, done.agent_id, done.sequences)


def _on_policy(log_ratios: FloatArray, *arrays: Array, **factors: Any) -> tuple[FloatArray, FloatArray]:
    return gae(*arrays, **factors)


def _of_team(
    rollout: Rollout,
    values: FloatArray,
    next_values: FloatArray,
    log_ratios: FloatArray,
    estimate: Estimator,
    gamma: float,
    lam: float,
) -> tuple[FloatArray, FloatArray]:
    """Advantages and returns where all who act in an environment are paid together."""
    same = rollout.same_flat_step
    is_structured = np.count_nonzero(same)
    return estimate(
        log_ratios,
        rollout.reward,
        values,
        next_values,
        rollout.terminated,
        rollout.truncated,
        gamma=np.where(same, np.float32(1), np.float32(gamma)) if is_structured else gamma,
        lam=np.where(same, np.float32(1), np.float32(lam)) if is_structured else lam,
    )


class _OwnTurns:
    """The grid ``[turns, B · A]`` of each actor's own turns; rows are filled up with turns worth nothing."""

    def __init__(self, rollout: Rollout, turns: Turns) -> None:
        self._rollout, self._turns = rollout, turns
        *_, n_envs = rollout.reward.shape
        self._columns = np.arange(n_envs) * turns.n_actors + turns.actor
        """``[T + 1, B]``."""
        self._shape = int(turns.turn.max()) + 2, n_envs * turns.n_actors
        self._places = turns.turn[:-1], self._columns[:-1]

    def estimate(
        self,
        values: FloatArray,
        last_values: FloatArray,
        cut: Sequence[tuple[IntArray, IntArray, FloatArray]],
        log_ratios: FloatArray,
        estimator: Estimator,
        gamma: float,
        lam: float,
    ) -> tuple[FloatArray, FloatArray]:
        """Advantages and returns ``[T, B]``; of turns that are not known, anything.

        Args:
            values: V(s_t), ``[T, B]``.
            last_values: V of what is shown after the rollout, ``[B]``.
            cut: ticks, environments and V of what actors saw last whose part was cut.
            log_ratios: what the estimator takes first, ``[T, B]``.
            estimator: gives advantages and returns.
            gamma: discount per flat step.
            lam: λ per turn.
        """
        rollout, turns = self._rollout, self._turns
        after = turns.turn[-1:], self._columns[-1:]
        shown, time = self._spread(values), self._spread(rollout.flat_step[:-1])
        shown[after], time[after] = last_values, rollout.flat_step[-1:]
        next_values, passed = shown[1:], time[1:] - time[:-1]
        for t, b, final_values in cut:
            next_values[turns.turn[t, b], self._columns[t, b]] = final_values
        ended = self._grid(turns.terminated | turns.truncated)
        passed[ended] = self._grid(turns.passed)[ended]
        # a turn worth nothing, where there is none and where it is not known what came of it
        blank = ~self._grid(turns.is_known)
        here = np.where(blank, np.float32(0), self._grid(values))
        passed[blank] = 1
        found = estimator(
            self._grid(log_ratios),
            np.where(blank, np.float32(0), self._grid(rollout.reward)),
            here,
            np.where(blank, np.float32(0), next_values),
            self._grid(turns.terminated) | blank,
            self._grid(turns.truncated) & ~blank,
            gamma=np.power(np.float32(gamma), passed, dtype=np.float32),
            lam=np.where(passed == 0, np.float32(1), np.float32(lam)),
        )
        advantages, returns = (each[self._places] for each in found)
        return advantages, returns

    def _grid(self, array: Array) -> Array:
        return self._spread(array)[:-1]

    def _spread(self, array: Array) -> Array:
        spread = np.zeros(self._shape, array.dtype)
        spread[self._places] = array
        return spread


def _known(batch: Batch, rollout: Rollout, is_known: BoolArray) -> Batch:
    """The samples of actions of which it is known what came of them.

    Raises:
        InvalidSpecificationError: there are none.
    """
    known: Batch = {}
    for key, samples in batch.items():
        rows = np.flatnonzero(is_known[rollout.steps[key].active])
        if len(rows):
            known[key] = samples if len(rows) == len(samples) else samples.take(rows)
            if samples.sequences is not None:
                known[key].sequences = samples.sequences.of_rows(rows)
    if not known:
        message = (
            "is too short: no actor has a second turn within it. Take several times the number of agents."
        )
        raise InvalidSpecificationError(message, path="algorithm.n_rollout_steps")
    return known


def log_probs_of(rollout: Rollout, learner: Learner) -> FloatArray:
    """Logarithms of π(a|s) of what was done, ``[T, B]``, under the learner's weights of now."""
    log_probs = np.empty_like(rollout.reward)
    for key, rows, done in _done(rollout):
        rows.put(learner.log_probs(key, done.observations, done.actions, done.agent_id), log_probs)
    return log_probs


def minibatches(
    batch: Mapping[StepKey, Rows], size: int, rng: np.random.Generator
) -> Iterator[dict[StepKey, Rows]]:
    """One pass over the batch in random order, in minibatches of ``size`` rows over all step keys.

    A last minibatch smaller than half of ``size`` joins the one before it, so that none is tiny. Sequences stay whole:
    minibatches of them have about ``size`` rows.
    """
    keys = list(batch)
    lengths = [len(batch[key]) for key in keys]
    total = sum(lengths)
    starts = list(range(0, total, size))
    if len(starts) > 1 and total - starts[-1] < size / 2:
        starts.pop()
    if any(steps.sequences is not None for steps in batch.values()):
        yield from _of_sequences(batch, len(starts), rng)
        return
    order = rng.permutation(total)
    if len(keys) == 1:
        shuffled = batch[keys[0]].take(order)
        for start, end in zip(starts, [*starts[1:], total], strict=True):
            yield {keys[0]: shuffled.slice(start, end)}
        return
    offsets = np.cumsum([0, *lengths])
    for start, end in zip(starts, [*starts[1:], total], strict=True):
        rows = order[start:end]
        parts = {}
        for i, key in enumerate(keys):
            mine = rows[(rows >= offsets[i]) & (rows < offsets[i + 1])] - offsets[i]
            if len(mine):
                parts[key] = batch[key].take(mine)
        yield parts


def _of_sequences(
    batch: Mapping[StepKey, Rows], n_parts: int, rng: np.random.Generator
) -> Iterator[dict[StepKey, Rows]]:
    """All sequences of all step keys in random order, in at most ``n_parts`` parts of about as many rows."""
    every = [
        (key, i, n)
        for key, steps in batch.items()
        if (found := steps.sequences)
        for i, n in enumerate(found.lengths)
    ]
    shuffled = [every[i] for i in rng.permutation(len(every))]
    ends = np.cumsum([n for *_, n in shuffled])
    part_of = np.minimum((ends - 1) * n_parts // ends[-1], n_parts - 1)
    for part in np.unique(part_of):
        mine = [shuffled[i] for i in np.flatnonzero(part_of == part)]
        chosen = {key: np.array([i for of_key, i, _ in mine if of_key == key]) for key in batch}
        yield {key: batch[key].take_sequences(of_key) for key, of_key in chosen.items() if len(of_key)}


def normalize_advantages(batch: Batch) -> Batch:
    """The same batch with advantages of mean 0 and deviation 1 over all step keys together."""
    if len(batch) == 1:
        (samples,) = batch.values()
        samples.advantages = normalized(samples.advantages)
        return batch
    everything = normalized(np.concatenate([samples.advantages for samples in batch.values()]))
    end = 0
    for samples in batch.values():
        start, end = end, end + len(samples)
        samples.advantages = everything[start:end]
    return batch


def _done(rollout: Rollout) -> Iterator[tuple[StepKey, "_Rows", Steps]]:
    """Of each sub-step that acted: its key, the places where it did, and its rows."""
    for key, record in rollout.steps.items():
        if rows := _Rows(record.active):
            observations = {name: rows.of(array) for name, array in record.observations.items()}
            actions = {head: rows.of(array) for head, array in record.actions.items()}
            yield key, rows, Steps(observations, actions, rows.of(rollout.agent_id))


def _last_values(rollout: Rollout, learner: Learner) -> FloatArray:
    """V of what the envs show after the rollout, ``[B]``."""
    values = np.empty(rollout.reward.shape[1], dtype=np.float32)
    for key, active in rollout.last_active.items():
        if rows := _Rows(active):
            seen = {name: rows.of(array) for name, array in rollout.last_observations[key].items()}
            rows.put(learner.values(key, seen, rows.of(rollout.last_agent_id)), values)
    return values


class _Rows:
    """The places of a mask ``[…]``; false where there are none."""

    def __init__(self, mask: BoolArray) -> None:
        self._n = int(np.count_nonzero(mask))
        self.mask = None if self._n == mask.size else mask
        """None where all are chosen."""
        self._n_axes = mask.ndim

    def __bool__(self) -> bool:
        return self._n > 0

    def put(self, rows: Array, array: Array) -> None:
        """Write ``[n]`` to their places in an array ``[…]``."""
        if self.mask is None:
            array[...] = rows.reshape(array.shape)
        else:
            array[self.mask] = rows

    def of(self, array: Array) -> Array:
        """Those of an array ``[…, *rest]``, as ``[n, *rest]``, always copied: the rollout's arrays are reused."""
        if self.mask is not None:
            return array[self.mask]
        return array.reshape(-1, *array.shape[self._n_axes :]).copy()
