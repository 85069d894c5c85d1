"""What a worker does when processes die, hang or lose the database: no run is lost, none is written by two."""

import os
import signal
import time

import pytest

from service.domain.run import RunKind, RunState, StopReason
from tests.service.worker.conftest import PATIENCE_S, Bench, eventually

RUN = {"n": 60, "sleep_s": 0.05}
LONG = {"n": 2000, "sleep_s": 0.05}

LEASE = {"lease_s": 5.0, "heartbeat_s": 0.5}
"""Short, for tests that wait until it lapses; long enough to be kept on a busy machine."""


def counted_once(bench: Bench, run_id: str) -> bool:
    """Whether the metrics are those of an undisturbed run."""
    values = [point.value for point in bench.stores.runs.metrics(run_id)]
    return values == [float(number) for number in range(1, RUN["n"] + 1)]  # type: ignore[call-overload]


def test_a_killed_child_is_started_again_from_its_last_checkpoint(working: Bench) -> None:
    run_id = working.submit(**RUN)
    working.wait_for_epoch(run_id, 3)
    working.child_of(run_id).kill()
    run = working.wait_for_end(run_id)
    assert (run.state, run.attempt) == (RunState.SUCCEEDED, 2)
    assert run.result is not None
    assert run.result["first"] >= 3
    assert working.output(run_id) == ["attempt 1 from 0", f"attempt 2 from {run.result['first']}"]
    assert "killed by SIGKILL" in working.log(run_id)
    assert counted_once(working, run_id)


def test_a_killed_worker_takes_its_child_along_and_another_one_goes_on(bench: Bench) -> None:
    worker = bench.worker()
    run_id = bench.submit(**RUN)
    bench.wait_for_epoch(run_id, 3)
    child = bench.child_of(run_id)
    directory = child.cwd()
    worker.kill()
    child.wait(PATIENCE_S)
    assert not os.path.exists(directory)
    assert os.path.exists(os.path.dirname(directory))

    bench.end_lease(run_id)
    bench.worker()
    eventually(lambda: not os.path.exists(os.path.dirname(directory)), "the end of the worker's directory")
    run = bench.wait_for_end(run_id)
    assert (run.state, run.attempt) == (RunState.SUCCEEDED, 2)
    assert "queued" in bench.states(run_id)[1:]
    assert counted_once(bench, run_id)


def test_a_child_that_cannot_notice_dies_with_its_worker_as_well(bench: Bench) -> None:
    worker = bench.worker(is_warm=True)
    frozen, counting = bench.submit(frozen=True), bench.submit(RunKind.EVALUATE, **LONG)
    bench.wait_for_phase(frozen)
    bench.wait_for_epoch(counting, 1)
    children = [bench.child_of(run_id) for run_id in (frozen, counting)]
    directory = children[1].cwd()
    worker.kill()
    for child in children:
        child.wait(PATIENCE_S)
    eventually(lambda: not os.path.exists(os.path.dirname(directory)), "the end of the worker's directory")


def test_a_worker_that_slept_through_its_lease_writes_nothing_more(bench: Bench) -> None:
    sleeper = bench.worker(**LEASE)
    run_id = bench.submit(**RUN)
    bench.wait_for_epoch(run_id, 3)
    child = bench.child_of(run_id)
    bench.stop_outside_transactions(sleeper)

    other = bench.worker(**LEASE)
    ended = bench.wait_for_end(run_id)
    assert (ended.state, ended.attempt) == (RunState.SUCCEEDED, 2)
    events = bench.stores.runs.events(run_id, limit=10_000)

    sleeper.send_signal(signal.SIGCONT)
    child.wait(PATIENCE_S)
    other.kill()
    again = bench.wait_for_end(bench.submit(n=1))  # the sleeper is awake and works
    assert again.state is RunState.SUCCEEDED
    assert bench.run(run_id) == ended
    assert bench.stores.runs.events(run_id, limit=10_000) == events
    assert counted_once(bench, run_id)


def test_a_freeze_of_everything_costs_no_attempt(bench: Bench) -> None:
    """Worker and child stand still for longer than the lease, as in a frozen container, and go on together."""
    worker = bench.worker(**LEASE)
    run_id = bench.submit(**LONG)
    bench.wait_for_epoch(run_id, 3)
    child = bench.child_of(run_id)
    bench.stop_outside_transactions(worker)
    child.suspend()
    time.sleep(LEASE["lease_s"] + 1.0)
    epoch = bench.run(run_id).progress.epoch or 0
    worker.send_signal(signal.SIGCONT)
    child.resume()
    bench.wait_for_epoch(run_id, epoch + 40)
    run = bench.run(run_id)
    assert (run.state, run.attempt, run.worker) == (RunState.RUNNING, 1, bench.run(run_id).worker)
    assert child.is_running()


def test_a_child_that_is_killed_again_and_again_goes_on_as_long_as_it_gets_further(bench: Bench) -> None:
    bench.worker(max_attempts=2)
    run_id = bench.submit(**LONG)
    for attempt in range(1, 4):
        eventually(lambda: bench.run(run_id).free_attempts == attempt, "a new checkpoint")  # noqa: B023
        assert bench.run(run_id).attempt == attempt
        bench.child_of(run_id).kill()
        eventually(lambda: bench.run(run_id).attempt > attempt, "the next attempt")  # noqa: B023
    assert bench.run(run_id).free_attempts == 3


def test_a_worker_without_its_database_gives_up_before_others_may_claim(bench: Bench) -> None:
    """A writer holds the database until the child is dead: nothing but the worker's own clock can have done it."""
    bench.worker(**LEASE)
    run_id = bench.submit(**LONG)
    bench.wait_for_epoch(run_id, 3)
    child = bench.child_of(run_id)
    with bench.held():
        child.wait(PATIENCE_S)
    eventually(lambda: len(bench.output(run_id)) == 2, "a second attempt")
    assert "attempt 2 from" in bench.output(run_id)[1]
    assert bench.run(run_id).attempt == 2


def test_a_run_that_kills_its_process_ends_after_its_attempts_and_harms_no_other(working: Bench) -> None:
    poison = working.submit(n=5, die="segfault", die_before=1)
    neighbour = working.submit(n=3)
    run = working.wait_for_end(poison)
    assert (run.state, run.reason, run.attempt) == (RunState.FAILED, "attempts_exhausted", 3)
    assert run.error is not None
    assert run.error["signal"] == signal.SIGSEGV
    assert "SIGSEGV" in run.error["message"]
    assert "Segmentation fault" in working.log(poison)
    assert working.wait_for_end(neighbour).attempt == 1


def test_a_run_that_kills_its_process_after_each_checkpoint_ends_though_it_dies_often(bench: Bench) -> None:
    bench.worker(max_attempts=2)
    run = bench.wait_for_end(bench.submit(n=4, die="segfault", die_at=1, die_attempts=99))
    assert (run.state, run.attempt) == (RunState.SUCCEEDED, 5)


@pytest.mark.parametrize(
    ("how", "reason"), [("memory", "out_of_memory"), ("exit", "child_ended"), ("segfault", "child_killed")]
)
def test_a_failure_that_may_pass_is_tried_again(working: Bench, how: str, reason: str) -> None:
    run_id = working.submit(n=5, die=how, die_at=3)
    run = working.wait_for_end(run_id)
    assert (run.state, run.attempt) == (RunState.SUCCEEDED, 2)
    assert run.result is not None
    assert run.result["first"] == 3
    reasons = [event.data.get("reason") for event in working.stores.runs.events(run_id)]
    assert reason in reasons


def test_a_damaged_checkpoint_is_passed_over_for_the_one_before(bench: Bench) -> None:
    from sqlalchemy import select, update

    from service.store.tables import blob_chunk, checkpoint

    worker = bench.worker()
    run_id = bench.submit(**LONG)
    bench.wait_for_epoch(run_id, 4)
    bench.stop_outside_transactions(worker)
    bench.child_of(run_id).kill()
    newest, before = _scheduled(bench, run_id)[:2]
    digest = select(checkpoint.c.blob_sha256).where(checkpoint.c.id == newest.id).scalar_subquery()
    with bench.stores.database.writing() as connection:
        damaged = update(blob_chunk).where(blob_chunk.c.sha256 == digest).values(data=b"damaged")
        assert connection.execute(damaged).rowcount == 1
    worker.kill()

    bench.end_lease(run_id)
    bench.worker()
    eventually(lambda: len(bench.output(run_id)) == 2, "a second attempt")
    assert bench.output(run_id)[1] == f"attempt 2 from {before.epoch}"
    assert newest.id in bench.log(run_id)


def test_a_cancel_that_its_worker_did_not_live_to_see_is_followed_by_the_next(bench: Bench) -> None:
    worker = bench.worker()
    run_id = bench.submit(**LONG)
    bench.wait_for_epoch(run_id, 2)
    worker.kill()
    bench.stores.runs.request_stop(run_id, StopReason.CANCEL)
    bench.end_lease(run_id)
    bench.worker()
    run = bench.wait_for_end(run_id)
    assert (run.state, run.reason) == (RunState.CANCELLED, "user_cancel")
    assert len(bench.output(run_id)) == 1


def test_a_worker_ends_when_its_forkserver_does(bench: Bench) -> None:
    """A second forkserver would be started with the environment and the connections of the worker."""
    import psutil

    worker = bench.worker()
    eventually(lambda: bench.stores.registry.live_workers(PATIENCE_S), "a worker")
    family = psutil.Process(worker.pid).children()
    (server,) = [process for process in family if "forkserver" in " ".join(process.cmdline())]
    server.kill()
    assert worker.wait(PATIENCE_S) == 1


def _scheduled(bench: Bench, run_id: str) -> list:  # type: ignore[type-arg]
    page = bench.stores.checkpoints.list(run_id)
    return [info for info in page.data if info.kind == "scheduled"]
