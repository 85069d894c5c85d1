"""Where the jobs of a multirun run: in processes, or here, one after the other. Both look the same from outside."""

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from types import TracebackType
from typing import TYPE_CHECKING, Any, Protocol

from maze_core.api.sweep_report import JobRecord, JobsReporter
from maze_core.checkpoint import Checkpoint
from maze_core.config.nodes import OPAQUE, TARGET
from maze_core.config.sweep import JobSpec
from maze_core.errors import JobFailedError
from maze_core.metrics import Reporter
from maze_core.runners.jobs import JobMessage, JobPool

if TYPE_CHECKING:
    from maze_core.api.run_context import RunContext
    from maze_core.trainers.fit import TrainReport

TRAIN = "maze_core.api.job:train"
"""What a process is asked to run."""
_POLL_S = 0.1

Cancelled = Callable[[], bool]


@dataclass(kw_only=True)
class Job:
    """One job of a multirun."""

    spec: JobSpec
    context: "RunContext | None"
    """Its run; None where its values are no valid configuration."""
    has_trained: bool = False
    """Whether its directory holds a run to go on with."""
    completed: "TrainReport | None" = None
    """How it ended before, where its directory holds a run with all its epochs."""
    outcome: "TrainReport | JobFailedError | None" = None
    """How its last training ended."""

    def record(self) -> JobRecord:
        """The job as it is told outside."""
        return JobRecord(
            job=self.spec.number,
            choices=self.spec.choices,
            run_dir=None if self.context is None else self.context.run_dir,
            outcome=self.outcome,
        )

    def failed(self, error_type: str, message: str, details: str = "") -> JobFailedError:
        """An error that says which job it is about."""
        return JobFailedError(self.spec.number, self.spec.choices, error_type, message, details)


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


class JobsInProcesses:
    """Jobs in processes of their own. A context manager."""

    def __init__(self, n_jobs: int, reporter: JobsReporter, n_epochs: int | None, **options: Any) -> None:
        """Run up to ``n_jobs`` at a time, each with these arguments of ``train``; plain values."""
        self._pool = JobPool(n_jobs)
        self._reporter = reporter
        self._arguments = {"n_epochs": n_epochs, "options": options}
        self._running: dict[int, tuple[Job, Reporter]] = {}

    @property
    def n_free(self) -> int:
        """See :class:`JobRuns`."""
        return self._pool.n_free

    def start(self, job: Job) -> None:
        """See :class:`JobRuns`."""
        assert job.context is not None
        number = job.spec.number
        self._running[number] = job, self._reporter.started(number, job.spec.choices)
        argument = {
            "config": job.context.config,
            "run_dir": str(job.context.run_dir),
            "resumes": job.has_trained,
            **self._arguments,
        }
        self._pool.start(number, TRAIN, argument)

    def ended(self) -> list[Job]:
        """See :class:`JobRuns`."""
        return [job for message in self._pool.messages(_POLL_S) if (job := self._taken(message))]

    def cancel(self) -> None:
        """See :class:`JobRuns`."""
        self._pool.cancel()

    def __enter__(self) -> "JobsInProcesses":
        """The runs themselves."""
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        """End the processes."""
        self._pool.close()

    def _taken(self, message: JobMessage) -> Job | None:
        """The job, where the message ends it."""
        job, reporter = self._running[message.job]
        if message.kind == "event":
            name, args, kwargs = message.value
            getattr(reporter, name)(*args, **kwargs)
            return None
        assert job.context is not None
        if message.kind == "done":
            job.context._take_up()
            job.has_trained = True
            job.outcome = _report(message.value)
        else:
            found = message.value
            job.outcome = job.failed(found["type"], found["message"], found["details"])
        return job


class JobsHere:
    """Jobs in this process, one after the other: for configurations that hold objects nobody can send."""

    def __init__(
        self, cancelled: Cancelled, reporter: JobsReporter, n_epochs: int | None, **options: Any
    ) -> None:
        """Train each with these arguments of ``train``."""
        self._cancelled, self._reporter = cancelled, reporter
        self._n_epochs, self._options = n_epochs, options
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
        try:
            job.outcome = job.context.train(
                self._n_epochs,
                reporter=self._reporter.started(job.spec.number, job.spec.choices),
                cancelled=self._cancelled,
                **self._options,
            )
        except Exception as error:  # whatever a job raises is its result
            job.outcome = job.failed(type(error).__name__, str(error))
            job.outcome.__cause__ = error
        return [job]

    def cancel(self) -> None:
        """See :class:`JobRuns`; the job asks by itself."""

    def __enter__(self) -> "JobsHere":
        """The runs themselves."""
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        """Nothing is left over."""


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


def report_of(checkpoint: Checkpoint) -> "TrainReport":
    """How a run ended whose last checkpoint this is, as far as the checkpoint tells."""
    return _report(
        {
            "stop_reason": "completed",
            "counters": checkpoint.identity["counters"],
            "metrics": {},
            "duration_s": 0.0,
            "content_sha256": checkpoint.content_sha256,
            "weights_sha256": checkpoint.weights_sha256,
        }
    )


def _report(fields: dict[str, Any]) -> "TrainReport":
    from maze_core.trainers.fit import Counters, TrainReport

    return TrainReport(**{**fields, "counters": Counters(**fields["counters"])})
