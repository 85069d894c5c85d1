"""The worker: claims queued runs into slots, keeps their leases, reaps lapsed ones, stops in good order."""

import logging
import os
import secrets
import socket
import threading
import time
from collections.abc import Callable
from importlib.util import find_spec

from service.domain.errors import ServiceError, StaleLeaseError, StoreUnavailableError
from service.domain.fleet import training_slots
from service.domain.ports import Stores
from service.domain.run import RunKind, StopReason
from service.executors import Executor
from service.installed import versions, whole_extras
from service.settings import Settings, retention
from service.tracing import tracer_of
from service.worker.attempt import Attempt, GracePeriods
from service.worker.environments import EnvironmentPublisher
from service.worker.lease_guard import LeaseClock, LeaseGuard
from service.worker.sweeper import Sweeper
from service.worker.webhooks import Messenger

logger = logging.getLogger(__name__)

GUARD_S = 0.2
REAP_S = 2.0
WISH_S = 0.25
"""Least time between two looks for wishes to stop: well below the second in which one has to arrive."""
CLAIM_S = 1.0
"""A claim is tried this often even when nothing seems to have changed."""
SECOND_SIGNAL_S = 1.0
"""A second signal this soon after the first is the same one: it came to the group and to the process."""
KEEP_S = 60.0
"""Time between two looks for ended runs that are not to be kept."""
MESSAGES_S = 1.0
"""Time between two looks for messages to send."""
PUBLISH_S = 3600.0
"""Environments that nobody publishes for a day are forgotten."""
JOIN_S = 2.0
FILMS = find_spec("imageio_ffmpeg") is not None
"""Whether rollouts can be filmed here: the extra ``video``."""
LAST_WRITES_S = 5.0
"""Time to write how runs ended after their children were killed."""

SHORT_KINDS = tuple(kind for kind in RunKind if kind is not RunKind.TRAIN)


def worker_name() -> str:
    """A name that no other worker has, now or later; it says where to look."""
    return f"{socket.gethostname()}-{os.getpid()}-{secrets.token_hex(4)}"


class Worker:
    """Runs what is queued until it is told to stop.

    Args:
        settings: slots, lease and intervals.
        stores: where runs come from and their reports go.
        executor: started already.
        graces: how long a run may take to follow a wish to stop.
    """

    def __init__(
        self,
        settings: Settings,
        stores: Stores,
        executor: Executor,
        *,
        graces: GracePeriods | None = None,
    ) -> None:
        self.name = worker_name()
        self._settings = settings
        self._stores = stores
        self._executor = executor
        self._graces = graces or GracePeriods()
        self._tracer = tracer_of("maze-worker")
        self._attempts: dict[str, Attempt] = {}
        self._lock = threading.Lock()
        self._announcing = threading.Lock()
        self._reap_s = min(REAP_S, settings.lease_s / 4)
        self._lease_clock = LeaseClock(settings.lease_s)
        self._changed = threading.Event()  # a slot became free: do not wait for the next poll
        self._ended = threading.Event()
        self._environments = EnvironmentPublisher(self.name, executor, stores.registry, self._ended.is_set)
        self._messenger = Messenger(stores.webhooks, settings.webhook_private_hosts)
        self._stopping_at: float | None = None
        self._is_claiming = True
        self._at_once = False

    def stop(self) -> None:
        """Stop claiming and end in good order; a second call a while later ends at once.

        For signal handlers: it takes no lock.
        """
        now = time.monotonic()
        if self._stopping_at is None:
            self._stopping_at = now
        elif now - self._stopping_at > SECOND_SIGNAL_S:
            self._at_once = True

    def run(self) -> int:
        """Work until :meth:`stop`; returns the exit code of the process."""
        logger.info("worker %s: %d slots", self.name, self._settings.workers)
        threads = [
            threading.Thread(target=self._every, args=(period_s, action), name=name, daemon=True)
            for name, period_s, action in (
                ("heartbeat", self._settings.heartbeat_s, self._beat),
                ("guard", GUARD_S, self._check),
                ("reaper", self._reap_s, self._reap),
                ("publisher", PUBLISH_S, self._environments.publish),
                ("keeper", KEEP_S, self._delete_oldest),
                ("messenger", MESSAGES_S, self._messenger.send_due),
            )
        ]
        sweeper = Sweeper(self._settings, self._stores)
        threads.append(threading.Thread(target=sweeper.run, args=(self._ended,), name="sweeper", daemon=True))
        for thread in threads:
            thread.start()
        is_healthy = self._claim_until_stopped()
        self._is_claiming = False
        self._announce()
        self._end_attempts()
        self._ended.set()
        deadline = time.monotonic() + JOIN_S
        for thread in threads:
            thread.join(max(0.0, deadline - time.monotonic()))
        self._announce()
        logger.info("worker %s: ended", self.name)
        return 0 if is_healthy else 1

    def _claim_until_stopped(self) -> bool:
        """The main loop; False when it ended because no child can be started any more."""
        claim_marker = wish_marker = None
        claimed_at = wish_at = float("-inf")
        while self._stopping_at is None:
            self._changed.wait(self._settings.poll_s)
            if not self._executor.is_alive():
                logger.error("worker %s: no process of a run can be started any more; ending", self.name)
                return False
            now = time.monotonic()
            try:
                marker = self._stores.runs.change_marker()
                if marker != claim_marker or self._changed.is_set() or now - claimed_at >= CLAIM_S:
                    self._changed.clear()
                    self._fill_slots()
                    claim_marker, claimed_at = marker, now
                if marker != wish_marker and now - wish_at >= WISH_S:
                    self._look_for_wishes()
                    wish_marker, wish_at = marker, now
            except StoreUnavailableError as error:
                logger.warning("worker %s: the database does not answer: %s", self.name, error)
                self._ended.wait(min(1.0, 10 * self._settings.poll_s))
            except ServiceError:
                logger.exception("worker %s: claiming failed", self.name)
        return True

    def _fill_slots(self) -> None:
        """Claim until no slot is free or nothing fits into one."""
        while self._stopping_at is None and (kinds := self._free_kinds()):
            claimed_at = time.monotonic()
            claimed = self._stores.runs.claim(
                self.name, kinds=kinds, lease_s=self._settings.lease_s, films=FILMS
            )
            if claimed is None:
                return
            run, lease = claimed
            attempt = Attempt(
                run,
                LeaseGuard(lease, lease_s=self._settings.lease_s, claimed_at=claimed_at),
                self._stores,
                self._executor,
                max_attempts=self._settings.max_attempts,
                graces=self._graces,
                sinks=self._settings.sinks,
                tracer=self._tracer,
                on_end=self._forget,
            )
            with self._lock:
                self._attempts[run.id] = attempt
            attempt.start()

    def _free_kinds(self) -> tuple[RunKind, ...]:
        """Kinds that a free slot may take; the last of several slots takes no training."""
        kinds = [attempt.run.kind for attempt in self._current()]
        slots = self._settings.workers
        if len(kinds) >= slots:
            return ()
        return tuple(RunKind) if kinds.count(RunKind.TRAIN) < training_slots(slots) else SHORT_KINDS

    def _look_for_wishes(self) -> None:
        for attempt in self._current():
            if wish := self._stores.runs.get(attempt.run.id).stop_wish:
                attempt.request_stop(wish)

    def _current(self) -> list[Attempt]:
        with self._lock:
            return list(self._attempts.values())

    def _forget(self, attempt: Attempt) -> None:
        with self._lock:
            if self._attempts.get(attempt.run.id) is attempt:
                del self._attempts[attempt.run.id]
        self._changed.set()

    def _beat(self) -> None:
        """Renew every lease, and say that this worker lives."""
        for attempt in self._current():
            asked_at = time.monotonic()
            try:
                wished = self._stores.runs.heartbeat(attempt.guard.lease, lease_s=self._settings.lease_s)
                attempt.guard.renewed(asked_at)
            except StaleLeaseError:
                attempt.guard.fence()
                attempt.check()
            except StoreUnavailableError as error:
                logger.warning("run %s: the lease was not renewed: %s", attempt.run.id, error)
            else:
                if wished:
                    attempt.request_stop(wished)
        self._announce()

    def _announce(self) -> None:
        """Say that this worker lives, or, once it takes no more runs, no longer."""
        facts = {
            "host": socket.gethostname(),
            "pid": os.getpid(),
            "slots": self._settings.workers,
            "environments": self._environments.state,
            "films": FILMS,
            "versions": versions(),
            "extras": whole_extras(),
        }
        registry = self._stores.registry
        with self._announcing:
            try:
                if self._is_claiming:
                    registry.beat_worker(self.name, facts)
                else:
                    registry.forget_worker(self.name)
            except StoreUnavailableError as error:
                logger.warning("worker %s: the database does not answer: %s", self.name, error)

    def _check(self) -> None:
        for attempt in self._current():
            attempt.check()

    def _reap(self) -> None:
        """Take up what other workers left; runs of its own that still go on are its own to renew."""
        runs = self._stores.runs
        if not self._lease_clock.is_even(runs.clock(), period_s=self._reap_s):
            return
        held = [attempt.run.id for attempt in self._current() if attempt.guard.holds()]
        for run in runs.reap(max_attempts=self._settings.max_attempts, spare=held):
            logger.warning("run %s: its worker fell silent; now %s (%s)", run.id, run.state, run.reason)

    def _delete_oldest(self) -> None:
        """Delete what the operator does not want kept, until nothing of it is left, and uploads that are over."""
        self._stores.uploads.sweep()
        self._messenger.forget()
        self._stores.audit.forget(self._settings.keep_audit_days)
        if (keep := retention(self._settings)) is None:
            return
        while gone := self._stores.runs.delete_oldest(keep):
            for run_id, why in gone.items():
                logger.info("run %s: deleted, since %s", run_id, why)

    def _every(self, period_s: float, action: Callable[[], None]) -> None:
        """Do something at once and then again and again; an error is logged and tried again."""
        while True:
            try:
                action()
            except StoreUnavailableError as error:
                logger.warning("worker %s: the database does not answer: %s", self.name, error)
            except Exception:
                logger.exception("worker %s: %s failed", self.name, threading.current_thread().name)
            if self._ended.wait(period_s):
                return

    def _end_attempts(self) -> None:
        """Let running children store a checkpoint, then kill what still runs; give the runs back."""
        grace_s = self._settings.shutdown_grace_s
        deadline = time.monotonic() + grace_s - min(LAST_WRITES_S, grace_s / 5)
        for attempt in self._current():
            attempt.request_stop(StopReason.SHUTDOWN)
        while self._current() and time.monotonic() < deadline and not self._at_once:
            self._changed.clear()
            self._changed.wait(GUARD_S)
        for attempt in self._current():
            attempt.kill()
        deadline = time.monotonic() + LAST_WRITES_S
        for attempt in self._current():
            attempt.join(deadline - time.monotonic())
