"""Who changed what: every operation that changes something is noted, and ``GET /v1/audit`` tells of it."""

from collections.abc import Callable, Coroutine
from contextlib import suppress
from typing import Annotated, Any, TypeAlias

from fastapi import APIRouter, Query, Request, Response
from fastapi.routing import APIRoute
from pydantic import Field
from starlette.concurrency import run_in_threadpool

from service.api.answers import Listing, Moment, Out, Time
from service.api.dependencies import PageQuery, ServicesDep, page_of, require_scope, scope_needed
from service.domain.audit import Change, Outcome, changing
from service.domain.errors import ServiceError
from service.domain.run import Page
from service.domain.sharing import PROJECT_NAME, Caller, Scope
from service.problems import Problem
from service.security import SAFE_METHODS, RateLimiter

Handler: TypeAlias = Callable[[Request], Coroutine[Any, Any, Response]]

CHANGING = frozenset({Scope.RUNS_WRITE, Scope.POLICIES_PROMOTE, Scope.ADMIN})
"""What an operation asks for that changes something: whoever acts or looks leaves no entry."""
OF_EVERYBODY = frozenset({"make_token", "revoke_token"})
"""Operations that any token may ask for, and that change something all the same."""
REFUSALS_PER_S = 1 / 60
"""Of one token and operation, so that nobody fills the log with what he may not do."""
_refusals = RateLimiter(REFUSALS_PER_S)


def audited(route: APIRoute, handle: Handler) -> Handler:
    """The handler of a route; where it changes something, the audit log has an entry of it."""
    methods = (route.methods or set()) - SAFE_METHODS
    if not any(scope_needed(route, each) in CHANGING for each in methods) and route.name not in OF_EVERYBODY:
        return handle

    async def handle_audited(request: Request) -> Response:
        store = request.app.state.services.audit
        caller: Caller = request.scope["state"]["caller"]
        change = Change(
            action=route.name,
            subject=request.url.path,
            token_id=caller.token_id,
            project=caller.project,
            request_id=request.scope["state"]["request_id"],
        )
        try:
            with changing(change):
                response = await handle(request)
        except Problem as problem:
            if problem.code == "scope_missing" and not _refusals.take(f"{caller.token_id} {route.name}"):
                with suppress(ServiceError):  # whoever may not, is told so
                    await run_in_threadpool(store.refuse, change)
            raise
        made = response.headers.get("location", change.subject)
        if len(change.noted) == 1 and change.subject in change.noted and made != change.subject:
            await run_in_threadpool(store.rename, change.noted[change.subject], made)
        return response

    return handle_audited


class AuditEntryOut(Out):
    """One change, or a refused attempt at one."""

    id: str
    at: Time
    token_id: str | None
    """Who; null is the command line, and everybody where the service asks for no token."""
    token_name: str | None
    project: str
    action: str
    """The operation, by its name in the OpenAPI document; or a command."""
    subject: str
    """Path of what was changed or made."""
    request_id: str | None
    """As in the answer's ``X-Request-ID`` and in the logs."""
    outcome: Outcome


class AuditQuery(PageQuery):
    """Which entries."""

    since: Moment | None = Field(default=None, description="Those of then or later (RFC 3339).")
    action: str | None = Field(
        default=None, min_length=1, max_length=64, description="An operation, as `cancel_run`."
    )
    subject: str | None = Field(
        default=None, pattern="^/", max_length=512, description="About this path, or one below it."
    )
    token: str | None = Field(default=None, pattern="^[A-Za-z0-9]{1,64}$", description="Of this token's id.")
    project: str | None = Field(default=None, pattern=f"^{PROJECT_NAME}$", description="In this project.")


router = APIRouter(prefix="/v1", tags=["sharing"], dependencies=[require_scope(Scope.ADMIN)])


@router.get("/audit", response_model=Listing[AuditEntryOut])
def list_audit(query: Annotated[AuditQuery, Query()], services: ServicesDep) -> Page:
    """Who changed what, and what was refused for want of a scope, in all projects, newest first."""
    filters = {name: getattr(query, name) for name in ("since", "action", "subject", "token", "project")}
    return page_of(services.audit.list, query=query, **filters)
