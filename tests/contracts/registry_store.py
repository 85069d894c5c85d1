"""What every registry must do: subclass the suite and give a ``stores`` fixture."""

import os
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from sqlalchemy import select, update

from service.domain.errors import NotFoundError, StateConflictError
from service.domain.fleet import look
from service.domain.run import RunKind, RunState, StopReason
from service.domain.sharing import ANYBODY, Caller, Grant
from service.store import Stores
from service.store.tables import environment, ticket, worker
from service.store.types import after_now
from tests.contracts.builders import new_checkpoint, start, submit
from tests.contracts.threads import in_threads

OLD_S = -100_000.0


def built(env_id: str, **facts: Any) -> dict[str, Any]:
    return {"id": env_id, "is_available": True, **facts}


def missing(env_id: str) -> dict[str, Any]:
    return {"id": env_id, "is_available": False}


class RegistryStoreContract:
    """Environments, workers and tokens."""

    def test_environments_of_all_workers_are_one_list(self, stores: Stores) -> None:
        assert stores.registry.environments() == []
        stores.registry.publish_environments("w1", [built("Pendulum-v1"), built("CartPole-v1", n=1)])
        stores.registry.publish_environments("w2", [missing("Pendulum-v1"), built("CartPole-v1", n=2)])
        stores.registry.publish_environments("w2", [missing("Ant-v5")])
        found = {row["id"]: row for row in stores.registry.environments()}
        assert [*found] == ["Ant-v5", "CartPole-v1", "Pendulum-v1"]
        assert found["CartPole-v1"] == built("CartPole-v1", n=2) | {"workers": ["w1", "w2"]}
        assert found["Pendulum-v1"] == built("Pendulum-v1") | {"workers": ["w1"]}
        assert found["Ant-v5"]["workers"] == []
        assert stores.registry.environments("CartPole-v1") == [found["CartPole-v1"]]
        assert stores.registry.environments("None-v0") == []
        assert stores.registry.env_ids() == {"CartPole-v1", "Pendulum-v1"}

    def test_environments_that_nobody_published_for_a_day_are_forgotten(self, stores: Stores) -> None:
        stores.registry.publish_environments("w1", [built("Old-v0"), built("Renewed-v0")])
        with stores.database.writing() as connection:
            connection.execute(update(environment).values(published_at=after_now(OLD_S)))
        stores.registry.publish_environments("w1", [built("Renewed-v0")])
        assert stores.registry.env_ids() == {"Renewed-v0"}

    def test_live_workers_are_those_heard_of_within_the_time(self, stores: Stores) -> None:
        stores.registry.beat_worker("w1", {"slots": 2})
        stores.registry.beat_worker("w1", {"slots": 3})
        stores.registry.beat_worker("w2", {})
        with stores.database.writing() as connection:
            connection.execute(
                update(worker).where(worker.c.id == "w2").values(last_seen_at=after_now(-50.0))
            )
        assert [live["worker"] for live in stores.registry.live_workers(40.0)] == ["w1"]
        first, second = stores.registry.live_workers(600.0)
        assert (first["worker"], first["slots"]) == ("w1", 3)
        assert 0 <= first["last_seen_s"] < second["last_seen_s"]
        assert second["last_seen_s"] >= 50

    def test_a_worker_that_takes_no_more_runs_is_not_alive(self, stores: Stores) -> None:
        for name in ("w1", "w2"):
            stores.registry.beat_worker(name, {})
        stores.registry.forget_worker("w1")
        stores.registry.forget_worker("nobody")
        assert [live["worker"] for live in stores.registry.live_workers(600.0)] == ["w2"]

    def test_workers_silent_for_a_day_are_forgotten(self, stores: Stores) -> None:
        stores.registry.beat_worker("old", {})
        with stores.database.writing() as connection:
            connection.execute(update(worker).values(last_seen_at=after_now(OLD_S)))
        stores.registry.beat_worker("new", {})
        assert [live["worker"] for live in stores.registry.live_workers(1e9)] == ["new"]

    def test_what_workers_hold_is_seen_with_the_queue_and_gone_with_the_lease(self, stores: Stores) -> None:
        for name, slots in (("w1", 2), ("w2", 2)):
            stores.registry.beat_worker(name, {"slots": slots})
        training, lease = start(stores, worker="w1")
        short, _ = start(stores, worker="w1", kind=RunKind.ROLLOUT)
        stores.runs.request_stop(short.id, StopReason.PAUSE)
        start(stores, worker="gone")
        submit(stores)
        seen = look(stores.runs, stores.registry, 30.0)
        first, second = seen.workers
        assert [run.id for run in first.runs] == [training.id, short.id]
        assert [run.state for run in first.runs] == [RunState.RUNNING, RunState.STOPPING]
        assert (first.n_free(), second.n_free(), second.n_free(RunKind.TRAIN)) == (0, 2, 1)
        assert (seen.n_slots, seen.n_busy) == (4, 2)
        assert seen.waits_for(RunKind.TRAIN) == "turn"
        assert seen.waits_for(RunKind.ROLLOUT) is None
        stores.runs.finish(lease, RunState.SUCCEEDED, reason="completed")
        assert [run.id for run in look(stores.runs, stores.registry, 30.0).workers[0].runs] == [short.id]

    def test_training_waits_for_a_slot_where_the_last_free_one_is_kept_for_what_is_short(
        self, stores: Stores
    ) -> None:
        submit(stores)
        assert look(stores.runs, stores.registry, 30.0).waits_for(RunKind.TRAIN) == "worker"
        stores.registry.beat_worker("w1", {"slots": 2})
        start(stores, worker="w1")
        submit(stores)
        submit(stores, kind=RunKind.EVALUATE)
        seen = look(stores.runs, stores.registry, 30.0)
        assert (seen.waits_for(RunKind.TRAIN), seen.waits_for(RunKind.EVALUATE)) == ("slot", "turn")

    def test_storage_counts_equal_bytes_once_and_grows(self, stores: Stores) -> None:
        empty = stores.storage()
        assert (empty.n_blobs, empty.blob_bytes) == (0, 0)
        assert empty.size_bytes > 0
        _, lease = start(stores)
        bundle = os.urandom(3_000_000)
        stores.checkpoints.put(lease, new_checkpoint(1), bundle)
        stores.checkpoints.put(lease, new_checkpoint(2), bundle)
        stores.checkpoints.put(lease, new_checkpoint(3), bundle + b"end", edges=[len(bundle)])
        full = stores.storage()
        assert (full.n_blobs, full.blob_bytes) == (2, len(bundle) + 3)
        assert full.size_bytes - empty.size_bytes >= len(bundle)
        assert (full.free_bytes is None) == (full.kind == "postgresql")

    def test_a_token_is_found_by_id_until_it_is_revoked(self, stores: Stores) -> None:
        stores.registry.add_token("id1", "d" * 64, "laptop", ANYBODY)
        assert stores.registry.find_token("id1") == Grant(sha256="d" * 64, caller=Caller("id1"))
        assert stores.registry.find_token("id2") is None
        stores.registry.revoke_token("id1")
        assert stores.registry.find_token("id1") is None

    def test_a_list_of_tokens_shows_no_digest(self, stores: Stores) -> None:
        stores.registry.add_token("id1", "d" * 64, "laptop", ANYBODY)
        (token,) = stores.registry.tokens()
        assert (token.id, token.name, token.revoked_at) == ("id1", "laptop", None)
        assert "dddd" not in repr(token)

    def test_revoking_twice_keeps_the_first_time(self, stores: Stores) -> None:
        stores.registry.add_token("id1", "d" * 64, "laptop", ANYBODY)
        stores.registry.revoke_token("id1")
        (first,) = stores.registry.tokens()
        stores.registry.revoke_token("id1")
        assert stores.registry.tokens() == [first]
        with pytest.raises(NotFoundError, match="nope"):
            stores.registry.revoke_token("nope")

    def test_a_ticket_opens_its_path_once_whoever_asks_first(self, stores: Stores) -> None:
        caller = Caller("id1", "walker")
        until = stores.registry.add_ticket("d" * 64, caller, "/v1/events", expires_in_s=60)
        assert until - datetime.now(UTC) < timedelta(minutes=5)
        assert stores.registry.take_ticket("d" * 64, "/v1/runs/run_0/events") is None
        assert stores.registry.take_ticket("e" * 64, "/v1/events") is None
        found: list[Caller | None] = []
        in_threads(lambda: found.append(stores.registry.take_ticket("d" * 64, "/v1/events")), 8)
        assert [each for each in found if each] == [Caller("id1", "walker", frozenset())]

    def test_a_ticket_is_over_after_its_time_and_forgotten_with_the_next(self, stores: Stores) -> None:
        stores.registry.add_ticket("d" * 64, ANYBODY, "/v1/events", expires_in_s=-0.01)
        assert stores.registry.take_ticket("d" * 64, "/v1/events") is None
        stores.registry.add_ticket("e" * 64, ANYBODY, "/v1/events", expires_in_s=60)
        with stores.database.reading() as connection:
            assert connection.execute(select(ticket.c.sha256)).scalars().all() == ["e" * 64]

    def test_a_token_that_has_ended_makes_no_other_one(self, stores: Stores) -> None:
        stores.registry.add_token("id1", "d" * 64, "laptop", ANYBODY)
        stores.registry.add_token("id2", "d" * 64, "made in time", ANYBODY, by="id1")
        stores.registry.revoke_token("id1")
        stores.registry.add_token("late", "d" * 64, "expires", ANYBODY, expires_in_s=-1.0)
        for ended in ("id1", "late"):
            with pytest.raises(StateConflictError, match=f"token {ended} has ended"):
                stores.registry.add_token("id3", "d" * 64, "made too late", ANYBODY, by=ended)
        assert stores.registry.find_token("id3") is None
