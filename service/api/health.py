"""Signs of life: ``live`` says that the process answers, ``ready`` that it can do its work."""

from collections.abc import Callable
from typing import Any

from fastapi import APIRouter, Response
from starlette.responses import JSONResponse

from service.api.config_models import HealthOut
from service.api.dependencies import Services, ServicesDep
from service.domain.errors import ServiceError

router = APIRouter(prefix="/health", tags=["service"])


@router.get("/live")
async def live() -> HealthOut:
    """Whether the process answers."""
    return HealthOut(status="ok")


@router.get("/ready", response_model=HealthOut)
def ready(services: ServicesDep) -> HealthOut | Response:
    """Whether database and schema are there (else 503); a missing worker is only a warning."""
    checks = {
        "database": _check(services.runs.change_marker),
        "migrations": _check(services.check_schema),
        "workers": _workers(services),
    }
    is_ready = all(check["status"] != "failed" for check in checks.values())
    health = HealthOut(status="ok" if is_ready else "unavailable", checks=checks)
    return health if is_ready else JSONResponse(health.model_dump(), 503, headers={"Retry-After": "1"})


def _check(probe: Callable[[], object]) -> dict[str, Any]:
    try:
        probe()
    except ServiceError as error:
        return {"status": "failed", "code": error.code}
    return {"status": "ok"}


def _workers(services: Services) -> dict[str, Any]:
    try:
        alive = len(services.registry.live_workers(services.settings.lease_s))
    except ServiceError as error:
        return {"status": "failed", "code": error.code}
    if alive:
        return {"status": "ok", "alive": alive}
    return {"status": "warning", "alive": 0, "detail": "No worker is alive: runs wait until one is started."}
