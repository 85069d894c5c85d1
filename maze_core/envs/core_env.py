"""One environment with sub-steps and agents: the contract that :class:`PerEnvVectorEnv` drives.

A *flat step* is one step of environment time. It may take several calls of ``step()``, one per actor: first a
box is chosen, then an item in it. Who acts next is :meth:`StructuredEnv.actor_id`; the spaces are given per
step key. ``terminated`` and ``truncated`` are two facts, as in gymnasium.

Whom a step pays is :attr:`StructuredEnv.rewards`. A team shares what it is paid. Where each actor is paid its own,
:meth:`StructuredEnv.outcomes` says what a step brought to whom, also to actors who acted before, and whose part in
the episode is over. Agents may come and go while an episode lasts: whoever is named by ``actor_id`` acts.
"""

from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

import gymnasium
from gymnasium import spaces

from maze_core.envs.vector import Environment
from maze_core.events.declared import EpisodeValues
from maze_core.types import Action, ActorID, Observation, Rewards, StepKey


class Outcome(NamedTuple):
    """What a step brought one actor."""

    actor: ActorID
    reward: float = 0.0
    """Paid for what it did last, beside what it was paid for that before."""
    terminated: bool = False
    """Its part in the episode is over: nothing comes after what it did last."""
    truncated: bool = False
    """Its part was cut: what would have come is worth V(observation)."""
    observation: Observation | None = None
    """What it saw last, where its part was cut; without it, what it did last is not learnt from."""


class StructuredEnv(Environment, ABC):
    """One environment whose flat step may be made of sub-steps by several agents. Not thread-safe."""

    observation_spaces: Mapping[StepKey, spaces.Dict]
    """What is seen before each sub-step. The first key is the one a flat step starts with."""
    action_spaces: Mapping[StepKey, spaces.Dict]
    """What can be done in each sub-step; the same keys in the same order."""
    agent_counts: Mapping[StepKey, int] = {0: 1}
    """Number of agents per sub-step; -1 is unknown, where a team is paid. Not all have to be there all the time."""
    rewards: Rewards = "team"
    """``per_actor``: each actor learns from what it is paid itself; see :meth:`outcomes`."""
    bare: gymnasium.Env[Any, Any] | None = None
    """The gymnasium environment behind it, where its one observation and its one action are what that one's
    ``step`` gives and takes. Many of them are then stepped without a dict in between."""
    reset_info: Mapping[str, Any] = {}
    """What the last reset said beside its observation, where the environment says anything."""
    reset_options: Mapping[str, Any] | None = None
    """Options for the next reset, where the environment takes any; it is None again after that."""
    render_mode: str | None = None
    """How ``render()`` shows the environment; None where it cannot be seen."""
    render_fps: float = 30.0
    """Frames per second at which it looks natural."""

    event_interfaces: Sequence[type] = ()
    """What declares the events it says, where it says any; :mod:`maze_core.events`."""

    @abstractmethod
    def reset(self, *, seed: int | None = None) -> Observation:
        """Start an episode.

        Args:
            seed: starts the environment's own random stream anew; None goes on with it.

        Returns:
            The first observation, of the space of ``actor_id().step_key``.
        """

    @abstractmethod
    def step(self, action: Action) -> tuple[Observation, float, bool, bool, dict[str, Any]]:
        """Take one sub-step.

        Args:
            action: head → value, of the space of ``actor_id().step_key``.

        Returns:
            Observation for the next actor, reward, terminated, truncated, info.
        """

    @abstractmethod
    def actor_id(self) -> ActorID:
        """Who acts on the last observation."""

    def outcomes(self) -> Sequence[Outcome] | None:
        """What the last ``step()`` brought each actor; asked after every step where rewards are ``per_actor``.

        The rewards add up to the reward of the step. Whoever's part is not over when an episode ends, ends with it.

        Returns:
            Those actors whom it brought anything; None where the reward is that of the actor who took the step.
        """
        return None

    def is_flat_step_done(self) -> bool:
        """Whether environment time passed with the last ``step()``.

        By default it did when it is the turn of the first actor again: agent 0 of the first step key.
        Override it where a flat step may begin with another actor. The end of an episode always ends its
        flat step.
        """
        step_key, agent_id = self.actor_id()
        return agent_id == 0 and step_key == next(iter(self.observation_spaces))

    def begin_statistics(self) -> None:
        """Let the statistics of the episode under way begin anew."""
        return

    def episode_values(self) -> EpisodeValues:
        """The statistics of its events in the episode so far, all of them where it is over; asked before a reset."""
        return {}

    def render(self) -> Any:
        """The current state as the render mode shows it; None where it cannot be seen."""
        return None

    def close(self) -> None:
        """Release windows and files. A second call does nothing."""
        return
