"""A worker's thread that keeps sweeps going: it notes how runs ended, proposes the next trials and has their runs made.

Everything is in the database, and what is to be done follows from it; so any worker may do it, and one that is killed
meanwhile leaves nothing undone that another one does not find.
"""

import logging
import threading

from maze_core.errors import InvalidSpecificationError
from service.domain.errors import NotFoundError, ServiceError
from service.domain.ports import Stores
from service.domain.sweep import NewJob, Wanted
from service.settings import Settings
from service.trust import client_policy

logger = logging.getLogger(__name__)

LOOK_S = 0.25
"""Least time between two looks."""


class Sweeper:
    """Looks after all sweeps whenever something in the database has changed."""

    def __init__(self, settings: Settings, stores: Stores) -> None:
        self._settings, self._stores = settings, stores
        self._marker: int | None = None

    def run(self, ended: threading.Event) -> None:
        """Look until ``ended``."""
        while not ended.wait(LOOK_S):
            try:
                marker = self._stores.runs.change_marker()
                if marker != self._marker:
                    self.look()
                    self._marker = marker
            except ServiceError as error:
                logger.warning("sweeps: %s", error)
            except Exception:
                logger.exception("sweeps: looking after them failed")

    def look(self) -> None:
        """Do what is to be done now."""
        for sweep_id in self._stores.sweeps.active():
            try:
                self._advance(sweep_id)
            except NotFoundError:  # deleted meanwhile
                continue

    def _advance(self, sweep_id: str) -> None:
        sweeps, judged = self._stores.sweeps, None
        if (known := sweeps.curves(sweep_id)) is not None:
            from service.proposals import pruned  # brings the whole configuration

            if given_up := pruned(known):
                sweeps.prune(sweep_id, given_up)
            judged = {job: max(known.curves[job], default=0) for job in known.at_work}
        while (wanted := sweeps.advance(sweep_id, judged)) is not None:
            if not wanted.n:
                continue
            try:
                jobs = self._proposed(wanted)
            except InvalidSpecificationError as error:
                logger.error("sweep %s: %s", sweep_id, error)
                sweeps.fail(sweep_id, error.problems[0].code, str(error))
                return
            sweeps.propose(sweep_id, wanted.revision, jobs)  # in vain where others were quicker

    def _proposed(self, wanted: Wanted) -> list[NewJob]:
        from service.proposals import composer, proposed

        policy = client_policy(self._settings, self._stores.registry)
        return proposed(wanted, composer(policy, self._settings.config_dirs))
