"""A line on standard error that says how a run is getting on, where that is a terminal."""

import sys
from collections.abc import Callable

from maze_client.answers import RunFacts

_WIDTH = 24


def shown(progress: bool | Callable[[RunFacts], object]) -> Callable[[RunFacts], object] | None:
    """What is told of a run's progress; None where nobody asked or would see it."""
    if callable(progress):
        return progress
    return _write if progress and sys.stderr.isatty() else None


def _write(run: RunFacts) -> None:
    sys.stderr.write(f"\r\x1b[K{line(run)}" + ("\n" if run.is_ended else ""))
    sys.stderr.flush()


def line(run: RunFacts) -> str:
    """``first  running  [=====     ] 20 %  epoch 2/10  eval/mean_return 51  9 s left``."""
    progress, parts = run.progress, [run.name or run.id, run.state]
    if run.queue is not None:
        parts.append(f"{run.queue.ahead} ahead, waits for {run.queue.waits_for}")
    if progress.fraction is not None:
        parts.append(f"[{'=' * round(_WIDTH * progress.fraction):<{_WIDTH}}] {progress.fraction:.0%}")
    if progress.epoch is not None:
        parts.append(f"epoch {progress.epoch}" + (f"/{progress.n_epochs}" if progress.n_epochs else ""))
    if run.best is not None:
        parts.append(f"{run.best.metric} {run.best.value:.4g}")
    if progress.eta_s and not run.is_ended:
        parts.append(f"{progress.eta_s:.0f} s left")
    return "".join(
        sign if sign.isprintable() else "?" for sign in "  ".join(parts)
    )  # nothing steers the terminal
