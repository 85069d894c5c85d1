"""A worker process as tests need it, from the JSON that ``Bench.worker`` writes.

GracePeriods are short; children run a job of :mod:`worker_jobs`, or the real one.
"""

import json
import sys
import threading


def main(text: str) -> int:
    from service.executors.forkserver import WARM
    from service.process import begin
    from service.settings import Settings
    from service.worker.attempt import GracePeriods
    from service.worker.environments import EnvironmentPublisher
    from service.worker.main import serve_worker

    begin("maze: worker", log_level="info")
    wanted = json.loads(text)
    fail_in_turn(wanted["fails"])
    if not wanted["is_publishing"]:  # three children, of more work than most of the tests' runs
        EnvironmentPublisher.publish = lambda _: None  # type: ignore[method-assign]
    return serve_worker(
        Settings(**wanted["settings"]),
        job=wanted["job"],
        preload=WARM if wanted["is_warm"] else (),
        graces=GracePeriods(cancel_s=1.5, terminate_s=1.0),
    )


def fail_in_turn(calls: list[str], failed: str = "") -> None:
    """Let an attempt's call of a method of a store, ``runs.report``, meet a value that no database holds: each once.

    The next one fails in another attempt than the one before it, which was in the thread ``failed``.
    """
    if not calls:
        return
    call, *later = calls
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
        thread = threading.current_thread().name
        if not thread.startswith("attempt-") or thread == failed:
            return real(*given, **named)
        setattr(owner, name, real)
        fail_in_turn(later, thread)
        raise OverflowError(f"{call} cannot")

    setattr(owner, name, failing)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1]))
