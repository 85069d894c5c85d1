"""Who hears of the events of an environment's sub-step: above all what makes rewards of them."""

from abc import ABC, abstractmethod
from collections.abc import Callable, Iterable, Sequence
from typing import Any, TypeVar

from maze_core.errors import EnvError
from maze_core.events.declared import EventRecord
from maze_core.events.service import EventService
from maze_core.types import FloatArray

_I = TypeVar("_I")


class Subscriber(ABC):
    """Hears of the events of some interfaces; registered with a :class:`Pubsub`."""

    _service: EventService | None = None

    @abstractmethod
    def get_interfaces(self) -> Sequence[type]:
        """The event interfaces it hears of."""

    def query_events(self, methods: Callable[..., Any] | Iterable[Callable[..., Any]]) -> list[EventRecord]:
        """The events of the sub-step under way, of these methods of interfaces, in their order.

        Raises:
            EnvError: it is not registered, or does not hear of one of them.
        """
        if self._service is None:
            raise EnvError(
                f"{type(self).__name__} hears of nothing: pubsub.register_subscriber(…) comes first."
            )
        found = []
        for method in [methods] if callable(methods) else methods:
            event = self._service.event_of(method)
            if event.interface not in self.get_interfaces():
                raise EnvError(
                    f"{event.interface.__name__} is not among the get_interfaces of {type(self).__name__}."
                )
            found += [
                event.record(arguments, self._service.env_time) for arguments in self._service.of(method)
            ]
        return found


class RewardAggregatorInterface(Subscriber):
    """Makes the reward of a sub-step from its events; what is paid lies apart from what happens."""

    @abstractmethod
    def summarize_reward(self, maze_state: Any) -> float | FloatArray:
        """The reward of the sub-step under way, as ``CoreEnv.step`` gives it: one number, or one for each actor."""

    def clone_from(self, reward_aggregator: Any) -> None:
        """Take over the state of another one; one that keeps none has nothing to do."""


class Pubsub:
    """Publishes the events of one environment to its subscribers."""

    def __init__(self, event_service: EventService) -> None:
        """Publish what this service records: ``Pubsub(self.context.event_service)``."""
        self._service = event_service

    def create_event_topic(self, interface: type[_I]) -> _I:
        """An object whose methods say that an event happened."""
        return self._service.create_event_topic(interface)

    def register_subscriber(self, subscriber: Subscriber) -> None:
        """Let it hear of what happens from now on."""
        subscriber._service = self._service
