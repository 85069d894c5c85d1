"""A service of its own: ``maze serve`` on a free port and a fresh database, ended when the block ends."""

import http.client
import json
import os
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path

START_S = 90.0


@contextmanager
def service(
    directory: Path,
    *,
    command: Sequence[str] = (sys.executable, "-m", "service.cli"),
    environment: Mapping[str, str] | None = None,
    cwd: Path | None = None,
) -> Iterator[str]:
    """Serve in ``directory``; gives ``host:port`` once API and worker are ready.

    Args:
        directory: the database and the log lie in it.
        command: how ``maze`` is started.
        environment: variables of the process; None is those of this one, without settings.
        cwd: the working directory; None is ``directory``.
    """
    given = {name: value for name, value in os.environ.items() if not name.startswith("MAZE_")}
    port = free_port()
    database = f"sqlite:///{directory.absolute()}/maze.db"
    log = directory / "serve.log"
    with log.open("wb") as output:
        process = subprocess.Popen(
            [*command, "serve", "--no-auth", "--port", str(port), "--database-url", database],
            cwd=cwd or directory,
            env=given if environment is None else dict(environment),
            stdout=output,
            stderr=subprocess.STDOUT,
        )
    try:
        _await_ready(process, port, log)
        yield f"127.0.0.1:{port}"
    finally:
        process.send_signal(signal.SIGTERM)
        try:
            process.wait(60)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()


def _await_ready(process: "subprocess.Popen[bytes]", port: int, log: Path) -> None:
    deadline = time.monotonic() + START_S
    while time.monotonic() < deadline:
        if process.poll() is not None:
            raise RuntimeError(f"maze serve ended:\n{log.read_text()}")
        if _is_ready(port):
            return
        time.sleep(0.1)
    raise RuntimeError(f"maze serve was not ready within {START_S:g} s:\n{log.read_text()}")


def _is_ready(port: int) -> bool:
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=5)
    try:
        connection.request("GET", "/health/ready")
        health = json.loads(connection.getresponse().read())
        return health["status"] == "ok" and health["checks"]["workers"]["status"] == "ok"
    except (OSError, http.client.HTTPException, ValueError):
        return False
    finally:
        connection.close()


def free_port() -> int:
    with socket.create_server(("127.0.0.1", 0)) as probe:
        return int(probe.getsockname()[1])
