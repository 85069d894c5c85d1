"""How what the service asks of its database grows with what is in it.

    python -m benchmarks.database [--sizes 100 1000 10000 100000] [--points 1000 1000000] [--url postgresql://…]

Fills a fresh SQLite file, or an empty PostgreSQL database, with so many runs of the past beside twenty that wait, each
with a label of all, one of a tenth and one of its own, a name and a metric; with a policy and an ended sweep for each
hundred of them, 50 at least; and runs with so many points of one metric. Medians in microseconds, of CPU time on
SQLite, which works in this process, and of elapsed time on PostgreSQL; ``growth`` is that of the largest size over that
of the smallest.
"""

import argparse
import statistics
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import asdict, replace
from datetime import UTC, datetime, timedelta
from math import sin
from pathlib import Path
from typing import Any

from sqlalchemy import insert, update

from benchmarks.report import write_report
from service.domain.policies import MoveKind
from service.domain.run import MetricOrder, MetricPoint, NewCheckpoint, NewRun, RunKind, RunOrder, RunState
from service.domain.sweep import NewSweep, SweepSpec, SweepState
from service.domain.use_cases import new_run_id
from service.store import Stores, migrate, open_stores
from service.store.points import add_points
from service.store.run_rows import LockedRun, row_values
from service.store.tables import run, run_label, run_latest
from service.store.tables import sweep as sweeps

BATCH = 10_000
PAGE = 50
N_QUEUED = 20
CONFIG = {"algorithm": {"n_epochs": 5}, "env": {"name": "CartPole-v1"}}
_SWEEP: dict[str, Any] = {
    "state": SweepState.SUCCEEDED.value,
    "labels": {},
    "priority": 0,
    "request": {},
    "spec": asdict(SweepSpec(fixed={})),
}
FIRST = datetime(2026, 1, 1, tzinfo=UTC)


def main() -> None:
    """Measure, print the table, write the JSON."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--sizes", type=int, nargs="+", default=[100, 1_000, 10_000, 100_000], help="runs")
    parser.add_argument("--points", type=int, nargs="+", default=[1_000, 1_000_000], help="of one metric")
    parser.add_argument("--calls", type=int, default=50, help="of each kind and size")
    parser.add_argument("--url", help="of an empty PostgreSQL database; a fresh SQLite file when left out")
    options = parser.parse_args()
    clock = time.perf_counter if options.url else time.process_time
    measured: dict[str, dict[int, float]] = {}
    with _stores(options.url) as stores:
        count = 0
        for size in sorted(options.sizes):
            _add_runs(stores, count, size)
            count = size
            for name, call in _calls(stores, size).items():
                measured.setdefault(name, {})[size] = _median_us(call, clock, options.calls)
        for points in sorted(options.points):
            name = f"points_{points}"
            run_id = _run_with_points(stores, name, points)
            call = _chart(stores, run_id, name)
            measured.setdefault("chart of 400 points", {})[points] = _median_us(call, clock, options.calls)
    rows = [_row(name, found) for name, found in measured.items()]
    columns = ["what", *(str(size) for size in sorted({*options.sizes, *options.points})), "growth"]
    write_report("database", rows, columns=columns, settings=vars(options))


def _row(name: str, found: dict[int, float]) -> dict[str, Any]:
    sizes = sorted(found)
    return {
        "what": name,
        **{str(size): found[size] for size in sizes},
        "growth": found[sizes[-1]] / found[sizes[0]],
    }


@contextmanager
def _stores(url: str | None) -> Iterator[Stores]:
    with tempfile.TemporaryDirectory() as folder:
        url = url or f"sqlite:///{Path(folder, 'maze.db')}"
        migrate(url)
        stores = open_stores(url)
        try:
            yield stores
        finally:
            stores.close()


def _calls(stores: Stores, size: int) -> dict[str, Callable[[], object]]:
    """What is measured; ``size`` runs are there."""
    runs = stores.runs
    known = runs.list(limit=1).data[0].id
    middle = {"own": str(size // 2)}
    by_loss = MetricOrder("loss", falls=True)

    def submit() -> object:
        return runs.create(_new("new"), max_queued=10_000)

    def claim() -> object:
        claimed = runs.claim("benchmark", kinds=list(RunKind), lease_s=60.0)
        assert claimed is not None
        return runs.release(claimed[1], reason="benchmark", charge_attempt=False)

    policies, name = stores.policies, f"policy-{size // 200 + 1}"
    version = policies.resolve(name, alias="champion")

    def move() -> object:
        held = policies.alias(name, "champion")
        return policies.move(
            name, "champion", held.version % 2 + 1, kind=MoveKind.SET, revision=held.revision
        )

    def make_sweep() -> object:
        return stores.sweeps.create(NewSweep(id=new_run_id(), request={}, spec=SweepSpec(fixed={})))

    return {
        "get": lambda: runs.get(known),
        "list": lambda: runs.list(),
        "list by a label of all": lambda: runs.list(labels={"all": "x"}),
        "list by a rare label": lambda: runs.list(labels=middle),
        "list by both": lambda: runs.list(labels={"all": "x", **middle}),
        "list by a rare kind": lambda: runs.list(kind=RunKind.EVALUATE),
        "list by a rare state": lambda: runs.list(state=RunState.CANCELLED),
        "list by part of a rare name": lambda: runs.list(name=f"un {size // 2}"),
        "list by name": lambda: runs.list(sort=RunOrder.NAME),
        "list by a metric": lambda: runs.list(sort=by_loss),
        "list by a metric, of a state of most": lambda: runs.list(sort=by_loss, state=RunState.SUCCEEDED),
        "list by a metric, by a rare label": lambda: runs.list(sort=by_loss, labels=middle),
        "list of a sweep": lambda: runs.list(sweep="none"),
        "statistics": runs.statistics,
        "submit": submit,
        "claim and give back": claim,
        "policies": lambda: policies.list(),
        "policy by its alias": lambda: policies.resolve(name, alias="champion"),
        "versions of a policy": lambda: policies.versions(name),
        "history of an alias": lambda: policies.history(name, "champion"),
        "move an alias": move,
        "checkpoint of a version": lambda: stores.checkpoints.get(version.checkpoint),
        "sweeps": lambda: stores.sweeps.list(),
        "sweeps at work": stores.sweeps.active,
        "submit a sweep": make_sweep,
    }


def _chart(stores: Stores, run_id: str, name: str) -> Callable[[], object]:
    return lambda: stores.runs.chart(run_id, name, max_points=400)


def _median_us(call: Callable[[], object], clock: Callable[[], float], n_calls: int) -> float:
    call()
    times = []
    for _ in range(n_calls):
        began = clock()
        call()
        times.append(clock() - began)
    return statistics.median(times) * 1e6


def _new(name: str) -> NewRun:
    kind = RunKind.TRAIN
    return NewRun(
        id=new_run_id(), kind=kind, request={}, config=CONFIG, config_sha256=None, seed=1, name=name
    )


def _add_runs(stores: Stores, first: int, end: int) -> None:
    """Runs of the past, one a second; the first ones still wait, and a few are of a rare kind or state."""
    for start in range(first, end, BATCH):
        rows, labels, latest = [], [], []
        for i in range(start, min(end, start + BATCH)):
            at = FIRST + timedelta(seconds=i)
            values = row_values(_new(f"run {i}")) | {"created_at": at, "started_at": at, "finished_at": at}
            values["state"] = RunState.CANCELLED.value if i < 10 else RunState.SUCCEEDED.value
            values["kind"] = RunKind.EVALUATE.value if i < 5 else RunKind.TRAIN.value
            if 10 <= i < 10 + N_QUEUED:
                values |= {"state": RunState.QUEUED.value, "started_at": None, "finished_at": None}
            rows.append(values)
            said = {"all": "x", "tenth": str(i % 10), "own": str(i)}
            facts = {"run_id": values["id"], "created_at": at}
            labels += [{**facts, "key": key, "value": value} for key, value in said.items()]
            latest.append({"run_id": values["id"], "name": "loss", "value": float(i * 7919 % 10_007)})
        with stores.database.writing() as connection:
            connection.execute(insert(run), rows)
            connection.execute(insert(run_label), labels)
            connection.execute(insert(run_latest), latest)
    with stores.database.writing() as connection:
        ended = [
            {**_SWEEP, "id": f"sweep_{number}", "created_at": FIRST + timedelta(hours=number)}
            for number in range(_share(first), _share(end))
        ]
        connection.execute(insert(sweeps), ended)
    for number in range(_share(first), _share(end)):
        _add_policy(stores, f"policy-{number}")


def _share(n_runs: int) -> int:
    """Policies and sweeps beside so many runs: a page of them at least."""
    return max(PAGE, n_runs // 100) if n_runs else 0


def _add_policy(stores: Stores, name: str) -> None:
    """A policy of two versions, whose alias has moved once: the checkpoints of a run that went before all others."""
    stores.runs.create(replace(_new(name), priority=1))
    claimed = stores.runs.claim("benchmark", kinds=[RunKind.TRAIN], lease_s=60.0)
    assert claimed is not None
    stores.policies.create(name)
    for epoch in (1, 2):
        content = f"{name}/{epoch}"
        new = NewCheckpoint(
            epoch=epoch,
            step=epoch,
            kind="scheduled",
            metrics={},
            content_sha256=content,
            weights_sha256=content,
            servable=True,
            not_servable_reason=None,
            is_best=epoch == 1,
            is_last=epoch == 2,
        )
        info = stores.checkpoints.put(claimed[1], new, content.encode())
        stores.policies.add_version(name, info.id)
        stores.policies.move(name, "champion", epoch, kind=MoveKind.SET, revision=epoch - 1 or None)
    stores.runs.finish(claimed[1], RunState.SUCCEEDED, reason="completed")
    with stores.database.writing() as connection:  # it ended long ago, as the others did
        ended = update(run).where(run.c.id == claimed[0].id)
        connection.execute(ended.values(created_at=FIRST, started_at=FIRST, finished_at=FIRST))


def _run_with_points(stores: Stores, name: str, points: int) -> str:
    run_id = stores.runs.create(_new(name))[0].id
    for start in range(0, points, BATCH):
        epochs = range(start, min(points, start + BATCH))
        values = [MetricPoint(name=name, epoch=epoch, step=epoch, value=sin(epoch)) for epoch in epochs]
        with stores.database.writing() as connection:
            locked = LockedRun.by_id(connection, run_id)
            add_points(connection, locked, values)
            locked.write()
    return run_id


if __name__ == "__main__":
    main()
