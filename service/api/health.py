"""Signs of life: ``live`` says that the process answers, ``ready`` that it can do its work."""

from collections.abc import Callable
from typing import Any

from fastapi import APIRouter

from service.api.dependencies import Services, ServicesDep
from service.api.environments import PUBLISHED
from service.api.models import HealthOut
from service.domain.errors import ServiceError, StoreUnavailableError
from service.problems import Problem
from service.trust import PENDING, environment_states

router = APIRouter(prefix="/health", tags=["service"])

BEATS = 3
"""A worker is alive until it has missed so many signs of life."""


@router.get("/live")
async def live() -> HealthOut:
    """Whether the process answers."""
    return HealthOut(status="ok")


@router.get("/ready")
def ready(services: ServicesDep) -> HealthOut:
    """Whether database and schema are there (else 503); a missing worker is only a warning."""
    checks = {
        "database": _check(services.check_store),
        "migrations": _check(services.check_schema),
        "workers": _workers(services),
        "environments": _environments(services),
    }
    if failed := [name for name, check in checks.items() if check["status"] == "failed"]:
        detail = f"Not ready: {', '.join(failed)} failed."
        raise Problem("not_ready", detail, headers={"Retry-After": "1"}, details={"checks": checks})
    return HealthOut(status="ok", checks=checks)


def _check(probe: Callable[[], object]) -> dict[str, Any]:
    try:
        probe()
    except StoreUnavailableError as error:
        return {"status": "failed", "code": error.code, "detail": error.told}
    except ServiceError as error:
        return {"status": "failed", "code": error.code}
    return {"status": "ok"}


def _workers(services: Services) -> dict[str, Any]:
    try:
        alive = len(services.registry.live_workers(BEATS * services.settings.heartbeat_s))
    except ServiceError as error:
        return {"status": "failed", "code": error.code}
    if alive:
        return {"status": "ok", "alive": alive}
    return {"status": "warning", "alive": 0, "detail": "No worker is alive: runs wait until one is started."}


def _environments(services: Services) -> dict[str, Any]:
    """Failed where no worker could say which environments it has; one that has yet to say is awaited."""
    try:
        known = environment_states(services.settings, services.registry)
    except ServiceError as error:
        return {"status": "failed", "code": error.code}
    if PUBLISHED in known or not known:
        return {"status": "ok"}
    if PENDING in known:
        return {"status": "ok", "detail": "A worker has yet to say which environments it has."}
    return {"status": "failed", "code": "environments_not_published", "detail": known[0].splitlines()[-1]}
