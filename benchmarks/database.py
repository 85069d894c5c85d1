"""How what the service asks of its database grows with what is in it.

    python -m benchmarks.database [--sizes 100 1000 10000 100000] [--points 1000 1000000] [--url postgresql://…]

Fills a fresh SQLite file, or an empty PostgreSQL database, with so many runs of the past beside twenty that wait, each
with a label of all, one of a tenth and one of its own, and runs with so many points of one metric. Medians in
microseconds, of CPU time on SQLite, which works in this process, and of elapsed time on PostgreSQL; ``growth`` is that
of the largest size over that of the smallest.
"""

import argparse
import statistics
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from math import sin
from pathlib import Path
from typing import Any

from sqlalchemy import insert

from benchmarks.report import write_report
from service.domain.run import MetricOrder, MetricPoint, NewRun, RunKind, RunState
from service.domain.use_cases import new_run_id
from service.store import Stores, migrate, open_stores
from service.store.run_rows import row_values
from service.store.tables import run, run_label, run_latest

BATCH = 10_000
N_QUEUED = 20
CONFIG = {"algorithm": {"n_epochs": 5}, "env": {"name": "CartPole-v1"}}
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

    return {
        "get": lambda: runs.get(known),
        "list": lambda: runs.list(),
        "list by a label of all": lambda: runs.list(labels={"all": "x"}),
        "list by a rare label": lambda: runs.list(labels=middle),
        "list by both": lambda: runs.list(labels={"all": "x", **middle}),
        "list by a rare kind": lambda: runs.list(kind=RunKind.EVALUATE),
        "list by a rare state": lambda: runs.list(state=RunState.CANCELLED),
        "list by a metric": lambda: runs.list(sort=by_loss),
        "list by a metric, of a state of most": lambda: runs.list(sort=by_loss, state=RunState.SUCCEEDED),
        "list by a metric, by a rare label": lambda: runs.list(sort=by_loss, labels=middle),
        "statistics": runs.statistics,
        "submit": submit,
        "claim and give back": claim,
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
            values = row_values(_new(str(i))) | {"created_at": at, "started_at": at, "finished_at": at}
            values["state"] = RunState.CANCELLED.value if i < 10 else RunState.SUCCEEDED.value
            values["kind"] = RunKind.EVALUATE.value if i < 5 else RunKind.TRAIN.value
            if 10 <= i < 10 + N_QUEUED:
                values |= {"state": RunState.QUEUED.value, "started_at": None, "finished_at": None}
            rows.append(values)
            said = {"all": "x", "tenth": str(i % 10), "own": str(i)}
            facts = {"run_id": values["id"], "created_at": at}
            latest.append({"run_id": values["id"], "name": "loss", "value": sin(i)})
            labels += [{**facts, "key": key, "value": value} for key, value in said.items()]
        with stores.database.writing() as connection:
            connection.execute(insert(run), rows)
            connection.execute(insert(run_label), labels)
            connection.execute(insert(run_latest), latest)


def _run_with_points(stores: Stores, name: str, points: int) -> str:
    run_id = stores.runs.create(replace(_new(name), priority=1))[0].id
    claimed = stores.runs.claim("benchmark", kinds=list(RunKind), lease_s=3600.0)
    assert claimed is not None
    assert claimed[0].id == run_id
    for start in range(0, points, BATCH):
        epochs = range(start, min(points, start + BATCH))
        made = [MetricPoint(name=name, epoch=epoch, step=epoch, value=sin(epoch)) for epoch in epochs]
        stores.runs.report(claimed[1], metrics=made)
    return run_id


if __name__ == "__main__":
    main()
