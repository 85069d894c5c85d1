"""Runs and checkpoints in memory, which count what they are asked."""

from dataclasses import dataclass, field
from datetime import UTC, datetime
from types import SimpleNamespace
from typing import Any

from service.domain.errors import NotFoundError, StoreUnavailableError
from service.domain.run import CheckpointInfo, Page, Run, RunKind, RunState


@dataclass
class MemoryStores:
    """Runs and checkpoints in dicts, and a list of the questions that were asked."""

    known_runs: dict[str, Run] = field(default_factory=dict)
    infos: dict[str, CheckpointInfo] = field(default_factory=dict)
    bundles: dict[str, bytes] = field(default_factory=dict)
    best: dict[str, str] = field(default_factory=dict)
    asked: list[tuple[str, ...]] = field(default_factory=list)
    is_down: bool = False

    episodes = uploads = policies = sweeps = webhooks = sessions = registry = audit = None

    @property
    def runs(self) -> Any:
        return _Runs(self)

    @property
    def checkpoints(self) -> Any:
        return _Checkpoints(self)

    @property
    def projects(self) -> Any:
        """Everything is the default project's."""
        return SimpleNamespace(owns=lambda project, kind, id_: True)

    def add_run(self, run_id: str, kind: RunKind = RunKind.TRAIN, state: RunState = RunState.RUNNING) -> None:
        self.known_runs[run_id] = Run(id=run_id, kind=kind, state=state, created_at=datetime.now(UTC))

    def add(self, run_id: str, checkpoint_id: str, bundle: bytes, servable: bool = True) -> None:
        """A run's new best checkpoint."""
        if run_id not in self.known_runs:
            self.add_run(run_id)
        self.infos[checkpoint_id] = CheckpointInfo(
            id=checkpoint_id,
            run_id=run_id,
            epoch=len(self.infos),
            step=0,
            kind="best",
            metrics={},
            content_sha256="",
            weights_sha256="",
            size_bytes=len(bundle),
            servable=servable,
            not_servable_reason=None if servable else "MonitoringWrapper overrides step().",
            created_at=datetime.now(UTC),
        )
        self.bundles[checkpoint_id] = bundle
        self.best[run_id] = checkpoint_id

    def _get_run(self, run_id: str) -> Run:
        self.asked.append(("run", run_id))
        if run_id not in self.known_runs:
            raise NotFoundError(f"There is no run {run_id}.")
        return self.known_runs[run_id]

    def _resolve(self, run_id: str, selector: str) -> CheckpointInfo:
        self.asked.append(("resolve", run_id, selector))
        if self.is_down:
            raise StoreUnavailableError("The database does not answer.")
        wanted = self.best.get(run_id) if selector == "best" else selector
        info = self.infos.get(wanted or "")
        if info is None or info.run_id != run_id:
            raise NotFoundError(f"Run {run_id} has no checkpoint {selector}.")
        return info

    def _read(self, checkpoint_id: str) -> bytes:
        self.asked.append(("read", checkpoint_id))
        if checkpoint_id not in self.bundles:
            raise NotFoundError(f"Checkpoint {checkpoint_id} does not match its digest.")
        return self.bundles[checkpoint_id]

    def _list(self, run_id: str, *, limit: int = 50) -> Page:
        data = [info for info in self.infos.values() if info.run_id == run_id]
        return Page(data=data[:limit], next_cursor=None)

    def count(self, *question: str) -> int:
        """How often this was asked, by the question's first words."""
        return sum(asked[: len(question)] == question for asked in self.asked)


@dataclass
class _Runs:
    stores: MemoryStores

    def get(self, run_id: str) -> Run:
        return self.stores._get_run(run_id)


@dataclass
class _Checkpoints:
    stores: MemoryStores

    def resolve(self, run_id: str, selector: str) -> CheckpointInfo:
        return self.stores._resolve(run_id, selector)

    def read(self, checkpoint_id: str) -> bytes:
        return self.stores._read(checkpoint_id)

    def list(self, run_id: str, *, limit: int = 50) -> Page:
        return self.stores._list(run_id, limit=limit)
