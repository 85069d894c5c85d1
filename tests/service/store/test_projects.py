"""Slots are shared between projects, and nobody has more than he may have; on both databases."""

from dataclasses import replace
from typing import Any

import pytest

from service.domain.errors import NotFoundError, QuotaError
from service.domain.projects import BOUND, bound, stores_of
from service.domain.run import RunKind, RunState, StopReason
from service.domain.sweep import SweepState, SweepVerb
from service.store import Stores
from tests.contracts.builders import new_checkpoint, new_run, new_sweep, start
from tests.contracts.threads import in_threads

TRAIN = [RunKind.TRAIN]


def wait(stores: Stores, project: str, count: int = 1, **facts: Any) -> list[str]:
    return [stores.runs.create(new_run(project=project, **facts))[0].id for _ in range(count)]


def claimed(stores: Stores, count: int) -> list[str]:
    """The projects of the runs that are next, in this order."""
    found = [stores.runs.claim("w", kinds=TRAIN, lease_s=60) for _ in range(count)]
    return [each[0].project for each in found if each]


def test_many_runs_of_one_project_do_not_keep_another_one_waiting(stores: Stores) -> None:
    stores.projects.put("small", {})
    wait(stores, "default", 50, priority=100)
    wait(stores, "small")
    assert claimed(stores, 3) == ["default", "small", "default"]


def test_who_has_a_larger_share_has_more_slots(stores: Stores) -> None:
    stores.projects.put("large", {"share": 3})
    wait(stores, "default", 8)
    wait(stores, "large", 8)
    assert sorted(claimed(stores, 8)) == ["default"] * 2 + ["large"] * 6


def test_within_a_project_priority_goes_before_age(stores: Stores) -> None:
    first, second = wait(stores, "default", 2)
    (urgent,) = wait(stores, "default", priority=1)
    order = [stores.runs.claim("w", kinds=TRAIN, lease_s=60) for _ in range(3)]
    assert [each[0].id for each in order if each] == [urgent, first, second]


def test_a_project_at_its_quota_leaves_slots_free(stores: Stores) -> None:
    stores.projects.put("default", {"max_running": 1})
    first, _ = wait(stores, "default", 2)
    assert claimed(stores, 2) == ["default"]
    stores.runs.request_stop(first, StopReason.CANCEL)
    assert claimed(stores, 1) == [], "what stops still has its slot"


def test_more_than_may_wait_or_be_stored_is_refused_with_numbers(stores: Stores) -> None:
    stores.projects.put("default", {"max_queued": 2})
    wait(stores, "default", 2)
    with pytest.raises(QuotaError, match="max_queued") as caught:
        wait(stores, "default")
    assert caught.value.details == {"quota": "max_queued", "used": 2, "limit": 2}
    stores.projects.put("default", {"max_queued": None, "max_stored_mib": 1})
    _, lease = start(stores)
    stores.checkpoints.put(lease, new_checkpoint(1), bytes(2**20 + 1))
    with pytest.raises(QuotaError, match="max_stored_mib"):
        wait(stores, "default")
    stores.projects.put("other", {})
    wait(stores, "other")
    with pytest.raises(NotFoundError, match="no project nowhere"):
        wait(stores, "nowhere")


def test_of_many_who_submit_at_once_no_more_pass_than_may(stores: Stores) -> None:
    stores.projects.put("default", {"max_queued": 3})
    refused: list[QuotaError] = []

    def submit_twice() -> None:
        try:
            wait(stores, "default", 2)
        except QuotaError as error:
            refused.append(error)

    in_threads(submit_twice, 4)
    assert len(stores.runs.list(state=RunState.QUEUED).data) == 3
    assert len(refused) >= 2


def test_a_paused_run_does_not_come_back_beyond_the_quota(stores: Stores) -> None:
    stores.projects.put("default", {"max_queued": 1})
    (paused,) = wait(stores, "default")
    stores.runs.request_stop(paused, StopReason.PAUSE)
    (waiting,) = wait(stores, "default")
    with pytest.raises(QuotaError, match="max_queued"):
        stores.runs.resume(paused)
    stores.runs.request_stop(waiting, StopReason.CANCEL)
    assert stores.runs.resume(paused).state is RunState.QUEUED


def test_a_paused_sweep_does_not_come_back_beyond_the_quota(stores: Stores) -> None:
    stores.projects.put("default", {"max_queued": 2})
    sweep, _ = stores.sweeps.create(new_sweep(n_jobs=2))
    stores.sweeps.change(sweep.id, SweepVerb.PAUSE)
    (waiting,) = wait(stores, "default")
    with pytest.raises(QuotaError, match="max_queued") as caught:
        stores.sweeps.change(sweep.id, SweepVerb.RESUME)
    assert caught.value.details == {"quota": "max_queued", "used": 1, "limit": 2}
    assert stores.sweeps.get(sweep.id).state is SweepState.PAUSED
    stores.runs.request_stop(waiting, StopReason.CANCEL)
    assert stores.sweeps.change(sweep.id, SweepVerb.RESUME).state is SweepState.RUNNING
    assert len(stores.runs.list(state=RunState.QUEUED).data) == 2


def test_a_session_that_is_recorded_takes_no_slot_of_a_worker(stores: Stores) -> None:
    stores.projects.put("default", {"max_running": 1})
    stores.projects.put("other", {})
    stores.runs.begin(new_run(kind=RunKind.RECORD), "sessions")
    wait(stores, "default")
    wait(stores, "other")
    assert claimed(stores, 2) == ["default", "other"]


def test_what_another_project_names_can_be_deleted(stores: Stores) -> None:
    stores.projects.put("other", {})
    run, _ = start(stores)
    stores.runs.request_stop(run.id, StopReason.CANCEL)
    (waiting,) = wait(stores, "other", arguments={"note": run.id})
    ended, _ = stores.runs.create(new_run())
    stores.runs.request_stop(ended.id, StopReason.CANCEL)
    stores.sweeps.create(replace(new_sweep(), project="other", labels={"of": ended.id}))
    stores.runs.delete(ended.id)
    with pytest.raises(NotFoundError):
        stores.runs.get(ended.id)
    assert stores.runs.get(waiting).state is RunState.QUEUED


def test_a_project_keeps_what_a_change_does_not_name(stores: Stores) -> None:
    made, is_new = stores.projects.put("walker", {"share": 2, "max_queued": 5})
    changed, is_new_again = stores.projects.put("walker", {"max_queued": 6})
    assert (is_new, is_new_again) == (True, False)
    assert (changed.share, changed.max_queued, changed.created_at) == (2, 6, made.created_at)
    assert [each.name for each in stores.projects.list()] == ["default", "walker"]


def test_a_method_that_is_of_no_project_cannot_be_called_for_one(stores: Stores) -> None:
    ours = bound(stores.runs, stores.projects, "default")
    for name in ("claim", "reap", "delete_oldest", "heartbeat"):
        with pytest.raises(AttributeError, match="of all projects"):
            getattr(ours, name)
    with pytest.raises(AttributeError):
        _ = bound(stores.webhooks, stores.projects, "default").due


def test_what_a_bound_store_makes_is_its_projects(stores: Stores) -> None:
    stores.projects.put("other", {})
    others = stores_of(stores, "other")
    run, _ = others.runs.create(new_run())
    assert (stores.runs.get(run.id).project, run.state) == ("other", RunState.QUEUED)
    assert [each.id for each in others.runs.list().data] == [run.id]
    with pytest.raises(NotFoundError, match=f"there is no run {run.id}"):
        stores_of(stores, "default").runs.get(run.id)
    assert {"runs", "policies"} < {*BOUND}
