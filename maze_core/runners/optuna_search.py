"""A search with Optuna (extra ``optuna``), which no other module imports.

The study is in memory, and made anew from the trials that are known.
"""

import math
from collections.abc import Sequence
from typing import Any

from maze_core.config.multirun import OptunaSearchConfig, ParameterConfig
from maze_core.errors import InvalidSpecificationError
from maze_core.runners.search import Search, Trial
from maze_core.seeding import Stream, derived_seed
from maze_core.types import Tree

INSTALL = "pip install 'maze-service[optuna]'"


class OptunaSearch(Search):
    """A study."""

    def __init__(self, config: OptunaSearchConfig, seed: int, trials: Sequence[Trial] = ()) -> None:
        """Begin a study, or go on with one; see :func:`~maze_core.runners.search.open_search`."""
        try:
            import optuna
        except ImportError as error:
            message = f"This experiment searches with Optuna, which is not installed: {INSTALL}"
            raise InvalidSpecificationError(message, path="experiment", code="missing_extra") from error
        super().__init__(config, seed)
        self._optuna = optuna
        self._space = {key: _distribution(optuna, one) for key, one in config.space.items()}
        verbosity = optuna.logging.get_verbosity()
        optuna.logging.set_verbosity(
            optuna.logging.WARNING
        )  # create_study says on standard error that it did
        try:
            self._study = optuna.create_study(direction="maximize")
        finally:
            optuna.logging.set_verbosity(verbosity)
        for number, trial in enumerate(trials):
            params = {key: _param(trial.values[key], one) for key, one in config.space.items()}
            running = optuna.trial.TrialState.RUNNING
            self._study.add_trial(
                optuna.trial.create_trial(params=params, distributions=self._space, state=running)
            )
            if trial.is_told:
                self.tell(number, trial.value)

    def ask(self, number: int) -> Tree:
        """See :class:`Search`."""
        seed = derived_seed(self._seed, Stream.SEARCH, number)
        n_startup_trials = self._config.n_startup_trials
        self._study.sampler = self._optuna.samplers.TPESampler(seed=seed, n_startup_trials=n_startup_trials)
        params = self._study.ask(self._space).params
        return {key: _value(params[key], one) for key, one in self._config.space.items()}

    def tell(self, number: int, value: float | None) -> None:
        """See :class:`Search`."""
        super().tell(number, value)
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
