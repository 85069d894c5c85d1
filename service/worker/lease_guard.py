"""How long a lease may be trusted on this worker's own clock, and patience with a database that is away.

The database's clock decides when a lease lapses. This worker decides when it might have, on its monotonic
clock and counting from *before* the last renewal that succeeded, and stops a margin earlier.
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

_FIRST_WAIT_S = 0.05
_LONGEST_WAIT_S = 2.0


class Fenced(Exception):
    """The lease is gone or may be: whoever sees this kills the child and writes nothing."""


class LeaseGuard:
    """One lease and whether it may still be trusted; safe from any thread."""

    def __init__(self, lease: Lease, *, lease_s: float, claimed_at: float) -> None:
        self.lease = lease
        self._trusted_s = lease_s * (1 - MARGIN_FRACTION)
        self._renewed_at = claimed_at
        self._fenced = threading.Event()

    def renewed(self, asked_at: float) -> None:
        """The lease was extended by a call that began at ``asked_at`` (monotonic)."""
        self._renewed_at = max(self._renewed_at, asked_at)

    def fence(self) -> None:
        """Give the lease up, for good."""
        self._fenced.set()

    def holds(self) -> bool:
        """Whether the lease may be trusted now."""
        if time.monotonic() - self._renewed_at > self._trusted_s:
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
