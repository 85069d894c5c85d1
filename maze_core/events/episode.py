"""From the events of a step to the numbers of an episode."""

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from maze_core.errors import EnvError
from maze_core.events.declared import ZERO_OF_NONE, EpisodeValues, Event, Statistic, StatKey

_Groups = tuple[tuple[str, str], ...]
_Lists = dict[_Groups, list[Any]]


class _StepStatistic:
    """A statistic of a step, and what the steps of the episode gave."""

    def __init__(self, event: Event, statistic: Statistic) -> None:
        named = statistic.input_name or (event.attributes[0] if len(event.attributes) == 1 else None)
        self.output_name, self._event, self._statistic = statistic.output_name, event, statistic
        self._place = None if named is None else event.attributes.index(named)
        self._groups = [(name, event.attributes.index(name)) for name in event.kept_groups(statistic)]
        self._counts, self._passes = statistic.reduce is len, statistic.reduce in (None, sum)
        self._of_all: list[Any] = []
        self._of_group: _Lists = {}

    @property
    def lists(self) -> _Lists:
        """What the steps gave, by group."""
        return self._of_group if self._groups else {(): self._of_all} if self._of_all else {}

    def take(self, records: Sequence[tuple[Any, ...]]) -> None:
        """Reduce the events of a step."""
        if self._groups:
            for key, some in self._grouped(records).items():
                self._of_group.setdefault(key, []).append(self._reduced(some))
        elif self._counts:
            self._of_all.append(len(records))
        elif self._passes and self._place is not None and len(records) == 1:  # most steps
            self._of_all.append(records[0][self._place])
        else:
            self._of_all.append(self._reduced(records))

    def clear(self) -> None:
        """Begin an episode."""
        self._of_all.clear()
        self._of_group.clear()

    def _grouped(self, records: Sequence[tuple[Any, ...]]) -> dict[_Groups, list[tuple[Any, ...]]]:
        found: dict[_Groups, list[tuple[Any, ...]]] = {}
        for record in records:
            key = tuple((name, str(record[place])) for name, place in self._groups)
            found.setdefault(key, []).append(record)
        return found

    def _reduced(self, records: Sequence[tuple[Any, ...]]) -> Any:
        event, place = self._event, self._place
        if place is not None:
            return self._statistic.of([record[place] for record in records], event.label)
        return self._statistic.of(
            [dict(zip(event.attributes, record, strict=True)) for record in records], event.label
        )


class EpisodeStatistics:
    """The statistics of one episode after the other of one environment."""

    def __init__(self) -> None:
        self._counted: dict[Event, list[_StepStatistic]] = {}
        self._waiting: dict[Event, list[tuple[Any, ...]]] = {}
        """The events of earlier sub-steps of the step under way."""

    def know(self, event: Event) -> None:
        """Count an event, whether it happens or not."""
        self._counted[event] = [_StepStatistic(event, each) for each in event.statistics["step"]]

    def clear(self) -> None:
        """Begin an episode."""
        self._waiting.clear()
        for counted in self._counted.values():
            for each in counted:
                each.clear()

    def add(self, happened: Mapping[Event, Sequence[tuple[Any, ...]]], *, is_step_done: bool) -> None:
        """Take the events of a sub-step, and reduce those of the step where it is the last one."""
        if self._waiting or not is_step_done:
            for event, records in happened.items():
                self._waiting.setdefault(event, []).extend(records)
            happened = self._waiting
        if is_step_done:
            for event, records in happened.items():
                for each in self._counted[event]:
                    each.take(records)
            self._waiting.clear()

    def values(self) -> EpisodeValues:
        """What the complete steps of the episode come to."""
        return {
            StatKey(event.label, statistic.output_name, groups): number
            for event, counted in self._counted.items()
            for statistic in event.statistics["episode"]
            for groups, number in _of_episode(event, statistic, counted)
        }


def _of_episode(
    event: Event, statistic: Statistic, counted: Sequence[_StepStatistic]
) -> Iterator[tuple[_Groups, float]]:
    below = next(each for each in counted if each.output_name == statistic.input_name)
    kept = event.kept_groups(statistic)
    lists = projected(below.lists.items(), kept)
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
