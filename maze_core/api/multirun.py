"""Several runs from one specification: trained and played side by side, answered in a list in the jobs' order.

A job that fails leaves a :class:`JobFailedError` in its place and takes no other one with it. Jobs run side by side in
processes, or here where no other process can be given what they hold. The next one is asked for when there is room for
it, so that a search knows the outcomes so far, and after a cancel none is begun.
"""

import weakref
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import partial
from os import PathLike
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

from maze_core.api.checks import path_of, place_of, refuse_wrong_callbacks
from maze_core.api.jobs import BEST_METRIC, Job, Jobs, outcomes_of
from maze_core.api.multirun_report import JobsReporter, MultirunReport
from maze_core.api.remote_job import RUN, Verb, relay, report_of, request
from maze_core.api.run import Cancelled, Run
from maze_core.config.schema import Mode
from maze_core.config.settings import whole_number
from maze_core.envs.video import check_encoder
from maze_core.errors import (
    USER_CODE_ERRORS,
    ContextClosedError,
    DivergedError,
    EnvError,
    InvalidSpecificationError,
    JobFailedError,
)
from maze_core.metrics import Reporter, SilentReporter
from maze_core.rundir import RolloutDir
from maze_core.runners.config import with_limits
from maze_core.runners.jobs import JobPool
from maze_core.types import ActorID, Tree

if TYPE_CHECKING:
    from maze_core.evaluation.evaluate import EvalReport, RolloutReport
    from maze_core.trainers.fit import TrainReport

T = TypeVar("T")

_KEPT_PROCESSES = 2
"""Processes that wait for the next call; each holds some 300 MB."""
_POLL_S = 0.1
_FAILURES_OF_A_JOB = (EnvError, DivergedError)


class Multirun:
    """The verbs of a run, for every job of a specification. Nothing is built by making one.

    Args:
        arguments: of :func:`~maze_core.config.compose.compose_run`, with lists where a key varies.
        mode: what every job does; None asks the (first) policy.
        run_dir: holds one directory per job; see :class:`~maze_core.api.jobs.Jobs`.
        order: keys in the order they were given, where that is not the order of ``arguments``.

    Raises:
        InvalidSpecificationError: with the problems of all jobs.
    """

    def __init__(
        self,
        arguments: Mapping[str, Any],
        *,
        mode: Mode | None = None,
        run_dir: str | PathLike[str] | None = None,
        order: Sequence[str] = (),
    ) -> None:
        self._jobs = Jobs(arguments, mode=mode, run_dir=run_dir, order=order)
        self._base = Path() if self._jobs.directory is None else self._jobs.directory.path
        self._pool: JobPool | None = None
        self._is_closed = False

    @property
    def report(self) -> MultirunReport:
        """All jobs, what they chose and how they ended."""
        return self._jobs.report

    def each(self, ask: Callable[[Run], T], *, needs_training: bool = True) -> "list[T | JobFailedError]":
        """What every job's run answers, in order.

        Args:
            ask: is called with each run.
            needs_training: a failed job has no answer of its own; its error stands in its place.
        """
        self._refuse_if_closed()
        return [self._one_answer(job, ask, needs_training=needs_training) for job in self._jobs.all]

    def _one_answer(
        self, job: Job, ask: Callable[[Run], T], *, needs_training: bool = True
    ) -> "T | JobFailedError":
        if job.run is None or (job.failure and needs_training):
            return job.failure or job.failed(
                "InvalidSpecificationError", "its values are no valid configuration."
            )
        try:
            return ask(job.run)
        except _FAILURES_OF_A_JOB as error:
            return job.failed(type(error).__name__, str(error))

    def save(self, path: str | PathLike[str], checkpoint: str = "best") -> "list[Path | JobFailedError]":
        """Save every job's checkpoint as ``path/<number>.ckpt``."""
        self._refuse_if_closed()
        folder = (self._base / path_of(path, "path")).resolve()

        def saved(job: Job) -> Path | JobFailedError:
            return self._one_answer(job, lambda run: run.save(folder / f"{job.spec.number}.ckpt", checkpoint))

        return [saved(job) for job in self._jobs.all]

    def export(
        self,
        path: str | PathLike[str],
        format: str = "onnx",
        checkpoint: str = "best",
        actor_id: ActorID | tuple[Any, int] | None = None,
    ) -> "list[Path | JobFailedError]":
        """:meth:`Run.export` of each job as ``<path>/<number>.onnx``, or ``.npz``."""
        self._refuse_if_closed()
        folder = (self._base / path_of(path, "path")).resolve()
        suffix = {"numpy": ".npz"}.get(format, f".{format}")

        def exported(job: Job) -> Path | JobFailedError:
            file = folder / f"{job.spec.number}{suffix}"
            return self._one_answer(job, lambda run: run.export(file, format, checkpoint, actor_id))

        return [exported(job) for job in self._jobs.all]

    def _refuse_if_closed(self) -> None:
        if self._is_closed:
            raise ContextClosedError("This RunContext was closed; load its jobs with RunContext.load.")

    def close(self) -> None:
        """Close every run. A second call does nothing."""
        for job in self._jobs.all:
            if job.run is not None:
                job.run.close()
        if self._pool is not None:
            self._pool.close()
        self._is_closed = True

    # ------------------------------------------------------------------ the verbs

    def train(
        self,
        /,
        n_epochs: int | None = None,
        *,
        reporter: JobsReporter | None = None,
        cancelled: Cancelled = lambda: False,
        **options: Any,
    ) -> list["TrainReport | JobFailedError"]:
        """Train every job, or search; a second call trains further, or searches on. See :meth:`Run.train`.

        ``reporter`` is told of every job, and gives each a reporter of its own. ``cancelled`` is asked all the time:
        True lets running jobs end with a checkpoint, and begins no other.
        """
        self._refuse_if_closed()
        if self._jobs.mode == "rollout":
            raise InvalidSpecificationError(
                "This multirun only plays, because it has a rollout policy or runner."
            )
        if n_epochs is not None:
            n_epochs = whole_number(n_epochs, "n_epochs")
        if whole_number(options.get("videos", 0), "videos", least=0):
            check_encoder()
        limits = {name: value for name, value in options.items() if name != "videos"}
        for one in self._jobs.specifications:
            with_limits(one.build("algorithm"), limits)
        reporter = _jobs_reporter(reporter, cancelled)
        directory = self._jobs.take_directories()

        def on_end(job: Job) -> None:
            self._jobs.ended(job)
            reporter.ended(job.record())

        with directory.writing(self._jobs.revision):
            try:
                to_train = self._jobs.to_train(takes_completed=n_epochs is not None)
                wanted = {"n_epochs": n_epochs, **options}
                call = _Call(
                    verb="train",
                    options=lambda job: wanted,
                    reporter=reporter,
                    cancelled=cancelled,
                    on_end=on_end,
                    evaluated=self._jobs.evaluated if self._jobs.has_pruner else None,
                )
                self._run_all(to_train, call)
                outcomes = outcomes_of(self._jobs.all)
                self._jobs.report.write()
                return outcomes
            finally:
                self._jobs.revision = directory.revision

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
        """Play the episodes of every job; see :meth:`Run.rollout`, and of reporter and cancelled :meth:`train`.

        ``save`` is a folder, which gets one of each job; True takes a new one in each job's run directory, or one in
        that of the multirun where the jobs only play.
        """
        self._refuse_if_closed()
        reporter = _jobs_reporter(reporter, cancelled)
        options: Tree = {
            "n_episodes": n_episodes,
            "max_episode_steps": max_episode_steps,
            "seed": seed,
            "deterministic": deterministic,
            "record": record,
        }
        n_videos = whole_number(videos, "videos", least=0)
        for job in self._jobs.all:
            if job.run is not None:
                job.run.playing(**options)
        if n_videos:
            check_encoder()
        folders: dict[int, RolloutDir] = {}
        place = place_of(save, n_videos)
        shared = self._shared_rollout_folder(place)

        def options_of(job: Job) -> Tree:
            assert job.run is not None
            own = place if shared is None else shared.path / str(job.spec.number)
            folder = job.run.rollout_folder(own)
            if folder is not None:
                folders[job.spec.number] = folder
            return {**options, "videos": n_videos, "save": folder is not None and str(folder.path)}

        played = [replace(job, outcome=job.failure) for job in self._jobs.all]
        call = _Call(
            verb="rollout",
            options=options_of,
            reporter=reporter,
            cancelled=cancelled,
            on_end=lambda job: reporter.ended(job.record()),
        )
        try:
            self._run_all(iter(played), call)
        finally:
            for job in played:
                if job.spec.number in folders and _was_cut(job):
                    folders[job.spec.number].remove()
            if shared is not None:
                shared.remove_if_empty()
        return outcomes_of(played)

    def evaluate(
        self,
        n_episodes: int = 20,
        *,
        deterministic: bool = True,
        seed: int | None = None,
        max_episode_steps: int | None = None,
        reporter: JobsReporter | None = None,
    ) -> list["EvalReport | JobFailedError"]:
        """Judge every job's policy over seeded episodes; see :meth:`Run.evaluate`."""
        played = self.rollout(
            n_episodes,
            max_episode_steps,
            deterministic=deterministic,
            seed=seed,
            record=False,
            reporter=reporter,
        )
        return [one if isinstance(one, JobFailedError) else one.summary for one in played]

    def _shared_rollout_folder(self, place: bool | Path) -> RolloutDir | None:
        """Where the jobs' rollouts are saved together; None where each has its own run directory, or none is saved."""
        if not isinstance(place, bool):
            return RolloutDir((self._base / place).resolve())
        directory = self._jobs.take_directories() if place else None
        return None if directory is None or self._jobs.mode == "train" else directory.new_rollout()

    def _run_all(self, jobs: Iterator[Job], call: "_Call") -> None:
        """Run jobs; some processes are kept for the next call, unless this one was cut."""
        if self._jobs.has_to_run_here:
            _run_here(jobs, call)
            return
        pool, self._pool = self._pool or self._new_pool(), None
        try:
            _run_in_processes(jobs, call, pool)
        except BaseException:
            pool.close()
            raise
        if pool.is_cancelled:
            pool.close()
        else:
            pool.shrink(_KEPT_PROCESSES)
            self._pool = pool

    def _new_pool(self) -> JobPool:
        pool = JobPool(min(self._jobs.plan.launcher.limit, self._jobs.most))
        weakref.finalize(self, pool.close)
        return pool


def _jobs_reporter(reporter: JobsReporter | None, cancelled: Cancelled) -> JobsReporter:
    refuse_wrong_callbacks(None, cancelled)
    if reporter is not None and not hasattr(reporter, "started"):
        message = "A multirun takes a JobsReporter, which gives each job a reporter of its own."
        raise InvalidSpecificationError(message, path="reporter", code="wrong_type")
    return reporter or JobsReporter()


def _was_cut(job: Job) -> bool:
    """Whether it ended without cleaning up after itself."""
    return job.outcome is None or (job.failure is not None and job.failure.error_type == "ProcessDied")


@dataclass(frozen=True, kw_only=True)
class _Call:
    """What jobs are asked to do, and who is told."""

    verb: Verb
    options: Callable[[Job], Mapping[str, Any]]
    """Keyword arguments of the verb, for each job; plain values."""
    reporter: JobsReporter
    cancelled: Cancelled
    """Asked all the time; True lets running jobs end with what they have."""
    on_end: Callable[[Job], None]
    """Is told of every job, with its outcome."""
    evaluated: Callable[[Job, int, float], None] | None = None
    """Is told what an evaluation of a job has reached at an epoch, and may give the job up."""

    def started(self, job: Job) -> Reporter:
        """Say that a job starts; who is told of it."""
        reporter = self.reporter.started(job.spec.number, job.spec.choices) or SilentReporter()
        return reporter if self.evaluated is None else _Watched(reporter, job, self.evaluated)

    def ended(self, job: Job) -> None:
        """Go on with what a training has stored, whether it ran here or elsewhere and however it ended; say so."""
        if self.verb == "train" and job.run is not None:
            job.is_live = True
            job.run.take_up(is_live=True)
        self.on_end(job)


class _Watched(SilentReporter):
    """Reports on, and says what evaluations have reached."""

    def __init__(self, reporter: Reporter, job: Job, evaluated: Callable[[Job, int, float], None]) -> None:
        self._reporter, self._job, self._evaluated = reporter, job, evaluated

    def metrics(self, epoch: int, step: int, values: Mapping[str, float]) -> None:
        """See :class:`Reporter`."""
        self._reporter.metrics(epoch, step, values)
        if BEST_METRIC in values:
            self._evaluated(self._job, epoch, values[BEST_METRIC])

    def tell(self, method: str, *args: Any, **kwargs: Any) -> None:
        """All others."""
        if method != "distributions" or hasattr(self._reporter, method):
            getattr(self._reporter, method)(*args, **kwargs)


def _run_here(jobs: Iterator[Job], call: _Call) -> None:
    """Run jobs in this process, one after the other."""
    while not call.cancelled() and (job := next(jobs, None)):
        if job.run is None or job.outcome is not None:
            call.on_end(job)
            continue
        reporter = call.started(job)
        try:
            verb = job.run.train if call.verb == "train" else job.run.rollout
            stops = partial(_is_to_stop, job, call)
            job.outcome = verb(reporter=reporter, cancelled=stops, **call.options(job))
        except USER_CODE_ERRORS as error:  # whatever a job raises is its result
            job.outcome = job.failed(type(error).__name__, str(error))
            job.outcome.__cause__ = error
        call.ended(job)


def _is_to_stop(job: Job, call: _Call) -> bool:
    return job.pruned_at is not None or call.cancelled()


def _run_in_processes(jobs: Iterator[Job], call: _Call, pool: JobPool) -> None:
    """Run jobs in the processes of a pool, as many at a time as it allows."""
    running: dict[int, tuple[Job, Reporter]] = {}
    has_more = True
    while has_more or running:
        while has_more and pool.n_free:
            job = None if call.cancelled() else next(jobs, None)
            if job is None:
                has_more = False
            elif job.run is None or job.outcome is not None:
                call.on_end(job)
            else:
                number = job.spec.number
                running[number] = job, call.started(job)
                wanted = request(job.run, call.verb, call.options(job), is_live=job.is_live)
                pool.start(number, RUN, wanted)
        if call.cancelled():
            pool.cancel()
        for message in pool.messages(_POLL_S) if running else ():
            job, reporter = running[message.job]
            if message.kind == "event":
                relay(message.value, reporter)
                if job.pruned_at is not None:
                    pool.cancel_job(job.spec.number)
                continue
            del running[message.job]
            if message.kind == "done":
                job.outcome = report_of(message.value)
            else:
                found = message.value
                job.outcome = job.failed(found["type"], found["message"], found["details"])
            call.ended(job)
