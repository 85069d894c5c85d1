"""A supervisor over small programs: ``supervised.py FOLDER GRACE_S NAME=PROGRAM …``, PROGRAM being Python code.

Up is when the file ``up`` is in the folder; what is announced goes into ``announced``. With a file ``unprepared`` the
preparation fails.
"""

import logging
import os
import sys
import time
from pathlib import Path

from service.serve import ManagedProcess, Supervisor

folder, grace_s, *programs = sys.argv[1:]
logging.basicConfig(level="INFO", stream=sys.stderr)
kept = [
    ManagedProcess(name, [sys.executable, "-c", program])
    for name, program in (text.split("=", 1) for text in programs)
]


def prepare() -> None:
    """Fail where a file ``unprepared`` says so, once the programs run."""
    if Path(folder, "unprepared").exists():
        while not all(Path(folder, managed.name).exists() for managed in kept):
            time.sleep(0.01)
        raise ValueError("not prepared")


supervisor = Supervisor(
    kept,
    environment={**os.environ, "FOLDER": folder},
    grace_s=float(grace_s),
    is_up=Path(folder, "up").exists,
    announce=lambda: Path(folder, "announced").touch(),
    prepare=prepare,
)
sys.exit(supervisor.run())
