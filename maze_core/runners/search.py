"""A search: it proposes values, whoever runs the trials tells how good they were.

Every trial is proposed with a seed of its own, so that what is proposed follows from the trials before it: a search
that was stopped goes on as one that was not.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

from maze_core.config.multirun import OptunaSearchConfig, ParameterConfig
from maze_core.seeding import Stream, generator
from maze_core.types import Tree


@dataclass(frozen=True, kw_only=True)
class Trial:
    """A trial that was proposed."""

    values: Tree
    """Key → value."""
    is_told: bool = False
    """Whether it has ended; one that was stopped is still to be run."""
    value: float | None = None
    """How good its values were; None where it failed."""
    pruned_at: int | None = None
    """The epoch at which it was given up, with the value that it had there."""


class Search:
    """Ask for values, tell how good they were. The same answers give the same questions."""

    def __init__(self, config: OptunaSearchConfig, seed: int, trials: Sequence[Trial] = ()) -> None:
        self._config = config
        self._seed = seed if config.seed is None else config.seed
        self._trials = list(trials)

    def ask(self, number: int) -> Tree:
        """Values to try next, by key; ``number`` is that of the trial, one more than that of the last."""
        values = self._proposed(number)
        self._trials.append(Trial(values=values))
        return values

    def is_told(self, number: int) -> bool:
        """Whether it is known how good the values of this trial were."""
        return self._trials[number].is_told

    def tell(self, number: int, value: float | None, pruned_at: int | None = None) -> None:
        """How good the values of a trial were, None when it failed; or that it was given up at an epoch with this."""
        known = self._trials[number]
        self._trials[number] = replace(known, is_told=True, value=value, pruned_at=pruned_at)

    def _proposed(self, number: int) -> Tree:
        draws = generator(self._seed, Stream.SEARCH, number)
        return {key: _drawn(parameter, draws) for key, parameter in self._config.space.items()}


def open_search(config: OptunaSearchConfig, seed: int, trials: Sequence[Trial] = ()) -> Search:
    """Begin a search, or go on with one.

    Args:
        config: where to search, and how.
        seed: of the search, where ``config`` has none.
        trials: those that there are already, in order.

    Raises:
        InvalidSpecificationError: Optuna is needed and not installed.
    """
    if config.sampler == "random":
        return Search(config, seed, trials)
    from maze_core.runners.optuna_search import OptunaSearch

    return OptunaSearch(config, seed, trials)


def _drawn(parameter: ParameterConfig, draws: Any) -> Any:
    """A value of the parameter's space, each with the same chance."""
    if parameter.choices is not None:
        return parameter.choices[int(draws.integers(len(parameter.choices)))]
    low, high, step = float(parameter.low or 0.0), float(parameter.high or 0.0), parameter.step
    if parameter.type == "int" and not parameter.log:
        step = step or 1.0
    if step is not None:
        n_steps = math.floor((high - low) / step + 1e-9)
        value = low + step * int(draws.integers(n_steps + 1))
    elif parameter.log:
        value = math.exp(draws.uniform(math.log(low), math.log(high)))
    else:
        value = float(draws.uniform(low, high))
    value = min(max(value, low), high)
    return round(value) if parameter.type == "int" else value
