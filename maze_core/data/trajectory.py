"""The record of experience: ``{step_key: {name: [T, B, …]}}`` with a mask of who acted and an index of env time.

Time is axis 0 and counts ticks, environments are axis 1. An environment with sub-steps fills, at each tick, the
rows of the one step key it stood at (``active``); a plain gymnasium environment is the case of one key whose
``active`` is all True. ``flat_step`` says which ticks belong to one step of environment time.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, fields, replace
from typing import Any

import numpy as np

from maze_core.types import ActorID, Actors, Array, BoolArray, FloatArray, IntArray, Observation, StepKey


@dataclass(slots=True)
class StepRecord:
    """What was seen and done at one sub-step."""

    observations: dict[str, Array]
    """name → ``[T, B, …]``; valid where ``active``."""
    actions: dict[str, Array]
    """head → ``[T, B, …]``: the policy's own samples, before any clipping to the env's bounds."""
    active: BoolArray
    """``[T, B]``: this sub-step acted here."""
    judged: FloatArray | None = None
    """``[T, B, n + 1]``: logits and V(s), where what acted gave both."""


@dataclass(slots=True)
class FinalObservations:
    """Last observations of episodes that a time limit cut; their future is V(observation)."""

    t: IntArray
    """``[n]``: tick at which the episode ended."""
    b: IntArray
    """``[n]``: environment in which it ended."""
    agent_id: IntArray
    """``[n]``: the agent who saw it, who need not be the one that acted last."""
    observations: dict[str, Array]
    """name → ``[n, …]``."""


@dataclass(slots=True)
class Turns:
    """Whose turn each tick is, and how it ended for that actor, where each actor is paid its own."""

    n_actors: int
    """Actors of one environment, by number."""
    actor: IntArray
    """``[T + 1, B]``: number of the actor; row T is the tick after the rollout."""
    turn: IntArray
    """``[T + 1, B]``: turns it had before, within the rollout."""
    terminated: BoolArray
    """``[T, B]``: the actor's part in the episode was over before it had another turn."""
    truncated: BoolArray
    """``[T, B]``: it was cut before that."""
    passed: IntArray
    """``[T, B]``: steps of environment time from the action to the end of the actor's part, 1 at least; valid where
    there was one."""
    is_known: BoolArray
    """``[T, B]``: all that came of the action is known; not of the last turns of those who wait at the end of the
    rollout, and where an actor was cut without being shown anything."""


@dataclass(slots=True)
class Rollout:
    """``T`` ticks of ``B`` environments, and what they show afterwards."""

    steps: dict[StepKey, StepRecord]
    agent_id: IntArray
    """``[T, B]``: the agent that acted."""
    reward: FloatArray
    """``[T, B]`` float32: reward of the action taken at t; with :attr:`turns`, all that its actor was paid up to the
    next turn of its own."""
    terminated: BoolArray
    """``[T, B]``: the state reached at t+1 is terminal: the episode is over."""
    truncated: BoolArray
    """``[T, B]``: the episode was cut at t+1."""
    flat_step: IntArray
    """``[T + 1, B]``: env time at which t acted; row T is the tick after the rollout."""
    last_observations: dict[StepKey, Observation]
    """What the envs show after the rollout: name → ``[B, …]``."""
    last_active: dict[StepKey, BoolArray]
    """step key → ``[B]`` of ``last_observations``."""
    last_agent_id: IntArray
    """``[B]``."""
    final: dict[StepKey, FinalObservations]
    """Of truncated episodes, by the step key of the final observation; with :attr:`turns`, of each actor that was cut,
    at its own last turn."""
    episode_returns: list[float]
    """Raw returns of the episodes that ended within the rollout, in order."""
    episode_lengths: list[int]
    """Their lengths in flat steps."""
    log_probs: FloatArray | None = None
    """log μ(a|s) of the policy μ that acted, ``[T, B]`` float32; None where it is the one that learns."""
    actions_clipped: float | None = None
    """Share of the bounded numbers of Box actions that the environments' bounds cut; None where there are none."""
    turns: Turns | None = None
    """None where a team is paid."""
    actor_returns: list[FloatArray] = field(default_factory=list)
    """Raw returns ``[A]`` of each actor, of the episodes that ended; empty where a team is paid."""

    @property
    def n_steps(self) -> int:
        """Steps of environment time within the rollout, over all envs."""
        same = self.same_flat_step
        return same.size - int(np.count_nonzero(same))

    @property
    def same_flat_step(self) -> BoolArray:
        """``[T, B]``: tick t and t+1 belong to one flat step, so no time passes between them."""
        steps, ended = self.flat_step, self.terminated | self.truncated
        same: BoolArray = np.greater(steps[1:] == steps[:-1], ended)  # equal, and not ended
        return same


def actor_returns(rollout: Rollout, agent_counts: Mapping[StepKey, int]) -> dict[ActorID, list[float]]:
    """Raw returns of each actor in the episodes that ended, where each is paid its own."""
    if not rollout.actor_returns:
        return {}
    columns = np.stack(rollout.actor_returns, axis=1).tolist()
    return dict(zip(Actors(agent_counts).ids, columns, strict=True))


def joined_ends(parts: Sequence[FinalObservations]) -> FinalObservations:
    """All of them, in order."""
    return FinalObservations(
        t=np.concatenate([part.t for part in parts]),
        b=np.concatenate([part.b for part in parts]),
        agent_id=np.concatenate([part.agent_id for part in parts]),
        observations={
            name: np.concatenate([part.observations[name] for part in parts])
            for name in parts[0].observations
        },
    )


def joined(rollouts: Sequence[Rollout]) -> Rollout:
    """Rollouts of equally many ticks as one, their environments side by side."""
    if len(rollouts) == 1:
        return rollouts[0]
    starts = np.cumsum([0, *(rollout.reward.shape[1] for rollout in rollouts)])
    final: dict[StepKey, list[FinalObservations]] = {}
    for rollout, start in zip(rollouts, starts[:-1].tolist(), strict=True):
        for key, ends in rollout.final.items():
            final.setdefault(key, []).append(replace(ends, b=ends.b + start))
    clipped = [rollout.actions_clipped for rollout in rollouts if rollout.actions_clipped is not None]
    return Rollout(
        **{name: _beside([getattr(r, name) for r in rollouts], 1) for name in _OF_TICKS},
        **{name: _beside([getattr(r, name) for r in rollouts], 0) for name in _OF_THE_END},
        final={key: joined_ends(parts) for key, parts in final.items()},
        episode_returns=[value for rollout in rollouts for value in rollout.episode_returns],
        episode_lengths=[value for rollout in rollouts for value in rollout.episode_lengths],
        actor_returns=[values for rollout in rollouts for values in rollout.actor_returns],
        actions_clipped=sum(clipped) / len(clipped) if clipped else None,
    )


_OF_TICKS = ("steps", "agent_id", "reward", "terminated", "truncated", "flat_step", "log_probs", "turns")
"""Fields of a rollout whose axis 1 counts environments."""
_OF_THE_END = ("last_observations", "last_active", "last_agent_id")
"""Those whose axis 0 does."""


def _beside(parts: Sequence[Any], axis: int) -> Any:
    """Arrays, or the same structure of them, joined along an axis."""
    first = parts[0]
    if isinstance(first, StepRecord | Turns):
        names = [field.name for field in fields(first)]
        return type(first)(**{name: _beside([getattr(part, name) for part in parts], axis) for name in names})
    if first is None or isinstance(first, int):
        return first
    if isinstance(first, dict):
        return {key: _beside([part[key] for part in parts], axis) for key in first}
    return np.concatenate(parts, axis)
