"""A worker process as tests need it, from JSON: ``{"job": …, "is_warm": …, "fails": …, "settings": {…}}``.

GracePeriods are short; children run a job of :mod:`worker_jobs`, or the real one.
"""

import json
import sys
import threading


def main(text: str) -> int:
    from service.process import begin
    from service.settings import Settings
    from service.worker.attempt import GracePeriods
    from service.worker.launcher import WARM
    from service.worker.main import serve_worker

    begin("maze: worker", log_level="info")
    wanted = json.loads(text)
    if wanted["fails"] is not None:
        fail_once(wanted["fails"])
    return serve_worker(
        Settings(**wanted["settings"]),
        job=wanted["job"],
        preload=WARM if wanted["is_warm"] else (),
        graces=GracePeriods(cancel_s=1.5, terminate_s=1.0),
    )


def fail_once(call: str) -> None:
    """Let an attempt's first call of a method of a store, ``runs.report``, meet a value that no database holds."""
    from service.store.checkpoints import SqlCheckpointStore
    from service.store.episodes import SqlEpisodeStore
    from service.store.runs import SqlRunStore
    from service.store.uploads import SqlUploadStore

    stores: dict[str, type] = {
        "runs": SqlRunStore,
        "checkpoints": SqlCheckpointStore,
        "episodes": SqlEpisodeStore,
        "uploads": SqlUploadStore,
    }
    store, name = call.split(".")
    owner, real = stores[store], getattr(stores[store], name)

    def failing(*given: object, **named: object) -> object:
        if not threading.current_thread().name.startswith("attempt-"):
            return real(*given, **named)
        setattr(owner, name, real)
        raise OverflowError(f"{call} cannot")

    setattr(owner, name, failing)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1]))
