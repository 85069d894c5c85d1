"""Key performance indicators: what an episode was worth in the words of its domain."""

from abc import ABC, abstractmethod
from collections.abc import Callable, Iterable
from typing import Any

from maze_core.events.declared import EventRecord
from maze_core.events.service import EnvironmentContext


class EpisodeEventLog:
    """Every event of an episode, to be asked at its end."""

    def __init__(self, context: EnvironmentContext) -> None:
        """Read the events of this environment's episode."""
        self._context = context

    def query_events(self, methods: Callable[..., Any] | Iterable[Callable[..., Any]]) -> list[EventRecord]:
        """The events of these methods of interfaces, such as ``YardEvents.truck_sent``, as they happened.

        Raises:
            EnvError: the environment has no topic with one of them.
        """
        service = self._context.event_service
        wanted = {service.event_of(method) for method in ([methods] if callable(methods) else methods)}
        return [
            event.record(arguments, time)
            for event, arguments, time in self._context.log or ()
            if event in wanted
        ]


class KpiCalculator(ABC):
    """Computes the indicators of an episode."""

    @abstractmethod
    def calculate_kpis(self, episode_event_log: EpisodeEventLog, last_maze_state: Any) -> dict[str, float]:
        """Name → number, of an episode that is over or was cut.

        Args:
            episode_event_log: what happened in it.
            last_maze_state: the state it ended in.
        """
