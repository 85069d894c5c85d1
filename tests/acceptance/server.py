"""A real service for tests: ``maze serve`` as a process of its own, on a fresh database and a free port."""

import os
import signal
import socket
import subprocess
import sys
import tempfile
import time
from contextlib import contextmanager, suppress
from functools import cache
from pathlib import Path

import httpx
import psutil

from service.store import migrate
from tests.service.databases import url_for

ENDED = ("succeeded", "failed", "cancelled")
DEADLINE_S = 240.0
MAZE = ("-m", "service.cli")
IMPATIENT = "import sys; from service import cli, serve; serve.LONGEST_PAUSE_S = 0.5; sys.exit(cli.main())"
"""The same, but what is killed again and again does not wait longer and longer to be started again."""


class Server:
    """One running service and a client for it."""

    def __init__(self, process, port, log):
        self.process, self.port, self._log = process, port, log
        self.folder = log.parent
        self.client = httpx.Client(base_url=f"http://127.0.0.1:{port}", timeout=60)

    def log(self):
        return self._log.read_text()

    def post(self, path, body, **headers):
        return self.client.post(path, json=body, headers={k.replace("_", "-"): v for k, v in headers.items()})

    def get(self, path, **params):
        response = self.client.get(path, params=params)
        assert response.status_code == 200, (path, response.text)
        return response.json()

    def submit(self, kind, body):
        """Submit a run; returns its id."""
        response = self.post(f"/v1/{kind}", body)
        assert response.status_code == 202, response.text
        assert response.headers["location"] == f"/v1/runs/{response.json()['id']}"
        return response.json()["id"]

    def wait(self, run, *, until=ENDED):
        """The run, once it is in one of these states."""
        deadline = time.monotonic() + DEADLINE_S
        while True:
            found = self.get(f"/v1/runs/{run}")
            if found["state"] in until:
                return found
            assert found["state"] not in ENDED, found
            assert time.monotonic() < deadline, (found, self.log())
            time.sleep(0.05)

    def wait_for(self, condition, what):
        """The condition's first true value."""
        deadline = time.monotonic() + DEADLINE_S
        while not (value := condition()):
            assert time.monotonic() < deadline, (what, self.log())
            time.sleep(0.02)
        return value

    def processes(self, title):
        """Processes below this server whose title starts so."""
        found = []
        for process in psutil.process_iter(["pid"]):
            try:
                line = process.cmdline()
                if line and line[0].startswith(title) and self._is_ours(process):
                    found.append(process)
            except psutil.Error:
                continue
        return found

    def _is_ours(self, process):
        return any(parent.pid == self.process.pid for parent in process.parents())


_templates = tempfile.TemporaryDirectory(prefix="migrated-")


@cache
def migrated() -> Path:
    """An empty database of today's schema, which takes a second to make."""
    path = Path(_templates.name) / "maze.db"
    migrate(f"sqlite:///{path}")
    return path


@contextmanager
def serving(folder: Path, port=None, home=None, command=MAZE, *, auth=False, **settings):
    """Start the service; it and everything below it are gone afterwards."""
    port = port or free_port()
    log = folder / f"serve-{time.monotonic_ns()}.log"
    environment = {**os.environ, **{f"MAZE_{name.upper()}": str(value) for name, value in settings.items()}}
    environment |= {} if home is None else {"HOME": str(home)}
    database = url_for(folder, migrated=None if (folder / "maze.db").exists() else migrated())
    command = [sys.executable, *command, "serve", "--host", "127.0.0.1", *([] if auth else ["--no-auth"])]
    command += ["--port", str(port), "--database-url", database]
    with log.open("w") as output:
        process = subprocess.Popen(
            command,
            stdout=output,
            stderr=subprocess.STDOUT,
            cwd=folder,
            env=environment,
            start_new_session=True,
        )
    server = Server(process, port, log)
    try:
        server.wait_for(lambda: is_ready(server), "the service to be ready")
        yield server
    finally:
        server.client.close()
        stop(process)


def stop(process):
    """SIGTERM, and SIGKILL for the whole group if that is not heard."""
    if process.poll() is None:
        process.send_signal(signal.SIGTERM)
        try:
            process.wait(60)
        except subprocess.TimeoutExpired:
            os.killpg(process.pid, signal.SIGKILL)
            process.wait(10)


def free_port():
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return probe.getsockname()[1]


def await_answer(port):
    """Wait until the API on this port answers."""
    deadline = time.monotonic() + DEADLINE_S
    while time.monotonic() < deadline:
        with suppress(httpx.TransportError):
            return httpx.get(f"http://127.0.0.1:{port}/health/live", timeout=DEADLINE_S)
        time.sleep(0.05)
    raise AssertionError(f"nothing answers on port {port}")


def is_ready(server):
    assert server.process.poll() is None, server.log()
    try:
        ready = server.client.get("/health/ready")
    except httpx.TransportError:
        return False
    return ready.status_code == 200
