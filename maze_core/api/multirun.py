"""Several runs from one specification: trained and played side by side, answered in a list in the jobs' order.

    specification ──► plan ──► jobs, or a search that asks for them ──► processes ──► one result per job

A job that fails leaves a :class:`JobFailedError` in its place and takes no other one with it.
"""

import weakref
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import asdict, replace
from datetime import datetime
from os import PathLike
from pathlib import Path
from typing import TYPE_CHECKING, Any

from maze_core.api.checks import path_of, place_of, refuse_wrong_callbacks, run_dir_of
from maze_core.api.job_processes import JobsInProcesses
from maze_core.api.job_runs import Cancelled, Job, JobRuns, JobsHere, Options, Verb, run_all, why_only_here
from maze_core.api.specification import differences, mode_of, refuse_other_run, rollout_config, stored_run
from maze_core.api.sweep_report import JobsReporter, SweepReport, is_trained
from maze_core.config.checks import whole_number
from maze_core.config.compose import compose_run
from maze_core.config.multirun import plan_multirun
from maze_core.config.normal_form import Mode
from maze_core.config.search import OptunaSearchConfig
from maze_core.config.sweep import JobSpec, compose_jobs, first_value
from maze_core.envs.video import check_encoder
from maze_core.errors import (
    ContextClosedError,
    DivergedError,
    EnvError,
    InvalidSpecificationError,
    JobFailedError,
    Problem,
)
from maze_core.files import json_safe
from maze_core.rundir import RolloutDir, RunDir, new_run_dir
from maze_core.runners.jobs import JobPool
from maze_core.runners.limits import with_limits
from maze_core.runners.optuna_search import OptunaSearch, Trial
from maze_core.types import Tree

if TYPE_CHECKING:
    from maze_core.config.schema import RunConfig
    from maze_core.evaluation.evaluate import RolloutReport
    from maze_core.trainers.fit import TrainReport

_OF_ALL = ("train", "rollout", "save")
_KNOWN_WITHOUT_TRAINING = ("config", "config_sha256", "run_dir", "undescribed")
_KEPT_PROCESSES = 2
"""Processes that wait for the next call; each holds some 300 MB."""
_FAILURES_OF_A_JOB = (EnvError, DivergedError)


class Multirun:
    """The jobs of one specification."""

    def __init__(
        self,
        arguments: Mapping[str, Any],
        *,
        mode: Mode | None = None,
        run_dir: str | PathLike[str] | None = None,
        order: Sequence[str] = (),
    ) -> None:
        """Compose all jobs; nothing is built yet.

        Args:
            arguments: of :func:`~maze_core.config.compose.compose_run`, with lists where a key varies.
            mode: what every job does; None asks the (first) policy.
            run_dir: holds one directory per job, which is gone on with where it holds that run already; None takes a
                new folder below ``outputs/sweep`` at the first ``train()``.
            order: keys in the order they were given, where that is not the order of ``arguments``.

        Raises:
            InvalidSpecificationError: with the problems of all jobs.
        """
        self._mode = mode = mode or mode_of({**arguments, "policy": first_value(arguments["policy"])})
        self._path = None if run_dir is None else run_dir_of(run_dir).path
        self._base = self._path or Path()
        self._plan = plan_multirun(mode, arguments, order, self._stored_seeds())
        self._jobs: list[Job] = []
        self._search: OptunaSearch | None = None
        self._searched: Tree | None = None
        self._pool: JobPool | None = None
        self._is_closed = False
        self._revision = None if self._path is None else RunDir(self._path).revision
        if self._plan.search is None:
            specs = self._plan.sweep.jobs()
        else:
            specs = [self._plan.sweep.job(0, *_lowest(self._plan.search))]
        self._configs = configs = compose_jobs(specs, mode, self._compose)
        self._runs_here = self._has_to_run_here(configs)
        stored = None if self._path is None else RunDir(self._path).read_sweep()
        if self._plan.search is not None:
            self._take_up_search(self._plan.search, stored or {})
            return
        if stored is not None and "search" in stored:
            self._refuse_directory("holds a search; take another directory for other jobs.")
        for spec, config in zip(specs, configs, strict=True):
            self._add(spec, config)

    # ------------------------------------------------------------------ answers, one per job

    def answer(self, name: str, *args: Any, **kwargs: Any) -> list[Any]:
        """What every job's context answers to a method or property; a failed job's error in its place."""
        if self._is_closed:
            raise ContextClosedError("This RunContext was closed; load its jobs with RunContext.load.")
        if name in _OF_ALL:
            found: list[Any] = getattr(self, name)(*args, **kwargs)
            return found
        return [self._one_answer(job, name, args, kwargs) for job in self._jobs]

    def _one_answer(self, job: Job, name: str, args: Sequence[Any], kwargs: Mapping[str, Any]) -> Any:
        is_failed = isinstance(job.outcome, JobFailedError) and name not in _KNOWN_WITHOUT_TRAINING
        if job.context is None or is_failed:
            return job.outcome
        try:
            found = getattr(job.context, name)
            return found if isinstance(getattr(type(job.context), name), property) else found(*args, **kwargs)
        except _FAILURES_OF_A_JOB as error:
            return job.failed(type(error).__name__, str(error))

    def save(self, path: str | PathLike[str], checkpoint: str = "best") -> list[Any]:
        """Save every job's checkpoint as ``path/<number>.ckpt``."""
        folder = (self._base / path_of(path, "path")).resolve()
        names = {job.spec.number: folder / f"{job.spec.number}.ckpt" for job in self._jobs}
        return [self._one_answer(job, "save", (names[job.spec.number], checkpoint), {}) for job in self._jobs]

    @property
    def report(self) -> SweepReport:
        """All jobs, what they chose and how they ended."""
        jobs = [job.record() for job in self._jobs]
        return SweepReport(jobs=jobs, run_dir=self._path, search=self._searched)

    def close(self) -> None:
        """Close every job's context. A second call does nothing."""
        for job in self._jobs:
            if job.context is not None:
                job.context.close()
        if self._pool is not None:
            self._pool.close()
        self._is_closed = True

    # ------------------------------------------------------------------ training

    def train(
        self,
        n_epochs: int | None = None,
        *,
        reporter: JobsReporter | None = None,
        cancelled: Cancelled = lambda: False,
        **options: Any,
    ) -> list["TrainReport | JobFailedError"]:
        """Train every job, or search; a second call trains the jobs further, or searches on.

        Args:
            n_epochs: epochs to train each job now; None trains what is left of the configured number.
            reporter: is told of every job, and gives each a reporter of its own.
            cancelled: asked all the time; True lets running jobs end with a checkpoint, and begins no other.
            **options: further arguments of ``train``, plain values.

        Returns:
            A report or :class:`JobFailedError` per job, in order.
        """
        if self._mode == "rollout":
            raise InvalidSpecificationError(
                "This multirun only plays, because it has a rollout policy or runner."
            )
        if n_epochs is not None:
            n_epochs = whole_number(n_epochs, "n_epochs")
        if whole_number(options.get("videos", 0), "videos", least=0):
            check_encoder()
        limits = {name: value for name, value in options.items() if name != "videos"}
        for config in self._configs:
            with_limits(config.build("algorithm"), limits)
        told = _told(reporter, cancelled)
        self._take_directories()

        def on_end(job: Job) -> None:
            record = job.record()
            if self._search is not None and record.status != "cancelled":
                self._search.tell(job.spec.number, record.best_return)
            told.ended(record)
            self.report.write()

        assert self._path is not None
        run_dir = RunDir(self._path)
        with run_dir.writing(self._revision):
            try:
                to_run = self._jobs_to_run(takes_completed=n_epochs is not None)
                all_options = {"n_epochs": n_epochs, **options}
                with self._runs("train", lambda job: all_options, told, cancelled) as runs:
                    run_all(to_run, runs, cancelled=cancelled, on_end=on_end)
                found = _outcomes(self._jobs)
                self.report.write()
                return found
            finally:
                self._revision = run_dir.revision

    # ------------------------------------------------------------------ playing

    def rollout(
        self,
        n_episodes: int | None = None,
        max_episode_steps: int | None = None,
        *,
        reporter: JobsReporter | None = None,
        cancelled: Cancelled = lambda: False,
        seed: int | None = None,
        deterministic: bool | None = None,
        record: bool | None = None,
        videos: int = 0,
        save: bool | str | PathLike[str] = False,
    ) -> list["RolloutReport | JobFailedError"]:
        """Play the episodes of every job; see :meth:`~maze_core.api.run_context.RunContext.rollout`.

        Args:
            n_episodes: of each job; None takes the configured number.
            max_episode_steps: flat steps after which an episode is cut.
            reporter: is told of every job, and gives each a reporter of its own.
            cancelled: asked all the time; True lets running jobs end with the episodes they have, and begins no other.
            seed: seeds the episodes of every job.
            deterministic: the most likely action instead of a sample.
            record: keep observations, actions and rewards of every step.
            videos: episodes of each job to film.
            save: a folder, which gets one of each job; True takes a new one in each job's run directory, or one in
                that of the multirun where the jobs only play.

        Returns:
            A report or :class:`JobFailedError` per job, in order.
        """
        told = _told(reporter, cancelled)
        options: Tree = {
            "n_episodes": n_episodes,
            "max_episode_steps": max_episode_steps,
            "seed": seed,
            "deterministic": deterministic,
            "record": record,
        }
        n_videos = whole_number(videos, "videos", least=0)
        for job in self._jobs:
            if job.context is not None:
                job.context._playing(**options)
        if n_videos:
            check_encoder()
        folders: dict[int, RolloutDir] = {}
        place = place_of(save, n_videos)
        shared = self._shared_rollout_folder(place)

        def options_of(job: Job) -> Tree:
            assert job.context is not None
            own = place if shared is None else shared.path / str(job.spec.number)
            folder = job.context._rollout_dir(own)
            if folder is not None:
                folders[job.spec.number] = folder
            return {**options, "videos": n_videos, "save": folder is not None and str(folder.path)}

        played = [replace(job, outcome=_failure(job)) for job in self._jobs]
        try:
            with self._runs("rollout", options_of, told, cancelled) as runs:
                run_all(iter(played), runs, cancelled=cancelled, on_end=lambda job: told.ended(job.record()))
        finally:
            for job in played:
                if job.spec.number in folders and _was_cut(job):
                    folders[job.spec.number].remove()
            if shared is not None:
                shared.remove_if_empty()
        return _outcomes(played)

    def _shared_rollout_folder(self, place: bool | Path) -> RolloutDir | None:
        """Where the jobs' rollouts are saved together; None where each has its own run directory, or none is saved."""
        if not isinstance(place, bool):
            return RolloutDir((self._base / place).resolve())
        if place:
            self._take_directories()
        if not place or self._mode == "train":
            return None
        assert self._path is not None
        return RunDir(self._path).new_rollout()

    # ------------------------------------------------------------------ jobs

    @contextmanager
    def _runs(
        self, verb: Verb, options: Options, reporter: JobsReporter, cancelled: Cancelled
    ) -> Iterator[JobRuns]:
        """Where the jobs run; some processes are kept for the next call, unless this one was cut."""
        if self._runs_here:
            yield JobsHere(verb, options, reporter=reporter, cancelled=cancelled)
            return
        pool, self._pool = self._pool or self._new_pool(), None
        try:
            yield JobsInProcesses(pool, verb, options, reporter=reporter)
        except BaseException:
            pool.close()
            raise
        if pool.is_cancelled:
            pool.close()
        else:
            pool.shrink(_KEPT_PROCESSES)
            self._pool = pool

    def _new_pool(self) -> JobPool:
        most = len(self._jobs) if self._plan.search is None else self._plan.search.n_trials
        pool = JobPool(min(self._plan.launcher.limit, most))
        weakref.finalize(self, pool.close)
        return pool

    def _jobs_to_run(self, *, takes_completed: bool) -> Iterator[Job]:
        """The jobs, in order; those that a stored run has completed only where they are to be trained further."""
        if self._search is None or self._plan.search is None:
            self._begin_again(takes_completed=takes_completed)
            yield from self._jobs
            return
        yield from self._trials_to_run(self._search, self._plan.search.n_trials)

    def _trials_to_run(self, search: OptunaSearch, n_trials: int) -> Iterator[Job]:
        """The trials that were stopped, and further ones up to ``n_trials``; once all are done, as many more."""
        is_found = self._take_completed()
        stopped = [job for job in self._jobs if not search.is_told(job.spec.number)]
        is_over = len(self._jobs) >= n_trials and not stopped and not is_found
        for job in stopped:
            if job.record().status == "cancelled":
                job.outcome = None
            yield job
        for _ in range(n_trials if is_over else n_trials - len(self._jobs)):
            job = self._add_trial(search.ask(len(self._jobs)))
            self.report.write()  # before it runs, so that it is known whatever happens
            yield job

    def _take_completed(self) -> bool:
        """Take what was found complete in the directory as outcomes; whether there was any."""
        found = [job for job in self._jobs if job.completed is not None]
        for job in found:
            job.outcome, job.completed = job.completed, None
        return bool(found)

    def _add_trial(self, values: Tree) -> Job:
        spec = self._plan.sweep.job(len(self._jobs), tuple(values.values()), tuple(values))
        try:
            return self._add(spec, compose_jobs([spec], self._mode, self._compose)[0])
        except InvalidSpecificationError as error:
            job = self._add(spec, None)
            job.outcome = job.failed(type(error).__name__, str(error))
            return job

    def _begin_again(self, *, takes_completed: bool) -> None:
        """Clear the outcomes of the jobs that are to be trained now.

        Those are the ones that are not complete; where all are, and not just found so in the directory, all of them.
        """
        is_found = self._take_completed()
        complete = [
            job for job in self._jobs if is_trained(job.outcome) and job.context and job.context.report
        ]
        keeps = not takes_completed and (is_found or len(complete) < len(self._jobs))
        for job in self._jobs:
            if not (keeps and job in complete):
                job.outcome = None

    def _add(self, spec: JobSpec, config: "RunConfig | None") -> Job:
        from maze_core.api.run_context import RunContext

        run_dir = None if self._path is None else RunDir(self._folder_of(spec))
        job = Job(spec=spec, context=None if config is None else RunContext._of(config, run_dir))
        stored = None if run_dir is None or config is None or self._mode == "rollout" else stored_run(run_dir)
        if job.context is not None and run_dir is not None and stored is not None:
            refuse_other_run(run_dir, stored, job.context._config)
            job.context._take_up(stored)
            job.completed = job.context.report
        self._jobs.append(job)
        return job

    def _take_up_search(self, config: OptunaSearchConfig, stored: Tree) -> None:
        """Begin a search, or go on with the one that the directory holds."""
        known = stored.get("search")
        if known is None and self._path is not None and not RunDir(self._path).is_free():
            self._refuse_directory("is not empty and holds no search; a search takes a directory of its own.")
        agent_seed = int(self._configs[0].tree["seeding"]["agent_base_seed"])
        seed = (
            known["seed"]
            if known and config.seed is None
            else agent_seed
            if config.seed is None
            else config.seed
        )
        self._searched = {**asdict(config), "seed": seed}
        del self._searched["n_trials"]
        if known is not None and (found := differences(known, json_safe(self._searched))):
            self._refuse_directory(
                f"holds another search: {found}. Take another run_dir, or give the same search."
            )
        jobs = stored.get("jobs", ()) if known else ()
        trials = [
            Trial(
                values=job["choices"],
                is_told=job["status"] in ("done", "failed"),
                value=_finite(job["best_return"]),
            )
            for job in jobs
        ]
        self._search = OptunaSearch(config, seed, trials)
        for stored_job in jobs:
            job = self._add_trial(stored_job["choices"])
            if stored_job["status"] == "failed":
                job.outcome = job.failed(stored_job["error"]["type"], stored_job["error"]["message"])
            elif stored_job["status"] == "done" and job.completed is None:
                job.take_as_completed()

    def _stored_seeds(self) -> Mapping[str, int]:
        """Seeds of the jobs that the directory holds already, which further ones share."""
        if self._path is None or self._mode == "rollout":
            return {}
        stored = (stored_run(run_dir) for run_dir in RunDir(self._path).jobs())
        return next((run.tree["seeding"] for run in stored if run is not None), {})

    def _refuse_directory(self, message: str) -> None:
        problem = Problem(path="run_dir", message=f"{self._path} {message}", code="contradiction")
        raise InvalidSpecificationError([problem])

    def _compose(self, mode: Mode, **arguments: Any) -> "RunConfig":
        if mode == "train":
            return compose_run(mode, **arguments)
        run_dir = None if self._path is None else RunDir(self._path)
        return rollout_config(run_dir, {**dict.fromkeys(("env", "wrappers", "overrides")), **arguments})

    def _folder_of(self, spec: JobSpec) -> Path:
        """Where a job is written; a job that plays writes nothing, and finds there the run whose policy plays."""
        assert self._path is not None
        return self._path / str(spec.number) if self._mode == "train" else self._path

    def _take_directories(self) -> None:
        """Give every job its directory, if it has none yet."""
        if self._path is None:
            stamp = datetime.now().astimezone().strftime("%Y-%m-%d_%H-%M-%S-%f")
            self._path = new_run_dir(Path("outputs/sweep").resolve(), stamp).path
            for job in self._jobs:
                if job.context is not None:
                    job.context._run_dir = RunDir(self._folder_of(job.spec))

    def _has_to_run_here(self, configs: Sequence["RunConfig"]) -> bool:
        """Whether a job holds an object that no other process can be given.

        Raises:
            InvalidSpecificationError: processes were asked for all the same.
        """
        found = next((name for config in configs if (name := why_only_here(config.tree))), None)
        if found and self._plan.is_launcher_given:
            message = (
                f"{found} cannot be sent to another process. Name it, as a module, a dict or a config; or leave the "
                "launcher out: then the jobs run in this process, one after the other."
            )
            raise InvalidSpecificationError([Problem(path="launcher", message=message, code="contradiction")])
        return found is not None


def _lowest(search: OptunaSearchConfig) -> tuple[list[Any], list[str]]:
    """Values and keys of one point of the space, to see whether the rest of the specification is sound."""
    values = []
    for parameter in search.space.values():
        low = parameter.low if parameter.choices is None else parameter.choices[0]
        values.append(int(low) if parameter.type == "int" and isinstance(low, float) else low)
    return values, list(search.space)


def _told(reporter: JobsReporter | None, cancelled: Cancelled) -> JobsReporter:
    refuse_wrong_callbacks(None, cancelled)
    told = JobsReporter() if reporter is None else reporter
    if not hasattr(told, "started"):
        message = "A multirun takes a JobsReporter, which gives each job a reporter of its own."
        raise InvalidSpecificationError([Problem(path="reporter", message=message, code="wrong_type")])
    return told


def _failure(job: Job) -> JobFailedError | None:
    return job.outcome if isinstance(job.outcome, JobFailedError) else None


def _finite(value: Any) -> float | None:
    return value if isinstance(value, float) else None  # in JSON, what is not finite is a text


def _was_cut(job: Job) -> bool:
    """Whether it ended without cleaning up after itself."""
    return job.outcome is None or (
        isinstance(job.outcome, JobFailedError) and job.outcome.error_type == "ProcessDied"
    )


def _outcomes(jobs: Sequence[Job]) -> list[Any]:
    """How each job ended; those that were not begun were cancelled."""
    for job in jobs:
        job.outcome = job.outcome or job.failed("Cancelled", "the multirun was cancelled before it began.")
    return [job.outcome for job in jobs]
