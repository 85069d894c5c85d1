"""From the numbers of episodes to those of an epoch, which are metrics of a run."""

from collections.abc import Sequence

import numpy as np

from maze_core.events.declared import EpisodeValues, Event, Statistic, StatKey, events_of
from maze_core.events.episode import as_number, projected
from maze_core.types import Array, NamedArrays


class EpochStatistics:
    """The statistics of one epoch after the other; remembers what cumulative ones came to."""

    def __init__(self, interfaces: Sequence[type]) -> None:
        """Make the statistics that these event interfaces declare."""
        events = [event for interface in interfaces for event in events_of(interface).values()]
        self._declared = [(event, each) for event in events for each in event.statistics["epoch"]]
        self._so_far: dict[str, float] = {}

    def of(self, episodes: Sequence[EpisodeValues]) -> dict[str, float]:
        """Metrics of these episodes, ``Interface/event/output/group`` each; nothing of what none of them has."""
        by_input: dict[tuple[str, str | None], list[tuple[tuple[tuple[str, str], ...], list[float]]]] = {}
        for values in episodes:
            for key, value in values.items():
                by_input.setdefault((key.label, key.output), []).append((key.groups, [value]))
        return {
            StatKey(event.label, statistic.output_name, groups).name: value
            for event, statistic in self._declared
            for groups, value in self._reduced(
                event, statistic, by_input.get((event.label, statistic.input_name), [])
            )
        }

    def state_dict(self) -> dict[str, Array]:
        """What cumulative statistics came to, by name."""
        return {name: np.array(value) for name, value in self._so_far.items()}

    def load_state_dict(self, arrays: NamedArrays) -> None:
        """Go on from there."""
        self._so_far = {name: float(array) for name, array in arrays.items()}

    def _reduced(
        self,
        event: Event,
        statistic: Statistic,
        found: list[tuple[tuple[tuple[str, str], ...], list[float]]],
    ) -> list[tuple[tuple[tuple[str, str], ...], float]]:
        reduced = []
        for groups, values in projected(found, event.kept_groups(statistic)).items():
            value = as_number(statistic.of(values, event.label), event.label)
            if statistic.cumulative:
                value = self._added(
                    StatKey(event.label, statistic.output_name, groups).name, statistic, value
                )
            reduced.append((groups, value))
        return reduced

    def _added(self, name: str, statistic: Statistic, value: float) -> float:
        if name in self._so_far:
            join = sum if statistic.reduce is len else statistic.reduce
            assert join is not None
            value = float(join([self._so_far[name], value]))
        self._so_far[name] = value
        return value
