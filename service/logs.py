"""The log of every process: lines of text, or JSON with the facts of the request or the run that they belong to.

Whatever a stranger sent stands in them escaped, so that it makes no line of its own and steers no terminal.
"""

import json
import logging
from collections.abc import Mapping
from contextvars import ContextVar
from datetime import UTC, datetime
from typing import Any

from service.domain.text import plain

TEXT = "%(asctime)s %(levelname)s [%(process)d] %(name)s: %(message)s"

request: ContextVar[Mapping[str, Any] | None] = ContextVar("request", default=None)
"""The ASGI scope of the request that is answered."""
attempt: ContextVar[Mapping[str, Any] | None] = ContextVar("attempt", default=None)
"""What tells the attempt at a run that a thread looks after."""

access = logging.getLogger("service.access")


class TextFormatter(logging.Formatter):
    """One line per record; a traceback's are indented."""

    def __init__(self) -> None:
        """Take our format."""
        super().__init__(TEXT)

    def format(self, record: logging.LogRecord) -> str:
        """The line, and the traceback."""
        record.message = record.getMessage()
        record.asctime = self.formatTime(record)
        lines = self.formatException(record.exc_info).splitlines() if record.exc_info else []
        return "\n".join([plain(self.formatMessage(record)), *(f"  {plain(line)}" for line in lines)])


class JsonFormatter(logging.Formatter):
    """One object per record: ``time``, ``level``, ``logger``, ``process``, ``message``, and its facts."""

    def format(self, record: logging.LogRecord) -> str:
        """The object, in one line of ASCII."""
        entry = {
            "time": datetime.fromtimestamp(record.created, UTC).isoformat(timespec="milliseconds"),
            "level": record.levelname.lower(),
            "logger": record.name,
            "process": record.process,
            "message": record.getMessage(),
            **facts(),
            **getattr(record, "facts", {}),
        }
        if record.exc_info:
            entry["exception"] = self.formatException(record.exc_info)
        return json.dumps(entry, default=str)


def facts() -> dict[str, Any]:
    """What is known of the request or the attempt that this code works for."""
    scope = request.get()
    if scope is None:
        return dict(attempt.get() or {})
    state = scope.get("state", {})
    known = {
        "request_id": state.get("request_id"),
        "token_id": getattr(state.get("caller"), "token_id", None),
        "trace_id": trace_id(getattr(state.get("trace"), "traceparent", None)),
        "method": scope.get("method"),
        "route": route_of(scope),
    }
    return {name: value for name, value in known.items() if value is not None}


def route_of(scope: Mapping[str, Any]) -> str | None:
    """Template of the route that a request took; None before or without one."""
    route: str | None = scope.get("maze.route") or getattr(scope.get("route"), "path", None)
    return route


def trace_id(traceparent: str | None) -> str | None:
    """The trace of a valid ``traceparent``."""
    return traceparent and traceparent.split("-")[1]


def log_answer(scope: Mapping[str, Any], status: int, seconds: float) -> None:
    """One line of the access log: a request whose answer begins now."""
    text = "%s %s %d in %.1f ms"
    told = {**facts(), "path": scope["path"], "status": status, "duration_s": round(seconds, 6)}
    access.info(
        text, scope.get("method", "GET"), scope["path"], status, seconds * 1000, extra={"facts": told}
    )
