"""What every policy store must do: subclass the suite and give a ``stores`` fixture."""

from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from threading import Barrier, Event

import pytest

from service.domain.errors import NotFoundError, RevisionConflictError, StateConflictError
from service.domain.policies import Gate, MoveKind, Traffic
from service.domain.run import CheckpointInfo, Lease, Retention, RunKind, RunState
from service.store import Stores
from tests.contracts.builders import new_checkpoint, start, submit


def checkpoints(stores: Stores, n: int = 1, **facts: object) -> tuple[Lease, list[CheckpointInfo]]:
    """A run at work and scheduled checkpoints that it has made."""
    _, lease = start(stores)
    made = [stores.checkpoints.put(lease, new_checkpoint(i + 1, **facts), b"bundle %d" % i) for i in range(n)]
    return lease, made


def walker(stores: Stores, n_versions: int = 2) -> Lease:
    """A policy with versions."""
    lease, made = checkpoints(stores, n_versions)
    stores.policies.create("walker")
    for info in made:
        stores.policies.add_version("walker", info.id)
    return lease


def move(stores: Stores, version: int | None, revision: int | None, kind: MoveKind = MoveKind.SET) -> None:
    stores.policies.move("walker", "champion", version, kind=kind, revision=revision, reason="why", by="me")


class PolicyStoreContract:
    """Policies, versions, aliases and their history."""

    def test_a_policy_is_made_once_and_another_one_of_its_name_is_refused(self, stores: Stores) -> None:
        gate = Gate(aliases=["champion"], n_episodes=30, seed=7)
        made, is_new = stores.policies.create("walker", description="walks", gate=gate, by="me")
        assert (made.gate, made.description, made.created_by, is_new) == (gate, "walks", "me", True)
        assert stores.policies.create("walker", description="walks", gate=gate) == (made, False)
        with pytest.raises(StateConflictError, match="walker"):
            stores.policies.create("walker", description="runs")
        assert stores.policies.get("walker") == made

    def test_policies_are_listed_by_name_page_by_page_and_found_by_a_part_of_it(self, stores: Stores) -> None:
        for name in ("b", "Walker", "a", "walker-2"):
            stores.policies.create(name)
        first = stores.policies.list(limit=3)
        rest = stores.policies.list(limit=3, cursor=first.next_cursor)
        names = [one.name for one in [*first.data, *rest.data]]
        assert sorted(names) == sorted(["b", "Walker", "a", "walker-2"])
        assert (len(first.data), rest.has_more) == (3, False)
        assert {one.name for one in stores.policies.list(name="WALK").data} == {"Walker", "walker-2"}
        assert stores.policies.list(name="%").data == []

    def test_versions_are_numbered_and_a_checkpoint_keeps_its_number(self, stores: Stores) -> None:
        lease, (first, second) = checkpoints(stores, 2)
        stores.policies.create("walker")
        one, _ = stores.policies.add_version("walker", first.id, note="slow", by="me")
        stores.policies.add_version("walker", second.id)
        assert stores.policies.add_version("walker", first.id, note="other") == (one, False)
        assert (one.number, one.checkpoint, one.run_id) == (1, first.id, lease.run_id)
        assert (one.content_sha256, one.note, one.created_by) == (first.content_sha256, "slow", "me")
        page = stores.policies.versions("walker", limit=1)
        rest = stores.policies.versions("walker", limit=1, cursor=page.next_cursor)
        assert [found.number for found in [*page.data, *rest.data]] == [2, 1]
        assert stores.policies.resolve("walker", number=1) == one
        with pytest.raises(NotFoundError, match="no version 3; it has versions 2, 1; aliases none yet"):
            stores.policies.resolve("walker", number=3)
        with pytest.raises(NotFoundError, match="ckpt_none"):
            stores.policies.add_version("walker", "ckpt_none")

    def test_a_number_is_not_given_again(self, stores: Stores) -> None:
        _, made = checkpoints(stores, 3)
        stores.policies.create("walker")
        for info in made[:2]:
            stores.policies.add_version("walker", info.id)
        stores.policies.delete_version("walker", 2)
        assert stores.policies.add_version("walker", made[2].id)[0].number == 3
        assert stores.policies.get("walker").n_versions == 3

    def test_an_alias_moves_and_its_history_says_from_where_to_where_who_and_why(
        self, stores: Stores
    ) -> None:
        walker(stores)
        move(stores, 1, None)
        move(stores, 2, 1)
        move(stores, 1, 2, MoveKind.ROLLBACK)
        assert stores.policies.alias("walker", "champion").revision == 3
        assert stores.policies.resolve("walker", alias="champion").number == 1
        history = stores.policies.history("walker", "champion", limit=2)
        rest = stores.policies.history("walker", "champion", cursor=history.next_cursor)
        moves = [(one.seq, one.kind, one.from_version, one.to_version) for one in [*history.data, *rest.data]]
        assert moves == [(3, "rollback", 2, 1), (2, "set", 1, 2), (1, "set", None, 1)]
        assert (history.data[0].by, history.data[0].reason) == ("me", "why")
        assert stores.policies.get("walker").aliases == {"champion": 1}

    def test_an_alias_that_was_deleted_goes_on_with_its_history(self, stores: Stores) -> None:
        walker(stores)
        move(stores, 1, None)
        move(stores, None, 1, MoveKind.DELETE)
        with pytest.raises(NotFoundError, match="champion"):
            stores.policies.alias("walker", "champion")
        move(stores, 2, None)
        assert stores.policies.alias("walker", "champion").revision == 3
        assert [one.seq for one in stores.policies.history("walker", "champion").data] == [3, 2, 1]

    @pytest.mark.parametrize("revision", [None, 1, 3])
    def test_a_move_of_what_has_moved_since_changes_nothing(
        self, stores: Stores, revision: int | None
    ) -> None:
        walker(stores)
        move(stores, 1, None)
        move(stores, 2, 1)
        with pytest.raises(RevisionConflictError, match='"2"'):
            move(stores, 1, revision)
        with pytest.raises(NotFoundError, match="version 9"):
            move(stores, 9, 2)
        assert len(stores.policies.history("walker", "champion").data) == 2

    def test_of_two_who_move_what_they_saw_exactly_one_wins(self, stores: Stores) -> None:
        walker(stores, 3)
        move(stores, 1, None)
        for revision in range(1, 11):
            together = Barrier(2)

            def attempt(version: int, revision: int = revision, together: Barrier = together) -> bool:
                together.wait()
                try:
                    move(stores, version, revision)
                except RevisionConflictError:
                    return False
                return True

            with ThreadPoolExecutor(2) as pool:
                assert sorted(pool.map(attempt, [2, 3])) == [False, True]
        moves = stores.policies.history("walker", "champion").data[::-1]
        assert [one.seq for one in moves] == list(range(1, 12))
        assert [one.from_version for one in moves] == [None, *(one.to_version for one in moves[:-1])]

    def test_traffic_is_split_as_a_move_that_goes_nowhere_and_ends_when_the_alias_moves(
        self, stores: Stores
    ) -> None:
        walker(stores, 3)
        move(stores, 1, None)
        traffic = Traffic(canary=2, weight=0.25, shadow=3)
        with pytest.raises(RevisionConflictError):
            stores.policies.split("walker", "champion", traffic, revision=7)
        split = stores.policies.split("walker", "champion", traffic, revision=1, reason="try", by="me")
        assert (split.version, split.revision, split.traffic) == (1, 2, traffic)
        assert stores.policies.alias("walker", "champion") == split
        noted = stores.policies.history("walker", "champion").data[0]
        assert (noted.kind, noted.from_version, noted.to_version, noted.by) == (MoveKind.TRAFFIC, 1, 1, "me")
        assert noted.evidence == {
            "traffic": {"canary": {"version": 2, "weight": 0.25}, "shadow": {"version": 3}}
        }
        move(stores, 2, 2)
        assert stores.policies.alias("walker", "champion").traffic is None

    def test_a_version_that_gets_traffic_is_there_and_is_kept(self, stores: Stores) -> None:
        walker(stores, 3)
        move(stores, 1, None)
        with pytest.raises(NotFoundError, match="no version 9"):
            stores.policies.split("walker", "champion", Traffic(shadow=9), revision=1)
        with pytest.raises(NotFoundError, match="no alias latest"):
            stores.policies.split("walker", "latest", Traffic(shadow=2), revision=1)
        stores.policies.split("walker", "champion", Traffic(canary=2, weight=0.5, shadow=3), revision=1)
        for version in (2, 3):
            with pytest.raises(StateConflictError, match="gets traffic of champion"):
                stores.policies.delete_version("walker", version)
        assert stores.policies.split("walker", "champion", None, revision=2).traffic is None
        stores.policies.delete_version("walker", 2)

    def test_what_is_pointed_at_is_not_deleted(self, stores: Stores) -> None:
        walker(stores, 1)
        move(stores, 1, None)
        with pytest.raises(StateConflictError, match="is champion; move or delete that first"):
            stores.policies.delete_version("walker", 1)
        with pytest.raises(StateConflictError, match="has version 1"):
            stores.policies.delete("walker")
        move(stores, None, 1, MoveKind.DELETE)
        stores.policies.delete_version("walker", 1)
        stores.policies.delete("walker")
        with pytest.raises(NotFoundError, match="walker"):
            stores.policies.history("walker", "champion")

    @pytest.mark.parametrize(("guarded", "is_kept"), [(None, True), (["champion"], True), (["other"], False)])
    def test_what_a_guarded_alias_named_last_is_kept_until_it_names_another(
        self, stores: Stores, guarded: list[str] | None, is_kept: bool
    ) -> None:
        walker(stores, 3)
        stores.policies.edit("walker", {"gate": Gate(aliases=guarded)})
        move(stores, 3, None)
        move(stores, 1, 1)
        move(stores, None, 2, MoveKind.DELETE)
        stores.policies.delete_version("walker", 3)
        if is_kept:
            with pytest.raises(StateConflictError, match="was champion"):
                stores.policies.delete_version("walker", 1)
            move(stores, 2, None)
        stores.policies.delete_version("walker", 1)

    def test_a_checkpoint_of_a_version_is_never_pruned(self, stores: Stores) -> None:
        lease = walker(stores, 1)
        held = stores.policies.resolve("walker", number=1).checkpoint
        for epoch in range(2, 9):
            stores.checkpoints.put(lease, new_checkpoint(epoch), b"bundle")
        assert stores.checkpoints.read(held) == b"bundle 0"
        assert held in {info.id for info in stores.checkpoints.list(lease.run_id).data}

    def test_a_checkpoint_of_a_version_that_is_made_again_keeps_its_id_and_bytes(
        self, stores: Stores
    ) -> None:
        lease, (info,) = checkpoints(stores, content_sha256="c" * 64)
        stores.policies.create("walker")
        stores.policies.add_version("walker", info.id)
        again = stores.checkpoints.put(lease, new_checkpoint(1, content_sha256="c" * 64), b"again")
        assert (again.id, stores.checkpoints.read(info.id)) == (info.id, b"again")
        other = stores.checkpoints.put(lease, new_checkpoint(1), b"with another content")
        assert other.id != info.id
        assert stores.checkpoints.read(info.id) == b"again"
        assert stores.checkpoints.get(info.id).kind.startswith("held")
        assert stores.checkpoints.resolve(lease.run_id, "epoch:1") == other

    def test_what_becomes_a_version_while_its_run_prunes_is_kept_or_refused(self, stores: Stores) -> None:
        lease, _ = checkpoints(stores)
        stores.policies.create("walker")
        ended = Event()

        def register() -> None:
            known: set[str] = set()
            while not ended.is_set():
                free = [
                    i.id for i in stores.checkpoints.list(lease.run_id, limit=200).data if i.id not in known
                ]
                known.update(free[-1:])
                for oldest in free[-1:]:
                    with suppress(NotFoundError):
                        stores.policies.add_version("walker", oldest)

        with ThreadPoolExecutor(1) as pool:
            registering = pool.submit(register)
            for epoch in range(2, 60):
                stores.checkpoints.put(lease, new_checkpoint(epoch), b"bundle %d" % epoch)
            ended.set()
            registering.result()
        versions = stores.policies.versions("walker", limit=200).data
        assert versions
        for version in versions:
            assert stores.checkpoints.read(version.checkpoint).startswith(b"bundle")

    def test_a_run_of_a_version_is_neither_deleted_nor_swept(self, stores: Stores) -> None:
        lease = walker(stores, 1)
        stores.runs.finish(lease, RunState.SUCCEEDED, reason="completed")
        with pytest.raises(StateConflictError, match="holds policy version walker:1"):
            stores.runs.delete(lease.run_id)
        _, free = start(stores)
        stores.runs.finish(free, RunState.SUCCEEDED, reason="completed")
        assert set(stores.runs.delete_oldest(Retention(runs=0))) == {free.run_id}
        stores.policies.delete_version("walker", 1)
        stores.runs.delete(lease.run_id)

    def test_a_checkpoint_that_waits_to_be_compared_is_kept_until_that_has_ended(
        self, stores: Stores
    ) -> None:
        lease, (info,) = checkpoints(stores)
        nodes = [{"run": lease.run_id, "checkpoint": info.id, "sha256": info.content_sha256}]
        comparison = submit(stores, kind=RunKind.COMPARE, config={"compared": nodes})
        for epoch in range(2, 9):
            stores.checkpoints.put(lease, new_checkpoint(epoch), b"bundle")
        assert stores.checkpoints.read(info.id) == b"bundle 0"
        stores.runs.finish(lease, RunState.SUCCEEDED, reason="completed")
        with pytest.raises(StateConflictError, match=comparison.id):
            stores.runs.delete(lease.run_id)
        gone = [{**nodes[0], "checkpoint": "ckpt_gone"}]
        with pytest.raises(NotFoundError, match="ckpt_gone"):
            submit(stores, kind=RunKind.COMPARE, config={"compared": gone})
