"""Run rows and run objects, both ways."""

from collections.abc import Mapping, Sequence
from dataclasses import asdict
from typing import Any

from sqlalchemy import Connection, Row, select

from service.domain.run import Best, NewRun, Progress, Run, RunKind, RunState
from service.store.tables import run_label


def row_values(new: NewRun) -> dict[str, Any]:
    """The columns of a queued run; the caller adds its times."""
    return {
        "id": new.id,
        "kind": new.kind.value,
        "state": RunState.QUEUED.value,
        "name": new.name,
        "progress": asdict(Progress()),
        "latest_metrics": {},
        "seed": new.seed,
        "request": dict(new.request),
        "config": dict(new.config),
        "config_sha256": new.config_sha256,
        "source_run": new.source_run,
        "source_checkpoint": new.source_checkpoint,
        "attempt": 0,
        "epoch_token": 0,
        "last_seq": 0,
        "last_log_seq": 0,
    }


def run_of(row: Row[Any], labels: Mapping[str, str]) -> Run:
    """The run that a row of the ``run`` table and its labels describe."""
    return Run(
        id=row.id,
        kind=RunKind(row.kind),
        state=RunState(row.state),
        name=row.name,
        labels=labels,
        reason=row.reason,
        phase=row.phase,
        progress=Progress(**row.progress),
        latest_metrics=row.latest_metrics,
        best=None if row.best is None else Best(**row.best),
        result=row.result,
        error=row.error,
        seed=row.seed,
        request=row.request,
        config=row.config,
        config_sha256=row.config_sha256,
        source_run=row.source_run,
        source_checkpoint=row.source_checkpoint,
        attempt=row.attempt,
        cancel_requested=row.cancel_reason is not None,
        worker=row.worker,
        epoch_token=row.epoch_token,
        created_at=row.created_at,
        started_at=row.started_at,
        finished_at=row.finished_at,
    )


def labels_of(connection: Connection, run_ids: Sequence[str]) -> dict[str, dict[str, str]]:
    """Labels per run id; every id has an entry."""
    labels: dict[str, dict[str, str]] = {run_id: {} for run_id in run_ids}
    query = select(run_label).where(run_label.c.run_id.in_(run_ids)).order_by(run_label.c.key)
    for row in connection.execute(query):
        labels[row.run_id][row.key] = row.value
    return labels


def runs_of(connection: Connection, rows: Sequence[Row[Any]]) -> list[Run]:
    """Runs with their labels, in the order of the rows."""
    labels = labels_of(connection, [row.id for row in rows])
    return [run_of(row, labels[row.id]) for row in rows]
