"""How every ending of a child is written to its run: the exit policy as a table."""

import signal
from typing import Any

import pytest

from service.domain.run import RunState, StopReason
from service.worker import frames
from service.worker.settlement import Ending, Finish, Release, Settlement, settle

CANCEL, PAUSE, SHUTDOWN = StopReason.CANCEL, StopReason.PAUSE, StopReason.SHUTDOWN
COMPLETED = frames.Result(stop_reason="target_reached", result={"a": 1})
STOPPED = frames.Result(stop_reason="cancelled", result={"a": 1})
BROKEN = frames.Failure(code="env_error", message="it broke")
NO_MEMORY = frames.Failure(code="out_of_memory", message="MemoryError: no room")
GRACE_OVER = frames.Failure(code="stopped", message="too late")
SIGKILL = -int(signal.SIGKILL)


def ended(last: frames.Result | frames.Failure | None, **facts: Any) -> Settlement:
    return settle(Ending(last=last, **{"attempt": 1, "max_attempts": 3, **facts}))


@pytest.mark.parametrize("wish", [None, CANCEL, PAUSE, SHUTDOWN])
def test_a_run_that_finished_first_has_succeeded_whatever_was_wished(wish: StopReason | None) -> None:
    settled = ended(COMPLETED, wish=wish)
    assert settled == Finish(state=RunState.SUCCEEDED, reason="target_reached", result={"a": 1})


@pytest.mark.parametrize("last", [STOPPED, GRACE_OVER, NO_MEMORY, BROKEN, None])
def test_whatever_ends_a_run_after_a_cancel_it_is_cancelled(
    last: frames.Result | frames.Failure | None,
) -> None:
    settled = ended(last, wish=CANCEL, exit_code=SIGKILL, attempt=3)
    assert isinstance(settled, Finish)
    assert (settled.state, settled.reason) == (RunState.CANCELLED, "user_cancel")
    assert settled.result == ({"a": 1} if last is STOPPED else None)


@pytest.mark.parametrize("wish", [PAUSE, SHUTDOWN])
@pytest.mark.parametrize("last", [STOPPED, GRACE_OVER, NO_MEMORY, None])
def test_a_pause_or_a_shutdown_charges_no_attempt(
    last: frames.Result | frames.Failure | None, wish: StopReason
) -> None:
    settled = ended(last, wish=wish, exit_code=SIGKILL, attempt=3)
    assert settled == Release(reason=wish, charge_attempt=False)


@pytest.mark.parametrize("wish", [None, PAUSE, SHUTDOWN])
def test_an_error_of_the_run_fails_it_in_its_first_attempt(wish: StopReason | None) -> None:
    settled = ended(BROKEN, wish=wish)
    described = {"code": "env_error", "message": "it broke"}
    assert settled == Finish(state=RunState.FAILED, reason="env_error", error=described)


def test_the_mistakes_of_a_specification_are_told_one_by_one() -> None:
    last = frames.Failure(code="invalid_specification", message="m", problems=({"path": "env.name"},))
    settled = ended(last)
    assert isinstance(settled, Finish)
    assert settled.error is not None
    assert settled.error["problems"] == [{"path": "env.name"}]


@pytest.mark.parametrize(
    ("facts", "reason", "note"),
    [
        ({"last": None, "exit_code": SIGKILL}, "child_killed", "killed by SIGKILL (signal 9), as the system"),
        ({"last": None, "exit_code": 7}, "child_ended", "exit code 7"),
        ({"last": None}, "child_ended", "in an unknown way"),
        ({"last": NO_MEMORY}, "out_of_memory", "MemoryError: no room"),
        ({"last": STOPPED}, "child_ended", "asked to stop by a signal"),
        ({"last": GRACE_OVER}, "stopped", "too late"),
    ],
)
def test_what_may_pass_is_tried_again_and_charged(facts: dict[str, Any], reason: str, note: str) -> None:
    settled = ended(attempt=2, **facts)
    assert isinstance(settled, Release)
    assert (settled.reason, settled.charge_attempt) == (reason, True)
    assert "attempt 2 of 3" in settled.notes[0]
    assert note in settled.notes[0]


def test_the_last_attempt_says_how_it_ended() -> None:
    usage = frames.Usage(max_rss_bytes=512 * 2**20, cpu_s=1.0)
    settled = ended(None, exit_code=SIGKILL, attempt=3, usage=usage)
    assert isinstance(settled, Finish)
    assert (settled.state, settled.reason) == (RunState.FAILED, "attempts_exhausted")
    assert settled.error is not None
    assert (settled.error["signal"], settled.error["max_rss_bytes"]) == (9, 512 * 2**20)
    assert "peak memory 512 MiB" in settled.error["message"]


@pytest.mark.parametrize(
    "facts",
    [
        {"last": None, "exit_code": SIGKILL},
        {"last": None, "exit_code": -int(signal.SIGSEGV)},
        {"last": None, "exit_code": 7},
        {"last": NO_MEMORY},
        {"last": STOPPED},
    ],
)
def test_an_attempt_in_which_the_run_got_further_is_not_the_last_however_it_ended(
    facts: dict[str, Any],
) -> None:
    settled = ended(attempt=0, max_attempts=1, **facts)
    assert isinstance(settled, Release)
    assert "does not count" in settled.notes[0]
    assert isinstance(ended(attempt=1, max_attempts=1, **facts), Finish)
