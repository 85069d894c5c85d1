from collections.abc import Callable
from typing import Any

import numpy as np
import pytest

from maze_core.errors import EnvError
from maze_core.events import EnvironmentContext
from maze_core.events.declared import (
    define_episode_stats,
    define_epoch_stats,
    define_stats_grouping,
    define_step_stats,
)
from maze_core.events.epoch import EpochStatistics


class Sales:
    @define_epoch_stats(np.mean, input_name="sum", output_name="mean")
    @define_epoch_stats(sum, input_name="sum", output_name="ever", cumulative=True)
    @define_epoch_stats(len, input_name="sum", output_name="episodes", cumulative=True)
    @define_episode_stats(sum, input_name="sum", output_name="sum", group_by=())
    @define_episode_stats(np.mean, input_name="sum", output_name="by_colour")
    @define_step_stats(sum, input_name="price", output_name="sum")
    @define_stats_grouping("colour")
    def sold(self, colour: str, price: float) -> None: ...

    @define_episode_stats(max)
    @define_step_stats(lambda events: len({event["a"] + event["b"] for event in events}))
    def pair(self, a: int, b: int) -> None: ...

    @define_episode_stats(sum, input_name="n", output_name="n")
    @define_episode_stats(max, input_name="n", output_name="most")
    @define_step_stats(len, output_name="n")
    def broken(self) -> None: ...

    @define_episode_stats(None)
    @define_step_stats(None)
    def once(self, value: Any) -> None: ...


def episode(*steps: Callable[[Sales], Any], sub_steps: int = 1) -> dict[Any, float]:
    """The values of an episode of these steps, each said in as many sub-steps."""
    context = EnvironmentContext()
    topic = context.event_service.create_event_topic(Sales)
    context.begin_episode()
    for step in steps:
        for sub_step in range(1, sub_steps + 1):
            context.begin_sub_step()
            step(topic)
            context.end_sub_step(is_step_done=sub_step == sub_steps)
    return context.event_service.statistics.values()


def named(values: dict[Any, float]) -> dict[str, float]:
    return {key.name: value for key, value in values.items()}


def test_steps_are_reduced_and_then_the_episode() -> None:
    found = named(
        episode(
            lambda topic: [topic.sold("red", 1.0), topic.sold("red", 2.0), topic.sold("blue", 4.0)],
            lambda topic: topic.sold("red", 9.0),
        )
    )
    assert found["Sales/sold/by_colour/red"] == (3.0 + 9.0) / 2
    assert found["Sales/sold/by_colour/blue"] == 4.0
    assert found["Sales/sold/sum"] == 16.0


def test_a_step_is_one_of_environment_time_however_many_sub_steps_it_has() -> None:
    found = named(episode(lambda topic: topic.sold("red", 1.0), sub_steps=3))
    assert found["Sales/sold/by_colour/red"] == 3.0


def test_an_event_of_several_attributes_is_reduced_as_dicts() -> None:
    assert (
        named(episode(lambda topic: [topic.pair(1, 2), topic.pair(2, 1), topic.pair(0, 1)]))["Sales/pair"]
        == 2
    )


def test_what_never_happened_is_zero_where_it_is_counted_and_absent_elsewhere() -> None:
    found = named(episode(lambda topic: None))
    assert found == {"Sales/sold/sum": 0.0, "Sales/broken/n": 0.0}


def test_one_value_without_a_reducer_passes_and_several_are_refused() -> None:
    assert named(episode(lambda topic: topic.once(3)))["Sales/once"] == 3.0
    with pytest.raises(EnvError, match="Sales/once has 2 values in one step"):
        episode(lambda topic: [topic.once(1), topic.once(2)])


def test_an_episode_gives_numbers() -> None:
    with pytest.raises(EnvError, match="a statistic of Sales/once is a str"):
        episode(lambda topic: topic.once("three"))


def test_a_reducer_that_fails_is_named() -> None:
    with pytest.raises(EnvError, match="the step statistic of Sales/pair failed"):
        episode(lambda topic: topic.pair("a", 1))


def test_an_epoch_reduces_its_episodes_and_goes_on_counting() -> None:
    statistics = EpochStatistics([Sales])
    one, two = episode(lambda topic: topic.sold("red", 1.0)), episode(lambda topic: topic.sold("blue", 2.0))
    assert statistics.of([one, two]) == {
        "Sales/sold/mean": 1.5,
        "Sales/sold/ever": 3.0,
        "Sales/sold/episodes": 2.0,
    }
    again = EpochStatistics([Sales])
    again.load_state_dict(statistics.state_dict())
    for each in (statistics, again):
        assert each.of([two])["Sales/sold/ever"] == 5.0
        assert each.of([two])["Sales/sold/episodes"] == 4.0


def test_an_epoch_without_episodes_tells_nothing() -> None:
    assert EpochStatistics([Sales]).of([]) == {}
