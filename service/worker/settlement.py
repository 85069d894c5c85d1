"""How an attempt ends a run: one pure function from what the worker saw to what it writes.

result, not stopped        → its state is succeeded, the reason says why it ended
result, stopped as wished  → cancelled; for a pause or on a shutdown given back, uncharged
error in the run           → failed at once, for it would fail again
out of memory, a signal    → back to the queue, charged; when that was the last attempt, failed.
                             An attempt in which the run got further begins the count anew
"""

import signal
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, TypeAlias

from service.domain.run import ENDING_WISHES, RunState, StopReason
from service.worker import frames


@dataclass(frozen=True, kw_only=True)
class Ending:
    """How a child ended, as the worker saw it."""

    last: frames.Result | frames.Failure | None
    """The frame that ended it; None when it ended without a word."""
    exit_code: int | None = None
    """Negative is a signal; None is not known."""
    wish: StopReason | None = None
    attempt: int
    """Which one of those that count; 0 when the run got further in it: it stored a new scheduled checkpoint."""
    max_attempts: int
    usage: frames.Usage | None = None


@dataclass(frozen=True, kw_only=True)
class Finish:
    """End the run."""

    state: RunState
    reason: str
    result: Mapping[str, Any] | None = None
    error: Mapping[str, Any] | None = None


@dataclass(frozen=True, kw_only=True)
class Release:
    """Give the run back to the queue."""

    reason: str
    charge_attempt: bool
    notes: tuple[str, ...] = field(default=())
    """Lines for the run's log: why it starts again."""


Settlement: TypeAlias = Finish | Release

RETRIED_FAILURES = frozenset({"out_of_memory"})
"""Errors that another attempt may not meet; every other one would come again."""


def settle(ending: Ending) -> Settlement:
    """What to write for this ending."""
    match ending.last:
        case frames.Result(stop_reason="cancelled") as last:
            return _stopped(ending, last.result)
        case frames.Result() as last:
            return Finish(
                state=RunState.SUCCEEDED, reason=last.stop_reason, result=_with_usage(last.result, ending)
            )
        case frames.Failure(code=code) as last if code != "stopped" and code not in RETRIED_FAILURES:
            if ending.wish in ENDING_WISHES:
                return _stopped(ending, None, _error(last))
            return Finish(state=RunState.FAILED, reason=code, error=_error(last))
    if ending.wish is not None:
        return _stopped(ending, None)
    return _again(ending)


def _stopped(
    ending: Ending, result: Mapping[str, Any] | None, error: Mapping[str, Any] | None = None
) -> Settlement:
    if ending.wish is not None and ending.wish in ENDING_WISHES:
        full = None if result is None else _with_usage(result, ending)
        return Finish(state=RunState.CANCELLED, reason=ending.wish.value, result=full, error=error)
    if ending.wish is not None:
        return Release(reason=ending.wish.value, charge_attempt=False)
    return _again(ending)  # somebody else sent the child a SIGTERM


def _again(ending: Ending) -> Settlement:
    cause, number = describe(ending), f"attempt {ending.attempt} of {ending.max_attempts}"
    if ending.attempt < ending.max_attempts:
        which = number if ending.attempt else "an attempt in which the run got further, which does not count,"
        return Release(
            reason=_reason(ending),
            charge_attempt=True,
            notes=(f"{which} ended: {cause}. The run starts again.",),
        )
    code = ending.exit_code
    error = {
        "code": "attempts_exhausted",
        "message": f"{number} since the run last got further ended early: {cause}.",
        "attempts": ending.attempt,
        "exit_code": code,
        "signal": -code if code is not None and code < 0 else None,
        "max_rss_bytes": ending.usage.max_rss_bytes if ending.usage else None,
    }
    return Finish(state=RunState.FAILED, reason="attempts_exhausted", error=error)


def describe(ending: Ending) -> str:
    """Why the child ended early, in half a sentence."""
    memory = f", peak memory {ending.usage.max_rss_bytes / 2**20:.0f} MiB" if ending.usage else ""
    if isinstance(ending.last, frames.Failure):
        return f"{ending.last.message}{memory}"
    if isinstance(ending.last, frames.Result):
        return f"its process was asked to stop by a signal{memory}"
    code = ending.exit_code
    if code is None:
        return f"its process ended in an unknown way{memory}"
    if code >= 0:
        return f"its process ended with exit code {code}{memory}"
    hint = ", as the system does when memory runs out" if -code == signal.SIGKILL else ""
    return f"its process was killed by {_signal_name(-code)} (signal {-code}){hint}{memory}"


def _reason(ending: Ending) -> str:
    if isinstance(ending.last, frames.Failure):
        return ending.last.code
    killed = ending.exit_code is not None and ending.exit_code < 0
    return "child_killed" if killed else "child_ended"


def _signal_name(number: int) -> str:
    try:
        return signal.Signals(number).name
    except ValueError:
        return "a signal"


def _error(failure: frames.Failure) -> dict[str, Any]:
    error: dict[str, Any] = {"code": failure.code, "message": failure.message}
    if failure.problems:
        error["problems"] = [dict(problem) for problem in failure.problems]
    return error


def _with_usage(result: Mapping[str, Any], ending: Ending) -> dict[str, Any]:
    if ending.usage is None:
        return dict(result)
    usage = {"max_rss_bytes": ending.usage.max_rss_bytes, "cpu_s": ending.usage.cpu_s}
    return {**result, "usage": usage}
