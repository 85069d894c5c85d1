"""The jobs of a multirun in processes of their own, as many at a time as the launcher allows."""

from maze_core.api.job_frames import episode_of, job_request, report_of
from maze_core.api.job_runs import Job, Options, Verb
from maze_core.api.sweep_report import JobsReporter
from maze_core.metrics import Reporter
from maze_core.runners.jobs import JobMessage, JobPool

RUN = "maze_core.api.job:run"
"""What a process is asked to call."""
_POLL_S = 0.1


class JobsInProcesses:
    """Jobs in the processes of a pool; see :class:`~maze_core.api.job_runs.JobRuns`."""

    def __init__(self, pool: JobPool, verb: Verb, options: Options, *, reporter: JobsReporter) -> None:
        """Call ``verb`` of each job's context with these keyword arguments."""
        self._pool = pool
        self._verb, self._options = verb, options
        self._reporter = reporter
        self._running: dict[int, tuple[Job, Reporter]] = {}

    @property
    def n_free(self) -> int:
        """See :class:`~maze_core.api.job_runs.JobRuns`."""
        return self._pool.n_free

    def start(self, job: Job) -> None:
        """See :class:`~maze_core.api.job_runs.JobRuns`."""
        number = job.spec.number
        self._running[number] = job, job.reporter(self._reporter)
        self._pool.start(number, RUN, job_request(job, self._verb, self._options(job)))

    def ended(self) -> list[Job]:
        """See :class:`~maze_core.api.job_runs.JobRuns`."""
        return [job for message in self._pool.messages(_POLL_S) if (job := self._taken(message))]

    def cancel(self) -> None:
        """See :class:`~maze_core.api.job_runs.JobRuns`."""
        self._pool.cancel()

    def _taken(self, message: JobMessage) -> Job | None:
        """The job, where the message ends it."""
        job, reporter = self._running[message.job]
        if message.kind == "event":
            name, args, kwargs = message.value
            if name == "episode":
                args = [episode_of(*args)]
            getattr(reporter, name)(*args, **kwargs)
            return None
        if self._verb == "train":
            job.take_up()
        if message.kind == "done":
            job.outcome = report_of(message.value)
        else:
            found = message.value
            job.outcome = job.failed(found["type"], found["message"], found["details"])
        return job
