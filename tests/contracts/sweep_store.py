"""What every sweep store must do: jobs become runs, once each, whoever asks for it and how often."""

import threading
from dataclasses import replace
from typing import Any

import pytest

from service.domain.errors import IdempotencyConflictError, NotFoundError, StateConflictError
from service.domain.run import MetricPoint, RunKind, RunState, StopReason
from service.domain.sweep import JobState, Sweep, SweepState, SweepVerb
from service.store import Stores
from tests.contracts.builders import new_job, new_sweep
from tests.contracts.threads import in_threads

SEARCH = {"search": {"n_trials": 3}}
ASKED = {**SEARCH, "is_asked": True}


def created(stores: Stores, n_jobs: int = 2, **facts: Any) -> str:
    return stores.sweeps.create(new_sweep(n_jobs, **facts))[0].id


def end_one(stores: Stores, state: RunState = RunState.SUCCEEDED, **result: Any) -> str:
    claimed = stores.runs.claim("w", kinds=[RunKind.TRAIN], lease_s=30)
    assert claimed is not None
    run, lease = claimed
    stores.runs.finish(lease, state, reason="completed", result=result)
    return run.id


def runs_of(stores: Stores, sweep_id: str) -> list[Any]:
    return [stores.runs.get(run.id) for run in stores.runs.list(sweep=sweep_id, limit=200).data]


class SweepStoreContract:
    def test_a_new_sweep_reads_back_as_it_was_given_and_has_its_first_runs(self, stores: Stores) -> None:
        new = new_sweep(3, name="g", labels={"team": "a"}, priority=5, parallel=2)
        sweep, is_new = stores.sweeps.create(new, by="token")
        assert is_new
        assert sweep == stores.sweeps.get(new.id)
        for name in ("id", "name", "labels", "priority", "parallel", "request", "spec"):
            assert getattr(sweep, name) == getattr(new, name), name
        assert (sweep.state, sweep.counts, sweep.best) == ("running", {"queued": 2, "planned": 1}, None)
        runs = {run.id: run for run in runs_of(stores, new.id)}
        made = [runs[job.run] for job in stores.sweeps.jobs(new.id).data[:2]]
        assert [run.config for run in made] == [{"lr": 0}, {"lr": 1}]
        assert {(run.sweep, run.priority, run.labels["team"]) for run in made} == {(new.id, 5, "a")}
        assert [run.name for run in made] == ["g 0", "g 1"]

    def test_a_key_makes_one_sweep(self, stores: Stores) -> None:
        made: list[tuple[Sweep, bool]] = []
        in_threads(lambda: made.append(stores.sweeps.create(new_sweep(), ("k", "digest"))), 4)
        assert len({sweep.id for sweep, _ in made}) == 1
        assert sorted(is_new for _, is_new in made) == [False, False, False, True]
        assert len(stores.runs.list().data) == 2
        submitted = stores.sweeps.submitted("k", "digest")
        assert submitted is not None
        assert submitted.id == made[0][0].id
        assert stores.sweeps.submitted("other", "digest") is None
        with pytest.raises(IdempotencyConflictError):
            stores.sweeps.create(new_sweep(), ("k", "other"))

    def test_whoever_advances_a_sweep_at_once_makes_each_run_once(self, stores: Stores) -> None:
        sweep_id = created(stores, 6, parallel=3)
        for _ in range(3):
            end_one(stores, best_value=1.0)
        in_threads(lambda: stores.sweeps.advance(sweep_id) and None, 4)
        assert stores.sweeps.get(sweep_id).counts == {"succeeded": 3, "queued": 3}
        assert sorted(run.config["lr"] for run in runs_of(stores, sweep_id)) == [0, 1, 2, 3, 4, 5]

    def test_a_sweep_without_a_limit_makes_all_its_runs(self, stores: Stores) -> None:
        sweep_id = created(stores, 120)
        while stores.sweeps.advance(sweep_id) is not None:
            pass
        assert stores.sweeps.get(sweep_id).counts == {"queued": 120}

    def test_it_ends_with_its_last_run_and_knows_the_best(self, stores: Stores) -> None:
        sweep_id = created(stores, 3)
        for value in (2.0, 7.0, 7.0):
            end_one(stores, best_value=value)
        assert stores.sweeps.advance(sweep_id) is None
        sweep = stores.sweeps.get(sweep_id)
        assert (sweep.state, sweep.reason) == ("succeeded", "completed")
        assert sweep.finished_at is not None
        assert sweep.best is not None
        assert (sweep.best.trial, sweep.best.value) == (1, 7.0)
        assert stores.sweeps.active() == []

    @pytest.mark.parametrize("value", [None, float("nan"), float("inf"), "7", True])
    def test_what_is_no_number_is_no_value(self, stores: Stores, value: Any) -> None:
        sweep_id = created(stores, 1)
        end_one(stores, best_value=value)
        stores.sweeps.advance(sweep_id)
        sweep = stores.sweeps.get(sweep_id)
        assert (sweep.state, sweep.reason, sweep.best) == ("failed", "no_value", None)

    def test_the_value_of_a_run_outlives_the_run(self, stores: Stores) -> None:
        sweep_id = created(stores, 2)
        stores.runs.delete(end_one(stores, best_value=2.0))  # nobody had looked before
        run_id = end_one(stores, best_value=3.0)
        stores.sweeps.advance(sweep_id)
        stores.runs.delete(run_id)
        jobs = stores.sweeps.jobs(sweep_id).data
        assert [(job.state, job.value, job.reason) for job in jobs] == [
            ("failed", None, "deleted"),
            ("succeeded", 3.0, "completed"),
        ]

    def test_trials_are_asked_for_when_there_is_room_and_stored_where_nothing_has_changed(
        self, stores: Stores
    ) -> None:
        sweep_id = created(stores, 0, spec=SEARCH, parallel=2)
        wanted = stores.sweeps.advance(sweep_id)
        assert wanted is not None
        assert (wanted.n, wanted.trials) == (2, [])
        assert stores.sweeps.propose(sweep_id, wanted.revision, [new_job(0), new_job(1)])
        assert not stores.sweeps.propose(sweep_id, wanted.revision, [new_job(0), new_job(1)])
        assert stores.sweeps.advance(sweep_id) is None
        end_one(stores, best_value=4.0)
        wanted = stores.sweeps.advance(sweep_id)
        assert wanted is not None
        assert [(trial.trial, trial.value, trial.has_ended) for trial in wanted.trials] == [
            (0, 4.0, True),
            (1, None, False),
        ]
        bad = new_job(2, plan=None, error="no such thing")
        assert stores.sweeps.propose(sweep_id, wanted.revision, [bad])
        end_one(stores, best_value=1.0)
        stores.sweeps.advance(sweep_id)
        assert stores.sweeps.get(sweep_id).state == "succeeded"

    def test_seeds_of_a_trial_are_one_value(self, stores: Stores) -> None:
        sweep_id = created(stores, 0, spec={**SEARCH, "seeds": [1, 2]}, parallel=2)
        wanted = stores.sweeps.advance(sweep_id)
        assert wanted is not None
        assert wanted.n == 1
        jobs = [new_job(number, trial=0, choices={"lr": 5, "seed": number}) for number in range(2)]
        stores.sweeps.propose(sweep_id, wanted.revision, jobs)
        end_one(stores, best_value=1.0)
        assert stores.sweeps.get(sweep_id).best is None
        end_one(stores, best_value=2.0)
        wanted = stores.sweeps.advance(sweep_id)
        assert wanted is not None
        (trial,) = wanted.trials
        assert (trial.choices, trial.value, len(trial.runs)) == ({"lr": 5}, 1.5, 2)

    def test_verbs_reach_the_runs_and_again_change_nothing(self, stores: Stores) -> None:
        sweep_id = created(stores, 3, parallel=2)
        claimed = stores.runs.claim("w", kinds=[RunKind.TRAIN], lease_s=30)
        assert claimed is not None
        for verb, state, counts in (
            (SweepVerb.PAUSE, SweepState.PAUSED, {"stopping": 1, "paused": 1, "planned": 1}),
            (SweepVerb.RESUME, SweepState.RUNNING, {"running": 1, "queued": 1, "planned": 1}),
            (SweepVerb.STOP, SweepState.STOPPING, {"running": 1, "queued": 1, "cancelled": 1}),
            (SweepVerb.CANCEL, SweepState.STOPPING, {"stopping": 1, "cancelled": 2}),
        ):
            changed = stores.sweeps.change(sweep_id, verb, by="me")
            assert (changed.state, changed.counts) == (state, counts)
            again = stores.sweeps.change(sweep_id, verb)
            assert replace(again, revision=changed.revision) == changed
            assert again.revision == changed.revision
        assert stores.runs.get(claimed[0].id).stop_wish is StopReason.CANCEL
        stores.runs.finish(claimed[1], RunState.CANCELLED, reason="user_cancel")
        stores.sweeps.advance(sweep_id)
        assert (stores.sweeps.get(sweep_id).state, stores.sweeps.get(sweep_id).reason) == (
            "cancelled", "user_cancel",
        )  # fmt: skip
        with pytest.raises(StateConflictError, match="it has ended"):
            stores.sweeps.change(sweep_id, SweepVerb.PAUSE)

    def test_a_sweep_is_steered_while_its_runs_report(self, stores: Stores) -> None:
        sweep_id = created(stores, 8)
        leases = []
        for _ in range(8):
            claimed = stores.runs.claim("w", kinds=[RunKind.TRAIN], lease_s=300)
            assert claimed is not None
            leases.append(claimed[1])
        steered = threading.Event()
        roles = iter([None, *(leases[at::3] for at in range(3))])

        def act() -> None:
            reporting = next(roles)
            try:
                for number in range(10_000):
                    if reporting is None and number < 30:
                        verb = SweepVerb.RESUME if number % 2 else SweepVerb.PAUSE
                        stores.sweeps.change(sweep_id, verb)
                    elif reporting is None or steered.is_set():
                        break
                    else:
                        for lease in reporting:
                            stores.runs.report(lease, phase=str(number))
            finally:
                steered.set()

        in_threads(act, 4)
        assert stores.sweeps.change(sweep_id, SweepVerb.CANCEL).counts == {"stopping": 8}
        positions = [event.position for event in stores.runs.feed(limit=100_000)]
        assert positions == [*range(1, len(positions) + 1)]

    def test_a_verb_that_changes_nothing_of_the_sweep_reaches_a_run_that_was_steered_by_itself(
        self, stores: Stores
    ) -> None:
        sweep_id = created(stores, 2)
        first, second = runs_of(stores, sweep_id)
        stores.runs.request_stop(first.id, StopReason.PAUSE)
        assert stores.sweeps.change(sweep_id, SweepVerb.RESUME).counts == {"queued": 2}
        stores.sweeps.change(sweep_id, SweepVerb.PAUSE)
        stores.runs.resume(second.id)
        assert stores.sweeps.change(sweep_id, SweepVerb.PAUSE).counts == {"paused": 2}

    def test_all_runs_of_a_large_sweep_are_steered_and_each_tells_so_once(self, stores: Stores) -> None:
        sweep_id = created(stores, 120)
        while stores.sweeps.advance(sweep_id) is not None:
            pass
        for verb in (SweepVerb.PAUSE, SweepVerb.RESUME, SweepVerb.CANCEL):
            stores.sweeps.change(sweep_id, verb, by="me")
        sweep = stores.sweeps.get(sweep_id)
        assert (sweep.state, sweep.counts) == ("cancelled", {"cancelled": 120})
        for run in runs_of(stores, sweep_id):
            states = [event.data["state"] for event in stores.runs.events(run.id)]
            assert states == ["queued", "paused", "queued", "cancelled", "cancelled"]  # the last is its end
            assert run.finished_at is not None

    def test_runs_that_succeed_without_the_metric_are_not_said_to_have_failed(self, stores: Stores) -> None:
        sweep_id = created(stores, 2, spec={"metric": "train/nonesuch"})
        for _ in range(2):
            end_one(stores, best_value=1.0)
        stores.sweeps.advance(sweep_id)
        sweep = stores.sweeps.get(sweep_id)
        assert (sweep.state, sweep.reason, sweep.counts) == ("failed", "no_value", {"succeeded": 2})
        assert sweep.error is not None
        assert sweep.error["code"] == "no_value"
        assert "none of them has train/nonesuch" in sweep.error["message"]

    def test_a_stopped_sweep_makes_no_run_and_a_paused_one_neither(self, stores: Stores) -> None:
        for verb in (SweepVerb.PAUSE, SweepVerb.STOP):
            sweep_id = created(stores, 3, parallel=1)
            stores.sweeps.change(sweep_id, verb)
            if verb is SweepVerb.STOP:
                end_one(stores, best_value=1.0)
            stores.sweeps.advance(sweep_id)
            assert len(runs_of(stores, sweep_id)) == 1

    def test_what_was_asked_for_is_told_once(self, stores: Stores) -> None:
        sweep_id = created(stores, 0, spec=ASKED)
        assert stores.sweeps.advance(sweep_id) is None
        jobs = [new_job(number, plan=None) for number in range(3)]
        assert stores.sweeps.propose(sweep_id, stores.sweeps.trials(sweep_id).revision, jobs)
        assert stores.sweeps.get(sweep_id).counts == {"asked": 3}
        for _ in range(2):
            stores.sweeps.tell(sweep_id, 0, JobState.SUCCEEDED, 2.5)
        with pytest.raises(StateConflictError, match=r"value 2\.5 already"):
            stores.sweeps.tell(sweep_id, 0, JobState.FAILED, None)
        with pytest.raises(NotFoundError, match="no trial 3"):
            stores.sweeps.tell(sweep_id, 3, JobState.FAILED, None)
        stores.sweeps.tell(sweep_id, 1, JobState.FAILED, None)
        assert stores.sweeps.tell(sweep_id, 2, JobState.SUCCEEDED, 1.0).state == "succeeded"

    def test_what_was_asked_for_with_a_key_is_found_with_it_until_the_sweep_is_forgotten(
        self, stores: Stores
    ) -> None:
        sweep_id = created(stores, 0, spec=ASKED)
        for key, numbers in (("key", [0, 1]), ("other", [2])):
            jobs = [new_job(number, plan=None) for number in numbers]
            assert stores.sweeps.asked(sweep_id, key, "digest") is None
            revision = stores.sweeps.trials(sweep_id).revision
            assert not stores.sweeps.propose(sweep_id, revision - 1, jobs, (key, "digest"))
            assert stores.sweeps.propose(sweep_id, revision, jobs, (key, "digest"))
        for key, numbers in (("key", [0, 1]), ("other", [2])):
            found = stores.sweeps.asked(sweep_id, key, "digest")
            assert [(job.trial, job.choices) for job in found or ()] == [
                (number, new_job(number).choices) for number in numbers
            ]
        with pytest.raises(IdempotencyConflictError):
            stores.sweeps.asked(sweep_id, "key", "another digest")
        stores.sweeps.change(sweep_id, SweepVerb.CANCEL)
        stores.sweeps.delete(sweep_id)
        assert stores.sweeps.asked(sweep_id, "key", "digest") is None

    def test_a_sweep_that_cannot_go_on_says_why(self, stores: Stores) -> None:
        sweep_id = created(stores, 0, spec=SEARCH)
        stores.sweeps.fail(sweep_id, "missing_extra", "Optuna is not installed")
        sweep = stores.sweeps.get(sweep_id)
        assert (sweep.state, sweep.reason, sweep.error) == (
            "failed",
            "missing_extra",
            {"code": "missing_extra", "message": "Optuna is not installed"},
        )

    def test_what_a_sweep_needs_is_kept_until_it_has_ended(self, stores: Stores) -> None:
        (source,) = runs_of(stores, created(stores, 1))
        end_one(stores, best_value=1.0)
        spec = {"sources": [source.id]}
        sweep_id = created(stores, 1, spec=spec)
        with pytest.raises(StateConflictError, match=f"sweep {sweep_id} needs"):
            stores.runs.delete(source.id)
        stores.sweeps.change(sweep_id, SweepVerb.CANCEL)
        stores.runs.delete(source.id)

    def test_only_an_ended_sweep_is_deleted_and_its_runs_stay(self, stores: Stores) -> None:
        sweep_id = created(stores, 1)
        with pytest.raises(StateConflictError, match="cancel it first"):
            stores.sweeps.delete(sweep_id)
        run_id = end_one(stores, best_value=1.0)
        stores.sweeps.advance(sweep_id)
        stores.sweeps.delete(sweep_id)
        assert stores.runs.get(run_id).sweep is None
        for ask in (stores.sweeps.get, stores.sweeps.advance, stores.sweeps.delete, stores.sweeps.jobs):
            with pytest.raises(NotFoundError, match=sweep_id):
                ask(sweep_id)

    def test_sweeps_and_jobs_are_listed_in_pages(self, stores: Stores) -> None:
        ids = [created(stores, 3) for _ in range(3)]
        first = stores.sweeps.list(limit=2)
        rest = stores.sweeps.list(limit=2, cursor=first.next_cursor)
        assert [sweep.id for sweep in first.data + rest.data] == ids[::-1]
        assert [sweep.counts for sweep in first.data] == [{"queued": 3}] * 2
        assert rest.next_cursor is None
        assert stores.sweeps.list(state=SweepState.PAUSED).data == []
        page = stores.sweeps.jobs(ids[0], limit=2)
        assert [job.job for job in page.data] == [0, 1]
        assert [job.job for job in stores.sweeps.jobs(ids[0], limit=2, cursor=page.next_cursor).data] == [2]
        for ask in (stores.sweeps.list, lambda cursor: stores.sweeps.jobs(ids[0], cursor=cursor)):
            with pytest.raises(ValueError, match="cursor"):
                ask(cursor="nonsense")

    def test_sweeps_are_listed_as_each_is_by_itself(self, stores: Stores) -> None:
        specs: tuple[dict[str, Any], ...] = ({}, {"minimize": True}, {})
        ids = [created(stores, 3, spec=spec) for spec in specs]
        for value in (2.0, 7.0, 7.0, 5.0, 4.0, 4.0):
            end_one(stores, best_value=value)
        for sweep_id in ids:
            stores.sweeps.advance(sweep_id)
        listed = stores.sweeps.list().data
        assert listed == [replace(stores.sweeps.get(sweep_id), request={}) for sweep_id in ids[::-1]]
        assert [sweep.best and sweep.best.value for sweep in listed] == [None, 4.0, 7.0]

    def test_a_job_that_is_given_up_ends_its_run_and_is_never_the_best(self, stores: Stores) -> None:
        spec = {"search": {"n_trials": 2, "pruner": "median"}}
        sweep_id = created(stores, 2, spec=spec, parallel=2)
        claimed = stores.runs.claim("w", kinds=[RunKind.TRAIN], lease_s=30)
        assert claimed is not None
        run, lease = claimed
        points = [
            MetricPoint(name="eval/mean_return", epoch=epoch, step=epoch, value=float(epoch))
            for epoch in (1, 2)
        ]
        stores.runs.report(lease, metrics=points)
        known = stores.sweeps.curves(sweep_id)
        assert known is not None
        assert (known.curves, known.at_work) == ({0: {1: 1.0, 2: 2.0}, 1: {}}, [0, 1])
        for _ in range(2):  # again changes nothing
            stores.sweeps.prune(sweep_id, {0: (1, 1.0)})
        wished = stores.runs.get(run.id)
        assert (wished.state, wished.reason, wished.stop_wish) == ("stopping", "pruned", StopReason.PRUNE)
        assert stores.runs.request_stop(run.id, StopReason.PAUSE).stop_wish is StopReason.PRUNE
        known = stores.sweeps.curves(sweep_id)
        assert known is not None
        assert (known.curves, known.at_work) == ({0: {1: 1.0}, 1: {}}, [1])
        rest = stores.sweeps.curves(sweep_id, without=[0])
        assert rest is not None
        assert (rest.curves, rest.at_work) == ({1: {}}, [1])
        stores.runs.finish(lease, RunState.CANCELLED, reason="pruned")
        end_one(stores, best_value=-5.0)
        stores.sweeps.advance(sweep_id, {1: 0})
        sweep = stores.sweeps.get(sweep_id)
        assert (sweep.state, sweep.counts) == ("succeeded", {"pruned": 1, "succeeded": 1})
        assert sweep.best is not None
        assert (sweep.best.trial, sweep.best.value) == (1, -5.0)
        job = stores.sweeps.jobs(sweep_id).data[0]
        assert (job.state, job.value, job.pruned_at, job.run) == ("pruned", 1.0, 1, run.id)
        assert [trial.pruned_at for trial in stores.sweeps.trials(sweep_id).trials] == [1, None]

    def test_the_end_of_a_run_is_noted_when_a_pruner_has_seen_all_of_it(self, stores: Stores) -> None:
        sweep_id = created(stores, 1, spec={"search": {"n_trials": 1, "pruner": "median"}})
        claimed = stores.runs.claim("w", kinds=[RunKind.TRAIN], lease_s=30)
        assert claimed is not None
        point = MetricPoint(name="eval/mean_return", epoch=3, step=3, value=1.0)
        stores.runs.report(claimed[1], metrics=[point])
        stores.runs.finish(claimed[1], RunState.SUCCEEDED, reason="completed", result={"best_value": 1.0})
        for judged in (None, {}, {0: 2}):
            assert stores.sweeps.advance(sweep_id, judged) is None
            assert stores.sweeps.get(sweep_id).state == "running"
        stores.sweeps.advance(sweep_id, {0: 3})
        assert stores.sweeps.get(sweep_id).state == "succeeded"
