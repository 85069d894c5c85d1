"""Eight real processes on one database: nothing is lost, nothing is done twice."""

import multiprocessing
from collections.abc import Callable, Iterator
from multiprocessing.pool import Pool
from typing import Any

import pytest
from sqlalchemy import insert, select, update

from service.domain.errors import StaleLeaseError
from service.domain.run import EventType, RunKind, RunState
from service.store import Stores, open_stores
from service.store.tables import worker
from service.store.types import now
from tests.contracts.builders import new_run, submit

N_PROCESSES = 8
N_INCREMENTS = 15
N_RUNS = 40


@pytest.fixture(scope="module")
def pool() -> Iterator[Pool]:
    context = multiprocessing.get_context("forkserver")  # imports once, and forks before any engine exists
    context.set_forkserver_preload(["service.store"])
    with context.Pool(N_PROCESSES) as pool:
        yield pool


def in_every_process(pool: Pool, act: Callable[..., Any], *arguments: object) -> list[Any]:
    """Call ``act(number, *arguments)`` once per process, all at the same time."""
    jobs = [(number, *arguments) for number in range(N_PROCESSES)]
    return pool.starmap(act, jobs, chunksize=1)


def increment(_number: int, url: str) -> None:
    stores = open_stores(url)
    counter = worker.c.id == "counter"
    for _ in range(N_INCREMENTS):
        with stores.database.writing() as connection:
            value = connection.execute(select(worker.c.info).where(counter).with_for_update()).scalar_one()
            connection.execute(update(worker).where(counter).values(info=value + 1))
    stores.close()


def work_off(number: int, url: str) -> list[str]:
    """Claim and finish runs until there are none."""
    stores = open_stores(url)
    done = []
    while claimed := stores.runs.claim(f"worker-{number}", kinds=list(RunKind), lease_s=30):
        run, lease = claimed
        stores.runs.report(lease, events=[(EventType.PROGRESS, {"worker": number})])
        stores.runs.finish(lease, RunState.SUCCEEDED, reason="completed")
        done.append(run.id)
    stores.close()
    return done


def fight_over_one_run(number: int, url: str, run_id: str) -> int:
    """Claim with a lease that has lapsed already, reap, and write; counts the writes that were let through."""
    stores = open_stores(url)
    written = 0
    for _ in range(5):
        claimed = stores.runs.claim(f"worker-{number}", kinds=list(RunKind), lease_s=-1)
        stores.runs.reap(max_attempts=10_000)
        if claimed is not None:
            try:
                stores.runs.report(
                    claimed[1], events=[(EventType.PROGRESS, {"epoch": claimed[1].epoch_token})]
                )
                written += 1
            except StaleLeaseError:
                pass
    stores.close()
    return written


def submit_with_key(_number: int, url: str) -> str:
    stores = open_stores(url)
    run, _ = stores.runs.create(new_run(), ("one-key", "digest"))
    stores.close()
    return run.id


def test_read_modify_write_loses_no_update(pool: Pool, stores: Stores, database_url: str) -> None:
    with stores.database.writing() as connection:
        connection.execute(insert(worker).values(id="counter", info=0, last_seen_at=now()))
    in_every_process(pool, increment, database_url)
    with stores.database.reading() as connection:
        assert connection.execute(select(worker.c.info)).scalar_one() == N_PROCESSES * N_INCREMENTS


def test_every_run_is_claimed_once(pool: Pool, stores: Stores, database_url: str) -> None:
    submitted = [submit(stores).id for _ in range(N_RUNS)]
    done = [run_id for ids in in_every_process(pool, work_off, database_url) for run_id in ids]
    assert sorted(done) == sorted(submitted)
    found = {key: facts.count for key, facts in stores.runs.statistics().items()}
    assert found == {(RunKind.TRAIN, RunState.SUCCEEDED): N_RUNS}
    for run_id in submitted:
        assert [event.seq for event in stores.runs.events(run_id)] == [1, 2, 3, 4, 5]
        assert stores.runs.get(run_id).attempt == 1


def test_events_stay_gapless_while_workers_lose_a_run(pool: Pool, stores: Stores, database_url: str) -> None:
    run = submit(stores)
    written = sum(in_every_process(pool, fight_over_one_run, database_url, run.id))
    events = stores.runs.events(run.id, limit=10_000)
    assert [event.seq for event in events] == list(range(1, len(events) + 1))
    assert sum(event.type is EventType.PROGRESS for event in events) == written
    claims = [event for event in events if event.data.get("state") == "running"]
    assert len(claims) == stores.runs.get(run.id).epoch_token


def test_one_idempotency_key_makes_one_run_over_processes(pool: Pool, database_url: str) -> None:
    assert len(set(in_every_process(pool, submit_with_key, database_url))) == 1
