"""The jobs of a multirun, and running all of them; here, one after the other, where no other process can."""

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Literal, Protocol

from maze_core.api.sweep_report import JobRecord, JobsReporter
from maze_core.config.nodes import OPAQUE, TARGET
from maze_core.config.sweep import JobSpec
from maze_core.errors import JobFailedError
from maze_core.metrics import Reporter, SilentReporter

if TYPE_CHECKING:
    from maze_core.api.run_context import RunContext
    from maze_core.evaluation.evaluate import RolloutReport
    from maze_core.trainers.fit import TrainReport

Verb = Literal["train", "rollout"]
"""What jobs are asked to do: the method of their contexts."""
Cancelled = Callable[[], bool]


@dataclass(kw_only=True)
class Job:
    """One job of a multirun."""

    spec: JobSpec
    context: "RunContext | None"
    """Its run; None where its values are no valid configuration."""
    is_live: bool = False
    """Whether it was trained in this multirun, so that it goes on exactly where it stopped."""
    completed: "TrainReport | None" = None
    """How it ended before, where its directory holds a run with all its epochs."""
    outcome: "TrainReport | RolloutReport | JobFailedError | None" = None
    """How it ended."""

    def record(self) -> JobRecord:
        """The job as it is told outside."""
        return JobRecord(
            job=self.spec.number,
            choices=self.spec.choices,
            run_dir=None if self.context is None else self.context.run_dir,
            outcome=self.outcome,
        )

    def take_up(self) -> None:
        """Go on with what a training of this job has stored, whether it ran here or elsewhere, and however it ended."""
        assert self.context is not None
        self.is_live = True
        self.context._take_up(is_live=True)

    def take_as_completed(self) -> None:
        """Take what its directory holds as its end, though it stopped before the last epoch."""
        from maze_core.trainers.fit import TrainReport

        last = None if self.context is None else self.context._resume
        if last is None:
            self.outcome = self.failed("CheckpointError", "its directory holds no run any more.")
        else:
            self.completed = TrainReport.of(last)

    def reporter(self, told: JobsReporter) -> Reporter:
        """Who is told of this job, which starts now."""
        return told.started(self.spec.number, self.spec.choices) or SilentReporter()

    def failed(self, error_type: str, message: str, details: str = "") -> JobFailedError:
        """An error that says which job it is about."""
        return JobFailedError(self.spec.number, self.spec.choices, error_type, message, details)


Options = Callable[[Job], Mapping[str, Any]]
"""Keyword arguments of the verb, for each job; plain values."""


class JobRuns(Protocol):
    """Runs jobs."""

    @property
    def n_free(self) -> int:
        """How many further jobs may be started now."""

    def start(self, job: Job) -> None:
        """Run a job; there must be room."""

    def ended(self) -> list[Job]:
        """The jobs that ended, with their outcomes; waits a moment for some."""

    def cancel(self) -> None:
        """Ask running jobs to end with a checkpoint."""


def run_all(
    jobs: Iterator[Job], runs: JobRuns, *, cancelled: Cancelled, on_end: Callable[[Job], None]
) -> None:
    """Run jobs until there is no further one and all have ended; after a cancel none is begun.

    ``jobs`` is asked for the next one when there is room for it, so that a search knows the outcomes so far.
    """
    n_running, is_over = 0, False
    while True:
        while runs.n_free and not is_over:
            job = None if cancelled() else next(jobs, None)
            if job is None:
                is_over = True
            elif job.outcome is not None:
                on_end(job)
            else:
                runs.start(job)
                n_running += 1
        if not n_running:
            return
        if cancelled():
            runs.cancel()
        for job in runs.ended():
            n_running -= 1
            on_end(job)


class JobsHere:
    """Jobs in this process, one after the other: for configurations that hold objects nobody can send."""

    def __init__(self, verb: Verb, options: Options, *, reporter: JobsReporter, cancelled: Cancelled) -> None:
        """Call ``verb`` of each job's context with these keyword arguments."""
        self._verb, self._options = verb, options
        self._reporter, self._cancelled = reporter, cancelled
        self._next: Job | None = None

    @property
    def n_free(self) -> int:
        """See :class:`JobRuns`."""
        return 1 if self._next is None else 0

    def start(self, job: Job) -> None:
        """See :class:`JobRuns`."""
        self._next = job

    def ended(self) -> list[Job]:
        """See :class:`JobRuns`; runs the job to its end."""
        job, self._next = self._next, None
        if job is None or job.context is None:
            return []
        reporter = job.reporter(self._reporter)
        try:
            call = getattr(job.context, self._verb)
            job.outcome = call(reporter=reporter, cancelled=self._cancelled, **self._options(job))
        except Exception as error:  # whatever a job raises is its result
            job.outcome = job.failed(type(error).__name__, str(error))
            job.outcome.__cause__ = error
        if self._verb == "train":
            job.take_up()
        return [job]

    def cancel(self) -> None:
        """See :class:`JobRuns`; the job asks by itself."""


def why_only_here(tree: object) -> str | None:
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
    return next((found for child in children if (found := why_only_here(child))), None)
