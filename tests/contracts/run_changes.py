"""What clients change of a run, what follows from one, and how one is forgotten: what every run store must do."""

import pytest
from sqlalchemy import func, select

from service.domain.errors import CapacityError, NotFoundError, RevisionConflictError, StateConflictError
from service.domain.run import (
    Best,
    Continuation,
    MetricPoint,
    QueuePlace,
    Retention,
    RunKind,
    RunState,
    StopReason,
)
from service.store import Stores
from service.store.tables import metadata
from tests.contracts.builders import new_checkpoint, new_episode, start, submit

ALL_KINDS = list(RunKind)


def claimed(stores: Stores) -> str:
    taken = stores.runs.claim("w", kinds=ALL_KINDS, lease_s=30)
    assert taken is not None
    return taken[0].id


def n_rows(stores: Stores) -> dict[str, int]:
    with stores.database.reading() as connection:
        return {
            name: connection.execute(select(func.count()).select_from(table)).scalar_one()
            for name, table in metadata.tables.items()
        }


class ChangesContract:
    """Edits, continuations and deletions."""

    def test_the_higher_priority_is_claimed_first_and_then_the_older_run(self, stores: Stores) -> None:
        low, first, second = (submit(stores, priority=number).id for number in (-1, 0, 0))
        late = submit(stores).id
        stores.runs.edit(late, {"priority": 7})
        assert [claimed(stores) for _ in range(4)] == [late, first, second, low]

    def test_a_waiting_run_says_what_it_waits_for(self, stores: Stores) -> None:
        first, second = submit(stores), submit(stores)
        assert [stores.runs.get(run.id).queue for run in (first, second)] == [
            QueuePlace(ahead=0, waits_for="worker"), QueuePlace(ahead=1, waits_for="worker"),
        ]  # fmt: skip
        filmed = submit(stores, arguments={"videos": 1}, priority=-9)
        stores.registry.beat_worker("w", {"films": False})
        assert stores.runs.get(filmed.id).queue == QueuePlace(ahead=2, waits_for="filming")
        stores.registry.beat_worker("w", {"films": True})
        assert stores.runs.get(filmed.id).queue == QueuePlace(ahead=2, waits_for="turn")
        urgent = submit(stores, priority=1)
        places = {run.id: run.queue for run in stores.runs.shown([first.id, second.id, urgent.id])}
        assert places == {
            urgent.id: QueuePlace(ahead=0, waits_for="slot"),
            first.id: QueuePlace(ahead=1, waits_for="turn"),
            second.id: QueuePlace(ahead=2, waits_for="turn"),
        }
        claimed(stores)
        assert stores.runs.get(urgent.id).queue is None
        assert stores.runs.list().data[0].queue is None

    def test_an_edit_changes_what_it_names_and_raises_the_revision(self, stores: Stores) -> None:
        run = submit(stores, name="old", labels={"team": "a", "old": "x"})
        edited = stores.runs.edit(run.id, {"notes": "n", "labels": {"old": None, "new": "y"}}, revision=0)
        assert (edited.name, edited.notes, edited.labels, edited.revision) == (
            "old", "n", {"team": "a", "new": "y"}, 1,
        )  # fmt: skip
        assert [found.id for found in stores.runs.list(labels={"new": "y"}).data] == [run.id]
        assert stores.runs.list(labels={"old": "x"}).data == []
        with pytest.raises(RevisionConflictError, match="has revision 1"):
            stores.runs.edit(run.id, {"name": "late"}, revision=0)
        assert stores.runs.get(run.id) == edited

    def test_a_run_has_no_more_labels_than_a_submission_may_have(self, stores: Stores) -> None:
        run = submit(stores, labels={f"k{number}": "v" for number in range(32)})
        assert len(stores.runs.edit(run.id, {"labels": {"k0": None, "other": "v"}}).labels) == 32
        with pytest.raises(StateConflictError, match="more than 32"):
            stores.runs.edit(run.id, {"labels": {"one_more": "v"}})
        assert "one_more" not in stores.runs.get(run.id).labels
        assert stores.runs.edit(run.id, {"labels": None}).labels == {}

    def test_an_edit_of_a_running_run_leaves_its_lease_alone(self, stores: Stores) -> None:
        run, lease = start(stores)
        stores.runs.edit(run.id, {"name": "new"})
        assert stores.runs.heartbeat(lease, lease_s=30) is None
        assert stores.runs.finish(lease, RunState.SUCCEEDED, reason="completed").name == "new"

    @pytest.mark.parametrize(("best_epoch", "begin"), [(2, 4), (4, 4), (4, 2)])
    def test_a_continuation_has_the_checkpoint_it_begins_at_and_the_best_up_to_there(
        self, stores: Stores, best_epoch: int, begin: int
    ) -> None:
        parent, lease = start(stores)
        stored = {
            epoch: stores.checkpoints.put(
                lease, new_checkpoint(epoch, is_best=epoch == best_epoch, is_last=epoch == 4), b"%d" % epoch
            )
            for epoch in (2, 4)
        }
        stores.runs.finish(lease, RunState.SUCCEEDED, reason="completed")
        continues = Continuation(
            checkpoint=stored[begin].id, first_epoch=begin, until_epoch=9, limits={"patience": 2}
        )
        run = submit(stores, parent_run=parent.id, continues=continues)
        assert run.continues is not None
        assert run.continues.checkpoint != stored[begin].id
        copy = stores.checkpoints.get(run.continues.checkpoint)
        assert (copy.run_id, copy.epoch, copy.content_sha256) == (run.id, begin, stored[begin].content_sha256)
        assert stores.checkpoints.read(copy.id) == b"%d" % begin
        assert stores.checkpoints.resolve(run.id, "last").id == copy.id
        best = stores.checkpoints.resolve(run.id, "best")
        assert best.epoch == min(best_epoch, begin)
        kinds = {info.kind for info in stores.checkpoints.list(run.id).data}
        assert kinds == ({"begin", "best"} if best_epoch < begin else {"begin"})
        assert run.best == Best(metric="eval/mean_return", value=float(best.epoch), checkpoint=best.id)
        stores.runs.delete(parent.id)
        assert stores.checkpoints.read(copy.id) == b"%d" % begin

    def test_what_a_run_goes_on_from_stays_whatever_it_stores(self, stores: Stores) -> None:
        parent, lease = start(stores)
        cut = stores.checkpoints.put(lease, new_checkpoint(8, "continued", is_last=True), b"cut")
        stores.runs.finish(lease, RunState.FAILED, reason="x")
        continues = Continuation(checkpoint=cut.id, first_epoch=8, until_epoch=99)
        run = submit(stores, parent_run=parent.id, continues=continues)
        taken = stores.runs.claim("w", kinds=ALL_KINDS, lease_s=30)
        assert taken is not None
        assert run.continues is not None
        stored = [
            (8, "continued"),
            (9, "best"),
            (10, "continued"),
            *((n, "scheduled") for n in range(11, 17)),
        ]
        for epoch, kind in stored:
            new = new_checkpoint(epoch, kind, is_best=kind == "best", is_last=True)
            stores.checkpoints.put(taken[1], new, b"new")
        assert stores.checkpoints.read(run.continues.checkpoint) == b"cut"
        assert stores.checkpoints.resolve(run.id, "last").epoch == 16

    def test_a_continuation_of_a_checkpoint_that_is_gone_is_not_made(self, stores: Stores) -> None:
        continues = Continuation(checkpoint="ckpt_none", first_epoch=1, until_epoch=2)
        before = n_rows(stores)
        with pytest.raises(NotFoundError, match="ckpt_none"):
            submit(stores, continues=continues)
        assert n_rows(stores) == before

    def test_a_deleted_run_leaves_nothing_behind(self, stores: Stores) -> None:
        other, lease = start(stores)
        stores.checkpoints.put(lease, new_checkpoint(1), b"shared")
        before = n_rows(stores)
        run, lease = start(stores, labels={"team": "a"})
        points = [MetricPoint(name="loss", epoch=1, step=1, value=0.5)]
        stores.runs.report(lease, phase="training", metrics=points, logs=[("info", "x")])
        stores.checkpoints.put(lease, new_checkpoint(1, is_best=True), b"shared")
        stores.checkpoints.put(lease, new_checkpoint(2, is_last=True), b"its own, in parts", (4,))
        stores.episodes.add(lease, new_episode(0), b"trajectory")
        with pytest.raises(StateConflictError, match="cancel it first"):
            stores.runs.delete(run.id)
        stores.runs.finish(lease, RunState.FAILED, reason="x")
        stores.runs.delete(run.id)
        assert n_rows(stores) == before
        with pytest.raises(NotFoundError):
            stores.runs.delete(run.id)
        assert stores.checkpoints.read(stores.checkpoints.resolve(other.id, "epoch:1").id) == b"shared"

    def test_a_run_whose_policy_is_still_needed_is_not_deleted(self, stores: Stores) -> None:
        run, lease = start(stores)
        checkpoint = stores.checkpoints.put(lease, new_checkpoint(1, is_best=True), b"bundle")
        stores.runs.finish(lease, RunState.SUCCEEDED, reason="completed")
        acting = submit(stores, kind=RunKind.ROLLOUT, source_run=run.id, source_checkpoint=checkpoint.id)
        with pytest.raises(StateConflictError, match=acting.id):
            stores.runs.delete(run.id)
        stores.runs.request_stop(acting.id, StopReason.CANCEL)
        stores.runs.delete(run.id)

    def test_the_oldest_ended_runs_go_when_there_are_too_many(self, stores: Stores) -> None:
        waiting = submit(stores)
        ended = []
        stores.runs.request_stop(waiting.id, StopReason.PAUSE)
        for _ in range(4):
            run, lease = start(stores)
            stores.checkpoints.put(lease, new_checkpoint(1, is_last=True), b"bundle of " + run.id.encode())
            stores.runs.finish(lease, RunState.SUCCEEDED, reason="completed")
            ended.append(run.id)
        assert stores.runs.delete_oldest(Retention(runs=4, age_s=3600.0, size_bytes=10_000)) == {}
        gone = stores.runs.delete_oldest(Retention(runs=3))
        assert [*gone] == ended[:1]
        assert "more than 3 runs" in gone[ended[0]]
        n_bytes = len(b"bundle of " + ended[0].encode())
        _, lease = start(stores)
        stores.checkpoints.put(lease, new_checkpoint(1), b"of a run that goes on" * 100)
        gone = stores.runs.delete_oldest(Retention(size_bytes=2 * n_bytes))
        assert [*gone] == ended[1:2]
        assert "MiB" in gone[ended[1]]
        assert [*stores.runs.delete_oldest(Retention(age_s=-1.0))] == ended[2:]
        assert stores.runs.get(waiting.id).state is RunState.PAUSED

    def test_a_run_is_not_resumed_into_a_full_queue(self, stores: Stores) -> None:
        paused = submit(stores)
        stores.runs.request_stop(paused.id, StopReason.PAUSE)
        submit(stores)
        with pytest.raises(CapacityError):
            stores.runs.resume(paused.id, max_queued=1)
        assert stores.runs.get(paused.id).state is RunState.PAUSED
        assert stores.runs.resume(paused.id, max_queued=2).state is RunState.QUEUED

    def test_a_change_of_nothing_is_none(self, stores: Stores) -> None:
        run = submit(stores, name="mine")
        assert stores.runs.edit(run.id, {}) == run
        assert stores.runs.edit(run.id, {"notes": "x"}).revision == 1

    def test_what_an_unfinished_run_needs_is_kept_longer(self, stores: Stores) -> None:
        run, lease = start(stores)
        checkpoint = stores.checkpoints.put(lease, new_checkpoint(1, is_best=True), b"bundle")
        stores.runs.finish(lease, RunState.SUCCEEDED, reason="completed")
        acting = submit(stores, kind=RunKind.ROLLOUT, source_run=run.id, source_checkpoint=checkpoint.id)
        assert stores.runs.delete_oldest(Retention(runs=0)) == {}
        stores.runs.request_stop(acting.id, StopReason.CANCEL)
        assert {*stores.runs.delete_oldest(Retention(runs=0))} == {run.id, acting.id}

    @pytest.mark.parametrize("keep", [Retention(runs=0), Retention(age_s=-1.0)])
    def test_many_that_are_needed_do_not_keep_the_others(self, stores: Stores, keep: Retention) -> None:
        for _ in range(45):
            run, lease = start(stores)
            stores.runs.finish(lease, RunState.SUCCEEDED, reason="completed")
            waiting = submit(stores, config={"dataset": {"run": run.id}})
            stores.runs.request_stop(waiting.id, StopReason.PAUSE)
        free, lease = start(stores)
        stores.runs.finish(lease, RunState.SUCCEEDED, reason="completed")
        assert [*stores.runs.delete_oldest(keep)] == [free.id]

    def test_a_run_whose_episode_is_to_be_replayed_is_not_deleted(self, stores: Stores) -> None:
        played, lease = start(stores, kind=RunKind.ROLLOUT)
        stores.runs.finish(lease, RunState.SUCCEEDED, reason="completed")
        replay = submit(stores, kind=RunKind.REPLAY, arguments={"run": played.id, "episode": 0})
        with pytest.raises(StateConflictError, match=replay.id):
            stores.runs.delete(played.id)
        stores.runs.request_stop(replay.id, StopReason.CANCEL)
        stores.runs.delete(played.id)

    def test_a_run_whose_episodes_another_one_learns_from_is_not_deleted(self, stores: Stores) -> None:
        run, lease = start(stores, kind=RunKind.ROLLOUT)
        stores.runs.finish(lease, RunState.SUCCEEDED, reason="completed")
        learner = submit(stores, config={"dataset": {"run": run.id, "sha256": "a"}})
        with pytest.raises(StateConflictError, match=learner.id):
            stores.runs.delete(run.id)
        stores.runs.request_stop(learner.id, StopReason.CANCEL)
        stores.runs.delete(run.id)

    def test_an_id_is_given_once(self, stores: Stores) -> None:
        run = submit(stores)
        with pytest.raises(StateConflictError, match="already"):
            submit(stores, id=run.id)
