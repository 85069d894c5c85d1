"""Any order of submissions, claims, cancels, ends and lapsed leases keeps the run store's promises.

A model of a few lines says what each act must do; leases that were lost are used again and again.
"""

import shutil
import tempfile
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path

import hypothesis.strategies as st
import pytest
from hypothesis import HealthCheck, settings
from hypothesis.stateful import (
    Bundle,
    RuleBasedStateMachine,
    invariant,
    rule,
    run_state_machine_as_test,
)

from service.domain.errors import StaleLeaseError, StateConflictError
from service.domain.run import ENDING_WISHES, EventType, Lease, RunKind, RunState, StopReason
from service.domain.use_cases import LEASED_STATES, TERMINAL_STATES, legal
from service.store import open_stores
from service.store.runs import STOPPED_STATES
from tests.contracts.builders import submit

MAX_ATTEMPTS = 2


@dataclass
class Expected:
    """What the store must say of a run."""

    state: RunState = RunState.QUEUED
    wish: StopReason | None = None
    attempt: int = 0
    epoch_token: int = 0
    lease: Lease | None = None
    lapsed: bool = False

    def leave(self, state: RunState) -> None:
        self.state, self.lease, self.lapsed = state, None, False

    def give_back(self) -> None:
        is_paused = self.wish is StopReason.PAUSE
        self.leave(RunState.PAUSED if is_paused else RunState.QUEUED)
        self.wish = None if is_paused else self.wish


class RunMachine(RuleBasedStateMachine):
    """The store beside its model."""

    template: Path
    runs: Bundle[str] = Bundle("runs")
    leases: Bundle[Lease] = Bundle("leases")

    def __init__(self) -> None:
        super().__init__()
        self.directory = tempfile.TemporaryDirectory()
        path = Path(self.directory.name, "maze.db")
        shutil.copyfile(self.template, path)
        self.stores = open_stores(f"sqlite:///{path}")
        self.model: dict[str, Expected] = {}

    def teardown(self) -> None:
        self.stores.close()
        self.directory.cleanup()

    @rule(target=runs)
    def submit(self) -> str:
        run_id = submit(self.stores).id
        self.model[run_id] = Expected()
        return run_id

    @rule(target=leases, lapses=st.booleans(), worker=st.sampled_from(["w1", "w2"]))
    def claim(self, lapses: bool, worker: str) -> Lease:
        waiting = [run_id for run_id, run in self.model.items() if run.state is RunState.QUEUED]
        claimed = self.stores.runs.claim(worker, kinds=list(RunKind), lease_s=-1 if lapses else 600)
        if claimed is None:
            assert waiting == []
            return Lease(run_id="run_none", worker=worker, epoch_token=0)
        run, lease = claimed
        assert run.id == waiting[0]
        expected = self.model[run.id]
        expected.state = RunState.STOPPING if expected.wish else RunState.RUNNING
        expected.attempt += 1
        expected.epoch_token += 1
        expected.lease, expected.lapsed = lease, lapses
        return lease

    @rule(run_id=runs, wish=st.sampled_from(sorted(STOPPED_STATES)))
    def stop(self, run_id: str, wish: StopReason) -> None:
        expected = self.model[run_id]
        if expected.state in TERMINAL_STATES:
            with pytest.raises(StateConflictError):
                self.stores.runs.request_stop(run_id, wish)
            return
        self.stores.runs.request_stop(run_id, wish)
        if expected.wish in ENDING_WISHES and wish is not StopReason.CANCEL:
            wish = expected.wish
        if expected.state in LEASED_STATES:
            expected.state, expected.wish = RunState.STOPPING, wish
        else:
            expected.state = STOPPED_STATES[wish]
            expected.wish = wish if wish in ENDING_WISHES else None

    @rule(run_id=runs)
    def resume(self, run_id: str) -> None:
        expected = self.model[run_id]
        is_pausing = expected.state is RunState.STOPPING and expected.wish is StopReason.PAUSE
        if expected.state is not RunState.PAUSED and not is_pausing:
            with pytest.raises(StateConflictError):
                self.stores.runs.resume(run_id)
            return
        self.stores.runs.resume(run_id)
        expected.wish = None
        expected.state = RunState.QUEUED if expected.state is RunState.PAUSED else RunState.RUNNING

    @rule(lease=leases)
    def heartbeat(self, lease: Lease) -> None:
        expected = self.holder(lease)
        if expected is None:
            with pytest.raises(StaleLeaseError):
                self.stores.runs.heartbeat(lease, lease_s=600)
            return
        assert self.stores.runs.heartbeat(lease, lease_s=600) is expected.wish
        expected.lapsed = False

    @rule(lease=leases, state=st.sampled_from(sorted(TERMINAL_STATES)))
    def finish(self, lease: Lease, state: RunState) -> None:
        expected = self.holder(lease)
        refused = StaleLeaseError if expected is None else StateConflictError
        if expected is None or not legal(expected.state, state):
            with pytest.raises(refused):
                self.stores.runs.finish(lease, state, reason="test")
            return
        self.stores.runs.finish(lease, state, reason="test")
        expected.leave(state)

    @rule(lease=leases, charged=st.booleans())
    def release(self, lease: Lease, charged: bool) -> None:
        expected = self.holder(lease)
        if expected is None:
            with pytest.raises(StaleLeaseError):
                self.stores.runs.release(lease, reason="test", charge_attempt=charged)
            return
        self.stores.runs.release(lease, reason="test", charge_attempt=charged)
        expected.attempt -= not charged
        expected.give_back()

    @rule()
    def reap(self) -> None:
        reaped = {run.id for run in self.stores.runs.reap(max_attempts=MAX_ATTEMPTS)}
        assert reaped == {run_id for run_id, run in self.model.items() if run.lapsed}
        for run_id in reaped:
            expected = self.model[run_id]
            if expected.attempt < MAX_ATTEMPTS or expected.wish is StopReason.PAUSE:
                expected.give_back()
            else:
                expected.leave(RunState.CANCELLED if expected.wish else RunState.FAILED)

    @invariant()
    def every_run_is_as_the_model_says(self) -> None:
        for run_id, expected in self.model.items():
            run = self.stores.runs.get(run_id)
            assert (run.state, run.stop_wish) == (expected.state, expected.wish)
            assert (run.attempt, run.epoch_token) == (expected.attempt, expected.epoch_token)
            assert (run.finished_at is not None) is run.state.is_terminal

    @invariant()
    def events_are_gapless_and_tell_the_story(self) -> None:
        for run_id, expected in self.model.items():
            events = self.stores.runs.events(run_id)
            assert [event.seq for event in events] == list(range(1, len(events) + 1))
            story = [RunState(event.data["state"]) for event in events if event.type is EventType.STATE]
            assert story[-1] is expected.state
            assert all(legal(before, after) for before, after in pairwise(story))
            assert (events[-1].type is EventType.END) is expected.state.is_terminal

    def holder(self, lease: Lease) -> Expected | None:
        """The run that this lease still holds."""
        expected = self.model.get(lease.run_id)
        return expected if expected is not None and expected.lease == lease else None


def test_the_run_store_does_as_its_model_in_any_order(migrated_sqlite_file: Path) -> None:
    RunMachine.template = migrated_sqlite_file
    run_state_machine_as_test(
        RunMachine,
        settings=settings(
            max_examples=15, stateful_step_count=20, deadline=None, suppress_health_check=list(HealthCheck)
        ),
    )
