"""What endpoints are given: the stores and settings behind them, and parameters that many of them share."""

from collections.abc import Callable, Iterable
from dataclasses import dataclass, replace
from typing import Annotated, Any, TypeAlias, TypeVar, get_origin

from fastapi import Depends, Path, Query, Request
from fastapi.routing import APIRoute
from pydantic import BaseModel, Field
from starlette.concurrency import run_in_threadpool
from starlette.routing import BaseRoute

from maze_core.config.trust import RUN_ID
from service.api.changes import ChangeWatcher
from service.domain.cursors import decode_cursor, encode_cursor
from service.domain.cursors import page_of as page_of_rows
from service.domain.fleet import Fleet, Storage
from service.domain.ports import (
    AuditStore,
    CheckpointStore,
    EpisodeStore,
    PolicyStore,
    ProjectStore,
    RegistryStore,
    RunStore,
    SessionStore,
    SweepStore,
    UploadStore,
    WebhookStore,
)
from service.domain.projects import BOUND, bound
from service.domain.run import Page, Run
from service.domain.sharing import Caller, Scope
from service.problems import Problem, query_problem, scope_missing
from service.security import PROJECT_HEADER
from service.serving.agents import AgentCache, ProjectAgents
from service.serving.sessions.registry import Sessions
from service.settings import Settings

T = TypeVar("T")


@dataclass(frozen=True)
class Services:
    """Everything that the endpoints stand on; made by the composition root."""

    runs: RunStore
    checkpoints: CheckpointStore
    episodes: EpisodeStore
    registry: RegistryStore
    uploads: UploadStore
    policies: PolicyStore
    sweeps: SweepStore
    webhooks: WebhookStore
    agents: AgentCache | ProjectAgents
    sessions: SessionStore
    acting: Sessions
    """The sessions that are open."""
    settings: Settings
    changes: ChangeWatcher
    check_store: Callable[[], object]
    """Raises when the database cannot be read or written."""
    check_schema: Callable[[], object]
    """Raises when the database's schema is not this version's."""
    storage: Callable[[], Storage]
    """How much is stored, and how much more can be."""
    projects: ProjectStore
    audit: AuditStore
    look: Callable[[], Fleet]
    """At all workers and the runs of all projects."""

    def of(self, project: str) -> "Services":
        """These services as one project has them: what is another's is not there."""
        stores = {name: bound(getattr(self, name), self.projects, project) for name in BOUND}
        return replace(self, agents=self.agents.for_project(project), **stores)


async def _caller(request: Request) -> Caller:
    caller: Caller = request.scope["state"]["caller"]
    return caller


CallerDep: TypeAlias = Annotated[Caller, Depends(_caller)]
"""Whoever asks."""


async def _services(
    request: Request, caller: CallerDep
) -> Services:  # async, as what does not wait: others cost a thread each
    services: Services = request.app.state.services
    return services.of(caller.project)


ServicesDep: TypeAlias = Annotated[Services, Depends(_services)]
"""What the caller's project has."""


class ScopeNeeded:
    """Says what a route, or every route of a router, asks of its caller; :func:`check_scope` sees to it."""

    def __init__(self, reading: Scope | None, changing: Scope | None) -> None:
        """Take the scope for GET and HEAD, and the one for other methods; None lets every token in."""
        self.reading, self.changing = reading, changing

    async def __call__(self) -> None:
        """Nothing: that it is there says it."""


def require_scope(scope: Scope | None, *, changing: Scope | None = None) -> Any:
    """A dependency of a route or router: its scope, and one for methods that change something where it is another.

    Of several the one nearest to the route counts. None lets every token in.
    """
    return Depends(ScopeNeeded(scope, changing or scope))


def scope_needed(route: BaseRoute, method: str) -> Scope | None:
    """What a route asks for; ``admin`` where it does not say."""
    said = [each.dependency for each in getattr(route, "dependencies", ())]
    needed = [each for each in said if isinstance(each, ScopeNeeded)]
    if not needed:
        return Scope.ADMIN
    return needed[-1].reading if method in ("GET", "HEAD") else needed[-1].changing


async def check_scope(request: Request, caller: CallerDep) -> None:
    """Refuse a caller who lacks the route's scope, and an admin who names a project that there is not."""
    needed = scope_needed(request.scope["route"], request.method)
    if needed is not None and not caller.may(needed):
        raise scope_missing(needed)
    if needed is not Scope.ADMIN and PROJECT in request.headers:
        await run_in_threadpool(request.app.state.services.projects.get, caller.project)


RunId: TypeAlias = Annotated[
    str,
    Path(
        pattern=f"^{RUN_ID}$",
        description="Id of a run.",
        examples=["run_06b1c9k2m4n6p8q0r2s4t6v8w0"],
    ),
]


SWEEP_ID = "sweep_[0-9a-z]{1,40}"
"""The pattern of a sweep's id."""


def _run(run_id: RunId, services: ServicesDep) -> Run:
    return services.runs.get(run_id)


RunDep: TypeAlias = Annotated[Run, Depends(_run)]
"""The run named in the path; 404 when there is none."""


PROJECT = PROJECT_HEADER.decode()
LABEL = "label."
"""Before the key of a label that is asked for as a parameter of its own."""
PROBED = ("/health/", "/metrics")
"""Probes and scrapers add parameters of their own."""


async def check_unread(request: Request) -> None:
    """Refuse a parameter that the route does not have or that is given twice, and a body where none is read."""
    if (query := request.scope["query_string"]) and not request.url.path.startswith(PROBED):
        known = query_parameters(request.scope["route"])
        lists = [name for name, kind in known.items() if get_origin(kind) is list]
        if problem := query_problem(query, known, lists):
            raise problem
    route = request.scope["route"]
    takes_none = request.method == "POST" and route.body_field is None and not route.openapi_extra
    if takes_none and (await request.body()).strip() not in (b"", b"{}"):
        raise Problem.at("", "unknown_field", "This path takes no body.")


def query_parameters(route: APIRoute) -> dict[str, Any]:
    """The query parameters of a route with their types; members of a model are parameters of their own."""
    known: dict[str, Any] = {}
    for parameter in route.dependant.query_params:
        kind = parameter.field_info.annotation
        if isinstance(kind, type) and issubclass(kind, BaseModel):
            known |= {name: field.annotation for name, field in kind.model_fields.items()}
            known |= {f"{LABEL}KEY": str} if kind.model_config.get("extra") == "allow" else {}
        else:
            known[parameter.alias] = kind
    return known


class PageQuery(BaseModel):
    """How much of a list, and from where."""

    limit: int = Field(default=50, ge=1, le=200, description="Entries per page.")
    cursor: str | None = Field(default=None, max_length=512, description="next_cursor of the page before.")


PageDep: TypeAlias = Annotated[PageQuery, Query()]


class LogQuery(BaseModel):
    """How much of a log, and from where."""

    after: int = Field(default=0, ge=0, lt=2**53, description="Only entries with a larger seq.")
    cursor: str | None = Field(
        default=None, pattern=r"^\d{1,15}$", description="next_cursor of the page before."
    )
    limit: int = Field(default=500, ge=1, le=1000, description="Entries per page.")

    @property
    def start(self) -> int:
        """The seq after which the page begins."""
        return self.after if self.cursor is None else int(self.cursor)


LogDep: TypeAlias = Annotated[LogQuery, Query()]


def page_of(fetch: Callable[..., Page], *args: Any, query: PageQuery, **filters: Any) -> Page:
    """A page of a store; a cursor that is not ours is the client's mistake."""
    try:
        return fetch(*args, limit=query.limit, cursor=query.cursor, **filters)
    except ValueError as error:
        raise invalid_cursor() from error


def page_of_all(found: Iterable[T], query: PageQuery, of: str, key: Callable[[T], str]) -> Page:
    """A page of a list that is at hand.

    Args:
        found: the whole list.
        query: which page.
        of: the list's name.
        key: what it is in the order of.
    """
    try:
        (after,) = ("",) if query.cursor is None else decode_cursor(query.cursor, of, str)
    except ValueError as error:
        raise invalid_cursor() from error
    rest = sorted((each for each in found if key(each) > after), key=key)
    return page_of_rows(rest, query.limit, lambda each: each, lambda each: encode_cursor(of, key(each)))


def invalid_cursor() -> Problem:
    """The problem of a cursor that is not this list's."""
    message = "This is no cursor of this list; use next_cursor of its last page, or leave it out."
    return Problem.in_query("cursor", "invalid_cursor", message)
