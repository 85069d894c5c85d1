"""How long a lease may be trusted on this worker's own clock, and patience with a database that is away.

The database's clock decides when a lease lapses. This worker decides when it might have, on its monotonic
clock and counting from *before* the last renewal that succeeded, and stops a margin earlier.

Clocks do not always go on evenly: a machine is suspended, a container frozen, a clock set. A worker that did not
run for a while asks whether its lease is still its own before it gives it up, and nobody's lease is taken away
until a whole one has passed in which its holder could have renewed it.
"""

import logging
import threading
import time
from collections.abc import Callable
from typing import TypeVar

from service.domain.errors import StoreUnavailableError
from service.domain.run import Lease

T = TypeVar("T")

logger = logging.getLogger(__name__)

MARGIN_FRACTION = 1 / 6
"""Part of the lease that is kept for killing the child: 5 s of the default 30 s."""

STOPPED_S = 1.0
"""Looks follow each other several times a second: a longer pause, or a sixth of a lease, says that no time passed
for this process."""

_FIRST_WAIT_S = 0.05
_LONGEST_WAIT_S = 2.0


class Fenced(Exception):
    """The lease is gone or may be: whoever sees this kills the child and writes nothing."""


class LeaseGuard:
    """One lease and whether it may still be trusted; safe from any thread."""

    def __init__(self, lease: Lease, *, lease_s: float, claimed_at: float) -> None:
        self.lease = lease
        self._trusted_s = lease_s * (1 - MARGIN_FRACTION)
        self._stopped_s = max(STOPPED_S, lease_s * MARGIN_FRACTION)
        self._patience_s = lease_s / 2
        self._renewed_at = claimed_at
        self._looked_at: float | None = None
        self._asks_until: float | None = None
        self._fenced = threading.Event()

    def renewed(self, asked_at: float) -> None:
        """The lease was extended by a call that began at ``asked_at`` (monotonic)."""
        self._renewed_at = max(self._renewed_at, asked_at)
        if self._asks_until is not None and asked_at >= self._asks_until - self._patience_s:
            self._asks_until = None

    def look(self) -> bool:
        """As :meth:`holds`, for whoever looks several times a second."""
        holds = self.holds()
        self._looked_at = time.monotonic()
        return holds

    def fence(self) -> None:
        """Give the lease up, for good."""
        self._fenced.set()

    def holds(self) -> bool:
        """Whether the lease may be trusted now; after a stop of this process, until it could have been renewed."""
        now = time.monotonic()
        if self._looked_at is not None and now - self._looked_at > self._stopped_s:
            self._asks_until = now + self._patience_s
        if now > max(self._renewed_at + self._trusted_s, self._asks_until or 0.0):
            self._fenced.set()
        return not self._fenced.is_set()

    def persist(self, call: Callable[[], T]) -> T:
        """Make a call on the database, again and again while it does not answer.

        Raises:
            Fenced: the lease did not outlast the wait.
        """
        wait_s = _FIRST_WAIT_S
        while self.holds():
            try:
                return call()
            except StoreUnavailableError as error:
                logger.warning("run %s: the database does not answer: %s", self.lease.run_id, error)
            self._fenced.wait(wait_s)
            wait_s = min(2 * wait_s, _LONGEST_WAIT_S)
        raise Fenced(f"the lease of run {self.lease.run_id} could not be renewed in time")


class LeaseClock:
    """Whether the leases of other workers may be taken for lapsed: the database's clock and this process went evenly.

    After a jump of either one whole lease is waited for, in which every live worker renews its own.
    """

    def __init__(self, lease_s: float) -> None:
        self._lease_s = lease_s
        self._tolerance_s = max(STOPPED_S, lease_s * MARGIN_FRACTION)
        self._last: tuple[float, float] | None = None
        self._quiet_until = float("-inf")

    def is_even(self, database_s: float, *, period_s: float) -> bool:
        """Whether to reap now.

        Args:
            database_s: seconds on the database's clock.
            period_s: how often this is asked.
        """
        now = time.monotonic()
        before, self._last = self._last, (now, database_s)
        if before is not None:
            passed_s, passed_there_s = now - before[0], database_s - before[1]
            if (
                max(passed_s, passed_there_s) > period_s + self._tolerance_s
                or passed_there_s < -self._tolerance_s
            ):
                logger.warning(
                    "the clock jumped or this process stood still: leases are left alone for a while"
                )
                self._quiet_until = now + self._lease_s
        return now >= self._quiet_until
