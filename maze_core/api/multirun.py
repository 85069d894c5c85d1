"""Several runs from one specification: trained side by side, asked in turn, answered in a list in the jobs' order.

    specification ──► plan ──► jobs, or a search that asks for them ──► processes ──► one result per job

A job that fails leaves a :class:`JobFailedError` in its place and takes no other one with it.
"""

import functools
import json
from collections.abc import Callable, Iterator, Mapping, Sequence
from datetime import datetime
from os import PathLike
from pathlib import Path
from typing import TYPE_CHECKING, Any, Concatenate, ParamSpec, TypeVar

from maze_core.api.job_runs import JobRuns, JobsHere, JobsInProcesses, RunningJob, why_only_here
from maze_core.api.sweep_report import JobRecord, JobsReporter, SweepReport
from maze_core.checkpoint import write_atomically
from maze_core.config.compose import compose_run
from maze_core.config.multirun import plan_multirun
from maze_core.config.normal_form import Mode
from maze_core.config.sweep import JobSpec, compose_jobs
from maze_core.errors import (
    ContextClosedError,
    DivergedError,
    EnvError,
    InvalidSpecificationError,
    JobFailedError,
    MazeError,
    Problem,
)
from maze_core.rundir import RunDir, json_safe
from maze_core.runners.optuna_search import OptunaSearch

if TYPE_CHECKING:
    from maze_core.api.run_context import RunContext
    from maze_core.config.schema import RunConfig
    from maze_core.trainers.fit import TrainReport

P = ParamSpec("P")
R = TypeVar("R")

_FAILURES_OF_A_JOB = (EnvError, DivergedError)


def per_job(method: Callable[Concatenate[Any, P], R]) -> Callable[Concatenate[Any, P], R]:
    """Let a method of a RunContext answer with a list, one entry per job, where the context is a multirun."""
    name = method.__name__

    @functools.wraps(method)
    def call(self: Any, /, *args: P.args, **kwargs: P.kwargs) -> R:
        if self._multirun is None:
            return method(self, *args, **kwargs)
        answer: R = self._multirun.answer(name, *args, **kwargs)
        return answer

    return call


class Multirun:
    """The jobs of one specification."""

    def __init__(
        self,
        mode: Mode,
        arguments: Mapping[str, Any],
        *,
        run_dir: str | PathLike[str] | None = None,
        order: Sequence[str] = (),
    ) -> None:
        """Compose all jobs; nothing is built yet.

        Args:
            mode: what every job does.
            arguments: of :func:`~maze_core.config.compose.compose_run`, with lists where a key varies.
            run_dir: holds one directory per job; None takes a new folder below ``outputs/sweep`` at the first
                ``train()``.
            order: keys in the order they were given, where that is not the order of ``arguments``.

        Raises:
            InvalidSpecificationError: with the problems of all jobs.
        """
        self._mode = mode
        self._plan = plan_multirun(mode, arguments, order)
        self._path = None if run_dir is None else Path(run_dir).resolve()
        self._specs: list[JobSpec] = []
        self._contexts: list[RunContext] = []
        self._outcomes: dict[int, TrainReport | JobFailedError] = {}
        self._search: OptunaSearch | None = None
        self._is_closed = False
        search = self._plan.search
        if search is None:
            jobs = self._plan.sweep.jobs()
            for spec, config in zip(jobs, compose_jobs(jobs, mode), strict=True):
                self._add(spec, config)
        else:
            probe = [p.low if p.choices is None else p.choices[0] for p in search.space.values()]
            spec = self._plan.sweep.job(0, probe, list(search.space))
            (config,) = compose_jobs([spec], mode)
            self._refuse_live_objects(config)
            self._search = OptunaSearch(search, int(config.tree["seeding"]["agent_base_seed"]))

    # ------------------------------------------------------------------ answers, one per job

    def answer(self, name: str, *args: Any, **kwargs: Any) -> list[Any]:
        """What every job's context answers to a method or property; a failed job's error in its place."""
        if self._is_closed:
            raise ContextClosedError("This RunContext was closed; load the jobs with RunContext.load.")
        if name == "train":
            return self.train(*args, **kwargs)
        if name == "save":
            return self._save(*args, **kwargs)
        if name in ("config", "config_sha256", "run_dir"):
            return [getattr(context, name) for context in self._contexts]
        return [self._one_answer(number, name, args, kwargs) for number in range(len(self._contexts))]

    def _one_answer(self, number: int, name: str, args: Sequence[Any], kwargs: Mapping[str, Any]) -> Any:
        outcome = self._outcomes.get(number)
        if isinstance(outcome, JobFailedError) and name != "env_factory":
            return outcome
        try:
            found = getattr(self._contexts[number], name)
            return found if name == "policy" else found(*args, **kwargs)
        except _FAILURES_OF_A_JOB as error:
            return JobFailedError(number, self._specs[number].choices, type(error).__name__, str(error))

    def _save(self, path: str | PathLike[str], checkpoint: str = "best") -> list[Any]:
        """Save every job's checkpoint as ``path/<number>.ckpt``."""
        return [
            self._one_answer(number, "save", [Path(path) / f"{number}.ckpt", checkpoint], {})
            for number in range(len(self._contexts))
        ]

    @property
    def report(self) -> SweepReport:
        """All jobs, what they chose and how they ended."""
        return SweepReport(jobs=[self._record(number) for number in range(len(self._specs))], run_dir=self._path)

    def close(self) -> None:
        """Close every job's context. A second call does nothing."""
        for context in self._contexts:
            context.close()
        self._is_closed = True

    # ------------------------------------------------------------------ training

    def train(
        self,
        n_epochs: int | None = None,
        *,
        reporter: JobsReporter | None = None,
        cancelled: Callable[[], bool] = lambda: False,
        **options: Any,
    ) -> list["TrainReport | JobFailedError"]:
        """Train every job, or search.

        Args:
            n_epochs: epochs to train each job now; None trains what is left of the configured number.
            reporter: is told of every job, and gives each a reporter of its own.
            cancelled: asked ten times a second; True lets running jobs end with a checkpoint, and begins no other.
            **options: further arguments of ``train``, plain values.

        Returns:
            A report or :class:`JobFailedError` per job, in order.
        """
        if self._mode == "rollout":
            raise InvalidSpecificationError("This multirun only plays, because it has a rollout policy or runner.")
        if n_epochs is not None and n_epochs < 1:
            raise InvalidSpecificationError(f"n_epochs: {n_epochs} is not at least 1.")
        reporter = reporter or JobsReporter()
        self._make_directories()
        with self._runs(n_epochs, options, cancelled) as runs:
            waiting, n_running, is_over = self._jobs_to_run(), 0, False
            while n_running or not is_over:
                while runs.n_free and not is_over:
                    number = None if cancelled() else next(waiting, None)
                    if number is None:
                        is_over = True
                    elif number not in self._outcomes or not isinstance(self._outcomes[number], JobFailedError):
                        runs.start(self._job(number, reporter))
                        n_running += 1
                if cancelled():
                    runs.cancel()
                for job, outcome in runs.ended() if n_running else ():
                    n_running -= 1
                    self._note(job.number, outcome or self._not_begun(job.number), reporter)
        for number in range(len(self._specs)):
            self._outcomes.setdefault(number, self._not_begun(number))
        self._write_report()
        return [self._outcomes[number] for number in range(len(self._specs))]

    def _runs(self, n_epochs: int | None, options: Mapping[str, Any], cancelled: Callable[[], bool]) -> Any:
        if any(why_only_here(context.config) for context in self._contexts):
            return _closing(JobsHere(n_epochs, options, cancelled))
        most = len(self._specs) if self._plan.search is None else self._plan.search.n_trials
        return JobsInProcesses(max(1, min(self._plan.launcher.limit, most)), n_epochs, options)

    def _jobs_to_run(self) -> Iterator[int]:
        """Numbers of jobs; a search is asked for its next one when there is room for it."""
        if self._search is None or self._plan.search is None:
            for number in range(len(self._specs)):
                self._outcomes.pop(number, None)
                yield number
            return
        for _ in range(self._plan.search.n_trials):
            number = len(self._specs)
            values = self._search.ask(number)
            spec = self._plan.sweep.job(number, list(values.values()), list(values))
            try:
                self._add(spec, compose_run(self._mode, **spec.arguments, within_multirun=True))
            except InvalidSpecificationError as error:
                self._add(spec, self._contexts[0]._config)
                self._note(number, JobFailedError(number, spec.choices, type(error).__name__, str(error)), None)
            yield number

    def _job(self, number: int, reporter: JobsReporter) -> RunningJob:
        choices = self._specs[number].choices
        return RunningJob(
            number=number,
            choices=choices,
            context=self._contexts[number],
            reporter=lambda: reporter.started(number, choices),
        )
