"""A lease is trusted only while another worker cannot have it, and a database that is away is waited for."""

import pytest

from service.domain.errors import StaleLeaseError, StoreUnavailableError
from service.domain.run import Lease
from service.worker import lease_guard
from service.worker.lease_guard import Fenced, LeaseClock, LeaseGuard

LEASE = Lease(run_id="run_1", worker="w", epoch_token=1)


class Clock:
    """A monotonic clock that tests move."""

    now = 1000.0

    def monotonic(self) -> float:
        return self.now


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> Clock:
    clock = Clock()
    monkeypatch.setattr(lease_guard, "time", clock)
    monkeypatch.setattr(lease_guard, "_FIRST_WAIT_S", 0.0)
    monkeypatch.setattr(lease_guard, "_LONGEST_WAIT_S", 0.0)
    return clock


def guard_of(clock: Clock) -> LeaseGuard:
    return LeaseGuard(LEASE, lease_s=30.0, claimed_at=clock.now)


def test_a_lease_is_given_up_a_margin_before_it_lapses(clock: Clock) -> None:
    guard = guard_of(clock)
    clock.now += 24.9
    assert guard.holds()
    clock.now += 0.2
    assert not guard.holds()


def test_a_renewal_counts_from_when_it_was_asked_for(clock: Clock) -> None:
    guard = guard_of(clock)
    asked_at = clock.now + 10.0
    clock.now += 20.0
    guard.renewed(asked_at)
    clock.now = asked_at + 24.9
    assert guard.holds()
    clock.now = asked_at + 25.1
    assert not guard.holds()


def test_a_lease_that_was_given_up_is_never_trusted_again(clock: Clock) -> None:
    guard = guard_of(clock)
    clock.now += 26.0
    assert not guard.holds()
    guard.renewed(clock.now)
    assert not guard.holds()


def test_a_call_is_made_again_until_the_database_answers(clock: Clock) -> None:
    answers = iter([StoreUnavailableError("locked"), StoreUnavailableError("locked"), "written"])

    def call() -> str:
        answer = next(answers)
        if isinstance(answer, Exception):
            raise answer
        return answer

    assert guard_of(clock).persist(call) == "written"


def test_waiting_for_the_database_ends_with_the_lease(clock: Clock) -> None:
    calls = 0

    def call() -> None:
        nonlocal calls
        calls += 1
        clock.now += 10.0
        raise StoreUnavailableError("locked")

    with pytest.raises(Fenced):
        guard_of(clock).persist(call)
    assert calls == 3


def test_a_lease_that_another_worker_has_is_not_asked_for_again(clock: Clock) -> None:
    def call() -> None:
        raise StaleLeaseError("taken over")

    with pytest.raises(StaleLeaseError):
        guard_of(clock).persist(call)


def test_a_worker_that_stood_still_asks_before_it_gives_up(clock: Clock) -> None:
    guard = guard_of(clock)
    guard.look()
    clock.now += 3600.0
    assert guard.holds()
    assert guard.look()
    guard.renewed(clock.now)
    for _ in range(100):
        clock.now += 0.2
        assert guard.look()


def test_an_answer_to_a_question_from_before_the_stop_says_nothing(clock: Clock) -> None:
    guard = guard_of(clock)
    guard.look()
    before = clock.now
    clock.now += 3600.0
    assert guard.look()
    guard.renewed(before)
    assert guard.holds()


def test_a_worker_that_stood_still_and_gets_no_answer_gives_up(clock: Clock) -> None:
    guard = guard_of(clock)
    guard.look()
    clock.now += 3600.0
    looks = 0
    while guard.look():
        clock.now += 0.2
        looks += 1
    assert looks * 0.2 == pytest.approx(15.0, abs=0.4)


@pytest.mark.parametrize(("passed_s", "passed_there_s"), [(2, 602), (602, 602), (602, 2), (2, -600)])
def test_after_a_jump_of_a_clock_no_lease_is_taken_until_a_whole_one_has_passed(
    clock: Clock, passed_s: float, passed_there_s: float
) -> None:
    """Suspended, frozen, a database of its own that was away, a clock that was set back."""
    leases, there = LeaseClock(30.0), 5.0
    assert leases.is_even(there, period_s=2.0)
    for is_jump in (False, True):
        clock.now += passed_s if is_jump else 2.0
        there += passed_there_s if is_jump else 2.0
        assert leases.is_even(there, period_s=2.0) is not is_jump
    waited = 0.0
    while waited < 30.0:
        assert not leases.is_even(there, period_s=2.0)
        waited += 2.0
        clock.now += 2.0
        there += 2.0
    assert leases.is_even(there, period_s=2.0)
