"""The record of experience: ``{step_key: {name: [T, B, …]}}`` with a mask of who acted and an index of env time.

Time is axis 0 and counts ticks, environments are axis 1. An environment with sub-steps fills, at each tick, the
rows of the one step key it stood at (``active``); a plain gymnasium environment is the case of one key whose
``active`` is all True. ``flat_step`` says which ticks belong to one step of environment time.
"""

from dataclasses import dataclass

import numpy as np

from maze_core.types import Array, BoolArray, FloatArray, IntArray, Observation, StepKey


@dataclass(slots=True)
class StepRecord:
    """What was seen and done at one sub-step."""

    observations: dict[str, Array]
    """name → ``[T, B, …]``; valid where ``active``."""
    actions: dict[str, Array]
    """head → ``[T, B, …]``: the policy's own samples, before any clipping to the env's bounds."""
    active: BoolArray
    """``[T, B]``: this sub-step acted here."""


@dataclass(slots=True)
class FinalObservations:
    """Last observations of episodes that a time limit cut; their future is V(observation)."""

    t: IntArray
    """``[n]``: tick at which the episode ended."""
    b: IntArray
    """``[n]``: environment in which it ended."""
    observations: dict[str, Array]
    """name → ``[n, …]``."""


@dataclass(slots=True)
class Rollout:
    """``T`` ticks of ``B`` environments, and what they show afterwards."""

    steps: dict[StepKey, StepRecord]
    agent_id: IntArray
    """``[T, B]``: the agent that acted."""
    reward: FloatArray
    """``[T, B]`` float32: reward of the action taken at t."""
    terminated: BoolArray
    """``[T, B]``: the state reached at t+1 is terminal."""
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
    """Of truncated episodes, by the step key of the final observation."""
    episode_returns: list[float]
    """Raw returns of the episodes that ended within the rollout, in order."""
    episode_lengths: list[int]
    """Their lengths in flat steps."""
    actions_clipped: float | None = None
    """Share of the bounded numbers of Box actions that the environments' bounds cut; None where there are none."""

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
