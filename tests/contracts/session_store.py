"""Sessions: what every session store must do."""

import pytest

from service.domain.errors import NotFoundError, StateConflictError
from service.domain.run import RunKind, RunState
from service.domain.sessions import RECORDER, EndedSession, NewSession, SessionEnd
from service.store import Stores
from tests.contracts.builders import new_checkpoint, new_episode, new_run, start


def put(stores: Stores, epoch: int, lease: object) -> str:
    """A new best checkpoint, of which a run keeps one."""
    facts = {"kind": "best", "is_best": True, "content_sha256": f"{epoch:064x}"}
    return stores.checkpoints.put(lease, new_checkpoint(epoch, **facts), b"bundle %d" % epoch).id


def begin(stores: Stores, name: str, checkpoint: str, run_id: str | None = None) -> str:
    new = NewSession(
        id=f"session_{name}", project="default", checkpoint_id=checkpoint, run_id=run_id, created_by="t"
    )
    stores.sessions.add(new)
    return new.id


def end(stores: Stores, session_id: str, reason: SessionEnd, last_seq: int | None = None) -> None:
    ended = EndedSession(id=session_id, project="default", reason=reason, last_seq=last_seq)
    stores.sessions.end([ended])


class SessionStoreContract:
    """A checkpoint stays while a session has it, and how a session ended is known."""

    def test_how_a_session_ended_is_known_and_is_said_once(self, stores: Stores) -> None:
        _, lease = start(stores)
        one = begin(stores, "one", put(stores, 1, lease))
        end(stores, one, SessionEnd.EXPIRED, 17)
        end(stores, one, SessionEnd.CLOSED, 18)
        found = stores.sessions.ended(one)
        assert (found.project, found.reason, found.last_seq) == ("default", SessionEnd.EXPIRED, 17)
        with pytest.raises(NotFoundError, match="session_other"):
            stores.sessions.ended("session_other")
        with pytest.raises(NotFoundError, match="ckpt_gone"):
            begin(stores, "two", "ckpt_gone")

    def test_a_checkpoint_stays_for_as_long_as_a_session_has_it(self, stores: Stores) -> None:
        run, lease = start(stores)
        first = put(stores, 1, lease)
        one = begin(stores, "one", first)
        second = put(stores, 2, lease)
        assert stores.checkpoints.read(first) == b"bundle 1"
        stores.sessions.repin(one, second)
        third = put(stores, 3, lease)
        assert {info.id for info in stores.checkpoints.list(run.id).data} == {second, third}
        stores.runs.finish(lease, RunState.SUCCEEDED, reason="completed")
        with pytest.raises(StateConflictError, match="session_one acts"):
            stores.runs.delete(run.id)
        end(stores, one, SessionEnd.CLOSED)
        stores.runs.delete(run.id)

    def test_one_that_a_run_makes_anew_with_another_content_stays_aside(self, stores: Stores) -> None:
        _, lease = start(stores)
        first = put(stores, 1, lease)
        begin(stores, "one", first)
        other = new_checkpoint(1, kind="best", is_best=True, content_sha256="f" * 64)
        assert stores.checkpoints.put(lease, other, b"other").id != first
        assert stores.checkpoints.read(first) == b"bundle 1"

    def test_what_was_written_down_goes_on_once_and_all_others_are_lost(self, stores: Stores) -> None:
        _, lease = start(stores)
        checkpoint = put(stores, 1, lease)
        kept, lost, ended = (begin(stores, name, checkpoint, f"run_{name}") for name in ("a", "b", "c"))
        end(stores, ended, SessionEnd.CLOSED, 3)
        stores.sessions.suspend({kept: b"how it goes on", ended: b"never"})
        taken = stores.sessions.take_over()
        assert taken.snapshots == {kept: (b"how it goes on", "run_a")}
        assert taken.lost_runs == ["run_b"]
        assert stores.sessions.ended(lost).reason is SessionEnd.RESTARTED
        assert stores.sessions.ended(ended).last_seq == 3
        again = stores.sessions.take_over()
        assert (again.snapshots, again.lost_runs) == ({}, ["run_a"])

    def test_a_run_that_records_is_taken_by_no_worker_and_reaped_by_none(self, stores: Stores) -> None:
        run, lease = stores.runs.begin(new_run(kind=RunKind.RECORD), RECORDER, by="t")
        assert (run.state, run.worker, run.attempt) == (RunState.RUNNING, RECORDER, 1)
        assert stores.runs.claim("w", kinds=tuple(RunKind), lease_s=30) is None
        assert stores.runs.reap(max_attempts=1) == []
        stores.episodes.add(lease, new_episode(0), b"recorded")
        ended = stores.runs.finish(lease, RunState.SUCCEEDED, reason="completed", result={"n_episodes": 1})
        states = [event.data["state"] for event in stores.runs.events(run.id) if event.type == "state"]
        assert (ended.state, states) == (RunState.SUCCEEDED, ["queued", "running", "succeeded"])
