"""The worker process: forkserver first, then the database, then work until a signal."""

import os
import signal
from collections.abc import Callable, Sequence

from service.executors import Executor
from service.executors.forkserver import WARM, ForkserverExecutor
from service.settings import Settings
from service.worker.attempt import GracePeriods
from service.worker.child import Rules
from service.worker.isolation import hide_environment


def serve_worker(
    settings: Settings,
    *,
    job: str = Rules.job,
    preload: Sequence[str] = WARM,
    graces: GracePeriods | None = None,
    before_database: Callable[[], None] = lambda: None,
) -> int:
    """Work until SIGTERM or SIGINT; returns the exit code.

    Args:
        settings: the operator's.
        job: what children do.
        preload: modules that the forkserver imports before its first fork.
        graces: how long a run may take to follow a wish to stop.
        before_database: returns when the database may be opened.

    Raises:
        SchemaError: the database is not at this version's revision.
        ConnectionError: there is no Ray cluster at the address that was set.
    """
    _forget_secrets()
    rules = Rules(
        job=job,
        env_modules=tuple(settings.env_modules),
        env_path=os.getcwd(),
        config_dirs=tuple(settings.config_dirs),
        extra_targets=tuple(settings.extra_targets),
        memory_bytes=settings.child_memory_bytes,
    )
    executor = _executor(settings, rules, preload)
    executor.start()
    hide_environment()  # after the start: it makes starting a program slow
    # only now: what the forkserver has imported and opened, every child has as well
    from service.store import open_stores
    from service.worker.worker import Worker

    before_database()
    stores = open_stores(settings)
    try:
        worker = Worker(settings, stores, executor, graces=graces)
        for number in (signal.SIGTERM, signal.SIGINT):
            signal.signal(number, lambda *_: worker.stop())
        return worker.run()
    finally:
        for number in (signal.SIGTERM, signal.SIGINT):
            signal.signal(number, signal.SIG_IGN)  # whoever is impatient now would only spoil the exit code
        stores.close()
        executor.close()


def _executor(settings: Settings, rules: Rules, preload: Sequence[str]) -> Executor:
    if settings.executor == "ray":
        from service.executors.ray import RayExecutor  # an extra

        return RayExecutor(rules, address=settings.ray_address, preload=preload)
    return ForkserverExecutor(rules, preload=preload)


def _forget_secrets() -> None:
    """Settings have been read; whatever this process still starts need not know them."""
    for name in [name for name in os.environ if name.startswith("MAZE_")]:
        del os.environ[name]
