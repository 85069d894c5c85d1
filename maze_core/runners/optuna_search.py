"""A search with Optuna (extra ``optuna``), which no other module imports.

The study is in memory, and made anew from the trials that are known.
"""

import math
import warnings
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from importlib.util import find_spec
from typing import Any

from maze_core.config.multirun import OptunaSearchConfig, ParameterConfig
from maze_core.errors import InvalidSpecificationError
from maze_core.runners.search import Search, Trial
from maze_core.seeding import Stream, derived_seed
from maze_core.types import Tree

INSTALL = "pip install 'maze-service[optuna]'"


class OptunaSearch(Search):
    """A study, made anew from its trials for each question."""

    def __init__(self, config: OptunaSearchConfig, seed: int, trials: Sequence[Trial] = ()) -> None:
        """Begin a study, or go on with one; see :func:`~maze_core.runners.search.open_search`."""
        super().__init__(config, seed, trials)
        self._optuna = _optuna()
        self._space = {key: _distribution(self._optuna, one) for key, one in config.space.items()}

    def _proposed(self, number: int) -> Tree:
        optuna, config = self._optuna, self._config
        seed = derived_seed(self._seed, Stream.SEARCH, number)
        sampler = optuna.samplers.TPESampler(seed=seed, n_startup_trials=config.n_startup_trials)
        with _quiet(optuna):
            study = optuna.create_study(direction="maximize", sampler=sampler)
        for trial in self._trials:
            study.add_trial(self._frozen(trial))
        params = study.ask(self._space).params
        return {key: _value(params[key], one) for key, one in config.space.items()}

    def _frozen(self, trial: Trial) -> Any:
        """A trial as Optuna has it."""
        states = self._optuna.trial.TrialState
        has_value = trial.value is not None and math.isfinite(trial.value)
        state, facts = states.RUNNING, dict[str, Any]()
        if trial.is_told and not has_value:
            state = states.FAIL
        elif trial.pruned_at is not None:
            state, facts = states.PRUNED, {"intermediate_values": {trial.pruned_at: trial.value}}
        elif trial.is_told:
            state, facts = states.COMPLETE, {"value": trial.value}
        params = {key: _param(trial.values[key], one) for key, one in self._config.space.items()}
        return self._optuna.trial.create_trial(params=params, distributions=self._space, state=state, **facts)


def importance(space: Mapping[str, ParameterConfig], trials: Sequence[Trial]) -> tuple[str, dict[str, float]]:
    """How much each parameter decides how good trials are: who judges that, and shares that sum to 1.

    Functional ANOVA (Hutter et al. 2014) where scikit-learn is installed, and else PED-ANOVA (Watanabe et al. 2023),
    which looks at what the better half has in common.

    Raises:
        InvalidSpecificationError: Optuna is not installed.
    """
    optuna = _optuna()
    distributions = {key: _distribution(optuna, one) for key, one in space.items()}
    with _quiet(optuna):
        study = optuna.create_study(direction="maximize")
    for trial in trials:
        params = {key: _param(trial.values[key], one) for key, one in space.items()}
        study.add_trial(
            optuna.trial.create_trial(params=params, distributions=distributions, value=trial.value)
        )
    name, options = ("fanova", {"seed": 0}) if find_spec("sklearn") else ("ped_anova", {})
    evaluators = {
        "fanova": optuna.importance.FanovaImportanceEvaluator,
        "ped_anova": optuna.importance.PedAnovaImportanceEvaluator,
    }
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", optuna.exceptions.ExperimentalWarning)
        found = optuna.importance.get_param_importances(study, evaluator=evaluators[name](**options))
    return name, {key: float(share) for key, share in found.items()}


def _optuna() -> Any:
    try:
        import optuna
    except ImportError as error:
        message = f"This needs Optuna, which is not installed: {INSTALL}"
        raise InvalidSpecificationError(message, path="experiment", code="missing_extra") from error
    return optuna


@contextmanager
def _quiet(optuna: Any) -> Iterator[None]:
    """``create_study`` says on standard error that it did."""
    verbosity = optuna.logging.get_verbosity()
    optuna.logging.set_verbosity(optuna.logging.WARNING)
    try:
        yield
    finally:
        optuna.logging.set_verbosity(verbosity)


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
