from typing import Any

import numpy as np
import pytest

from maze_core.errors import EnvError
from maze_core.events.declared import (
    StatKey,
    define_episode_stats,
    define_epoch_stats,
    define_stats_grouping,
    define_step_stats,
    events_of,
)


def test_what_an_episode_takes_must_be_what_a_step_gives() -> None:
    class Wrong:
        @define_episode_stats(sum, input_name="count")
        @define_step_stats(len, output_name="number")
        def seen(self) -> None: ...

    with pytest.raises(
        EnvError, match=r"episode statistic of Wrong/seen takes 'count', but there is 'number'"
    ):
        events_of(Wrong)


def test_a_step_takes_an_attribute_that_the_event_has() -> None:
    class Wrong:
        @define_step_stats(sum, input_name="size")
        def seen(self, weight: float) -> None: ...

    with pytest.raises(EnvError, match=r"takes 'size', but there is 'weight'"):
        events_of(Wrong)


def test_groups_are_attributes_and_named_once_for_all() -> None:
    class NoAttribute:
        @define_stats_grouping("colour")
        def seen(self, size: int) -> None: ...

    class NotNamed:
        @define_step_stats(len, group_by="colour")
        def seen(self, colour: str) -> None: ...

    with pytest.raises(EnvError, match="groups by 'colour', but has size"):
        events_of(NoAttribute)
    with pytest.raises(EnvError, match=r"not grouped by \['colour'\]"):
        events_of(NotNamed)


def test_an_interface_without_methods_declares_nothing() -> None:
    class Empty:
        pass

    with pytest.raises(EnvError, match="Empty has no methods"):
        events_of(Empty)


def test_methods_of_bases_are_events_too() -> None:
    class Base:
        def one(self) -> None: ...

    class More(Base):
        def two(self) -> None: ...

    assert [event.label for event in events_of(More).values()] == ["More/one", "More/two"]


@pytest.mark.parametrize("reduce", [np.mean, None])
def test_what_cannot_go_on_from_a_result_is_not_cumulative(reduce: Any) -> None:
    with pytest.raises(TypeError, match="sum, len, min or max"):
        define_epoch_stats(reduce, cumulative=True)


def test_a_statistic_takes_a_function() -> None:
    with pytest.raises(TypeError, match="function of a list or None"):
        define_step_stats("mean")  # type: ignore[arg-type]


def test_the_name_of_a_number_ends_with_its_groups() -> None:
    assert StatKey("Shop/sold", "mean", (("colour", "red"), ("size", "3"))).name == "Shop/sold/mean/red/3"
    assert StatKey("Shop/sold", None).name == "Shop/sold"
