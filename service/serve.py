"""``maze serve``: a small parent that starts API and worker, starts again what dies, and ends them in good order.

First comes the socket, at last a token and a welcome. API and worker import what they need while the database is
brought up to date, and wait for that before they open it.
"""

import http.client
import json
import logging
import os
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from types import FrameType

from service.process import bind
from service.settings import Settings

logger = logging.getLogger(__name__)

POLL_S = 0.1
PROBE_S = 0.03
"""Time between two questions whether the service is up, until it is."""
FIRST_PAUSE_S = 0.5
LONGEST_PAUSE_S = 30.0
STEADY_S = 60.0
"""A process that lived this long begins again with the first pause."""
AT_ONCE_S = 8.0
"""Time to end after a second signal."""
SECOND_SIGNAL_S = 1.0
"""A second signal this soon after the first is the same one: it came to the group and to the process."""
ANSWER_S = 0.5
EXTRA_S = 10.0
"""Time that API and worker have to end, beyond the grace of running work."""

FIRST_RUN = {
    "algorithm": "ppo",
    "overrides": {"env.name": "CartPole-v1", "algorithm.n_epochs": 5},
    "seed": 1,
}


def serve(settings: Settings, overrides: Mapping[str, object]) -> int:
    """Serve until a signal; returns the exit code.

    Args:
        settings: all settings.
        overrides: those that the command line gave; the processes read the others from the environment again.

    Raises:
        ServiceError: the database or the address cannot be used.
    """
    listener = bind(settings.host, settings.port)
    port = int(listener.getsockname()[1])
    gate, latch = os.pipe()
    command = [sys.executable, "-m", "service.cli"]
    kept = ["--parent", str(os.getpid()), "--gate", str(gate)]
    fd = listener.fileno()
    api = ManagedProcess("api", [*command, "api", "--fd", str(fd), *kept], [fd, gate])
    worker = ManagedProcess("worker", [*command, "worker", *kept], [gate])
    address = (_reachable(settings.host), port)
    supervisor = Supervisor(
        [api, worker],
        environment=inherited({**overrides, "port": port}),
        grace_s=settings.shutdown_grace_s + settings.drain_s + EXTRA_S,
        listener=listener,
        is_up=lambda: is_up(*address),
        announce=lambda: _say(welcome(settings, *address, _first_token(settings))),
        prepare=lambda: _open_gate(settings, latch),
    )
    return supervisor.run()


def is_up(host: str, port: int) -> bool:
    """Whether API and worker are ready."""
    connection = http.client.HTTPConnection(host, port, timeout=ANSWER_S)
    try:
        connection.request("GET", "/health/ready")
        health = json.loads(connection.getresponse().read())
        return bool(health["status"] == "ok" and health["checks"]["workers"]["status"] == "ok")
    except (OSError, http.client.HTTPException, ValueError, KeyError, TypeError):
        return False
    finally:
        connection.close()


def welcome(settings: Settings, host: str, port: int, token: str | None) -> str:
    """What is printed when the service is up: where it is, where its data are, and what to try first."""
    url = f"http://{f'[{host}]' if ':' in host else host}:{port}"
    lines = [
        "",
        f"  Maze is up      {url}",
        f"  API docs        {url}/docs",
        f"  data            {data_path(settings.database_url)}",
    ]
    header = ""
    if settings.auth:
        header = f" \\\n    -H 'authorization: Bearer {token or '$MAZE_TOKEN'}'"
        shown = f"{token}   (shown this once; more: maze token create)" if token else "maze token create"
        lines.append(f"  token           {shown}")
    lines += [
        "",
        "  A first training run:",
        "",
        f"  curl -s -X POST {url}/v1/train -H 'content-type: application/json' -H 'prefer: wait=60'{header} \\",
        f"    -d '{json.dumps(FIRST_RUN)}'",
        "",
    ]
    return "\n".join(lines)


def data_path(database_url: str) -> str:
    """Where the database is, without its password."""
    from service.store.engine import parse_url, sqlite_path

    url = parse_url(database_url)
    path: Path | None = sqlite_path(url)
    return url.render_as_string(hide_password=True) if path is None else str(path.resolve())


def _open_gate(settings: Settings, latch: int) -> None:
    """Bring the database up to date, then let pass who waits at the gate, now and later."""
    from service.store.migrations import migrate  # beside the processes' own imports

    migrate(settings.database_url)
    os.close(latch)


def _first_token(settings: Settings) -> str | None:
    """A token when there is none yet; made only when it can be shown, for it is shown once."""
    if not settings.auth:
        return None
    from service.domain.audit import Change, changing
    from service.domain.use_cases import create_token
    from service.store.registry import opened_registry

    change = Change(action="maze serve", subject="/v1/tokens")
    with opened_registry(settings.database_url) as registry, changing(change):
        return None if registry.tokens() else create_token(registry, "first")


def _say(text: str) -> None:
    sys.stdout.write(text + "\n")
    sys.stdout.flush()


def _reachable(host: str) -> str:
    """An address that reaches a server bound to ``host``, from this machine."""
    return {"0.0.0.0": "127.0.0.1", "::": "::1"}.get(host.strip("[]"), host.strip("[]"))


@dataclass
class ManagedProcess:
    """One process that is kept running."""

    name: str
    command: Sequence[str]
    pass_fds: Sequence[int] = ()
    process: "subprocess.Popen[bytes] | None" = None
    started_at: float = 0.0
    n_restarts: int = 0
    start_at: float = 0.0
    """When to start it next; monotonic."""

    def pause_s(self) -> float:
        """How long to wait before the next start."""
        if time.monotonic() - self.started_at >= STEADY_S:
            self.n_restarts = 0
        pause_s = FIRST_PAUSE_S * 2.0 ** min(self.n_restarts, 10)
        self.n_restarts += 1
        return min(pause_s, LONGEST_PAUSE_S)


@dataclass
class Supervisor:
    """Keeps processes running until a signal."""

    processes: Sequence[ManagedProcess]
    """What to keep, in the order in which they start."""
    environment: Mapping[str, str]
    grace_s: float
    """Time that processes have to end."""
    listener: socket.socket | None = None
    """The API's socket; closed when the end begins, so that nobody waits for an answer."""
    is_up: Callable[[], bool] = lambda: True
    """Whether the service answers; until it does, a process that dies ends it all."""
    announce: Callable[[], None] = lambda: None
    """Called once, when it does."""
    prepare: Callable[[], None] = lambda: None
    """Called once, when the processes have started; when it fails they end."""
    _announced: bool = field(default=False, init=False)
    _signalled_at: float | None = field(default=None, init=False)
    _at_once: bool = field(default=False, init=False)

    def run(self) -> int:
        """Start, watch, end; returns the exit code. Belongs in the main thread."""
        for number in (signal.SIGTERM, signal.SIGINT, signal.SIGHUP):
            signal.signal(number, self._on_signal)
        code = 0
        for managed in self.processes:
            self._start(managed)
        try:
            self.prepare()
        except BaseException:
            self._end()
            raise
        while self._signalled_at is None and code == 0:
            time.sleep(POLL_S if self._announced else PROBE_S)
            code = self._look_after()
        return max(code, self._end())

    def _on_signal(self, number: int, frame: FrameType | None) -> None:
        now = time.monotonic()
        if self._signalled_at is None:
            self._signalled_at = now
        elif now - self._signalled_at > SECOND_SIGNAL_S:
            self._at_once = True

    def _start(self, managed: ManagedProcess) -> None:
        """Start a process, in a session of its own: a Ctrl-C in the terminal comes to this one alone."""
        managed.started_at = time.monotonic()
        managed.process = subprocess.Popen(
            managed.command, env=self.environment, pass_fds=managed.pass_fds, start_new_session=True
        )
        logger.info("%s: started, process %d", managed.name, managed.process.pid)

    def _look_after(self) -> int:
        """Start again what has ended; 1 when there is no use in going on."""
        for managed in self.processes:
            if managed.process is None:
                if time.monotonic() >= managed.start_at:
                    self._start(managed)
            elif (code := managed.process.poll()) is not None:
                if not self._announced:
                    logger.error(
                        "%s: could not start (%s); its messages stand above", managed.name, _how(code)
                    )
                    return 1
                pause_s = managed.pause_s()
                level = logging.ERROR if code else logging.INFO  # somebody wanted it to begin anew
                logger.log(level, "%s: ended (%s); starts again in %g s", managed.name, _how(code), pause_s)
                managed.process, managed.start_at = None, time.monotonic() + pause_s
        if not self._announced and self.is_up():
            self._announced = True
            self.announce()
        return 0

    def _end(self) -> int:
        """Ask every process to end, wait, and kill what does not; 1 when something was killed."""
        if self.listener is not None:
            self.listener.close()
        running = [
            managed.process
            for managed in self.processes
            if managed.process and managed.process.poll() is None
        ]
        _send(running, signal.SIGTERM)
        deadline = time.monotonic() + self.grace_s
        was_repeated = False
        while time.monotonic() < deadline:
            if all(process.poll() is not None for process in running):
                return 0
            if self._at_once and not was_repeated:
                was_repeated, deadline = True, time.monotonic() + AT_ONCE_S
                _send(running, signal.SIGTERM)
            time.sleep(POLL_S)
        _send(running, signal.SIGKILL)
        for process in running:
            process.wait()
        logger.error("some processes did not end in time and were killed")
        return 1


def _send(processes: Sequence["subprocess.Popen[bytes]"], number: signal.Signals) -> None:
    for process in processes:
        if process.poll() is None:
            process.send_signal(number)


def _how(code: int) -> str:
    if code >= 0:
        return f"exit code {code}"
    try:
        return f"killed by {signal.Signals(-code).name}"
    except ValueError:
        return f"killed by signal {-code}"


def inherited(overrides: Mapping[str, object]) -> dict[str, str]:
    """This process's environment, with settings of the command line as ``MAZE_…`` variables."""
    said = {f"MAZE_{name.upper()}": str(value) for name, value in overrides.items()}
    return {**os.environ, **said}
