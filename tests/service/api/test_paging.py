"""Every list, page by page: with any limit, and whatever is written meanwhile, each row comes once."""

from collections.abc import Callable
from itertools import count
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from service.domain.run import EventType, Lease, MetricPoint, RunKind, StopReason
from service.store import Stores
from tests.contracts.builders import new_checkpoint, new_episode, start, submit
from tests.service.api.client import Client

NAMES = ("eval/mean_return", "train/loss", "a&b=#%41 +", "é")
Row = tuple[object, ...]
_labels = count()


def add_epoch(stores: Stores, lease: Lease, number: int) -> None:
    points = [MetricPoint(name=name, epoch=number, step=number, value=float(number)) for name in NAMES]
    stores.runs.report(lease, metrics=points)


def add_line(stores: Stores, lease: Lease, number: int) -> None:
    stores.runs.report(lease, logs=[("info", str(number))])


def add_episode(stores: Stores, lease: Lease, number: int) -> None:
    stores.episodes.add(lease, new_episode(number), None)


def add_checkpoint(stores: Stores, lease: Lease, number: int) -> None:
    for kind in ("scheduled", "continued"):
        stores.checkpoints.put(lease, new_checkpoint(number // 2, kind, is_last=True), b"x")


def add_event(stores: Stores, lease: Lease, number: int) -> None:
    stores.runs.report(lease, events=[(EventType.WARNING, {"message": str(number)})])


LISTS: dict[str, tuple[Callable[[Stores, Lease, int], None], Callable[[Any], Row]]] = {
    "metrics": (add_epoch, lambda row: (row["epoch"], row["name"])),
    "logs": (add_line, lambda row: (row["seq"],)),
    "episodes": (add_episode, lambda row: (row["index"],)),
    "events": (add_event, lambda row: (row["seq"],)),
}


def pages(
    client: Client, url: str, limit: int, key: Callable[[Any], Row], between: Callable[[], None]
) -> list[Row]:
    """The keys of all rows; between two pages something is written."""
    seen: list[Row] = []
    cursor = None
    while True:
        page = client.get(f"{url}limit={limit}" + (f"&cursor={cursor}" if cursor else "")).json()
        assert 0 < len(page["data"]) <= limit
        seen += [key(row) for row in page["data"]]
        cursor = page["next_cursor"]
        assert page["has_more"] is (cursor is not None)
        if cursor is None:
            return seen
        between()


anything = settings(
    max_examples=12,
    deadline=None,
    suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow],
)


@pytest.mark.parametrize("name", LISTS)
@given(
    limit=st.integers(1, 9),
    numbers=st.lists(st.integers(0, 40), min_size=1, max_size=4),
    n_more=st.integers(0, 2),
)
@anything
def test_each_row_of_a_run_comes_once(
    client: Client, stores: Stores, name: str, limit: int, numbers: list[int], n_more: int
) -> None:
    add, key = LISTS[name]
    run, lease = start(stores, kind=RunKind.ROLLOUT)
    for number in numbers:
        add(stores, lease, number)
    url = f"/v1/runs/{run.id}/{name}?"
    known = pages(client, url, 200, key, lambda: None)
    more = iter(range(n_more))

    def write() -> None:
        for number in more:
            add(stores, lease, 41 + number)
            return

    seen = pages(client, url, limit, key, write)
    assert sorted(set(seen)) == sorted(seen) == seen  # in order, and none twice
    assert set(known) <= set(seen)


@given(limit=st.integers(1, 4), n_checkpoints=st.integers(1, 8))
@anything
def test_each_checkpoint_comes_once(client: Client, stores: Stores, limit: int, n_checkpoints: int) -> None:
    run, lease = start(stores)
    for number in range(n_checkpoints):
        add_checkpoint(stores, lease, number)
    listed = pages(client, f"/v1/runs/{run.id}/checkpoints?", limit, lambda row: (row["id"],), lambda: None)
    assert sorted(listed) == sorted((info.id,) for info in stores.checkpoints.list(run.id, limit=200).data)


@given(limit=st.integers(1, 4), n_runs=st.integers(1, 7))
@anything
def test_each_run_comes_once_while_others_are_made_and_cancelled(
    client: Client, stores: Stores, limit: int, n_runs: int
) -> None:
    label = f"l{next(_labels)}"
    ids = [submit(stores, labels={"paging": label}).id for _ in range(n_runs)]

    def change() -> None:
        stores.runs.request_stop(submit(stores, labels={"paging": label}).id, StopReason.CANCEL)

    url = f"/v1/runs?label.paging={label}&"
    assert pages(client, url, limit, lambda row: (row["id"],), change) == [
        (run_id,) for run_id in reversed(ids)
    ]
