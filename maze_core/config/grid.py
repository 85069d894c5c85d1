"""Several runs in one specification: lists and comma strings become jobs, the product of all of them.

    algorithm=["a2c", "ppo"], overrides={"algorithm.lr": "0.001,0.01"}   →   4 jobs, the last key varies fastest

A key that takes a list (``hidden_units``, ``networks``, ``wrappers``) is varied by a list of lists; a plain list
is its one value. Nothing here builds or imports more than :func:`compose_run` does.
"""

import functools
import itertools
import json
import math
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np
import yaml

from maze_core.config.components import qualified_name
from maze_core.config.compose import compose_run
from maze_core.config.instantiate import Describer
from maze_core.config.modules import GROUPS
from maze_core.config.nodes import TARGET, is_node, part_at, shown
from maze_core.config.overrides import canonical_key, refuse_argument
from maze_core.config.schema import BUDGETS, Mode, RunConfig
from maze_core.config.targets import field_types, is_description, list_depth, resolve_target
from maze_core.errors import InvalidSpecificationError, Problem, ProblemList
from maze_core.types import Tree

MOST_JOBS = 1000
"""Jobs of one multirun; more are a mistake more often than a wish."""
SEED = "seed"
"""Jobs that differ in it alone try the same parameters."""
_VARIED_ARGUMENTS = (*(group for group in GROUPS if group != "launcher"), SEED, *BUDGETS)


@dataclass(frozen=True)
class Choices:
    """Several values of one key, marked as such; needed only where a list could also be one value."""

    values: tuple[Any, ...]


@dataclass(frozen=True, kw_only=True)
class JobSpec:
    """One job of a multirun."""

    number: int
    """Its place in the order, from 0."""
    choices: Tree
    """Key → what this job has there, for every key that was varied; plain values."""
    arguments: dict[str, Any]
    """Of :func:`compose_run`."""

    def __str__(self) -> str:
        """``algorithm=ppo, algorithm.lr=0.01``."""
        return ", ".join(f"{key}={shown_choice(value)}" for key, value in self.choices.items()) or "no choice"


@dataclass(frozen=True, kw_only=True)
class Grid:
    """What varies and what does not."""

    mode: Mode
    fixed: dict[str, Any]
    """Arguments of :func:`compose_run` that all jobs share; ``overrides`` among them."""
    dimensions: dict[str, tuple[Any, ...]] = field(default_factory=dict)
    """Argument or override key → its values, each once; the last one varies fastest.

    Raises:
        InvalidSpecificationError: a value is there twice: two jobs would be the same.
    """

    def __post_init__(self) -> None:
        found = ProblemList()
        for key, values in self.dimensions.items():
            if (twice := repeated(values)) is not None:
                message = (
                    f"has {shown(twice)} twice, which would run the same job twice; give every value once."
                )
                found.add(key, message, code="duplicate")
        found.raise_if_any()

    def jobs(self) -> list[JobSpec]:
        """The product of all dimensions; one job where nothing varies.

        Raises:
            InvalidSpecificationError: there are more than :data:`MOST_JOBS`.
        """
        count = math.prod(len(values) for values in self.dimensions.values())
        if count > MOST_JOBS:
            sizes = " × ".join(f"{len(values)} ({key})" for key, values in self.dimensions.items())
            raise InvalidSpecificationError(
                [_problem("multirun", f"{sizes} are {count} jobs; at most {MOST_JOBS} are run.", "too_large")]
            )
        products = itertools.product(*self.dimensions.values())
        return [self.job(number, values) for number, values in enumerate(products)]

    def job(self, number: int, values: Sequence[Any], keys: Sequence[str] | None = None) -> JobSpec:
        """The job that has these values at the dimensions' keys, or at ``keys``."""
        names = tuple(self.dimensions) if keys is None else tuple(keys)
        chosen = dict(zip(names, values, strict=True))
        arguments = {
            **self.fixed,
            **{key: value for key, value in chosen.items() if key in _VARIED_ARGUMENTS},
        }
        overrides = {key: value for key, value in chosen.items() if key not in _VARIED_ARGUMENTS}
        arguments["overrides"] = {**self.fixed.get("overrides", {}), **overrides}
        varied = {
            key: plain(value)
            for key, value in chosen.items()
            if keys is not None or len(self.dimensions[key]) > 1
        }
        return JobSpec(number=number, choices=varied, arguments=arguments)

    def trial(self, number: int, values: Tree) -> list[JobSpec]:
        """The jobs that try these values in a search: one, or one for each seed."""
        seeds = self.dimensions.get(SEED)
        if seeds is None:
            return [self.job(number, tuple(values.values()), tuple(values))]
        return [
            self.job(number * len(seeds) + index, (*values.values(), seed), (*values, SEED))
            for index, seed in enumerate(seeds)
        ]

    def without_single_values(self) -> "Grid":
        """The same with what has one value among what all jobs share."""
        single = {key: values[0] for key, values in self.dimensions.items() if len(values) == 1}
        arguments = {key: value for key, value in single.items() if key in _VARIED_ARGUMENTS}
        overrides = {key: value for key, value in single.items() if key not in _VARIED_ARGUMENTS}
        fixed = {
            **self.fixed,
            **arguments,
            "overrides": {**self.fixed.get("overrides", {}), **overrides},
        }
        kept = {key: values for key, values in self.dimensions.items() if key not in single}
        return replace(self, fixed=fixed, dimensions=kept)

    def with_values(self, values: Mapping[str, Sequence[Any]]) -> "Grid":
        """The grid with an experiment's lists in front; a key that the caller gave keeps the caller's values."""
        given = {*self.dimensions, *self.fixed, *self.fixed.get("overrides", {})}
        added = {key: tuple(items) for key, items in values.items() if key not in given}
        return replace(self, dimensions={**added, **self.dimensions})


def plan_grid(mode: Mode, arguments: Mapping[str, Any], order: Sequence[str] = ()) -> Grid:
    """Sort the arguments of :func:`compose_run` into what varies and what does not; none is changed.

    Args:
        mode: what every job does.
        arguments: a list, tuple, array, comma string or :class:`Choices` is several values.
        order: keys in the order they were given, where that is not the order of ``arguments``.

    Raises:
        InvalidSpecificationError: a list is empty, or mixes values and lists.
    """
    found = ProblemList()
    given = {key: value for key, value in arguments.items() if key != "overrides" and value is not None}
    varied = {
        key: _argument_values(key, value, found) for key, value in given.items() if key in _VARIED_ARGUMENTS
    }
    dimensions = {key: values for key, values in varied.items() if values is not None}
    fixed = {key: value for key, value in given.items() if key not in dimensions}
    overrides = arguments.get("overrides") or {}
    if not isinstance(overrides, Mapping):
        raise InvalidSpecificationError(
            [_problem("overrides", f"takes a dict, not {shown(overrides)}.", "wrong_type")]
        )
    first = {**fixed, **{key: values[0] for key, values in dimensions.items() if values}}
    tree = functools.cache(lambda: _first_tree(mode, first))
    kept = {}
    for key, value in overrides.items():
        if refuse_argument(str(key), found):
            continue
        if key in _VARIED_ARGUMENTS:  # it has no meaning here, as every job will say
            kept[key] = value
            continue
        is_open = _items(value) is not None and not isinstance(value, Choices)
        depth = _list_depth(str(key), mode, tree()) if is_open else 0
        if (values := _several(str(key), value, found, depth=depth)) is None:
            kept[key] = value
        else:
            dimensions[str(key)] = values
    found.raise_if_any()
    if kept:
        fixed["overrides"] = kept
    ranked = sorted(dimensions, key=lambda key: order.index(key) if key in order else -1)
    return Grid(mode=mode, fixed=fixed, dimensions={key: dimensions[key] for key in ranked})


def compose_jobs(
    jobs: Sequence[JobSpec], mode: Mode, compose: Callable[..., RunConfig] = compose_run
) -> list[RunConfig]:
    """The configurations of all jobs; ``compose`` is called as :func:`compose_run` is.

    Raises:
        InvalidSpecificationError: with every problem of every job, each named once, with the jobs that have it.
    """
    configs: list[RunConfig] = []
    found: dict[Problem, list[JobSpec]] = {}
    for job in jobs:
        try:
            configs.append(compose(mode, **job.arguments, within_multirun=True))
        except InvalidSpecificationError as error:
            for problem in error.problems:
                found.setdefault(problem, []).append(job)
    if found:
        raise InvalidSpecificationError(
            [_of_jobs(problem, having, len(jobs)) for problem, having in found.items()]
        )
    return configs


def first_value(value: Any) -> Any:
    """The value that the first job has."""
    return values_of(value)[0]


def values_of(value: Any) -> list[Any]:
    """The values that jobs have where a key that takes no list is given this."""
    return list(_several("", value, ProblemList(), depth=0) or [value])


def repeated(values: Sequence[Any]) -> Any:
    """The first of the values that was there before; None where there is none. 1, 1.0 and True are three values."""
    known = set()
    for value in values:
        is_data = isinstance(value, (Mapping, list, tuple, np.generic, np.ndarray, bool, int, float, str))
        name = repr(plain(value)) if is_data else id(value)
        if name in known:
            return value
        known.add(name)
    return None


def plain(value: object) -> Any:
    """A choice as a plain value; an object by the name of its class."""
    if value is None or isinstance(value, (bool, int, float, str)):
        return value
    if isinstance(value, (Mapping, list, tuple, np.generic, np.ndarray)):
        return Describer().tree(value, "")
    return qualified_name(value)


def shown_choice(value: object) -> str:
    """A choice, short enough for a line."""
    text = value if isinstance(value, str) else json.dumps(value, ensure_ascii=False)
    return text if len(text) <= 60 else text[:59] + "…"


def _argument_values(key: str, value: object, found: ProblemList) -> tuple[Any, ...] | None:
    """The values of an argument that varies; None where it does not."""
    if key == "wrappers" and (items := _items(value)) is not None:
        several = [item is None or isinstance(item, str) or _items(item) is not None for item in items]
        if any(several) and not all(several):
            message = "mixes module names or lists, which are several stacks, with wrappers, which are one."
            found.add(key, message, code="wrong_type")
        return tuple(items) if several and all(several) else None
    return _several(key, value, found, depth=0)


def _several(key: str, value: object, found: ProblemList, *, depth: int) -> tuple[Any, ...] | None:
    if isinstance(value, str) and "," in value:
        return tuple(split_values(value))
    items = _items(value)
    if items is None or not (isinstance(value, Choices) or _depth(value) > depth):
        return None
    if not items:
        found.add(key, "An empty list of values leaves no job to run.", code="wrong_type")
    if depth and None in map(_items, items):
        message = "takes a list, so several values are a list of lists; one of these is no list."
        found.add(key, message, code="wrong_type")
    return tuple(items)


def _list_depth(key: str, mode: Mode, tree: Tree) -> int:
    """How many levels of lists an override key takes in a configuration; 0 for a plain value."""
    path = canonical_key(key, tree, mode, ProblemList()) or ""
    if isinstance(value := part_at(tree, path), list):
        return _depth(value)
    parent, _, name = path.rpartition(".")
    node = part_at(tree, parent)
    target = resolve_target(str(node[TARGET])) if is_node(node) else None
    return list_depth(field_types(target).get(name)) if is_description(target) else 0


def _first_tree(mode: Mode, arguments: Mapping[str, Any]) -> Tree:
    """The configuration that the first job has without overrides."""
    try:
        return compose_run(mode, **{**arguments, "seed": 0}, within_multirun=True).tree
    except InvalidSpecificationError:  # will be said when the jobs are composed
        return {}


def _of_jobs(problem: Problem, jobs: Sequence[JobSpec], count: int) -> Problem:
    if len(jobs) == count:
        return problem
    which = f"job {jobs[0].number} ({jobs[0]})" + (f" and {len(jobs) - 1} more" if len(jobs) > 1 else "")
    return replace(problem, message=f"{problem.message} In {which}.")


def _problem(path: str, message: str, code: str) -> Problem:
    return Problem(path=path, message=message, code=code)


def _items(value: object) -> list[Any] | None:
    """What a list, tuple, array or :class:`Choices` has; None for anything else."""
    if isinstance(value, Choices):
        return list(value.values)
    if isinstance(value, np.ndarray) and value.ndim > 0:
        return list(value.tolist())
    return list(value) if isinstance(value, (list, tuple)) else None


def _depth(value: object) -> int:
    """Levels of lists."""
    items = _items(value)
    return 0 if items is None else 1 + max(map(_depth, items), default=0)


_WORDS: Mapping[str, Any] = {"null": None, "true": True, "false": False}


def split_values(text: str) -> list[Any]:
    """The values of a comma string; a quoted text keeps its commas."""
    return [_literal(part) for part in _parts(text)]


def _parts(text: str) -> Iterator[str]:
    """Split at commas outside of brackets and quotes."""
    level, quote, start = 0, "", 0
    for index, char in enumerate(text):
        if quote:
            quote = "" if char == quote else quote
        elif char in "'\"":
            quote = char
        elif char in "[{(":
            level += 1
        elif char in "]})":
            level -= 1
        elif char == "," and level == 0:
            yield text[start:index]
            start = index + 1
    yield text[start:]


def _literal(text: str) -> Any:
    """One value of a comma string: number, word, quoted text, list or dict; anything else is a text."""
    text = text.strip()
    for kind in (int, float):
        try:
            return kind(text)
        except ValueError:
            continue
    if text in _WORDS:
        return _WORDS[text]
    if text[:1] in ("[", "{", "'", '"'):
        try:
            return yaml.safe_load(text)
        except yaml.YAMLError:
            return text
    return text
