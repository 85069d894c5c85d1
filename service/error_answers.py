"""How HTTP answers each of the service's errors: status, words and headers, the same on every face."""

import logging
import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from service.domain.errors import (
    CapacityError,
    IdempotencyConflictError,
    NotFoundError,
    ServiceError,
    StateConflictError,
    StoreUnavailableError,
)

logger = logging.getLogger(__name__)

_STATUS: tuple[tuple[type[ServiceError], int], ...] = (
    (NotFoundError, 404),
    (StateConflictError, 409),
    (IdempotencyConflictError, 422),
    (CapacityError, 503),
    (StoreUnavailableError, 503),
)


@dataclass(frozen=True, kw_only=True)
class ErrorAnswer:
    """What a client is told."""

    status: int
    detail: str
    headers: Mapping[str, str]
    """``retry-after`` in whole seconds where trying again may help; ``x-should-retry`` with every 409."""
    details: Mapping[str, Any]
    """Members of this one kind of problem."""


def answer_to(error: ServiceError) -> ErrorAnswer:
    """The answer to a service error; what a database driver says is logged and kept from clients."""
    status = next((status for kind, status in _STATUS if isinstance(error, kind)), 500)
    details, detail = dict(error.details), str(error)
    if isinstance(error, StoreUnavailableError):
        logger.warning("%s", error)  # the driver's words may name hosts and files
        detail = "The database does not answer; try again."
    retry_after_s = details.pop("retry_after_s", getattr(error, "retry_after_s", None))
    if status == 503 and not retry_after_s:
        retry_after_s = 1.0
    headers = {}
    if status == 409:
        headers["x-should-retry"] = "false" if retry_after_s is None else "true"
    if isinstance(retry_after_s, int | float):
        headers["retry-after"] = str(max(1, math.ceil(retry_after_s)))
    return ErrorAnswer(status=status, detail=detail, headers=headers, details=details)
