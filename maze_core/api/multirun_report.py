"""What a multirun has to tell: each job as it starts and ends, and all of them at the end."""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, TypeGuard

from maze_core.config.grid import SEED
from maze_core.errors import JobFailedError
from maze_core.metrics import Reporter, SilentReporter
from maze_core.rundir import RunDir
from maze_core.types import Tree

if TYPE_CHECKING:
    from maze_core.evaluation.evaluate import RolloutReport
    from maze_core.trainers.fit import TrainReport


@dataclass(frozen=True, kw_only=True)
class JobRecord:
    """One job: what it chose and how it ended."""

    job: int
    """Its number, from 0."""
    choices: Tree
    """Key → what it had there, for every key that was varied or searched."""
    run_dir: Path | None
    """Where it is written; None before the first ``train()``."""
    outcome: "TrainReport | RolloutReport | JobFailedError | None"
    """How it ended; None before that."""
    pruned_at: int | None = None
    """The epoch at which a search gave it up."""
    pruned_value: float | None = None
    """What its evaluation had reached there."""

    @property
    def status(self) -> str:
        """``waiting``, ``done``, ``cancelled``, ``failed``, ``pruned``."""
        if self.pruned_at is not None:
            return "pruned"
        if self.outcome is None:
            return "waiting"
        if isinstance(self.outcome, JobFailedError):
            return "cancelled" if self.outcome.error_type == "Cancelled" else "failed"
        return "cancelled" if self.outcome.stop_reason == "cancelled" else "done"

    @property
    def best_return(self) -> float | None:
        """Best mean return of an evaluation during training; None where it was not trained, or was given up."""
        if self.pruned_at is not None or not is_trained(self.outcome):
            return None
        return self.outcome.counters.best_value

    @property
    def value(self) -> float | None:
        """What a search learns from it: the best return, or what it had when it was given up."""
        return self.best_return if self.pruned_at is None else self.pruned_value

    def to_dict(self) -> Tree:
        """As a JSON object."""
        known: Tree = {
            "job": self.job,
            "choices": self.choices,
            "run_dir": None if self.run_dir is None else self.run_dir.name,
            "status": self.status,
            "best_return": self.best_return,
        }
        if self.pruned_at is not None:
            known |= {"pruned_at": self.pruned_at, "pruned_value": self.pruned_value}
        if isinstance(self.outcome, JobFailedError):
            return {**known, "error": {"type": self.outcome.error_type, "message": self.outcome.message}}
        return known if self.outcome is None else {**known, "report": self.outcome.to_dict()}


@dataclass(frozen=True, kw_only=True)
class Parameters:
    """What some jobs tried, each with another seed."""

    jobs: Sequence[JobRecord]

    @property
    def choices(self) -> Tree:
        """Key → value, without the seed."""
        return {key: value for key, value in self.jobs[0].choices.items() if key != SEED}

    @property
    def value(self) -> float | None:
        """Mean of the jobs' best returns; None until all have ended well."""
        return mean_value([job.best_return for job in self.jobs])


@dataclass(frozen=True, kw_only=True)
class MultirunReport:
    """All jobs of a multirun, in their order; the trials of a search."""

    jobs: Sequence[JobRecord]
    run_dir: Path | None
    """Holds the jobs' directories."""
    search: Tree | None = None
    """What is searched, and with which seed; None where the jobs were known beforehand."""

    @property
    def best(self) -> JobRecord | None:
        """The job with the best evaluation, the earliest of equals; None where none has one.

        Of jobs with several seeds it is the best one of those parameters that are the best in the mean over them.
        """
        scored = [one for one in self.parameters if one.value is not None]
        best = max(scored, key=lambda one: one.value or 0.0, default=None)
        return None if best is None else max(best.jobs, key=lambda job: job.best_return or 0.0)

    @property
    def parameters(self) -> "list[Parameters]":
        """What was tried: jobs that differ in their seeds alone together, in the order of their first ones."""
        found: dict[str, list[JobRecord]] = {}
        for job in self.jobs:
            found.setdefault(repr({**job.choices, SEED: None}), []).append(job)
        return [Parameters(jobs=jobs) for jobs in found.values()]

    def to_dict(self) -> Tree:
        """As a JSON object."""
        best = None if self.best is None else {"job": self.best.job, "choices": self.best.choices}
        search = {} if self.search is None else {"search": self.search}
        return {"best": best, **search, "jobs": [job.to_dict() for job in self.jobs]}

    def write(self) -> None:
        """Store it as ``sweep.json`` beside the jobs' directories."""
        if self.run_dir is not None:
            RunDir(self.run_dir).write_sweep(self.to_dict())


def mean_value(values: Sequence[float | None]) -> float | None:
    """How good parameters are that several seeds have tried; None where one of them has not come to its end."""
    known = [value for value in values if value is not None]
    return math.fsum(known) / len(known) if known and len(known) == len(values) else None


def is_trained(outcome: object) -> "TypeGuard[TrainReport]":
    """Whether this is how a training ended; asks without importing what trains."""
    return hasattr(outcome, "counters")


def is_played(outcome: object) -> "TypeGuard[RolloutReport]":
    """Whether this is how a rollout ended; asks without importing what plays."""
    return hasattr(outcome, "episodes")


class JobsReporter:
    """Is told of the jobs of a multirun; a base that ignores everything."""

    def started(self, job: int, choices: Tree) -> Reporter:
        """A job starts; the reporter takes its progress, metrics and log."""
        return SilentReporter()

    def ended(self, record: JobRecord) -> None:
        """A job ended, or failed."""
