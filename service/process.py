"""What processes of the service do first: their title, their log, whom they do not outlive, and a bound socket."""

import logging
import os
import signal
import socket
import sys

import setproctitle

from service.domain.errors import ServiceError
from service.logs import JsonFormatter, TextFormatter
from service.worker.isolation import die_with_parent

BACKLOG = 2048

QUIET = ("alembic", "httpx", "uvicorn.error")
"""Loggers whose informational lines tell an operator nothing."""


def begin(title: str, *, log_level: str, log_format: str = "text", parent: int | None = None) -> None:
    """Name this process, send its log to standard error, and tie its life to that of its parent.

    Args:
        title: as ``ps`` shows it.
        log_level: least severe messages that are logged.
        log_format: ``text`` or ``json``.
        parent: process id of the parent; when it ends, this process gets a SIGTERM.

    Raises:
        SystemExit: the parent has ended already.
    """
    setproctitle.setproctitle(title)
    handler = logging.StreamHandler(sys.stderr)
    handler.setFormatter(JsonFormatter() if log_format == "json" else TextFormatter())
    logging.basicConfig(level=log_level.upper(), handlers=[handler])
    logging.captureWarnings(True)
    for name in QUIET:
        logging.getLogger(name).setLevel(max(logging.WARNING, logging.getLogger().level))
    if parent is not None:
        die_with_parent(signal.SIGTERM)
        if os.getppid() != parent:
            raise SystemExit("the parent process has ended")


def wait_at(gate: int | None) -> None:
    """Wait until the other end of this pipe is closed: the parent has brought the database up to date."""
    if gate is not None:
        with open(gate, "rb") as pipe:
            pipe.read()


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
