"""The vector environment: the one primitive that training, evaluation and rollouts step.

Structure of arrays: a :class:`Tick` holds what all ``B`` environments show after a reset or a step. Which
environment waits for which sub-step is the ``active`` mask, so environments of one batch may stand at
different sub-steps. ``terminated`` and ``truncated`` are two facts and stay two arrays (Pardo et al. 2018,
arXiv:1712.00378). Autoreset is same-step: where an episode ended, ``observations`` already belong to the
next episode and ``final_observations`` hold the last one of the old.
"""

from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from gymnasium import spaces

from maze_core.envs.contract import say_failed_closes
from maze_core.errors import EnvError
from maze_core.events.declared import EpisodeValues
from maze_core.notices import Notices
from maze_core.types import Array, BoolArray, FloatArray, IntArray, Observation, Rewards, StepKey


@dataclass(slots=True)
class ActorOutcomes:
    """What the last step brought each of the ``A`` actors, numbered as by :class:`~maze_core.types.Actors`."""

    reward: FloatArray
    """``[B, A]`` float64: paid for what the actor did last, with this step."""
    terminated: BoolArray
    """``[B, A]``: the actor's part in the episode is over."""
    truncated: BoolArray
    """``[B, A]``: the actor's part was cut."""
    is_shown: BoolArray
    """``[B, A]``: what the actor saw last is in ``observations``."""
    observations: dict[StepKey, Observation]
    """step key → name → ``[B, agents, ...]``."""
    episode_return: FloatArray
    """``[B, A]`` float64: sum of the actor's own rewards; valid where an episode ended."""

    @property
    def ended(self) -> BoolArray:
        """``[B, A]``: the actor's part was over with this step."""
        return self.terminated | self.truncated


@dataclass(slots=True)
class Tick:
    """What every environment of the batch shows now. The env owns the arrays; its next call reuses them."""

    observations: dict[StepKey, Observation]
    """step key → name → ``[B, ...]``; row b is valid where ``active[key][b]``."""
    active: dict[StepKey, BoolArray]
    """step key → ``[B]``: the environments that wait for an action of this sub-step; each in exactly one."""
    agent_id: IntArray
    """``[B]``: the agent to act, within the sub-step."""
    reward: FloatArray
    """``[B]`` float64: what the step just taken paid, to all together; 0 after a reset."""
    terminated: BoolArray
    """``[B]``: the state reached is terminal; its future is worth nothing."""
    truncated: BoolArray
    """``[B]``: the episode was cut by a limit; its future is worth V(final observation)."""
    final_observations: dict[StepKey, Observation]
    """Like ``observations``; valid where ``terminated | truncated``, under the key of ``final_active``."""
    final_active: dict[StepKey, BoolArray]
    """step key → ``[B]``: the sub-step to which the final observation belongs."""
    final_agent_id: IntArray
    """``[B]``: the agent to whom the final observation belongs; valid where an episode ended."""
    flat_step: IntArray
    """``[B]``: environment time within the episode; grows by one per flat step, 0 after a reset."""
    episode_return: FloatArray
    """``[B]`` float64: sum of the environment's own rewards; valid where an episode ended."""
    episode_length: IntArray
    """``[B]``: flat steps of the episode; valid where an episode ended."""
    actors: ActorOutcomes | None = None
    """What the step brought each actor; None where a team is paid."""

    @property
    def ended(self) -> BoolArray:
        """``[B]``: an episode ended with this tick."""
        return self.terminated | self.truncated


class Environment:
    """Base of everything here that is an environment: one, a batch, or one in the hand."""


class VectorEnv(Environment, ABC):
    """``B`` environments stepped together. Not thread-safe; owned by whoever made it, who closes it."""

    n_envs: int
    observation_spaces: Mapping[StepKey, spaces.Dict]
    """What a policy sees, per sub-step."""
    action_spaces: Mapping[StepKey, spaces.Dict]
    """What a policy does, per sub-step."""
    agent_counts: Mapping[StepKey, int]
    """Number of agents per sub-step."""
    rewards: Rewards = "team"
    """Whom steps pay; ticks of ``per_actor`` have their :attr:`Tick.actors`."""
    event_interfaces: Sequence[type] = ()
    """What declares the events of these environments, where they say any; :mod:`maze_core.events`."""

    @abstractmethod
    def reset(self, seeds: Sequence[int | None], rows: BoolArray | None = None) -> Tick:
        """Start new episodes.

        Args:
            seeds: one per environment, ``len(seeds) == n_envs``; None goes on with the env's own stream.
            rows: ``[B]`` the environments to reset; None resets all. Others keep what they show.

        Returns:
            The tick after the reset; reward 0 and no end flags in the rows that were reset.
        """

    @abstractmethod
    def step(self, actions: Mapping[StepKey, Mapping[str, Array]]) -> Tick:
        """Act in every environment, each at the sub-step it waits for.

        Args:
            actions: step key → head → ``[B, ...]``; row b is read from the key where b is active.

        Returns:
            The next tick; environments whose episode ended have been reset.

        Raises:
            EnvError: the environment broke its contract (reward not finite, step after close, …).
        """

    def take_ended(self) -> list[tuple[int, EpisodeValues]]:
        """Row and statistics of the episodes that ended since the last call, in their order."""
        return []

    def episode_values(self, row: int) -> EpisodeValues:
        """The statistics of the episode under way in a row."""
        return {}

    def begin_statistics(self, rows: BoolArray) -> None:
        """Let the statistics of the episodes under way in ``rows [B]`` begin anew."""
        return

    def step_rows(self, actions: Mapping[StepKey, Mapping[str, Array]], rows: BoolArray) -> Tick:
        """Act in some of the environments; the others keep what they show, and are paid nothing.

        Args:
            actions: as in :meth:`step`.
            rows: ``[B]`` those that act.

        Returns:
            The next tick; only environments that acted have ended in it.

        Raises:
            EnvError: as in :meth:`step`; or these environments can only be stepped all together.
        """
        if rows.all():
            return self.step(actions)
        raise EnvError(
            f"{type(self).__name__} steps its environments only all together: use env.vectorization=per_env."
        )

    @abstractmethod
    def close(self) -> None:
        """Release processes, windows and files. A second call does nothing."""


class ClosingVectorEnv(VectorEnv):
    """One that has environments or processes of its own to close, once, and does nothing after that."""

    def __init__(self) -> None:
        """Hold nothing yet."""
        self._is_closed = False
        self._notices = Notices.current()

    def close(self) -> None:
        """Close every environment; one that fails to is warned of."""
        if not self._is_closed:
            self._is_closed = True
            say_failed_closes(self._close(), self._notices)

    @abstractmethod
    def _close(self) -> list[str]:
        """Close everything; the reasons of what failed to."""

    def _expect_open(self, seeds: Sequence[int | None] | None = None) -> None:
        if self._is_closed:
            raise EnvError("The environments were closed; make new ones.")
        if seeds is not None and len(seeds) != self.n_envs:
            raise EnvError(f"reset needs one seed per environment: {self.n_envs}, got {len(seeds)}.")
