"""Claims, leases, cancels and ends: what every run store must do.

A lapsed lease is one that was taken for a negative time: no test waits for a clock.
"""

import math
from collections.abc import Callable

import pytest

from service.domain.errors import StaleLeaseError, StateConflictError
from service.domain.run import EventType, Lease, MetricPoint, RunKind, RunState, StopReason
from service.store import Stores
from tests.contracts.builders import new_checkpoint, start, submit

ALL_KINDS = list(RunKind)


def states(stores: Stores, run_id: str) -> list[str]:
    return [event.data["state"] for event in stores.runs.events(run_id) if event.type is EventType.STATE]


class LifeContract:
    """Claims, leases, cancels and ends."""

    def test_the_oldest_run_of_the_kinds_is_claimed(self, stores: Stores) -> None:
        first = submit(stores)
        rollout = submit(stores, kind=RunKind.ROLLOUT)
        second = submit(stores)
        claimed = [stores.runs.claim("w", kinds=[RunKind.TRAIN], lease_s=30) for _ in range(3)]
        assert [taken and taken[0].id for taken in claimed] == [first.id, second.id, None]
        assert stores.runs.get(rollout.id).state is RunState.QUEUED

    def test_who_cannot_film_leaves_what_is_to_be_filmed_to_others(self, stores: Stores) -> None:
        kinds = RunKind.ROLLOUT, RunKind.TRAIN
        filmed = [submit(stores, kind=kind, arguments={"videos": 2}) for kind in kinds]
        others = [submit(stores, kind=RunKind.ROLLOUT), submit(stores)]
        claimed = [stores.runs.claim("w", kinds=ALL_KINDS, lease_s=30, films=False) for _ in range(3)]
        assert [taken and taken[0].id for taken in claimed] == [*(run.id for run in others), None]
        claimed = [stores.runs.claim("w2", kinds=ALL_KINDS, lease_s=30, films=True) for _ in filmed]
        assert [taken and taken[0].id for taken in claimed] == [run.id for run in filmed]

    def test_a_claim_starts_the_run_and_gives_the_lease(self, stores: Stores) -> None:
        run, lease = start(stores, "worker-9", labels={"team": "a"})
        assert (run.state, run.worker, run.attempt, run.epoch_token) == (RunState.RUNNING, "worker-9", 1, 1)
        assert run.started_at is not None
        assert run.labels == {"team": "a"}
        assert lease == Lease(run_id=run.id, worker="worker-9", epoch_token=1)
        assert run == stores.runs.get(run.id)
        assert states(stores, run.id) == ["queued", "running"]

    def test_a_heartbeat_keeps_the_run_and_tells_of_a_cancel(self, stores: Stores) -> None:
        run, lease = start(stores, lease_s=-1)
        assert not stores.runs.heartbeat(lease, lease_s=30)
        assert stores.runs.reap(max_attempts=3) == []
        stores.runs.request_stop(run.id, StopReason.CANCEL)
        assert stores.runs.heartbeat(lease, lease_s=30)

    def test_a_queued_run_is_cancelled_at_once(self, stores: Stores) -> None:
        run = stores.runs.request_stop(submit(stores).id, StopReason.CANCEL)
        assert (run.state, run.reason) == (RunState.CANCELLED, "user_cancel")
        assert run.finished_at is not None
        assert [event.type for event in stores.runs.events(run.id)] == [
            EventType.STATE,
            EventType.STATE,
            EventType.END,
        ]
        assert stores.runs.claim("w", kinds=ALL_KINDS, lease_s=30) is None

    def test_a_running_run_stops_first_and_ends_when_its_worker_says_so(self, stores: Stores) -> None:
        run, lease = start(stores)
        stopping = stores.runs.request_stop(run.id, StopReason.CANCEL)
        assert (stopping.state, stopping.stop_wish, stopping.finished_at) == (
            RunState.STOPPING,
            StopReason.CANCEL,
            None,
        )
        assert stores.runs.request_stop(run.id, StopReason.CANCEL).state is RunState.STOPPING
        ended = stores.runs.finish(lease, RunState.CANCELLED, reason="user_cancel")
        assert (ended.state, ended.stop_wish) == (RunState.CANCELLED, StopReason.CANCEL)
        assert states(stores, run.id) == ["queued", "running", "stopping", "cancelled"]

    def test_a_queued_run_is_paused_at_once_and_waits_in_its_old_place_when_it_is_resumed(
        self, stores: Stores
    ) -> None:
        run, other = submit(stores), submit(stores)
        for _ in range(2):
            paused = stores.runs.request_stop(run.id, StopReason.PAUSE, by="a token")
            assert (paused.state, paused.reason, paused.stop_wish) == (RunState.PAUSED, "user_pause", None)
        claimed = stores.runs.claim("w", kinds=ALL_KINDS, lease_s=30)
        assert claimed is not None
        assert claimed[0].id == other.id
        assert stores.runs.resume(run.id, by="another").state is RunState.QUEUED
        claimed = stores.runs.claim("w", kinds=ALL_KINDS, lease_s=30)
        assert claimed is not None
        assert claimed[0].id == run.id
        moves = [event.data for event in stores.runs.events(run.id)]
        assert [(move["state"], move["by"]) for move in moves] == [
            ("queued", None), ("paused", "a token"), ("queued", "another"), ("running", "w"),
        ]  # fmt: skip

    @pytest.mark.parametrize("charged", [True, False])
    def test_a_running_run_is_paused_when_its_worker_gives_it_back(
        self, stores: Stores, charged: bool
    ) -> None:
        run, lease = start(stores)
        assert stores.runs.request_stop(run.id, StopReason.PAUSE).state is RunState.STOPPING
        assert stores.runs.heartbeat(lease, lease_s=30) is StopReason.PAUSE
        paused = stores.runs.release(lease, reason="whatever", charge_attempt=charged)
        assert (paused.state, paused.reason, paused.worker) == (RunState.PAUSED, "user_pause", None)
        with pytest.raises(StaleLeaseError):
            stores.runs.report(lease, phase="training")
        assert stores.runs.claim("w", kinds=ALL_KINDS, lease_s=30) is None

    def test_a_run_whose_worker_fell_silent_on_the_way_to_its_pause_is_paused(self, stores: Stores) -> None:
        run, _ = start(stores, lease_s=-1)
        stores.runs.request_stop(run.id, StopReason.PAUSE)
        (reaped,) = stores.runs.reap(max_attempts=1)
        assert (reaped.state, reaped.stop_wish) == (RunState.PAUSED, None)

    def test_a_pause_that_is_taken_back_in_time_leads_to_the_queue(self, stores: Stores) -> None:
        run, lease = start(stores)
        stores.runs.request_stop(run.id, StopReason.PAUSE)
        assert stores.runs.resume(run.id).state is RunState.RUNNING
        assert stores.runs.release(lease, reason="user_pause", charge_attempt=False).state is RunState.QUEUED

    def test_a_cancel_takes_the_place_of_a_pause_and_not_the_other_way_round(self, stores: Stores) -> None:
        run, lease = start(stores)
        for wish in (StopReason.PAUSE, StopReason.CANCEL, StopReason.PAUSE):
            stores.runs.request_stop(run.id, wish)
        assert stores.runs.heartbeat(lease, lease_s=30) is StopReason.CANCEL
        with pytest.raises(StateConflictError, match="only a paused run"):
            stores.runs.resume(run.id)
        stores.runs.release(lease, reason="shutdown", charge_attempt=False)
        assert stores.runs.request_stop(run.id, StopReason.PAUSE).state is RunState.CANCELLED
        paused = submit(stores)
        stores.runs.request_stop(paused.id, StopReason.PAUSE)
        cancelled = stores.runs.request_stop(paused.id, StopReason.CANCEL)
        assert cancelled.state is RunState.CANCELLED
        with pytest.raises(StateConflictError, match="can no longer be paused"):
            stores.runs.request_stop(paused.id, StopReason.PAUSE)

    def test_a_run_that_finishes_before_the_cancel_arrives_has_succeeded(self, stores: Stores) -> None:
        run, lease = start(stores)
        stores.runs.request_stop(run.id, StopReason.CANCEL)
        assert stores.runs.finish(lease, RunState.SUCCEEDED, reason="completed").state is RunState.SUCCEEDED

    def test_an_end_keeps_result_and_error_and_announces_them(self, stores: Stores) -> None:
        run, lease = start(stores)
        result, error = {"mean_return": math.inf}, {"code": "oom", "message": "killed"}
        ended = stores.runs.finish(lease, RunState.FAILED, reason="oom_killed", result=result, error=error)
        assert (ended.reason, ended.result, ended.error) == ("oom_killed", result, error)
        assert ended == stores.runs.get(run.id)
        end = stores.runs.events(run.id)[-1]
        assert end.type is EventType.END
        assert end.data == {"state": "failed", "reason": "oom_killed", "result": result, "error": error}

    def test_only_the_arrows_of_the_state_diagram_can_be_gone(self, stores: Stores) -> None:
        run, lease = start(stores)
        with pytest.raises(StateConflictError, match="cannot become cancelled"):
            stores.runs.finish(lease, RunState.CANCELLED, reason="nobody_wished_it")
        with pytest.raises(ValueError, match="cannot end paused"):
            stores.runs.finish(lease, RunState.PAUSED, reason="pause")
        assert stores.runs.get(run.id).state is RunState.RUNNING

    def test_a_release_gives_back_the_place_and_an_uncharged_one_the_attempt(self, stores: Stores) -> None:
        first, lease = start(stores)
        submit(stores)
        released = stores.runs.release(lease, reason="shutdown", charge_attempt=False)
        assert (released.state, released.reason, released.attempt, released.worker) == (
            RunState.QUEUED, "shutdown", 0, None,
        )  # fmt: skip
        claimed = stores.runs.claim("w2", kinds=ALL_KINDS, lease_s=30)
        assert claimed is not None
        assert (claimed[0].id, claimed[0].attempt, claimed[1].epoch_token) == (first.id, 1, 2)
        assert claimed[0].started_at == first.started_at
        assert stores.runs.release(claimed[1], reason="retry", charge_attempt=True).attempt == 1

    def test_a_lapsed_lease_is_reaped_and_a_live_one_is_not(self, stores: Stores) -> None:
        lapsed, _ = start(stores, lease_s=-1)
        alive, _ = start(stores, lease_s=30)
        (reaped,) = stores.runs.reap(max_attempts=3)
        assert (reaped.id, reaped.state, reaped.reason) == (lapsed.id, RunState.QUEUED, "lease_expired")
        assert stores.runs.get(alive.id).state is RunState.RUNNING
        assert stores.runs.reap(max_attempts=3) == []

    def test_a_run_that_dies_too_often_fails(self, stores: Stores) -> None:
        run, _ = start(stores, lease_s=-1)
        stores.runs.reap(max_attempts=2)
        assert stores.runs.claim("w2", kinds=ALL_KINDS, lease_s=-1) is not None
        (dead,) = stores.runs.reap(max_attempts=2)
        assert (dead.id, dead.state, dead.reason) == (run.id, RunState.FAILED, "attempts_exhausted")
        assert dead.error is not None
        assert dead.error["code"] == "attempts_exhausted"
        assert "w2" in dead.error["message"]

    def test_a_lapsed_attempt_counts_only_when_the_run_got_no_further_in_it(self, stores: Stores) -> None:
        run, lease = start(stores, lease_s=-1)
        for number in range(1, 6):
            stores.checkpoints.put(lease, new_checkpoint(number), b"%d" % number)
            (reaped,) = stores.runs.reap(max_attempts=2)
            assert (reaped.state, reaped.attempt, reaped.free_attempts) == (RunState.QUEUED, number, number)
            claimed = stores.runs.claim("w", kinds=ALL_KINDS, lease_s=-1)
            assert claimed is not None
            lease = claimed[1]
        for kind, epoch in (("scheduled", 5), ("continued", 6)):  # the last one again, and one that is extra
            stores.checkpoints.put(lease, new_checkpoint(epoch, kind), b"%d" % epoch)
        assert [ended.state for ended in stores.runs.reap(max_attempts=2)] == [RunState.QUEUED]
        assert stores.runs.claim("w", kinds=ALL_KINDS, lease_s=-1) is not None
        (dead,) = stores.runs.reap(max_attempts=2)
        assert (dead.id, dead.state, dead.attempt) == (run.id, RunState.FAILED, 7)

    def test_a_new_checkpoint_begins_the_count_anew(self, stores: Stores) -> None:
        start(stores, lease_s=-1)
        for _ in range(2):  # two attempts in which nothing was stored
            stores.runs.reap(max_attempts=3)
            claimed = stores.runs.claim("w", kinds=ALL_KINDS, lease_s=-1)
            assert claimed is not None
        stores.checkpoints.put(claimed[1], new_checkpoint(1), b"1")
        (reaped,) = stores.runs.reap(max_attempts=3)
        assert (reaped.attempt, reaped.counted_attempts) == (3, 0)

    def test_a_release_counts_unless_the_run_had_got_further(self, stores: Stores) -> None:
        _, lease = start(stores)
        stores.checkpoints.put(lease, new_checkpoint(1), b"1")
        assert stores.runs.release(lease, reason="x", charge_attempt=True).counted_attempts == 0
        claimed = stores.runs.claim("w", kinds=ALL_KINDS, lease_s=30)
        assert claimed is not None
        assert stores.runs.release(claimed[1], reason="x", charge_attempt=True).counted_attempts == 1

    def test_an_uncharged_release_leaves_the_count_as_it_was_though_the_run_got_further(
        self, stores: Stores
    ) -> None:
        _, lease = start(stores)
        stores.checkpoints.put(lease, new_checkpoint(1), b"1")
        released = stores.runs.release(lease, reason="shutdown", charge_attempt=False)
        assert (released.attempt, released.counted_attempts) == (0, 0)
        claimed = stores.runs.claim("w", kinds=ALL_KINDS, lease_s=30)
        assert claimed is not None
        assert claimed[0].counted_attempts == 1

    def test_a_run_that_its_worker_holds_is_not_reaped_by_it(self, stores: Stores) -> None:
        held, _ = start(stores, lease_s=-1)
        other, _ = start(stores, lease_s=-1)
        assert [run.id for run in stores.runs.reap(max_attempts=3, spare=[held.id])] == [other.id]

    def test_the_clock_is_that_of_the_times(self, stores: Stores) -> None:
        before = stores.runs.clock()
        created_at = submit(stores).created_at.timestamp()
        assert before - 0.01 <= created_at <= stores.runs.clock() + 0.01

    def test_a_cancel_wish_outlives_the_worker_that_should_have_heard_it(self, stores: Stores) -> None:
        run, _ = start(stores, lease_s=-1)
        stores.runs.request_stop(run.id, StopReason.CANCEL)
        (requeued,) = stores.runs.reap(max_attempts=3)
        assert (requeued.state, requeued.stop_wish) == (RunState.QUEUED, StopReason.CANCEL)
        claimed = stores.runs.claim("w2", kinds=ALL_KINDS, lease_s=30)
        assert claimed is not None
        assert (claimed[0].state, claimed[0].reason) == (RunState.STOPPING, "user_cancel")
        assert stores.runs.heartbeat(claimed[1], lease_s=30)
        stores.runs.finish(claimed[1], RunState.CANCELLED, reason="user_cancel")
        assert states(stores, run.id) == [
            "queued",
            "running",
            "stopping",
            "queued",
            "running",
            "stopping",
            "cancelled",
        ]

    def test_a_stopping_run_out_of_attempts_is_cancelled_as_was_wished(self, stores: Stores) -> None:
        run, _ = start(stores, lease_s=-1)
        stores.runs.request_stop(run.id, StopReason.CANCEL)
        (ended,) = stores.runs.reap(max_attempts=1)
        assert (ended.state, ended.reason) == (RunState.CANCELLED, "user_cancel")

    def test_a_requeued_run_with_a_wish_is_cancelled_at_once_when_asked_again(self, stores: Stores) -> None:
        run, lease = start(stores)
        stores.runs.request_stop(run.id, StopReason.CANCEL)
        stores.runs.release(lease, reason="shutdown", charge_attempt=False)
        assert stores.runs.request_stop(run.id, StopReason.CANCEL).state is RunState.CANCELLED

    @pytest.mark.parametrize("how", ["taken_over", "given_back", "ended"])
    def test_a_stale_worker_writes_nothing(self, stores: Stores, how: str) -> None:
        run, old = start(stores, "same-name", lease_s=-1)
        if how == "taken_over":
            stores.runs.reap(max_attempts=3)
            assert stores.runs.claim("same-name", kinds=ALL_KINDS, lease_s=30) is not None
        elif how == "given_back":
            stores.runs.release(old, reason="shutdown", charge_attempt=False)
        else:
            stores.runs.finish(old, RunState.SUCCEEDED, reason="completed")
        before = stores.runs.get(run.id), stores.runs.events(run.id)

        points = [MetricPoint(name="loss", epoch=1, step=1, value=1.0)]
        writes: list[Callable[[], object]] = [
            lambda: stores.runs.heartbeat(old, lease_s=30),
            lambda: stores.runs.report(old, phase="training", metrics=points, logs=[("info", "x")]),
            lambda: stores.runs.release(old, reason="shutdown", charge_attempt=False),
            lambda: stores.runs.finish(old, RunState.FAILED, reason="late"),
        ]
        for write in writes:
            with pytest.raises(StaleLeaseError, match=run.id):
                write()
        assert (stores.runs.get(run.id), stores.runs.events(run.id)) == before
        assert stores.runs.metrics(run.id) == []
        assert stores.runs.logs(run.id) == []

    def test_an_ended_run_never_changes(self, stores: Stores) -> None:
        run, lease = start(stores, lease_s=-1)
        ended = stores.runs.finish(lease, RunState.SUCCEEDED, reason="completed")
        with pytest.raises(StateConflictError, match="succeeded"):
            stores.runs.request_stop(run.id, StopReason.CANCEL)
        assert stores.runs.reap(max_attempts=1) == []
        assert stores.runs.claim("w", kinds=ALL_KINDS, lease_s=30) is None
        assert stores.runs.get(run.id) == ended
