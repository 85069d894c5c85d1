"""Where the jobs of a multirun run: in processes, or here, one after the other. Both look the same from outside."""

from collections import deque
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from types import TracebackType
from typing import TYPE_CHECKING, Any, Protocol

from maze_core.config.nodes import OPAQUE, TARGET
from maze_core.errors import JobFailedError
from maze_core.metrics import Reporter
from maze_core.runners.jobs import JobPool

if TYPE_CHECKING:
    from maze_core.api.run_context import RunContext
    from maze_core.trainers.fit import TrainReport

TRAIN = "maze_core.api.job:train"
_POLL_S = 0.1


@dataclass(kw_only=True)
class RunningJob:
    """A job that is handed over to run."""

    number: int
    choices: Mapping[str, Any]
    context: "RunContext"
    reporter: Callable[[], Reporter]
    """Makes the reporter when the job starts."""


Ended = tuple[RunningJob, "TrainReport | JobFailedError | None"]
"""A job and how it ended; None where it was not begun because of a cancel."""


class JobRuns(Protocol):
    """Runs jobs."""

    @property
    def n_free(self) -> int:
        """How many further jobs would start at once."""

    def start(self, job: RunningJob) -> None:
        """Run a job, as soon as there is room."""

    def ended(self) -> list[Ended]:
        """The jobs that ended since the last call; waits a moment for some."""

    def cancel(self) -> None:
        """Ask running jobs to end with a checkpoint, and begin no other one."""


class JobsInProcesses:
    """Jobs in processes of their own. A context manager."""

    def __init__(self, n_jobs: int, n_epochs: int | None, options: Mapping[str, Any]) -> None:
        """Run up to ``n_jobs`` at a time, each for ``n_epochs`` and with the other arguments of ``train``."""
        self._pool = JobPool(n_jobs)
        self._n_epochs, self._options = n_epochs, dict(options)
        self._jobs: dict[int, RunningJob] = {}
        self._reporters: dict[int, Reporter] = {}

    @property
    def n_free(self) -> int:
        """See :class:`JobRuns`."""
        return self._pool.n_free

    def start(self, job: RunningJob) -> None:
        """See :class:`JobRuns`."""
        self._jobs[job.number] = job
        argument = {
            "config": job.context.config,
            "run_dir": str(job.context.run_dir),
            "resumes": job.context._has_trained(),
            "n_epochs": self._n_epochs,
            "options": self._options,
        }
        self._pool.submit(job.number, TRAIN, argument)

    def ended(self) -> list[Ended]:
        """See :class:`JobRuns`."""
        ended: list[Ended] = []
        for message in self._pool.messages(_POLL_S):
            job = self._jobs[message.job]
            if message.kind == "started":
                self._reporters[job.number] = job.reporter()
            elif message.kind == "event":
                name, args, kwargs = message.value
                getattr(self._reporters[job.number], name)(*args, **kwargs)
            elif message.kind == "done":
                job.context._take_up()
                ended.append((job, _report(message.value)))
            elif message.kind == "failed":
                found = message.value
                error = JobFailedError(job.number, job.choices, found["type"], found["message"], found["details"])
                ended.append((job, error))
            else:
                ended.append((job, None))
        return ended

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


class JobsHere:
    """Jobs in this process, one after the other: for configurations that hold objects nobody can send."""

    def __init__(
        self, n_epochs: int | None, options: Mapping[str, Any], cancelled: Callable[[], bool]
    ) -> None:
        """Train each for ``n_epochs``, asking ``cancelled`` between updates."""
        self._n_epochs, self._options, self._cancelled = n_epochs, dict(options), cancelled
        self._waiting: deque[RunningJob] = deque()

    @property
    def n_free(self) -> int:
        """See :class:`JobRuns`."""
        return 0 if self._waiting else 1

    def start(self, job: RunningJob) -> None:
        """See :class:`JobRuns`."""
        self._waiting.append(job)

    def ended(self) -> list[Ended]:
        """See :class:`JobRuns`; runs the next job to its end."""
        if not self._waiting:
            return []
        job = self._waiting.popleft()
        if self._cancelled():
            return [(job, None)]
        try:
            reporter = job.reporter()
            report = job.context.train(
                self._n_epochs, reporter=reporter, cancelled=self._cancelled, **self._options
            )
            return [(job, report)]
        except Exception as error:  # whatever a job raises is its result
            failed = JobFailedError(job.number, job.choices, type(error).__name__, str(error))
            failed.__cause__ = error
            return [(job, failed)]

    def cancel(self) -> None:
        """See :class:`JobRuns`; the jobs ask by themselves."""


def why_only_here(tree: object) -> str | None:
    """What a configuration holds that cannot be sent to another process; None where nothing."""
    if isinstance(tree, Mapping):
        if OPAQUE in tree:
            return str(tree[OPAQUE])
        if str(tree.get(TARGET, "")).startswith("__main__."):
            return str(tree[TARGET])
        return next((found for child in tree.values() if (found := why_only_here(child))), None)
    if isinstance(tree, list):
        return next((found for child in tree if (found := why_only_here(child))), None)
    return None


def _report(fields: dict[str, Any]) -> "TrainReport":
    from maze_core.trainers.fit import Counters, TrainReport

    return TrainReport(**{**fields, "counters": Counters(**fields["counters"])})
