"""How the jobs of a multirun are started; the YAML twin is ``conf/launcher/local.yaml``. Imports no torch."""

import os

from maze_core.config.fields import STRICT, OptionalPositiveInt
from maze_core.config.settings import dataclass


@dataclass(frozen=True, kw_only=True, config=STRICT)
class LocalLauncherConfig:
    """Jobs in processes of this machine, each with one OpenMP thread."""

    n_jobs: OptionalPositiveInt = None
    """Jobs that run at the same time; null is one per usable core. Changes no number of any job."""

    @property
    def limit(self) -> int:
        """How many processes to start at most."""
        return self.n_jobs or usable_cores()


def usable_cores() -> int:
    """Cores that this process may use."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
