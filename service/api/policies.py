"""Policies by name: versions that never change, aliases that move, their history, and the way back."""

import re
from collections.abc import Mapping
from typing import Annotated, Any, TypeAlias

from fastapi import APIRouter, Header, Path, Query, Response
from pydantic import AliasChoices, Field

from maze_core.runners.config import rollout_tree
from service.api.answers import UNCHANGED, Listing, Object, Out, Time, again
from service.api.bodies import Count, In, Seed, Selector, StrictRoute, Word
from service.api.delivery import OPAQUE_TAG
from service.api.dependencies import CallerDep, PageDep, PageQuery, ServicesDep, page_of, require_scope
from service.domain.policies import POLICY_NAME, Gate, MoveKind, Policy, PolicyAlias, PolicyVersion
from service.domain.promotion import ANY, Wish, remove_alias, roll_back, set_alias
from service.domain.run import Page, Run
from service.domain.sharing import LONGEST_KEY, Scope, key_of
from service.domain.use_cases import named_checkpoint
from service.problems import Problem

PROMOTES: dict[str, Any] = {"dependencies": [require_scope(Scope.POLICIES_PROMOTE)]}
"""Of a route that changes what an alias names, or may come to name."""
router = APIRouter(
    prefix="/v1/policies",
    tags=["policies"],
    route_class=StrictRoute,
    dependencies=[require_scope(Scope.RUNS_READ, changing=Scope.RUNS_WRITE)],
)

Name: TypeAlias = Annotated[str, Path(pattern=f"^{POLICY_NAME}$", description="Name of a policy.")]
AliasName: TypeAlias = Annotated[str, Path(pattern=f"^{POLICY_NAME}$", description="Name of an alias.")]
Number: TypeAlias = Annotated[int, Path(ge=1, lt=2**31, description="Number of a version.")]
NewName = Annotated[str, Field(pattern=f"^{POLICY_NAME}$")]
Reason = Annotated[str, Field(max_length=1000)]
IfMatch: TypeAlias = Annotated[
    str | None,
    Header(
        description='The alias\'s ETag, as in `"3"`: 412 when it has moved since.',
        json_schema_extra={"pattern": r'^(\*|"?[0-9]{1,9}"?)$'},
    ),
]
_REVISION = re.compile(r'"?(\d{1,9})"?')


class GateRequest(In):
    """What a version has to show before an alias moves to it: a comparison in which it is not worse at 95 %."""

    aliases: Annotated[list[NewName], Field(min_length=1, max_length=64)] | None = None
    """Those that are guarded; all when left out."""
    n_episodes: Annotated[Count, Field(ge=2)] = 20
    """Episodes of the comparison, at least."""
    seed: Seed | None = None
    """Of the comparison; any when left out."""


class PolicyRequest(In):
    """A new policy."""

    name: NewName
    """Letters, digits, dots, dashes and underscores."""
    description: Annotated[str, Field(max_length=10_000)] | None = None
    gate: GateRequest | None = None


class ChangePolicyRequest(In):
    """What may be changed of a policy; null takes it away."""

    description: Annotated[str, Field(max_length=10_000)] | None = None
    gate: GateRequest | None = None


class VersionRequest(In):
    """A checkpoint that becomes a version."""

    run: Word
    """Id of the training run that made it."""
    checkpoint: Selector = "best"
    """``best``, ``last``, ``epoch:N`` or a checkpoint id; which one that is now stays so."""
    note: Annotated[str, Field(max_length=10_000)] | None = None


class AliasRequest(In):
    """Where an alias is to point."""

    version: Annotated[int, Field(ge=1, lt=2**31)]
    reason: Reason | None = None
    """For the history."""
    comparison: Word | None = None
    """Id of the run that compares the present holder with it, where a gate asks for that; refused where none does."""


class RollbackRequest(In):
    """Back to an earlier version."""

    to: Annotated[int, Field(ge=1, lt=2**31)] | None = None
    """One that the alias has named; the one before the present one when left out."""
    reason: Reason | None = None


class GateOut(Out):
    """What a version has to show before an alias moves to it from another one."""

    aliases: list[str] | None
    n_episodes: int
    seed: int | None


class PolicyOut(Out):
    """A policy."""

    name: str
    description: str | None
    gate: GateOut | None
    n_versions: int
    """Versions that were ever made."""
    aliases: dict[str, int]
    """Alias → number of the version that it names."""
    created_at: Time
    created_by: str | None
    """Id of a token."""


class PolicyVersionOut(Out):
    """A version of a policy; it never changes."""

    policy: str
    version: int = Field(validation_alias=AliasChoices("number", "version"))
    run: str = Field(validation_alias=AliasChoices("run_id", "run"))
    checkpoint: str
    """Its id; it is kept as long as the version is there."""
    content_sha256: str
    note: str | None
    created_at: Time
    created_by: str | None


class PolicyAliasOut(Out):
    """Which version an alias names now."""

    policy: str
    alias: str
    version: int
    revision: int
    """The ``seq`` of the move that led here; it is the ETag."""
    moved_at: Time


class AliasMoveOut(Out):
    """One move of an alias."""

    seq: int
    kind: MoveKind
    from_version: int | None
    to_version: int | None
    """Null where the alias was deleted."""
    reason: str | None
    by: str | None
    """Id of a token."""
    at: Time
    evidence: Object | None
    """The comparison that opened the gate: its run, the difference with its interval, and what was played; of a change
    of its ``traffic``, how that is split then."""


@router.post("", status_code=201, response_model=PolicyOut, responses=again(PolicyOut))
def create_policy(
    body: PolicyRequest, services: ServicesDep, response: Response, caller: CallerDep
) -> Policy:
    """Make a policy; the same one again is answered as it is (200)."""
    if (most := LONGEST_KEY - len(key_of(caller.project, ""))) < len(body.name):
        message = f"In project {caller.project} names of policies have at most {most} characters."
        raise Problem.at("/name", "invalid_value", message)
    gate = _gate(body.gate)
    made, is_new = services.policies.create(
        body.name, description=body.description, gate=gate, by=caller.token_id
    )
    response.headers["Location"] = f"/v1/policies/{made.name}"
    response.status_code = 201 if is_new else 200
    return made


class PoliciesQuery(PageQuery):
    """Which policies are listed."""

    name: str | None = Field(
        default=None, min_length=1, max_length=64, description="Part of the name, in any case."
    )


@router.get("", response_model=Listing[PolicyOut])
def list_policies(query: Annotated[PoliciesQuery, Query()], services: ServicesDep) -> Page:
    """Policies by name."""
    return page_of(services.policies.list, query=query, name=query.name)


@router.get("/{name}", response_model=PolicyOut)
def get_policy(name: Name, services: ServicesDep) -> Policy:
    """One policy with its aliases."""
    return services.policies.get(name)


@router.patch("/{name}", response_model=PolicyOut, **PROMOTES)
def change_policy(name: Name, body: ChangePolicyRequest, services: ServicesDep) -> Policy:
    """Change description or gate; what is not named stays, and null takes it away."""
    changes: dict[str, Any] = {field: getattr(body, field) for field in body.model_fields_set}
    if "gate" in changes:
        changes["gate"] = _gate(body.gate)
    return services.policies.edit(name, changes)


@router.delete("/{name}", status_code=204, **PROMOTES)
def delete_policy(name: Name, services: ServicesDep) -> Response:
    """Delete a policy that has no versions, with the history of its aliases."""
    services.policies.delete(name)
    return Response(status_code=204)


@router.post(
    "/{name}/versions", status_code=201, response_model=PolicyVersionOut, responses=again(PolicyVersionOut)
)
def add_version(
    name: Name, body: VersionRequest, services: ServicesDep, response: Response, caller: CallerDep
) -> PolicyVersion:
    """Give a checkpoint of a run the next number; the same checkpoint again is answered with the one it has (200)."""
    chosen = named_checkpoint(services, body.run, body.checkpoint)
    made, is_new = services.policies.add_version(name, chosen.id, note=body.note, by=caller.token_id)
    response.headers["Location"] = f"/v1/policies/{name}/versions/{made.number}"
    response.status_code = 201 if is_new else 200
    return made


@router.get("/{name}/versions", response_model=Listing[PolicyVersionOut])
def list_versions(name: Name, query: PageDep, services: ServicesDep) -> Page:
    """Versions, newest first."""
    return page_of(services.policies.versions, name, query=query)


@router.get("/{name}/versions/{number}", response_model=PolicyVersionOut)
def get_version(name: Name, number: Number, services: ServicesDep) -> PolicyVersion:
    """One version."""
    return services.policies.resolve(name, number=number)


@router.delete("/{name}/versions/{number}", status_code=204, **PROMOTES)
def delete_version(name: Name, number: Number, services: ServicesDep) -> Response:
    """Delete a version that no alias names and no gate compares with; its number is not given again."""
    services.policies.delete_version(name, number)
    return Response(status_code=204)


@router.put("/{name}/aliases/{alias}", response_model=PolicyAliasOut, **PROMOTES)
def put_alias(
    name: Name,
    alias: AliasName,
    body: AliasRequest,
    services: ServicesDep,
    response: Response,
    caller: CallerDep,
    if_match: IfMatch = None,
    if_none_match: Annotated[
        str | None,
        Header(
            description="`*`: only where there is no such alias yet.", json_schema_extra={"pattern": r"^\*$"}
        ),
    ] = None,
) -> PolicyAlias:
    """Let an alias name a version; one that is there moves with `If-Match`. A gate may ask for a `comparison`."""
    revision = revision_of(if_match)
    if if_none_match is not None:
        if if_none_match.strip() != ANY or if_match is not None:
            raise Problem("bad_request", "If-None-Match takes * alone, for an alias that is not there yet.")
        revision = 0
    wish = Wish(name=name, alias=alias, revision=revision, reason=body.reason, by=caller.token_id)
    version, comparison = body.version, body.comparison
    return tagged(response, set_alias(services.policies, services.runs, wish, version, comparison, _plays))


@router.get("/{name}/aliases/{alias}", response_model=PolicyAliasOut, responses=UNCHANGED)
def get_alias(
    name: Name,
    alias: AliasName,
    services: ServicesDep,
    response: Response,
    if_none_match: Annotated[str, Header(description="ETags: 304 where it has one of them.")] = "",
) -> PolicyAlias | Response:
    """Which version an alias names; its ETag is what a move takes as `If-Match`."""
    found = tagged(response, services.policies.alias(name, alias))
    if response.headers["ETag"] in OPAQUE_TAG.findall(if_none_match):
        return Response(status_code=304, headers={"ETag": response.headers["ETag"]})
    return found


@router.delete("/{name}/aliases/{alias}", status_code=204, **PROMOTES)
def delete_alias(
    name: Name, alias: AliasName, services: ServicesDep, caller: CallerDep, if_match: IfMatch = None
) -> Response:
    """Delete an alias; its history stays."""
    wish = Wish(name=name, alias=alias, revision=revision_of(if_match), by=caller.token_id)
    remove_alias(services.policies, wish)
    return Response(status_code=204)


@router.get("/{name}/aliases/{alias}/history", response_model=Listing[AliasMoveOut])
def list_moves(name: Name, alias: AliasName, query: PageDep, services: ServicesDep) -> Page:
    """Moves of an alias, newest first: from where to where, by whom, why and when."""
    return page_of(services.policies.history, name, alias, query=query)


_BACK = RollbackRequest()


@router.post("/{name}/aliases/{alias}/rollback", response_model=PolicyAliasOut, **PROMOTES)
def roll_back_alias(
    name: Name,
    alias: AliasName,
    services: ServicesDep,
    response: Response,
    caller: CallerDep,
    body: RollbackRequest = _BACK,
    if_match: IfMatch = None,
) -> PolicyAlias:
    """Let an alias name its version before the present one again, and so on further back; no gate is asked."""
    wish = Wish(
        name=name, alias=alias, revision=revision_of(if_match), reason=body.reason, by=caller.token_id
    )
    return tagged(response, roll_back(services.policies, wish, body.to))


def _gate(gate: GateRequest | None) -> Gate | None:
    return None if gate is None else Gate(**gate.model_dump())


def _plays(run: Run) -> Mapping[str, Any]:
    runner: Mapping[str, Any] = rollout_tree({**run.config})["runner"]
    return runner


def tagged(response: Response, alias: PolicyAlias) -> PolicyAlias:
    """The alias, whose revision is the answer's ETag."""
    response.headers["ETag"] = f'"{alias.revision}"'
    return alias


def revision_of(if_match: str | None) -> Any:
    """What If-Match says of an alias: a revision, ``*``, or nothing."""
    if if_match is None or if_match.strip() == ANY:
        return if_match and ANY
    if (match := _REVISION.fullmatch(if_match.strip())) is None:
        raise Problem("bad_request", 'If-Match takes the ETag of the alias, as in If-Match: "3".')
    return int(match[1])
