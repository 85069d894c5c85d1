"""Who one is, tokens for others, and the projects that an admin makes."""

from typing import Annotated, Any, TypeAlias

from fastapi import APIRouter, Path, Response
from pydantic import Field

from service.api.answers import Listing, Out, Time
from service.api.bodies import In, StrictRoute
from service.api.dependencies import CallerDep, PageDep, ServicesDep, page_of_all, require_scope
from service.domain.errors import NotFoundError
from service.domain.run import Page
from service.domain.sharing import PROJECT_NAME, Caller, Project, Scope, Token
from service.domain.use_cases import create_token, token_id_of
from service.problems import Problem, scope_missing

ADMIN: dict[str, Any] = {"dependencies": [require_scope(Scope.ADMIN)]}
router = APIRouter(
    prefix="/v1", tags=["sharing"], route_class=StrictRoute, dependencies=[require_scope(None)]
)

LONGEST_S = 3650 * 86_400
TokenId: TypeAlias = Annotated[str, Path(pattern="^[A-Za-z0-9]{1,64}$", description="Id of a token.")]
ProjectName: TypeAlias = Annotated[str, Path(pattern=f"^{PROJECT_NAME}$", description="Name of a project.")]
ScopeName: TypeAlias = Annotated[Scope, Field(strict=False)]
Limit: TypeAlias = Annotated[int | None, Field(ge=0, lt=2**31)]


class MeOut(Out):
    """Whoever asks."""

    token_id: str | None
    """Null where the service asks for no token."""
    project: str
    scopes: list[Scope]


class TokenOut(Out):
    """What is known of a token; its text is not."""

    id: str
    name: str
    project: str
    scopes: list[Scope]
    created_at: Time
    created_by: str | None
    """The token that made it; null is the command line."""
    expires_at: Time | None
    last_used_at: Time | None
    """To the hour."""
    revoked_at: Time | None


class NewTokenOut(TokenOut):
    """A token that was made now."""

    token: str
    """Its text, which is shown this once."""


class ProjectOut(Out):
    """A project and its quotas; null is no limit."""

    name: str
    created_at: Time
    share: int
    """Of the slots, beside the shares of others whose runs wait, too."""
    max_running: int | None
    """Runs at once."""
    max_queued: int | None
    """Runs that wait."""
    max_stored_mib: int | None
    """Of checkpoints and episodes."""


class TokenRequest(In):
    """A token for somebody else, or for a program."""

    name: str = Field(min_length=1, max_length=200, description="Whose it is.")
    scopes: list[ScopeName] = Field(min_length=1, max_length=len(Scope), description="What it may do.")
    expires_in_s: float | None = Field(
        default=None, gt=0, le=LONGEST_S, description="How long it is valid; null is for ever."
    )


class ProjectRequest(In):
    """Quotas of a project; what is left out stays, null is no limit."""

    share: int = Field(default=1, ge=1, le=1000)
    max_running: Limit = None
    max_queued: Limit = None
    max_stored_mib: Limit = None


@router.get("/me", response_model=MeOut)
def get_me(caller: CallerDep) -> dict[str, Any]:
    """Project and scopes of whoever asks."""
    return {"token_id": caller.token_id, "project": caller.project, "scopes": sorted(caller.scopes)}


@router.post("/tokens", status_code=201, response_model=NewTokenOut)
def make_token(body: TokenRequest, services: ServicesDep, caller: CallerDep) -> dict[str, Any]:
    """A token of this project with at most the scopes, and no longer than, of whoever asks; it is shown this once."""
    for scope in body.scopes:
        if not caller.may(scope):
            raise scope_missing(scope, f"To give a token {scope}")
    services.projects.get(caller.project)
    grants = Caller(project=caller.project, scopes=frozenset(body.scopes))
    text = create_token(
        services.registry,
        body.name,
        grants,
        expires_in_s=_expires_in_s(services, caller, body.expires_in_s),
        by=caller.token_id,
    )
    made = _token(services, str(token_id_of(text)), caller)
    return {**vars(made), "token": text}


@router.get("/tokens", response_model=Listing[TokenOut])
def list_tokens(query: PageDep, services: ServicesDep, caller: CallerDep) -> Page:
    """Tokens of the project, oldest first: to an admin all of them, to others those that they made."""
    seen = _seen(services, caller)
    return page_of_all(
        seen, query, "tokens", lambda each: f"{each.created_at.isoformat(timespec='microseconds')} {each.id}"
    )


@router.delete("/tokens/{token_id}", status_code=204)
def revoke_token(token_id: TokenId, services: ServicesDep, caller: CallerDep) -> Response:
    """End a token; within 5 s it opens nothing, and streams that it opened end."""
    services.registry.revoke_token(_token(services, token_id, caller).id)
    return Response(status_code=204)


@router.get("/projects", response_model=Listing[ProjectOut], **ADMIN)
def list_projects(query: PageDep, services: ServicesDep) -> Page:
    """All projects, by name."""
    return page_of_all(services.projects.list(), query, "projects", lambda each: each.name)


@router.get("/projects/{project}", response_model=ProjectOut, **ADMIN)
def get_project(project: ProjectName, services: ServicesDep) -> Project:
    """One project."""
    return services.projects.get(project)


@router.put("/projects/{project}", response_model=ProjectOut, **ADMIN)
def put_project(
    project: ProjectName, body: ProjectRequest, services: ServicesDep, response: Response
) -> Project:
    """Make a project, or change the quotas that are named."""
    changed = {name: getattr(body, name) for name in body.model_fields_set}
    made, _ = services.projects.put(project, changed)
    response.headers["Location"] = f"/v1/projects/{project}"
    return made


def _seen(services: ServicesDep, caller: Caller) -> list[Token]:
    ours = [each for each in services.registry.tokens() if each.project == caller.project]
    own = (caller.token_id,)
    return [each for each in ours if caller.may(Scope.ADMIN) or each.created_by in own or each.id in own]


def _token(services: ServicesDep, token_id: str, caller: Caller) -> Token:
    found = [each for each in _seen(services, caller) if each.id == token_id]
    if not found:
        raise NotFoundError(f"there is no token {token_id}", token_id=token_id)
    return found[0]


def _expires_in_s(services: ServicesDep, caller: Caller, wanted_s: float | None) -> float | None:
    """No token outlives the one that made it."""
    grant = services.registry.find_token(caller.token_id) if caller.token_id else None
    if grant is None or grant.expires_in_s is None:
        return wanted_s
    if wanted_s is not None and wanted_s > grant.expires_in_s:
        message = f"This token expires in {grant.expires_in_s:.0f} s; those that it makes have to, too."
        raise Problem.at("/expires_in_s", "invalid_value", message)
    return wanted_s or grant.expires_in_s
