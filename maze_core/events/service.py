"""What happens in one environment: topics that say it, and the events of now. Nothing here is shared by two."""

import uuid
from collections.abc import Callable
from typing import Any, TypeVar, cast

from maze_core.errors import EnvError
from maze_core.events.declared import Event, events_of
from maze_core.events.episode import EpisodeStatistics

_I = TypeVar("_I")
Arguments = tuple[Any, ...]
"""The values of an event's attributes, in order."""


class EventService:
    """The topics of one environment and the events of its last sub-step."""

    def __init__(self) -> None:
        self.statistics = EpisodeStatistics()
        self.env_time = 0
        """Flat steps of the episode so far."""
        self._topics: dict[type, object] = {}
        self._events: dict[Callable[..., Any], Event] = {}
        self._records: dict[Event, list[Arguments]] = {}
        self.happened: dict[Event, list[Arguments]] = {}
        """The events of the last sub-step, by kind, in the order of their first."""

    @property
    def interfaces(self) -> tuple[type, ...]:
        """What topics there are of."""
        return tuple(self._topics)

    def create_event_topic(self, interface: type[_I]) -> _I:
        """An object whose methods say that an event happened; always the same one for an interface.

        Raises:
            EnvError: the interface declares what cannot be, or another one has its name.
        """
        if interface not in self._topics:
            if any(known.__name__ == interface.__name__ for known in self._topics):
                raise EnvError(
                    f"Two event interfaces are named {interface.__name__}; their statistics would be one."
                )
            self._topics[interface] = self._made(interface)
        return cast(_I, self._topics[interface])

    def event_of(self, method: Callable[..., Any]) -> Event:
        """The event of a method of an interface, such as ``YardEvents.truck_sent``.

        Raises:
            EnvError: there is no topic of its interface.
        """
        if method not in self._events:
            name = getattr(method, "__qualname__", repr(method))
            raise EnvError(f"There is no topic with the event {name}: create_event_topic(…) makes one.")
        return self._events[method]

    def of(self, method: Callable[..., Any]) -> list[Arguments]:
        """What the last sub-step had of one event."""
        return self._records[self.event_of(method)]

    def clear(self) -> None:
        """Forget them."""
        for records in self.happened.values():
            records.clear()
        self.happened.clear()

    def _made(self, interface: type) -> object:
        events = events_of(interface)
        empty = {name: _says_nothing for name in events}
        topic: Any = type(f"{interface.__name__}Topic", (interface,), empty)()
        for name, event in events.items():
            self._events[event.method] = event
            self.statistics.know(event)
            records: list[Arguments] = []
            self._records[event] = records
            setattr(topic, name, _saying(event, records, self.happened))
        return topic


def _says_nothing(self: object) -> None:
    """Stands for abstract methods; the topic has one of its own for each."""


def _saying(
    event: Event, records: list[Arguments], happened: dict[Event, list[Arguments]]
) -> Callable[..., None]:
    n_attributes = len(event.attributes)

    def say(*args: Any, **named: Any) -> None:
        if named or len(args) != n_attributes:
            args = event.bind(args, named)
        if not records:
            happened[event] = records
        records.append(args)

    return say


class EnvironmentContext:
    """What one environment knows of its episode: its time, its events and their statistics."""

    def __init__(self) -> None:
        self.event_service = EventService()
        self.has_stepped: bool | None = None
        """Whether the last sub-step ended a step of environment time; None where the environment does not count."""
        self.log: list[tuple[Event, Arguments, int]] | None = None
        """Every event of the episode, where somebody asks for them at its end."""
        self._episode_id: str | None = None

    @property
    def step_id(self) -> int:
        """Environment time: flat steps of the episode so far."""
        return self.event_service.env_time

    @property
    def episode_id(self) -> str:
        """A name for the episode, drawn where it is first asked for; the same as long as it lasts."""
        if self._episode_id is None:
            self._episode_id = str(uuid.uuid4())
        return self._episode_id

    def increment_env_step(self) -> None:
        """Say that the sub-step under way ends a step of environment time.

        Of an environment that never says so, the turn of the first actor does.
        """
        self.has_stepped = True

    def begin_episode(self) -> None:
        """Forget the last one."""
        self.event_service.clear()
        self.begin_statistics()
        self.event_service.env_time, self._episode_id = 0, None

    def begin_statistics(self) -> None:
        """Count, and keep for the end of the episode, only what happens from now on."""
        self.event_service.statistics.clear()
        if self.log is not None:
            self.log.clear()

    def begin_sub_step(self) -> None:
        """Forget the events of the last one."""
        self.event_service.clear()
        if self.has_stepped:
            self.has_stepped = False

    def write_log(self) -> None:
        """Keep the events of the sub-step for the end of the episode."""
        if self.log is not None:
            time = self.step_id
            for event, records in self.event_service.happened.items():
                self.log += [(event, arguments, time) for arguments in records]

    def end_sub_step(self, *, is_step_done: bool) -> None:
        """Count what happened in it."""
        service = self.event_service
        service.statistics.add(service.happened, is_step_done=is_step_done)
        service.env_time += is_step_done
