"""Whole worker processes on a temporary database: how runs end when nothing goes wrong, and how they stop."""

import signal

import pytest

from service.domain.run import EventType, RunKind, RunState, StopReason
from tests.service.worker.conftest import PATIENCE_S, Bench, eventually

LONG = {"n": 2000, "sleep_s": 0.05}
"""Long enough to be interrupted in the middle."""


def test_a_run_is_claimed_executed_and_stored(working: Bench) -> None:
    run = working.wait_for_end(working.submit(n=5))
    assert (run.state, run.reason, run.attempt) == (RunState.SUCCEEDED, "completed", 1)
    assert run.result is not None
    assert run.result["count"] == 5
    assert run.result["usage"]["max_rss_bytes"] > 0
    assert run.latest_metrics == {"count": 5.0}
    assert [point.value for point in working.stores.runs.metrics(run.id)] == [1.0, 2.0, 3.0, 4.0, 5.0]
    assert working.stores.checkpoints.resolve(run.id, "last").epoch == 5
    assert working.output(run.id) == ["attempt 1 from 0"]


def test_two_workers_share_a_queue_and_no_run_is_executed_twice(bench: Bench) -> None:
    run_ids = [bench.submit(n=2) for _ in range(8)]
    bench.worker()
    bench.worker()
    runs = [bench.wait_for_end(run_id) for run_id in run_ids]
    assert [(run.state, run.attempt) for run in runs] == [(RunState.SUCCEEDED, 1)] * 8
    assert all(bench.output(run.id) == ["attempt 1 from 0"] for run in runs)


def test_one_of_two_slots_is_kept_for_runs_that_act(bench: Bench) -> None:
    first, second = bench.submit(**LONG), bench.submit(n=1)
    acting = bench.submit(RunKind.EVALUATE, n=1)
    bench.worker(workers=2)
    assert bench.wait_for_end(acting).state is RunState.SUCCEEDED
    assert bench.run(first).state is RunState.RUNNING
    assert bench.run(second).state is RunState.QUEUED
    bench.stores.runs.request_stop(first, StopReason.CANCEL)
    assert bench.wait_for_end(second).state is RunState.SUCCEEDED


def test_a_cancelled_run_ends_only_after_its_last_checkpoint_is_stored(working: Bench) -> None:
    run_id = working.submit(**LONG)
    working.wait_for_epoch(run_id, 2)
    working.stores.runs.request_stop(run_id, StopReason.CANCEL)
    run = working.wait_for_end(run_id)
    assert (run.state, run.reason) == (RunState.CANCELLED, "user_cancel")
    assert run.result is not None
    last = working.stores.checkpoints.resolve(run_id, "last")
    assert (last.kind, last.epoch) == ("continued", run.result["count"])
    types = [event.type for event in working.stores.runs.events(run_id, limit=10_000)]
    assert types[-3:] == [EventType.CHECKPOINT, EventType.STATE, EventType.END]


def test_a_paused_run_stores_a_checkpoint_and_resumed_goes_on_from_its_last_scheduled_one(
    working: Bench,
) -> None:
    run_id = working.submit(n=120, sleep_s=0.05)
    working.wait_for_epoch(run_id, 2)
    working.stores.runs.request_stop(run_id, StopReason.PAUSE)
    eventually(lambda: working.run(run_id).state is RunState.PAUSED, "the pause")
    paused = working.run(run_id)
    assert (paused.reason, paused.attempt, paused.finished_at) == ("user_pause", 0, None)
    assert working.stores.checkpoints.resolve(run_id, "last").kind == "continued"
    scheduled = working.stores.checkpoints.resolve(run_id, "scheduled").epoch
    working.stores.runs.resume(run_id)
    run = working.wait_for_end(run_id)
    assert (run.state, run.result and run.result["first"]) == (RunState.SUCCEEDED, scheduled)


@pytest.mark.parametrize(("job", "says"), [("stubborn", ["cleaned up"]), ("deaf", [])])
def test_a_run_that_does_not_stop_is_ended_by_force(bench: Bench, job: str, says: list[str]) -> None:
    """After the grace time comes SIGTERM, which lets it clean up; after another one SIGKILL."""
    bench.worker(f"worker_jobs:{job}")
    run_id = bench.submit()
    bench.wait_for_phase(run_id)
    child = bench.child_of(run_id)
    bench.stores.runs.request_stop(run_id, StopReason.CANCEL)
    run = bench.wait_for_end(run_id)
    assert (run.state, run.reason) == (RunState.CANCELLED, "user_cancel")
    assert bench.output(run_id) == says
    child.wait(PATIENCE_S)


def test_a_worker_that_is_told_to_stop_gives_its_run_back_uncharged(bench: Bench) -> None:
    worker = bench.worker()
    run_id = bench.submit(n=60, sleep_s=0.05)
    bench.wait_for_epoch(run_id, 3)
    worker.send_signal(signal.SIGTERM)
    assert worker.wait(PATIENCE_S) == 0
    run = bench.run(run_id)
    assert (run.state, run.reason, run.attempt) == (RunState.QUEUED, "worker_shutdown", 0)
    stored = bench.stores.checkpoints.resolve(run_id, "last")
    assert stored.kind == "continued"

    bench.worker()
    ended = bench.wait_for_end(run_id)
    assert (ended.state, ended.attempt) == (RunState.SUCCEEDED, 1)
    assert bench.output(run_id) == ["attempt 1 from 0", f"attempt 1 from {stored.epoch}"]


def test_a_second_signal_ends_a_worker_at_once(bench: Bench) -> None:
    """The grace time of this worker is longer than this test waits."""
    worker = bench.worker("worker_jobs:deaf", shutdown_grace_s=10 * PATIENCE_S)
    run_id = bench.submit()
    bench.wait_for_phase(run_id)
    worker.send_signal(signal.SIGTERM)

    def has_ended() -> bool:
        worker.send_signal(signal.SIGTERM)
        return worker.poll() is not None

    eventually(has_ended, "the end of the worker")
    assert worker.returncode == 0
    run = bench.run(run_id)
    assert (run.state, run.reason, run.attempt) == (RunState.QUEUED, "worker_shutdown", 0)


def test_a_run_that_raises_fails_at_once_and_its_log_says_where(working: Bench) -> None:
    run = working.wait_for_end(working.submit(die="error", die_at=2))
    assert (run.state, run.reason, run.attempt) == (RunState.FAILED, "exception", 1)
    assert run.error == {"code": "exception", "message": "ValueError: this environment is broken"}
    assert "in die" in working.log(run.id)


def test_a_child_that_speaks_no_protocol_fails_its_run(working: Bench) -> None:
    run = working.wait_for_end(working.submit(die="garbage", die_at=2))
    assert (run.state, run.reason) == (RunState.FAILED, "protocol_error")


def test_environments_are_published_for_the_api(bench: Bench) -> None:
    bench.worker(workers=2, is_publishing=True)
    ids = eventually(bench.stores.registry.env_ids, "published environments")
    assert {"CartPole-v0", "CartPole-v1"} <= ids
    assert "GymV21Environment-v0" not in ids
    (worker,) = bench.stores.registry.live_workers(PATIENCE_S)
    assert worker["slots"] == 2


def test_a_worker_that_ended_is_alive_no_more(bench: Bench) -> None:
    worker = bench.worker()
    eventually(lambda: bench.stores.registry.live_workers(PATIENCE_S), "a worker")
    worker.send_signal(signal.SIGTERM)
    assert worker.wait(PATIENCE_S) == 0
    assert bench.stores.registry.live_workers(PATIENCE_S) == []
