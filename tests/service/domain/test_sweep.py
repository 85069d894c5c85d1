"""What is to be done with a sweep follows from its specification and its jobs alone."""

import pytest

from service.domain.errors import StateConflictError
from service.domain.run import RunState
from service.domain.sweep import (
    ASKS_AT_ONCE,
    JobState,
    Step,
    SweepJob,
    SweepSpec,
    SweepState,
    SweepVerb,
    next_step,
    state_after,
    trials_of,
    value_of,
)

P, M, A = JobState.PLANNED, JobState.MADE, JobState.ASKED
S, F, C, X = JobState.SUCCEEDED, JobState.FAILED, JobState.CANCELLED, JobState.PRUNED
GRID = SweepSpec(fixed={})
SEARCH = SweepSpec(fixed={}, search={"n_trials": 4})
SEEDED = SweepSpec(fixed={}, search={"n_trials": 4}, seeds=[1, 2])
ASKED = SweepSpec(fixed={}, search={"n_trials": 4}, is_asked=True)
DONE = SweepState.SUCCEEDED, "completed"


def step(spec, parallel, *states, state=SweepState.RUNNING, reason=None):
    jobs = [(number, one, 1.0 if one in (S, X) else None) for number, one in enumerate(states)]
    return next_step(state, reason, spec, parallel, jobs)


@pytest.mark.parametrize(
    ("spec", "parallel", "states", "expected"),
    [
        (GRID, None, [P, P, P], Step(make=[0, 1, 2])),
        (GRID, 2, [P, P, P], Step(make=[0, 1])),
        (GRID, 2, [S, M, P, P], Step(make=[2])),
        (GRID, 1, [M, P], Step(make=[])),
        (GRID, 1, [S, F, C], Step(end=DONE)),
        (GRID, 1, [F, C], Step(end=(SweepState.FAILED, "all_failed"))),
        (GRID, 1, [X, F], Step(end=(SweepState.FAILED, "all_failed"))),  # what was given up has no value
        (SEARCH, 1, [], Step(n_asks=1)),
        (SEARCH, 3, [S, M], Step(n_asks=2)),
        (SEARCH, 1, [S, M], Step()),
        (SEARCH, 1, [S, P], Step(make=[1])),
        (SEARCH, None, [], Step(n_asks=4)),
        (SEARCH, 1, [S, X, F, S], Step(end=DONE)),
        (SEEDED, 1, [S, S], Step(n_asks=1)),
        (SEEDED, 2, [M, P], Step(make=[1])),
        (SEEDED, 4, [S, S, S, S], Step(n_asks=2)),
        (ASKED, 1, [], Step()),
        (ASKED, 1, [S, S, S, A], Step()),
        (ASKED, 1, [S, S, S, F], Step(end=DONE)),
    ],
)
def test_runs_are_made_and_trials_proposed_as_there_is_room(spec, parallel, states, expected):
    assert step(spec, parallel, *states) == expected


def test_few_trials_are_proposed_from_one_look():
    many = SweepSpec(fixed={}, search={"n_trials": 500})
    assert step(many, None) == Step(n_asks=ASKS_AT_ONCE)


@pytest.mark.parametrize(
    ("reason", "states", "expected"),
    [
        ("user_stop", [M, C], None),
        ("user_stop", [S, C], (SweepState.SUCCEEDED, "user_stop")),
        ("user_stop", [F, C], (SweepState.CANCELLED, "user_stop")),
        ("user_cancel", [S, C], (SweepState.CANCELLED, "user_cancel")),
        ("user_cancel", [S, M], None),
    ],
)
def test_a_stopping_sweep_ends_with_its_last_run(reason, states, expected):
    assert step(GRID, 1, *states, state=SweepState.STOPPING, reason=reason) == Step(end=expected)


@pytest.mark.parametrize("state", [SweepState.PAUSED, SweepState.SUCCEEDED, SweepState.CANCELLED])
def test_nothing_is_done_with_a_paused_sweep_or_an_ended_one(state):
    assert step(GRID, 1, P, S, state=state) == step(GRID, 1, S, S, state=state) == Step()


def test_verbs_lead_where_the_diagram_says():
    ways = {
        (state, verb): state_after("sweep_1", state, verb)
        for state in (SweepState.RUNNING, SweepState.PAUSED)
        for verb in SweepVerb
    }
    assert set(ways.values()) == {SweepState.RUNNING, SweepState.PAUSED, SweepState.STOPPING}
    assert state_after("sweep_1", SweepState.STOPPING, SweepVerb.CANCEL) is SweepState.STOPPING
    for state, verb in ((SweepState.STOPPING, SweepVerb.RESUME), (SweepState.FAILED, SweepVerb.CANCEL)):
        with pytest.raises(StateConflictError, match="sweep_1 is"):
            state_after("sweep_1", state, verb)


def job(number, trial, value=None, state="succeeded", **choices):
    return SweepJob(job=number, trial=trial, choices=choices, state=state, value=value, run=f"run_{number}")


def test_a_trial_is_as_good_as_the_mean_over_its_seeds_once_all_have_ended_well():
    jobs = [
        job(0, 0, 1.0, lr=1, seed=1), job(1, 1, 5.0, lr=2, seed=1),
        job(2, 0, 2.0, lr=1, seed=2), job(3, 1, None, "failed", lr=2, seed=2),
    ]  # fmt: skip
    first, second = trials_of(jobs)
    assert (first.choices, first.value, first.has_ended) == ({"lr": 1}, 1.5, True)
    assert (second.value, second.has_ended, second.runs) == (None, True, ["run_1", "run_3"])
    assert not trials_of([job(0, 0, None, "running")])[0].has_ended


@pytest.mark.parametrize(
    ("value", "expected"), [(1, 1.0), (2.5, 2.5), (True, None), ("1", None), (None, None)]
)
def test_a_value_is_a_finite_number_of_a_run_that_has_succeeded(value, expected):
    assert value_of(RunState.SUCCEEDED, value) == expected
    assert value_of(RunState.CANCELLED, value) is None
    assert value_of(RunState.SUCCEEDED, float("inf")) is None
