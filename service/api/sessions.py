"""Sessions: an agent that remembers, from step to step, for as long as a client uses it."""

from functools import partial
from typing import Annotated, TypeAlias

from fastapi import APIRouter, Depends, Path, Request, Response
from pydantic import Field

from maze_core.runners.config import rollout_tree
from service.api.answers import Listing, Out, Time
from service.api.bodies import In, Labels, NamesPolicy, Seed, StrictRoute, Title
from service.api.dependencies import CallerDep, PageDep, Services, ServicesDep, invalid_cursor, require_scope
from service.api.submit import stored_config, trained
from service.domain.cursors import decode_cursor, encode_cursor, page_of
from service.domain.policies import is_policy
from service.domain.run import CheckpointInfo, NewRun, Page, RunKind
from service.domain.sessions import DEFAULT_TTL_S, LONGEST_TTL_S, MAX_REWARD, SESSION_ID
from service.domain.sharing import Scope
from service.domain.use_cases import new_run_id
from service.problems import Problem, scope_missing
from service.serving.sessions.route import project_of
from service.serving.sessions.session import Session

router = APIRouter(
    prefix="/v1/sessions", tags=["sessions"], route_class=StrictRoute, dependencies=[require_scope(Scope.ACT)]
)

SessionId: TypeAlias = Annotated[
    str, Path(pattern=f"^{SESSION_ID}$", description="Id of a session.", examples=["session_" + "0" * 26])
]


class SessionRequest(NamesPolicy):
    """Begin a session."""

    deterministic: bool = True
    """Take the most likely action rather than a drawn one."""
    seed: Seed | None = None
    """Of the one stream of drawn actions: equal seeds give equal actions. Drawn and echoed when left out."""
    ttl_s: Annotated[float, Field(gt=0, le=LONGEST_TTL_S)] = DEFAULT_TTL_S
    """Seconds without a use after which it ends."""
    record: bool = False
    """Keep its episodes, in a run of their own that ends with the session."""
    name: Title | None = None
    """Of that run."""
    labels: Labels = Field(default_factory=dict, max_length=32)
    """Of that run."""


class ResetRequest(In):
    """Begin an episode."""

    seed: Seed | None = None
    """Begin the stream of drawn actions anew; it goes on when left out."""
    repin: bool = False
    """Act with what the run or the policy means now, as where an alias has moved."""


class FeedbackRequest(In):
    """What came of a step of the open episode."""

    seq: Annotated[int, Field(ge=0, lt=2**53)]
    """The step's number."""
    reward: Annotated[float, Field(ge=-MAX_REWARD, le=MAX_REWARD)]
    """In the place of one that was given before."""


_ANEW = ResetRequest()
"""Without a body."""


class SessionOut(Out):
    """An open session."""

    id: str
    run: str
    """The training run whose policy acts."""
    checkpoint: str
    """Its checkpoint; an alias that moves changes it at a `reset` with `repin`, and not before."""
    checkpoint_sha256: str
    policy: str | None
    """The version, as ``name:3``, where a policy was named."""
    deterministic: bool
    seed: int
    episode: int
    """Episodes before the one that is open."""
    next_seq: int
    """Number of the next step."""
    recording: str | None
    """Id of the run that keeps its episodes."""
    n_recorded: int
    """Episodes kept so far."""
    ttl_s: float
    created_at: Time
    expires_at: Time
    """When it ends if it is not used."""


def _shown(session: Session) -> SessionOut:
    version = session.version
    moving = (
        "id",
        "deterministic",
        "seed",
        "episode",
        "next_seq",
        "n_recorded",
        "ttl_s",
        "created_at",
        "expires_at",
    )
    return SessionOut(
        run=version.run,
        checkpoint=version.checkpoint,
        checkpoint_sha256=version.checkpoint_sha256,
        policy=version.policy,
        recording=session.run_id,
        **{name: getattr(session, name) for name in moving},
    )


async def _session(session_id: SessionId, request: Request, services: ServicesDep) -> Session:
    return await services.acting.get(session_id, project_of(request.scope))


SessionDep: TypeAlias = Annotated[Session, Depends(_session)]
"""The open session named in the path; 404 where there never was one, 410 where it has ended."""


def _source(body: SessionRequest) -> tuple[str, str]:
    given = body.given("run", "checkpoint", "policy")
    if "policy" not in given:
        if "run" not in given:
            message = 'Give "policy": "name@alias" or "name:3", or the run whose policy acts.'
            raise Problem.at("", "missing_field", message)
        return given["run"], given.get("checkpoint") or "best"
    if len(given) > 1:
        message = "A policy says which checkpoint of which run it is: give policy, or run and checkpoint."
        raise Problem.at("/policy", "contradiction", message)
    policy = given["policy"]
    return (policy if is_policy(policy) else f"{policy}@"), "best"


def _recording(services: Services, body: SessionRequest, info: CheckpointInfo) -> NewRun:
    """The run that a session's episodes are recorded to: as a rollout of the policy, which the client plays."""
    tree = rollout_tree({**services.runs.get(info.run_id).config}, deterministic=body.deterministic)
    config = stored_config(services, tree | {"policy": trained(info)}, "rollout")
    return NewRun(
        id=new_run_id(),
        kind=RunKind.RECORD,
        request=body.given(),
        config=config.tree,
        config_sha256=None,
        seed=None,
        name=body.name,
        labels=body.labels,
        source_run=info.run_id,
        source_checkpoint=info.id,
    )


@router.post("", status_code=201, response_model=SessionOut)
async def create_session(
    body: SessionRequest, services: ServicesDep, response: Response, caller: CallerDep
) -> SessionOut:
    """Begin a session with a trained policy. It acts by what that means now, whatever moves later."""
    source, selector = _source(body)
    if body.record and not caller.may(Scope.RUNS_WRITE):
        raise scope_missing(Scope.RUNS_WRITE, "To record")
    session = await services.acting.create(
        services,
        source,
        selector,
        deterministic=body.deterministic,
        seed=body.seed,
        ttl_s=body.ttl_s,
        project=caller.project,
        by=caller.token_id,
        record=partial(_recording, services, body) if body.record else None,
    )
    response.headers["Location"] = f"/v1/sessions/{session.id}"
    return _shown(session)


@router.get("", response_model=Listing[SessionOut])
async def list_sessions(query: PageDep, services: ServicesDep, request: Request) -> Page:
    """Open sessions, newest first."""
    found = services.acting.of(project_of(request.scope))
    if query.cursor is not None:
        try:
            (after,) = decode_cursor(query.cursor, "sessions", str)
        except ValueError as error:
            raise invalid_cursor() from error
        found = [one for one in found if one.id < after]
    return page_of(
        found[: query.limit + 1], query.limit, _shown, lambda one: encode_cursor("sessions", one.id)
    )


@router.get("/{session_id}", response_model=SessionOut)
async def get_session(session: SessionDep) -> SessionOut:
    """One open session; looking at it is a use of it."""
    return _shown(session)


@router.post("/{session_id}/reset", response_model=SessionOut)
async def reset_session(session: SessionDep, services: ServicesDep, body: ResetRequest = _ANEW) -> SessionOut:
    """Begin an episode; one that is open is cut where it is. Asked again before the first step, it changes nothing."""
    await services.acting.reset(session, seed=body.seed, repin_in=services if body.repin else None)
    return _shown(session)


@router.post("/{session_id}/feedback", response_model=SessionOut)
async def give_feedback(body: FeedbackRequest, session: SessionDep, services: ServicesDep) -> SessionOut:
    """Say what came of a step of the open episode that is recorded, late or once more."""
    services.acting.feedback(session, body.seq, body.reward)
    return _shown(session)


@router.delete("/{session_id}", status_code=204)
async def close_session(session: SessionDep, services: ServicesDep) -> Response:
    """End a session; the run that it recorded to has its result then. Once more is answered as every later use: 410."""
    await services.acting.close(session)
    return Response(status_code=204)
