"""The jobs of a multirun: what each is, what its directory holds already, and which are to be trained next.

specification ──► plan ──► jobs, or a search that asks for them
"""

import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from datetime import datetime
from os import PathLike
from pathlib import Path
from typing import TYPE_CHECKING, Any

from maze_core.api.checks import run_dir_of
from maze_core.api.multirun_report import JobRecord, MultirunReport, is_trained, mean_value
from maze_core.api.run import Run
from maze_core.api.stored_run import mode_of, refuse_other_run, rollout_config, said_differences, stored_run
from maze_core.config.compose import compose_run
from maze_core.config.grid import SEED, JobSpec, compose_jobs, first_value
from maze_core.config.multirun import OptunaSearchConfig, lowest, plan_multirun
from maze_core.config.nodes import OPAQUE, TARGET
from maze_core.config.schema import Mode, RunConfig
from maze_core.errors import CheckpointError, InvalidSpecificationError, JobFailedError, Problem
from maze_core.files import json_safe
from maze_core.rundir import RunDir, new_run_dir
from maze_core.runners.pruning import pruned_at
from maze_core.runners.search import Search, Trial, open_search
from maze_core.types import Tree

if TYPE_CHECKING:
    from maze_core.evaluation.evaluate import RolloutReport
    from maze_core.trainers.fit import TrainReport


BEST_METRIC = "eval/mean_return"
"""What trials are compared by on the way."""
ENDED = ("done", "failed", "pruned")


@dataclass(kw_only=True)
class Job:
    """One job of a multirun."""

    spec: JobSpec
    run: Run | None
    """Its run; None where its values are no valid configuration."""
    is_live: bool = False
    """Whether it was trained in this multirun, so that it goes on exactly where it stopped."""
    completed: "TrainReport | None" = None
    """How it ended before, where its directory holds a run with all its epochs."""
    outcome: "TrainReport | RolloutReport | JobFailedError | None" = None
    """How it ended."""
    curve: dict[int, float] = field(default_factory=dict)
    """Epoch → what its evaluation reached, where a search looks at it."""
    pruned_at: int | None = None
    """The epoch at which a search gave it up."""

    def record(self) -> JobRecord:
        """The job as it is told outside."""
        return JobRecord(
            job=self.spec.number,
            choices=self.spec.choices,
            run_dir=None if self.run is None else self.run.run_dir,
            outcome=self.outcome,
            pruned_at=self.pruned_at,
            pruned_value=None if self.pruned_at is None else self.curve.get(self.pruned_at),
        )

    def failed(self, error_type: str, message: str, details: str = "") -> JobFailedError:
        """An error that says which job it is about."""
        return JobFailedError(self.spec.number, self.spec.choices, error_type, message, details)

    @property
    def has_ended(self) -> bool:
        """Whether there is nothing left to run, because it is done or because it failed."""
        return self.record().status in ENDED

    @property
    def failure(self) -> JobFailedError | None:
        """What it failed of."""
        return self.outcome if isinstance(self.outcome, JobFailedError) else None


class Jobs:
    """The jobs of one specification.

    Args:
        arguments: of :func:`~maze_core.config.compose.compose_run`, with lists where a key varies.
        mode: what every job does; None asks the (first) policy.
        run_dir: holds one directory per job, which is gone on with where it holds that run already; None takes a new
            folder below ``outputs/sweep`` at the first training.
        order: keys in the order they were given, where that is not the order of ``arguments``.

    Attributes:
        mode: as above.
        all: the jobs that there are so far, in order.
        directory: as ``run_dir``.
        plan: what varies, what is searched, and how jobs are started.
        specifications: what each job of a grid is; of a search, one point of its space.

    Raises:
        InvalidSpecificationError: with the problems of all jobs.
        CheckpointError: what the directory holds is damaged.
    """

    def __init__(
        self,
        arguments: Mapping[str, Any],
        *,
        mode: Mode | None,
        run_dir: str | PathLike[str] | None,
        order: Sequence[str],
    ) -> None:
        self.mode: Mode = mode or mode_of({**arguments, "policy": first_value(arguments["policy"])})
        self.directory = None if run_dir is None else run_dir_of(run_dir)
        self.plan = plan_multirun(self.mode, arguments, order, self._stored_seeds())
        self.all: list[Job] = []
        self.revision = None if self.directory is None else self.directory.revision
        self._search: Search | None = None
        self._searched: Tree | None = None
        search = self.plan.search
        self._n_seeds = len(self.plan.grid.dimensions.get(SEED, (None,)))
        specs = self.plan.grid.jobs() if search is None else self.plan.grid.trial(0, lowest(search))
        self.specifications = compose_jobs(specs, self.mode, self._compose)
        self.has_to_run_here = self._has_to_run_here()
        stored = (self.directory and self.directory.read_sweep()) or {}
        if search is not None:
            self._take_up_search(search, stored)
            return
        if "search" in stored:
            self._refuse_directory("holds a search; take another directory for other jobs.")
        for spec, specification in zip(specs, self.specifications, strict=True):
            self._add(spec, specification)

    @property
    def report(self) -> MultirunReport:
        """All jobs, what they chose and how they ended."""
        run_dir = None if self.directory is None else self.directory.path
        return MultirunReport(jobs=[job.record() for job in self.all], run_dir=run_dir, search=self._searched)

    @property
    def has_pruner(self) -> bool:
        """Whether jobs may be given up before their end."""
        return self.plan.search is not None and self.plan.search.pruner != "none"

    @property
    def most(self) -> int:
        """How many there will be."""
        return len(self.all) if self.plan.search is None else self.plan.search.n_trials * self._n_seeds

    def to_train(self, *, takes_completed: bool) -> Iterator[Job]:
        """The jobs, in order; those that a stored run has completed only where they are to be trained further.

        A job that has an outcome has ended already. The others are told to :meth:`ended` before the next one is asked
        for, or as they end.
        """
        is_found = self._take_completed()
        if self._search is None or self.plan.search is None:
            self._begin_again(keeps_complete=not takes_completed, is_found=is_found)
            yield from self.all
            return
        search, n_trials, known = self._search, self.plan.search.n_trials, len(self.all) // self._n_seeds
        stopped = [job for job in self.all if not job.has_ended]
        is_over = known >= n_trials and not stopped and not is_found
        for job in stopped:
            job.outcome = None
            yield job
        for number in range(known, known + n_trials if is_over else n_trials):
            jobs = self._add_trial(number, search.ask(number))
            self.report.write()  # before it runs, so that it is known whatever happens
            yield from jobs

    def ended(self, job: Job) -> None:
        """Keep how a job ended, and let the search learn from it."""
        if self._search is not None:
            trial = job.spec.number // self._n_seeds
            jobs = self.all[trial * self._n_seeds : (trial + 1) * self._n_seeds]
            if all(one.has_ended for one in jobs):
                self._search.tell(trial, mean_value([one.record().value for one in jobs]), jobs[0].pruned_at)
        self.report.write()

    def evaluated(self, job: Job, epoch: int, value: float) -> None:
        """Note what an evaluation has reached, and give the job up where the search's pruner says so."""
        search = self.plan.search
        if search is None or job.pruned_at is not None:
            return
        job.curve[epoch] = value
        curves = {one.spec.number: self._known_curve(one) for one in self.all}
        job.pruned_at = pruned_at(search, job.spec.number, curves)

    def _known_curve(self, job: Job) -> Mapping[int, float]:
        """A job's curve, also of before this multirun took it up; of one that was given up, up to there."""
        if not job.curve and job.run is not None and job.run.directory is not None:
            lines = job.run.directory.read_metrics()
            job.curve = {line["epoch"]: line[BEST_METRIC] for line in lines if BEST_METRIC in line}
        last = job.pruned_at or math.inf
        return {epoch: value for epoch, value in job.curve.items() if epoch <= last}

    def take_directories(self) -> RunDir:
        """The directory, with one for every job; made if there is none yet."""
        if self.directory is None:
            stamp = datetime.now().astimezone().strftime("%Y-%m-%d_%H-%M-%S-%f")
            self.directory = new_run_dir(Path("outputs/sweep").resolve(), stamp)
            for job in self.all:
                if job.run is not None:
                    job.run.directory = self._directory_of(job.spec)
        return self.directory

    def _take_completed(self) -> bool:
        """Take what was found complete in the directory as outcomes; whether there was any."""
        found = [job for job in self.all if job.completed is not None]
        for job in found:
            job.outcome, job.completed = job.completed, None
        return bool(found)

    def _begin_again(self, *, keeps_complete: bool, is_found: bool) -> None:
        """Clear the outcomes of the jobs that are to be trained now.

        Those are the ones that are not complete; where all are, and not just found so in the directory, all of them.
        """
        complete = [job for job in self.all if is_trained(job.outcome) and job.run and job.run.report]
        keeps = keeps_complete and (is_found or len(complete) < len(self.all))
        for job in self.all:
            if not (keeps and job in complete):
                job.outcome = None

    def _add_trial(self, number: int, values: Tree) -> list[Job]:
        return [self._add_proposed(spec) for spec in self.plan.grid.trial(number, values)]

    def _add_proposed(self, spec: JobSpec) -> Job:
        try:
            return self._add(spec, compose_jobs([spec], self.mode, self._compose)[0])
        except InvalidSpecificationError as error:
            job = self._add(spec, None)
            job.outcome = job.failed(type(error).__name__, str(error))
            return job

    def _add(self, spec: JobSpec, specification: RunConfig | None) -> Job:
        directory = self._directory_of(spec)
        job = Job(spec=spec, run=None if specification is None else Run(specification, directory))
        stored = None if directory is None or self.mode == "rollout" else stored_run(directory)
        if job.run is not None and directory is not None and stored is not None:
            refuse_other_run(directory, stored, job.run.specification)
            job.run.take_up(stored)
            job.completed = job.run.report
        self.all.append(job)
        return job

    def _take_up_search(self, config: OptunaSearchConfig, stored: Tree) -> None:
        """Begin a search, or go on with the one that the directory holds."""
        known = stored.get("search")
        if known is None and self.directory is not None and not self.directory.is_free():
            self._refuse_directory("is not empty and holds no search; a search takes a directory of its own.")
        seed = (
            self.specifications[0].tree["seeding"]["agent_base_seed"] if config.seed is None else config.seed
        )
        if known and config.seed is None:
            seed = known.get("seed")
        seeds = {} if self._n_seeds == 1 else {"seeds": list(self.plan.grid.dimensions[SEED])}
        self._searched = {**asdict(config), "seed": seed, **seeds}
        del self._searched["n_trials"]
        others = {
            "sampler": "tpe",
            "pruner": "none",
            "min_epochs": 1,
        }  # of 0.1, where they could not be chosen
        known = known and {**others, **known}
        if known and (found := said_differences(known, json_safe(self._searched))):
            self._refuse_directory(
                f"holds another search: {found}. Take another run_dir, or give the same search."
            )
        try:
            records = stored["jobs"] if known else []
            n_seeds = self._n_seeds
            trials = [records[at : at + n_seeds] for at in range(0, len(records), n_seeds)]
            self._search = open_search(config, seed, list(map(_trial_of, trials)))
            for number, trial in enumerate(trials):
                for job, record in zip(self._add_trial(number, _values(trial[0])), trial, strict=True):
                    self._take_up_outcome(job, record)
        except (KeyError, TypeError, ValueError) as error:
            if isinstance(error, InvalidSpecificationError):
                raise
            raise CheckpointError(
                f"sweep.json in {self.directory} is damaged: {error!r}. Take another run_dir."
            ) from error

    def _take_up_outcome(self, job: Job, record: Tree) -> None:
        job.pruned_at = record.get("pruned_at")
        if job.pruned_at is not None:
            job.curve = {**self._known_curve(job), job.pruned_at: record["pruned_value"]}
            job.outcome = None if job.run is None else job.run.last_report()
            job.completed = None
        elif record["status"] == "failed":
            job.outcome = job.failed(record["error"]["type"], record["error"]["message"])
        elif record["status"] == "done" and job.completed is None:
            job.completed = None if job.run is None else job.run.last_report()
            if job.completed is None:
                job.outcome = job.failed("CheckpointError", "its directory holds no run any more.")

    def _stored_seeds(self) -> Mapping[str, int]:
        """Seeds of the jobs that the directory holds already, which further ones share."""
        if self.directory is None or self.mode == "rollout":
            return {}
        stored = map(stored_run, self.directory.jobs())
        return next((run.tree["seeding"] for run in stored if run is not None), {})

    def _refuse_directory(self, message: str) -> None:
        path = None if self.directory is None else self.directory.path
        problem = Problem(path="run_dir", message=f"{path} {message}", code="contradiction")
        raise InvalidSpecificationError([problem])

    def _compose(self, mode: Mode, **arguments: Any) -> RunConfig:
        return (
            compose_run(mode, **arguments) if mode == "train" else rollout_config(self.directory, arguments)
        )

    def _directory_of(self, spec: JobSpec) -> RunDir | None:
        """Where a job is written; a job that plays writes nothing, and finds there the run whose policy plays."""
        if self.directory is None or self.mode == "rollout":
            return self.directory
        return RunDir(self.directory.path / str(spec.number))

    def _has_to_run_here(self) -> bool:
        """Whether a job holds an object that no other process can be given.

        Raises:
            InvalidSpecificationError: processes were asked for all the same.
        """
        found = next((name for one in self.specifications if (name := _why_only_here(one.tree))), None)
        if found and self.plan.is_launcher_given:
            message = (
                f"{found} cannot be sent to another process. Name it, as a module, a dict or a config; or leave the "
                "launcher out: then the jobs run in this process, one after the other."
            )
            raise InvalidSpecificationError(message, path="launcher", code="contradiction")
        return found is not None


def outcomes_of(jobs: Sequence[Job]) -> list[Any]:
    """How each job ended; those that were not begun were cancelled."""
    for job in jobs:
        job.outcome = job.outcome or job.failed("Cancelled", "the multirun was cancelled before it began.")
    return [job.outcome for job in jobs]


def _trial_of(records: Sequence[Tree]) -> Trial:
    """A trial as ``sweep.json`` has its jobs, in which a number that is not finite is a text."""
    found = [record["best_return"] for record in records]
    if (pruned := records[0].get("pruned_at")) is not None:
        value = records[0]["pruned_value"]
        value = value if isinstance(value, float) else None
        return Trial(values=_values(records[0]), is_told=True, value=value, pruned_at=pruned)
    return Trial(
        values=_values(records[0]),
        is_told=all(record["status"] in ENDED for record in records),
        value=mean_value([value if isinstance(value, float) else None for value in found]),
    )


def _values(record: Tree) -> Tree:
    return {key: value for key, value in record["choices"].items() if key != SEED}


def _why_only_here(tree: object) -> str | None:
    """The object in a configuration that cannot be sent to another process; None where everything can."""
    children: Any = ()
    if isinstance(tree, Mapping):
        if OPAQUE in tree:
            return str(tree[OPAQUE])
        if str(tree.get(TARGET, "")).startswith("__main__."):
            return str(tree[TARGET])
        children = tree.values()
    elif isinstance(tree, list):
        children = tree
    return next((found for child in children if (found := _why_only_here(child))), None)
