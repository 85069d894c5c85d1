"""A search with Optuna: it proposes values, we run the jobs. The only module that imports Optuna (extra ``optuna``)."""

from typing import Any

from maze_core.config.search import OptunaSearchConfig, ParameterConfig
from maze_core.errors import InvalidSpecificationError, Problem
from maze_core.types import Tree

INSTALL = "pip install 'maze-service[optuna]'"


class OptunaSearch:
    """A study in memory: ask for values, tell how good they were. The same answers give the same questions."""

    def __init__(self, config: OptunaSearchConfig, seed: int) -> None:
        """Begin a study.

        Args:
            config: where to search.
            seed: of the sampler, where ``config`` has none.

        Raises:
            InvalidSpecificationError: Optuna is not installed.
        """
        try:
            import optuna
        except ImportError as error:
            message = f"This experiment searches with Optuna, which is not installed: {INSTALL}"
            raise InvalidSpecificationError(
                [Problem(path="experiment", message=message, code="missing_extra")]
            ) from error
        self._space = config.space
        self._failed = optuna.trial.TrialState.FAIL
        # a pruner and storage of its own choice; create_study would log a line to standard error
        sampler = optuna.samplers.TPESampler(
            seed=seed if config.seed is None else config.seed, n_startup_trials=config.n_startup_trials
        )
        verbosity = optuna.logging.get_verbosity()
        optuna.logging.set_verbosity(optuna.logging.WARNING)
        try:
            self._study = optuna.create_study(direction="maximize", sampler=sampler)
        finally:
            optuna.logging.set_verbosity(verbosity)
        self._trials: dict[int, Any] = {}

    def ask(self, job: int) -> Tree:
        """Values to try next, by key."""
        trial = self._trials[job] = self._study.ask()
        return {key: _suggested(trial, key, parameter) for key, parameter in self._space.items()}

    def tell(self, job: int, value: float | None) -> None:
        """How good the values of a job were; None when it failed."""
        trial = self._trials.pop(job)
        if value is None:
            self._study.tell(trial, state=self._failed)
        else:
            self._study.tell(trial, value)


def _suggested(trial: Any, key: str, parameter: ParameterConfig) -> Any:
    if parameter.choices is not None:  # by number, since a choice may be a list
        return parameter.choices[trial.suggest_categorical(key, range(len(parameter.choices)))]
    if parameter.type == "int":
        assert parameter.low is not None
        assert parameter.high is not None
        step = 1 if parameter.step is None else int(parameter.step)
        return trial.suggest_int(key, int(parameter.low), int(parameter.high), step=step, log=parameter.log)
    return trial.suggest_float(key, parameter.low, parameter.high, step=parameter.step, log=parameter.log)
