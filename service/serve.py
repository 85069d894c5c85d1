"""``maze serve``: database, token, socket, then API and worker under a supervisor, and a welcome."""

import http.client
import json
import os
import sys
from collections.abc import Mapping
from pathlib import Path

from service import db_cli
from service.process import bind
from service.settings import Settings
from service.store.engine import parse_url, sqlite_path
from service.supervisor import Kept, Supervisor, inherited

PROBE_S = 0.5
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
    db_cli.upgrade(settings.database_url)
    command = [sys.executable, "-m", "service.cli"]
    parent = ["--parent", str(os.getpid())]
    api = Kept("api", [*command, "api", "--fd", str(listener.fileno()), *parent], [listener.fileno()])
    worker = Kept("worker", [*command, "worker", *parent])
    address = (_reachable(settings.host), port)
    supervisor = Supervisor(
        [api, worker],
        environment=inherited({**overrides, "port": port}),
        grace_s=settings.shutdown_grace_s + EXTRA_S,
        listener=listener,
        is_up=lambda: is_up(*address),
        announce=lambda: _say(welcome(settings, *address, _first_token(settings))),
    )
    return supervisor.run()


def is_up(host: str, port: int) -> bool:
    """Whether API and worker are ready."""
    connection = http.client.HTTPConnection(host, port, timeout=PROBE_S)
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
    url = parse_url(database_url)
    path: Path | None = sqlite_path(url)
    return url.render_as_string(hide_password=True) if path is None else str(path.resolve())


def _first_token(settings: Settings) -> str | None:
    """A token when there is none yet; made only when it can be shown, for it is shown once."""
    if not settings.auth or db_cli.has_tokens(settings.database_url):
        return None
    return db_cli.create_token(settings.database_url, "first")


def _say(text: str) -> None:
    sys.stdout.write(text + "\n")
    sys.stdout.flush()


def _reachable(host: str) -> str:
    """An address that reaches a server bound to ``host``, from this machine."""
    return {"0.0.0.0": "127.0.0.1", "::": "::1"}.get(host.strip("[]"), host.strip("[]"))
