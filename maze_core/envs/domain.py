"""What a user writes to make an environment of domain logic: the logic itself, and how it is seen and acted on.

A :class:`CoreEnv` knows its domain alone: states and actions are objects of any kind. Conversions, one pair per
sub-step, say what a policy sees of a state and what its action means; several can be tried on one core.
``MazeEnv(core_env=…, action_conversion_dict=…, observation_conversion_dict=…)`` puts them together.
"""

from abc import ABC, abstractmethod
from collections.abc import Mapping
from typing import Any, Protocol

from gymnasium import spaces

from maze_core.events.kpi import KpiCalculator
from maze_core.events.pubsub import Pubsub, RewardAggregatorInterface
from maze_core.events.service import EnvironmentContext
from maze_core.types import Action, ActorID, Array, Observation, Rewards, StepKey


class Renderer(Protocol):
    """Draws a state."""

    def render(self, maze_state: Any, maze_action: Any, events: Any) -> Array:
        """A picture ``[height, width, 3]`` uint8.

        Args:
            maze_state: what is drawn.
            maze_action: the action that led to it; None after a reset.
            events: the :class:`~maze_core.events.EventService`, to ask what happened in the last sub-step.
        """
        ...


class CoreEnv(ABC):
    """Domain logic. Everything it draws at random comes from what :meth:`seed` seeds."""

    rewards: Rewards = "team"
    """``per_actor``: each actor learns from what it is paid itself."""
    reward_aggregator: RewardAggregatorInterface | None = None
    """What makes rewards of events, where rewards are made so."""

    def __init__(self, context: EnvironmentContext | None = None) -> None:
        """Have a time and events of one's own; create event topics here, by ``self.pubsub``."""
        self.context = context or EnvironmentContext()
        self.pubsub = Pubsub(self.context.event_service)

    @abstractmethod
    def step(self, maze_action: Any) -> tuple[Any, ...]:
        """Take one sub-step.

        Args:
            maze_action: what :meth:`ActionConversionInterface.space_to_maze` made of the policy's action.

        Returns:
            State, reward, terminated, truncated, info; or state, reward, done, info, where
            ``info["TimeLimit.truncated"]`` says that a limit cut the episode. The reward is one number; where
            :attr:`rewards` are ``per_actor`` that of the actor who took the step, or an array with one for each actor
            of this step of environment time so far, in the order in which they acted, this one last.
        """

    @abstractmethod
    def reset(self) -> Any:
        """Start an episode; its first state."""

    @abstractmethod
    def seed(self, seed: int) -> None:
        """Start the random stream anew."""

    @abstractmethod
    def get_maze_state(self) -> Any:
        """The state now."""

    def actor_id(self) -> ActorID | tuple[StepKey, int]:
        """Who acts next; sub-step 0 and agent 0 unless there are more."""
        return ActorID(0, 0)

    def is_actor_done(self) -> bool:
        """Whether the actor that acted last takes no further part in the episode."""
        return False

    @property
    def agent_counts_dict(self) -> Mapping[StepKey, int]:
        """Agents of each sub-step; -1 where their number changes."""
        return {0: 1}

    def get_renderer(self) -> Renderer | None:
        """What draws states; None where they cannot be seen."""
        return None

    def get_kpi_calculator(self) -> KpiCalculator | None:
        """What computes indicators at the end of each episode."""
        return None

    def clone_from(self, env: Any) -> None:
        """Take over the state of another environment of this class, for search that looks ahead."""
        raise NotImplementedError(f"{type(self).__name__} has no clone_from.")

    def close(self) -> None:
        """Release what it holds. A second call does nothing."""
        return


class ObservationConversionInterface(ABC):
    """What a policy sees of a state."""

    @abstractmethod
    def maze_to_space(self, maze_state: Any) -> Observation:
        """The observation of a state, of :meth:`space`."""

    @abstractmethod
    def space(self) -> spaces.Dict:
        """The space of observations."""

    def space_to_maze(self, observation: Observation) -> Any:
        """The state of an observation, where it can be told."""
        raise NotImplementedError(f"{type(self).__name__} tells no state of an observation.")


class ActionConversionInterface(ABC):
    """What a policy's action means."""

    @abstractmethod
    def space_to_maze(self, action: Action, maze_state: Any) -> Any:
        """The action of the domain that a policy's action, of :meth:`space`, means in a state."""

    @abstractmethod
    def space(self) -> spaces.Dict:
        """The space of actions."""

    def maze_to_space(self, maze_action: Any) -> Action:
        """The policy's action that means this one, where it can be told."""
        raise NotImplementedError(f"{type(self).__name__} tells no action of the space.")

    def noop_action(self) -> Action:
        """The action that does nothing, where there is one."""
        raise NotImplementedError(f"{type(self).__name__} has no action that does nothing.")
