"""What every process of the service does first: its title, its log, and whom it does not outlive."""

import logging
import os
import signal
import sys

import setproctitle

from service.worker.isolation import die_with_parent

LOG_FORMAT = "%(asctime)s %(levelname)s [%(process)d] %(name)s: %(message)s"

QUIET = ("alembic", "httpx", "uvicorn.error")
"""Loggers whose informational lines tell an operator nothing."""


def begin(title: str, *, log_level: str, parent: int | None = None) -> None:
    """Name this process, send its log to standard error, and tie its life to that of its parent.

    Args:
        title: as ``ps`` shows it.
        log_level: least severe messages that are logged.
        parent: process id of the parent; when it ends, this process gets a SIGTERM.

    Raises:
        SystemExit: the parent has ended already.
    """
    setproctitle.setproctitle(title)
    logging.basicConfig(level=log_level.upper(), format=LOG_FORMAT, stream=sys.stderr)
    for name in QUIET:
        logging.getLogger(name).setLevel(max(logging.WARNING, logging.getLogger().level))
    if parent is not None:
        die_with_parent(signal.SIGTERM)
        if os.getppid() != parent:
            raise SystemExit("the parent process has ended")
