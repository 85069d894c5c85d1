"""Workers, their slots, the queue before them and what is stored, counted in one place for the API and Prometheus."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal, TypeAlias

from service.domain.ports import RegistryStore, RunStore
from service.domain.run import Run, RunKind, RunState, RunStatistics

WaitsFor: TypeAlias = Literal["worker", "slot", "turn"]


@dataclass(frozen=True, kw_only=True)
class Storage:
    """What is stored, and how much more can be."""

    kind: Literal["sqlite", "postgresql"]
    size_bytes: int
    """Of the database, with its journal."""
    n_blobs: int
    """Pieces that checkpoints and episodes are stored in, equal ones once; large ones lie beside the database."""
    blob_bytes: int
    free_bytes: int | None
    """Left where database and large pieces lie; None where it cannot be known."""


def training_slots(n_slots: int) -> int:
    """Slots that may train: of several one is kept for what is short."""
    return max(1, n_slots - 1)


@dataclass(frozen=True, kw_only=True)
class Worker:
    """A worker that is alive, and what it runs now."""

    id: str
    silent_s: float
    """Seconds since its last sign of life."""
    facts: Mapping[str, Any]
    """What it says of itself; one of an earlier version says less."""
    runs: Sequence[Run]

    @property
    def n_slots(self) -> int:
        """Runs that it takes at once."""
        return int(self.facts.get("slots", 0))

    def n_free(self, kind: RunKind | None = None) -> int:
        """Free slots, or those that would take a run of this kind."""
        free = self.n_slots - len(self.runs)
        if kind is RunKind.TRAIN:
            n_training = sum(run.kind is RunKind.TRAIN for run in self.runs)
            free = min(free, training_slots(self.n_slots) - n_training)
        return max(0, free)


@dataclass(frozen=True, kw_only=True)
class Fleet:
    """What the database knows of workers and runs at one time."""

    workers: Sequence[Worker]
    statistics: Mapping[tuple[RunKind, RunState], RunStatistics]

    @property
    def n_slots(self) -> int:
        """Slots of all workers."""
        return sum(worker.n_slots for worker in self.workers)

    @property
    def n_busy(self) -> int:
        """Runs in these slots."""
        return sum(len(worker.runs) for worker in self.workers)

    def n_free(self, kind: RunKind | None = None) -> int:
        """Free slots, or those that would take a run of this kind."""
        return sum(worker.n_free(kind) for worker in self.workers)

    def count(self, kind: RunKind, *states: RunState) -> int:
        """Runs of a kind in these states."""
        found = (self.statistics.get((kind, state)) for state in states)
        return sum(each.count for each in found if each)

    def oldest_s(self, kind: RunKind) -> float | None:
        """Seconds that the oldest queued run of a kind has waited; None where none waits."""
        queued = self.statistics.get((kind, RunState.QUEUED))
        return queued.oldest_s if queued else None

    def waits_for(self, kind: RunKind) -> WaitsFor | None:
        """What queued runs of a kind wait for: a worker, a free slot, or but their turn; None where none waits."""
        if not self.count(kind, RunState.QUEUED):
            return None
        if not self.workers:
            return "worker"
        return "turn" if self.n_free(kind) else "slot"


def look(runs: RunStore, registry: RegistryStore, within_s: float) -> Fleet:
    """Ask both stores; a worker silent for longer than ``within_s`` is none."""
    held: dict[str | None, list[Run]] = {}
    for run in runs.held():
        held.setdefault(run.worker, []).append(run)
    workers = [
        Worker(id=name, silent_s=facts["last_seen_s"], facts=facts, runs=held.get(name, ()))
        for facts in registry.live_workers(within_s)
        if (name := facts["worker"])
    ]
    return Fleet(workers=workers, statistics=runs.statistics())
