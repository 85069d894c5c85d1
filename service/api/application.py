"""The FastAPI application: routers, strict bodies, problems for every error, and a document that says it all."""

from collections.abc import Callable
from contextlib import AbstractAsyncContextManager
from typing import Any

from fastapi import Depends, FastAPI
from fastapi.routing import APIRoute

from service.api import (
    audit,
    checkpoints,
    compare,
    config,
    discovery,
    environments,
    episodes,
    events,
    feed,
    follow_ups,
    life,
    page,
    policies,
    put,
    run_metrics,
    runs,
    sessions,
    sharing,
    status,
    submit,
    sweeps,
    tickets,
    traffic,
    v2,
    webhooks,
)
from service.api.dependencies import check_scope, check_unread
from service.api.exception_handlers import install_problem_handlers
from service.api.openapi import openapi_document

ROUTERS = (
    submit.router,
    compare.router,
    put.router,
    follow_ups.router,
    life.router,
    sweeps.router,
    runs.router,
    episodes.router,
    policies.router,
    traffic.router,
    follow_ups.of_policy,
    run_metrics.router,
    events.router,
    feed.router,
    checkpoints.router,
    config.router,
    environments.router,
    webhooks.router,
    v2.router,
    sessions.router,
    status.router,
    sharing.router,
    tickets.router,
    audit.router,
    discovery.router,
    page.router,
)


def build_api(lifespan: Callable[[FastAPI], AbstractAsyncContextManager[None]], *, auth: bool) -> FastAPI:
    """The application without its services; they come with ``app.state.services`` and ``.telemetry``."""
    api = FastAPI(
        title=discovery.TITLE,
        version=discovery.service_version(),
        lifespan=lifespan,
        docs_url=None,
        redoc_url=None,
        redirect_slashes=False,
        dependencies=[Depends(check_scope), Depends(check_unread)],
        generate_unique_id_function=_operation_id,
    )
    for router in ROUTERS:
        api.include_router(router)
    routes = [route for router in ROUTERS for route in router.routes]
    install_problem_handlers(api, routes)
    document: dict[str, Any] = {}

    def openapi() -> dict[str, Any]:
        if not document:
            document.update(openapi_document(api, routes, auth=auth))
        return document

    api.openapi = openapi  # type: ignore[method-assign]
    return api


def _operation_id(route: APIRoute) -> str:
    return route.name
