"""A worker process whose children run a job of :mod:`worker_jobs`: ``worker_process.py JOB URL GRACE_S``."""

import sys


def main(job: str, database_url: str, shutdown_grace_s: str) -> int:
    from service.process import begin
    from service.settings import Settings
    from service.worker.attempt import Graces
    from service.worker.main import serve_worker

    settings = Settings(
        database_url=database_url,
        lease_s=2.0,
        heartbeat_s=0.3,
        poll_s=0.05,
        shutdown_grace_s=float(shutdown_grace_s),
    )
    begin("maze: worker", log_level="info")
    return serve_worker(
        settings, job=f"worker_jobs:{job}", preload=(), graces=Graces(cancel_s=1.5, terminate_s=1.0)
    )


if __name__ == "__main__":
    sys.exit(main(*sys.argv[1:]))
