"""From a rollout to samples to learn from: values, advantages and the log-probabilities of the acting policy.

Rows of one step key are gathered into flat tensors ``[N, …]``; targets are computed on the ``[T, B]`` grid of
ticks, where the next value of a tick is that of the following tick whatever its sub-step, of the final observation
where a limit cut the episode, and nothing after a terminal state. Between the sub-steps of one flat step no time
passes: γ and λ count as 1 there.
"""

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from maze_core.data.trajectory import Rollout
from maze_core.models.policies import TorchCritic, TorchPolicy
from maze_core.objectives.losses import normalized
from maze_core.objectives.returns import explained_variance, gae
from maze_core.types import Array, FloatArray, StepKey


@dataclass(slots=True)
class Samples:
    """Rows of one step key."""

    observations: dict[str, Tensor]
    """name → ``[N, …]``."""
    actions: dict[str, Tensor]
    """head → ``[N, …]``."""
    agent_id: Tensor
    """``[N]``."""
    log_probs: Tensor
    """log π(a|s) under the weights that acted, ``[N]``; fixed for the whole update."""
    advantages: Tensor
    """``[N]``."""
    returns: Tensor
    """λ-returns, ``[N]``."""

    def __len__(self) -> int:
        """Number of rows."""
        return len(self.advantages)

    def take(self, rows: Tensor) -> "Samples":
        """The rows with these indices, copied."""
        return self._each(lambda x: x.index_select(0, rows))

    def slice(self, start: int, end: int) -> "Samples":
        """The rows ``start`` to ``end``, as views."""
        return self._each(lambda x: x[start:end])

    def _each(self, part: Callable[[Tensor], Tensor]) -> "Samples":
        return Samples(
            {name: part(x) for name, x in self.observations.items()},
            {head: part(x) for head, x in self.actions.items()},
            *map(part, (self.agent_id, self.log_probs, self.advantages, self.returns)),
        )


Batch = dict[StepKey, Samples]
"""Samples of every step key that acted."""


@torch.no_grad()
def prepare(
    rollout: Rollout, policy: TorchPolicy, critic: TorchCritic, *, gamma: float, lam: float
) -> tuple[Batch, float]:
    """Values, generalised advantages and old log-probabilities of a rollout.

    Args:
        rollout: what the collector brought.
        policy: the policy that acted, its weights unchanged since.
        critic: V(s).
        gamma: discount per flat step, in [0, 1].
        lam: λ in [0, 1].

    Returns:
        The batch to learn from, and the explained variance of the critic before the update.
    """
    values = _values(rollout, critic)
    next_values = _next_values(rollout, critic, values)
    same = rollout.same_flat_step
    advantages, returns = gae(
        rollout.reward,
        values,
        next_values,
        rollout.terminated,
        rollout.truncated,
        gamma=np.where(same, np.float32(1), np.float32(gamma)) if same.any() else gamma,
        lam=np.where(same, np.float32(1), np.float32(lam)) if same.any() else lam,
    )
    batch: Batch = {}
    for key, record in rollout.steps.items():
        rows = record.active
        if not rows.any():
            continue
        observations = _tensors(record.observations, rows)
        actions = _tensors(record.actions, rows)
        agent_id = torch.from_numpy(_rows(rollout.agent_id, rows))
        log_probs, _ = policy.log_probs_and_entropy(key, observations, actions, agent_id)
        targets = (torch.from_numpy(_rows(x, rows)) for x in (advantages, returns))
        batch[key] = Samples(observations, actions, agent_id, log_probs, *targets)
    return batch, explained_variance(values, returns)


def minibatches(batch: Batch, size: int, rng: np.random.Generator) -> Iterator[Batch]:
    """One pass over the batch in random order, in minibatches of ``size`` rows over all step keys.

    A last minibatch smaller than half of ``size`` joins the one before it, so that none is tiny.
    """
    keys = list(batch)
    lengths = [len(batch[key]) for key in keys]
    total = sum(lengths)
    starts = list(range(0, total, size))
    if len(starts) > 1 and total - starts[-1] < size / 2:
        starts.pop()
    order = rng.permutation(total)
    if len(keys) == 1:
        shuffled = batch[keys[0]].take(torch.from_numpy(order))
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
                parts[key] = batch[key].take(torch.from_numpy(mine))
        yield parts


def normalize_advantages(batch: Batch) -> Batch:
    """The same batch with advantages of mean 0 and deviation 1 over all step keys together."""
    everything = torch.cat([samples.advantages for samples in batch.values()])
    parts = normalized(everything).split([len(samples) for samples in batch.values()])
    for samples, advantages in zip(batch.values(), parts, strict=True):
        samples.advantages = advantages
    return batch


def _values(rollout: Rollout, critic: TorchCritic) -> FloatArray:
    values = np.zeros(rollout.reward.shape, dtype=np.float32)
    for key, record in rollout.steps.items():
        if record.active.any():
            observations = _tensors(record.observations, record.active)
            agent_id = torch.from_numpy(_rows(rollout.agent_id, record.active))
            values[record.active] = critic.values(key, observations, agent_id).numpy()
    return values


def _next_values(rollout: Rollout, critic: TorchCritic, values: FloatArray) -> FloatArray:
    last = np.zeros(values.shape[1], dtype=np.float32)
    for key, active in rollout.last_active.items():
        if active.any():
            agent_id = torch.from_numpy(rollout.last_agent_id[active])
            last[active] = critic.values(
                key, _tensors(rollout.last_observations[key], active), agent_id
            ).numpy()
    next_values = np.concatenate([values[1:], last[None]])
    for key, final in rollout.final.items():
        observations = {name: torch.from_numpy(x) for name, x in final.observations.items()}
        agent_id = torch.from_numpy(rollout.agent_id[final.t, final.b])
        next_values[final.t, final.b] = critic.values(key, observations, agent_id).numpy()
    return next_values


def _tensors(arrays: Mapping[str, Array], rows: Array) -> dict[str, Tensor]:
    return {name: torch.from_numpy(_rows(array, rows)) for name, array in arrays.items()}


def _rows(array: Array, rows: Array) -> Array:
    """The selected rows, flat, always as a copy: the rollout's arrays are reused."""
    if rows.all():
        return array.reshape(-1, *array.shape[rows.ndim :]).copy()
    return array[rows]
