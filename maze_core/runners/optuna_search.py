"""A search with Optuna: it proposes values, we run the trials. The only module that imports Optuna (extra ``optuna``).

The study is in memory, and made anew from the trials that a directory holds. Every trial is proposed by a sampler with
a seed of its own, so that what is proposed follows from the trials before it: a search that was stopped goes on as
one that was not.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from maze_core.config.multirun import OptunaSearchConfig, ParameterConfig
from maze_core.errors import InvalidSpecificationError
from maze_core.seeding import Stream, derived_seed
from maze_core.types import Tree

INSTALL = "pip install 'maze-service[optuna]'"


@dataclass(frozen=True, kw_only=True)
class Trial:
    """A trial that was proposed before."""

    values: Tree
    """Key → value."""
    is_told: bool
    """Whether it has ended; one that was stopped is still to be run."""
    value: float | None
    """How good its values were; None where it failed."""


class OptunaSearch:
    """A study: ask for values, tell how good they were. The same answers give the same questions."""

    def __init__(self, config: OptunaSearchConfig, seed: int, trials: Sequence[Trial] = ()) -> None:
        """Begin a study, or go on with one.

        Args:
            config: where to search.
            seed: of the study, where ``config`` has none.
            trials: those that there are already, in order.

        Raises:
            InvalidSpecificationError: Optuna is not installed.
        """
        try:
            import optuna
        except ImportError as error:
            message = f"This experiment searches with Optuna, which is not installed: {INSTALL}"
            raise InvalidSpecificationError(message, path="experiment", code="missing_extra") from error
        self._optuna, self._config = optuna, config
        self._seed = seed if config.seed is None else config.seed
        self._space = {key: _distribution(optuna, one) for key, one in config.space.items()}
        verbosity = optuna.logging.get_verbosity()
        optuna.logging.set_verbosity(
            optuna.logging.WARNING
        )  # create_study says on standard error that it did
        try:
            self._study = optuna.create_study(direction="maximize")
        finally:
            optuna.logging.set_verbosity(verbosity)
        self._told: set[int] = set()
        for number, trial in enumerate(trials):
            params = {key: _param(trial.values[key], one) for key, one in config.space.items()}
            running = optuna.trial.TrialState.RUNNING
            self._study.add_trial(
                optuna.trial.create_trial(params=params, distributions=self._space, state=running)
            )
            if trial.is_told:
                self.tell(number, trial.value)

    def ask(self, number: int) -> Tree:
        """Values to try next, by key; ``number`` is that of the trial, one more than that of the last."""
        seed = derived_seed(self._seed, Stream.SEARCH, number)
        n_startup_trials = self._config.n_startup_trials
        self._study.sampler = self._optuna.samplers.TPESampler(seed=seed, n_startup_trials=n_startup_trials)
        params = self._study.ask(self._space).params
        return {key: _value(params[key], one) for key, one in self._config.space.items()}

    def is_told(self, number: int) -> bool:
        """Whether it is known how good the values of this trial were."""
        return number in self._told

    def tell(self, number: int, value: float | None) -> None:
        """How good the values of a trial were; None when it failed."""
        self._told.add(number)
        if value is None or not math.isfinite(value):
            self._study.tell(number, state=self._optuna.trial.TrialState.FAIL)
        else:
            self._study.tell(number, value)


def _distribution(optuna: Any, parameter: ParameterConfig) -> Any:
    if parameter.choices is not None:  # by number, since a choice may be a list, and 1 equals True
        return optuna.distributions.CategoricalDistribution(range(len(parameter.choices)))
    assert parameter.low is not None
    assert parameter.high is not None
    if parameter.type == "float":
        return optuna.distributions.FloatDistribution(
            parameter.low, parameter.high, step=parameter.step, log=parameter.log
        )
    step = 1 if parameter.step is None else int(parameter.step)
    return optuna.distributions.IntDistribution(
        int(parameter.low), int(parameter.high), step=step, log=parameter.log
    )


def _value(param: Any, parameter: ParameterConfig) -> Any:
    return param if parameter.choices is None else parameter.choices[param]


def _param(value: Any, parameter: ParameterConfig) -> Any:
    """What :func:`_value` makes ``value`` of; 1, 1.0 and True are three choices."""
    return value if parameter.choices is None else list(map(repr, parameter.choices)).index(repr(value))
