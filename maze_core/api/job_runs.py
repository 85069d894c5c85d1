"""Where the jobs of a multirun run: side by side in processes, or here where no other process can.

Either way the next job is asked for only when there is room for it, so that a search knows the outcomes so far, and
after a cancel none is begun.
"""

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any

from maze_core.api.jobs import Job
from maze_core.api.multirun_report import JobsReporter
from maze_core.api.remote_job import RUN, Verb, relay, report_of, request
from maze_core.api.run import Cancelled
from maze_core.errors import USER_CODE_ERRORS
from maze_core.metrics import Reporter, SilentReporter
from maze_core.runners.jobs import JobPool

_POLL_S = 0.1


@dataclass(frozen=True, kw_only=True)
class Call:
    """What jobs are asked to do, and who is told."""

    verb: Verb
    options: Callable[[Job], Mapping[str, Any]]
    """Keyword arguments of the verb, for each job; plain values."""
    reporter: JobsReporter
    cancelled: Cancelled
    """Asked all the time; True lets running jobs end with what they have."""
    on_end: Callable[[Job], None]
    """Is told of every job, with its outcome."""

    def started(self, job: Job) -> Reporter:
        """Say that a job starts; who is told of it."""
        return self.reporter.started(job.spec.number, job.spec.choices) or SilentReporter()

    def ended(self, job: Job) -> None:
        """Go on with what a training has stored, whether it ran here or elsewhere and however it ended; say so."""
        if self.verb == "train" and job.run is not None:
            job.is_live = True
            job.run.take_up(is_live=True)
        self.on_end(job)


def run_here(jobs: Iterator[Job], call: Call) -> None:
    """Run jobs in this process, one after the other."""
    while not call.cancelled() and (job := next(jobs, None)):
        if job.run is None or job.outcome is not None:
            call.on_end(job)
            continue
        reporter = call.started(job)
        try:
            verb = job.run.train if call.verb == "train" else job.run.rollout
            job.outcome = verb(reporter=reporter, cancelled=call.cancelled, **call.options(job))
        except USER_CODE_ERRORS as error:  # whatever a job raises is its result
            job.outcome = job.failed(type(error).__name__, str(error))
            job.outcome.__cause__ = error
        call.ended(job)


def run_in_processes(jobs: Iterator[Job], call: Call, pool: JobPool) -> None:
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
                continue
            del running[message.job]
            if message.kind == "done":
                job.outcome = report_of(message.value)
            else:
                found = message.value
                job.outcome = job.failed(found["type"], found["message"], found["details"])
            call.ended(job)
