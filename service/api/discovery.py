"""The service about itself: the way in, its documentation, its kinds of problems, its metrics and signs of life.

The documentation page is served with its own assets, so it also works where no other network is reached. Of the signs
of life ``live`` says that the process answers, ``ready`` that it can do its work.
"""

from collections.abc import Callable
from functools import cache, partial
from importlib.metadata import version
from importlib.resources import files
from typing import Annotated, Any

from fastapi import APIRouter, Header, Request, Response
from fastapi.openapi.docs import get_swagger_ui_html
from fastapi.responses import JSONResponse
from prometheus_client import CONTENT_TYPE_LATEST, generate_latest
from starlette.concurrency import run_in_threadpool

from service.api.answers import DiscoveryOut, HealthOut, Listing, ProblemKindOut
from service.api.dependencies import Services, ServicesDep, require_scope
from service.api.environments import PUBLISHED
from service.api.page import page
from service.api.postman import collection
from service.domain.errors import NotFoundError, ServiceError, StoreUnavailableError
from service.domain.sharing import Scope
from service.json_values import MAX_DEPTH
from service.metrics import Telemetry
from service.problems import CATALOGUE, Problem, ProblemKind
from service.security import wants_page
from service.trust import PENDING, environment_states

TITLE = "maze-service"

router = APIRouter(tags=["service"], dependencies=[require_scope(None)])

_ASSETS = {"swagger-ui.css": "text/css", "swagger-ui-bundle.js": "text/javascript"}
_LINKS = {
    "docs": "/docs",
    "openapi": "/openapi.json",
    "train": "/v1/train",
    "rollout": "/v1/rollout",
    "evaluate": "/v1/evaluate",
    "compare": "/v1/compare",
    "policies": "/v1/policies",
    "runs": "/v1/runs",
    "config_groups": "/v1/config/groups",
    "config_targets": "/v1/config/targets",
    "config_compose": "/v1/config/compose",
    "environments": "/v1/environments",
    "workers": "/v1/workers",
    "status": "/v1/status",
    "health": "/health/ready",
    "metrics": "/metrics",
    "problems": "/problems",
}


@cache
def service_version() -> str:
    """Version of the installed distribution."""
    return version("maze-service")


@router.get("/", response_model=DiscoveryOut)
async def discover(
    services: ServicesDep, accept: Annotated[str, Header(include_in_schema=False)] = "*/*"
) -> DiscoveryOut | Response:
    """What this service is, and where its parts are; a browser, which asks for `text/html`, gets the page."""
    if wants_page("/", accept):
        return await run_in_threadpool(page)
    settings = services.settings
    limits = {
        "max_body_bytes": settings.max_body_bytes,
        "max_body_depth": MAX_DEPTH,
        "max_import_mib": settings.max_import_mib,
        "max_queued_runs": settings.max_queued_runs,
        "rate_limit_per_s": settings.rate_limit_per_s or None,
    }
    return DiscoveryOut(name=TITLE, version=service_version(), links=_LINKS, limits=limits)


@router.get("/problems")
async def list_problems() -> Listing[ProblemKindOut]:
    """Every kind of problem that this service answers with."""
    return Listing(data=[_kind(code, kind) for code, kind in CATALOGUE.items()])


@router.get("/problems/{slug}")
async def get_problem(slug: str) -> ProblemKindOut:
    """One kind of problem; the `type` of a problem is this address."""
    code = slug.replace("-", "_")
    if code not in CATALOGUE:
        raise NotFoundError("There is no such kind of problem; GET /problems lists them.")
    return _kind(code, CATALOGUE[code])


@router.get("/metrics", response_class=Response, dependencies=[require_scope(Scope.METRICS_READ)])
def get_prometheus_metrics(request: Request) -> Response:
    """Metrics of this process, the runs and the workers, in Prometheus' text format."""
    telemetry: Telemetry = request.app.state.telemetry
    return Response(generate_latest(telemetry.registry), media_type=CONTENT_TYPE_LATEST)


@router.get("/docs", include_in_schema=False)
async def show_documentation() -> Response:
    """Swagger UI over ``/openapi.json``."""
    return get_swagger_ui_html(
        openapi_url="/openapi.json",
        title=TITLE,
        swagger_js_url="/docs/swagger-ui-bundle.js",
        swagger_css_url="/docs/swagger-ui.css",
        swagger_favicon_url="data:,",
    )


@router.get("/docs/postman.json", include_in_schema=False)
async def get_collection(request: Request) -> JSONResponse:
    """The routes as a Postman collection, of the service that is asked."""
    return JSONResponse(collection(request.app.openapi(), str(request.base_url).rstrip("/")))


@router.get("/docs/{asset}", include_in_schema=False)
def get_documentation_asset(asset: str) -> Response:
    """A file of Swagger UI."""
    if asset not in _ASSETS:
        raise NotFoundError("There is no such file.")
    content = files("fastapi_swagger").joinpath("resources", asset).read_bytes()
    return Response(content, media_type=_ASSETS[asset], headers={"Cache-Control": "max-age=86400"})


def _kind(code: str, kind: ProblemKind) -> ProblemKindOut:
    return ProblemKindOut(
        type=f"/problems/{code.replace('_', '-')}", code=code, status=kind.status, meaning=kind.meaning
    )


BEATS = 3
"""A worker is alive until it has missed so many signs of life."""


@router.get("/health/live")
async def live() -> HealthOut:
    """Whether the process answers."""
    return HealthOut(status="ok")


@router.get("/health/ready")
def ready(services: ServicesDep) -> HealthOut:
    """Whether database and schema are there (else 503); a missing worker is only a warning."""
    if services.changes.is_stopping:
        raise Problem("not_ready", "Not ready: the service ends.")
    checks = {
        "database": _check(services.check_store),
        "migrations": _check(services.check_schema),
        "workers": _check(partial(_workers, services)),
        "environments": _check(partial(_environments, services)),
    }
    if failed := [name for name, check in checks.items() if check["status"] == "failed"]:
        detail = f"Not ready: {', '.join(failed)} failed."
        raise Problem("not_ready", detail, headers={"Retry-After": "1"}, details={"checks": checks})
    return HealthOut(status="ok", checks=checks)


def _check(probe: Callable[[], object]) -> dict[str, Any]:
    """What the probe found; a database driver's own words are kept from whoever asks."""
    try:
        found = probe()
    except ServiceError as error:
        told = {"detail": error.told} if isinstance(error, StoreUnavailableError) else {}
        return {"status": "failed", "code": error.code, **told}
    return found if isinstance(found, dict) else {"status": "ok"}


def _workers(services: Services) -> dict[str, Any]:
    if alive := len(services.registry.live_workers(BEATS * services.settings.heartbeat_s)):
        return {"status": "ok", "alive": alive}
    return {"status": "warning", "alive": 0, "detail": "No worker is alive: runs wait until one is started."}


def _environments(services: Services) -> dict[str, Any] | None:
    """Failed where no worker could say which environments it has; one that has yet to say is awaited."""
    known = environment_states(services.settings, services.registry)
    if PUBLISHED in known or not known:
        return None
    if PENDING in known:
        return {"status": "ok", "detail": "A worker has yet to say which environments it has."}
    return {"status": "failed", "code": "environments_not_published", "detail": known[0].splitlines()[-1]}
