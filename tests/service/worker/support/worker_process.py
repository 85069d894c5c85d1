"""A worker process as tests need it, from one argument: ``{"job": …, "is_warm": …, "settings": {…}}`` as JSON.

GracePeriods are short; children run a job of :mod:`worker_jobs`, or the real one.
"""

import json
import sys


def main(text: str) -> int:
    from service.process import begin
    from service.settings import Settings
    from service.worker.attempt import GracePeriods
    from service.worker.launcher import WARM
    from service.worker.main import serve_worker

    begin("maze: worker", log_level="info")
    wanted = json.loads(text)
    return serve_worker(
        Settings(**wanted["settings"]),
        job=wanted["job"],
        preload=WARM if wanted["is_warm"] else (),
        graces=GracePeriods(cancel_s=1.5, terminate_s=1.0),
    )


if __name__ == "__main__":
    sys.exit(main(sys.argv[1]))
