"""Who works, what waits and how much is stored: what an operator looks at first."""

from dataclasses import replace
from typing import Any

from fastapi import APIRouter

from service.api.answers import Listing, Out, Time
from service.api.dependencies import CallerDep, ServicesDep, require_scope
from service.domain import fleet
from service.domain.fleet import WaitsFor
from service.domain.run import Run, RunKind, RunState
from service.domain.sharing import Scope
from service.domain.use_cases import LEASED_STATES
from service.installed import versions

router = APIRouter(prefix="/v1", tags=["service"], dependencies=[require_scope(Scope.RUNS_READ)])


class HeldRunOut(Out):
    """A run in a slot."""

    id: str
    kind: RunKind
    state: RunState
    name: str | None
    phase: str | None
    started_at: Time | None
    """When its first attempt began."""
    links: dict[str, str]


class WorkerOut(Out):
    """A worker that is alive."""

    id: str
    host: str | None
    versions: dict[str, str]
    """Of Python and of the packages that decide what a run does."""
    extras: list[str]
    """Extras of this distribution that are installed there; ``video`` films rollouts."""
    environments: str
    """``published``, ``pending`` until it has said which it has, or why it cannot."""
    n_slots: int
    """Runs that it takes at once."""
    n_training_slots: int
    """How many of them may be trainings."""
    n_free: int
    silent_s: float
    """Seconds since its last sign of life."""
    runs: list[HeldRunOut]


class KindQueueOut(Out):
    """The runs of a kind that have not ended."""

    kind: RunKind
    queued: int
    oldest_s: float | None
    """Seconds since the oldest queued one was submitted."""
    waits_for: WaitsFor | None
    """``worker`` where none is alive, ``slot`` where all that would take it are busy, ``turn`` where one is free."""
    running: int
    """With those that are stopping."""
    n_free: int
    """Free slots that take this kind."""


class SlotsOut(Out):
    """The slots of all live workers."""

    total: int
    busy: int
    free: int


class StorageOut(Out):
    """What is stored."""

    kind: str
    """``sqlite`` or ``postgresql``."""
    size_bytes: int
    """Of the database, with its journal."""
    n_blobs: int
    """Pieces that checkpoints and episodes are stored in; equal ones are stored once."""
    blob_bytes: int
    free_bytes: int | None
    """Left on the disk where the service writes; null where it cannot be known."""


class StatusOut(Out):
    """Workers, queue and storage at a glance."""

    version: str
    """Of the service."""
    n_workers: int
    """Those that are alive."""
    slots: SlotsOut
    queue: list[KindQueueOut]
    """Each kind of run."""
    database: StorageOut


@router.get("/workers")
def list_workers(services: ServicesDep, caller: CallerDep) -> Listing[WorkerOut]:
    """Workers that are alive, by id: where they are, what they have, and what each runs now for this project."""
    return Listing(data=[_worker(each, caller.project) for each in services.look().workers])


@router.get("/status")
def get_status(services: ServicesDep) -> StatusOut:
    """The project's queue by kind, free slots, and the size of the database."""
    seen = replace(services.look(), statistics=services.runs.statistics())
    return StatusOut(
        version=versions()["maze-service"],
        n_workers=len(seen.workers),
        slots=SlotsOut(total=seen.n_slots, busy=seen.n_busy, free=seen.n_free()),
        queue=[_queue(seen, kind) for kind in RunKind],
        database=StorageOut.model_validate(services.storage()),
    )


def _queue(seen: fleet.Fleet, kind: RunKind) -> KindQueueOut:
    return KindQueueOut(
        kind=kind,
        queued=seen.count(kind, RunState.QUEUED),
        oldest_s=seen.oldest_s(kind),
        waits_for=seen.waits_for(kind),
        running=seen.count(kind, *LEASED_STATES),
        n_free=seen.n_free(kind),
    )


def _worker(worker: fleet.Worker, project: str) -> WorkerOut:
    facts: dict[str, Any] = {
        "host": None,
        "versions": {},
        "extras": [],
        "environments": "pending",
        **worker.facts,
    }
    said = str(facts["environments"]).splitlines() or ["pending"]
    return WorkerOut(
        id=worker.id,
        host=facts["host"],
        versions=facts["versions"],
        extras=facts["extras"],
        environments=said[-1],
        n_slots=worker.n_slots,
        n_training_slots=fleet.training_slots(worker.n_slots),
        n_free=worker.n_free(),
        silent_s=worker.silent_s,
        runs=[_held(run) for run in worker.runs if run.project == project],
    )


def _held(run: Run) -> HeldRunOut:
    facts = {name: getattr(run, name) for name in HeldRunOut.model_fields if name != "links"}
    return HeldRunOut(**facts, links={"self": f"/v1/runs/{run.id}"})
