"""How fast a training gets on, and when it will end."""

from collections.abc import Callable
from math import ceil, inf, isinf

from maze_core.trainers.config import FitConfig

RECENT = 0.25
"""Part of the epochs done that tells how long one takes: warm-up at the start and short first evaluations do not."""
FEWEST = 3
"""Epochs that are looked at, where there are so many."""


class Pace:
    """Times of the epochs of one call of ``train``.

    Args:
        clock: seconds.
        spent_s: seconds that earlier attempts at the same call took.
    """

    def __init__(self, clock: Callable[[], float], spent_s: float = 0.0) -> None:
        self._clock, self._spent_s = clock, spent_s
        self._ends, self._steps = [clock()], [0]

    def note(self, env_steps: int) -> None:
        """An epoch of so many environment steps ends now, its evaluation included."""
        self._ends.append(self._clock())
        self._steps.append(env_steps)

    @property
    def duration_s(self) -> float:
        """Seconds since the call began."""
        return self._clock() - self._ends[0]

    @property
    def elapsed_s(self) -> float:
        """Seconds since the call began, with those of earlier attempts."""
        return self._spent_s + self.duration_s

    @property
    def speed(self) -> float:
        """Environment steps per second since the call began, its evaluations included."""
        return sum(self._steps) / max(self._ends[-1] - self._ends[0], 1e-9)

    def outlook(
        self, config: FitConfig, epoch: int, last: int | None, env_steps: int
    ) -> tuple[float, float] | tuple[None, None]:
        """Done part in [0, 1], and the seconds that are left, by the budget that ends the run first; None without one.

        Args:
            config: with the budgets.
            epoch: epochs done in all.
            last: the epoch after which the call ends; None without a limit.
            env_steps: taken in all.
        """
        n_recent = min(len(self._ends) - 1, max(FEWEST, round(RECENT * (len(self._ends) - 1))))
        epoch_s = (self._ends[-1] - self._ends[-1 - n_recent]) / n_recent
        done, left = (0.0, inf) if last is None else (epoch / last, float(last - epoch))
        for budget, spent, per_epoch in (
            (config.max_env_steps, env_steps, sum(self._steps[-n_recent:]) / n_recent),
            (config.max_wall_s, self.elapsed_s, epoch_s),
        ):
            if budget is not None:  # the epoch in which it is met is the last one
                done = max(done, min(1.0, spent / budget))
                left = min(left, ceil(max(0.0, budget - spent) / max(per_epoch, 1e-9)))
        return (None, None) if isinf(left) else (done, left * epoch_s)
