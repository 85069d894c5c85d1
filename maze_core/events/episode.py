"""From the events of a step to the numbers of an episode."""

from collections.abc import Iterator, Mapping, Sequence
from typing import Any, NamedTuple

from maze_core.errors import EnvError
from maze_core.events.declared import ZERO_OF_NONE, EpisodeValues, Event, Statistic, StatKey

_Groups = tuple[tuple[str, str], ...]
_Lists = dict[_Groups, list[Any]]


class _StepStatistic(NamedTuple):
    """A statistic of a step, ready to be counted, and what the steps of the episode gave."""

    statistic: Statistic
    place: int | None
    """Of the attribute among those of the event; None takes all of them."""
    groups: tuple[tuple[str, int], ...]
    """Name and place of the attributes that are kept apart."""
    values: _Lists


class EpisodeStatistics:
    """The statistics of one episode after the other of one environment."""

    def __init__(self) -> None:
        self._counted: dict[Event, list[_StepStatistic]] = {}
        self._step: dict[Event, list[tuple[Any, ...]]] = {}
        """The events of the step under way."""

    def clear(self) -> None:
        """Begin an episode."""
        self._step.clear()
        for counted in self._counted.values():
            for each in counted:
                each.values.clear()

    def know(self, event: Event) -> None:
        """Count an event, whether it happens or not."""
        if event.statistics["step"]:
            self._counted[event] = [_prepared(event, each) for each in event.statistics["step"]]

    def add(self, event: Event, records: Sequence[tuple[Any, ...]]) -> None:
        """Take events of the step under way."""
        if event in self._counted:
            self._step.setdefault(event, []).extend(records)

    def end_step(self) -> None:
        """Reduce what the step had."""
        for event, records in self._step.items():
            for statistic, place, groups, values in self._counted[event]:
                if groups:
                    for key, some in _grouped(records, groups).items():
                        values.setdefault(key, []).append(_of_step(event, statistic, place, some))
                else:
                    values.setdefault((), []).append(_of_step(event, statistic, place, records))
        self._step.clear()

    def values(self) -> EpisodeValues:
        """What the complete steps of the episode come to."""
        return {
            StatKey(event.label, statistic.output_name, groups): number
            for event, counted in self._counted.items()
            for statistic in event.statistics["episode"]
            for groups, number in _of_episode(event, statistic, counted)
        }


def _prepared(event: Event, statistic: Statistic) -> _StepStatistic:
    named = statistic.input_name or (event.attributes[0] if len(event.attributes) == 1 else None)
    groups = tuple((name, event.attributes.index(name)) for name in event.kept_groups(statistic))
    return _StepStatistic(statistic, None if named is None else event.attributes.index(named), groups, {})


def _grouped(
    records: Sequence[tuple[Any, ...]], groups: Sequence[tuple[str, int]]
) -> dict[_Groups, list[tuple[Any, ...]]]:
    found: dict[_Groups, list[tuple[Any, ...]]] = {}
    for record in records:
        found.setdefault(tuple((name, str(record[place])) for name, place in groups), []).append(record)
    return found


def _of_step(
    event: Event, statistic: Statistic, place: int | None, records: Sequence[tuple[Any, ...]]
) -> Any:
    if statistic.reduce is len:
        return len(records)
    if place is not None:
        if len(records) == 1 and statistic.reduce in (None, sum):  # most steps
            return records[0][place]
        return statistic.of([record[place] for record in records], event.label)
    return statistic.of([dict(zip(event.attributes, record, strict=True)) for record in records], event.label)


def _of_episode(
    event: Event, statistic: Statistic, counted: Sequence[_StepStatistic]
) -> Iterator[tuple[_Groups, float]]:
    below = next(each for each in counted if each.statistic.output_name == statistic.input_name)
    kept = event.kept_groups(statistic)
    lists = projected(below.values.items(), kept)
    if not lists and not kept and statistic.reduce in ZERO_OF_NONE:
        lists = {(): []}
    for groups, values in lists.items():
        yield groups, as_number(statistic.of(values, event.label), event.label)


def projected(
    lists: "Iterator[tuple[_Groups, Sequence[Any]]] | Any", kept: Sequence[str]
) -> Mapping[_Groups, list[Any]]:
    """Lists by group, joined where only some attributes are kept apart."""
    found: _Lists = {}
    for groups, values in lists:
        found.setdefault(tuple(pair for pair in groups if pair[0] in kept), []).extend(values)
    return found


def as_number(value: Any, what: str) -> float:
    """A statistic that leaves its episode.

    Raises:
        EnvError: it is no number.
    """
    try:
        return float(value)
    except (TypeError, ValueError) as error:
        raise EnvError(
            f"a statistic of {what} is a {type(value).__name__}; it must be one number."
        ) from error
