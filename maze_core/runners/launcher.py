"""How the jobs of a multirun are started; the YAML twin is ``conf/launcher/local.yaml``. Imports no torch."""

from maze_core.config.settings import STRICT, OptionalPositiveInt, dataclass
from maze_core.subprocesses import usable_cores


@dataclass(frozen=True, kw_only=True, config=STRICT)
class LocalLauncherConfig:
    """Jobs in processes of this machine, each with one OpenMP thread."""

    n_jobs: OptionalPositiveInt = None
    """Jobs that run at the same time; null is one per usable core. Changes no number of any job."""

    @property
    def limit(self) -> int:
        """How many processes to start at most."""
        return self.n_jobs or usable_cores()
