"""A worker that dies at a point: ``crashing_worker.py POINT NTH JSON``, the JSON being that of ``worker_process.py``.

Nothing in the program knows of this: the points are put around its functions here, in a process of the test's own.
"""

import os
import signal
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import wraps
from types import SimpleNamespace
from typing import Any

FILES = ("open", "fsync", "replace")
CHANGES = ("claim", "heartbeat", "report", "put", "finish", "_launch", "flush")
POINTS = tuple(f"{when} {what}" for what in (*FILES, "commit", *CHANGES) for when in ("before", "after"))
"""Where to die: around what writes a file (open, fsync, replace), a commit, and each change of a run."""


def die_at(point: str, nth: int) -> None:  # noqa: C901  (a list of places)
    """Let this process die at the n-th passing of a point."""
    import maze_core.files
    from service.store.blobs import Blobs
    from service.store.checkpoints import SqlCheckpointStore
    from service.store.engine import Database
    from service.store.runs import SqlRunStore
    from service.worker.attempt import Attempt
    from service.worker.writer import RunWriter

    when, what = point.split(" ")
    n_passed = 0

    def passed() -> None:
        nonlocal n_passed
        n_passed += 1
        if n_passed == nth:
            os.kill(os.getpid(), signal.SIGKILL)

    def around(owner: Any) -> None:
        real: Callable[..., Any] = getattr(owner, what)

        @wraps(real)
        def call(*given: Any, **named: Any) -> Any:
            if when == "before":
                passed()
            result = real(*given, **named)
            if when == "after":
                passed()
            return result

        setattr(owner, what, call)

    def around_commits() -> None:
        real = Database.writing

        @contextmanager
        def writing(self: Database) -> Iterator[Any]:
            with real(self) as connection:
                yield connection
                if when == "before":
                    passed()
            if when == "after":
                passed()

        Database.writing = writing  # type: ignore[method-assign]

    in_files = Blobs.__init__
    Blobs.__init__ = lambda self, directory, **_: in_files(self, directory, inline_bytes=0)  # type: ignore[method-assign]
    if what == "commit":
        around_commits()
    elif what in FILES:
        maze_core.files.os = SimpleNamespace(**vars(os))  # type: ignore[assignment]
        around(maze_core.files.os)
    else:
        owners = {"put": SqlCheckpointStore, "_launch": Attempt, "flush": RunWriter}
        around(owners.get(what, SqlRunStore))


if __name__ == "__main__":
    from worker_process import main

    die_at(sys.argv[1], int(sys.argv[2]))
    sys.exit(main(sys.argv[3]))
