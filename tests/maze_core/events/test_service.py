from abc import ABC, abstractmethod
from typing import Any

import pytest

from maze_core.errors import EnvError
from maze_core.events import EnvironmentContext, EpisodeEventLog, EventService, Pubsub, Subscriber


class DoorEvents(ABC):
    @abstractmethod
    def opened(self, who: str, key: int = 7) -> None: ...

    @abstractmethod
    def shut(self) -> None: ...


class Listener(Subscriber):
    def get_interfaces(self) -> list[type]:
        return [DoorEvents]


def test_a_topic_is_of_its_interface_and_the_same_each_time() -> None:
    service = EventService()
    topic = service.create_event_topic(DoorEvents)
    assert isinstance(topic, DoorEvents)
    assert service.create_event_topic(DoorEvents) is topic
    assert service.interfaces == (DoorEvents,)


def test_two_services_share_nothing() -> None:
    one, other = EventService(), EventService()
    one.create_event_topic(DoorEvents).shut()
    other.create_event_topic(DoorEvents)
    assert [event.name for event in one.happened] == ["shut"]
    assert not other.happened


def test_attributes_are_taken_by_name_and_place_and_by_default() -> None:
    service = EventService()
    topic = service.create_event_topic(DoorEvents)
    topic.opened("Ada")
    topic.opened(key=1, who="Bo")
    assert service.of(DoorEvents.opened) == [("Ada", 7), ("Bo", 1)]
    with pytest.raises(EnvError, match="DoorEvents/opened has other attributes"):
        topic.opened("Ada", when=3)  # type: ignore[call-arg]


def test_two_interfaces_of_one_name_are_refused() -> None:
    other = type("DoorEvents", (), {"locked": lambda self: None})
    service = EventService()
    service.create_event_topic(DoorEvents)
    with pytest.raises(EnvError, match="Two event interfaces are named DoorEvents"):
        service.create_event_topic(other)


def test_a_subscriber_hears_of_the_sub_step_under_way_alone() -> None:
    context, listener = EnvironmentContext(), Listener()
    pubsub = Pubsub(context.event_service)
    topic = pubsub.create_event_topic(DoorEvents)
    with pytest.raises(EnvError, match="register_subscriber"):
        listener.query_events(DoorEvents.shut)
    pubsub.register_subscriber(listener)
    topic.opened("Ada")
    context.begin_sub_step()
    topic.opened("Bo")
    topic.shut()
    heard = listener.query_events([DoorEvents.shut, DoorEvents.opened])
    assert [(event.name, dict(event.attributes)) for event in heard] == [
        ("shut", {}),
        ("opened", {"who": "Bo", "key": 7}),
    ]


def test_a_subscriber_hears_of_its_own_interfaces_alone() -> None:
    class Other:
        def rang(self) -> None: ...

    service, listener = EventService(), Listener()
    service.create_event_topic(Other)
    Pubsub(service).register_subscriber(listener)
    with pytest.raises(EnvError, match="Other is not among the get_interfaces of Listener"):
        listener.query_events(Other.rang)
    with pytest.raises(EnvError, match=r"no topic with the event DoorEvents\.shut"):
        listener.query_events(DoorEvents.shut)


def test_the_log_of_an_episode_has_its_events_with_their_time_and_no_others() -> None:
    context = EnvironmentContext()
    context.log = []
    topic = context.event_service.create_event_topic(DoorEvents)

    def step(who: str) -> None:
        context.begin_sub_step()
        topic.opened(who)
        topic.shut()
        context.write_log()
        context.end_sub_step(is_step_done=True)

    step("nobody")
    context.begin_episode()
    step("Ada")
    step("Bo")
    found = EpisodeEventLog(context).query_events(DoorEvents.opened)
    assert [(event.attributes["who"], event.env_time) for event in found] == [("Ada", 0), ("Bo", 1)]
    assert context.step_id == 2


def test_an_episode_has_one_name_as_long_as_it_lasts() -> None:
    context = EnvironmentContext()
    name: Any = context.episode_id
    assert context.episode_id == name
    context.begin_episode()
    assert context.episode_id != name
