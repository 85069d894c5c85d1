"""Events as methods of a class, and what is to be counted of them, declared by decorators.

    class YardEvents:
        @define_epoch_stats(np.mean, output_name="mean")
        @define_episode_stats(sum)
        @define_step_stats(len)
        def truck_sent(self, load: float) -> None: ...

A statistic reduces a list to one number: of a *step* the events that happened in it, of an *episode* what its steps
gave, of an *epoch* what its episodes gave. ``input_name`` chooses what is reduced: of a step an attribute of the event
(the only one where it has one; the events themselves as dicts where it has several), of an episode and an epoch the
``output_name`` of a statistic one level below. Nothing is registered anywhere: a declaration is part of its method.
"""

import inspect
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Literal, NamedTuple, TypeVar

from maze_core.errors import EnvError, reason_of

Reduce = Callable[[Sequence[Any]], Any]
Level = Literal["step", "episode", "epoch"]
LEVELS: tuple[Level, ...] = ("step", "episode", "epoch")
_BELOW: Mapping[Level, Level] = {"episode": "step", "epoch": "episode"}
_DECLARED = "maze_event"
_F = TypeVar("_F", bound=Callable[..., Any])

ZERO_OF_NONE = (sum, len)
"""Reducers that are 0 where nothing happened; no other one says anything of that."""
_CUMULATIVE = (sum, len, min, max)
"""Reducers that can go on from a former result."""


@dataclass(frozen=True)
class Statistic:
    """One number that is made of many, at one level."""

    level: Level
    reduce: Reduce | None
    """None takes the one value there is."""
    input_name: str | None
    output_name: str | None
    group_by: tuple[str, ...] | None
    """Attributes whose values are kept apart; None keeps apart what :func:`define_stats_grouping` names."""
    cumulative: bool = False
    """Over all epochs so far."""

    def of(self, values: Sequence[Any], what: str) -> Any:
        """The number.

        Raises:
            EnvError: the reducer failed, or there is none and several values.
        """
        if self.reduce is None:
            if len(values) != 1:
                raise EnvError(
                    f"{what} has {len(values)} values in one {self.level}; declare what becomes of several, "
                    f"as in define_{self.level}_stats(sum)."
                )
            return values[0]
        try:
            return self.reduce(values)
        except Exception as error:
            raise EnvError(f"the {self.level} statistic of {what} failed: {reason_of(error)}") from error


@dataclass
class _Declaration:
    statistics: list[Statistic] = field(default_factory=list)
    groups: tuple[str, ...] = ()


def define_step_stats(
    reduce_function: Reduce | None,
    input_name: str | None = None,
    output_name: str | None = None,
    group_by: str | Sequence[str] | None = None,
) -> Callable[[_F], _F]:
    """Declare a statistic over the events of one step of environment time.

    Args:
        reduce_function: a list of values → one; ``len`` counts, None takes the one value there is.
        input_name: attribute of the event; None takes the only one, or the events as dicts where they have several.
        output_name: how an episode's statistic names this one; None where there is one.
        group_by: attributes whose values are kept apart; None keeps those of :func:`define_stats_grouping` apart.
    """
    return _declares("step", reduce_function, input_name, output_name, group_by)


def define_episode_stats(
    reduce_function: Reduce | None,
    input_name: str | None = None,
    output_name: str | None = None,
    group_by: str | Sequence[str] | None = None,
) -> Callable[[_F], _F]:
    """Declare a statistic over what the steps of one episode gave; see :func:`define_step_stats`."""
    return _declares("episode", reduce_function, input_name, output_name, group_by)


def define_epoch_stats(
    reduce_function: Reduce | None,
    input_name: str | None = None,
    output_name: str | None = None,
    group_by: str | Sequence[str] | None = None,
    cumulative: bool = False,
) -> Callable[[_F], _F]:
    """Declare a statistic over what the episodes of one epoch gave: a metric of the run.

    Args:
        reduce_function: see :func:`define_step_stats`, as for all that is not said here.
        input_name: of an episode's statistic.
        output_name: last part of the metric's name.
        group_by: of the attributes.
        cumulative: over all epochs so far, for ``sum``, ``len``, ``min`` and ``max``.
    """
    return _declares("epoch", reduce_function, input_name, output_name, group_by, cumulative)


def define_stats_grouping(*attributes: str) -> Callable[[_F], _F]:
    """Make the statistics of an event apart for each value of these attributes; the values end the metric's name."""

    def decorate(method: _F) -> _F:
        _declaration(method).groups = attributes
        return method

    return decorate


def _declares(
    level: Level,
    reduce_function: Reduce | None,
    input_name: str | None,
    output_name: str | None,
    group_by: str | Sequence[str] | None,
    cumulative: bool = False,
) -> Callable[[_F], _F]:
    if reduce_function is not None and not callable(reduce_function):
        raise TypeError(f"a statistic takes a function of a list or None, not {reduce_function!r}")
    if cumulative and reduce_function not in _CUMULATIVE:
        raise TypeError("a cumulative statistic takes sum, len, min or max, which can go on from a result")
    groups = (group_by,) if isinstance(group_by, str) else None if group_by is None else tuple(group_by)

    def decorate(method: _F) -> _F:
        made = Statistic(level, reduce_function, input_name, output_name, groups, cumulative)
        _declaration(method).statistics.insert(0, made)  # decorators apply from the lowest up
        return method

    return decorate


def _declaration(method: Callable[..., Any]) -> _Declaration:
    declared: _Declaration = method.__dict__.setdefault(_DECLARED, _Declaration())
    return declared


class EventRecord(NamedTuple):
    """One event that happened."""

    interface: type
    name: str
    attributes: Mapping[str, Any]
    env_time: int
    """Flat step of the episode in which it happened."""


class Event:
    """One event of an interface: its attributes and its statistics, checked."""

    def __init__(self, interface: type, name: str, method: Callable[..., Any]) -> None:
        declared: _Declaration = vars(method).get(_DECLARED) or _Declaration()
        self.interface, self.name, self.method = interface, name, method
        self.label = f"{interface.__name__}/{name}"
        self._signature = inspect.signature(method)
        self.attributes = tuple(self._signature.parameters)[1:]
        self.groups = declared.groups
        self.statistics = {level: _at(declared, level) for level in LEVELS}
        self._check()

    def bind(self, args: tuple[Any, ...], named: Mapping[str, Any]) -> tuple[Any, ...]:
        """The values of all attributes, in order, of a call.

        Raises:
            EnvError: they are not those of this event.
        """
        try:
            bound = self._signature.bind(None, *args, **named)
        except TypeError as error:
            raise EnvError(f"the event {self.label} has other attributes: {error}") from error
        bound.apply_defaults()
        return tuple(bound.arguments.values())[1:]

    def record(self, arguments: tuple[Any, ...], env_time: int) -> EventRecord:
        """What happened, with its attributes by name."""
        named = dict(zip(self.attributes, arguments, strict=True))
        return EventRecord(self.interface, self.name, named, env_time)

    def kept_groups(self, statistic: Statistic) -> tuple[str, ...]:
        """The attributes whose values a statistic keeps apart."""
        return self.groups if statistic.group_by is None else statistic.group_by

    def _check(self) -> None:
        if unknown := [name for name in self.groups if name not in self.attributes]:
            raise EnvError(
                f"{self.label} groups by {unknown[0]!r}, but has {', '.join(self.attributes) or 'none'}."
            )
        for level, statistics in self.statistics.items():
            below = self.attributes if level == "step" else self._outputs(_BELOW[level])
            for statistic in statistics:
                if extra := set(self.kept_groups(statistic)) - set(self.groups):
                    raise EnvError(
                        f"{self.label} is not grouped by {sorted(extra)}; name them in define_stats_grouping."
                    )
                wanted = statistic.input_name
                if wanted not in below and not (level == "step" and wanted is None):
                    raise EnvError(
                        f"the {level} statistic of {self.label} takes {wanted!r}, but there is "
                        f"{', '.join(map(repr, below)) or 'nothing'} below it."
                    )

    def _outputs(self, level: Level) -> tuple[str | None, ...]:
        return tuple(statistic.output_name for statistic in self.statistics[level])


def _at(declared: _Declaration, level: str) -> tuple[Statistic, ...]:
    return tuple(statistic for statistic in declared.statistics if statistic.level == level)


class StatKey(NamedTuple):
    """Names one number of an episode; plain texts, so that it goes from process to process."""

    label: str
    """``Interface/event``."""
    output: str | None
    groups: tuple[tuple[str, str], ...] = ()
    """Attribute and value of each group."""

    @property
    def name(self) -> str:
        """As a metric: ``Interface/event/output/group``."""
        return "/".join(
            [self.label, *([self.output] if self.output else []), *(value for _, value in self.groups)]
        )


EpisodeValues = dict[StatKey, float]
"""What an episode's statistics are."""


def events_of(interface: type) -> dict[str, Event]:
    """Name → event, of the public methods of an interface and its bases, checked.

    Raises:
        EnvError: it has none, or declares what cannot be.
    """
    found = {
        name: Event(interface, name, method)
        for base in reversed(interface.__mro__)
        for name, method in vars(base).items()
        if inspect.isfunction(method) and not name.startswith("_")
    }
    if not found:
        raise EnvError(f"{interface.__name__} has no methods, so it declares no events.")
    return found
