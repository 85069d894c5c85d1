"""A worker's thread that keeps sweeps going: it notes how runs ended, proposes the next trials and has their runs made.

Everything is in the database, and what is to be done follows from it; so any worker may do it, and one that is killed
meanwhile leaves nothing undone that another one does not find.
"""

import logging
import threading
from collections.abc import Mapping
from dataclasses import replace

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
        self._curves: dict[str, dict[int, Mapping[int, float]]] = {}
        """Sweep → job → curve, of jobs whose curves stay as they are."""

    def run(self, ended: threading.Event) -> None:
        """Look until ``ended``."""
        while not ended.wait(LOOK_S):
            try:
                marker = self._stores.runs.change_marker()
                if marker != self._marker and self.look():
                    self._marker = marker
            except ServiceError as error:
                logger.warning("sweeps: %s", error)
            except Exception:
                logger.exception("sweeps: looking after them failed")

    def look(self) -> bool:
        """Do what is to be done now; whatever stops one sweep stops no other.

        Returns:
            Whether nothing is left to be done again, where the database did not answer.
        """
        active = self._stores.sweeps.active()
        self._curves = {sweep_id: self._curves.get(sweep_id, {}) for sweep_id in active}
        is_done = True
        for sweep_id in active:
            try:
                self._advance(sweep_id)
            except NotFoundError:  # deleted meanwhile
                continue
            except ServiceError as error:
                logger.warning("sweep %s: %s", sweep_id, error)
                is_done = False
            except InvalidSpecificationError as error:
                logger.error("sweep %s: %s", sweep_id, error)
                self._stores.sweeps.fail(sweep_id, error.problems[0].code, str(error))
            except Exception as error:  # it would come again
                logger.exception("sweep %s cannot go on", sweep_id)
                self._stores.sweeps.fail(sweep_id, "internal_error", f"{type(error).__name__}: {error}")
        return is_done

    def _advance(self, sweep_id: str) -> None:
        sweeps, judged = self._stores.sweeps, self._judged(sweep_id)
        while (wanted := sweeps.advance(sweep_id, judged)) is not None:
            if not wanted.n:
                continue
            jobs = self._proposed(wanted)
            sweeps.propose(sweep_id, wanted.revision, jobs)  # in vain where others were quicker

    def _judged(self, sweep_id: str) -> dict[int, int] | None:
        """Give up what does not keep up; job → last epoch that was looked at."""
        final = self._curves.setdefault(sweep_id, {})
        known = self._stores.sweeps.curves(sweep_id, without=final.keys())
        if known is None:
            return None
        from service.proposals import pruned  # brings the whole configuration

        known = replace(known, curves={**final, **known.curves})
        if given_up := pruned(known):
            self._stores.sweeps.prune(sweep_id, given_up)
        final |= {job: curve for job, curve in known.curves.items() if job not in known.at_work}
        return {job: max(known.curves[job], default=0) for job in known.at_work}

    def _proposed(self, wanted: Wanted) -> list[NewJob]:
        from service.proposals import composer, proposed

        policy = client_policy(self._settings, self._stores.registry)
        return proposed(wanted, composer(policy, self._settings.config_dirs))
