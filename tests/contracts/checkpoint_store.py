"""What every checkpoint store must do: subclass the suite and give a ``stores`` fixture."""

import pytest
from sqlalchemy import func, select

from service.domain.errors import NotFoundError, StaleLeaseError
from service.domain.run import Best, CheckpointInfo, EventType, Lease, RunKind, RunState, StopReason
from service.store import Stores
from service.store.tables import blob, blob_part, checkpoint
from tests.contracts.builders import new_checkpoint, new_episode, start, submit
from tests.contracts.threads import in_threads


def put(stores: Stores, lease: Lease, epoch: int, kind: str = "scheduled", **facts: object) -> CheckpointInfo:
    """Store a checkpoint whose bytes are its own."""
    new = new_checkpoint(epoch, kind, **facts)
    return stores.checkpoints.put(lease, new, new.content_sha256.encode())


def kept(stores: Stores, run_id: str) -> list[tuple[int, str]]:
    return [(info.epoch, info.kind) for info in stores.checkpoints.list(run_id).data]


def parts(stores: Stores) -> set[bytes]:
    """All parts that are stored."""
    with stores.database.reading() as connection:
        digests = connection.execute(select(blob_part.c.part_sha256)).scalars().all()
        stored = set(connection.execute(select(blob.c.sha256)).scalars())
        assert set(digests) <= stored
        assert (
            len(stored)
            == len(set(digests))
            + connection.execute(select(func.count(checkpoint.c.blob_sha256.distinct()))).scalar_one()
        )
        return {stores.blobs.read(connection, sha256) for sha256 in digests}


class CheckpointStoreContract:
    """Storing, finding, reading and pruning checkpoints."""

    def test_a_bundle_reads_back_byte_by_byte(self, stores: Stores) -> None:
        _, lease = start(stores)
        for epoch, bundle in enumerate((b"", b"x", bytes(range(256)) * 10_000, b"\x00" * 1_048_576)):
            info = stores.checkpoints.put(lease, new_checkpoint(epoch), bundle)
            assert stores.checkpoints.read(info.id) == bundle
            assert info.size_bytes == len(bundle)

    def test_its_facts_are_those_that_were_given(self, stores: Stores) -> None:
        run, lease = start(stores)
        new = new_checkpoint(
            3, "last", is_last=True, servable=False, not_servable_reason="a wrapper steps itself"
        )
        info = stores.checkpoints.put(lease, new, b"bundle")
        assert info.run_id == run.id
        for name in (
            "epoch", "step", "kind", "metrics", "content_sha256", "weights_sha256", "servable", "not_servable_reason",
            "is_best", "is_last",
        ):  # fmt: skip
            assert getattr(info, name) == getattr(new, name), name
        assert stores.checkpoints.get(info.id) == info

    def test_storing_is_announced_in_the_event_log(self, stores: Stores) -> None:
        run, lease = start(stores)
        info = put(stores, lease, 1, is_best=True)
        event = stores.runs.events(run.id)[-1]
        assert event.type is EventType.CHECKPOINT
        assert (event.data["id"], event.data["epoch"], event.data["is_best"]) == (info.id, 1, True)

    def test_the_marks_move_to_the_newest_that_claims_them(self, stores: Stores) -> None:
        run, lease = start(stores)
        first = put(stores, lease, 1, is_best=True, is_last=True)
        second = put(stores, lease, 2, is_last=True)
        assert stores.checkpoints.resolve(run.id, "best").id == first.id
        assert stores.checkpoints.resolve(run.id, "last").id == second.id
        third = put(stores, lease, 3, is_best=True, is_last=True)
        marks = [(info.id, info.is_best, info.is_last) for info in stores.checkpoints.list(run.id).data]
        assert marks == [(third.id, True, True), (second.id, False, False), (first.id, False, False)]

    def test_the_run_names_its_best_checkpoint_and_the_value_it_reached(self, stores: Stores) -> None:
        run, lease = start(stores)
        assert run.best is None
        info = put(stores, lease, 4, is_best=True, metrics={"train/loss": 0.1, "eval/mean_return": 475.5})
        put(stores, lease, 5)
        best = Best(metric="eval/mean_return", value=475.5, checkpoint=info.id)
        assert stores.runs.get(run.id).best == best

    def test_selectors_name_one_checkpoint(self, stores: Stores) -> None:
        run, lease = start(stores)
        one = put(stores, lease, 1, is_best=True)
        two = put(stores, lease, 2)
        same_epoch = put(stores, lease, 2, "continued", is_last=True)

        def resolve(selector: str) -> str:
            return stores.checkpoints.resolve(run.id, selector).id

        assert resolve("best") == one.id
        assert resolve("last") == same_epoch.id
        assert resolve("scheduled") == two.id
        assert resolve("epoch:1") == one.id
        assert resolve("epoch:2") == two.id  # the exact one before the continued one
        assert resolve(same_epoch.id) == same_epoch.id

    def test_last_is_the_newest_while_none_is_marked(self, stores: Stores) -> None:
        run, lease = start(stores)
        put(stores, lease, 1)
        newest = put(stores, lease, 2)
        assert stores.checkpoints.resolve(run.id, "last").id == newest.id

    @pytest.mark.parametrize("selector", ["best", "epoch:9", "epoch:x", "epoch:99999999999", "", "nope"])
    def test_a_selector_without_a_checkpoint_says_what_there_is(self, stores: Stores, selector: str) -> None:
        run, lease = start(stores)
        with pytest.raises(NotFoundError, match="none yet"):
            stores.checkpoints.resolve(run.id, selector)
        put(stores, lease, 4, is_last=True)
        with pytest.raises(NotFoundError, match="it has last, epoch:4"):
            stores.checkpoints.resolve(run.id, selector)

    def test_a_checkpoint_of_another_run_is_not_found_through_this_one(self, stores: Stores) -> None:
        _, lease = start(stores)
        other = submit(stores)
        info = put(stores, lease, 1)
        with pytest.raises(NotFoundError):
            stores.checkpoints.resolve(other.id, info.id)

    def test_an_unknown_checkpoint_is_named(self, stores: Stores) -> None:
        for find in (stores.checkpoints.get, stores.checkpoints.read):
            with pytest.raises(NotFoundError, match="ckpt_nope"):
                find("ckpt_nope")

    def test_the_same_checkpoint_after_a_resume_keeps_its_id(self, stores: Stores) -> None:
        run, lease = start(stores)
        new = new_checkpoint(2, is_best=True)
        first = stores.checkpoints.put(lease, new, b"first provenance")
        again = stores.checkpoints.put(lease, new, b"second provenance")
        assert again.id == first.id
        assert kept(stores, run.id) == [(2, "scheduled")]
        assert stores.checkpoints.read(first.id) == b"second provenance"
        best = stores.runs.get(run.id).best
        assert best is not None
        assert best.checkpoint == first.id

    def test_other_content_in_its_place_has_another_id(self, stores: Stores) -> None:
        run, lease = start(stores)
        first = put(stores, lease, 2, is_best=True)
        second = put(stores, lease, 2)
        assert second.id != first.id
        assert kept(stores, run.id) == [(2, "scheduled")]
        with pytest.raises(NotFoundError):
            stores.checkpoints.get(first.id)
        assert stores.runs.get(run.id).best is None  # it named the one that is gone

    def test_best_last_and_the_newest_three_scheduled_are_kept(self, stores: Stores) -> None:
        run, lease = start(stores)
        put(stores, lease, 1, "best", is_best=True)
        for epoch in range(1, 7):
            put(stores, lease, epoch)
        put(stores, lease, 6, "last", is_last=True)
        assert sorted(kept(stores, run.id)) == [
            (1, "best"),
            (4, "scheduled"),
            (5, "scheduled"),
            (6, "last"),
            (6, "scheduled"),
        ]
        put(stores, lease, 7, "best", is_best=True)
        assert (1, "best") not in kept(stores, run.id)

    def test_what_acts_in_a_film_is_kept_as_long_as_the_film_and_is_never_the_last(
        self, stores: Stores
    ) -> None:
        run, lease = start(stores)
        filmed = [put(stores, lease, epoch, "filmed") for epoch in (0, 1)]
        assert kept(stores, run.id) == [(1, "filmed")]  # of the first one, no film was stored
        stores.episodes.add(lease, new_episode(1, epoch=1), None)
        last = put(stores, lease, 2)
        assert kept(stores, run.id) == [(2, "scheduled"), (1, "filmed")]
        assert stores.checkpoints.resolve(run.id, "last").id == last.id
        assert stores.checkpoints.resolve(run.id, "epoch:1").id == filmed[1].id
        stores.episodes.drop_films(lease, [1])
        put(stores, lease, 3)
        assert kept(stores, run.id) == [(3, "scheduled"), (2, "scheduled")]

    def test_a_checkpoint_that_a_waiting_run_acts_with_is_kept_until_that_ends(self, stores: Stores) -> None:
        run, lease = start(stores)
        used = put(stores, lease, 1)
        rollout = submit(stores, kind=RunKind.ROLLOUT, source_run=run.id, source_checkpoint=used.id)
        for epoch in range(2, 7):
            put(stores, lease, epoch)
        assert stores.checkpoints.read(used.id)
        stores.runs.request_stop(rollout.id, StopReason.CANCEL)
        put(stores, lease, 7)
        with pytest.raises(NotFoundError):
            stores.checkpoints.read(used.id)

    def test_runs_prune_their_own_checkpoints_only(self, stores: Stores) -> None:
        first, first_lease = start(stores)
        second, second_lease = start(stores)
        for epoch in range(1, 6):
            put(stores, first_lease, epoch)
        put(stores, second_lease, 1)
        assert len(kept(stores, first.id)) == 3
        assert kept(stores, second.id) == [(1, "scheduled")]

    def test_equal_bundles_are_stored_once_and_live_as_long_as_one_is_named(self, stores: Stores) -> None:
        run, lease = start(stores)
        bundle = b"same bytes" * 1000
        scheduled = stores.checkpoints.put(lease, new_checkpoint(1), bundle)
        best = stores.checkpoints.put(lease, new_checkpoint(1, "best", is_best=True), bundle)
        for epoch in range(2, 6):
            put(stores, lease, epoch)
        assert (1, "scheduled") not in kept(stores, run.id)
        with pytest.raises(NotFoundError):
            stores.checkpoints.read(scheduled.id)
        assert stores.checkpoints.read(best.id) == bundle

    @pytest.mark.parametrize("edges", [(4,), (4, 9), (9, 4, 4), (0, 4, 99, -1)])
    def test_a_bundle_in_parts_reads_back_byte_by_byte(self, stores: Stores, edges: tuple[int, ...]) -> None:
        _, lease = start(stores)
        info = stores.checkpoints.put(lease, new_checkpoint(1), b"0123456789", edges)
        assert stores.checkpoints.read(info.id) == b"0123456789"
        assert info.size_bytes == 10

    def test_what_bundles_share_is_stored_once_and_goes_with_the_last_that_has_it(
        self, stores: Stores
    ) -> None:
        """Each bundle is one part of its own, one of two that the next one has too, and one that all have twice."""
        run, lease = start(stores)
        other, other_lease = start(stores)
        for epoch in range(1, 7):
            bundle = b"".join((b"own%d" % epoch, b"two%d" % (epoch // 2), b"all!", b"all!"))
            stores.checkpoints.put(lease, new_checkpoint(epoch), bundle, (4, 8, 12))
        stores.checkpoints.put(other_lease, new_checkpoint(1), b"mine" + bundle[4:8], (4,))
        assert parts(stores) == {b"own4", b"own5", b"own6", b"two2", b"two3", b"all!", b"mine"}
        for info in stores.checkpoints.list(run.id).data:
            assert stores.checkpoints.read(info.id)[:4] == b"own%d" % info.epoch
        for epoch in range(7, 10):
            put(stores, lease, epoch)
        assert parts(stores) == {b"mine", b"two3"}
        (info,) = stores.checkpoints.list(other.id).data
        assert stores.checkpoints.read(info.id) == b"minetwo3"

    def test_runs_may_store_and_drop_what_they_share_at_once(self, stores: Stores) -> None:
        """Each drops what another one just names."""

        def store() -> None:
            run, lease = start(stores)
            for epoch in range(12):
                bundle = b"%4d" % epoch + b"x" * 100 + run.id.encode()
                stores.checkpoints.put(lease, new_checkpoint(epoch), bundle, (4, 104))
            found = [stores.checkpoints.read(info.id) for info in stores.checkpoints.list(run.id).data]
            assert [bundle[:4] for bundle in found] == [b"%4d" % epoch for epoch in (11, 10, 9)]

        in_threads(store, 4)
        assert {b"%4d" % epoch for epoch in (9, 10, 11)} <= parts(stores)

    def test_pages_come_newest_epoch_first(self, stores: Stores) -> None:
        run, lease = start(stores)
        for epoch in (1, 2):
            put(stores, lease, epoch)
        put(stores, lease, 2, "last", is_last=True)
        first = stores.checkpoints.list(run.id, limit=2)
        second = stores.checkpoints.list(run.id, limit=2, cursor=first.next_cursor)
        assert [info.epoch for info in first.data] == [2, 2]
        assert [info.epoch for info in second.data] == [1]
        assert not second.has_more
        with pytest.raises(ValueError, match="cursor"):
            stores.checkpoints.list(run.id, cursor="nonsense")

    def test_a_stale_worker_stores_nothing(self, stores: Stores) -> None:
        run, lease = start(stores)
        stores.runs.finish(lease, RunState.SUCCEEDED, reason="completed")
        with pytest.raises(StaleLeaseError):
            put(stores, lease, 1, is_best=True)
        assert kept(stores, run.id) == []
        assert stores.runs.get(run.id).best is None
