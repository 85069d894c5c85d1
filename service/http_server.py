"""The API process: one uvicorn server on a socket that is bound before it starts."""

import os
import signal
import socket
from types import FrameType
from typing import NoReturn

from service.domain.errors import ServiceError
from service.settings import Settings

BACKLOG = 2048
GRACEFUL_SHUTDOWN_S = 10
"""Time that open answers have to end."""


class AddressError(ServiceError):
    """The address cannot be listened on."""

    code = "address"


def bind(host: str, port: int) -> socket.socket:
    """A listening socket.

    Raises:
        AddressError: the port is taken, or the address is not one of this machine's; the message has the way out.
    """
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    try:
        return socket.create_server((host.strip("[]"), port), family=family, backlog=BACKLOG)
    except OSError as error:
        raise AddressError(
            f"cannot listen on {host} port {port}: {os.strerror(error.errno or 0)}. "
            f"Choose another port with --port (make serve PORT={port + 1}), or stop what listens there"
        ) from error


def _end(_number: int, _frame: FrameType | None) -> NoReturn:
    raise SystemExit(0)


def serve_api(settings: Settings, listener: socket.socket) -> int:
    """Serve until SIGTERM or SIGINT; returns the exit code."""
    import uvicorn

    from service.main import create_app

    config = uvicorn.Config(
        create_app(settings),
        log_config=None,
        log_level=None,
        access_log=False,
        lifespan="on",
        server_header=False,
        timeout_graceful_shutdown=GRACEFUL_SHUTDOWN_S,
    )
    server = uvicorn.Server(config)
    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, _end)  # before uvicorn listens to it, and after, when it raises it once more
    server.run(sockets=[listener])
    return 0
